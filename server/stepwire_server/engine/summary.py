"""What an execution tells at its end, for the journal's statistics."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from stepwire.v1 import EventBatch, ExecuteRequest, ExecutionState, StepState
from stepwire_server.engine.fold import Fold
from stepwire_server.engine.graph import MAX_NAME, Graph
from stepwire_server.engine.rerun import is_planned, plan_name_of
from stepwire_server.engine.times import Moment, Times, between
from stepwire_server.journal import Chunk, ExecutionRecord, Outcome, StepSummary, Summary

__all__ = ["SummaryReader", "summary_of"]

_log = logging.getLogger(__name__)

_EXECUTION = {
    ExecutionState.EXECUTION_STATE_COMPLETED: Outcome.COMPLETED,
    ExecutionState.EXECUTION_STATE_FAILED: Outcome.FAILED,
    ExecutionState.EXECUTION_STATE_CANCELLED: Outcome.CANCELLED,
}
_STEP = {
    StepState.STEP_STATE_COMPLETED: Outcome.COMPLETED,
    StepState.STEP_STATE_FAILED: Outcome.FAILED,
    StepState.STEP_STATE_CANCELLED: Outcome.CANCELLED,
}


def summary_of(fold: Fold, request: ExecuteRequest) -> Summary | None:
    """Returns what an ended execution tells; None of one that was simulated, which tells nothing of its operations.
    Steps that never started are not in it, and so neither is what a retry keeps of an earlier execution.
    """
    if request.options.simulate:
        return None
    graph, times = fold.graph, fold.times
    plan = plan_name_of(request) or (graph.name if graph is not None else "")
    ran = _ran(times)
    first = times.first
    return Summary(
        outcome=_EXECUTION[fold.state],
        plan=plan[:MAX_NAME],
        end_time_ns=fold.end_ns,
        duration_ns=fold.end_ns - fold.create_ns,
        wait_ns=None if first is None else between(Moment(fold.create_ns), first),
        bottleneck="" if graph is None else _bottleneck(graph, times, ran),
        steps=[] if graph is None else list(_steps(graph, fold, ran)),
    )


class SummaryReader:
    """Makes the summary of an ended execution from its record and all its chunks, as they stand in a journal."""

    def __init__(self, record: ExecutionRecord) -> None:
        self._record = record
        self._request: ExecuteRequest | None = None
        self._fold: Fold | None = None
        try:
            self._request = ExecuteRequest.FromString(record.request)
            self._fold = Fold(create_ns=record.create_time_ns, planning=is_planned(self._request))
        except Exception as error:
            self._give_up(error)

    def take(self, chunk: Chunk) -> None:
        """Takes the next events. What does not fit together is for others to judge: it is only not counted."""
        if self._fold is None:
            return
        try:
            for event in EventBatch.FromString(chunk.data).events:
                self._fold.apply(event, event.WhichOneof("kind") or "", event.event_time.ToNanoseconds())
        except Exception as error:
            self._give_up(error)

    def summary(self) -> Summary | None:
        """Returns what the execution tells; None where it has not ended, or tells nothing."""
        if self._fold is None or self._request is None or not self._fold.ended:
            return None
        return summary_of(self._fold, self._request)

    def _give_up(self, error: Exception) -> None:
        self._fold = None
        _log.warning("execution %s is not counted: its events do not fit: %r", self._record.execution_id, error)


def _ran(times: Times) -> list[int]:
    """Returns the steps that started and ended, by their index."""
    return sorted(i for i, step in times.steps.items() if step.started is not None and step.ended is not None)


def _steps(graph: Graph, fold: Fold, ran: list[int]) -> Iterator[StepSummary]:
    times, index = fold.times, graph.index
    ends = {i: step.ended for i, step in times.steps.items() if step.ended is not None}
    for i in ran:
        if i in graph.items:
            continue  # What took its time is in its items.
        step, found = graph.steps[i], times.steps[i]
        assert found.started is not None
        # It could start when it was in the plan, and all that it depends on had ended.
        ready = times.declared(i)
        for name in step.depends_on:
            end = ends.get(index[name], ready)
            if end.ns > ready.ns:
                ready = end
        yield StepSummary(
            operation=step.operation,
            outcome=_STEP[fold.steps[i].state],
            duration_ns=found.duration,
            wait_ns=between(ready, found.started),
            retries=fold.steps[i].attempt - 1,
        )


def _bottleneck(graph: Graph, times: Times, ran: list[int]) -> str:
    """Returns the operation of the step that took longest on the critical path: from the step that ended last, back
    from each to the one that it waited for last. Empty where no step ran.
    """
    if not ran:
        return ""

    def end(i: int) -> tuple[int, int]:
        ended = times.steps[i].ended
        return (0 if ended is None else ended.ns, i)

    here = max(ran, key=end)
    longest, operation = -1, ""
    while True:
        step = times.steps[here]
        if step.started is not None and step.duration >= longest and here not in graph.items:
            longest, operation = step.duration, graph.steps[here].operation
        # A mapped step waits for its items, too: it ends with the last of them.
        waited_for = [*graph.needs(here), *graph.items.get(here, ())]
        needed = [i for i in waited_for if i in times.steps and times.steps[i].ended is not None]
        if not needed:
            return operation
        here = max(needed, key=end)
