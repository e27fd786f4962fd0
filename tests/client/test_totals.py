"""One progress over several executions: in a watch, and on the terminal by `stepwire batch`."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from stepwire import Client, Totals
from stepwire.terminal.commands import stepwire
from stepwire.terminal.table import totals_line
from stepwire.v1 import BatchStartExecutionsResponse, EventBatch, Execution, ExecutionState

from .scripted import ScriptedServer, completed, event
from .test_wide import of, say

COMPLETED = ExecutionState.EXECUTION_STATE_COMPLETED


def counted(**counts: Any) -> Totals:
    base: dict[str, Any] = {"executions": 0, "running": 0, "completed": 0, "failed": 0, "cancelled": 0}
    return Totals(**{**base, "percentage": 0.0, "remaining": None, **counts})


def told(name: str, *, percentage: float, remaining: int | None = None) -> EventBatch:
    """The snapshot of an execution that runs."""
    made = of(name, after=3, told=True)
    made.execution.progress.percentage = percentage
    if remaining is not None:
        made.execution.progress.remaining.FromSeconds(remaining)
    return made


def over(name: str) -> EventBatch:
    """The snapshot of one that has ended."""
    made = of(name, after=9, told=True)
    made.execution.state, made.execution.as_of_sequence = COMPLETED, 9
    return made


def ended(name: str, kind: str) -> EventBatch:
    """A message with an execution's end."""
    last = completed(4) if kind == "plan_completed" else event(4, kind)
    last.execution_state = getattr(ExecutionState, f"EXECUTION_STATE_{kind.removeprefix('plan_').upper()}")
    return of(name, last, position=10)


def test_one_progress_over_all(server: ScriptedServer) -> None:
    """Percentages are averaged, what has ended counts as done and in its own column, before the watch or in it; the
    time remaining is that of the longest, and unknown where one's is.
    """
    server.plays(
        [
            told("a", percentage=50, remaining=7),
            told("b", percentage=10, remaining=30),
            over("c"),
            say(9),
            ended("a", "plan_failed"),
            ended("b", "plan_completed"),
        ]
    )
    with Client(server.target) as client:
        watch = client.watch_executions(execution_ids=["a", "b", "c"])
        seconds = timedelta(seconds=30)
        assert watch.totals == counted(executions=3, running=2, completed=1, percentage=160 / 3, remaining=seconds)
        assert next(watch).execution_id == "a"
        found = watch.totals
        assert (found.running, found.failed, found.percentage) == (1, 1, pytest.approx(210 / 3))
        assert not found.has_ended
        assert next(watch).execution_id == "b"
        last = counted(executions=3, completed=2, failed=1, percentage=100.0, remaining=timedelta())
        assert watch.totals == last
        assert list(watch) == []
        assert watch.totals == last
        assert last.has_ended
        assert last.has_failures
        assert last.to_dict()["remaining"] == 0.0


def test_nothing_is_no_progress(server: ScriptedServer) -> None:
    """Without executions there are zeros; without an estimate of one, there is none of all."""
    server.plays([say(0), told("a", percentage=1), say(1)])
    with Client(server.target) as client:
        watch = client.watch_executions()
        assert watch.totals.to_dict() == counted(remaining=timedelta()).to_dict()


@pytest.mark.parametrize(
    ("totals", "line"),
    [
        (counted(), "0 executions: none"),
        (counted(executions=1, completed=1), "1 execution: 1 completed"),
        (
            counted(executions=1_200, running=3, completed=1_196, failed=1, percentage=99.6),
            "1,200 executions: 3 running, 1,196 completed, 1 failed; 99%",
        ),
        (
            counted(executions=2, running=2, percentage=12.2, remaining=timedelta(seconds=41)),
            "2 executions: 2 running; 12%, about 40 s left",
        ),
    ],
)
def test_the_line_below_the_table(totals: Totals, line: str) -> None:
    """A line says how many there are of which kind, and while some run how far they are."""
    assert totals_line(totals) == line


def batch(server: ScriptedServer, *words: str, given: object, terminal: bool = False) -> Result:
    env = {"TTY_COMPATIBLE": "1", "COLUMNS": "100", "NO_COLOR": "1"} if terminal else {"TTY_COMPATIBLE": "0"}
    text = given if isinstance(given, str) else json.dumps(given)
    return CliRunner().invoke(stepwire, ["--server", server.target, "batch", *words, "-"], input=text, env=env)


def started(server: ScriptedServer, *names: str) -> None:
    made = [Execution(execution_id=name) for name in names]
    server.replies("BatchStartExecutions", BatchStartExecutionsResponse(executions=made))


@pytest.mark.parametrize(("last", "code"), [("plan_completed", 0), ("plan_failed", 1), ("plan_cancelled", 3)])
@pytest.mark.parametrize("terminal", [True, False])
def test_batch_shows_all_to_the_end(server: ScriptedServer, last: str, code: int, terminal: bool) -> None:
    """`stepwire batch` starts what the file has, follows exactly that to its end, and exits by how it went."""
    started(server, "a", "b")
    server.plays(
        [told("a", percentage=5), told("b", percentage=5), say(9), ended("b", last), ended("a", "plan_completed")]
    )
    works = ["a query", {"call": "refund", "input": {"n": 1}, "session_id": "own"}]
    result = batch(server, "--session", "s", given=works, terminal=terminal)
    assert result.exit_code == code, result.output
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", result.stdout)
    ends = {"plan_completed": "2 completed", "plan_failed": "1 completed, 1 failed"}.get(
        last, "1 completed, 1 cancelled"
    )
    assert f"2 executions: {ends}" in text
    asked, watched = server.calls[0].request, server.calls[1].request
    assert [each.WhichOneof("work") for each in asked.requests] == ["query", "call"]
    assert [each.session_id for each in asked.requests] == ["s", "own"]
    assert sorted(watched.executions.execution_ids) == ["a", "b"]
    assert watched.HasField("after_position") == (not terminal)


def test_batch_detached(server: ScriptedServer) -> None:
    """With --detach the ids are printed, in order, and nothing is watched."""
    started(server, "b", "a")
    result = batch(server, "--detach", given=["one", "two"])
    assert (result.exit_code, result.stdout.split()) == (0, ["b", "a"])
    assert server.names() == ["BatchStartExecutions"]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("{", "- is not JSON, of which it must be one list: Expecting"),
        ('["a"]\n["b"]', "- is not JSON, of which it must be one list: Extra data"),
        ({"query": "one"}, "no JSON list"),
        (["ok", 7], "entry 1 is neither"),
        ([{"query": "x", "lables": {}}], "entry 0 has 'lables', which is not known; known are call, "),
        ([{"query": "x", "call": "y"}], "entry 0 can't be sent: Give one of these"),
        ([{"query": "x", "failure_policy": "maybe"}], "failure_policy is 'maybe'; it is one of continue, fail_fast"),
        ([{"query": "x", "labels": 7}], "entry 0 has 'labels' that is no object"),
        ([{"query": "x", "time_limit": "5m"}], "entry 0 has 'time_limit' that is no number of seconds"),
    ],
)
def test_a_file_that_is_no_batch(server: ScriptedServer, given: object, says: str) -> None:
    """What can't be sent is wrong usage, with the entry and what is wrong with it; nothing is started."""
    result = batch(server, given=given)
    assert result.exit_code == 2
    assert says in " ".join(result.stderr.replace("│", " ").split()), result.stderr
    assert server.calls == []


def test_a_file_that_is_not_there(server: ScriptedServer, tmp_path: Path) -> None:
    """A file that can't be read is wrong usage, and named."""
    result = CliRunner().invoke(stepwire, ["--server", server.target, "batch", str(tmp_path / "none.json")])
    assert result.exit_code == 2
    assert "none.json" in result.stderr
