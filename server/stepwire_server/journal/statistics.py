"""What a journal keeps of executions that have ended, to be summed up over any span: by operation and by plan.

    the end of an execution -> Summary -> tallies of its operations and its plan, in its hour, its day, its month
    a span -> the whole months in it, days and hours at its edges -> their tallies, merged

A tally is kept in the transaction of the terminal event, and so counts each execution once, whatever crashes. It stays
when the execution is purged.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import NamedTuple, assert_never
from zlib import crc32

from stepwire_server.journal.histogram import Histogram

__all__ = [
    "DAY",
    "HOUR",
    "MONTH",
    "MOST_NAMES",
    "OTHER",
    "TYPICAL_DAYS",
    "WIDTHS",
    "Key",
    "Kind",
    "Outcome",
    "Period",
    "Statistics",
    "StepSummary",
    "Summary",
    "Tally",
    "Typical",
    "covering",
    "edges",
    "merged",
    "rounded",
    "tallies",
    "tally_checksum",
    "typical_of",
]

HOUR = 3_600
"""Seconds."""

DAY = 24 * HOUR
"""Seconds, from midnight UTC."""

MONTH = 32 * DAY
"""Seconds. Counted from 1970 on: no calendar's month, but what makes years as cheap as days."""

WIDTHS = (HOUR, DAY, MONTH)
"""Each is a multiple of the one before."""

MOST_NAMES = 500
"""Names of one kind that have a tally of their own in one period: anyone may send plans under any name."""

OTHER = "(other names)"
"""The tally of those beyond."""

TYPICAL_DAYS = 30
"""The days whose steps `Journal.typical` tells of: the last day on which an execution ended, and those before it."""

_BEGINNING = -MONTH * 10**6
"""Seconds since 1970 from which on there is nothing."""


class Outcome(Enum):
    """How a step or an execution ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSummary:
    """What an ended execution tells of a step that ran in it, and ended."""

    operation: str
    """What it called."""
    outcome: Outcome
    """How it ended."""
    duration_ns: int
    """From its first start to its end."""
    wait_ns: int
    """From when it could have started to its first start."""
    retries: int
    """Attempts beyond the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What an execution tells at its end. The engine makes it, from the events alone."""

    outcome: Outcome
    """How it ended."""
    plan: str
    """The plan's name. May be empty."""
    end_time_ns: int
    """When its terminal event happened, in nanoseconds since 1970."""
    duration_ns: int
    """From its acceptance to its end."""
    wait_ns: int | None
    """From its acceptance to the start of its first step. None: none started."""
    bottleneck: str
    """The operation of the step that took the largest share of its critical path. Empty: no step ran."""
    steps: Sequence[StepSummary]
    """Those that ran here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Typical:
    """How long steps of an operation take that complete."""

    count: int
    """How many that is known of. At least 1."""
    p25: float
    """Seconds that a quarter of them did not exceed, to within 1 %."""
    p50: float
    """As `p25`, of a half."""
    p75: float
    """As `p25`, of three quarters."""


class Kind(IntEnum):
    """What a tally is of. The numbers are stored."""

    OPERATION = 1
    PLAN = 2


class Period(NamedTuple):
    """An hour, a day or a month of one tenant's, and what is counted in it."""

    tenant: str
    kind: Kind
    width: int
    """One of WIDTHS."""
    start: int
    """Seconds since 1970; a multiple of the width."""


class Key(NamedTuple):
    """Whose tally."""

    period: Period
    name: str
    """Of the operation, or the plan."""


@dataclass(slots=True, kw_only=True)
class Tally:
    """Steps of one operation, or executions of one plan, that ended in some time. Those that were cancelled have
    neither durations nor waits: they say when somebody had enough.
    """

    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    retries: int = 0
    """Of steps: attempts beyond the first. A plan's tally has those of all its steps."""
    waited: int = 0
    """How many are in `wait_ns`."""
    wait_ns: int = 0
    """How long they waited to start, together."""
    bottlenecks: dict[str, int] = field(default_factory=dict)
    """In how many executions a step of an operation was the bottleneck. An operation's tally has its own only."""
    durations: Histogram = field(default_factory=Histogram)
    """Of those that completed."""
    failures: Histogram = field(default_factory=Histogram)
    """Durations of those that failed."""

    def end(self, outcome: Outcome, *, duration_ns: int, wait_ns: int | None) -> None:
        """Takes one that has ended."""
        match outcome:
            case Outcome.COMPLETED:
                self.completed += 1
                self.durations.add(duration_ns)
            case Outcome.FAILED:
                self.failed += 1
                self.failures.add(duration_ns)
            case Outcome.CANCELLED:
                self.cancelled += 1
                return
            case _:
                assert_never(outcome)
        if wait_ns is not None:
            self.waited += 1
            self.wait_ns += wait_ns

    def merge(self, other: Tally) -> None:
        """Takes all that another one has."""
        self.completed += other.completed
        self.failed += other.failed
        self.cancelled += other.cancelled
        self.retries += other.retries
        self.waited += other.waited
        self.wait_ns += other.wait_ns
        for operation, count in other.bottlenecks.items():
            self.bottlenecks[operation] = self.bottlenecks.get(operation, 0) + count
        self.durations.merge(other.durations)
        self.failures.merge(other.failures)

    def encode(self) -> bytes:
        """Returns it as JSON, which whoever looks into a journal can read."""
        fields: dict[str, object] = {name: value for name in _COUNTS if (value := getattr(self, name))}
        fields |= {name: value for name in _HISTOGRAMS if (value := getattr(self, name).encode())}
        return json.dumps(fields, separators=(",", ":"), sort_keys=True).encode()

    @classmethod
    def decode(cls, encoded: bytes) -> Tally:
        """Returns what was encoded. Raises ValueError, TypeError or KeyError where it can't be."""
        fields = json.loads(encoded)
        return cls(**fields | {name: Histogram.decode(fields[name]) for name in _HISTOGRAMS if name in fields})


_COUNTS = ("completed", "failed", "cancelled", "retries", "waited", "wait_ns", "bottlenecks")
_HISTOGRAMS = ("durations", "failures")


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """What became of the executions that ended in a span."""

    from_time: int | None
    """Where the span begins, in seconds since 1970: a whole hour. Where it is open, the first hour in which an
    execution ended. None: it is open, and none ended before its end.
    """
    before_time: int | None
    """Where it ends, exclusive. Where it is open, the end of the last such hour. None: it is open, and none ended since
    its beginning.
    """
    operations: Mapping[str, Tally]
    """Steps, by operation."""
    plans: Mapping[str, Tally]
    """Executions, by plan."""
    damaged: int = 0
    """How many tallies are left out, since they are not what was written."""


def tallies(summary: Summary, *, tenant: str) -> dict[Key, Tally]:
    """Returns what the end of an execution adds."""
    seconds = summary.end_time_ns // 1_000_000_000
    plan = Tally(bottlenecks={summary.bottleneck: 1} if summary.bottleneck else {})
    plan.end(summary.outcome, duration_ns=summary.duration_ns, wait_ns=summary.wait_ns)
    operations: dict[str, Tally] = {}
    for step in summary.steps:
        tally = operations.setdefault(step.operation, Tally())
        tally.end(step.outcome, duration_ns=step.duration_ns, wait_ns=step.wait_ns)
        tally.retries += step.retries
        plan.retries += step.retries
    if summary.bottleneck:
        operations[summary.bottleneck].bottlenecks[summary.bottleneck] = 1
    found: dict[Key, Tally] = {}
    for width in WIDTHS:
        start = seconds - seconds % width
        found[Key(Period(tenant, Kind.PLAN, width, start), summary.plan)] = plan
        for name, tally in operations.items():
            found[Key(Period(tenant, Kind.OPERATION, width, start), name)] = tally
    return found


def rounded(from_ns: int | None, before_ns: int | None) -> tuple[int | None, int | None]:
    """Returns a span of nanoseconds as the seconds of the whole hours that it touches. None is open."""
    start = None if from_ns is None else from_ns // (HOUR * 10**9) * HOUR
    end = None if before_ns is None else -(-before_ns // (HOUR * 10**9)) * HOUR
    return start, end


def edges(start: int | None, end: int | None, oldest: int | None, newest: int | None) -> tuple[int | None, int | None]:
    """Returns a span that may be open with the edges that `Statistics` has: `oldest` and `newest` are the first and the
    last hour in which an execution ended, if there are any.
    """
    if start is None and oldest is not None and (end is None or oldest < end):
        begin: int | None = oldest
    else:
        begin = start
    if end is None and newest is not None and (start is None or newest >= start):
        return begin, newest + HOUR
    return begin, end


def covering(start: int | None, end: int | None, widths: Sequence[int] = WIDTHS) -> Iterator[tuple[int, int, int]]:
    """Yields what together covers a span of whole hours once: a width, the first start of that width and, exclusive,
    the last. As many large ones as there is room for; smaller ones where the span begins and ends.
    """
    start = _BEGINNING if start is None else start
    end = -_BEGINNING if end is None else end
    *smaller, width = widths
    first = -(-start // width) * width
    last = end // width * width
    if first < last:
        yield from covering(start, first, smaller) if start < first else ()
        yield width, first, last
        yield from covering(last, end, smaller) if last < end else ()
    elif start < end:
        yield from covering(start, end, smaller)


def merged(found: Iterable[tuple[str, Tally]]) -> dict[str, Tally]:
    """Returns the sum of each name's tallies."""
    sums: dict[str, Tally] = {}
    for name, tally in found:
        sums.setdefault(name, Tally()).merge(tally)
    return sums


def typical_of(found: Iterable[tuple[str, Tally]]) -> dict[str, Typical]:
    """Returns what is typical of each operation that has completed, from its tallies."""
    durations: dict[str, Histogram] = {}
    for name, tally in found:
        durations.setdefault(name, Histogram()).merge(tally.durations)
    return {
        name: Typical(count=total, p25=p25, p50=p50, p75=p75)
        for name, histogram in durations.items()
        if (total := histogram.total)
        for p25, p50, p75 in [histogram.quantiles(0.25, 0.5, 0.75)]
    }


def tally_checksum(key: Key, encoded: bytes) -> int:
    """Returns the CRC-32 over a stored tally, and whose it is."""
    period, name = key
    return crc32(encoded, crc32(json.dumps([*period, name]).encode()))
