"""Statistics by a full scan: every event is decoded, and what it says is counted anew.

It shares nothing with the engine but the events: who waits and who is paused it knows from the envelopes, and it works
with lists of intervals. What it gives has to equal what the journal has kept.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from stepwire.v1 import Event, EventBatch, ExecuteRequest, ExecutionFilter, ExecutionState, Step, StepState
from stepwire_server.journal import (
    ENDED,
    ExecutionRecord,
    Journal,
    Outcome,
    SqliteJournal,
    StepSummary,
    Summary,
    Tally,
)

__all__ = ["Scan", "deviations", "scan", "scanned"]

Interval = tuple[int, int]

_ENDED = {
    StepState.STEP_STATE_COMPLETED: Outcome.COMPLETED,
    StepState.STEP_STATE_FAILED: Outcome.FAILED,
    StepState.STEP_STATE_CANCELLED: Outcome.CANCELLED,
    StepState.STEP_STATE_SKIPPED: None,
}
_OUTCOMES = {"plan_completed": Outcome.COMPLETED, "plan_failed": Outcome.FAILED, "plan_cancelled": Outcome.CANCELLED}


@dataclass
class Scan:
    """What a full scan counts, and every single duration."""

    operations: dict[str, Tally] = field(default_factory=dict)
    plans: dict[str, Tally] = field(default_factory=dict)
    durations: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    """Of the steps of each operation that completed or failed."""

    def add(self, summary: Summary) -> None:
        """Takes what one execution tells."""
        plan = self.plans.setdefault(summary.plan, Tally())
        _end(plan, summary.outcome, summary.duration_ns, summary.wait_ns)
        if summary.bottleneck:
            plan.bottlenecks[summary.bottleneck] = plan.bottlenecks.get(summary.bottleneck, 0) + 1
        for step in summary.steps:
            tally = self.operations.setdefault(step.operation, Tally())
            _end(tally, step.outcome, step.duration_ns, step.wait_ns)
            tally.retries += step.retries
            plan.retries += step.retries
            if step.outcome is not Outcome.CANCELLED:
                self.durations[step.operation].append(step.duration_ns)
        if summary.bottleneck:
            own = self.operations[summary.bottleneck].bottlenecks
            own[summary.bottleneck] = own.get(summary.bottleneck, 0) + 1


def _end(tally: Tally, outcome: Outcome, duration_ns: int, wait_ns: int | None) -> None:
    if outcome is Outcome.CANCELLED:
        tally.cancelled += 1
        return
    if outcome is Outcome.FAILED:
        tally.failed += 1
    else:
        tally.completed += 1
    (tally.failures if outcome is Outcome.FAILED else tally.durations).add(duration_ns)
    if wait_ns is not None:
        tally.waited += 1
        tally.wait_ns += wait_ns


async def scan(journal: Journal, *, chosen: Callable[[Summary], bool] = lambda _: True) -> Scan:
    """Reads all events of all executions that have ended."""
    found = Scan()
    before = 0
    while True:
        page = await journal.list(ExecutionFilter(), tenant="", before=before, limit=500)
        for listed in page.records:
            before = listed.ordinal
            if listed.state not in ENDED:
                continue
            record = await journal.get(listed.execution_id)
            assert record is not None
            summary = scanned(record, await _events(journal, record))
            if summary is not None and chosen(summary):
                found.add(summary)
        if not page.more:
            return found


async def _events(journal: Journal, record: ExecutionRecord) -> list[Event]:
    events: list[Event] = []
    while len(events) < record.last_sequence:
        chunks = await journal.read(record.execution_id, after=len(events), max_events=1 << 20, max_bytes=1 << 24)
        for chunk in chunks:
            events += EventBatch.FromString(chunk.data).events
    return events


async def deviations(path: Path) -> list[str]:
    """Returns where the statistics of a journal's file are not those of its events. No server may have it open."""
    journal = SqliteJournal(path)
    await journal.open()
    try:
        found, by_scan = await journal.statistics(tenant=""), await scan(journal)
    finally:
        await journal.close()
    return [
        f"of {name!r} the journal has {kept.get(name)}, and a scan finds {seen.get(name)}"
        for kept, seen in ((found.operations, by_scan.operations), (found.plans, by_scan.plans))
        for name in sorted(kept.keys() | seen.keys())
        if kept.get(name) != seen.get(name)
    ]


def scanned(record: ExecutionRecord, events: Iterable[Event]) -> Summary | None:
    """Returns what the events of an ended execution tell; None of one that was simulated."""
    request = ExecuteRequest.FromString(record.request)
    if request.options.simulate:
        return None
    steps: dict[str, Step] = {}
    order: list[str] = []
    declared: dict[str, int] = {}
    started: dict[str, tuple[int, int]] = {}
    ended: dict[str, tuple[int, int]] = {}
    outcomes: dict[str, Outcome | None] = {}
    attempts: Counter[str] = Counter()
    asking: dict[str, int] = {}
    asked: dict[str, list[Interval]] = defaultdict(list)
    pauses: list[Interval] = []
    paused: int | None = None
    name, first, last = "", None, None
    for event in events:
        now = event.event_time.ToNanoseconds()
        kind = event.WhichOneof("kind")
        if event.execution_state == ExecutionState.EXECUTION_STATE_PAUSED:
            paused = now if paused is None else paused
        elif paused is not None and kind not in ("plan_completed", "plan_failed"):
            pauses.append((paused, now))
            paused = None
        if kind == "plan_started":
            name = event.plan_started.plan.name
        for step in event.plan_started.plan.steps if kind == "plan_started" else event.plan_revised.steps:
            steps[step.id] = step
            order.append(step.id)
            declared[step.id] = now
        own = event.step_id
        if own:
            if kind == "step_started":
                attempts[own] += 1
                started.setdefault(own, (now, len(pauses)))
                first = first or (now, len(pauses))
            if event.step_state == StepState.STEP_STATE_WAITING:
                asking.setdefault(own, now)
            elif own in asking:
                asked[own].append((asking.pop(own), now))
            if event.step_state in _ENDED:
                ended[own] = (now, len(pauses))
                outcomes[own] = _ENDED[event.step_state]
        last = event
    assert last is not None
    ran = [own for own in order if own in started and own in ended]
    took = {own: _length((started[own][0], ended[own][0]), [*pauses[: ended[own][1]], *asked[own]]) for own in ran}
    end = last.event_time.ToNanoseconds()
    told = []
    for own in ran:
        ready = max([declared[own], *(ended[other][0] for other in steps[own].depends_on)])
        at, over = started[own]
        outcome = outcomes[own]
        assert outcome is not None
        told.append(
            StepSummary(
                operation=steps[own].operation,
                outcome=outcome,
                duration_ns=took[own],
                wait_ns=_length((ready, at), pauses[:over]),
                retries=attempts[own] - 1,
            )
        )
    return Summary(
        outcome=_OUTCOMES[last.WhichOneof("kind") or ""],
        plan=_name(request) or name,
        end_time_ns=end,
        duration_ns=end - record.create_time_ns,
        wait_ns=None if first is None else _length((record.create_time_ns, first[0]), pauses[: first[1]]),
        bottleneck=_bottleneck(steps, order, ran, ended, took),
        steps=told,
    )


def _name(request: ExecuteRequest) -> str:
    if request.call.plan != ":retry":
        return request.call.plan
    return request.call.input.fields["plan"].string_value


def _bottleneck(
    steps: dict[str, Step],
    order: Sequence[str],
    ran: Sequence[str],
    ended: dict[str, tuple[int, int]],
    took: dict[str, int],
) -> str:
    if not ran:
        return ""

    def end(own: str) -> tuple[int, int]:
        return ended[own][0], order.index(own)

    path = [max(ran, key=end)]
    while needed := [own for own in steps[path[0]].depends_on if own in ended]:
        path.insert(0, max(needed, key=end))
    longest = max(took.get(own, -1) for own in path)
    return next(steps[own].operation for own in path if took.get(own, -1) == longest)


def _length(whole: Interval, without: Iterable[Interval]) -> int:
    """Returns how long an interval is outside of others, which may overlap."""
    at, end = whole
    length = 0
    for begin, stop in sorted(without):
        length += max(0, min(begin, end) - at)
        at = max(at, stop)
    return length + max(0, end - at)
