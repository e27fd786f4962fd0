"""The wall clock is set back by an hour, in the middle of an execution and between two servers."""

from __future__ import annotations

import asyncio
import itertools
from datetime import timedelta

import pytest

from stepwire.errors import reason_of
from stepwire.v1 import Event, ExecuteRequest, ExecutionOptions, Retry
from stepwire_server import App, Plan, StepContext, plan_step
from stepwire_server.engine.clock import SystemClock
from stepwire_server.engine.engine import Engine
from stepwire_server.journal import Journal, MemoryJournal

from .checkers import check, events_of
from .history import History, dump_open

PATIENCE = 20.0
HOUR_NS = 3_600 * 10**9


class SetBack(SystemClock):
    """The machine's clock, whose wall can be moved."""

    def __init__(self, *, offset_ns: int = 0) -> None:
        super().__init__()
        self.offset_ns = offset_ns

    def now_ns(self) -> int:
        return super().now_ns() + self.offset_ns


def app_for(clock: SetBack, gate: asyncio.Event) -> App:
    """Returns an app whose operations set the clock back, or wait."""
    app = App("clocks")

    @app.operation()
    async def back(step: StepContext) -> None:
        """Set the clock back between two reports, then fail once."""
        await step.progress(10)
        clock.offset_ns -= HOUR_NS
        await step.progress(20)
        if step.attempt == 1:
            raise RuntimeError("not yet")

    @app.operation()
    async def held(step: StepContext) -> None:
        """Wait for the gate."""
        await step.progress(10)
        await gate.wait()

    return app


def request(*operations: str, limit: float = 0.0) -> ExecuteRequest:
    retry = Retry(attempts=2)
    retry.initial_delay.FromMilliseconds(20)
    steps = [plan_step(f"s{n}", name, retry=retry) for n, name in enumerate(operations)]
    for before, step in itertools.pairwise(steps):
        step.depends_on.append(before.id)
    options = ExecutionOptions()
    if limit:
        options.time_limit.FromTimedelta(timedelta(seconds=limit))
    return ExecuteRequest(plan=Plan(steps=steps), options=options)


async def durable(journal: Journal, execution_id: str, kind: str) -> None:
    """Returns once an event of this kind is durable."""
    with journal.follow(execution_id, after=0) as follower:
        while not any(event.WhichOneof("kind") == kind for event in await events(journal)):
            await follower.read(max_events=512, max_bytes=1 << 20)
            await follower.wait()


async def events(journal: Journal) -> list[Event]:
    """Returns the events of the one execution."""
    [kept] = (await dump_open(journal)).values()
    return events_of(kept)


@pytest.mark.fault("wall clock set back an hour while a step runs", how="injected clock")
async def test_set_back_while_a_step_runs() -> None:
    """Where the wall clock goes back an hour, event times do not, and a retry waits no longer than it should."""
    clock, journal = SetBack(), MemoryJournal()
    await journal.open()
    engine = Engine(app_for(clock, asyncio.Event()).catalog(), journal, clock=clock)
    async with asyncio.timeout(PATIENCE):
        record = await engine.accept(request("back", "back", limit=PATIENCE))
        await durable(journal, record.execution_id, "plan_completed")
        history = History(journal=await dump_open(journal))
        assert check(history) == {}
        await engine.drain(1)
    await journal.close()


@pytest.mark.fault("another wall clock after a restart", how="injected clock")
@pytest.mark.parametrize("hours", [-1, 1])
async def test_another_time_after_a_restart(hours: int) -> None:
    """A server that starts with its clock an hour back goes on, with times that do not decrease, and the time limit
    counts no hour twice; with its clock an hour on, the limit is over.
    """
    clock, journal, gate = SetBack(), MemoryJournal(), asyncio.Event()
    await journal.open()
    async with asyncio.timeout(PATIENCE):
        first = Engine(app_for(clock, gate).catalog(), journal, clock=clock)
        record = await first.accept(request("held", "held", limit=1.0))
        await durable(journal, record.execution_id, "step_progress")
        await first.drain(0)
        clock = SetBack(offset_ns=hours * HOUR_NS)
        second = Engine(app_for(clock, gate).catalog(), journal, clock=clock)
        assert await second.recover() == 1
        # Nobody opens the gate: the limit of a second ends it, and not one of an hour and a second.
        await durable(journal, record.execution_id, "plan_failed")
        history = History(journal=await dump_open(journal))
        assert check(history) == {}
        assert reason_of((await events(journal))[-1].plan_failed.error) == "TIME_LIMIT"
        await second.drain(1)
    await journal.close()
