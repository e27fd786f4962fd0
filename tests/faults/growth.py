"""The promises that plans which grow, conditions and mapped steps are a part of: see `checkers`.

P12 what starts, and when      conditions decide as the contract says; items run for their step, so many at once; what
                               can run, does
P17 percentage                 a revision only makes less of what was reached
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from stepwire.v1 import Condition, Event, ExecuteRequest, Step, StepSkipped
from stepwire.values import to_python

from .history import History, events_of, kind_of

__all__ = ["growth", "rebased"]

_ITEM = re.compile(r"(.+)-[1-9][0-9]*")
_ENDS = {"step_completed", "step_failed", "step_skipped", "step_cancelled"}
_NOTHING = object()


def growth(history: History) -> Iterator[str]:
    """P12: a plan grows by steps that it did not have, of a step that runs; conditions skip what they should, and no
    other; the items of a mapped step run while it does, so many at once, and its output is theirs.
    """
    for kept in history.journal.values():
        request = ExecuteRequest.FromString(kept.request)
        options = request.options
        ends_early = options.HasField("time_limit") or options.failure_policy == options.FAILURE_POLICY_FAIL_FAST
        state = _Grown(name=kept.execution_id, simulated=options.simulate, ends_early=ends_early)
        for event in events_of(kept):
            yield from state.judge(event)


def rebased(name: str, before: float, event: Event) -> Iterator[str]:
    """P17: a revision never adds to the percentage, and leaves some of what there was."""
    now = event.progress.percentage
    if now > before or (now == 0) != (before == 0):
        yield f"{name}: {now} % after the revision at {event.sequence}, and {before} % before it"


@dataclass(kw_only=True)
class _Grown:
    """What the events so far say of one execution's plan."""

    name: str
    simulated: bool
    ends_early: bool
    """Whether something else than a cancel may end it before its steps are through."""
    steps: dict[str, Step] = field(default_factory=dict)
    revisions: int = 0
    begun: set[str] = field(default_factory=set)
    outputs: dict[str, Any] = field(default_factory=dict)
    ended: dict[str, str] = field(default_factory=dict)
    running: set[str] = field(default_factory=set)

    def judge(self, event: Event) -> Iterator[str]:
        kind, place = kind_of(event), f"{self.name}: {event.step_id or 'event'} {event.sequence}"
        if kind == "plan_started":
            self.steps = {step.id: step for step in event.plan_started.plan.steps}
        elif kind == "plan_revised":
            yield from self._revised(event, place)
        elif kind == "step_started":
            if event.attempt == 1 and not self.simulated and not self._holds(self.steps[event.step_id]):
                yield f"{place} started, and a condition does not hold"
            yield from self._item_started(event.step_id, place)
            self.begun.add(event.step_id)
            self.running.add(event.step_id)
        elif kind in ("plan_cancelling", "plan_failed"):
            self.ends_early = True
        elif event.step_skipped.cause == StepSkipped.CAUSE_ENDED and not self.ends_early:
            yield f"{place} was skipped because of the end, and nobody had asked for one"
        elif kind == "step_skipped" and event.step_skipped.cause == StepSkipped.CAUSE_CONDITION:
            step = self.steps[event.step_id]
            missing = [name for name in step.depends_on if self.ended.get(name) not in ("done", "skipped")]
            if "kept_from" not in event.metadata and (missing or self._holds(step)):
                yield f"{place} was skipped by its conditions, which hold, or before {missing}"
        if kind == "step_completed":
            self.outputs[event.step_id] = to_python(event.step_completed.output)
            step = self.steps[event.step_id]
            if step.HasField("for_each") and "kept_from" not in event.metadata:
                yield from self._list_made(event.step_id, place)
        if kind == "step_retrying" and self.steps[event.step_id].HasField("for_each"):
            yield f"{place} is tried again, and is a mapped step, which has one attempt"
        if kind in _ENDS | {"step_retrying"}:
            self.running.discard(event.step_id)
        if kind in _ENDS:
            by_condition = event.step_skipped.cause == StepSkipped.CAUSE_CONDITION
            self.ended[event.step_id] = {"step_completed": "done"}.get(kind, "skipped" if by_condition else "lost")

    def _revised(self, event: Event, place: str) -> Iterator[str]:
        self.revisions += 1
        revised = event.plan_revised
        if revised.revision != self.revisions:
            yield f"{place} is revision {revised.revision} where {self.revisions} was due"
        if revised.added_by not in self.running:
            yield f"{place} was added by {revised.added_by!r}, which does not run"
        known = self.steps.keys() | {step.id for step in revised.steps}
        for step in revised.steps:
            if step.id in self.steps:
                yield f"{place} adds {step.id}, which the plan has"
            if missing := set(step.depends_on) - known:
                yield f"{place} adds {step.id}, which depends on {sorted(missing)}"
            if self._parent(step.id) not in ("", revised.added_by):
                yield f"{place} adds {step.id}, which is an item of another step than {revised.added_by}"
            self.steps[step.id] = step

    def _parent(self, step_id: str) -> str:
        found = _ITEM.fullmatch(step_id)
        parent = self.steps.get(found[1]) if found else None
        return parent.id if parent is not None and parent.HasField("for_each") else ""

    def _item_started(self, step_id: str, place: str) -> Iterator[str]:
        parent = self._parent(step_id)
        if not parent:
            return
        if parent not in self.running:
            yield f"{place} started, and {parent}, of which it is an item, does not run"
        most = self.steps[parent].for_each.max_parallel
        together = {name for name in self.running if self._parent(name) == parent} | {step_id}
        if most and len(together) > most:
            yield f"{place} started as one of {len(together)} items at once; {most} may"

    def _list_made(self, step_id: str, place: str) -> Iterator[str]:
        items = [name for name in self.steps if self._parent(name) == step_id]
        expected = [self.outputs.get(name, _NOTHING) for name in items]
        if self.outputs[step_id] != expected or any(self.ended.get(name) != "done" for name in items):
            yield f"{place} completed with {self.outputs[step_id]}; its {len(items)} items had {expected}"

    def _holds(self, step: Step) -> bool:
        return all(_holds(condition, self.outputs) for condition in step.conditions)


def _holds(condition: Condition, outputs: Mapping[str, Any]) -> bool:
    """Reckons a condition by what JSON says of values, and not as the server does."""
    value = outputs.get(condition.output.step_id, _NOTHING)
    for token in condition.output.json_pointer.split("/")[1:]:
        name = token.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict):
            value = value.get(name, _NOTHING)
        elif isinstance(value, list) and name.isdigit() and int(name) < len(value):
            value = value[int(name)]
        else:
            value = _NOTHING
    test = condition.WhichOneof("test")
    if test == "present" or value is _NOTHING:
        return test == "present" and condition.present == (value is not _NOTHING)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    match test:
        case "equals":
            return _text(value) == _text(to_python(condition.equals))
        case "not_equals":
            return _text(value) != _text(to_python(condition.not_equals))
        case "one_of":
            return _text(value) in [_text(to_python(one)) for one in condition.one_of.values]
        case "above":
            return is_number and value > condition.above
        case "below":
            return is_number and value < condition.below
        case _:
            return False


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
