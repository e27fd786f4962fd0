"""Measures statistics of a journal of 1,000,000 events, against a full scan that decodes them all.

    python -m tests.server.journal.statistics_million [EVENTS] [FOLDER]

The events are real ones: of random plans, with failures, retries, questions and pauses, over 90 days, recorded by the
engine's recorder into a journal in a file. Prints a table, and ends with 1 where anything differs. The tests run a
small slice of it.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

from stepwire.errors import failure
from stepwire.v1 import Event, ExecuteRequest, ExecutionState, GetStatisticsRequest, Plan, StepSkipped, StepState
from stepwire_server import plan_step
from stepwire_server.api.statistics import answer_of
from stepwire_server.engine.clock import SystemClock
from stepwire_server.engine.fold import Fold
from stepwire_server.engine.foresight import Foresight
from stepwire_server.engine.recorder import Recorder
from stepwire_server.engine.states import ENDED_STEP
from stepwire_server.journal import ExecutionRecord, Journal, SqliteJournal, Statistics, Summary
from stepwire_server.journal.statistics import DAY, rounded

from .scan import Scan, scan

SECOND = 10**9
BEGIN = 1_700_006_400 // DAY * DAY
"""Midnight of the first day, in seconds since 1970."""

DAYS = 90
OPERATIONS = [f"operation-{number}" for number in range(12)]
PLANS = ["", *(f"plan-{number}" for number in range(8))]

PAUSED, RESUMED = "plan_paused", "plan_resumed"


class Clock(SystemClock):
    """One execution's clock, which stands where it is set."""

    ns = 0

    def now_ns(self) -> int:
        return self.ns


class Story:
    """One execution: its plan, and its events with their times."""

    def __init__(self, chance: Random) -> None:
        self._chance = chance
        steps = []
        for number in range(chance.choice([1, 3, 8, 8, 20])):
            earlier = [step.id for step in steps]
            needs = chance.sample(earlier, min(len(earlier), chance.choice([0, 1, 1, 2])))
            steps.append(plan_step(f"s{number}", chance.choice(OPERATIONS), depends_on=needs))
        self.plan = Plan(name=chance.choice(PLANS), steps=steps)
        self.begin = BEGIN * SECOND + chance.randrange(DAYS * DAY * SECOND)

    def events(self) -> Iterator[tuple[int, Event]]:
        """Yields the events in order, the terminal one excepted."""
        chance, number = self._chance, itertools.count()
        queue: list[tuple[int, int, Event]] = []
        started = Event()
        started.plan_started.plan.CopyFrom(self.plan)
        begun = self.begin + self._span(0.01)
        heapq.heappush(queue, (begun, next(number), started))
        ends: dict[str, tuple[int, bool]] = {}
        for step in self.plan.steps:
            ready = max([begun, *(ends[name][0] for name in step.depends_on)])
            if not all(ends[name][1] for name in step.depends_on):
                skipped = Event(step_id=step.id)
                skipped.step_skipped.cause = StepSkipped.CAUSE_DEPENDENCY
                ends[step.id] = (ready, False)
                heapq.heappush(queue, (ready, next(number), skipped))
                continue
            at, fine, attempts = ready, False, chance.choice([1, 1, 3])
            for attempt in range(1, attempts + 1):
                at += self._span(0.02)
                for event in self._attempt(step.id, attempt):
                    heapq.heappush(queue, (at, next(number), event))
                    at += self._span(0.1 * (1 + OPERATIONS.index(step.operation)))
                fine = chance.random() < 0.93
                again = not fine and attempt < attempts
                event = Event(step_id=step.id, attempt=attempt)
                if fine:
                    event.step_completed.output.string_value = "done"
                elif again:
                    event.step_retrying.error.CopyFrom(failure("OPERATION_FAILED", "no"))
                else:
                    event.step_failed.error.CopyFrom(failure("OPERATION_FAILED", "no"))
                heapq.heappush(queue, (at, next(number), event))
                if not again:
                    break
            ends[step.id] = (at, fine)
        pause = begun + self._span(5) if chance.random() < 0.1 else 0
        while queue:
            at, _, event = heapq.heappop(queue)
            yield at, event
            if pause and at >= pause:
                # From here on everything happens later.
                yield at, _named(PAUSED)
                pause = 0
                length = self._span(30)
                yield at + length, _named(RESUMED)
                queue = [(then + length, place, event) for then, place, event in queue]

    def _attempt(self, name: str, attempt: int) -> Iterator[Event]:
        yield _named("step_started", name, attempt)
        for piece in range(self._chance.randint(0, 12)):
            event = Event(step_id=name, attempt=attempt, message=f"piece {piece}")
            event.step_progress.percentage = 100 * piece / 12
            yield event
        if self._chance.random() < 0.05:
            asked = Event(step_id=name, attempt=attempt)
            asked.input_requested.input_id = f"{name}-{attempt}"
            yield asked
            answered = Event(step_id=name, attempt=attempt)
            answered.input_received.input_id = f"{name}-{attempt}"
            yield answered

    def _span(self, seconds: float) -> int:
        """Returns nanoseconds, about so many seconds and at times far more."""
        return int(seconds * SECOND * self._chance.lognormvariate(0, 1))


def _named(kind: str, step_id: str = "", attempt: int = 0) -> Event:
    event = Event(step_id=step_id, attempt=attempt)
    getattr(event, kind).SetInParent()
    return event


async def record(journal: Journal, name: str, chance: Random) -> int:
    """Runs one story through the engine's recorder, and returns how many events it had."""
    story = Story(chance)
    request = ExecuteRequest(plan=story.plan).SerializeToString()
    created, _ = await journal.create(ExecutionRecord(execution_id=name, request=request, create_time_ns=story.begin))
    fold, clock, lost = Fold(create_ns=story.begin, planning=False), Clock(), list[BaseException]()
    recorder = Recorder(
        journal,
        created,
        fold,
        clock=clock,
        max_pending_bytes=1 << 20,
        on_lost=lost.append,
        foresight=Foresight(fold, slots=4, known=dict),
    )
    enough = chance.randrange(3, 60) if chance.random() < 0.05 else 1 << 30
    for at, event in story.events():
        clock.ns = at
        await recorder.room()
        recorder.record(event)
        if fold.sequence >= enough:
            _cancel(recorder)
            break
    end = Event()
    if fold.state == ExecutionState.EXECUTION_STATE_CANCELLING:
        end.plan_cancelled.SetInParent()
    elif fold.all_done:
        end.plan_completed.SetInParent()
    else:
        end.plan_failed.SetInParent()
    recorder.record(end)
    await recorder.settle()
    assert not lost, lost
    return fold.sequence


def _cancel(recorder: Recorder) -> None:
    """Records that somebody had enough, and what that means for each step that has not ended."""
    fold = recorder.fold
    recorder.record(_named("plan_cancelling"))
    assert fold.graph is not None
    for step, state in zip(fold.graph.steps, fold.steps, strict=True):
        if state.state == StepState.STEP_STATE_PENDING:
            recorder.record(_named("step_skipped", step.id))
        elif state.state not in ENDED_STEP:
            recorder.record(_named("step_cancelled", step.id))


async def fill(journal: Journal, events: int, *, seed: int = 1, together: int = 100) -> tuple[int, int]:
    """Records executions until there are so many events; returns how many executions and events there are."""
    executions = done = 0
    while done < events:
        group = range(executions, executions + min(together, max(1, (events - done) // 150)))
        done += sum(
            await asyncio.gather(*(record(journal, f"e{number}", Random(f"{seed}/{number}")) for number in group))
        )
        executions = group.stop
    return executions, done


def same(found: Statistics, by_scan: Scan) -> bool:
    """Whether everything is equal: counts, waits, bottlenecks, histograms."""
    return (found.operations, found.plans) == (by_scan.operations, by_scan.plans)


def farthest(found: Statistics, by_scan: Scan) -> float:
    """Returns by how much, as a share, a percentile is at most off from that of all durations in order."""
    shown = answer_of(found, GetStatisticsRequest())
    off = 0.0
    for one in shown.operations:
        exact = sorted(by_scan.durations[one.operation])
        for share, percentile in ((50, one.p50), (95, one.p95), (99, one.p99)):
            true = exact[-(-share * len(exact) // 100) - 1]
            off = max(off, abs(percentile.ToNanoseconds() - true) / true)
    return off


def row(what: str, figure: str) -> None:
    print(f"| {what:<46} | {figure:<70} |", flush=True)


async def timed(ask: Callable[[], Any], times: int = 21) -> tuple[Any, str]:
    """Returns the answer, and how long it took: the median, and the longest."""
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        answer = await ask()
        seconds.append((time.perf_counter() - start) * 1e3)
    return answer, f"{statistics.median(seconds):.1f} ms (of {times}; longest {max(seconds):.1f} ms)"


def inside(span: tuple[int, int]) -> Callable[[Summary], bool]:
    begin, stop = (edge * SECOND for edge in rounded(*(edge * SECOND for edge in span)) if edge is not None)
    return lambda summary: begin <= summary.end_time_ns < stop


async def main(events: int, folder: Path) -> int:
    path = folder / "journal.db"
    journal = SqliteJournal(path, tail_bytes=0)
    await journal.open()
    row("what", "figure")
    start = time.perf_counter()
    executions, count = await fill(journal, events)
    seconds = time.perf_counter() - start
    row(
        "recorded", f"{count:,} events of {executions:,} executions in {seconds:.0f} s, {count / seconds:,.0f} a second"
    )
    await journal.close()
    journal = SqliteJournal(path, tail_bytes=0)
    await journal.open()
    day = BEGIN + 40 * DAY
    spans: dict[str, tuple[int, int] | None] = {
        "all time": None,
        "a day": (day, day + DAY),
        "an hour": (day + 3_600, day + 7_200),
        "50 days, from within an hour": (BEGIN + DAY * 20 + 20_000, BEGIN + DAY * 70 + 50_000),
    }
    wrong = 0
    for name, span in spans.items():
        edges = {} if span is None else {"from_ns": span[0] * SECOND, "before_ns": span[1] * SECOND}

        async def ask(edges: dict[str, int] = edges) -> Statistics:
            found = await journal.statistics(tenant="", **edges)
            answer_of(found, GetStatisticsRequest()).SerializeToString()
            return found

        found, took = await timed(ask)
        row(f"GetStatistics, {name}", took)
        start = time.perf_counter()
        by_scan = await scan(journal, chosen=(lambda _: True) if span is None else inside(span))
        seconds = time.perf_counter() - start
        equal = same(found, by_scan)
        wrong += not equal
        steps = sum(tally.completed + tally.failed for tally in found.operations.values())
        row(
            f"  a full scan, {name}",
            f"{seconds:.1f} s; {'EQUAL' if equal else 'DIFFERENT'}; {steps:,} steps, a percentile is "
            f"{farthest(found, by_scan):.2%} off at most",
        )
    typical, took = await timed(lambda: journal.typical(tenant=""))
    row("typical durations, 30 days", f"{took}; {len(typical)} operations")
    await journal.close()
    row("the file", f"{path.stat().st_size / (1 << 20):.0f} MiB, of it statistics {_size(path):.1f} MiB")
    return 1 if wrong else 0


def _size(path: Path) -> float:
    with closing(sqlite3.connect(path)) as connection:
        (size,) = connection.execute("SELECT sum(length(tally) + length(name) + 40) FROM statistics").fetchone()
    return float(size) / (1 << 20)


if __name__ == "__main__":
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory(dir=sys.argv[2] if len(sys.argv) > 2 else None) as temporary:
        sys.exit(asyncio.run(main(wanted, Path(temporary))))
