"""When a silent stream is told to say that it is there: each in time, and many with one timer."""

from __future__ import annotations

import asyncio
import gc
from contextlib import ExitStack
from dataclasses import replace

from stepwire.v1 import EventBatch, WatchExecutionRequest
from stepwire_server.api.silence import Silences
from stepwire_server.journal import ExecutionRecord, Follower, MemoryJournal

from .conftest import Call, Serve
from .shop import BLOCKED, Gate, receive

EARLY = 0.002
"""Seconds by which a timer of uvloop may come early."""

HANGS = 20.0


async def follower_of_nothing(stack: ExitStack) -> Follower:
    """Returns a follower that has read all there is, so that it waits."""
    journal = MemoryJournal()
    await journal.open()
    follower = stack.enter_context(journal.follow("e", after=0))
    assert not await follower.read(max_events=1, max_bytes=1)
    return follower


async def test_a_silence_ends_after_its_interval() -> None:
    """A wait gives False when nothing was said for the interval, and not before, each time anew."""
    with ExitStack() as stack:
        follower = await follower_of_nothing(stack)
        silence = stack.enter_context(Silences().of(follower, interval=0.1))
        for _ in range(3):
            begun = asyncio.get_running_loop().time()
            silence.broken()
            async with asyncio.timeout(HANGS):
                assert not await silence.wait()
            assert asyncio.get_running_loop().time() - begun >= 0.1 - EARLY


async def test_a_time_that_is_rounded_down_ends_a_silence_too() -> None:
    """A heartbeat comes also where the moment to look at it is a little before its silence is over, by rounding."""
    with ExitStack() as stack:
        silences, follower = Silences(), await follower_of_nothing(stack)
        silence = stack.enter_context(silences.of(follower, interval=33.3))
        silence.since = 24.975
        waiting = silence.wait()
        assert silence.due < silence.since + silence.interval
        silences._come(silence.due)
        async with asyncio.timeout(HANGS):
            assert not await waiting


async def test_who_says_something_was_not_silent() -> None:
    """What was said meanwhile counts, also where the wake-up that came with it has passed."""
    with ExitStack() as stack:
        follower = await follower_of_nothing(stack)
        silence = stack.enter_context(Silences().of(follower, interval=0.1))
        for _ in range(4):
            asyncio.get_running_loop().call_later(0.05, follower.wake)
            async with asyncio.timeout(HANGS):
                assert await silence.wait()
            await follower.read(max_events=1, max_bytes=1)
            silence.broken()
        begun = asyncio.get_running_loop().time()
        async with asyncio.timeout(HANGS):
            assert not await silence.wait()
        assert asyncio.get_running_loop().time() - begun >= 0.1 - EARLY


async def test_who_does_not_wait_hears_of_it_when_it_does() -> None:
    """A stream that was busy when its heartbeat was due hears of it at once when it waits."""
    with ExitStack() as stack:
        silences, follower = Silences(), await follower_of_nothing(stack)
        silence = stack.enter_context(silences.of(follower, interval=600.0))
        follower.wake()
        assert await silence.wait()
        await follower.read(max_events=1, max_bytes=1)
        silence.since -= 600.0
        silences._come(silence.due)
        # At once is in far less than the interval, however busy the machine is.
        async with asyncio.timeout(HANGS):
            assert not await silence.wait()


async def test_silences_that_end_together_share_a_timer() -> None:
    """A hundred streams that become silent together have one timer or two, and leave none behind."""
    silences = Silences()
    with ExitStack() as stack:
        waits = []
        for _ in range(100):
            follower = await follower_of_nothing(stack)
            waits.append(stack.enter_context(silences.of(follower, interval=600.0)).wait())
        assert len(silences._due) <= 2
        assert not any(wait.done() for wait in waits)
    assert not silences._due


class OneOfItsOwn(MemoryJournal):
    """Gives each reader a record of its own, as a journal on a disk does."""

    async def get(self, execution_id: str) -> ExecutionRecord | None:
        record = await super().get(execution_id)
        return record and replace(record)


async def test_a_stream_keeps_little(serve: Serve, call_with: Call, gate: Gate) -> None:
    """A stream that waits keeps neither its execution's record nor a timer of its own."""
    server = await serve(OneOfItsOwn())
    caller = call_with(server)
    execution = await caller.start(BLOCKED)
    await gate.waiting.wait()

    def records() -> int:
        gc.collect()
        return sum(isinstance(found, ExecutionRecord) for found in gc.get_objects())

    before = records()
    calls = [
        caller.open("WatchExecution", WatchExecutionRequest(execution_id=execution.execution_id)) for _ in range(50)
    ]
    for call in calls:
        while EventBatch.FromString(await receive(call) or b"").notice != EventBatch.NOTICE_CAUGHT_UP:
            pass
    assert server.streams.open == 50
    assert records() < before + 10
    assert len(server.streams.silences._due) < 25
    for call in calls:
        call.cancel()
