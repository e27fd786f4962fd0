"""Questions by themselves: their ids, their fold, and the JSON schemas of their answers."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwire.v1 import InputReceived, InputRequested
from stepwire.values import to_value
from stepwire_server.engine.graph import ID
from stepwire_server.engine.questions import Questions, answer_violations, input_id_of, question
from stepwire_server.engine.schemas import check_schema, mismatches

DRAFT_4 = "http://json-schema.org/draft-04/schema#"
DRAFT_7 = "http://json-schema.org/draft-07/schema#"
DRAFT_2019 = "https://json-schema.org/draft/2019-09/schema"
DRAFT_2020 = "https://json-schema.org/draft/2020-12/schema"


# -- ids


@given(st.text(max_size=100), st.text(max_size=100), st.text(max_size=100), st.integers(0, 1000))
def test_an_id_is_one_of_the_contract(step_id, key, prompt, number):
    """Whatever a question is, its id is one that the contract allows, and the same each time."""
    first, again = (input_id_of(step_id, key=key, prompt=prompt, number=number) for _ in range(2))
    assert ID.fullmatch(first)
    assert first == again


def test_ids_are_of_step_and_key_or_prompt_and_number():
    """With a key only step and key count; without one step, prompt and number do; the one is never the other."""
    parts = [(step, key, prompt, number) for step in "ab" for key in ("", "k") for prompt in "pk" for number in (0, 1)]
    ids = {part: input_id_of(part[0], key=part[1], prompt=part[2], number=part[3]) for part in parts}
    assert len(set(ids.values())) == 2 * (1 + 4)
    assert len({identity for (_, key, *_), identity in ids.items() if key}) == 2


# -- the fold


def requested(input_id: str) -> InputRequested:
    return InputRequested(input_id=input_id, prompt="?")


def test_a_step_has_one_open_question():
    """Another question of a step closes the first one, and its end the last; those of other steps stay."""
    questions = Questions()
    for index, input_id in ((0, "a"), (1, "b"), (0, "c"), (0, "c")):
        questions.asked(index, requested(input_id))
    assert {input_id: open_.step_index for input_id, open_ in questions.open.items()} == {"b": 1, "c": 0}
    questions.dropped(0)
    questions.dropped(0)
    assert list(questions.open) == ["b"]


def test_an_answer_stays_until_it_is_asked_for_again():
    """An answer closes its question and is kept; an end without one closes it only; asked again, it is open."""
    questions = Questions()
    questions.asked(0, requested("a"))
    questions.received(InputReceived(input_id="a", value=to_value(None)))
    assert (list(questions.open), list(questions.answers)) == ([], ["a"])
    questions.dropped(0)
    assert list(questions.answers) == ["a"]
    questions.asked(0, requested("a"))
    assert (list(questions.open), list(questions.answers)) == (["a"], [])
    questions.received(InputReceived(input_id="a", expired=True))
    assert (list(questions.open), list(questions.answers)) == ([], [])


# -- JSON schemas


@pytest.mark.parametrize("dialect", ["", DRAFT_4, DRAFT_7, DRAFT_2019, DRAFT_2020])
def test_the_drafts_of_json_schema(dialect):
    """A schema is of the draft that it names, or of 2020-12, and may refer to its own parts."""
    word = "definitions" if dialect in (DRAFT_4, DRAFT_7) else "$defs"
    schema = {
        word: {"name": {"type": "string", "minLength": 2}},
        "type": "object",
        "properties": {"names": {"type": "array", "items": {"$ref": f"#/{word}/name"}}},
    }
    if dialect:
        schema["$schema"] = dialect
    check_schema(schema)
    assert mismatches(schema, {"names": ["ab", "cd"]}, "value") == []
    assert mismatches(schema, {"names": ["ab", "c"]}, "value")[0].field == "value.names[1]"


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"$schema": "urn:mine"}, r"of a kind that is not known: \$schema is 'urn:mine'"),
        ({"$schema": 5}, "of a kind that is not known"),
        ({"type": "whole"}, "schema.type: 'whole' is not valid"),
        ({"properties": []}, r"schema.properties: \[\] is not of type 'object'"),
        ({"patternProperties": {"(": {}}}, "no JSON schema"),
        ({"$ref": "#/$defs/gone"}, "refers to '#/.defs/gone', which is not in it"),
        ({"properties": {"a": {"items": {"$ref": "other.json"}}}}, "refers to 'other.json', which is not in it"),
        ({"$ref": 5}, "no JSON schema"),
        ({"$dynamicRef": "#gone"}, "refers to '#gone', which is not in it"),
        ({"$ref": DRAFT_2020}, "which is not in it"),
        ({"$ref": "file:///etc/hostname"}, "which is not in it"),
        ({"$ref": "#/mine", "mine": {"$ref": "other.json"}}, "refers to 'other.json', which is not in it"),
        ({"$ref": "#/mine", "mine": {"items": {"$ref": "#/gone"}}}, "refers to '#/gone', which is not in it"),
        ({"$ref": "#/mine", "mine": {"type": "whole"}}, "#/mine.type: 'whole' is not valid"),
        ({"items": {"$ref": "#/mine"}, "mine": 5}, "no JSON schema: #/mine: 5 is not of type"),
    ],
    ids=lambda case: None,
)
def test_what_is_no_schema(schema, text):
    """What is no JSON schema, or refers to what is not in it, is refused with the place."""
    with pytest.raises(ValueError, match=text):
        check_schema(schema)


def test_a_schema_may_refer_to_itself():
    """References in a circle are followed once, and end where the value does; those that never end are an answer's
    mismatch.
    """
    schema = {"items": {"$ref": "#/mine"}, "mine": {"type": "array", "items": {"$ref": "#"}}}
    check_schema(schema)
    assert mismatches(schema, [[[[]]]], "value") == []
    assert mismatches(schema, [[[5]]], "value")[0].field == "value[0][0][0]"
    check_schema({"$ref": "#"})
    assert "without an end" in mismatches({"$ref": "#"}, 5, "value")[0].description


def test_a_schema_may_name_itself_and_its_parts():
    """References by `$id` and `$anchor` to parts of the same schema are followed."""
    schema = {
        "$id": "https://example.org/order",
        "$defs": {
            "item": {"$id": "item", "type": "integer"},
            "name": {"$anchor": "name", "type": "string"},
            "tree": {"$dynamicAnchor": "node", "items": {"$dynamicRef": "#node"}, "type": "array"},
        },
        "properties": {
            "a": {"$ref": "item"},
            "b": {"$ref": "#name"},
            "c": {"$ref": "https://example.org/order#name"},
            "d": {"$ref": "#/$defs/tree"},
        },
    }
    check_schema(schema)
    found = mismatches(schema, {"a": "x", "b": 1, "c": 2, "d": [[1]]}, "value")
    assert [problem.field for problem in found] == ["value.a", "value.b", "value.c", "value.d[0][0]"]


@pytest.fixture
def listener() -> Iterator[tuple[str, list[Any]]]:
    """A port with whoever connects to it."""
    came: list[Any] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            try:
                while True:
                    connection, address = server.accept()
                    came.append(address)
                    connection.close()
            except OSError:
                pass

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/schema.json", came
        server.shutdown(socket.SHUT_RDWR)
        thread.join(10)
        assert not thread.is_alive()


def test_nothing_is_fetched(listener):
    """No schema makes the server connect to anywhere, neither when it is checked nor when an answer is."""
    url, came = listener
    for schema in ({"$ref": url}, {"$schema": url}, {"$id": url, "$ref": "other.json"}, {"$dynamicRef": url}):
        with pytest.raises(ValueError, match=r"which is not in it|of a kind that is not known"):
            check_schema(schema)
    with pytest.raises(Exception, match=re.escape(url)):
        mismatches({"$ref": url}, 1, "value")
    assert came == []


def test_what_is_told_of_a_bad_answer_is_bounded():
    """Of many mismatches the first fifty are told, and of a long value the beginning."""
    schema = {"items": {"type": "integer"}}
    check_schema(schema)
    found = mismatches(schema, ["x" * 10_000] * 1000, "value")
    assert len(found) == 50
    assert max(len(problem.description) for problem in found) == 300
    asked = question("?", choices=["c" * 5000] + [f"{i}" for i in range(5000)])
    (problem,) = answer_violations(asked, to_value("none"))
    assert len(problem.description) < 400


def test_a_schema_without_an_end_ends():
    """A schema that refers to itself for ever is told as what it is, and stops nothing."""
    check_schema({"$ref": "#"})
    (found,) = mismatches({"$ref": "#"}, 1, "value")
    assert found == ("value", "can't be checked: its schema refers to itself without an end")
