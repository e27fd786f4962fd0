"""A run on a terminal: a bar for the whole and for each step that runs, and a line that stays for each that is done."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column
from rich.text import Text

from stepwire.events import event_type
from stepwire.terminal.screen import harmless
from stepwire.terminal.views import kept, line_of, span_text
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
        "plan_paused",
        "plan_resumed",
        "plan_revised",
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


_PERCENTAGE, _CLOCK, _GAPS = 4, 7, 4
"""Columns of the terminal that each line of bars needs beside its name, its bar and its message."""


class _Message(ProgressColumn):
    """The last column: it takes what the others leave, and is cut where that is too little."""

    def __init__(self) -> None:
        super().__init__(table_column=Column(ratio=1))

    def render(self, task: Task) -> Text:
        return Text(task.fields["message"], style="dim", no_wrap=True, overflow="ellipsis")


class LiveView:
    """Bars that move in place. What has ended moves up and stays."""

    def __init__(self, console: Console) -> None:
        self._console = console
        bar = 24 if console.width >= 80 else 10
        name = max(12, min(44, (console.width - bar - _PERCENTAGE - _CLOCK - _GAPS) * 3 // 5))
        self._bars = Progress(
            TextColumn("{task.description}", table_column=Column(width=name, no_wrap=True)),
            BarColumn(bar_width=bar, table_column=Column(width=bar, no_wrap=True)),
            TextColumn("{task.percentage:>3.0f}%", table_column=Column(width=_PERCENTAGE, no_wrap=True)),
            TimeElapsedColumn(table_column=Column(min_width=_CLOCK, no_wrap=True)),
            _Message(),
            console=console,
            expand=True,
        )
        self._whole = self._bars.add_task("[bold]Accepted", total=100, message="")
        self._steps: dict[str, TaskID] = {}
        self._text = ""  # the piece of a line of content that is not whole yet
        self._ending: Text | None = None  # how it ended, where the message column is too short for that

    def __enter__(self) -> LiveView:
        self._bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        for bar in self._steps.values():
            self._bars.remove_task(bar)
        self._bars.stop()
        if self._ending is not None:
            self._console.print(self._ending, highlight=False)

    def show(self, event: Event) -> None:
        """Shows one event."""
        kind = event_type(event)
        progress = event.progress
        counts = f"{progress.completed_steps}/{progress.total_steps} steps" if progress.total_steps else ""
        self._bars.update(
            self._whole,
            completed=progress.percentage,
            message=_line(event.message) if not event.step_id else counts,
        )
        match kind:
            case "plan_started":
                self._bars.update(self._whole, description="[bold]Running")
            case "plan_completed" | "plan_failed" | "plan_cancelled":
                self._flush()
                colour, name = {"plan_completed": ("green", "Completed"), "plan_failed": ("red", "Failed")}.get(
                    kind, ("yellow", "Cancelled")
                )
                if kind == "plan_completed":
                    counts = f"{counts or _line(event.message)} in {span_text(event.plan_completed.execution_time)}"
                else:
                    cause = harmless(line_of(event)).split(": ", 1)[-1]
                    self._ending = Text.assemble((name, f"bold {colour}"), f": {cause}")
                self._bars.update(self._whole, description=f"[bold {colour}]{name}", message=counts)
            case "step_started":
                self._start(event)
            case "step_progress":
                self._move(event)
            case "step_completed" | "step_failed" | "step_skipped" | "step_cancelled":
                self._finish(event, kind)
            case "content":
                self._content(event.content.text)
            case _ if kind in _STAYING:
                self._console.print(escape(harmless(line_of(event))), highlight=False)

    def notice(self, text: str) -> None:
        """Shows a line above the bars."""
        self._console.print(Text(harmless(text), style="yellow"))

    def hold(self) -> None:
        """Takes the bars away, and shows the cursor."""
        self._bars.live.transient = True
        self._bars.stop()
        self._bars.live.transient = False

    def release(self) -> None:
        """Shows the bars again, as they are now."""
        self._bars.start()

    def _start(self, event: Event) -> None:
        again = f" [yellow](attempt {event.attempt})[/]" if event.attempt > 1 else ""
        description = f"  {_place(event)}{again}"
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
        match kind:
            case "step_completed":
                rest = escape(kept(event)) or span_text(event.step_completed.execution_time)
            case "step_failed":
                rest = escape(_line(event.step_failed.error.message or event.message))
            case _:
                rest = escape(_line(event.message))
        self._console.print(f"  [{colour}]{name:9}[/] {_place(event)}  [dim]{rest}[/]", highlight=False)

    def _content(self, text: str) -> None:
        *lines, self._text = (self._text + text).split("\n")
        for line in lines:
            self._console.print(escape(harmless(line)), highlight=False)

    def _flush(self) -> None:
        if self._text:
            self._content("\n")


def _place(event: Event) -> str:
    """Returns the step's number and name, as markup."""
    progress = event.progress
    return f"{progress.current_step}/{progress.total_steps} {escape(_line(event.step_name or event.step_id))}"


def _line(text: str) -> str:
    """Returns a text as one line."""
    return " ".join(harmless(text).split())
