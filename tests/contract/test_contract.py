"""The contract against the code on both sides of it: numbers, reasons, and what the wire makes of messages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.rpc import code_pb2
from hypothesis import given
from hypothesis import strategies as st

import stepwire.v1
from stepwire.v1 import (
    Event,
    EventBatch,
    ExecuteRequest,
    Execution,
    ExecutionState,
    Plan,
    StartExecutionRequest,
    Step,
    event_pb2,
    execution_pb2,
    execution_service_pb2,
    plan_pb2,
)
from stepwire_server.engine.states import KINDS, TERMINAL
from stepwire_server.journal import TERMINAL_KINDS

PROTOS = Path(__file__).parents[2] / "protos"

MODULES = [event_pb2, execution_pb2, execution_service_pb2, plan_pb2]


# -- numbers


def test_kinds_fit_a_byte() -> None:
    """Every arm of Event.kind has a number from 16 to 255: the journal keeps it in a byte."""
    for name, number in KINDS.items():
        assert 16 <= number <= 255, name


def test_terminal_kinds() -> None:
    """The journal's numbers of the terminal kinds are those of the engine's names."""
    assert {KINDS[name] for name in TERMINAL} == TERMINAL_KINDS
    assert {"plan_completed", "plan_failed", "plan_cancelled"} == TERMINAL


def _shape(field: FieldDescriptor) -> tuple[object, ...]:
    kind = field.message_type.name if field.message_type else None
    oneof = field.containing_oneof.name if field.containing_oneof else None
    return field.name, field.number, field.type, field.is_repeated, kind, oneof


def test_start_and_execute_are_read_alike() -> None:
    """StartExecutionRequest has fields 1 to 7 of ExecuteRequest, and no other, so the one can be read as the other."""
    execute = [_shape(field) for field in ExecuteRequest.DESCRIPTOR.fields if field.number <= 7]
    assert [_shape(field) for field in StartExecutionRequest.DESCRIPTOR.fields] == execute
    assert [number for _, number, *_ in execute] == list(range(1, 8))


def test_enums_begin_with_unspecified() -> None:
    """The zero of every enum says nothing, so that what an old reader does not know is not taken for something."""
    for module in MODULES:
        for enum in module.DESCRIPTOR.enum_types_by_name.values():
            assert enum.values_by_number[0].name.endswith("_UNSPECIFIED"), enum.full_name


def test_sequences_and_positions_are_int64() -> None:
    """Everything that counts events is an int64, in every message."""
    for message in _messages():
        for field in message.DESCRIPTOR.fields:
            if field.name.endswith(("sequence", "position")):
                assert field.type == FieldDescriptor.TYPE_INT64, field.full_name


def _messages() -> Iterator[type[Message]]:
    for name in stepwire.v1.__all__:
        member = getattr(stepwire.v1, name)
        if isinstance(member, type) and issubclass(member, Message):
            yield member


# -- names


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__.rpartition(".")[2])
def test_all_is_complete(module: ModuleType) -> None:
    """stepwire.v1 exports every message and enum of every file, under its name."""
    named = [*module.DESCRIPTOR.message_types_by_name, *module.DESCRIPTOR.enum_types_by_name]
    for name in named:
        assert name in stepwire.v1.__all__
        assert getattr(stepwire.v1, name) is getattr(module, name)


def test_all_has_nothing_else() -> None:
    """stepwire.v1 exports nothing but the contract's messages and enums, once each."""
    files = [module.DESCRIPTOR for module in MODULES]
    named = {name for file in files for name in (*file.message_types_by_name, *file.enum_types_by_name)}
    assert set(stepwire.v1.__all__) == named
    assert len(stepwire.v1.__all__) == len(named)


def test_every_file_is_looked_at() -> None:
    """The files of the contract are those that these tests go through."""
    files = {str(path.relative_to(PROTOS)) for path in PROTOS.rglob("*.proto")}
    assert files == {module.DESCRIPTOR.name for module in MODULES}


def test_events_name_their_kinds() -> None:
    """An event's kind is reached by the name of its arm alone; each arm is a message of its own file."""
    for name in KINDS:
        assert Event.DESCRIPTOR.fields_by_name[name].message_type.file.name == "stepwire/v1/event.proto"


# -- what the wire makes of messages

_events = st.builds(
    Event,
    execution_id=st.text(st.characters(codec="utf-8"), max_size=8),
    sequence=st.integers(0, 2**63 - 1),
    message=st.text(st.characters(codec="utf-8"), max_size=200),
    attempt=st.integers(-(2**31), 2**31 - 1),
    metadata=st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=3),
    stage=st.none() | st.builds(event_pb2.Stage, name=st.text(max_size=5)),
)


@given(
    events=st.lists(_events, max_size=20),
    after=st.integers(0, 2**63 - 1),
    sequence=st.integers(0, 2**63 - 1),
    position=st.integers(0, 2**63 - 1),
    notice=st.sampled_from(EventBatch.Notice.values()),
    execution=st.none() | st.builds(Execution, execution_id=st.text(max_size=5), attempt_count=st.integers(0, 9)),
)
def test_frames_then_scalars_are_a_batch(
    events: list[Event],
    after: int,
    sequence: int,
    position: int,
    notice: EventBatch.Notice.ValueType,
    execution: Execution | None,
) -> None:
    """Frames of events, joined, and then the scalars parse as the same EventBatch as the message built at once."""
    frames = [EventBatch(events=[event]).SerializeToString() for event in events]
    rest = EventBatch(execution=execution, after_sequence=after, sequence=sequence, position=position, notice=notice)
    whole = EventBatch(
        execution=execution, events=events, after_sequence=after, sequence=sequence, position=position, notice=notice
    )
    assert EventBatch.FromString(b"".join(frames) + rest.SerializeToString()) == whole


@given(
    query=st.text(min_size=1, max_size=20),
    labels=st.dictionaries(st.text(max_size=3), st.text(max_size=3)),
    request_id=st.text(max_size=5),
    steps=st.lists(st.builds(Step, id=st.text(max_size=5)), max_size=3),
    planned=st.booleans(),
)
def test_a_start_is_an_execute(
    query: str, labels: dict[str, str], request_id: str, steps: list[Step], planned: bool
) -> None:
    """The bytes of a StartExecutionRequest, read as an ExecuteRequest, say the same."""
    work = {"plan": Plan(steps=steps)} if planned else {"query": query}
    start = StartExecutionRequest(labels=labels, request_id=request_id, **work)  # type: ignore[arg-type]
    execute = ExecuteRequest(labels=labels, request_id=request_id, **work)  # type: ignore[arg-type]
    assert ExecuteRequest.FromString(start.SerializeToString()) == execute


def test_an_event_of_a_newer_server() -> None:
    """An event whose kind is not known keeps its envelope, and its bytes when it is passed on."""
    event = Event(execution_id="e", sequence=3, execution_state=ExecutionState.EXECUTION_STATE_RUNNING)
    newer = event.SerializeToString() + b"\xfa\x0f\x02hi"
    read = Event.FromString(newer)
    assert read.WhichOneof("kind") is None
    assert (read.execution_id, read.sequence) == ("e", 3)
    assert read.SerializeToString() == newer


# -- what the comments say

_LINE = re.compile(r"^\s*//\s{3}([A-Z_]+) ([A-Z_]+)\s{2,}(\S.*)$", re.MULTILINE)


def comments() -> dict[tuple[str, str], list[str]]:
    """Returns what the contract's comments say of each status code and reason."""
    found: dict[tuple[str, str], list[str]] = {}
    for path in sorted(PROTOS.rglob("*.proto")):
        for code, reason, text in _LINE.findall(path.read_text(encoding="utf-8")):
            found.setdefault((code, reason), []).append(text)
    return found


def test_codes_are_codes() -> None:
    """Every status code that a comment names is one of gRPC's."""
    assert {code for code, _ in comments()} <= set(code_pb2.Code.keys())


def test_every_rpc_says_how_to_retry() -> None:
    """The comment of every rpc says whether the call may be sent again."""
    text = (PROTOS / "stepwire/v1/execution_service.proto").read_text(encoding="utf-8")
    for comment, name in re.findall(r"((?:^  //.*\n)+)  rpc (\w+)\(", text, re.MULTILINE):
        assert "// Retry:" in comment, name
    names = re.findall(r"^  rpc (\w+)\(", text, re.MULTILINE)
    assert len(names) == len(execution_service_pb2.DESCRIPTOR.services_by_name["ExecutionService"].methods)
