"""`stepwire watch --all`: many executions as lines, as JSON and as a table."""

from __future__ import annotations

import io
import json
import re
from typing import Any

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from stepwire import errors
from stepwire.events import EVENT_TYPES, is_terminal
from stepwire.terminal.commands import stepwire
from stepwire.terminal.table import KINDS, Lines, LiveTable
from stepwire.v1 import EventBatch, Execution, Progress

from .scripted import ScriptedServer, completed, event
from .test_wide import of, say

WAITING = errors.FilterInvalid("that is all")
"""What ends a script: the command would go on for ever."""


def run(server: ScriptedServer, *words: str, terminal: bool = False) -> Result:
    env = {"TTY_COMPATIBLE": "1", "COLUMNS": "100", "NO_COLOR": "1"} if terminal else {"TTY_COMPATIBLE": "0"}
    return CliRunner().invoke(stepwire, ["--server", server.target, "watch", "--all", *words], env=env)


def script() -> list[Any]:
    running = of("b", after=3, told=True)
    running.execution.query, running.execution.progress.percentage = "What\nis it?", 40
    started = event(1, "plan_started")
    return [
        running,
        say(7),
        of("a", started, event(2, message="half way"), position=8, told=True),
        of("b", completed(4), position=9),
        say(9, EventBatch.NOTICE_HEARTBEAT),
        WAITING,
    ]


def test_lines(server: ScriptedServer) -> None:
    """What is under way has a line at the beginning, then each event has one, behind its execution."""
    server.plays(script())
    result = run(server, "--session", "s", "--label", "x=y", "--after", "5")
    assert result.stdout.splitlines() == [
        "b  RUNNING 40%  What is it?",
        "a  Starting: 2 steps",
        "a  20%: half way",
        "b  Completed: event 4 (0.000s)",
    ]
    assert "that is all" in result.stderr
    assert result.exit_code == 4
    request = server.calls[0].request
    assert (request.executions.session_id, dict(request.executions.labels)) == ("s", {"x": "y"})
    assert request.after_position == 5
    assert sorted(request.filter.kinds) == sorted(EVENT_TYPES - {"content"}) == sorted(KINDS)


def test_ctrl_c_says_how_to_watch_the_same_on(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command that goes on from here is about what this one was about."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Lines, "show", interrupt)
    server.plays(script())
    result = run(server, "--session", "s", "--label", "x=y z", "--after", "5")
    assert result.exit_code == 130
    assert " watch --all --session s --label 'x=y z' --after " in result.stderr


def test_json(server: ScriptedServer) -> None:
    """With --json each event is one line, of every kind."""
    server.plays(script())
    result = run(server, "--json")
    told = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(one["execution_id"], one["sequence"]) for one in told] == [("a", 1), ("a", 2), ("b", 4)]
    assert not server.calls[0].request.HasField("filter")
    assert not server.calls[0].request.HasField("after_position")


def test_on_a_terminal(server: ScriptedServer) -> None:
    """On a terminal what has ended stays as a line, and what runs has a row."""
    server.plays(script())
    result = run(server, terminal=True)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", result.stdout)
    assert re.search(r"EXECUTION +STATE +DONE", text)
    assert re.search(r"COMPLETED +b +What is it\? +Completed: event 4", text)


@pytest.mark.parametrize("words", [["--poll"], ["e-1"]])
def test_what_does_not_go_together(server: ScriptedServer, words: list[str]) -> None:
    """--all goes neither with an execution nor with --poll, and its options not without it: that is wrong usage."""
    assert run(server, *words).exit_code == 2
    for without in (["watch"], ["watch", "e-1", "--session", "s"], ["watch", "e-1", "--label", "a=b"]):
        assert CliRunner().invoke(stepwire, without).exit_code == 2


@pytest.mark.parametrize("kind", sorted(EVENT_TYPES))
def test_the_table_shows_every_kind(kind: str) -> None:
    """An event of each kind can be shown, its text is never taken for markup, and every row is one line."""
    console = Console(file=io.StringIO(), force_terminal=True, width=60, height=20)
    table = LiveTable(console)
    name = "x" * 64
    table.begin(
        {name: Execution(execution_id=name, state=3, progress=Progress(percentage=7), query="[/] broken\nquery")}
    )
    made = event(1, kind, message="[/nothing] \x1b[2J " * 9, step_name="[bold]" * 20)
    made.execution_id = name
    table.show(made)
    console.print(table)
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", console.file.getvalue()).splitlines()  # type: ignore[attr-defined]
    assert max(map(len, lines)) <= 60
    assert "\x1b[2J" not in console.file.getvalue()  # type: ignore[attr-defined]
    assert len(lines) == (3 if is_terminal(made) else 2)


def test_the_table_fits_the_terminal() -> None:
    """Beyond the height of the terminal the newest have rows, and how many more there are is said."""
    console = Console(file=io.StringIO(), force_terminal=True, width=80, height=12)
    table = LiveTable(console)
    table.begin({f"e{number}": Execution(execution_id=f"e{number}", state=3) for number in range(30)})
    console.print(table)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert len(lines) <= 12
    assert "and 23 more" in lines[-1]
    assert "e29" in lines[-2]
