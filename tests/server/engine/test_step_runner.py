"""One step: its attempts, what makes it end, and operations that misbehave."""

from __future__ import annotations

import asyncio
import logging
import math
import threading
from contextlib import suppress
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from stepwire.errors import reason_of
from stepwire.v1 import Retry
from stepwire_server import App, StepEnded
from stepwire_server.engine.retries import delay_before

from .rig import (
    HeldJournal,
    Rig,
    VirtualClock,
    about,
    collect,
    failure_of,
    of_kind,
    output,
    request,
    state_of,
    step,
    turns,
    until,
    well_formed,
)


def app_of(*operations: Any, **more: Any) -> App:
    app = App("under-test")
    for operation in operations:
        app.operation(**more)(operation)
    return app


async def run(operation: Any, *, clock: VirtualClock | None = None, **more: Any) -> list[Any]:
    """Returns the events of an execution whose one step calls the operation, and holds the server to going on."""
    app = app_of(operation, **more)

    @app.operation()
    async def sound() -> str:
        return "sound"

    async with Rig(app, clock=clock or VirtualClock(skip=True)) as rig:
        events = await rig.run(request(step("a", operation.__name__), step("b", "sound")))
        well_formed(events)
        assert output(events, "b") == "sound"
        assert output(await rig.run(request(step("b", "sound")))) == "sound"
    return events


class Strange(BaseException):
    """An exception that is no Exception."""


class Mute(Exception):
    """An exception without a text to be had."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


# -- exceptions


RAISED = [
    (ValueError("no"), "ValueError: no"),
    (ValueError(), "ValueError"),
    (StopIteration("x"), "RuntimeError: "),
    (StopAsyncIteration("x"), "StopAsyncIteration"),
    (asyncio.CancelledError(), "the operation raised CancelledError"),
    (asyncio.CancelledError("text"), "the operation raised CancelledError"),
    (SystemExit(3), "SystemExit: 3"),
    (KeyboardInterrupt(), "KeyboardInterrupt"),
    (Strange("odd"), "Strange: odd"),
    (StepEnded("early"), "StepEnded: early"),
    (Mute(), "Mute: "),
    (ValueError("\udce9"), "ValueError: \\udce9"),
    (ExceptionGroup("several", [ValueError("one")]), "ExceptionGroup: several"),
]


@pytest.mark.parametrize(("error", "text"), RAISED, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("style", ["coroutine", "thread", "generator"])
async def test_what_an_operation_raises_fails_its_step(error, text, style):
    """Whatever an operation raises, in whatever style, its step fails with the text, and the server goes on."""

    async def coroutine():
        await asyncio.sleep(0)
        raise error

    def thread():
        raise error

    async def generator():
        yield 10
        raise error

    events = await run({"coroutine": coroutine, "thread": thread, "generator": generator}[style])
    reason, found = failure_of(events, "a")
    assert reason == "OPERATION_FAILED"
    if not isinstance(error, StopAsyncIteration):
        assert found.startswith(text)
    assert state_of(events) == "FAILED"


async def test_an_operation_that_cancels_its_own_task_fails():
    """An operation that cancels the task it runs in has failed, and does not leave its step running."""

    async def suicidal():
        asyncio.current_task().cancel()
        await asyncio.sleep(0)

    async def last_words():
        asyncio.current_task().cancel()
        raise ValueError("gone")

    for operation in (suicidal, last_words):
        events = await run(operation, retry=Retry(attempts=2))
        assert about(events, "a") == ["step_started", "step_retrying", "step_started", "step_failed"]


async def test_an_error_s_text_is_bounded_and_its_event_has_one_line():
    """A long text of many lines is cut in the status, and is one line in the event's message."""

    async def wordy():
        raise ValueError("line\n" * 100_000)

    events = await run(wordy)
    (failed,) = of_kind(events, "step_failed")
    assert len(failed.step_failed.error.message) == 100_000
    assert "\n" not in failed.message
    assert len(failed.message) < 1_200


# -- outputs


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (object(), "output can't be written as JSON"),
        (math.nan, "output is nan, which JSON does not have"),
        ({"x": [math.inf]}, "output.x[0] is inf"),
        (2**60, "output is above 2**53"),
        (nested(40), "nested more than 16 deep"),
        (nested(5_000), "output"),
        (b"\xff", "output can't be written as JSON"),
        ({"x": {"y": {1: object()}}}, "output can't be written as JSON"),
        (lambda: None, "output can't be written as JSON"),
    ],
    ids=["object", "nan", "inf", "2**60", "40 deep", "5,000 deep", "bytes", "object within", "function"],
)
async def test_an_output_that_can_t_be_sent_fails_its_step(value, text):
    """What can't be encoded fails the step with OUTPUT_INVALID and the place, and is not tried again."""

    async def give():
        return value

    events = await run(give, retry=Retry(attempts=3))
    reason, found = failure_of(events, "a")
    assert reason == "OUTPUT_INVALID"
    assert text in found
    assert about(events, "a") == ["step_started", "step_failed"]


async def test_text_that_is_no_unicode_fails_its_step():
    """A lone surrogate in an output fails the step."""

    async def give():
        return "\ud800"

    assert failure_of(await run(give), "a")[0] in ("OUTPUT_INVALID", "OPERATION_FAILED")


@pytest.mark.parametrize("style", ["coroutine", "thread"])
async def test_an_output_above_an_event_fails_its_step(style):
    """An output of 2 MiB fails the step with LIMIT_SIZE and both sizes, and the execution goes on."""

    async def coroutine():
        return "x" * (2 << 20)

    def thread():
        return "x" * (2 << 20)

    reason, text = failure_of(await run(coroutine if style == "coroutine" else thread), "a")
    assert reason == "LIMIT_SIZE"
    assert "2,097," in text
    assert "1,046,528" in text


async def test_an_event_above_its_limit_is_refused_and_the_step_goes_on():
    """An event above 1 MiB is refused with LimitSize, nothing of it is recorded, and the step may go on."""
    seen: list[str] = []

    async def large(step):
        try:
            await step.progress(10, "x" * (1 << 20))
        except Exception as error:
            seen.append(type(error).__name__)
        await step.progress(20, "small")
        return "done"

    events = await run(large)
    assert seen == ["LimitSize"]
    assert about(events, "a") == ["step_started", "step_progress", "step_completed"]


# -- retries


async def test_attempts_count_and_wait():
    """Attempts count 1, 2, 3; the waits are initial, times the multiplier, at most the longest; each is recorded."""
    clock = VirtualClock(skip=True)
    tries: list[int] = []

    async def flaky(step):
        tries.append(step.attempt)
        if len(tries) < 5:
            raise OSError("not yet")
        return "done"

    retry = Retry(attempts=9, initial_delay=Duration(seconds=2), multiplier=3, max_delay=Duration(seconds=20))
    events = await run(flaky, clock=clock, retry=retry)
    assert tries == [1, 2, 3, 4, 5]
    assert clock.slept == [2, 6, 18, 20]
    retrying = of_kind(events, "step_retrying")
    assert [event.step_retrying.delay.seconds for event in retrying] == [2, 6, 18, 20]
    assert [event.step_retrying.next_attempt for event in retrying] == [2, 3, 4, 5]
    started = [event.attempt for event in of_kind(events, "step_started") if event.step_id == "a"]
    assert started == [1, 2, 3, 4, 5]
    assert {reason_of(event.step_retrying.error) for event in retrying} == {"OPERATION_FAILED"}
    assert events[-1].progress.percentage == 100


@pytest.mark.parametrize(("attempts", "expected"), [(0, 1), (1, 1), (2, 2)])
async def test_a_step_s_retry_goes_before_its_operation_s(attempts, expected):
    """A step's own retry replaces the operation's; 0 and 1 attempts both mean one."""
    tries: list[int] = []

    async def fail(step):
        tries.append(step.attempt)
        raise ValueError

    async with Rig(app_of(fail, retry=Retry(attempts=5)), clock=VirtualClock(skip=True)) as rig:
        await rig.run(request(step("a", "fail", retry=Retry(attempts=attempts))))
    assert len(tries) == expected


@pytest.mark.parametrize(
    ("errors", "attempts"),
    [([], 3), (["OSError"], 3), (["ConnectionError"], 3), (["ValueError"], 1), (["Exception"], 3)],
)
async def test_only_errors_that_are_named_are_tried_again(errors, attempts):
    """`errors` names exception types, and their bases count; empty means all."""

    async def refuse():
        raise ConnectionRefusedError("no")

    events = await run(refuse, retry=Retry(attempts=3, errors=errors))
    assert about(events, "a").count("step_started") == attempts


async def test_what_fails_while_it_is_cancelled_is_not_tried_again():
    """An operation that answers its cancel with an error has failed, however many attempts it has left."""
    begun = asyncio.Event()

    async def sulk():
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ValueError("in the middle of it") from None

    async with Rig(app_of(sulk, retry=Retry(attempts=5))) as rig:
        execution_id = await rig.start(request(step("a", "sulk")))
        await begun.wait()
        await rig.engine.cancel(execution_id, actor="", reason="")
        events = await rig.ended(execution_id)
    assert about(events, "a") == ["step_started", "step_failed"]
    assert state_of(events) == "CANCELLED"


async def test_a_timeout_may_be_tried_again():
    """A timeout counts as TimeoutError for `errors`."""
    app = App("slow")
    begun = asyncio.Event()

    @app.operation(timeout=5, retry=Retry(attempts=2, errors=["TimeoutError"], initial_delay=Duration(seconds=1)))
    async def slow(step):
        if step.attempt == 1:
            begun.set()
            await asyncio.Event().wait()
        return step.attempt

    async with Rig(app) as rig:
        execution_id = await rig.start(request(step("a", "slow")))
        await begun.wait()
        rig.clock.advance(5)
        retrying = await rig.durable(execution_id, "step_retrying")
        rig.clock.advance(1)
        events = await rig.ended(execution_id)
    assert reason_of(retrying.step_retrying.error) == "TIMEOUT"
    assert retrying.step_retrying.error.message == "the attempt took longer than 5 s"
    assert output(events) == 2


@pytest.mark.parametrize("multiplier", [1e10, 1e308])
@pytest.mark.parametrize("tried", [1, 2, 40, 99])
def test_a_large_multiplier_does_not_overflow(multiplier, tried):
    """However large the multiplier, the wait is a number between the first and the longest."""
    assert 1 <= delay_before(Retry(attempts=100, multiplier=multiplier), tried, 0.5) <= 60


def test_no_first_delay_means_none_at_all():
    """A first delay of 0 stays 0, whatever it is multiplied by."""
    assert delay_before(Retry(initial_delay=Duration(), multiplier=1e308), 99, 0.5) == 0


def test_jitter_makes_a_wait_shorter():
    """Jitter takes off a random share of up to itself."""
    retry = Retry(initial_delay=Duration(seconds=10), jitter=0.5)
    assert [delay_before(retry, 1, chance) for chance in (0, 0.5, 1)] == [10, 7.5, 5]


async def test_a_cancel_ends_the_wait_between_attempts():
    """A step that waits for its next attempt is cancelled at once."""

    async def fail():
        raise ValueError

    async with Rig(app_of(fail, retry=Retry(attempts=3))) as rig:
        execution_id = await rig.start(request(step("a", "fail")))
        await rig.durable(execution_id, "step_retrying")
        await rig.engine.cancel(execution_id, actor="", reason="")
        events = await rig.ended(execution_id)
    assert about(events, "a") == ["step_started", "step_retrying", "step_cancelled"]


# -- timeouts, cancels and the grace


async def test_a_timeout_fails_the_attempt():
    """An attempt that takes too long is cancelled and fails with TIMEOUT; a step's timeout replaces the operation's."""
    app = App("slow")
    ended: list[str] = []
    begun = asyncio.Event()

    @app.operation(timeout=100)
    async def slow():
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cleaned up")

    async with Rig(app) as rig:
        execution_id = await rig.start(request(step("a", "slow", timeout=2.5)))
        await begun.wait()
        rig.clock.advance(2.4)
        await turns()
        assert not ended
        rig.clock.advance(0.2)
        events = await rig.ended(execution_id)
    assert ended == ["cleaned up"]
    assert failure_of(events, "a") == ("TIMEOUT", "the attempt took longer than 2.5 s")
    (failed,) = of_kind(events, "step_failed")
    assert failed.step_failed.execution_time.ToNanoseconds() == pytest.approx(2.6e9)


async def test_a_timeout_is_of_its_attempt_alone():
    """The time of an attempt that has ended runs out neither in the wait after it nor in the next attempt."""
    app = App("flaky")
    second = asyncio.Event()
    free = asyncio.Event()

    @app.operation(timeout=5, retry=Retry(attempts=2, initial_delay=Duration(seconds=4)))
    async def flaky(step):
        if step.attempt == 1:
            raise ValueError("no")
        second.set()
        await free.wait()
        return step.attempt

    async with Rig(app) as rig:
        execution_id = await rig.start(request(step("a", "flaky")))
        await rig.durable(execution_id, "step_retrying")
        assert rig.clock.pending == [4]
        rig.clock.advance(4)
        await second.wait()
        rig.clock.advance(4)
        await turns()
        free.set()
        events = await rig.ended(execution_id)
    assert output(events) == 2


async def test_a_timeout_holds_although_the_operation_returns_after_it():
    """An operation that swallows its timeout and returns all the same has failed."""

    async def stubborn():
        with suppress(asyncio.CancelledError):
            begun.set()
            await asyncio.Event().wait()
        return "late"

    begun = asyncio.Event()
    async with Rig(app_of(stubborn, timeout=1)) as rig:
        execution_id = await rig.start(request(step("a", "stubborn")))
        await begun.wait()
        rig.clock.advance(1)
        events = await rig.ended(execution_id)
    assert failure_of(events, "a")[0] == "TIMEOUT"


@pytest.mark.parametrize("cause", ["cancel", "timeout"])
async def test_an_operation_that_swallows_its_cancel_is_abandoned(cause, caplog):
    """An operation that never ends is let go of after the grace; what it says is refused; its task is kept until it
    ends, so that nothing is destroyed behind its back.
    """
    app = App("stubborn")
    free = asyncio.Event()
    begun = asyncio.Event()
    heard: list[str] = []

    @app.operation(timeout=5)
    async def stubborn(step):
        while not free.is_set():
            begun.set()
            try:
                # A future of its own: nothing but the engine refers to this task.
                await asyncio.get_running_loop().create_future() if not heard else await free.wait()
            except asyncio.CancelledError:
                heard.append("cancelled")
        try:
            await step.progress(50)
        except StepEnded as error:
            heard.append(str(error))
        return "too late"

    @app.operation()
    async def sound() -> str:
        return "sound"

    async with Rig(app, cancel_grace=10) as rig:
        execution_id = await rig.start(request(step("a", "stubborn"), step("b", "sound", depends_on=["a"])))
        await begun.wait()
        if cause == "timeout":
            rig.clock.advance(5)
        else:
            await rig.engine.cancel(execution_id, actor="", reason="")
        await turns()
        assert heard == ["cancelled"]
        rig.clock.advance(9.9)
        await turns()
        assert rig.engine.running == 1
        rig.clock.advance(0.2)
        events = await rig.ended(execution_id)
        well_formed(events)
        assert rig.engine.abandoned == 1
        collect()
        assert output(await rig.run(request(step("b", "sound")))) == "sound"
        free.set()
        await until(lambda: rig.engine.abandoned == 0)
        assert await rig.events(execution_id) == events
    assert heard[1:] == ["the step was abandoned"]
    if cause == "timeout":
        assert failure_of(events, "a")[0] == "TIMEOUT"
    else:
        assert of_kind(events, "step_cancelled")[0].step_cancelled.abandoned
    assert about(events, "b") == ["step_skipped"]
    assert any("abandoned" in entry.message for entry in caplog.records if entry.levelno >= logging.WARNING)


async def test_an_operation_that_cleans_up_is_not_disturbed():
    """An operation that ends within the grace is cancelled once, with an await in its cleaning up."""
    app = App("clean")
    begun = asyncio.Event()
    done: list[str] = []

    @app.operation(timeout=5)
    async def clean():
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            await turns(5)
            done.append("clean")

    async with Rig(app) as rig:
        execution_id = await rig.start(request(step("a", "clean")))
        await begun.wait()
        rig.clock.advance(5)
        await asyncio.sleep(0)
        await rig.engine.cancel(execution_id, actor="", reason="")
        events = await rig.ended(execution_id)
    assert done == ["clean"]
    assert state_of(events) == "CANCELLED"
    assert not of_kind(events, "step_cancelled")[0].step_cancelled.abandoned


async def test_an_operation_in_a_thread_that_hangs_is_abandoned():
    """A thread can't be cancelled: its step is abandoned after the grace, and its next word raises."""
    app = App("threads")
    begun = threading.Event()
    free = threading.Event()
    heard: list[str] = []

    @app.operation()
    def hang(step):
        begun.set()
        free.wait(20)
        try:
            step.progress(10)
        except StepEnded as error:
            heard.append(str(error))

    @app.operation()
    async def sound() -> str:
        return "sound"

    async with Rig(app, cancel_grace=3) as rig:
        execution_id = await rig.start(request(step("a", "hang")))
        await until(begun.is_set)
        await rig.engine.cancel(execution_id, actor="", reason="")
        await turns()
        rig.clock.advance(3)
        events = await rig.ended(execution_id)
        assert of_kind(events, "step_cancelled")[0].step_cancelled.abandoned
        assert output(await rig.run(request(step("b", "sound")))) == "sound"
        free.set()
        await until(lambda: rig.engine.abandoned == 0)
    assert heard == ["the step was abandoned"]


async def test_an_operation_that_got_no_thread_is_not_called_after_its_end():
    """A step that is cancelled while it waits for a free thread is never called."""
    app = App("threads")
    begun = threading.Event()
    free = threading.Event()
    called: list[str] = []

    @app.operation()
    def hang(step):
        begun.set()
        free.wait(20)

    @app.operation()
    def charge(step):
        called.append(step.id)

    async with Rig(app, threads=1) as rig:
        first = await rig.start(request(step("a", "hang")))
        await until(begun.is_set)
        second = await rig.start(request(step("b", "charge")))
        await rig.durable(second, "step_started")
        await rig.engine.cancel(second, actor="", reason="")
        events = await rig.ended(second)
        assert not of_kind(events, "step_cancelled")[0].step_cancelled.abandoned
        free.set()
        await rig.ended(first)
        third = await rig.run(request(step("c", "charge")))
    assert state_of(third) == "COMPLETED"
    assert called == ["c"]


async def test_the_wait_for_a_free_thread_takes_no_time_of_the_attempt():
    """A plain function's time limit counts from when it is called, not from when it began to wait for a thread."""
    app = App("threads")
    begun, free = threading.Event(), threading.Event()
    called, go = threading.Event(), threading.Event()

    @app.operation()
    def hang():
        begun.set()
        free.wait(20)

    @app.operation(timeout=5)
    def quick():
        called.set()
        go.wait(20)

    async with Rig(app, threads=1) as rig:
        first = await rig.start(request(step("a", "hang")))
        await until(begun.is_set)
        second = await rig.start(request(step("b", "quick"), step("c", "quick", depends_on=["b"])))
        await rig.durable(second, "step_started")
        rig.clock.advance(60)
        await turns()
        free.set()
        await rig.ended(first)
        await until(called.is_set)
        await until(lambda: rig.clock.pending == [5])
        rig.clock.advance(4)
        assert rig.clock.pending == [1]
        rig.clock.advance(1)
        go.set()
        events = await rig.ended(second)
    assert failure_of(events, "b")[0] == "TIMEOUT"


async def test_abandoned_functions_keep_no_thread_from_others():
    """A plain function is called, and its time limit counts, although abandoned ones hang in as many threads as there
    are.
    """
    app = App("threads")
    begun, free = threading.Semaphore(0), threading.Event()

    @app.operation(timeout=5)
    def hang():
        begun.release()
        free.wait(20)

    async with Rig(app, threads=2, cancel_grace=3) as rig:
        for count in range(1, 6):
            execution_id = await rig.start(request(step("a", "hang")))
            await until(lambda: begun.acquire(blocking=False), "it is called")
            await until(lambda: rig.clock.pending == [5], "its time counts")
            rig.clock.advance(5)
            await turns()
            rig.clock.advance(3)
            events = await rig.ended(execution_id)
            assert failure_of(events, "a")[0] == "TIMEOUT"
            assert rig.engine.abandoned == count
        free.set()
        await until(lambda: rig.engine.abandoned == 0)


async def test_a_task_that_an_operation_left_behind_says_nothing():
    """What is said in the name of an attempt that has ended is refused, and is not recorded."""
    app = App("left")
    free = asyncio.Event()
    left: list[asyncio.Task[None]] = []

    async def later(step) -> None:
        await free.wait()
        await step.progress(50)

    @app.operation()
    async def leave(step):
        left.append(asyncio.create_task(later(step)))

    async with Rig(app) as rig:
        execution_id = await rig.start(request(step("a", "leave")))
        events = await rig.ended(execution_id)
        free.set()
        with pytest.raises(StepEnded, match="the attempt has ended"):
            await left[0]
        await turns()
        assert await rig.events(execution_id) == events


async def test_emit_waits_for_room():
    """While the journal is slow, what waits for it is bounded: emit waits, and goes on when there is room."""
    app = App("fast")
    said = 0

    @app.operation()
    async def talk(step):
        nonlocal said
        for _ in range(100):
            await step.content("x" * 1_000)
            said += 1

    journal = HeldJournal()
    async with Rig(app, journal=journal, max_pending_bytes=10_000) as rig:
        journal.hold()
        execution_id = await rig.start(request(step("a", "talk")))
        await turns(500)
        assert 0 < said <= 11
        recorder = rig.engine._live[execution_id].recorder
        assert recorder._pending_bytes <= 10_000 + 2_000
        journal.release()
        events = await rig.ended(execution_id)
    assert said == 100
    well_formed(events)
    offsets = [event.content.offset for event in of_kind(events, "content")]
    assert offsets == [1_000 * i for i in range(100)]


async def test_a_cancel_reaches_an_operation_that_waits_for_room():
    """An operation that waits for the journal can be cancelled."""
    app = App("fast")

    @app.operation()
    async def talk(step):
        while True:
            await step.content("x" * 1_000)

    journal = HeldJournal()
    async with Rig(app, journal=journal, max_pending_bytes=10_000) as rig:
        journal.hold()
        execution_id = await rig.start(request(step("a", "talk")))
        await turns(500)
        cancel = asyncio.create_task(rig.engine.cancel(execution_id, actor="", reason=""))
        await turns()
        assert not cancel.done()
        journal.release()
        await cancel
        events = await rig.ended(execution_id)
    assert state_of(events) == "CANCELLED"


# -- at most once


async def test_at_most_once_waits_until_its_start_is_durable():
    """An operation that runs at most once is not called before its step_started is on disk."""
    app = App("once")
    called: list[str] = []

    @app.operation(at_most_once=True)
    async def charge(step):
        called.append(step.id)

    journal = HeldJournal()
    async with Rig(app, journal=journal) as rig:
        journal.hold()
        execution_id = await rig.start(request(step("a", "charge")))
        await until(lambda: journal.appends)
        await turns(200)
        assert called == []
        journal.release()
        events = await rig.ended(execution_id)
    assert called == ["a"]
    assert about(events, "a") == ["step_started", "step_completed"]


async def test_the_wait_for_the_journal_is_not_the_operation_s():
    """A time limit begins when the operation may: what is not called yet does not take too long."""

    async def charge():
        return "paid"

    journal = HeldJournal()
    async with Rig(app_of(charge, at_most_once=True, timeout=1), journal=journal) as rig:
        journal.hold()
        execution_id = await rig.start(request(step("a", "charge")))
        await until(lambda: journal.appends)
        rig.clock.advance(10)
        await turns(20)
        journal.release()
        events = await rig.ended(execution_id)
    assert about(events, "a") == ["step_started", "step_completed"]


async def test_others_do_not_wait_for_the_journal():
    """A step that may run again starts, and its dependants do, before anything is durable."""
    app = App("many")
    called: list[str] = []

    @app.operation()
    async def noop(step):
        called.append(step.id)

    journal = HeldJournal()
    async with Rig(app, journal=journal) as rig:
        journal.hold()
        execution_id = await rig.start(request(step("a", "noop"), step("b", "noop", depends_on=["a"])))
        await until(lambda: called == ["a", "b"])
        assert await rig.events(execution_id) == []
        journal.release()
        await rig.ended(execution_id)


async def test_at_most_once_that_takes_too_long_has_an_unknown_outcome():
    """A timeout of an operation that runs at most once ends its step in OUTCOME_UNKNOWN."""
    begun = asyncio.Event()

    async def charge():
        begun.set()
        await asyncio.Event().wait()

    async with Rig(app_of(charge, at_most_once=True, timeout=1)) as rig:
        execution_id = await rig.start(request(step("a", "charge")))
        await begun.wait()
        rig.clock.advance(1)
        events = await rig.ended(execution_id)
    assert failure_of(events, "a")[0] == "OUTCOME_UNKNOWN"


async def test_at_most_once_whose_start_is_lost_is_not_called():
    """Where the start can't be made durable the operation is not called."""
    app = App("once")
    called: list[str] = []

    @app.operation(at_most_once=True)
    async def charge(step):
        called.append(step.id)

    journal = HeldJournal()
    journal.fails = [RuntimeError("a bug in the journal")]
    async with Rig(app, journal=journal) as rig:
        execution_id = await rig.start(request(step("a", "charge")))
        await until(lambda: not rig.engine.running)
        assert await rig.events(execution_id) == []
    assert called == []
