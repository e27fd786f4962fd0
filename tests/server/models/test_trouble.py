"""What goes wrong at an endpoint: what is tried again, after how long, what is told of it, and what is not."""

from __future__ import annotations

import re
import socket
from typing import Any

import pytest
from tests.server.engine.rig import failure_of, kinds, of_kind, output

from stepwire_server import StepContext
from stepwire_server.models import Limits, Model
from stepwire_server.models.wire import retry_after

from .asking import LONG, Asked, Patience, contents, errors
from .endpoint import Drop, Hold, Scripted, data, delta, refuses, says, streams, whole


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 504, 529])
async def test_passing_statuses_are_tried_again(status: int) -> None:
    """What may be better later is tried again, and each time an error event says why and when."""
    asked = Asked([refuses(status, "busy"), refuses(status, "still busy"), says("ab")])
    events = await asked.events()
    assert output(events, "a")["text"] == "ab"
    assert asked.waits == [0.375, 0.75]
    first, second = errors(events)
    assert first.startswith(f"the endpoint answers {status}")
    assert first.endswith(": busy; try 2 of 5 in 0.4 s")
    assert second.endswith(": still busy; try 3 of 5 in 0.8 s")
    assert len(of_kind(events, "step_started")) == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422])
async def test_other_statuses_are_not(status: int) -> None:
    """What will be refused again fails at once, in the endpoint's own words."""
    asked = Asked([refuses(status, "that is wrong")])
    reason, text = failure_of(await asked.events(), "a")
    assert reason == "OPERATION_FAILED"
    assert text.startswith(f"ModelRefused: the endpoint answers {status}")
    assert text.endswith(": that is wrong")
    assert (len(asked.endpoint.requests), asked.waits) == (1, [])


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"error": "model \'tiny\' not found"}', "model 'tiny' not found"),
        (b'{"detail": "no such model"}', "no such model"),
        (b"not here", "not here"),
        (b"", ""),
    ],
    ids=["text", "detail", "plain", "nothing"],
)
async def test_an_endpoint_with_words_of_its_own(body: bytes, words: str) -> None:
    """What an endpoint says is passed on also where its error does not look like OpenAI's."""
    odd = Scripted(status=404, headers={"Content-Type": "application/json"}, parts=(body,) if body else ())
    text = failure_of(await Asked([odd]).events(), "a")[1]
    assert text.startswith(
        "ModelRefused: the endpoint answers 404 (no such model, or model-url is not the API's base URL)"
    )
    assert words in text


async def test_money_is_not_waited_for() -> None:
    """A quota that is spent is refused at once, although its status is that of too many requests."""
    asked = Asked([refuses(429, "You exceeded your current quota", code="insufficient_quota")])
    assert failure_of(await asked.events(), "a")[1].startswith("ModelRefused: the endpoint answers 429")


async def test_the_endpoint_may_say_whether_to_retry() -> None:
    """The header x-should-retry counts more than the status."""
    asked = Asked([refuses(400, headers={"x-should-retry": "true"}), refuses(503, headers={"x-should-retry": "false"})])
    assert failure_of(await asked.events(), "a")[1].startswith("ModelRefused: the endpoint answers 503")
    assert len(asked.endpoint.requests) == 2


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "20"}, 20),
        ({"Retry-After": "1.5"}, 1.5),
        ({"Retry-After": "Tue, 14 Nov 2023 22:14:00 GMT"}, 40),
        ({"Retry-After": "Tue, 14 Nov 2023 22:13:00 GMT"}, 0),
        ({"retry-after-ms": "250", "Retry-After": "20"}, 0.25),
        ({"retry-after-ms": "soon", "Retry-After": "20"}, 20),
    ],
    ids=["seconds", "fraction", "date", "past", "milliseconds", "none"],
)
async def test_the_endpoint_says_when(headers: dict[str, str], seconds: float) -> None:
    """A wait is as long as the endpoint says, in seconds, milliseconds or as a date, and up to a tenth longer."""
    asked = Asked([refuses(429, headers=headers), says("ab")])
    events = await asked.events()
    assert asked.waits == [pytest.approx(seconds * 1.05)]
    assert errors(events)[0].endswith(f"try 2 of 5 in {seconds * 1.05:.1f} s")


@pytest.mark.parametrize("text", ["", "nan", "-3", "soon", "Tue, 14 Nov", "9" * 400 + "x"])
def test_a_wait_that_is_none(text: str) -> None:
    """What is no time is passed over."""
    assert retry_after({"retry-after": text, "retry-after-ms": text}, 0.0) is None


@pytest.mark.parametrize("text", ["3600", "inf", "1e999"])
async def test_a_wait_past_the_time_limit(text: str) -> None:
    """Where the endpoint wants more time than there is, the step fails at once and says so."""
    asked = Asked([refuses(429, headers={"Retry-After": text})])
    told = failure_of(await asked.events(), "a")[1]
    assert told.startswith(
        "ModelUnavailable: the endpoint answers 429 (too many requests): no; the next try would be in"
    )
    assert told.endswith("past the time limit of 600 s (model-time-limit)")
    assert asked.waits == []


async def test_tries_are_bounded() -> None:
    """An endpoint that stays broken is asked as often as is allowed, by us and nobody beneath, and no more attempts of
    the step follow.
    """
    asked = Asked(lambda _: refuses(500, "boom"), limits=Limits(tries=3))
    events = await asked.events()
    text = failure_of(events, "a")[1]
    assert text == "ModelUnavailable: the endpoint answers 500: boom; it was tried 3 times (model-tries)"
    assert len(asked.endpoint.requests) == 3
    assert (len(errors(events)), kinds(events).count("step_retrying")) == (2, 0)


async def test_waits_grow_to_a_bound() -> None:
    """Waits double up to 20 seconds, and chance makes them up to half as long."""
    asked = Asked(lambda _: refuses(500), limits=Limits(tries=9))
    await asked.events()
    assert asked.waits == [0.375, 0.75, 1.5, 3, 6, 12, 15, 15]


async def test_nobody_listens() -> None:
    """An endpoint that can't be reached is tried again, and the error names it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"

    async def ask(step: StepContext, _: Model) -> None:
        model = Model("tiny", url=url, limits=Limits(tries=2), sleep=asked.sleep)
        try:
            await model.text(step, "Say something")
        finally:
            await model.close()

    asked = Asked([], ask)
    events = await asked.events()
    assert failure_of(events, "a")[1].startswith(f"ModelUnavailable: no connection to {url}: ")
    assert len(errors(events)) == 1


BROKEN = [
    pytest.param(streams(Drop), id="no-answer"),
    pytest.param(streams(delta(role="assistant"), Drop), id="no-piece"),
    pytest.param(streams(b"data: {broken\n\n"), id="broken-json"),
    pytest.param(streams(b"data: \xff\xfe\n\n"), id="no-utf8"),
    pytest.param(streams(b"hello\n\n"), id="no-events"),
    pytest.param(says(finish=None), id="no-finish"),
    pytest.param(streams(data({"error": {"message": "overloaded", "code": 503}})), id="error-in-stream"),
    pytest.param(streams(), id="empty"),
]


@pytest.mark.parametrize("broken", BROKEN)
async def test_what_breaks_before_the_first_piece(broken: Scripted) -> None:
    """An answer that breaks before anything was streamed is asked for again within the attempt."""
    asked = Asked([broken, says("ab")])
    events = await asked.events()
    assert contents(events) == ["ab"]
    assert len(errors(events)) == 1
    assert kinds(events).count("step_started") == 1


INTERRUPTED = [
    pytest.param(says("x", "y", Drop), id="dropped"),
    pytest.param(streams(delta(), delta(content="x"), delta(content="y"), b'data: {"choi\n\n'), id="broken-json"),
    pytest.param(says("x", "y", finish=None, done=False), id="no-end"),
    pytest.param(streams(delta(content="x"), delta(content="y"), delta(reasoning="[DONE]")), id="no-end-yet"),
    pytest.param(
        streams(delta(), delta(content="x"), delta(content="y"), data({"error": {"message": "no"}})), id="error"
    ),
    pytest.param(says("x", "y", Hold()), id="silent"),
]


@pytest.mark.parametrize("broken", INTERRUPTED)
async def test_what_breaks_in_mid_text(broken: Scripted) -> None:
    """What was streamed can't be taken back within an attempt: step_retrying voids it, and the next one begins anew."""
    asked = Asked([broken, says("ab", "cd")], limits=Patience(between=[LONG, LONG, 0.2]))
    events = await asked.events()
    assert contents(events, attempt=1) == ["x", "y"]
    assert contents(events, attempt=2) == ["ab", "cd"]
    (retrying,) = of_kind(events, "step_retrying")
    assert retrying.step_retrying.error.message.startswith("ModelInterrupted: the ")
    assert retrying.step_retrying.error.message.endswith(", after 2 pieces")
    assert [event.content.offset for event in of_kind(events, "content") if event.attempt == 2] == [0, 2]
    assert (asked.waits, errors(events)) == ([], [])
    assert output(events, "a")["text"] == "abcd"


async def test_attempts_are_bounded() -> None:
    """An answer that breaks off each time fails the step after its third attempt."""
    asked = Asked(lambda _: says("x", Drop))
    events = await asked.events()
    assert failure_of(events, "a")[1].startswith("ModelInterrupted: ")
    assert len(asked.endpoint.requests) == 3


async def test_silence_before_the_first_word() -> None:
    """An endpoint that never answers is given up after the limit for its first word, and tried again."""
    hold = Hold()
    asked = Asked([streams(hold), says("ab")], limits=Patience(first=[0.2]))
    events = await asked.events()
    assert errors(events) == ["the endpoint said nothing for 0.2 s (model-first-piece); try 2 of 5 in 0.4 s"]
    assert asked.endpoint.requests[0].gone.is_set()
    assert output(events, "a")["text"] == "ab"


async def test_the_whole_is_limited() -> None:
    """An endpoint that goes on talking is cut off after the limit of the whole, and not asked again."""
    asked = Asked([says(*["x" * 10] * 20, Hold())], limits=Limits(whole=0.4))
    events = await asked.events()
    text = failure_of(events, "a")[1]
    told = r"ModelTimeout: the answer took longer than 0\.4 s \(model-time-limit\); \d+ pieces had come"
    assert re.fullmatch(told, text)
    assert len(asked.endpoint.requests) == 1
    assert kinds(events).count("step_retrying") == 0


async def test_what_is_no_answer() -> None:
    """JSON that is no answer, which some endpoints give with status 200, fails the step in the endpoint's own words."""
    odd = Scripted(headers={"Content-Type": "application/json"}, parts=(b'{"error": "model not found"}',))
    text = failure_of(await Asked([odd]).events(), "a")[1]
    assert text == 'ModelRefused: the endpoint answers with something that is no answer: {"error": "model not found"}'


KEY = "sk-canary-4f9b1c7e2d8a6035"
PAGE = b"<html><title>Sign in</title>" + KEY.encode() + b"x" * 10_000


@pytest.mark.parametrize(
    ("kind", "body", "requests"),
    [("text/html", PAGE, 1), ("text/plain", b"\n\ndata\n", 1), ("text/event-stream", b"soon\n\n", 5)],
    ids=["page", "text", "events"],
)
async def test_what_speaks_something_else(kind: str, body: bytes, requests: int) -> None:
    """What answers 200 in no word of the protocol is told as that, with the start of what it said and without the key;
    a page is not asked for again.
    """
    asked = Asked(lambda _: Scripted(headers={"Content-Type": kind}, parts=(body,)), key=KEY)
    text = failure_of(await asked.events(), "a")[1]
    began = " ".join(body.decode().replace(KEY, "[redacted]").split())[:500]
    told = (
        f"what answers at {asked.endpoint.url} does not speak the protocol (is model-url the API's base URL?); it said"
    )
    assert text.partition(": ")[2].startswith(f"{told}: {began}")
    assert KEY not in text
    assert len(asked.endpoint.requests) == requests


@pytest.mark.parametrize(
    ("error", "sent", "instead"),
    [
        (
            {"message": "Unsupported parameter: use 'max_completion_tokens' instead", "param": "max_tokens"},
            "max_tokens",
            5,
        ),
        ({"message": "Unknown parameter: 'stream_options'", "param": "stream_options"}, "stream_options", None),
    ],
    ids=["limit", "usage"],
)
async def test_a_dialect_is_learned(error: dict[str, Any], sent: str, instead: int | None) -> None:
    """A parameter that the endpoint does not take is said in its way, or left out, at once and from then on."""

    def answer(request: Any) -> Scripted:
        return refuses(400, **error) if sent in request.body else says("ab")

    async def ask(step: StepContext, model: Model) -> None:
        for _ in range(2):
            await model.text(step, "Say something", max_tokens=5)

    asked = Asked(answer, ask)
    events = await asked.events()
    assert kinds(events)[-1] == "plan_completed"
    assert (asked.waits, errors(events)) == ([], [])
    bodies = [request.body for request in asked.endpoint.requests]
    assert [sent in body for body in bodies] == [True, False, False]
    assert [body.get("max_completion_tokens") for body in bodies[1:]] == [instead, instead]


async def test_a_very_long_error_is_shortened() -> None:
    """Of an endpoint's own words some hundred characters are passed on, in one line."""
    page = Scripted(status=404, headers={"Content-Type": "text/html"}, parts=(b"<html>\n" + b"x" * 1_000_000,))
    text = failure_of(await Asked([page]).events(), "a")[1]
    assert len(text) < 700
    assert "\n" not in text


async def test_an_endpoint_that_does_not_stream_is_retried_too() -> None:
    """A refusal, and then an answer as a whole, is an answer."""
    asked = Asked([refuses(503), whole("ganz")])
    assert contents(await asked.events()) == ["ganz"]
