"""A run on the terminal from its first event to its output: shown, its questions asked, left or cancelled."""

from __future__ import annotations

import sys
from typing import Any, Literal

import click
from rich.console import Console

from stepwire.client import Run
from stepwire.errors import ExecutionCancelled, ExecutionEnded, ExecutionFailed, StepwireError
from stepwire.terminal.answers import LineReader
from stepwire.terminal.artifacts import ArtifactFiles
from stepwire.terminal.control import actor, answer_command
from stepwire.terminal.live import LiveView
from stepwire.terminal.outages import OutageWatch
from stepwire.terminal.output import print_output
from stepwire.terminal.questions import QuestionWatch
from stepwire.terminal.screen import say
from stepwire.terminal.server import Server
from stepwire.terminal.views import JsonView, PlainView, View

__all__ = ["show_run"]

_ASKED = "Interrupted. c cancels the execution, g goes on showing it; Enter or Ctrl-C leaves it running: "


def show_run(
    server: Server, followed: Run, *, plain: bool, as_json: bool, artifacts: ArtifactFiles, begun: bool = False
) -> None:
    """Shows a run to its end, and then its output. Raises what it ended with. One that was begun here is named, and who
    sits at the terminal is asked what its steps ask, and at Ctrl-C what is to become of it.
    """
    console = Console()
    view: View
    if as_json:
        view = JsonView()
    elif console.is_terminal and not plain:
        view = LiveView(console)
    else:
        view = PlainView()
    questions = QuestionWatch(
        followed,
        view,
        hint=lambda input_id: answer_command(server, followed.execution_id, input_id),
        answer=lambda input_id, value: followed.answer(input_id, value, actor()),
        lines=LineReader(sys.stdin.fileno()) if begun and isinstance(view, LiveView) and sys.stdin.isatty() else None,
    )
    try:
        with artifacts, followed, view, questions, OutageWatch(followed, view.notice) as outages:
            if begun and not as_json:
                view.notice(f"execution {followed.execution_id}")
            _read(followed, view, questions, outages, artifacts)
            ended = followed.terminal is not None
            output = _outcome(followed, view, shown=ended)
    except KeyboardInterrupt:
        identity = followed.execution_id
        goes = "is being cancelled" if followed.tracker.state == "CANCELLING" else "goes on"
        click.echo(
            f"\nThe execution {goes}.\n"
            f"  Watch it:  {server.command('watch', identity, '--after', str(followed.sequence))}\n"
            f"  Cancel it: {server.command('cancel', identity)}",
            err=True,
        )
        raise
    if not as_json:
        if not ended:
            say("It had ended before.")
        print_output(output, console=console)
    if not artifacts.are_complete:
        raise click.exceptions.Exit(1)


def _read(followed: Run, view: View, questions: QuestionWatch, outages: OutageWatch, artifacts: ArtifactFiles) -> None:
    """Shows all events. Raises KeyboardInterrupt where the execution is to be left."""
    cancelled = False
    while True:
        try:
            for event in followed:
                outages.look()
                artifacts.save(event)
                questions.show(event)
            return
        except KeyboardInterrupt:
            match None if cancelled else _decision(questions):
                case "cancel":
                    cancelled = True
                    _cancel(followed, view)
                case "go on":
                    pass
                case None:
                    raise


def _decision(questions: QuestionWatch) -> Literal["cancel", "go on"] | None:
    """Asks what is to become of the execution. None: it is left running."""
    while True:
        match (questions.ask_aside(_ASKED) or "").strip().lower():
            case "":
                return None
            case "c" | "cancel":
                return "cancel"
            case "g" | "go":
                return "go on"


def _cancel(followed: Run, view: View) -> None:
    try:
        followed.cancel("Ctrl-C", actor())
    except ExecutionEnded:
        return  # Its last events are on their way.
    except StepwireError as error:
        view.notice(f"it could not be cancelled: {error}")


def _outcome(followed: Run, view: View, *, shown: bool) -> Any:
    try:
        return followed.result()
    except (ExecutionFailed, ExecutionCancelled) as error:
        if not shown:
            view.notice(f"It had ended before: {error}")
        raise
