"""How a run is shown as it happens: as lines for people, or as lines of JSON. `live` has the view for terminals."""

from __future__ import annotations

import sys
from typing import Protocol

import click
from google.protobuf.duration_pb2 import Duration

from stepwire.artifacts import is_piece
from stepwire.events import event_type, to_dict
from stepwire.terminal.reports import progress_line
from stepwire.terminal.screen import json_text, say, shortened
from stepwire.v1.event_pb2 import AgentUpdate, Event, InputRequested, StepSkipped, SupervisorUpdate

__all__ = ["JsonView", "PlainView", "View", "kept", "line_of", "percent", "skip_cause", "span_text"]

_QUESTION = 2000
"""Characters of a question's line. `stepwire answer` shows all of it."""


class View(Protocol):
    """Shows events, and is entered before the first and left after the last."""

    def __enter__(self) -> View: ...
    def __exit__(self, *error: object) -> None: ...
    def show(self, event: Event) -> None:
        """Shows one event."""
        ...

    def notice(self, text: str) -> None:
        """Shows a line that is no event's. Called from any thread."""
        ...

    def hold(self) -> None:
        """Leaves the terminal to someone else, until `release`: nothing moves."""
        ...

    def release(self) -> None:
        """Takes the terminal back."""
        ...


class JsonView:
    """Each event as one line of JSON, as `to_dict` has it."""

    def __enter__(self) -> JsonView:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def show(self, event: Event) -> None:
        """Shows one event."""
        click.echo(json_text(to_dict(event)))

    def notice(self, text: str) -> None:
        """Shows a line on standard error."""
        say(f"stepwire: {text}", err=True)

    def hold(self) -> None:
        """Nothing moves here."""

    def release(self) -> None:
        """Nothing moves here."""


class PlainView:
    """Each event as one line of text; pieces of content as they are."""

    def __init__(self) -> None:
        self._in_line = False

    def __enter__(self) -> PlainView:
        return self

    def __exit__(self, *error: object) -> None:
        self._end_line()

    def show(self, event: Event) -> None:
        """Shows one event."""
        if is_piece(event):
            return
        if event.HasField("content"):
            text = event.content.text
            say(text, nl=False)
            self._in_line = not text.endswith("\n") if text else self._in_line
            return
        line = line_of(event)
        if line:
            self._end_line()
            say(line)

    def notice(self, text: str) -> None:
        """Shows a line on standard error: standard output has the run alone."""
        begun = "\n" if self._in_line and sys.stdout.isatty() else ""
        say(f"{begun}stepwire: {text}", err=True)

    def hold(self) -> None:
        """Ends a line that was begun."""
        self._end_line()

    def release(self) -> None:
        """Nothing moves here."""

    def _end_line(self) -> None:
        if self._in_line:
            say()
            self._in_line = False


def line_of(event: Event) -> str:
    """Returns the line for an event, or an empty string where there is nothing to say."""
    progress = event.progress
    place = f"Step {progress.current_step}/{progress.total_steps}: {event.step_name or event.step_id}"
    text = event.message
    match event_type(event):
        case "plan_started":
            count = progress.total_steps or len(event.plan_started.plan.steps)
            earlier = event.metadata.get("retry_of")
            return f"Starting: {count} step{'' if count == 1 else 's'}" + (f", a retry of {earlier}" if earlier else "")
        case "plan_revised":
            more = len(event.plan_revised.steps)
            added = text or (f"{more} more step" if more == 1 else f"{more} more steps")
            return f"Growing: {added} ({progress.total_steps} in all)"
        case "plan_completed":
            done = text or f"{progress.completed_steps}/{progress.total_steps} steps"
            return f"Completed: {done} ({span_text(event.plan_completed.execution_time)})"
        case "plan_failed":
            failed = event.plan_failed
            return f"Failed: {failed.error.message or text} ({span_text(failed.execution_time)})"
        case "plan_cancelled":
            cancelled = event.plan_cancelled
            return f"Cancelled: {cancelled.reason or text} ({span_text(cancelled.execution_time)})"
        case "plan_cancelling":
            return _with("Cancelling", event.plan_cancelling.reason)
        case "plan_paused":
            return _with("Paused", event.plan_paused.reason)
        case "plan_resumed":
            return _with("Resumed", event.plan_resumed.reason)
        case "step_started":
            return f"  {place}" + (f" (attempt {event.attempt})" if event.attempt > 1 else "")
        case "step_completed":
            return f"  {place} ({kept(event) or f'done in {span_text(event.step_completed.execution_time)}'})"
        case "step_failed":
            failed_step = event.step_failed
            return (
                f"  {place} (failed after {span_text(failed_step.execution_time)}): {failed_step.error.message or text}"
            )
        case "step_cancelled":
            return f"  {place} (cancelled)"
        case "step_skipped":
            cause = skip_cause(event)
            return f"  {place} (skipped: {cause})" if cause else f"  {place} (skipped)"
        case "step_retrying":
            retrying = event.step_retrying
            # What would be shown as 0.000s is no wait.
            wait = f" in {span_text(retrying.delay)}" if retrying.delay.ToNanoseconds() >= 500_000 else ""
            return f"  {place} (tries again{wait}): {retrying.error.message or text}"
        case "step_progress":
            return f"{progress.percentage:7.0f}%: {progress_line(event)}"
        case "agent":
            kind = AgentUpdate.Kind.Name(event.agent.kind).removeprefix("KIND_").lower()
            return f"      {event.agent.agent} ({kind}): {text}"
        case "supervisor":
            kind = SupervisorUpdate.Kind.Name(event.supervisor.kind).removeprefix("KIND_").lower()
            return f"      supervisor ({kind}): {text or event.supervisor.reasoning}"
        case "input_requested":
            return f"      asks ({event.input_requested.input_id}): {_question_line(event.input_requested)}"
        case "input_received":
            return f"      {_answer_line(event)} ({event.input_received.input_id})"
        case "stage":
            return f"      {event.stage.name}: {text or event.stage.details}"
        case "error":
            return f"      error: {event.error.error.message or text}"
        case "artifact":
            return f"      made: {event.artifact.name}"
        case _:
            # Also the kinds of a newer server: the envelope is still true.
            return f"      {text}" if text else ""


def kept(event: Event) -> str:
    """Returns where a step ran that is done although it did not run here; an empty string of any other."""
    earlier = event.metadata.get("kept_from")
    if earlier is None or not event.HasField("step_completed"):
        return ""
    return f"kept from {earlier}" if earlier else "kept"


def percent(percentage: float) -> str:
    """Returns a percentage for people: 100 % only where nothing is left to do."""
    return f"{min(round(percentage), 99) if percentage < 100 else 100}%"


def span_text(span: Duration) -> str:
    """Returns a span for people: 0.002s, 12.3s, 4m 05s, 2h 04m."""
    seconds = span.seconds + span.nanos / 1e9
    if seconds < 10:
        return f"{seconds:.3f}s"
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}m {rest:02d}s" if minutes < 60 else f"{minutes // 60}h {minutes % 60:02d}m"


def _question_line(requested: InputRequested) -> str:
    choices = f" [{' | '.join(requested.choices)}]" if requested.choices else ""
    return shortened(" ".join(f"{requested.prompt}{choices}".split()), _QUESTION)


def _answer_line(event: Event) -> str:
    received = event.input_received
    if not received.expired:
        return f"answered by {' '.join(received.actor.split())}" if received.actor else "answered"
    return "not answered in time, the default is taken" if received.HasField("value") else "not asked any more"


def _with(word: str, reason: str) -> str:
    return f"{word}: {reason}" if reason else word


def skip_cause(event: Event) -> str:
    """Returns why a step was skipped; an empty string where that is not known."""
    match event.step_skipped.cause:
        case StepSkipped.CAUSE_DEPENDENCY:
            return f"{event.step_skipped.failed_step_id} did not complete"
        case StepSkipped.CAUSE_CONDITION:
            # The server says which of them, and what was found.
            _, said, why = event.message.partition("Skipped: ")
            return why if said else "its condition does not hold"
        case StepSkipped.CAUSE_ENDED:
            return "the execution ended before its turn"
        case _:
            return ""
