"""What P17 says of the parts of steps: how far a step is by them, and what may follow what. All is reckoned anew at
each event. Operations that have a rule of their own can't be judged so.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from stepwire.v1 import Event, StepState

__all__ = ["parts_of_steps"]

_BEGUN = (StepState.STEP_STATE_RUNNING, StepState.STEP_STATE_PROGRESS)
_ENDS = (StepState.STEP_STATE_COMPLETED, StepState.STEP_STATE_FAILED, StepState.STEP_STATE_CANCELLED)
_NEAR = 1e-6


class _Known(NamedTuple):
    weight: float
    percentage: float
    state: int


def parts_of_steps(events: Iterable[Event]) -> Iterator[str]:
    """Gives what is wrong with the parts in an execution's events: percentages, and the order of their states."""
    by_step: dict[str, list[Event]] = defaultdict(list)
    for event in events:
        by_step[event.step_id].append(event)
    for told in by_step.values():
        yield from _parts_of_a_step(told)


def _parts_of_a_step(events: Iterable[Event]) -> Iterator[str]:
    known: dict[str, _Known] = {}
    own = 0.0
    for event in events:
        if event.HasField("step_started"):
            known, own = {}, 0.0
        if not event.HasField("step_progress"):
            continue
        report = event.step_progress
        told = report.substep
        if report.HasField("substep"):
            before = known.get(told.path)
            begins = told.state == StepState.STEP_STATE_RUNNING
            if not begins and (before is None or before.state not in _BEGUN):
                yield f"{event.sequence}: part {told.path} goes on, and does not run"
            if begins and before is not None and before.state in _BEGUN:
                yield f"{event.sequence}: part {told.path} begins, and runs already"
            if begins and told.percentage != 0:
                yield f"{event.sequence}: part {told.path} begins at {told.percentage} %"
            if (told.state == StepState.STEP_STATE_COMPLETED) and told.percentage != 100:
                yield f"{event.sequence}: part {told.path} has completed at {told.percentage} %"
            if told.state not in (*_BEGUN, *_ENDS):
                yield f"{event.sequence}: part {told.path} is {StepState.Name(told.state)}"
            outer = told.path.rpartition("/")[0]
            if outer and (outer not in known or known[outer].state not in _BEGUN):
                yield f"{event.sequence}: part {told.path} belongs to one that does not run"
            if begins or told.state == StepState.STEP_STATE_COMPLETED:
                known = {path: part for path, part in known.items() if not path.startswith(f"{told.path}/")}
            known[told.path] = _Known(told.weight, told.percentage, told.state)
            if not _is_near(told.percentage, _reckoned(known, told.path, told.percentage)):
                yield f"{event.sequence}: part {told.path} is at {told.percentage} %, and its parts are further"
        for part in report.declared:
            known[part.path] = known.get(part.path, _Known(1, 0, part.state))._replace(weight=part.weight)
        by_parts = _reckoned(known, "", 0)
        if report.HasField("substep") or report.declared:
            if not _is_near(report.percentage, max(own, by_parts)):
                yield f"{event.sequence}: the step is at {report.percentage} %, and its parts come to {by_parts} %"
        elif report.HasField("percentage"):
            # Its own word can't be seen where its parts are further.
            own = report.percentage if report.percentage > by_parts + _NEAR else 0.0


def _reckoned(known: dict[str, _Known], path: str, own: float) -> float:
    parts = [each for each in known if each.rpartition("/")[0] == path]
    if not parts:
        return own
    done = sum(known[each].weight * _part(known, each) for each in parts)
    return max(own, done / sum(known[each].weight for each in parts))


def _part(known: dict[str, _Known], path: str) -> float:
    if known[path].state == StepState.STEP_STATE_COMPLETED:
        return 100.0
    return _reckoned(known, path, known[path].percentage)


def _is_near(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=_NEAR, abs_tol=_NEAR)
