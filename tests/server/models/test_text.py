"""Text from a model, as it streams: pieces, progress, how it ends, and what closes the request."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import pytest
from tests.server.engine.rig import failure_of, kinds, of_kind, output

from stepwire_server import StepContext
from stepwire_server.models import Model
from stepwire_server.models.telling import MAX_BYTES

from .asking import LONG, Asked, Patience, contents, errors, reports
from .endpoint import PATIENCE, Drop, Hold, Scripted, data, delta, says, streams, whole


async def test_pieces_stream_as_they_come() -> None:
    """A piece is durable before the endpoint has said the next one."""
    holds = [Hold(), Hold()]
    asked = Asked([says("Hel", holds[0], "lo", holds[1], " you")])
    async with asked.rig() as rig:
        execution = await rig.start(asked.plan)
        for number, hold in enumerate(holds, start=1):
            await rig.durable(execution, "content", count=number)
            assert len(of_kind(await rig.events(execution), "content")) == number
            hold.release()
        events = await rig.ended(execution)
    assert contents(events) == ["Hel", "lo", " you"]
    assert output(events, "a") == {"text": "Hello you", "pieces": 3, "finish": "stop"}


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
async def test_packets_may_be_cut_anywhere(size: int) -> None:
    """Where the network cuts, within a line or a character, changes nothing of the text."""
    pieces = ["Grüße, ", "漢字", " \U0001d11e", "\r\nund 'Ende'"]
    events = await Asked([says(*pieces).cut(size)]).events()
    assert contents(events) == pieces
    assert output(events, "a")["text"] == "".join(pieces)


async def test_a_character_may_be_cut_between_pieces() -> None:
    """The halves of a character that JSON cuts in two come together again, and half of one alone becomes a mark."""
    parts = [b'data: {"choices":[{"index":0,"delta":{"content":"%s"}}]}\n\n' % text for text in HALVES]
    events = await Asked([streams(*parts, delta(finish="stop"))]).events()
    assert output(events, "a")["text"] == "a\U0001d11eb\ufffdc"


HALVES = (rb"a\ud834", rb"\udd1eb", rb"\udd1ec", rb"\ud834")


async def test_progress_every_ten_pieces() -> None:
    """There is a report after each ten pieces, and without an expectation none has a percentage."""
    events = await Asked([says(*["ab"] * 35)]).events()
    assert reports(events) == [(None, 10), (None, 20), (None, 30)]
    assert next(event.message for event in of_kind(events, "step_progress")) == "10 pieces, 20 characters"
    assert {event.step_progress.unit for event in of_kind(events, "step_progress")} == {"pieces"}
    assert kinds(events)[12:14] == ["step_progress", "content"]


async def test_progress_by_expected_length() -> None:
    """With an expected length the percentage is the share of its characters, and never above 99."""

    async def ask(step: StepContext, model: Model) -> None:
        await model.text(step, "Say something", expected_length=80)

    events = await Asked([says(*["ab"] * 50)], ask).events()
    assert reports(events) == [(25, 10), (50, 20), (75, 30), (99, 40), (99, 50)]


async def test_progress_of_a_part() -> None:
    """An operation that does more than ask can have the reports in a part of its step."""

    async def ask(step: StepContext, model: Model) -> None:
        await step.substeps(["Write", "Check"])
        async with step.substep("Write") as part:
            await model.text(step, "Say something", expected_length=40, part=part)

    events = await Asked([says(*["ab"] * 10)], ask).events()
    told = [event.step_progress for event in of_kind(events, "step_progress")]
    assert [(one.substep.path, one.substep.percentage, one.percentage) for one in told if one.current == 10] == [
        ("Write", 50, 25)
    ]


@pytest.mark.parametrize(
    ("script", "finish", "text"),
    [
        (says("ab", finish="length"), "length", "ab"),
        (says("ab", finish="content_filter"), "content_filter", "ab"),
        (
            streams(delta(refusal="I can't"), delta(refusal=" do that"), delta(finish="stop")),
            "refusal",
            "I can't do that",
        ),
        (says("ab", finish="stop"), "stop", "ab"),
        (says(finish="stop"), "stop", ""),
        (says("ab", done=False), "stop", "ab"),
        (says("ab", finish=None), "", "ab"),
        (says("ab", "data: [DONE]", finish=None).cut(3), "", "abdata: [DONE]"),
        (whole("ab", finish="length"), "length", "ab"),
    ],
    ids=["length", "filter", "refusal", "stop", "nothing", "no-done", "no-reason", "in-bits", "not-streamed"],
)
async def test_how_an_answer_ends(script: Scripted, finish: str, text: str) -> None:
    """The finish reason says whether an answer is whole, cut, filtered or declined, also of an endpoint that can't
    stream, or that leaves out the end mark or the reason.
    """
    events = await Asked([script]).events()
    assert (output(events, "a")["finish"], output(events, "a")["text"]) == (finish, text)
    assert "".join(contents(events)) == text


async def test_odd_chunks_are_passed_over() -> None:
    """Chunks without choices, without a delta, with null, with numbers for text, and comments are no pieces."""
    odd = [
        b": a comment\n\n",
        data({"choices": []}),
        data({"choices": None}),
        data({"choices": [{"index": 0, "delta": None}]}),
        data({"choices": [{"index": 0}]}),
        delta(content=None),
        delta(content=7),
        delta(reasoning_content="Well"),
        data({"choices": [], "usage": {"prompt_tokens": "many", "completion_tokens": 4}}),
    ]

    async def ask(step: StepContext, model: Model) -> Any:
        answer = await model.text(step, "Say something")
        return [answer.text, answer.pieces, answer.prompt_tokens, answer.completion_tokens]

    events = await Asked([streams(*odd, delta(content="ab"), delta(finish="stop"))], ask).events()
    assert output(events, "a") == ["ab", 1, None, 4]


async def test_what_follows_the_end_takes_nothing_back() -> None:
    """Once the finish reason has come the answer stands, whatever becomes of the connection."""
    broken = streams(delta(content="ab"), delta(finish="stop"), b"data: {broken\n\n")
    silent = streams(delta(content="cd"), delta(finish="stop"), Hold())

    async def ask(step: StepContext, model: Model) -> Any:
        return [(await model.text(step, "Say something")).text for _ in range(2)]

    events = await Asked([broken, silent], ask, limits=Patience(between=[LONG, LONG, LONG, 0.2])).events()
    assert output(events, "a") == ["ab", "cd"]


async def test_a_very_long_answer_is_cut() -> None:
    """An answer ends where it would not fit into the step's last event, and says `length`."""
    asked = Asked([says(*["0123456789äöü" * 4096] * 20, Hold(), "never")])
    events = await asked.events()
    text = output(events, "a")["text"]
    assert MAX_BYTES - 1 <= len(text.encode()) <= MAX_BYTES
    assert "".join(contents(events)) == text
    assert output(events, "a")["finish"] == "length"
    assert asked.endpoint.requests[0].gone.wait(PATIENCE)


async def test_a_cancel_closes_the_request() -> None:
    """Cancelling the execution closes the connection to the endpoint in mid-answer."""
    hold = Hold()
    asked = Asked([says("Hello", hold)])
    async with asked.rig() as rig:
        execution = await rig.start(asked.plan)
        await rig.durable(execution, "content")
        await rig.engine.cancel(execution, actor="test", reason="no longer needed")
        events = await rig.ended(execution)
        request = asked.endpoint.requests[0]
        assert await asyncio.to_thread(request.gone.wait, PATIENCE)
    assert kinds(events)[-2:] == ["step_cancelled", "plan_cancelled"]
    assert not of_kind(events, "step_cancelled")[0].step_cancelled.abandoned


async def test_a_cancel_before_the_first_word() -> None:
    """Cancelling closes the connection also while the endpoint has not answered at all."""
    hold = Hold()
    asked = Asked([streams(hold)])
    async with asked.rig() as rig:
        execution = await rig.start(asked.plan)
        assert await asyncio.to_thread(hold.reached.wait, PATIENCE)
        await rig.engine.cancel(execution, actor="test", reason="no longer needed")
        events = await rig.ended(execution)
        assert await asyncio.to_thread(asked.endpoint.requests[0].gone.wait, PATIENCE)
    assert kinds(events)[-1] == "plan_cancelled"


async def test_messages_and_options_are_sent() -> None:
    """The endpoint gets the conversation with the system's words before it, and no option that was not given."""

    async def ask(step: StepContext, model: Model) -> None:
        talk = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"}]
        await model.text(step, [*talk, {"role": "user", "content": "Well"}], system="Be brief.", temperature=0.0)
        await model.text(step, "Hi", max_tokens=5)

    asked = Asked([says("a"), says("b")], ask)
    await asked.events()
    first, second = (request.body for request in asked.endpoint.requests)
    assert [message["content"] for message in first["messages"]] == ["Be brief.", "Hi", "Yes?", "Well"]
    assert first["temperature"] == 0
    assert second == {
        "model": "tiny",
        "messages": [{"role": "user", "content": "Hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 5,
    }


@pytest.mark.parametrize(
    ("prompt", "text"),
    [([], "prompt has no message"), ([{"role": "user", "content": "a"}, "b"], "prompt[1] is no message")],
    ids=["none", "no-message"],
)
async def test_a_prompt_that_is_none(prompt: list[Any], text: str) -> None:
    """A conversation that is none is refused before anything is sent, and the place is named."""

    async def ask(step: StepContext, model: Model) -> None:
        await model.text(step, prompt)

    asked = Asked([], ask)
    assert text in failure_of(await asked.events(), "a")[1]
    assert asked.endpoint.requests == []


async def test_answers_are_freed_without_the_collector(caplog: pytest.LogCaptureFixture) -> None:
    """An answer that broke off leaves nothing behind that refers to itself in a circle."""
    caplog.set_level("CRITICAL")  # What is logged is kept, with its traceback and the frames in it.
    left: list[weakref.ref[Any]] = []

    class Marked(str):
        """Something that can be looked for."""

    async def ask(step: StepContext, model: Model) -> None:
        system = Marked("Be brief.")
        left.append(weakref.ref(system))
        await model.text(step, "Say something", system=system)

    asked = Asked([says("a", Drop), says("b", finish=None, done=False), says("c")], ask)
    gc.collect()
    gc.disable()
    try:
        events = await asked.events()
        assert errors(events) == []
        assert [reference() for reference in left] == [None, None, None]
    finally:
        gc.enable()
