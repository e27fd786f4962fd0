"""The promises that pauses are a part of: see `checkers`, which has them all in one table.

P1  no lost acknowledgement    what was answered as paused, or as resumed, is so in the journal
P12 dependencies and pauses    what starts, and when; what the events say of a pause; where held steps stop
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from stepwire.v1 import Event, ExecuteRequest, Execution, ExecutionOptions, ExecutionState, StepSkipped

from .history import History, Kept, Reply, events_of, kind_of

__all__ = ["dependencies", "halted", "lost_pauses"]

_PAUSED = ExecutionState.EXECUTION_STATE_PAUSED
_TERMINAL = {"plan_completed", "plan_failed", "plan_cancelled"}
_HALTS = {"plan_paused", "plan_cancelling"}
_ATTEMPT_ENDS = {"step_retrying", "step_completed", "step_failed", "step_cancelled"}
_FROM_OUTSIDE = (_ATTEMPT_ENDS - {"step_completed"}) | {"input_received"}
"""What a step that is held does not say itself."""
_METHODS = ("PauseExecution", "ResumeExecution")


def halted(events: list[Event]) -> str:
    """Returns the kind of the event since which no step may start; empty where they may."""
    for event in reversed(events):
        kind = kind_of(event)
        if kind in _HALTS or kind == "plan_resumed":
            return "" if kind == "plan_resumed" else kind
    return ""


def lost_pauses(history: History) -> Iterator[str]:
    """P1: who was told that an execution is paused, or goes on, finds it so in the events up to what it was told."""
    asked: dict[str, list[Reply]] = defaultdict(list)
    for reply in history.replies:
        if reply.method in _METHODS:
            asked[reply.execution_id].append(reply)
    for execution_id, replies in asked.items():
        kept = history.journal.get(execution_id)
        for reply in replies:
            if kept is None or reply.status != "OK" or any(_overlap(reply, other) for other in replies):
                continue
            as_of = Execution.FromString(reply.execution).as_of_sequence
            # A cancel may stand between the two: it takes back neither.
            told = [kind for kind in map(kind_of, events_of(kept)[:as_of]) if kind in ("plan_paused", "plan_resumed")]
            is_paused = told[-1:] == ["plan_paused"]
            if is_paused != (reply.method == "PauseExecution"):
                yield (
                    f"{execution_id}: {reply.method} was accepted, and as of {as_of} the journal says otherwise: "
                    f"{told[-3:] or 'neither'}"
                )


def _overlap(reply: Reply, other: Reply) -> bool:
    """Whether a call that wants the opposite was under way at the same time."""
    return other.method != reply.method and other.sent < reply.at and (not other.at or other.at > reply.sent)


def dependencies(history: History) -> Iterator[str]:
    """P12: no step starts before all that it depends on is done, and none between pause and resume. The events
    say that it is paused from the one to the other, whoever owns it; and a step that saves then stops there, unless it
    runs at most once.
    """
    once = defaultdict(set)
    for effect in history.effects:
        if effect.at_most_once:
            once[effect.execution_id].add(effect.step_id)
    for kept in history.journal.values():
        stops = not history.stubborn and _steps_only_end_by_themselves(kept)
        state = _Order(kept=kept, stops=stops, once=once[kept.execution_id])
        for event in events_of(kept):
            yield from state.judge(event)


@dataclass(kw_only=True)
class _Order:
    """What the events so far allow in one execution."""

    kept: Kept
    stops: bool
    """Whether nothing but the end of the pause lets a held step go on."""
    once: set[str]
    """The steps that run at most once: they are not held."""
    needs: dict[str, list[str]] = field(default_factory=dict)
    completed: set[str] = field(default_factory=set)
    halted: str = ""
    held: set[str] = field(default_factory=set)

    def judge(self, event: Event) -> Iterator[str]:
        kind, place = kind_of(event), f"{self.kept.execution_id}: {event.step_id or 'event'}"
        match kind:
            case "plan_started":
                self.needs = {step.id: list(step.depends_on) for step in event.plan_started.plan.steps}
            case "plan_revised":
                self.needs |= {step.id: list(step.depends_on) for step in event.plan_revised.steps}
            case "plan_paused":
                if self.halted:
                    yield f"{place} {event.sequence} pauses, after {self.halted}"
                self.halted = kind
            case "plan_cancelling":
                self.halted = kind
            case "plan_resumed":
                if self.halted != "plan_paused":
                    yield f"{place} {event.sequence} resumes, after {self.halted or 'no pause'}"
                self.halted = ""
            case "plan_recovered":
                if (event.plan_recovered.state == _PAUSED) != (self.halted == "plan_paused"):
                    said = ExecutionState.Name(event.plan_recovered.state)
                    yield f"{place} {event.sequence} recovers as {said}, after {self.halted or 'no pause'}"
            case "step_completed":
                self.completed.add(event.step_id)
            case "step_skipped":
                # By a failure: what depends on it never starts. By its own conditions: it is done.
                if event.step_skipped.cause == StepSkipped.CAUSE_CONDITION:
                    self.completed.add(event.step_id)
            case "step_started":
                missing = [
                    step for step in self.needs.get(event.step_id, ["plan_started"]) if step not in self.completed
                ]
                if missing:
                    yield f"{place} started at {event.sequence} before {missing}"
                if self.halted:
                    yield f"{place} started at {event.sequence} after {self.halted}"
        if kind not in _TERMINAL and (event.execution_state == _PAUSED) != (self.halted == "plan_paused"):
            said = ExecutionState.Name(event.execution_state)
            yield f"{place} {event.sequence} ({kind}) says {said}, after {self.halted or 'no pause'}"
        yield from self._stopped(event, kind, place)

    def _stopped(self, event: Event, kind: str, place: str) -> Iterator[str]:
        if kind in ("plan_resumed", "plan_recovered", "plan_cancelling"):
            # With its process an attempt is over; and what is ending is not held.
            self.held.clear()
        elif event.step_id in self.held and kind not in _FROM_OUTSIDE:
            yield f"{place} went on with {kind} at {event.sequence}, after it had saved in a pause"
        if kind == "step_saved" and self.halted == "plan_paused" and self.stops and event.step_id not in self.once:
            self.held.add(event.step_id)
        elif kind in _ATTEMPT_ENDS:
            self.held.discard(event.step_id)


def _steps_only_end_by_themselves(kept: Kept) -> bool:
    """Whether no time limit and no other step's failure ends a step: that says nothing first, and lets it clean up."""
    request = ExecuteRequest.FromString(kept.request)
    return not (
        request.options.HasField("time_limit")
        or request.options.failure_policy == ExecutionOptions.FAILURE_POLICY_FAIL_FAST
        or any(step.HasField("timeout") for step in request.plan.steps)
    )
