"""Graphs that a real server serves: the connection is cut, and the server killed, in the middle of them."""

from __future__ import annotations

import ast
import shutil
from pathlib import Path

import pytest
from tests.e2e.proxy import Proxy
from tests.e2e.serving import Gate, ServerProcess

import stepwire.aio
from stepwire import Client
from stepwire.v1 import Event

from .apps import stories

APPS = Path(__file__).parent / "apps"


@pytest.mark.timeout(120)
async def test_cut_in_the_middle_of_a_token(tmp_path: Path) -> None:
    """However often the connection is cut while a model speaks, the client reads each token of it once, in order."""
    work = {"messages": [["user", "A day at the lake"]]}
    plan = {"steps": [{"id": "a", "operation": "story", "input": work}]}
    events = []
    with ServerProcess(tmp_path, app="stories:app", cwd=APPS) as server:
        async with Proxy(server.address) as proxy, stepwire.aio.Client(proxy.address) as client:
            shot = proxy.reset_after(7_001)
            run = await client.execute(plan=plan)
            async for event in run:
                events.append(event)
                if shot.done() and proxy.resets < 3:
                    shot = proxy.reset_after(9_001)
            output = await run.result()
    assert proxy.resets == 3
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    pieces = [event.content for event in events if event.HasField("content")]
    assert {piece.channel for piece in pieces} == {"write"}
    assert len(pieces) > 1_500
    assert "".join(piece.text for piece in pieces) == stories.STORY
    lengths = [len(piece.text) for piece in pieces]
    assert [piece.offset for piece in pieces] == [sum(lengths[:number]) for number in range(len(lengths))]
    assert [event.stage.name for event in events if event.HasField("stage")] == ["outline", "write"]
    assert output["messages"][-1] == {"role": "assistant", "content": stories.STORY}


def test_a_graph_is_served_in_few_lines() -> None:
    """What serves a graph that is there are two lines, and what they import."""
    lines = [ast.unparse(line) for line in ast.parse((APPS / "stories.py").read_text("utf-8")).body]
    assert [line for line in lines if "stepwire" in line or "app" in line] == [
        "from stepwire_server import App",
        "from stepwire_server.bridges import langgraph_operation",
        "app = App('stories')",
        "langgraph_operation(app, 'story', graph)",
    ]


@pytest.mark.timeout(180)  # Three servers start, one after another.
def test_killed_in_the_middle_of_a_graph(tmp_path: Path) -> None:
    """After kill -9 a graph with a checkpointer goes on with the node that was running, and so while it asks."""
    shutil.copy(APPS / "trips.py", tmp_path)
    events: list[Event] = []
    with (
        Gate() as gate,
        ServerProcess(tmp_path, app="trips:app", cwd=tmp_path) as server,
        Client(server.address) as client,
    ):
        work = {"gate": gate.port, "folder": str(tmp_path)}
        execution_id = client.start(plan={"steps": [{"id": "a", "operation": "trip", "input": work}]}).execution_id
        gate.arrived("book")
        server.kill()
        server.start()
        gate.arrived("book", attempt=2)
        gate.release("book")
        for event in client.watch(execution_id):
            events.append(event)
            if event.HasField("input_requested") and event.attempt == 2:
                asked = event.input_requested.input_id
                server.kill()
                server.start()
            if event.HasField("step_started") and event.attempt == 3:
                client.answer(execution_id, asked, "yes")
    assert (tmp_path / "trace").read_text("utf-8").splitlines() == ["plan 1", "book 1", "book 2"]
    assert {event.input_requested.input_id for event in events if event.HasField("input_requested")} == {asked}
    output = events[-1].plan_completed.output.list_value.values
    assert [value.string_value for value in output] == ["planned", "booked", "paid: yes"]
