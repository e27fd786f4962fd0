"""What outlives the server: a session's memory, and a request that it was killed in."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from tests.e2e.serving import Gate, ServerProcess

from stepwire import Client, event_type
from stepwire_server import App
from stepwire_server.planning import BUILT_IN, Planning

from .test_stages import DESK, served, stages


def test_a_session_outlives_the_server(tmp_path: Path) -> None:
    """After kill -9 a session knows its results and names; one that is damaged or out of reach is told of."""
    with ServerProcess(tmp_path, app="stepwire_server.planning:app") as server, Client(server.address) as client:
        served(client, "12 * 7 and call it total", "web")
        server.kill()
        server.start()
        assert served(client, "what was total?", "web")[1]["answers"][0]["value"] == 84
        assert served(client, "add 5 to it", "web")[1]["answers"][0]["value"] == 89
        folder = tmp_path / "journal.db-app"
        [path] = folder.glob("*.jsonl")
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        path.write_bytes(path.read_bytes()[:-9])
        events, response = served(client, "1 + 1", "web")
        [error] = [event.message for event in events if event_type(event) == "error"]
        assert error.startswith("the memory of session web is damaged")
        assert "error" in stages(events)
        assert response["remembered"]["turns"] == 1
        assert served(client, "add 5 to it", "web")[1]["answers"][0]["value"] == 7
        folder.rename(tmp_path / "elsewhere")
        folder.write_text("no folder", "utf-8")
        events, response = served(client, "2 + 2", "web")
        assert response["answers"][0]["value"] == 4
        assert "can't be kept" in response["remembered"]["why"]
        assert [event.step_id for event in events if event_type(event) == "error"] == ["context", "memory"]


def test_kill_9_in_the_execution_stage(tmp_path: Path) -> None:
    """A server that is killed while calls run goes on with them: no stage comes twice, and each event once."""
    with Gate() as gate, ServerProcess(tmp_path, app="desk:app", cwd=DESK) as server, Client(server.address) as client:
        held = f"run hold gate={gate.port} text=2026-12-24"
        run = client.execute(query=f"2 * 3 and then {held} and then add 1 to it", session_id="web")
        events, killed = [], False
        for event in run:
            events.append(event)
            done = {event.step_id for event in events if event_type(event) == "step_completed"}
            if {"execution", "call-1"} <= done and not killed:
                killed = True
                gate.arrived("call-2")
                server.kill()
                server.start()
                gate.arrived("call-2", attempt=2)
                gate.open()
        response = run.result()
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert [name for name in stages(events) if name in BUILT_IN] == list(BUILT_IN)
    assert [stage["stage"] for stage in response["stages"]].count("execution") == 1
    assert len({stage["stage"] for stage in response["stages"]}) == len(response["stages"]) == 9
    # A date would read as a difference; the others stand.
    assert [answer["state"] for answer in response["answers"]] == ["completed", "completed", "failed"]
    assert "'2026-12-24', which is no number" in response["answers"][2]["error"]
    assert response["remembered"]["turns"] == 1


def test_nothing_is_kept_without_a_place(tmp_path: Path) -> None:
    """With the journal in memory and no folder named, the app says at its start and in responses that nothing stays."""
    with ServerProcess(tmp_path, app="stepwire_server.planning:app", flags=["--journal", "memory"]) as server:
        with Client(server.address) as client:
            served(client, "1 + 1", "web")
            response = served(client, "2 + 2", "web")[1]
        assert not response["remembered"]["kept"]
        assert "the journal is in memory" in response["remembered"]["why"]
        assert "nothing is kept" in server.log.read_text("utf-8")


@pytest.mark.parametrize("after", ["tea", "completion"])
def test_where_a_stage_can_come(after: str) -> None:
    """A stage of one's own comes after one that is there, and not after the last one."""
    planning = Planning("desk")
    with pytest.raises(ValueError, match=f"can't come after '{after}'; it can after: start, context"):

        @planning.stage("late", after=after)
        async def late(step, turn):  # type: ignore[no-untyped-def]
            """Never runs."""


@pytest.mark.parametrize("attempts", ["0", "21", "two", ""])
async def test_attempts(attempts: str) -> None:
    """How often a tool is called is a number from 1 to 20; the start ends with what is wrong."""
    with pytest.raises(ValueError, match=r"attempts is .*; it must be 1 to 20"):
        await Planning().app.start({"attempts": attempts})


def test_stages_stand_in_the_order_of_their_registration() -> None:
    """What comes after the same stage comes in the order in which it was added, also after one's own."""
    planning = Planning("desk")
    for name, after in [("a", "planning"), ("b", "planning"), ("c", "a"), ("d", "validation")]:

        async def work(step, turn):  # type: ignore[no-untyped-def]
            """Does nothing."""

        planning.stage(name, after=after)(work)
    app: App = planning.app
    plan = app.catalog().plans["answer"].function(request="1 + 1")
    names = [step.id for step in plan.steps]
    assert names == ["start", "context", "analyzing", "planning", "a", "c", "b", "validation", "d", "execution"]
