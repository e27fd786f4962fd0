"""A server that dies at the worst moments, one by one, and is started again."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from stepwire.v1 import ExecuteRequest, Plan, Retry
from stepwire_server import failpoints, plan_step

from .checkers import TERMINAL, check, events_of
from .history import History, dump
from .kill_loop import Clients, Gauged

PATIENCE = 30.0

CASES = [
    pytest.param(point, times, id=f"{point}-{times}")
    for point in failpoints.POINTS
    # The first insert and commit are those of the execution itself; later ones are of its events, then of its end.
    for times in ((1, 2, 6, 12) if "insert" in point or "commit" in point else (1, 4))
]


def plan() -> Plan:
    """Returns a plan of steps of every kind: two at most once, one that is tried again."""
    retry = Retry(attempts=2)
    retry.initial_delay.FromMilliseconds(5)
    return Plan(
        steps=[
            plan_step("pay", "pay", input={"pause": 0.01}),
            plan_step("work", "work", input={"pieces": 3, "pause": 0.005}, depends_on=["pay"]),
            plan_step("beside", "generate", input={"pieces": 3, "pause": 0.01}),
            plan_step("flaky", "flaky", input={"failures": 1, "pause": 0.005}, depends_on=["work"], retry=retry),
            plan_step("thread", "thread", input={"pieces": 2, "pause": 0.005}, depends_on=["beside"]),
            plan_step("again", "pay", input={"pause": 0.01}, depends_on=["thread"]),
            plan_step("last", "burst", input={"reports": 30}, depends_on=["flaky", "again"]),
        ]
    )


class Doomed(Gauged):
    """A server that ends at a point, and when it is started again does not."""

    def __init__(self, folder: Path, point: str, times: int) -> None:
        super().__init__(folder, environment={failpoints.VARIABLE: f"{point}:{times}"})
        self.ended_with: int | None = None

    def doom(self, point: str, times: int) -> None:
        """Makes its next start end at a point."""
        self._environment[failpoints.VARIABLE] = f"{point}:{times}"

    def start_and_wait_for_its_end(self) -> int:
        """Returns the code that it ended with, before or after it had said where it listens."""
        try:
            self.start()
        except AssertionError:
            assert self.ended_with is not None
            del self._environment[failpoints.VARIABLE]
            return self.ended_with
        return self.wait_for_its_end()

    def _wait(self) -> int:
        self.ended_with = super()._wait()
        return self.ended_with

    def wait_for_its_end(self) -> int:
        """Returns the code that it ended with."""
        code = self.process.wait(PATIENCE)
        self._wait()
        del self._environment[failpoints.VARIABLE]
        return code


@pytest.mark.parametrize(("point", "times"), CASES)
async def test_a_crash_at(tmp_path: Path, point: str, times: int) -> None:
    """After a crash at a named point every promise holds, at_most_once effects and completed steps included."""
    history = History()
    with Doomed(tmp_path, point, times) as server:
        clients = Clients(server.address, history, Random(1))
        try:
            async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
                request = ExecuteRequest(plan=plan(), request_id="request")
                started = group.create_task(clients.start(request))
                group.create_task(clients.watch("execute", "", request=_copy(request)))
                assert await asyncio.to_thread(server.wait_for_its_end) == failpoints.EXIT_CODE
                await asyncio.to_thread(server.start)
                execution_id = await started
                group.create_task(clients.watch("late", execution_id))
                group.create_task(clients.read("client", execution_id))
                group.create_task(clients.poll(execution_id, Random(2)))
        finally:
            await clients.close()
        server.kill()
        history.journal = await dump(server.journal)
        history.add_effects(server.effects)
    assert check(history) == {}
    assert not clients.odd
    assert len(history.journal) == 1
    [kept] = history.journal.values()
    events = events_of(kept)
    ending = events[-1].WhichOneof("kind")
    assert ending in TERMINAL
    unknown = [event.step_id for event in events if event.WhichOneof("kind") == "step_failed"]
    # What must not run twice may end unknown; nothing else fails.
    assert set(unknown) <= {"pay", "again"}
    assert (ending == "plan_completed") == (not unknown)


@pytest.mark.parametrize("point", ["before-insert", "after-insert", "before-commit", "after-commit", "after-wake"])
async def test_a_crash_while_it_recovers(tmp_path: Path, point: str) -> None:
    """A server that dies again while it takes an execution over leaves it to the next one, under a higher epoch."""
    history = History()
    with Doomed(tmp_path, "after-effect", 3) as server:
        clients = Clients(server.address, history, Random(1))
        try:
            async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
                execution_id = await clients.start(ExecuteRequest(plan=plan(), request_id="request"))
                group.create_task(clients.watch("raw", execution_id))
                group.create_task(clients.read("client", execution_id))
                assert await asyncio.to_thread(server.wait_for_its_end) == failpoints.EXIT_CODE
                server.doom(point, 1)
                assert await asyncio.to_thread(server.start_and_wait_for_its_end) == failpoints.EXIT_CODE
                await asyncio.to_thread(server.start)
                await clients.poll(execution_id, Random(2))
        finally:
            await clients.close()
        server.kill()
        history.journal = await dump(server.journal)
        history.add_effects(server.effects)
    assert check(history) == {}
    assert not clients.odd
    # A claim that was not committed never was.
    assert history.journal[execution_id].epoch == (
        2 if point in ("before-insert", "after-insert", "before-commit") else 3
    )


def _copy(request: ExecuteRequest) -> ExecuteRequest:
    copied = ExecuteRequest()
    copied.CopyFrom(request)
    return copied


def test_an_unknown_point_is_refused() -> None:
    """A server is not started with a fail point that does not exist."""
    environment = os.environ | {failpoints.VARIABLE: "before-lunch"}
    done = subprocess.run(
        [sys.executable, "-c", "import stepwire_server.failpoints"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode != 0
    assert "there is no point 'before-lunch'" in done.stderr


def test_without_the_variable_nothing_happens() -> None:
    """Where no point is asked for, reaching one does nothing."""
    for point in failpoints.POINTS:
        failpoints.reach(point)
