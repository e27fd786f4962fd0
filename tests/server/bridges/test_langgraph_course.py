"""A LangGraph graph as an operation: attempts that fail and go on, cancels and pauses."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.config import get_stream_writer
from langgraph.graph import StateGraph
from tests.server.engine.rig import Rig, failure_of, kinds, of_kind, output, request, state_of, step, turns

from stepwire_server import Retry, current_step
from stepwire_server.bridges import queue

from .graphs import END, START, Log, app_of, chain, run, told


async def test_a_failure_names_its_node():
    """A node that raises fails the step with its exception and its path; what it said before is not lost."""

    async def fail(state):
        get_stream_writer()({"last": "words"})
        raise ValueError("no such table")

    events = await run(chain(team=chain(fail).compile()).compile())
    text = "ValueError: no such table\nin node 'team/fail' of the graph"
    assert failure_of(events, "a") == ("OPERATION_FAILED", text)
    assert told(events) == [("stage", "custom", {"last": "words"})]


async def test_another_attempt_goes_on():
    """With a checkpointer another attempt begins with the node that failed."""
    calls = []

    async def first(state):
        calls.append("first")
        return {"lines": ["first"]}

    async def second(state):
        calls.append("second")
        if calls.count("second") == 1:
            raise ConnectionError("lost")
        return {"lines": ["second"]}

    graph = chain(first, second).compile(checkpointer=InMemorySaver())
    retry = Retry(attempts=2, errors=["ConnectionError"])
    app = app_of(graph, retry=retry)
    async with Rig(app) as rig:
        execution_id = await rig.start(request(step("a", "graph", input={"subject": "s"})))
        await rig.durable(execution_id, "step_retrying")
        await rig.quiet()
        rig.clock.advance(60)
        events = await rig.ended(execution_id)
    assert calls == ["first", "second", "second"]
    assert output(events) == {"subject": "s", "lines": ["first", "second"]}
    assert graph.get_state({"configurable": {"thread_id": f"{execution_id}/a"}}).next == ()


async def test_another_attempt_of_a_graph_that_had_ended():
    """An attempt that finds its graph at its end runs no node, and has the output that there was."""
    calls, saver = [], InMemorySaver()

    async def only(state):
        calls.append("only")
        return {"lines": ["only"]}

    @asynccontextmanager
    async def opened():
        yield saver
        if not calls.count("closed"):
            calls.append("closed")
            raise ConnectionError("lost while closing")

    async with Rig(app_of(chain(only).compile(), checkpointer=opened, retry=Retry(attempts=2))) as rig:
        execution_id = await rig.start(request(step("a", "graph", input={"subject": "s"})))
        await rig.durable(execution_id, "step_retrying")
        await rig.quiet()
        rig.clock.advance(60)
        events = await rig.ended(execution_id)
    assert calls == ["only", "closed"]
    assert output(events) == {"subject": "s", "lines": ["only"]}


async def test_without_a_checkpointer_another_attempt_begins_again():
    """A graph that keeps no checkpoints is run again from its beginning."""
    calls = []

    async def first(state):
        calls.append("first")

    async def second(state):
        calls.append("second")
        if calls.count("second") == 1:
            raise ConnectionError("lost")

    async with Rig(app_of(chain(first, second).compile(), retry=Retry(attempts=2))) as rig:
        execution_id = await rig.start(request(step("a", "graph")))
        await rig.durable(execution_id, "step_retrying")
        await rig.quiet()
        rig.clock.advance(60)
        await rig.ended(execution_id)
    assert calls == ["first", "second", "first", "second"]


async def test_a_cancel_reaches_the_nodes():
    """A cancel interrupts the nodes that run, and what they say while they clean up is heard."""
    running, cleaned = asyncio.Event(), []

    async def work(state):
        try:
            running.set()
            await asyncio.Event().wait()
        finally:
            get_stream_writer()({"too": "late"})
            await current_step().stage("cleaning up")
            cleaned.append("work")

    async with Rig(app_of(chain(team=chain(work).compile()).compile())) as rig:
        execution_id = await rig.start(request(step("a", "graph")))
        await running.wait()
        await rig.engine.cancel(execution_id, actor="Ann", reason="enough")
        events = await rig.ended(execution_id)
    assert cleaned == ["work"]
    assert state_of(events) == "CANCELLED"
    assert [event.stage.name for event in of_kind(events, "stage")] == ["cleaning up"]


async def test_who_cleans_up_after_another_node_does_not_wait(monkeypatch: pytest.MonkeyPatch):
    """Where a node fails, what tasks of the others say while these clean up is said, though nothing is streamed any
    more.
    """
    monkeypatch.setattr(queue, "_READER_SLEEPS", 0.01)
    running = asyncio.Event()

    async def fail(state):
        await running.wait()
        raise ValueError("no")

    async def work(state):
        try:
            running.set()
            await asyncio.Event().wait()
        finally:
            saying = {asyncio.create_task(current_step().stage(name)) for name in ("one", "two")}
            while any(not task.done() for task in saying):  # LangGraph cancels a node twice.
                with suppress(asyncio.CancelledError):
                    await asyncio.wait(saying)

    async def direct(state):
        try:
            await asyncio.Event().wait()
        finally:
            await current_step().stage("direct")

    graph = StateGraph(Log)
    for node in (fail, work, direct):
        graph.add_node(node.__name__, node)
        graph.add_edge(START, node.__name__)
        graph.add_edge(node.__name__, END)
    events = await run(graph.compile())
    assert {event.stage.name for event in of_kind(events, "stage")} == {"one", "two", "direct"}
    assert failure_of(events, "a")[1] == "ValueError: no\nin node 'fail' of the graph"


async def test_a_pause_holds_a_graph_between_its_nodes():
    """While its execution is paused, a graph with a checkpointer ends the node that runs and begins no other."""
    begun, may_end, calls = asyncio.Event(), asyncio.Event(), []

    async def one(state):
        begun.set()
        await may_end.wait()
        calls.append("one")

    async def two(state):
        calls.append("two")

    async with Rig(app_of(chain(one, two).compile(checkpointer=InMemorySaver()))) as rig:
        execution_id = await rig.start(request(step("a", "graph", input={"subject": "s"})))
        await begun.wait()
        await rig.engine.pause(execution_id, actor="Ann", reason="wait")
        may_end.set()
        await rig.durable(execution_id, "stage")
        await turns(500)
        assert calls == ["one"]
        await rig.engine.resume(execution_id, actor="Ann", reason="go on")
        events = await rig.ended(execution_id)
    assert calls == ["one", "two"]
    order = [kind for kind in kinds(events) if kind in ("plan_paused", "stage", "plan_resumed")]
    assert order == ["plan_paused", "stage", "plan_resumed", "stage"]
