"""A server that dies at the worst moments, one by one, and is started again."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from random import Random

import pytest
from tests.e2e.serving import until

from stepwire.errors import CursorExpired
from stepwire.v1 import ExecuteRequest, Plan, Retry
from stepwire_server import failpoints, plan_step, when
from stepwire_server.journal import SqliteJournal
from stepwire_server.journal.inspection import opened_to_read
from stepwire_server.journal.purging import BITE_ROWS

from .checkers import TERMINAL, check, events_of
from .history import History, Kept, dump
from .kill_loop import Clients, Gauged
from .storage import findings

PATIENCE = 30.0

ELSEWHERE = ("claim", "purge", "compaction")
"""What a server without an earlier execution does not reach."""

CASES = [
    pytest.param(point, times, id=f"{point}-{times}")
    for point in failpoints.POINTS
    if not point.endswith(ELSEWHERE)
    # The first insert and commit are those of the execution itself; later ones are of its events, then of its end. The
    # first quiet moment, in which the journal is checkpointed, comes after the end.
    for times in ((1, 2, 6, 12) if point.endswith(("insert", "commit")) else (1,) if "checkpoint" in point else (1, 4))
]
UPKEEP = [
    pytest.param(point, times, id=f"{point}-{times}")
    for point in failpoints.POINTS
    if point.endswith(("purge", "compaction"))
    for times in (1, 2, 3)
]
SHORT = ("after-purge-2",)
"""The crashes of the upkeep that `make test` has."""
ONCE = {"insert": 2, "commit": 6}
"""Where in the course of an execution `make test` crashes, for points that are reached often; else the first time."""
RECOVERING = ("after-claim", "before-insert", "after-commit")
"""The crashes of a recovery that `make test` has."""


def plan() -> Plan:
    """Returns a plan of steps of every kind: two at most once, one that is tried again, one that adds others, one that
    is mapped over a list, one that its condition skips.
    """
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
            plan_step("grow", "grow", input={"rounds": 3, "pause": 0.005}),
            plan_step(
                "each", "work", input={"pieces": 1, "pause": 0.01}, for_each={"given": [1, 2, 3]}, max_parallel=2
            ),
            plan_step("no", "burst", input={"reports": 1}, conditions=[when("grow").above(3)]),
            plan_step("last", "burst", input={"reports": 30}, depends_on=["flaky", "again", "each", "no"]),
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

    def keep(self, executions: int) -> None:
        """Makes it keep so many executions from its next start on. 0: all."""
        self._flags = [*self._flags, "--keep-executions", str(executions)]

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
@pytest.mark.fault("a crash at a named point", how="a fail point, os._exit")
async def test_a_crash_at(tmp_path: Path, point: str, times: int, long: bool) -> None:
    """After a crash at a named point every promise holds, at_most_once effects and completed steps included."""
    if not long and times != ONCE.get(point.partition("-")[2], 1):
        pytest.skip("only in the long run: make faults")
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


@pytest.mark.parametrize(
    "point",
    ["before-claim", "before-insert", "after-claim", "after-insert", "before-commit", "after-commit", "after-wake"],
)
@pytest.mark.fault("a crash while it recovers from one", how="a fail point, os._exit")
async def test_a_crash_while_it_recovers(tmp_path: Path, point: str, long: bool) -> None:
    """A server that dies again while it takes an execution over leaves it to the next one, under a higher epoch."""
    if not long and point not in RECOVERING:
        pytest.skip("only in the long run: make faults")
    history = History()
    with Doomed(tmp_path, "after-effect", 3) as server:
        clients = Clients(server.address, history, Random(1))
        try:
            async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
                # It may die before its answer is there.
                request = ExecuteRequest(plan=plan(), request_id="request")
                started = group.create_task(clients.start(request))
                group.create_task(clients.watch("execute", "", request=_copy(request)))
                assert await asyncio.to_thread(server.wait_for_its_end) == failpoints.EXIT_CODE
                server.doom(point, 1)
                assert await asyncio.to_thread(server.start_and_wait_for_its_end) == failpoints.EXIT_CODE
                await asyncio.to_thread(server.start)
                execution_id = await started
                group.create_task(clients.read("client", execution_id))
                await clients.poll(execution_id, Random(2))
        finally:
            await clients.close()
        server.kill()
        history.journal = await dump(server.journal)
        history.add_effects(server.effects)
    assert check(history) == {}
    assert not clients.odd
    # A claim that was not committed never was.
    assert history.journal[execution_id].epoch == (3 if point in ("after-commit", "after-wake") else 2)


def scattered_left(journal: Path) -> int:
    """Returns how many executions have chunks that are still to be joined."""
    with opened_to_read(journal) as connection:
        found: int = connection.execute("SELECT count(*) FROM executions WHERE scattered = 1").fetchone()[0]
    return found


@pytest.mark.parametrize(("point", "times"), UPKEEP)
@pytest.mark.fault("a crash in the middle of a purge or a compaction", how="a fail point, os._exit")
async def test_a_crash_of_the_upkeep(tmp_path: Path, point: str, times: int, long: bool) -> None:
    """Between two bites of a purge or a compaction, each execution reads as it was or is gone as a whole; a check finds
    nothing wrong, and the next start does the rest.
    """
    if not long and f"{point}-{times}" not in SHORT:
        pytest.skip("only in the long run: make faults")
    purges = point.endswith("purge")
    with Doomed(tmp_path, "before-purge", 1_000_000) as server:
        clients = Clients(server.address, History(), Random(1))
        async with asyncio.timeout(PATIENCE):
            names = [await clients.start(ExecuteRequest(plan=scattered(), request_id=f"r{n}")) for n in range(3)]
            await asyncio.gather(*(clients.poll(name, Random(1)) for name in names))
        await clients.close()
        server.kill()
        before = await dump(server.journal)
        server.keep(1 if purges else 0)
        # On a busy machine the first server's only pass may come so late that it joins the chunks of one already: there
        # is less to join then, and what was joined is purged in one bite.
        unjoined = scattered_left(server.journal)
        assert unjoined
        # A bite of a purge takes so many rows; what was joined already has fewer.
        longer_than_a_bite = f"SELECT count(*) > {BITE_ROWS} FROM chunks GROUP BY execution"
        split = all(longer for (longer,) in query(server.journal, longer_than_a_bite))
        server.doom(point, times if purges else min(times, unjoined))
        assert server.start_and_wait_for_its_end() == failpoints.EXIT_CODE
        assert findings(server.journal) == []
        between, gone = await held(server.journal, names)
        assert {name: kept.frames for name, kept in between.items()} == {
            name: before[name].frames for name in names if name not in gone
        }
        assert gone == {name: str(before[name].last_sequence + 1) for name in gone}
        assert bool(gone) == (purges and times > 1)
        assert not (purges and times == 2 and split) or query(server.journal, "SELECT * FROM remains") != []
        server.start()
        left = 1 if purges else 3
        done = "SELECT (SELECT count(*) FROM executions), (SELECT coalesce(sum(scattered), 0) FROM executions)"
        await asyncio.to_thread(until, lambda: query(server.journal, done) == [(left, 0)], "the rest")
        await asyncio.to_thread(until, lambda: query(server.journal, "SELECT * FROM remains") == [], "the rest")
        server.kill()
        assert findings(server.journal) == []
        after, gone = await held(server.journal, names)
    assert {name: kept.frames for name, kept in after.items()} == {name: before[name].frames for name in after}
    assert len(after) == left
    assert gone == {name: str(before[name].last_sequence + 1) for name in names if name not in after}


def scattered() -> Plan:
    """Returns a plan whose events are stored one by one: each is durable before the next one comes."""
    return Plan(steps=[plan_step("a", "careful", input={"pieces": 120, "pause": 0})])


async def held(path: Path, names: list[str]) -> tuple[dict[str, Kept], dict[str, str]]:
    """Returns what a journal holds, and of what is gone the first sequence that a reader is told."""
    kept = await dump(path)
    journal = SqliteJournal(path)
    await journal.open()
    gone = {}
    for name in names:
        if name not in kept:
            with pytest.raises(CursorExpired) as expired:
                await journal.read(name, after=0, max_events=1, max_bytes=1)
            gone[name] = expired.value.metadata["first_sequence"]
    await journal.close()
    return kept, gone


def query(path: Path, sql: str) -> list[tuple[int, ...]]:
    """Returns what a journal's file says beside its server."""
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
        return connection.execute(sql).fetchall()


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
