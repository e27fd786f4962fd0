"""The app as it is served: what streams while a request is worked on, and what it ends with."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.serving import PATIENCE, Gate, ServerProcess, find_grpcurl
from tests.e2e.test_grpcurl import messages

from stepwire import Client, ExecutionFailed, event_type
from stepwire.v1 import Event
from stepwire.values import to_python
from stepwire_server.planning import BUILT_IN

DESK = Path(__file__).parent / "apps"
MCP = Path(__file__).parents[1] / "tools" / "mcp_program.py"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server of the tests' app, whose sessions are remembered whatever its journal is."""
    folder = tmp_path_factory.mktemp("planning")
    flags = ["--set", f"memory={folder / 'memory'}"]
    with ServerProcess(folder, app="desk:app", cwd=DESK, flags=flags) as server:
        yield server


@pytest.fixture
def client(server: ServerProcess) -> Iterator[Client]:
    """A client of it."""
    with Client(server.address) as client:
        yield client


def served(client: Client, request: str, session_id: str = "") -> tuple[list[Event], Any]:
    """Returns the events of a request, and its response."""
    run = client.execute(query=request, session_id=session_id)
    events = list(run)
    return events, run.result()


def stages(events: list[Event]) -> list[str]:
    """Returns the stages that were told, in order."""
    return [event.stage.name for event in events if event_type(event) == "stage"]


def test_eight_stages(client: Client) -> None:
    """A request goes through the eight stages in order, an author's own between them, and ends with the response."""
    events, response = served(client, "12 * 7 and then the days from 2026-01-01 to 2026-03-01", "eight")
    assert stages(events) == [
        *("start", "context", "analyzing", "planning", "validation", "review", "execution", "summary"),
        *("memory", "completion"),
    ]
    assert [name for name in stages(events) if name in BUILT_IN] == list(BUILT_IN)
    told = [event for event in events if event_type(event) == "stage"]
    assert all(event.stage.details and to_python(event.stage.data)["session_id"] == "eight" for event in told)
    assert response["state"] == "completed"
    assert [answer["value"] for answer in response["answers"]] == [84, 59]
    assert response["text"] == "12 * 7: 84\nthe days from 2026-01-01 to 2026-03-01: 59"
    assert response["own_stages"] == {"review": {"calls": 2, "earlier": 0}, "summary": [84, 59]}
    timed = [stage["stage"] for stage in response["stages"]]
    assert timed == stages(events)[:-1]
    assert response["slowest"] in response["stages"]
    assert to_python(events[-1].plan_completed.output) == response


def test_its_named_plan(client: Client) -> None:
    """The plan `answer` does with an input what the planner does with a query."""
    run = client.execute(call="answer", input={"request": "2 ^ 10"})
    assert run.result()["answers"] == [{"text": "2 ^ 10", "state": "completed", "value": 1024}]
    assert "no session_id" in run.result()["remembered"]["why"]


def test_events_arrive_while_the_step_runs(client: Client) -> None:
    """What a call reports reaches the caller while the call goes on; what does not wait for it runs beside it."""
    with Gate() as gate:
        run = client.execute(
            query=f"run hold gate={gate.port} and then 2 * 3 and then run hold gate={gate.port} text=x"
        )
        seen = set()
        for event in run:
            if event_type(event) == "step_progress" and event.message == "Waiting":
                seen.add(event.step_id)
            if event_type(event) == "step_completed" and event.step_id == "call-2":
                seen.add(event.step_id)
            if seen == {"call-1", "call-2", "call-3"}:
                # Nothing was released yet: both wait, side by side.
                gate.arrived("call-1")
                gate.arrived("call-3")
                gate.open()
        assert [answer["value"] for answer in run.result()["answers"]] == ["held", 6, "x"]


def test_results_that_are_nested_deep(client: Client) -> None:
    """What no event can carry at its place is left out or told there, and harms neither its request nor later ones."""
    states = {}
    for levels in (10, 11, 13, 14, 16):
        answer = served(client, f"run nest levels={levels} and then call it deep and then 1 + 1", "deep")[1]["answers"][
            0
        ]
        states[levels] = (answer["state"], answer.get("left_out", answer.get("error")))
        assert served(client, "what was deep?", "deep")[1]["state"] == "completed"
    what = "its output can't be sent: output" + "[0]" * 15 + " is nested more than 16 deep"
    whole = ("completed", None)
    assert states == {10: whole, 11: whole, 13: whole, 14: ("completed", ["value"]), 16: ("failed", what)}


def test_a_part_that_fails(client: Client) -> None:
    """A call that fails is told as the stage `error`; what needs it is skipped, and the others go on."""
    events, response = served(client, "1 / 0 and then add 3 to it and then 2 * 2", "failing")
    assert stages(events).count("error") == 1
    assert [answer["state"] for answer in response["answers"]] == ["failed", "skipped", "completed"]
    assert "DivisionByZero" in response["answers"][0]["error"]
    assert "call 1" in response["answers"][1]["error"]
    assert response["state"] == "partial"
    assert served(client, "what was the last result?", "failing")[1]["answers"][0]["value"] == 4


def test_nothing_could_be_done(client: Client) -> None:
    """Where every part failed the execution fails, and an artifact has the response."""
    run = client.execute(query="1 / 0")
    events = list(run)
    [artifact] = [event.artifact for event in events if event_type(event) == "artifact"]
    assert to_python(artifact.value)["state"] == "failed"
    with pytest.raises(ExecutionFailed, match="nothing of it could be done"):
        run.result()


def test_a_tool_is_tried_again(client: Client, tmp_path: Path) -> None:
    """A tool that fails is called once more, as another attempt of its step."""
    (tmp_path / "mood").touch()
    events, response = served(client, f'run moody file="{tmp_path / "mood"}"')
    assert [event.step_id for event in events if event_type(event) == "step_retrying"] == ["call-1"]
    assert response["answers"][0]["value"] == 7


def test_a_large_response(client: Client) -> None:
    """What has no room in the response is left out of it and says so; very large outputs are artifacts."""
    request = " and then ".join(["run many size=100000"] * 12 + ["run many size=200000"])
    events, response = served(client, request)
    left_out = [call.get("left_out", []) for call in response["calls"]]
    assert left_out[0] == []
    assert left_out[11] == ["output"]
    assert response["calls"][0]["output"][0] == "x" * 50_000
    assert [event.artifact.name for event in events if event_type(event) == "artifact"] == ["call-13"]
    assert response["calls"][12]["artifact"] == "call-13"


@pytest.mark.parametrize(
    ("request_", "reason", "text"),
    [
        ("make me tea", "QUERY_NOT_UNDERSTOOD", "'make me tea' is not understood. What is: arithmetic"),
        ("what was tea?", "STEP_FAILED", "nothing is called 'tea' in this session"),
        ("run hold gate=x", "STEP_FAILED", "calls[0].input.gate input should be a valid integer"),
        ('count the words of "secret"', "STEP_FAILED", "nothing secret is worked on here"),
    ],
)
def test_what_is_refused(client: Client, request_: str, reason: str, text: str) -> None:
    """What is not understood, refers to nothing, does not fit or is refused by an author's stage runs nothing."""
    run = client.execute(query=request_)
    events = list(run)
    with pytest.raises(ExecutionFailed) as error:
        run.result()
    assert text in str(error.value)
    assert reason in str(events[-1].plan_failed.error)
    assert stages(events)[-1:] == ([] if reason == "QUERY_NOT_UNDERSTOOD" else ["error"])
    assert not [event for event in events if event.step_id.startswith("call-")]


def test_turns_of_one_session_at_once(client: Client) -> None:
    """Requests of one session that are served at once all find their way into its memory."""
    with ThreadPoolExecutor(8) as pool:
        requests = [f"{number} * 2 and call it n{number}" for number in range(12)]
        list(pool.map(lambda request: served(client, request, "at-once"), requests))
    _, response = served(client, " + ".join(f"n{number}" for number in range(12)), "at-once")
    assert response["answers"][0]["value"] == sum(2 * number for number in range(12))
    assert response["remembered"]["turns"] == 13


def test_statistics_know_the_stages(client: Client) -> None:
    """Stages and tools are operations: the server's statistics have their times."""
    served(client, "1 + 1")
    known = {found.operation for found in client.statistics().operations}
    assert {*BUILT_IN, "review", "summary", "calculate"} <= known


COMMANDS = """
[commands.lines]
argv = ["wc", "-l"]
parameters = [{ name = "text", stdin = true }]
"""


def test_tools_that_settings_name(tmp_path: Path) -> None:
    """Commands and an MCP server's tools can be asked for by name, and referred to as the others."""
    (tmp_path / "commands.toml").write_text(COMMANDS, "utf-8")
    flags = [
        "--set",
        f"commands={tmp_path / 'commands.toml'}",
        "--set",
        f"mcp={shlex.join([sys.executable, str(MCP)])}",
    ]
    with (
        ServerProcess(tmp_path, app="stepwire_server.planning:app", flags=flags) as server,
        Client(server.address) as client,
    ):
        request = 'run lines text="a\nb\n" and then run add a=40 b=1, then run add a=it b=1 and then double it'
        assert [answer["value"] for answer in served(client, request)[1]["answers"]] == ["2", 41, 42, 84]


def test_by_grpcurl(server: ServerProcess) -> None:
    """grpcurl sees the stages, and the response in the last event."""
    query = json.dumps({"query": "20 % von 80, dann addiere 5 dazu", "sessionId": "grpcurl"})
    arguments = ["-plaintext", "-d", query, server.address, "stepwire.v1.ExecutionService/Execute"]
    done = subprocess.run([find_grpcurl(), *arguments], capture_output=True, text=True, timeout=PATIENCE, check=True)
    events = [event for message in messages(done.stdout) for event in message.get("events", [])]
    told = [event["stage"]["name"] for event in events if "stage" in event]
    assert [name for name in told if name in BUILT_IN] == list(BUILT_IN)
    assert [answer["value"] for answer in events[-1]["planCompleted"]["output"]["answers"]] == [16, 21]
