"""`stepwire retry` against a server that plays scripts, and how what is kept is shown."""

from __future__ import annotations

import json
import re

import pytest
from click.testing import CliRunner, Result
from google.rpc import code_pb2

from stepwire import errors
from stepwire.terminal.commands import stepwire
from stepwire.terminal.steps import account
from stepwire.v1 import (
    Event,
    EventBatch,
    Execution,
    GetExecutionResponse,
    Plan,
    Progress,
    RetryExecutionResponse,
    Step,
)

from .scripted import EXECUTION, ScriptedServer, Status, batch, completed, event, page, welcome

RETRIED = RetryExecutionResponse(execution=Execution(execution_id=EXECUTION, state=3))


def command(server: ScriptedServer, *words: str, terminal: bool = False) -> Result:
    """Runs a command against the server, as user ada."""
    env = {"TTY_COMPATIBLE": "1", "COLUMNS": "120", "NO_COLOR": "1"} if terminal else {"TTY_COMPATIBLE": "0"}
    return CliRunner().invoke(stepwire, ["--server", server.target, *words], env={**env, "USER": "ada"})


def story() -> EventBatch:
    """A retry of two steps, the first of which is kept."""

    def at(made: Event, step: int, name: str = "") -> Event:
        made.progress.CopyFrom(Progress(percentage=50.0 * (step - 1), current_step=step, total_steps=2))
        made.step_id, made.step_name = f"s{step}" if name else "", name
        return made

    kept = at(event(2, "step_completed", attempt=0), 1, "Search")
    kept.metadata["kept_from"] = "e-0"
    kept.step_completed.execution_time.FromMilliseconds(1)
    begun = event(1, "plan_started")
    begun.metadata.update(retry_of="e-0", actor="ada", reason="again")
    return batch(
        at(begun, 0),
        kept,
        at(event(3, "step_started"), 2, "Compile"),
        at(event(4, "step_completed"), 2, "Compile"),
        at(completed(5, {"pages": 3}), 2),
    )


def test_it_runs_like_run(server: ScriptedServer) -> None:
    """retry asks for what is named, and then shows the new execution to its end, what is kept as done from where."""
    server.replies("RetryExecution", RETRIED)
    server.plays([welcome(), story()])
    result = command(server, "retry", "e-0", "--step", "a", "--step", "b", "--reason", "again")
    assert (result.exit_code, result.stderr) == (0, "stepwire: execution e-1\n")
    assert result.stdout == (
        "Starting: 2 steps, a retry of e-0\n"
        "  Step 1/2: Search (kept from e-0)\n"
        "  Step 2/2: Compile\n"
        "  Step 2/2: Compile (done in 0.000s)\n"
        "Completed: event 5 (0.000s)\n"
        '{\n  "pages": 3\n}\n'
    )
    asked, watched = (call.request for call in server.calls)
    assert (asked.execution_id, list(asked.step_ids), asked.reason, asked.actor) == ("e-0", ["a", "b"], "again", "ada")
    assert asked.request_id
    assert (watched.execution_id, watched.after_sequence) == (EXECUTION, 0)


def test_on_a_terminal(server: ScriptedServer) -> None:
    """On a terminal what is kept has a line that stays."""
    server.replies("RetryExecution", RETRIED)
    server.plays([welcome(), story()])
    result = command(server, "retry", "e-0", terminal=True)
    assert result.exit_code == 0
    assert re.search(r"done +1/2 Search +(\x1b\[\d+m)?kept from e-0", result.output)
    assert re.search(r"done +2/2 Compile +(\x1b\[\d+m)?0.000s", result.output)


def test_json(server: ScriptedServer) -> None:
    """With --json each event is one line of JSON, with where the step ran."""
    server.replies("RetryExecution", RETRIED)
    server.plays([welcome(), story()])
    lines = [json.loads(line) for line in command(server, "retry", "e-0", "--json").stdout.splitlines()]
    assert [line["sequence"] for line in lines] == [1, 2, 3, 4, 5]
    assert lines[1]["metadata"] == {"kept_from": "e-0"}


def test_poll(server: ScriptedServer) -> None:
    """--poll shows the same without a stream."""
    server.replies("RetryExecution", RETRIED)
    server.replies("ListEvents", page(event(1), completed(2)))
    result = command(server, "retry", "e-0", "--poll", "--json")
    assert [json.loads(line)["sequence"] for line in result.stdout.splitlines()] == [1, 2]
    assert server.names() == ["RetryExecution", "ListEvents"]


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_detach(server: ScriptedServer, flags: list[str]) -> None:
    """--detach prints the new execution's id and leaves; with --json its snapshot."""
    server.replies("RetryExecution", RETRIED)
    told = command(server, "retry", "e-0", "--detach", *flags).stdout
    assert (json.loads(told)["execution_id"] if flags else told) == (EXECUTION if flags else f"{EXECUTION}\n")
    assert server.names() == ["RetryExecution"]


def test_what_may_have_run_is_named(server: ScriptedServer) -> None:
    """What the server refuses is said step by step, and the command exits 4."""
    found = [errors.Violation("step_ids", f"does not name {name!r}, which runs at most once") for name in "ab"]
    server.replies("RetryExecution", errors.AtMostOnce("two steps may have run", violations=found))
    result = command(server, "retry", "e-0")
    assert result.exit_code == 4
    assert result.stderr == (
        "stepwire: two steps may have run\n"
        "  step_ids: does not name 'a', which runs at most once\n"
        "  step_ids: does not name 'b', which runs at most once\n"
    )


def test_without_an_answer(server: ScriptedServer) -> None:
    """Where nobody knows whether it was accepted, the request id that was sent is said, and finds it."""
    server.replies("RetryExecution", *[Status(code_pb2.UNAVAILABLE, "Socket closed")] * 10)
    result = command(server, "retry", "e-0")
    [request_id] = {call.request.request_id for call in server.calls}
    assert result.exit_code == 4
    assert f"the same command with --request-id {request_id} finds it" in result.stderr
    server.replies("RetryExecution", *[Status(code_pb2.INTERNAL)] * 10)
    command(server, "retry", "e-0", "--request-id", request_id)
    assert server.calls[-1].request.request_id == request_id


def test_show(server: ScriptedServer) -> None:
    """show says what an execution retries, who asked and why, and which steps it keeps."""
    plan = Plan(steps=[Step(id="s1", name="Search"), Step(id="s2", name="Compile")])
    rows = account(plan, story().events)
    assert rows.retried == "e-0 by ada: again"
    assert [row[2:] for row in rows.rows] == [
        ("completed", "", "0.001s", "kept from e-0"),
        ("completed", "1", "0.000s", ""),
    ]
    found = Execution(execution_id=EXECUTION, state=6, plan=plan)
    server.replies("GetExecution", GetExecutionResponse(execution=found))
    server.replies("ListEvents", story())
    told = command(server, "show", EXECUTION).output
    assert "retry of    e-0 by ada: again\n" in told
    assert "kept from e-0" in told
