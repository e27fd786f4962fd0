"""A run on a terminal: a bar for the whole and for each step that runs, and a line that stays for each that is done."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from stepwire.events import event_type
from stepwire.terminal.views import line_of, span_text
from stepwire.v1.event_pb2 import Event

__all__ = ["LiveView"]

_STAYING = frozenset(
    {
        "agent",
        "artifact",
        "error",
        "input_received",
        "input_requested",
        "plan_cancelling",
        "stage",
        "step_retrying",
        "supervisor",
    }
)
"""Kinds whose line stays on the terminal. Progress only changes a bar."""

_ENDINGS = {
    "step_completed": ("green", "done"),
    "step_failed": ("red", "failed"),
    "step_skipped": ("yellow", "skipped"),
    "step_cancelled": ("yellow", "cancelled"),
}


class LiveView:
    """Bars that move in place. What has ended moves up and stays."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            TextColumn("[dim]{task.fields[message]}", justify="left"),
            console=console,
            expand=False,
        )
        self._whole = self._bars.add_task("[bold]Accepted", total=100, message="")
        self._steps: dict[str, TaskID] = {}
        self._text = ""  # the piece of a line of content that is not whole yet

    def __enter__(self) -> LiveView:
        self._bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        for bar in self._steps.values():
            self._bars.remove_task(bar)
        self._bars.stop()

    def show(self, event: Event) -> None:
        """Shows one event."""
        kind = event_type(event)
        progress = event.progress
        counts = f"{progress.completed_steps}/{progress.total_steps} steps" if progress.total_steps else ""
        self._bars.update(
            self._whole, completed=progress.percentage, message=_line(event.message) if not event.step_id else counts
        )
        match kind:
            case "plan_started":
                self._bars.update(self._whole, description="[bold]Running")
            case "plan_completed" | "plan_failed" | "plan_cancelled":
                self._flush()
                colour, name = {"plan_completed": ("green", "Completed"), "plan_failed": ("red", "Failed")}.get(
                    kind, ("yellow", "Cancelled")
                )
                text = line_of(event).split(": ", 1)[-1]
                self._bars.update(self._whole, description=f"[bold {colour}]{name}", message=_line(text))
            case "step_started":
                self._start(event)
            case "step_progress":
                self._move(event)
            case "step_completed" | "step_failed" | "step_skipped" | "step_cancelled":
                self._finish(event, kind)
            case "content":
                self._content(event.content.text)
            case _ if kind in _STAYING:
                self._console.print(escape(line_of(event)), highlight=False)

    def _start(self, event: Event) -> None:
        again = f" [yellow](attempt {event.attempt})[/]" if event.attempt > 1 else ""
        description = f"  {event.progress.current_step}/{event.progress.total_steps} {_line(event.step_name)}{again}"
        if event.step_id in self._steps:
            self._bars.reset(self._steps[event.step_id], description=description, total=100, message="")
        elif len(self._steps) < max(1, self._console.height - 4):
            # Beyond the height of the terminal steps run without a bar; they still get their last line.
            self._steps[event.step_id] = self._bars.add_task(description, total=100, message=_line(event.message))

    def _move(self, event: Event) -> None:
        bar = self._steps.get(event.step_id)
        if bar is None:
            return
        report = event.step_progress
        message = _line(event.message or report.stage or report.substep.name)
        if report.HasField("percentage") and not report.HasField("substep"):
            self._bars.update(bar, completed=report.percentage, message=message)
        else:
            self._bars.update(bar, message=message)

    def _finish(self, event: Event, kind: str) -> None:
        bar = self._steps.pop(event.step_id, None)
        if bar is not None:
            self._bars.remove_task(bar)
        colour, name = _ENDINGS[kind]
        place = f"{event.progress.current_step}/{event.progress.total_steps} {_line(event.step_name or event.step_id)}"
        match kind:
            case "step_completed":
                rest = span_text(event.step_completed.execution_time)
            case "step_failed":
                rest = _line(event.step_failed.error.message or event.message)
            case _:
                rest = _line(event.message)
        self._console.print(f"  [{colour}]{name:9}[/] {place}  [dim]{rest}[/]", highlight=False)

    def _content(self, text: str) -> None:
        *lines, self._text = (self._text + text).split("\n")
        for line in lines:
            self._console.print(escape(line), highlight=False)

    def _flush(self) -> None:
        if self._text:
            self._content("\n")


def _line(text: str) -> str:
    """Returns a text as one line that rich does not take for markup."""
    return escape(" ".join(text.split()))
