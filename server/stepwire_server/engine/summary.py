"""What an execution tells at its end, for the journal's statistics."""

from __future__ import annotations

from collections.abc import Iterator

from stepwire.v1 import ExecuteRequest, ExecutionState, StepState
from stepwire_server.engine.fold import Fold
from stepwire_server.engine.graph import MAX_NAME, Graph
from stepwire_server.engine.rerun import plan_name_of
from stepwire_server.engine.times import Moment, Times, between
from stepwire_server.journal import Outcome, StepSummary, Summary

__all__ = ["summary_of"]

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
    plan = plan_name_of(request) or (graph.plan.name if graph is not None else "")
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


def _ran(times: Times) -> list[int]:
    """Returns the steps that started and ended, by their index."""
    return sorted(i for i, step in times.steps.items() if step.started is not None and step.ended is not None)


def _steps(graph: Graph, fold: Fold, ran: list[int]) -> Iterator[StepSummary]:
    for i in ran:
        found = fold.times.steps[i]
        assert found.started is not None
        yield StepSummary(
            operation=graph.steps[i].operation,
            outcome=_STEP[fold.steps[i].state],
            duration_ns=found.duration,
            wait_ns=between(_ready(graph, fold.times, i), found.started),
            retries=fold.steps[i].attempt - 1,
        )


def _ready(graph: Graph, times: Times, index: int) -> Moment:
    """Returns when a step could have started: when it was in the plan and all that it depends on had ended."""
    found = times.declared(index)
    for i in _needed(graph, times, index):
        ended = times.steps[i].ended
        if ended is not None and ended.ns > found.ns:
            found = ended
    return found


def _bottleneck(graph: Graph, times: Times, ran: list[int]) -> str:
    """Returns the operation of the step that took longest on the critical path: from the step that ended last, back
    from each to the one that it waited for last. Empty where no step ran.
    """
    if not ran:
        return ""
    here = max(ran, key=lambda i: _end(times, i))
    longest, operation = -1, ""
    while True:
        step = times.steps[here]
        if step.started is not None and step.duration >= longest:
            longest, operation = step.duration, graph.steps[here].operation
        needed = _needed(graph, times, here)
        if not needed:
            return operation
        here = max(needed, key=lambda i: _end(times, i))


def _needed(graph: Graph, times: Times, index: int) -> list[int]:
    """Returns the steps that a step depends on and that have ended."""
    found = (graph.index[name] for name in graph.steps[index].depends_on)
    return [i for i in found if i in times.steps and times.steps[i].ended is not None]


def _end(times: Times, index: int) -> tuple[int, int]:
    ended = times.steps[index].ended
    return (0 if ended is None else ended.ns, index)
