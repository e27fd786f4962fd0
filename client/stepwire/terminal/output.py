"""What the terminal client prints beside events: outputs, snapshots, plans, operations and errors."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import click
from google.rpc import code_pb2
from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.markdown import Markdown

from stepwire.errors import CallFailed, LimitReached, PlanNotFound, StepwireError
from stepwire.events import execution_to_dict, message_to_dict
from stepwire.patience import can_pass
from stepwire.terminal.remaining import remaining_text
from stepwire.terminal.screen import harmless, json_text, say
from stepwire.terminal.steps import Account
from stepwire.terminal.views import percent, span_text
from stepwire.v1.event_pb2 import Progress
from stepwire.v1.execution_pb2 import Execution
from stepwire.v1.execution_service_pb2 import ListOperationsResponse
from stepwire.v1.plan_pb2 import Plan

__all__ = [
    "cut",
    "error_text",
    "print_execution",
    "print_json",
    "print_operations",
    "print_output",
    "print_plan",
    "print_table",
]


def print_json(value: object) -> None:
    """Prints one line of JSON."""
    click.echo(json_text(value))


def print_output(output: Any, *, console: Console) -> None:
    """Prints what an execution returned: a field `markdown` as Markdown, else indented JSON; nothing for None."""
    if output is None:
        return
    text = output.get("markdown") if isinstance(output, dict) else None
    if isinstance(text, str):
        if console.is_terminal:
            console.print(Markdown(harmless(text)))
        else:
            say(text)
    else:
        say(json.dumps(output, ensure_ascii=False, indent=2))


def print_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Prints columns, as wide as their widest text. On a terminal a row is cut where it would be more than a line."""
    console = Console()
    table = [list(head), *(list(row) for row in rows)]
    widths = [max(len(row[column]) for row in table) for column in range(len(head))]
    for row in table:
        line = "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        say(cut(line, console.width) if console.is_terminal else line)


def _remaining(progress: Progress) -> str:
    if not progress.HasField("remaining"):
        return ""
    left, margin = (span.ToNanoseconds() / 1e9 for span in (progress.remaining, progress.remaining_margin))
    return remaining_text(left, margin)


def cut(text: str, width: int) -> str:
    """Returns a text that is at most so many columns of a terminal wide, with an ellipsis where it was cut."""
    return text if cell_len(text) <= width else set_cell_size(text, width - 1).rstrip() + "…"


def print_execution(execution: Execution, gathered: Account) -> None:
    """Prints a snapshot, one fact a line, and a table of its steps."""
    progress = execution.progress
    facts = execution_to_dict(execution)
    lines = {
        "execution": execution.execution_id,
        "state": facts["state"],
        "progress": percent(progress.percentage)
        + f", {progress.completed_steps} of {progress.total_steps} steps completed"
        + (f", {progress.failed_steps} failed" if progress.failed_steps else "")
        + (f", {progress.skipped_steps} skipped" if progress.skipped_steps else ""),
        "elapsed": span_text(progress.elapsed),
        "remaining": _remaining(progress),
        "query": execution.query,
        "plan": execution.plan_name,
        "session": execution.session_id,
        "request id": execution.request_id,
        "labels": ", ".join(f"{key}={value}" for key, value in sorted(execution.labels.items())),
        "created": facts.get("create_time", ""),
        "ended": facts.get("end_time", ""),
        "asked": gathered.said,
        "retry of": gathered.retried,
        "error": execution.error.message,
        "last event": str(execution.as_of_sequence),
    }
    for name, value in lines.items():
        if value:
            say(f"{name:<12}{value}")
    if gathered.rows:
        say()
        print_table(("#", "STEP", "STATE", "ATTEMPT", "TIME", ""), [_lines(row) for row in gathered.rows])
    if gathered.left_out:
        say(f"  and {gathered.left_out:,} that are done or have not begun")


def _lines(row: Sequence[str]) -> list[str]:
    """Returns a row whose texts have a line each."""
    return [" ".join(text.split()) for text in row]


def print_plan(plan: Plan) -> None:
    """Prints a plan's steps with what they wait for."""
    say(f"{plan.name or 'Plan'}: {len(plan.steps)} step{'' if len(plan.steps) == 1 else 's'}")
    names = {step.id: str(index) for index, step in enumerate(plan.steps, 1)}
    for index, step in enumerate(plan.steps, 1):
        after = ", ".join(names.get(other, other) for other in step.depends_on)
        say(f"  {index}. {step.name or step.id} [{step.operation}]" + (f" after {after}" if after else ""))
    if plan.HasField("analysis"):
        analysis = message_to_dict(plan)["analysis"]
        say("Understood: " + json.dumps(analysis, ensure_ascii=False, indent=2))


def print_operations(response: ListOperationsResponse) -> None:
    """Prints what a server can run."""
    for title, entries in (("Operations", response.operations), ("Plans", response.plans)):
        if entries:
            say(f"{title}:")
            for entry in entries:
                say(f"  {entry.name}({_parameters(message_to_dict(entry).get('input_schema', {}))})")
                if entry.description:
                    say(f"      {entry.description.strip().splitlines()[0]}")
    if response.has_planner:
        say(f"Queries: {response.planner_description or 'this server plans them.'}")


def error_text(error: StepwireError, *, server: str, request_id: str = "") -> str:
    """Returns what went wrong and what to do, in one or a few lines. `request_id` is that of what was to be started."""
    text = _error_text(error, server=server)
    # What could not be sent was not accepted.
    if request_id and can_pass(error) and not isinstance(error, LimitReached) and "connect" not in error.message:
        text += f"\n  It may have been accepted all the same: the same command with --request-id {request_id} finds it."
    return text


def _error_text(error: StepwireError, *, server: str) -> str:
    if isinstance(error, CallFailed) and error.status_code == code_pb2.UNAVAILABLE:
        # gRPC tells the whole way to the cause, which comes last, at times in a list of which one bracket is left.
        cause = error.message.rsplit(": ", 1)[-1]
        cause = cause if "[" in cause else cause.rstrip("]")
        return f"{server} can't be reached: {cause}\n  Is a server running there?"
    if isinstance(error, CallFailed):
        return f"{server} did not do it: {error.message} ({code_pb2.Code.Name(error.status_code)})"
    text = str(error)
    if isinstance(error, LimitReached) and error.retry_after is not None:
        text += f"\n  Try again in {error.retry_after.total_seconds():.0f} s."
    if isinstance(error, PlanNotFound):
        text += "\n  A single operation is run with: stepwire run --step OPERATION --input JSON"
    return text


def _parameters(schema: dict[str, Any]) -> str:
    # A Struct has no order of its own. What is required is listed in the signature's, the rest follows by name.
    required = list(schema.get("required", []))
    places = {name: place for place, name in enumerate(required)}
    properties = sorted(
        schema.get("properties", {}).items(), key=lambda entry: (places.get(entry[0], len(places)), entry[0])
    )
    return ", ".join(
        f"{name}: {value.get('type', 'any') if isinstance(value, dict) else 'any'}" + ("" if name in required else "?")
        for name, value in properties
    )
