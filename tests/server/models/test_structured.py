"""Answers as JSON: asked for by the protocol and in words, checked, asked for again with what was wrong."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.server.engine.rig import failure_of, kinds, output

from stepwire_server import StepContext
from stepwire_server.models import Model
from stepwire_server.models.structured import Form

from .asking import Asked, contents, errors
from .endpoint import Drop, Request, Scripted, delta, refuses, says, streams

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "rows": {"type": "array", "items": {"type": "object", "properties": {"count": {"type": "integer"}}}}
    },
    "required": ["rows"],
}


async def ask(step: StepContext, model: Model) -> Any:
    """Asks for rows."""
    return await model.structured(step, "Count the rows", schema=SCHEMA, system="Be brief.")


async def test_the_schema_is_asked_for_twice() -> None:
    """The endpoint gets the schema by the protocol, and in words, which every endpoint understands."""
    asked = Asked([says('{"rows"', ": []}")], ask)
    events = await asked.events()
    request = asked.endpoint.requests[0]
    assert request.schema == SCHEMA
    assert request.system.startswith("Be brief.\n\n")
    assert json.dumps(SCHEMA) in request.system
    assert output(events, "a") == {"rows": []}
    assert contents(events, channel="json") == ['{"rows"', ": []}"]


async def test_what_is_wrong_is_asked_again() -> None:
    """The model is told what it said and which field is wrong, and each round streams in a channel of its own."""
    wrong, right = '{"rows": [{"count": "x"}]}', '{"rows": [{"count": 4}]}'
    asked = Asked([says("Well, I think"), says(wrong), says(right)], ask)
    events = await asked.events()
    assert output(events, "a") == {"rows": [{"count": 4}]}
    assert [contents(events, channel=name) for name in ("json", "json-2", "json-3")] == [
        ["Well, I think"],
        [wrong],
        [right],
    ]
    first, second = errors(events)
    assert first.startswith("the model's answer does not fit: answer: is no JSON: ")
    wrong_place = "answer.rows[0].count: 'x' is not of type 'integer'"
    assert second == f"the model's answer does not fit: {wrong_place}; it is asked again (3 of 3)"
    said = [(message["role"], message["content"]) for message in asked.endpoint.requests[2].messages]
    assert [role for role, _ in said] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert said[4] == ("assistant", wrong)
    assert wrong_place in said[5][1]


async def test_rounds_are_bounded() -> None:
    """At last the step fails with the path of what is wrong, and is not tried again."""
    asked = Asked(lambda _: says('{"rows": [{"count": 1.5}]}'), ask)
    events = await asked.events()
    assert failure_of(events, "a")[1] == (
        "AnswerInvalid: the model's answer does not fit, after 3 rounds: "
        "answer.rows[0].count: 1.5 is not of type 'integer'"
    )
    assert len(asked.endpoint.requests) == 3
    assert kinds(events).count("step_retrying") == 0


@pytest.mark.parametrize(
    ("script", "text"),
    [
        (says('{"rows"', finish="length"), "AnswerInvalid: the answer was cut at its token limit: raise max_tokens"),
        (says("", finish="content_filter"), "ModelDeclined: the endpoint's content filter withheld the answer"),
        (streams(delta(refusal="No."), delta(finish="stop")), "ModelDeclined: the model declined to answer: No."),
    ],
    ids=["length", "filter", "refusal"],
)
async def test_no_answer_to_check(script: Scripted, text: str) -> None:
    """An answer that was cut, filtered or declined is told apart from one that does not fit, and not asked again."""
    asked = Asked([script], ask)
    assert failure_of(await asked.events(), "a")[1].startswith(text)
    assert len(asked.endpoint.requests) == 1


async def test_an_endpoint_without_schemas() -> None:
    """An endpoint that refuses response_format is asked in words alone, at once and from then on."""

    def answer(request: Request) -> Scripted:
        if "response_format" in request.body:
            return refuses(400, "response_format: type json_schema is not supported")
        return says('Here you are:\n```json\n{"rows": [', "]}\n```\nDone.")

    async def twice(step: StepContext, model: Model) -> Any:
        return [await ask(step, model), await model.structured(step, "Again", schema=SCHEMA, channel="more")]

    asked = Asked(answer, twice)
    events = await asked.events()
    assert output(events, "a") == [{"rows": []}] * 2
    assert ["response_format" in request.body for request in asked.endpoint.requests] == [True, False, False]
    assert all(json.dumps(SCHEMA) in request.system for request in asked.endpoint.requests)
    assert errors(events) == []


async def test_a_break_in_mid_json() -> None:
    """JSON that breaks off in mid-text is the engine's to try again, as text is."""
    events = await Asked([says('{"rows', Drop), says('{"rows": []}')], ask).events()
    assert contents(events, channel="json", attempt=1) == ['{"rows']
    assert contents(events, channel="json", attempt=2) == ['{"rows": []}']
    assert kinds(events).count("step_retrying") == 1


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"type": "number?"}, "schema.type"),
        ({"$ref": "https://example.com/schema.json"}, "refers to 'https://example.com/schema.json'"),
    ],
    ids=["form", "elsewhere"],
)
async def test_a_schema_that_is_none(schema: dict[str, Any], text: str) -> None:
    """A schema that is none, or needs another document, is refused before anything is sent, and the place is named."""

    async def asks(step: StepContext, model: Model) -> None:
        await model.structured(step, "Count", schema=schema)

    asked = Asked([], asks)
    assert text in failure_of(await asked.events(), "a")[1]
    assert asked.endpoint.requests == []


def test_a_schema_of_a_caller() -> None:
    """In a caller's schema what can take without end is refused, with its place; an author's may have it."""
    schema = {"properties": {"a": {"pattern": "(a+)+$"}}}
    assert Form(schema).read('{"a": "aa"}') == ({"a": "aa"}, "")
    with pytest.raises(ValueError, match=r"^schema\.properties\.a\.pattern is not taken"):
        Form(schema, foreign=True)


def test_a_check_that_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that can't be checked by a caller's schema within bounds is told so, and does not count as one."""
    monkeypatch.setattr("stepwire_server.engine.effort._STEPS", 100)
    value, wrong = Form({"items": {"type": "integer"}}, foreign=True).read(json.dumps([1] * 100))
    assert value is None
    assert wrong == "answer: it can't be checked: by its schema that takes more than 100 steps"


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ('{"a": [1e999]}', "answer.a[0]: is inf, which JSON does not have"),
        ('{"a": -9007199254740993}', "answer.a: is above 2**53, which a double can't hold; send it as text"),
        ('{"a": "half \\ud800"}', "answer.a: has half a character, which no text in UTF-8 has"),
        ("[" * 17 + "]" * 17, "answer" + "[0]" * 16 + ": is nested more than 16 deep"),
        (
            json.dumps([1] * 80_000),
            "answer: is too large: it would take 880,004 bytes, at most 786,432 can be sent",
        ),
    ],
    ids=["infinity", "large", "half", "deep", "long"],
)
def test_what_no_event_can_carry(text: str, wrong: str) -> None:
    """What Python reads and no event can carry is told, so that the model is asked again."""
    assert Form({}).read(text)[1] == wrong


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": 1}', {"a": 1}),
        (' \n{"a": 1}\n', {"a": 1}),
        ('```\n{"a": 1}\n```', {"a": 1}),
        ('No: ```json\n{"a": 2}\n``` but\n```json\n{"a": 1}\n```', {"a": 1}),
    ],
)
def test_where_the_json_stands(text: str, value: Any) -> None:
    """JSON may stand alone or between fences, of which the last pair counts."""
    assert Form({}).read(text) == (value, "")


@pytest.mark.parametrize(
    "text", ["", "NaN", '{"a": Infinity}', '{"a": 1} and more', "[" * 100_000, "```" + " \n" * 100_000]
)
def test_what_is_no_json(text: str) -> None:
    """What is no JSON is said to be none, whatever Python makes of it."""
    value, wrong = Form({}).read(text)
    assert value is None
    assert wrong.startswith("answer: is no JSON: ")


def test_many_mismatches_are_counted() -> None:
    """A model is told of some mismatches, and of how many more there are."""
    _, wrong = Form({"items": {"type": "integer"}}).read(json.dumps(["x"] * 8))
    assert wrong.count("is not of type") == 5
    assert wrong.endswith("; and 3 more")
