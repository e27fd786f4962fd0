"""What a report of progress says, of a step or of one of its parts, in a line for people."""

from __future__ import annotations

from stepwire.parts import names_of
from stepwire.v1.event_pb2 import Event, StepState

__all__ = ["part_name", "progress_line", "progress_text", "why_failed"]

_PART_ENDINGS = {
    StepState.STEP_STATE_COMPLETED: "done",
    StepState.STEP_STATE_FAILED: "failed",
    StepState.STEP_STATE_SKIPPED: "skipped",
    StepState.STEP_STATE_CANCELLED: "cancelled",
}


def progress_text(event: Event) -> str:
    """Returns what a report of progress says beside its percentages: its text, its stage, the pieces that are done. An
    empty string where it says that a part begins or has ended.
    """
    report = event.step_progress
    state = report.substep.state
    if state == StepState.STEP_STATE_RUNNING or state in _PART_ENDINGS:
        return ""
    said = [event.message or report.stage]
    if report.HasField("current"):
        of = f" of {report.total:g}" if report.HasField("total") else ""
        counted = f"{report.current:g}{of} {report.unit}".rstrip()
        if counted not in event.message:
            said.append(counted)
    return ", ".join(text for text in said if text)


def part_name(event: Event) -> str:
    """Returns the names that lead to the part that a report is about; an empty string where it is about none."""
    return " > ".join(names_of(event.step_progress.substep.path))


def why_failed(event: Event) -> str:
    """Returns why the part failed that a report is about."""
    name = event.step_progress.substep.name
    return event.message.removeprefix(f"Failed: {name}").removeprefix(": ")


def progress_line(event: Event) -> str:
    """Returns the line for a report, without the percentage of the whole. A part has the names that lead to it."""
    report = event.step_progress
    step = event.step_name or event.step_id
    said = progress_text(event)
    if report.HasField("substep"):
        place, ending = part_name(event) or step, _PART_ENDINGS.get(report.substep.state)
        if ending:
            failed = report.substep.state == StepState.STEP_STATE_FAILED
            return f"{place} ({_with(ending, why_failed(event)) if failed else ending})"
        if not said and report.substep.state != StepState.STEP_STATE_RUNNING:
            said = f"{report.substep.percentage:.0f}%"
        return _with(place, said)
    if said:
        # What is counted says more with the step's name before it.
        return said if event.message or report.stage else _with(step, said)
    return _with(step, f"{report.percentage:.0f}%" if report.HasField("percentage") else "")


def _with(what: str, said: str) -> str:
    return f"{what}: {said}" if said else what
