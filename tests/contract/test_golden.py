"""The golden encodings: there is one of everything, and what they say stays what it was."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet
from tests.conformance.clients import find_clients
from tests.conformance.golden import differences, try_client

from stepwire.v1 import Event, EventBatch, Plan, Progress, Stage

from .golden.files import FUTURE, MESSAGES, Golden, missing, read, write
from .golden.filling import choices, fill
from .golden.future import UNKNOWN_FIELDS

GOLDENS = read()
KNOWN = [golden for golden in GOLDENS if golden.folder == MESSAGES]
UNKNOWN = [golden for golden in GOLDENS if golden.folder == FUTURE]


# -- which there are


def test_there_is_one_of_everything() -> None:
    """Every message, every arm of a oneof and every field of the contract is in a golden."""
    lacking = [str(golden) for golden in missing(GOLDENS)]
    assert lacking == [], "`python -m tests.contract.golden --write` writes these, and changes no other"


def test_every_kind_of_event() -> None:
    """Every arm of Event.kind has a golden of its own, in which it is set."""
    kinds = {Event.FromString(golden.data).WhichOneof("kind"): golden.name for golden in KNOWN if golden.kind is Event}
    assert kinds == {name: f"Event.{name}" for name in choices(Event.DESCRIPTOR)}


def test_a_golden_that_is_missing_is_found() -> None:
    """Without the golden of a message, of an arm, or of the future, exactly that one is missing."""
    for name in ("Progress", "Event.stage", "EventBatch.unknown_fields"):
        rest = [golden for golden in GOLDENS if golden.name != name]
        assert [golden.name for golden in missing(rest)] == [name]


def test_a_field_that_is_new_gets_another_golden() -> None:
    """Where no golden of a message has some field, a second one with all fields is missing, and the first one stays."""
    older = Progress(percentage=12.5, total_steps=3).SerializeToString()
    goldens = [replace(golden, data=older) if golden.name == "Progress" else golden for golden in GOLDENS]
    [second] = missing(goldens)
    assert second.name == "Progress.2"
    assert second.kind is Progress
    assert list(missing([*goldens, second])) == []


def test_none_is_ever_changed(tmp_path: Path) -> None:
    """Writing a golden that is there fails, and leaves it as it was."""
    [golden] = [golden for golden in KNOWN if golden.name == "Event.stage"]
    write(golden, tmp_path)
    with pytest.raises(FileExistsError):
        write(replace(golden, data=b"", content={}), tmp_path)
    assert read(tmp_path) == [golden]


# -- what they say


@pytest.mark.parametrize("golden", GOLDENS, ids=str)
def test_it_decodes_to_its_json(golden: Golden) -> None:
    """The bytes give this JSON, with these names, today as on the day when they were written."""
    assert json_format.MessageToDict(golden.kind.FromString(golden.data)) == golden.content


@pytest.mark.parametrize("golden", KNOWN, ids=str)
def test_its_json_encodes_to_it(golden: Golden) -> None:
    """The JSON, read as the message, gives these bytes."""
    message = json_format.ParseDict(golden.content, golden.kind())
    assert message.SerializeToString(deterministic=True) == golden.data


@pytest.mark.parametrize("golden", GOLDENS, ids=str)
def test_it_is_passed_on_as_it_came(golden: Golden) -> None:
    """Who decodes and encodes it again loses nothing, not even what it does not know."""
    assert golden.kind.FromString(golden.data).SerializeToString(deterministic=True) == golden.data


@pytest.mark.parametrize("golden", [golden for golden in KNOWN if golden.content], ids=str)
def test_everything_in_it_is_set(golden: Golden) -> None:
    """Every field has a value that is not its default, also within, and lists and maps have two entries."""
    message = golden.kind.FromString(golden.data)
    for field, value in _fields(message):
        if field.is_repeated:
            assert len(value) == 2, field.full_name
        elif field.type == FieldDescriptor.TYPE_INT64:
            assert value > 2**53, field.full_name
        elif field.type == FieldDescriptor.TYPE_STRING:
            assert not value.isascii(), field.full_name
        elif field.type != FieldDescriptor.TYPE_MESSAGE:
            assert value != field.default_value, field.full_name


def _fields(message: Message) -> Iterator[tuple[FieldDescriptor, Any]]:
    """Gives every field that is set, of our messages at any depth."""
    for field, value in message.ListFields():
        yield field, value
        if field.message_type and field.message_type.file.package == message.DESCRIPTOR.file.package:
            is_map = field.message_type.GetOptions().map_entry
            for inner in value.values() if is_map else value if field.is_repeated else [value]:
                if isinstance(inner, Message) and inner.DESCRIPTOR.file.package == message.DESCRIPTOR.file.package:
                    yield from _fields(inner)


# -- the future


@pytest.mark.parametrize("golden", UNKNOWN, ids=str)
def test_the_future_has_what_is_not_known(golden: Golden) -> None:
    """Every golden of the future has an unknown field, or a value that its enum does not have, at some depth."""
    message = golden.kind.FromString(golden.data)
    assert _has_unknown_fields(message) or any(
        number not in field.enum_type.values_by_number
        for field, value in _fields(message)
        if field.enum_type
        for number in (value if field.is_repeated else [value])
    )


def _has_unknown_fields(message: Message) -> bool:
    events = message.events if isinstance(message, EventBatch) else ()
    return len(UnknownFieldSet(message)) > 0 or any(_has_unknown_fields(event) for event in events)


@pytest.mark.parametrize("golden", [golden for golden in UNKNOWN if golden.name.endswith("unknown_fields")], ids=str)
def test_what_is_known_stays(golden: Golden) -> None:
    """Beside fields that it does not know, a reader finds all that it knows."""
    assert golden.data.endswith(UNKNOWN_FIELDS)
    known = golden.kind.FromString(golden.data.removesuffix(UNKNOWN_FIELDS))
    assert json_format.MessageToDict(known) == golden.content


def test_a_kind_that_is_not_known_stays_apart() -> None:
    """An event of an unknown kind has its envelope, no kind, and leaves those beside it in a message as they are."""
    [golden] = [golden for golden in UNKNOWN if golden.name == "EventBatch.unknown_kind_in_the_middle"]
    batch = EventBatch.FromString(golden.data)
    assert [event.sequence for event in batch.events] == [2, 3, 4]
    middle = batch.events[1]
    assert middle.WhichOneof("kind") is None
    assert middle.progress.percentage > 0
    assert middle.execution_id


# -- how they are made


def test_filling_is_the_same_each_time() -> None:
    """A message is filled alike each time, and an arm that is asked for is the one that is taken."""
    assert fill(Plan) == fill(Plan)
    filled = fill(Event, "stage")
    assert isinstance(filled, Event)
    assert filled.WhichOneof("kind") == "stage"
    assert filled.stage != Stage()


# -- in other languages


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"time": "2023-11-14T22:29:06.120Z"}, {"time": "2023-11-14T22:29:06.120000000Z"}),
        ({"time": "2023-11-14T22:29:06Z"}, {"time": "2023-11-14T22:29:06.000Z"}),
        (["960.120s", "3s"], ["960.12s", "3.000s"]),
        ([3, 1.5e-07, 1e21], [3.0, 0.00000015, 1000000000000000000000]),
    ],
)
def test_what_printers_may_choose(one: object, other: object) -> None:
    """The digits of a fraction and the form of a number are no difference between two languages."""
    assert list(differences(one, other)) == []


@pytest.mark.parametrize(
    ("expected", "seen", "said"),
    [
        ({"sequence": "9007199254740993"}, {"sequence": 9007199254740993}, "sequence is "),
        ({"notice": 99}, {"notice": "99"}, "notice is "),
        ({"notice": 99}, {}, "notice is missing"),
        ({}, {"attempt": 0}, "attempt must not be there"),
        ({"events": [{}, {"stage": {}}]}, {"events": [{}, {"stage": None}]}, "events[1].stage is "),
        ([1], [True], "[0] is "),
        (["2023-11-14T22:29:06.120Z"], ["2023-11-14T22:29:06.121Z"], "[0] is "),
        ({"executionId": "e"}, {"execution_id": "e"}, "executionId is missing"),
        ([1, 2], [1], "all is "),
    ],
)
def test_what_they_may_not(expected: object, seen: object, said: str) -> None:
    """Every other difference is found, with its place."""
    first, *_ = differences(expected, seen)
    assert first.startswith(said)


def test_an_adapter_is_asked() -> None:
    """Python's adapter gives what the goldens say, and what it gets wrong is found, also where it dies of it."""
    [python] = find_clients(["python"])
    stage, batch = (
        golden for golden in GOLDENS if golden.name in ("Event.stage", "EventBatch.unknown_kind_in_the_middle")
    )
    other = replace(stage, name="Event.other", content={**stage.content, "stepId": "another"})
    broken = replace(stage, name="Event.broken", data=b"\xff")
    wrong, _ = try_client(python, [stage, broken, other, batch])
    assert set(wrong) == {"messages/Event.broken", "messages/Event.other"}
    assert wrong["messages/Event.broken"].startswith("exit code 1 ")
    assert wrong["messages/Event.other"].startswith("stepId is ")
