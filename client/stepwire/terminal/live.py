"""A run on a terminal: a bar for the whole and for each step that runs, and a line that stays for each that is done."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TimeElapsedColumn
from rich.table import Column, Table
from rich.text import Text

from stepwire.artifacts import is_piece
from stepwire.events import event_type
from stepwire.parts import Parts
from stepwire.terminal.remaining import Countdown
from stepwire.terminal.reports import part_name, progress_text, why_failed
from stepwire.terminal.screen import harmless
from stepwire.terminal.views import kept, line_of, percent, span_text
from stepwire.v1.event_pb2 import Event, StepProgress, StepState

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


_Place = tuple[int, ...]
"""Where a bar stands: its step's number, and for each part that leads to it, how many began before."""

_RUNNING = (StepState.STEP_STATE_RUNNING, StepState.STEP_STATE_PROGRESS)

_PERCENTAGE, _CLOCK, _GAPS = 4, 7, 4
"""Columns of the terminal that each line of bars needs beside its name, its bar and its message."""


class _Message(ProgressColumn):
    """The last column: it takes what the others leave, and is cut where that is too little."""

    def __init__(self) -> None:
        super().__init__(table_column=Column(ratio=1))

    def render(self, task: Task) -> Text:
        return Text(task.fields["message"], style="dim", no_wrap=True, overflow="ellipsis")


class _Name(ProgressColumn):
    """The first column: what it is, and of the whole how long it takes still."""

    def __init__(self, width: int) -> None:
        super().__init__(table_column=Column(width=width, no_wrap=True))

    def render(self, task: Task) -> Text:
        left = task.fields["left"].text if "left" in task.fields else ""
        return Text.from_markup(task.description + (f", {left}" if left else ""))


class _Percentage(ProgressColumn):
    """How far it is; nothing of what has not said it yet, whose bar pulses."""

    def __init__(self) -> None:
        super().__init__(table_column=Column(width=_PERCENTAGE, no_wrap=True))

    def render(self, task: Task) -> Text:
        return Text("" if task.total is None else f"{percent(task.percentage):>4}", style="progress.percentage")


class _Nested(Progress):
    """Bars in the order of their places: the whole, each step, and below it its parts, as many as the terminal has
    lines for. Steps go before parts, and outer parts before inner ones.
    """

    hidden = False
    """Whether there is an empty line in their place."""

    def get_renderables(self) -> Iterable[RenderableType]:
        return (Text(""),) if self.hidden else super().get_renderables()

    def make_tasks_table(self, tasks: Iterable[Task]) -> Table:
        shown = sorted(tasks, key=lambda task: (len(task.fields["place"]), task.fields["place"]))
        if not shown:
            return super().make_tasks_table(shown)  # Rich asks for this one before there is a console.
        shown = shown[: max(2, self.console.height - 3)]
        table = super().make_tasks_table(sorted(shown, key=lambda task: task.fields["place"]))
        # A terminal shows Ctrl-C as ^C behind the last line: that must not begin another one, which nobody clears.
        table.width = self.console.width - 2
        return table


class LiveView:
    """Bars that move in place. What has ended moves up and stays, but for parts of steps that ended well."""

    def __init__(self, console: Console) -> None:
        self._console = console
        bar = 24 if console.width >= 80 else 10
        name = max(12, min(44, (console.width - bar - _PERCENTAGE - _CLOCK - _GAPS) * 3 // 5))
        self._bars = _Nested(
            _Name(name),
            BarColumn(bar_width=bar, table_column=Column(width=bar, no_wrap=True)),
            _Percentage(),
            TimeElapsedColumn(table_column=Column(min_width=_CLOCK, no_wrap=True)),
            _Message(),
            console=console,
            expand=True,
        )
        self._left = Countdown()
        self._whole = self._bars.add_task("[bold]Accepted", total=100, message="", place=(), left=self._left)
        self._steps: dict[str, _Step] = {}
        self._told = ""  # why a part failed last
        self._text = ""  # the piece of a line of content that is not whole yet
        self._ending: Text | None = None  # how it ended, where the message column is too short for that

    def __enter__(self) -> LiveView:
        self._bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        for step in self._steps.values():
            step.remove()
        self._bars.stop()
        if self._ending is not None:
            self._console.print(self._ending, highlight=False)

    def show(self, event: Event) -> None:
        """Shows one event."""
        kind = event_type(event)
        progress = event.progress
        self._left.set(progress)
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
            case "content" if not is_piece(event):
                self._content(event.content.text)
            case _ if kind in _STAYING:
                if kind == "step_retrying" and event.step_id in self._steps:
                    self._steps[event.step_id].clear()
                self._console.print(escape(harmless(line_of(event))), highlight=False)

    def notice(self, text: str) -> None:
        """Shows a line above the bars."""
        self._console.print(Text(harmless(text), style="yellow"))

    def hold(self) -> None:
        """Takes the bars away, and shows the cursor."""
        # What is cleared first when the bars come back is what they were: they must have been no more than a line.
        self._bars.hidden = True
        self._bars.live.transient = True
        self._bars.stop()
        self._bars.live.transient = False

    def release(self) -> None:
        """Shows the bars again, as they are now."""
        self._bars.hidden = False
        self._bars.start()

    def _start(self, event: Event) -> None:
        again = f" [yellow](attempt {event.attempt})[/]" if event.attempt > 1 else ""
        earlier = self._steps.pop(event.step_id, None)
        if earlier is not None:
            earlier.remove()
        if len(self._steps) < max(1, self._console.height - 4):
            # Beyond the height of the terminal steps run without a bar; they still get their last line.
            place = (event.progress.current_step,)
            self._steps[event.step_id] = _Step(self._bars, place, f"  {_place(event)}{again}", _line(event.message))

    def _move(self, event: Event) -> None:
        step = self._steps.get(event.step_id)
        if step is not None:
            step.move(event.step_progress, _line(progress_text(event)))
        if event.step_progress.substep.state == StepState.STEP_STATE_FAILED:
            why = _escaped(why_failed(event))
            # An exception that leaves one part after another is told once.
            if why != self._told:
                place = f"{_place(event)} > {_escaped(part_name(event))}"
                self._console.print(f"  [red]{'failed':9}[/] {place}  [dim]{why}[/]", highlight=False)
            self._told = why

    def _finish(self, event: Event, kind: str) -> None:
        step = self._steps.pop(event.step_id, None)
        if step is not None:
            step.remove()
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


class _Step:
    """The bar of a step that runs, and those of its parts that do."""

    def __init__(self, bars: Progress, place: _Place, description: str, message: str) -> None:
        self._bars = bars
        self._place = place
        self._parts = Parts()
        self._inner: dict[str, tuple[TaskID, _Place]] = {}
        self._begun = 0
        self._spoke = False
        # Without a total its bar pulses, until it has said how far it is.
        self._bar = bars.add_task(description, total=None, message=message, place=place)

    def move(self, report: StepProgress, said: str) -> None:
        """Shows a report of the step or of one of its parts."""
        if report.HasField("percentage"):
            self._bars.update(self._bar, total=100, completed=report.percentage)
        if report.HasField("substep") or report.declared:
            self._parts.apply(report)
        if not report.HasField("substep"):
            self._bars.update(self._bar, message="" if report.declared else said)
            self._spoke = True
            return
        if not self._spoke:
            # That it has started its parts say.
            self._bars.update(self._bar, message="")
        path, state = report.substep.path, report.substep.state
        if state != StepState.STEP_STATE_PROGRESS:
            # What has ended, or begins anew, has nothing left below it.
            for inner in [inner for inner in self._inner if f"{inner}/".startswith(f"{path}/")]:
                self._bars.remove_task(self._inner.pop(inner)[0])
        place = self._place
        for outer, name, percentage, now in self._parts.line(path):
            if now in _RUNNING:
                place = self._show(outer, place, name, percentage)
        if path in self._inner and (said or state == StepState.STEP_STATE_RUNNING):
            self._bars.update(self._inner[path][0], message=said)

    def clear(self) -> None:
        """Takes the bars of the parts away: what they belonged to has ended."""
        for bar, _ in self._inner.values():
            self._bars.remove_task(bar)
        self._inner.clear()

    def remove(self) -> None:
        """Takes all bars away."""
        self.clear()
        self._bars.remove_task(self._bar)

    def _show(self, path: str, outer: _Place, name: str, percentage: float) -> _Place:
        """Shows a part below another one, or below the step; returns its place."""
        if path not in self._inner:
            self._begun += 1
            place = (*outer, self._begun)
            text = f"{'  ' * (path.count('/') + 2)}{_escaped(name)}"
            self._inner[path] = self._bars.add_task(text, total=None, message="", place=place), place
        bar, place = self._inner[path]
        # A part that begins is at 0, and may never say more: its bar pulses.
        self._bars.update(bar, total=100 if percentage > 0 else None, completed=percentage)
        return place


def _place(event: Event) -> str:
    """Returns the step's number and name, as markup."""
    progress = event.progress
    return f"{progress.current_step}/{progress.total_steps} {_escaped(event.step_name or event.step_id)}"


def _escaped(text: str) -> str:
    """Returns a text as one line of markup."""
    return escape(_line(text))


def _line(text: str) -> str:
    """Returns a text as one line."""
    return " ".join(harmless(text).split())
