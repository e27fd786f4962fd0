"""Many executions on the terminal: a table of those that run, or a line for each event."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import click
from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.table import Table
from rich.text import Text

from stepwire.client import Watch
from stepwire.events import EVENT_TYPES, has_ended, is_terminal
from stepwire.terminal.outages import OutageWatch
from stepwire.terminal.remaining import Countdown, remaining_text
from stepwire.terminal.screen import harmless, say
from stepwire.terminal.server import Server
from stepwire.terminal.views import JsonView, line_of, percent
from stepwire.totals import Totals
from stepwire.v1.event_pb2 import Event, ExecutionState
from stepwire.v1.execution_pb2 import Execution

__all__ = ["KINDS", "JsonLines", "Lines", "LiveTable", "ManyView", "show_many", "totals_line", "work_of"]

KINDS = sorted(EVENT_TYPES - {"content"})
"""What is shown of many executions: all but the text that their steps write, which nobody could tell apart."""

_LEFT = 5
"""Executions of a batch that are named where it is left."""

_COLOURS = {"COMPLETED": "green", "FAILED": "red", "CANCELLED": "yellow"}


class ManyView(Protocol):
    """Shows executions, and is entered before the first event and left after the last."""

    def __enter__(self) -> ManyView: ...
    def __exit__(self, *error: object) -> None: ...
    def begin(self, executions: Mapping[str, Execution]) -> None:
        """Shows what is under way."""
        ...

    def show(self, event: Event) -> None:
        """Shows one event."""
        ...

    def notice(self, text: str) -> None:
        """Shows a line that is no event's. Called from any thread."""
        ...


class JsonLines(JsonView):
    """Each event as one line of JSON."""

    def __enter__(self) -> JsonLines:
        return self

    def begin(self, executions: Mapping[str, Execution]) -> None:
        """Shows nothing: events alone are lines."""


class Lines:
    """Each event as one line of text, behind its execution. `numbers` are those of a batch's entries."""

    def __init__(self, numbers: Mapping[str, str] | None = None) -> None:
        self._numbers = numbers or {}

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def begin(self, executions: Mapping[str, Execution]) -> None:
        """Shows a line for each."""
        for name, execution in executions.items():
            place = f"{_state(execution.state)} {percent(execution.progress.percentage)}"
            say(f"{name}  {place}  {_line(execution.query)}".rstrip())

    def show(self, event: Event) -> None:
        """Shows one event."""
        line = _line(line_of(event))
        if line:
            number = self._numbers.get(event.execution_id, "")
            say("  ".join(text for text in (number, event.execution_id, line) if text))

    def notice(self, text: str) -> None:
        """Shows a line on standard error."""
        say(f"stepwire: {text}", err=True)


class LiveTable:
    """A row for each execution that runs, which changes in place. What has ended moves up and stays."""

    def __init__(
        self,
        console: Console,
        *,
        about: Callable[[str], str] = lambda _: "",
        totals: Callable[[], Totals] | None = None,
    ) -> None:
        """`about` says of an execution what it is, `totals` how far all are together: called from any thread."""
        self._console = console
        self._about = about
        self._totals = totals
        self._rows: dict[str, tuple[str, float, str]] = {}
        self._left: dict[str, Countdown] = {}
        self._over = False
        self._lock = threading.Lock()
        self._live = Live(self, console=console, refresh_per_second=4)

    def __enter__(self) -> LiveTable:
        self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over = True
        self._live.stop()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        with self._lock:
            rows = list(self._rows.items())
            left = {name: countdown.text.removesuffix(" left") for name, countdown in self._left.items()}
        room = max(1, console.height - 5)
        table = Table(box=None, expand=True, pad_edge=False)
        table.add_column("EXECUTION", no_wrap=True, max_width=24)
        table.add_column("STATE", no_wrap=True, max_width=11)
        table.add_column("DONE", no_wrap=True, justify="right", width=5)
        table.add_column("LEFT", no_wrap=True, max_width=12, overflow="ellipsis")
        table.add_column("WHAT", no_wrap=True, max_width=24, overflow="ellipsis")
        table.add_column("", no_wrap=True, ratio=1, overflow="ellipsis")
        for name, (state, percentage, text) in rows[-room:]:
            about = Text(self._about(name))
            table.add_row(
                Text(name), Text(state), percent(percentage), left.get(name, ""), about, Text(text, style="dim")
            )
        if rows or not self._over:
            yield table
        if len(rows) > room:
            yield Text(f"and {len(rows) - room:,} more", style="dim")
        elif not rows and not self._over:
            yield Text("nothing runs", style="dim")
        if self._totals is not None:
            yield Text(totals_line(self._totals()), style="bold", no_wrap=True, overflow="ellipsis")

    def begin(self, executions: Mapping[str, Execution]) -> None:
        """Gives each a row."""
        with self._lock:
            for name, execution in executions.items():
                if not has_ended(execution):
                    text = "asks something: stepwire answer shows what" if execution.open_questions else ""
                    self._rows[name] = (_state(execution.state), execution.progress.percentage, text)
                    self._left.setdefault(name, Countdown()).set(execution.progress)

    def show(self, event: Event) -> None:
        """Changes the execution's row, or moves it up where that was its end."""
        state = _state(event.execution_state)
        text = _line(line_of(event))
        name = event.execution_id
        with self._lock:
            before = self._rows.get(name)
            if is_terminal(event):
                self._rows.pop(name, None)
                self._left.pop(name, None)
            else:
                self._left.setdefault(name, Countdown()).set(event.progress)
                self._rows[name] = (state, event.progress.percentage, text or (before[2] if before else ""))
        if is_terminal(event):
            what = "  ".join(part for part in (name, self._about(name)) if part)
            ending = Text.assemble((f"{state:10}", _COLOURS.get(state, "")), f" {what}  ", (text, "dim"))
            self._console.print(ending, highlight=False, no_wrap=True, overflow="ellipsis")

    def notice(self, text: str) -> None:
        """Shows a line above the table."""
        self._console.print(Text(harmless(text), style="yellow"))


def show_many(
    server: Server,
    watch: Watch,
    *,
    plain: bool,
    as_json: bool,
    session: str = "",
    labels: Mapping[str, str] | None = None,
    batch: Sequence[str] = (),
) -> Totals:
    """Shows a watch until Ctrl-C, or until all that it names have ended. Returns what became of them. `session` and
    `labels`: what it is of; `batch`: the executions of a batch, in the order of its entries, from 0.
    """
    console = Console()
    numbers = {name: f"#{number}" for number, name in enumerate(batch)}

    def about(name: str) -> str:
        execution = watch.executions.get(name)
        return " ".join(text for text in (numbers.get(name), execution and work_of(execution)) if text)

    view: ManyView
    if as_json:
        view = JsonLines()
    elif console.is_terminal and not plain:
        view = LiveTable(console, about=about, totals=lambda: watch.totals)
    else:
        view = Lines(numbers)
    try:
        with watch, view, OutageWatch(watch, view.notice) as outages:
            view.begin(watch.executions)
            for event in watch:
                outages.look()
                view.show(event)
    except KeyboardInterrupt:
        click.echo("\nWhat runs goes on. Watch on from here:", err=True)
        left = [name for name in batch if name in watch.executions]
        for name in left[:_LEFT]:
            click.echo(f"  {server.command('watch', name)}", err=True)
        if len(left) > _LEFT:
            click.echo(f"  and {len(left) - _LEFT:,} more", err=True)
        if not batch:
            of = [*(["--session", session] if session else []), *_label_options(labels or {})]
            click.echo(f"  {server.command('watch', '--all', *of, '--after', str(watch.position))}", err=True)
        raise
    if isinstance(view, Lines):
        say(totals_line(watch.totals))
    return watch.totals


def _label_options(labels: Mapping[str, str]) -> list[str]:
    return [word for key, value in labels.items() for word in ("--label", f"{key}={value}")]


def work_of(execution: Execution) -> str:
    """Returns what an execution was started with, in a line: its query, or its plan's name. Empty where it has none."""
    named = " ".join(execution.plan_name.split())
    return " ".join(harmless(execution.query).split()) or (f"plan: {harmless(named)}" if named else "")


def totals_line(totals: Totals) -> str:
    """Returns how far executions are together, in a line."""
    counts = [
        f"{count:,} {name}"
        for count, name in (
            (totals.running, "running"),
            (totals.completed, "completed"),
            (totals.failed, "failed"),
            (totals.cancelled, "cancelled"),
        )
        if count
    ]
    line = f"{totals.executions:,} execution{'' if totals.executions == 1 else 's'}: {', '.join(counts) or 'none'}"
    if totals.has_ended:
        return line
    left = "" if totals.remaining is None else f", {remaining_text(totals.remaining.total_seconds())}"
    return f"{line}; {percent(totals.percentage)}{left}"


def _state(state: ExecutionState.ValueType) -> str:
    try:
        return ExecutionState.Name(state).removeprefix("EXECUTION_STATE_")
    except ValueError:  # Of a newer server.
        return str(state)


def _line(text: str) -> str:
    """Returns a text as one line."""
    return " ".join(harmless(text).split())
