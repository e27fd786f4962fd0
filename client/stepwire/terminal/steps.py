"""What became of each step, gathered from events: the table that `stepwire show` prints."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from stepwire.events import event_type
from stepwire.terminal.screen import shortened
from stepwire.terminal.views import kept, skip_cause, span_text
from stepwire.v1.event_pb2 import Event
from stepwire.v1.plan_pb2 import Plan, Step

__all__ = ["KINDS", "Account", "account"]

KINDS = (
    "plan_started",
    "step_started",
    "input_requested",
    "input_received",
    "step_retrying",
    "step_completed",
    "step_failed",
    "step_skipped",
    "step_cancelled",
    "plan_paused",
    "plan_resumed",
    "plan_cancelling",
    "plan_recovered",
)
"""The kinds of events that an account needs."""

_PROMPT = 100
"""Characters of a question."""

_MOST = 100
"""Steps that are listed one by one. Of a longer plan only those that are not simply done, or not begun."""


@dataclass(slots=True)
class _Line:
    name: str
    state: str = "pending"
    attempt: int = 0
    took: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Account:
    """What an execution's events tell beside its snapshot."""

    rows: Sequence[tuple[str, ...]]
    """Of each step: its number, name, state, attempts, time, and why it is so. At most 100."""
    left_out: int
    """Steps that are not among them."""
    said: str
    """Who paused or cancelled it and why. Empty where nobody did, or it was resumed."""
    retried: str
    """What it is a retry of, who asked for it and why. Empty of any other."""


def account(plan: Plan, events: Iterable[Event]) -> Account:
    """Returns the account of a plan's steps by events of `KINDS`, in their order."""
    lines = {step.id: _Line(_named(step)) for step in plan.steps}
    said = retried = ""
    for event in events:
        kind = event_type(event)
        if kind in ("plan_paused", "plan_cancelling", "plan_resumed"):
            said = "" if kind == "plan_resumed" else _said(event)
        if kind == "plan_started" and "retry_of" in event.metadata:
            about = event.metadata
            retried = _with(about["retry_of"], actor=about.get("actor", ""), reason=about.get("reason", ""))
        line = lines.get(event.step_id)
        if line is not None:
            _move(line, event, kind)
    numbered = [
        (str(number), line.name, line.state, str(line.attempt or ""), line.took, line.note)
        for number, line in enumerate(lines.values(), 1)
    ]
    if len(numbered) > _MOST:
        numbered = [row for row in numbered if row[2] not in ("pending", "completed")][:_MOST]
    return Account(rows=numbered, left_out=len(lines) - len(numbered), said=said, retried=retried)


def _move(line: _Line, event: Event, kind: str) -> None:
    line.attempt = event.attempt or line.attempt
    line.took = line.note = ""
    match kind:
        case "step_started":
            line.state = "running"
        case "input_requested":
            line.state, line.note = "waiting", f"asks: {shortened(event.input_requested.prompt, _PROMPT)}"
        case "input_received":
            line.state = "running"
        case "step_retrying":
            line.state, line.note = "retrying", event.step_retrying.error.message
        case "step_completed":
            line.state, line.took = "completed", span_text(event.step_completed.execution_time)
            line.note = kept(event)
        case "step_failed":
            failed = event.step_failed
            line.state, line.took, line.note = "failed", span_text(failed.execution_time), failed.error.message
        case "step_skipped":
            line.state, line.note = "skipped", skip_cause(event)
        case "step_cancelled":
            line.state = "cancelled"


def _named(step: Step) -> str:
    """Returns a step's name, and its id where that is another one: commands want ids."""
    return f"{step.name} ({step.id})" if step.name and step.name != step.id else step.id


def _said(event: Event) -> str:
    control = event.plan_paused if event.HasField("plan_paused") else event.plan_cancelling
    word = "paused" if event.HasField("plan_paused") else "cancelled"
    return _with(word, actor=control.actor, reason=control.reason)


def _with(word: str, *, actor: str, reason: str) -> str:
    return word + (f" by {actor}" if actor else "") + (f": {reason}" if reason else "")
