"""Statistics as callers see them, from the journal's tallies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from stepwire.errors import RequestMalformed, Violation
from stepwire.v1 import GetStatisticsRequest, GetStatisticsResponse, OperationStatistics, PlanStatistics
from stepwire_server.api.filters import TIMES
from stepwire_server.journal import Statistics, Tally
from stepwire_server.journal.histogram import Histogram

__all__ = ["Span", "answer_of", "checked_span"]

_MOST_NAMES = 1_000
"""In a request, and plans in a response."""


class Span(NamedTuple):
    """What was asked for, in nanoseconds since 1970. None: open."""

    from_ns: int | None
    before_ns: int | None


def checked_span(request: GetStatisticsRequest) -> Span:
    """Returns the span that a request names. Raises RequestMalformed with everything that is wrong with the request."""
    found = [
        Violation(name, f"has {count:,} entries; at most {_MOST_NAMES:,} are allowed")
        for name in ("operations", "plans")
        if (count := len(getattr(request, name))) > _MOST_NAMES
    ]
    for name in ("from_time", "before_time"):
        time: Timestamp = getattr(request, name)
        if not (TIMES[0] <= time.seconds <= TIMES[1] and 0 <= time.nanos < 10**9):
            found.append(Violation(name, "is not a time of the years 1 to 9999"))
    span = Span(*(_nanoseconds(request, name) for name in ("from_time", "before_time")))
    if not found and span.from_ns is not None and span.before_ns is not None and span.from_ns >= span.before_ns:
        found.append(Violation("before_time", "is not after from_time"))
    if found:
        raise RequestMalformed(f"{found[0].field} {found[0].description}", violations=found)
    return span


def answer_of(found: Statistics, request: GetStatisticsRequest) -> GetStatisticsResponse:
    """Returns what was found of what was asked for."""
    plans = _chosen(found.plans, request.plans)
    shown = plans
    if len(plans) > _MOST_NAMES:
        most = sorted(plans, key=lambda name: (-_ended(plans[name]), name))[:_MOST_NAMES]
        shown = {name: plans[name] for name in sorted(most)}
    response = GetStatisticsResponse(
        operations=[_operation(*entry) for entry in _chosen(found.operations, request.operations).items()],
        plans=[_plan(*entry) for entry in shown.items()],
        completed_executions=sum(tally.completed for tally in found.plans.values()),
        failed_executions=sum(tally.failed for tally in found.plans.values()),
        cancelled_executions=sum(tally.cancelled for tally in found.plans.values()),
        omitted_plans=len(plans) - len(shown),
        damaged_tallies=found.damaged,
    )
    for name, seconds in (("from_time", found.from_time), ("before_time", found.before_time)):
        if seconds is not None:
            getattr(response, name).seconds = min(max(seconds, TIMES[0]), TIMES[1])
    return response


def _chosen(tallies: Mapping[str, Tally], names: Sequence[str]) -> dict[str, Tally]:
    wanted = set(names) or tallies.keys()
    return {name: tallies[name] for name in sorted(tallies) if name in wanted}


def _ended(tally: Tally) -> int:
    return tally.completed + tally.failed + tally.cancelled


def _operation(name: str, tally: Tally) -> OperationStatistics:
    shown = OperationStatistics(
        operation=name,
        count=tally.completed + tally.failed,
        failed=tally.failed,
        cancelled=tally.cancelled,
        retries=tally.retries,
        bottleneck=tally.bottlenecks.get(name, 0),
    )
    _measure(shown, tally)
    return shown


def _plan(name: str, tally: Tally) -> PlanStatistics:
    shown = PlanStatistics(
        plan=name,
        completed=tally.completed,
        failed=tally.failed,
        cancelled=tally.cancelled,
        retries=tally.retries,
    )
    if tally.bottlenecks:
        shown.bottleneck = min(tally.bottlenecks, key=lambda operation: (-tally.bottlenecks[operation], operation))
        shown.bottleneck_count = tally.bottlenecks[shown.bottleneck]
    _measure(shown, tally)
    return shown


def _measure(shown: OperationStatistics | PlanStatistics, tally: Tally) -> None:
    """Writes what both have: the failure rate, the percentiles, the wait."""
    count = tally.completed + tally.failed
    if count:
        shown.failure_rate = tally.failed / count
        both = Histogram()
        both.merge(tally.durations)
        both.merge(tally.failures)
        for target, seconds in zip((shown.p50, shown.p95, shown.p99), both.quantiles(0.5, 0.95, 0.99), strict=True):
            _set(target, round(seconds * 1e9))
    if tally.waited:
        _set(shown.mean_wait, tally.wait_ns // tally.waited)


def _set(target: Duration, nanoseconds: int) -> None:
    target.SetInParent()
    target.FromNanoseconds(nanoseconds)


def _nanoseconds(request: GetStatisticsRequest, name: str) -> int | None:
    if not request.HasField(name):  # type: ignore[arg-type]  # One of two literals.
        return None
    time: Timestamp = getattr(request, name)
    return time.seconds * 10**9 + time.nanos
