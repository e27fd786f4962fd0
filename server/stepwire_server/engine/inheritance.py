"""Lets a new execution keep what completed in an ended one that it retries.

    the earlier events -> what ran, and how it ended -> what runs again -> the record of the new execution
        -> plan_started and, for each step that is kept, the event with which it ended, as the new one's own

A step that is kept ends without having started: its `attempt` is 0. From then on nothing needs the earlier execution.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import NoReturn

from stepwire.errors import (
    AtMostOnce,
    CursorExpired,
    ExecutionEnded,
    ExecutionNotFound,
    JournalDamaged,
    LimitSize,
    PlanInvalid,
    RequestMalformed,
    Violation,
    reason_of,
)
from stepwire.v1 import Event, ExecuteRequest, ExecutionState, Plan, Step, StepState
from stepwire_server.engine.acceptance import aside, check_work, steps_problem
from stepwire_server.engine.earlier import Earlier, Inheritance, read_earlier
from stepwire_server.engine.fold import Fold
from stepwire_server.engine.graph import ID, MAX_STEPS, violations
from stepwire_server.engine.operation import Catalog
from stepwire_server.engine.recorder import Recorder
from stepwire_server.engine.rerun import Rerun, keeps, rerun_of, rerun_request, work_of
from stepwire_server.engine.snapshot import record_to_read
from stepwire_server.journal import ExecutionRecord, Journal

__all__ = ["check_asked", "has_all", "left_to_keep", "prepare", "take_over"]

_log = logging.getLogger(__name__)


def check_asked(step_ids: Sequence[str], request_id: str) -> None:
    """Raises RequestMalformed, which names everything that is wrong with a retry whatever it is of."""
    found = [
        Violation(field, f"{value[:80]!r} does not match [A-Za-z0-9_-]{{1,64}}")
        for field, value in [("request_id", request_id), *((f"step_ids[{i}]", name) for i, name in enumerate(step_ids))]
        if not ID.fullmatch(value) and (value or field != "request_id")
    ]
    if len(step_ids) > MAX_STEPS:
        found = [Violation("step_ids", f"has {len(step_ids):,} ids; a plan has at most {MAX_STEPS:,} steps")]
    _refuse(found)


async def prepare(
    journal: Journal, catalog: Catalog, record: ExecutionRecord, asked: Rerun, step_ids: Sequence[str]
) -> tuple[ExecuteRequest, Inheritance | None]:
    """Returns the request of a retry of an ended execution, and what it keeps: None where there was no plan yet, and
    all begins anew. Raises what the RetryExecution rpc lists.
    """
    first = ExecuteRequest.FromString(record.request)
    earlier = await read_earlier(journal, record)
    kept = keeps(first)
    if kept is not None and (earlier.plan is None or earlier.kept < kept):
        await _refuse_orphan(journal, record.execution_id, rerun_of(first))
    _check_names(step_ids, earlier)
    if record.state == ExecutionState.EXECUTION_STATE_COMPLETED and not step_ids:
        raise ExecutionEnded(
            f"every step of execution {record.execution_id} completed; name those that are to run again (step_ids)",
            metadata={"state": "COMPLETED", "execution_id": record.execution_id},
        )
    if earlier.plan is None:
        work = work_of(first)
        await aside(work.plan, lambda: check_work(work, catalog))
        return rerun_request(asked, first, kept=None), None
    plan = earlier.plan
    inheritance = await aside(plan, lambda: _checked(earlier, asked.step_ids, catalog))
    return rerun_request(asked, first, kept=len(inheritance.events)), inheritance


async def left_to_keep(journal: Journal, record: ExecutionRecord, fold: Fold) -> Inheritance | None:
    """Returns what a retry that its process left is to keep; None where it has all of it, or the earlier execution is
    gone.
    """
    request = ExecuteRequest.FromString(record.request)
    rerun = rerun_of(request)
    if rerun is None or has_all(fold, request):
        return None
    try:
        earlier = await read_earlier(journal, await record_to_read(journal, rerun.execution_id))
    except (ExecutionNotFound, CursorExpired, JournalDamaged) as error:
        _log.error("execution %s can't keep what it was to keep: %s", record.execution_id, error)
        return None
    return earlier.inheritance(rerun.step_ids)


def has_all(fold: Fold, request: ExecuteRequest) -> bool:
    """Returns whether an execution has recorded everything that it begins with, where that is an earlier one's."""
    kept = keeps(request)
    return kept is None or (fold.graph is not None and fold.kept >= kept)


async def take_over(recorder: Recorder, events: Iterable[Event], *, leaving: Callable[[], bool]) -> bool:
    """Records what is kept and is not recorded yet. Returns False where the process lets go before that is done."""
    fold = recorder.fold
    assert fold.graph is not None
    for event in events:
        await recorder.room()
        if leaving():
            return False
        if fold.steps[fold.graph.index[event.step_id]].state != StepState.STEP_STATE_PENDING:
            continue
        try:
            recorder.record(event)
        except LimitSize:
            # It had just room where it ran, with a text that was longer than what is left now.
            event.metadata["kept_from"] = ""
            event.ClearField("message")
            recorder.record(event)
    return True


async def _refuse_orphan(journal: Journal, execution_id: str, rerun: Rerun | None) -> NoReturn:
    """Raises the error for a retry of a retry that ended before it had all that it was to keep: what is missing ran,
    and would run again.
    """
    assert rerun is not None
    await record_to_read(journal, rerun.execution_id)
    raise JournalDamaged(f"execution {execution_id} has not all of {rerun.execution_id}; retry that one")


def _check_names(step_ids: Sequence[str], earlier: Earlier) -> None:
    known = {step.id for step in earlier.plan.steps} if earlier.plan is not None else set()
    shown = ", ".join(step.id for step in earlier.plan.steps[:20]) if earlier.plan is not None else ""
    more = " and more" if len(known) > 20 else ""
    text = f"has no such step; it has {shown}{more}" if known else "ended before it had a plan"
    _refuse(
        [
            Violation(f"step_ids[{i}]", f"is {step_id!r}; execution {earlier.execution_id} {text}")
            for i, step_id in enumerate(step_ids)
            if step_id not in known
        ]
    )


def _refuse(found: list[Violation]) -> None:
    if found:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise RequestMalformed(f"{found[0].field} {found[0].description}{more}", violations=found)


def _checked(earlier: Earlier, step_ids: frozenset[str], catalog: Catalog) -> Inheritance:
    assert earlier.plan is not None
    found = violations(earlier.plan, ran=True)
    if found:
        raise PlanInvalid(f"the plan as it ran can't begin anew: {found[0].description}", violations=found)
    inheritance = earlier.inheritance(step_ids)
    _check_added(earlier, step_ids, inheritance.plan)
    _check_again(earlier, step_ids, inheritance.plan, catalog)
    return inheritance


def _check_added(earlier: Earlier, step_ids: frozenset[str], plan: Plan) -> None:
    """Raises RequestMalformed where a step is left out with an item that it depends on, and what added it does not run
    again: nobody would add it.
    """
    assert earlier.plan is not None
    there = {step.id for step in plan.steps}
    again = {earlier.plan.steps[i].id for i in earlier.to_run(step_ids)}
    _refuse(
        [
            Violation("step_ids", f"does not name {adder!r}, which added {step_id!r}: that needs an item made anew")
            for step_id, adder in earlier.added_by.items()
            if step_id not in there and adder not in again
        ]
    )


def _check_again(earlier: Earlier, step_ids: frozenset[str], plan: Plan, catalog: Catalog) -> None:
    """Raises OperationNotFound and InputInvalid where a step that is to run again can't, and AtMostOnce where one would
    that ran, or may have, and that nobody named. `plan`: what the retry begins with.
    """
    assert earlier.plan is not None
    again = sorted(earlier.to_run(step_ids))
    # Items that are made anew are not there: what these were given says nothing of the ones to come.
    there = {step.id for step in plan.steps}
    problem = steps_problem([(i, step) for i in again if (step := earlier.plan.steps[i]).id in there], catalog)
    if problem is not None:
        raise problem
    named = earlier.named(step_ids)
    found = {
        step.id: why
        for step in (earlier.plan.steps[i] for i in again)
        # A mapped step does nothing itself.
        if step.id not in named and not step.HasField("for_each") and _runs_at_most_once(step, catalog)
        if (why := _why_not_again(earlier, step.id))
    }
    if found:
        first, why = next(iter(found.items()))
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise AtMostOnce(
            f"step_ids does not name {first!r}, which runs at most once: {why}{more}",
            violations=[
                Violation("step_ids", f"does not name {step_id!r}, which runs at most once: {why}")
                for step_id, why in found.items()
            ],
            metadata={"execution_id": earlier.execution_id},
        )


def _runs_at_most_once(step: Step, catalog: Catalog) -> bool:
    operation = catalog.operations.get(step.operation)
    return operation is not None and operation.at_most_once


def _why_not_again(earlier: Earlier, step_id: str) -> str:
    """Returns why a step that runs at most once needs somebody's word to run again; empty where it does not."""
    if earlier.is_done(step_id):
        return "it has completed; name it if it shall run again"
    end = earlier.ends.get(step_id)
    known = end is not None and end.HasField("step_failed") and reason_of(end.step_failed.error) != "OUTCOME_UNKNOWN"
    if known or step_id not in earlier.begun:
        return ""
    return "nobody knows whether it did run; find out, and name it if it shall run again"
