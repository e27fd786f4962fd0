"""A LangGraph graph as an operation: what it does becomes events, in the order in which it happens."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.config import get_stream_writer
from langgraph.func import entrypoint, task
from langgraph.graph import MessagesState, StateGraph
from langgraph.managed import RemainingSteps
from langgraph.runtime import Runtime
from langgraph.types import Send
from tests.e2e.serving import PATIENCE, command
from tests.server.engine.rig import Rig, failure_of, kinds, of_kind, output, request, state_of, step, turns
from typing_extensions import TypedDict

from stepwire_server import App, Retry, current_step
from stepwire_server.bridges import langgraph_operation, queue

from .graphs import END, START, Log, app_of, chain, run, talker, told


async def test_one_ordered_stream():
    """Updates, custom events, tokens and what agents say by their step come in the order in which they happened."""
    model = talker("two words")

    async def think(state):
        write = get_stream_writer()
        write({"found": 1})
        await current_step().agent("thinker", "think", "hm")
        write({"percentage": 20, "message": "Under way", "left": 3})
        await model.ainvoke("go on")
        await current_step().agent("thinker", "result", "done")
        return {"lines": ["thought"]}

    def act(state):
        get_stream_writer()("before")
        current_step().agent("actor", "progress", "acting")
        get_stream_writer()("after")
        return {"lines": ["acted"]}

    async def close(state):
        await asyncio.create_task(current_step().agent("closer", "decision", "enough"))
        return {"lines": ["closed"]}

    events = await run(chain(think, close, team=chain(act).compile()).compile(), {"subject": "s"})
    assert told(events) == [
        ("stage", "custom", {"found": 1}),
        ("agent", "thinker", "hm"),
        ("step_progress", 20, "Under way", {"left": 3}),
        ("content", "think", "two"),
        ("content", "think", " "),
        ("content", "think", "words"),
        ("agent", "thinker", "done"),
        ("stage", "think", {"state_update": {"lines": ["thought"]}}),
        ("agent", "closer", "enough"),
        ("stage", "close", {"state_update": {"lines": ["closed"]}}),
        ("stage", "custom", {"value": "before"}),
        ("agent", "actor", "acting"),
        ("stage", "custom", {"value": "after"}),
        ("stage", "team/act", {"state_update": {"lines": ["acted"]}}),
        ("stage", "team", {"state_update": {"subject": "s", "lines": ["thought", "closed", "acted"]}}),
    ]
    # The state of a sub-graph goes into that of its parent as its update.
    assert output(events) == {"subject": "s", "lines": ["thought", "closed", "thought", "closed", "acted"]}


async def test_each_message_has_a_channel_of_its_own():
    """The pieces of messages that come side by side make each a whole: the second of a node is in a second channel."""
    first, second = talker("alpha beta"), talker("gamma delta")

    async def talk(state):
        await asyncio.gather(first.ainvoke("a"), second.ainvoke("b"))
        await talker("omega").ainvoke("c")
        return {"lines": []}

    events = await run(chain(talk).compile())
    texts: dict[str, str] = {}
    for event in of_kind(events, "content"):
        assert event.content.offset == len(texts.get(event.content.channel, ""))
        texts[event.content.channel] = texts.get(event.content.channel, "") + event.content.text
    assert texts == {"talk": "alpha beta", "talk#2": "gamma delta", "talk#3": "omega"}


async def test_messages_become_roles_and_contents():
    """Chat messages in updates and output are dicts of role and content; what people said is not streamed again."""
    model = talker("Hello you")

    async def chat(state: MessagesState):
        return {"messages": [await model.ainvoke(state["messages"]), HumanMessage("Thanks", name="Ann")]}

    events = await run(chain(chat, schema=MessagesState).compile(), {"messages": [["user", "Hi"]]})
    said = [{"role": "assistant", "content": "Hello you"}, {"role": "user", "content": "Thanks", "name": "Ann"}]
    assert told(events)[-1] == ("stage", "chat", {"state_update": {"messages": said}})
    assert output(events) == {"messages": [{"role": "user", "content": "Hi"}, *said]}
    assert "".join(event.content.text for event in of_kind(events, "content")) == "Hello you"


async def test_reports_that_are_none():
    """A dict from a stream writer that would be no valid report is passed on as it is, and harms nothing."""
    odd: list[Any] = [
        {"percentage": 101},
        {"percentage": "half"},
        {"message": 3},
        {"percentage": float("nan")},
        {"percentage": True},
        object(),
    ]

    async def report(state):
        for item in odd:
            get_stream_writer()(item)
        get_stream_writer()({"message": "Reading", "current": 1, "total": 4, "unit": "pages", "stage": "read"})

    events = await run(chain(report).compile())
    assert [event.stage.name for event in of_kind(events, "stage")] == ["custom"] * len(odd) + ["report"]
    (read,) = of_kind(events, "step_progress")
    assert (read.step_progress.stage, read.step_progress.percentage, read.step_progress.unit) == ("read", 25, "pages")


async def test_large_updates_are_cut():
    """An update beyond 32 KiB is cut in its event, which says how much is missing; the output is whole."""

    async def read(state):
        return {"subject": "x" * 100_000, "lines": ["y"] * 20_000}

    events = await run(chain(read).compile())
    (update,) = of_kind(events, "stage")
    assert update.ByteSize() < 40_000
    assert "more characters)" in str(update)
    assert "(cut" in str(update.stage.data.fields["state_update"].struct_value.fields.get("lines", update))
    assert len(output(events)["lines"]) == 20_000


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


@pytest.mark.parametrize("first", [True, False], ids=["known", "not known"])
async def test_graphs_that_nodes_call(first: bool, monkeypatch: pytest.MonkeyPatch):
    """A graph that a node calls, on a thread of its own or with a stream that is read there, holds no word back."""
    monkeypatch.setattr(queue, "_READER_SLEEPS", 0.01)
    seen = []

    async def inner(state):
        get_stream_writer()({"inner": "one"})
        await current_step().agent("inner", "think", "hm")
        return {"lines": ["inner"]}

    async def outer(state):
        if first:
            await current_step().agent("outer", "think", "begins")
        own: Any = {"configurable": {"thread_id": "own"}}
        await chain(inner).compile(checkpointer=InMemorySaver()).ainvoke({}, own)
        async for item in chain(inner).compile().astream({}, stream_mode="custom"):
            seen.append(item)
        return {"lines": ["outer"]}

    events = await run(chain(outer).compile())
    assert [event.message for event in of_kind(events, "agent")] == ["begins"] * first + ["hm", "hm"]
    if first:
        assert seen == [{"inner": "one"}]


async def test_side_by_side():
    """Nodes that run side by side, one for each item, speak in between each other; each word precedes its update."""

    def spread(state):
        return [Send("work", {"subject": str(number)}) for number in range(20)]

    async def work(state):
        get_stream_writer()({"begin": state["subject"]})
        await current_step().agent(state["subject"], "progress", "working")
        return {"lines": [state["subject"]]}

    graph = StateGraph(Log)
    graph.add_node("work", work)
    graph.add_conditional_edges(START, spread)
    events = await run(graph.compile())
    stages = [to for kind, *to in told(events) if kind == "stage"]
    agents = [to[0] for kind, *to in told(events) if kind == "agent"]
    order = [str(word) for word in told(events)]
    for number in map(str, range(20)):
        places = [
            order.index(str(word))
            for word in (
                ("stage", "custom", {"begin": number}),
                ("agent", number, "working"),
                ("stage", "work", {"state_update": {"lines": [number]}}),
            )
        ]
        assert places == sorted(places)
    assert len(stages) == 40
    assert sorted(agents) == sorted(map(str, range(20)))


async def test_the_input_is_checked():
    """The keys of the graph's input are the operation's parameters: another, or one of another type, is refused."""
    app = app_of(chain(subject=lambda state: {}).compile(), description="Say something.")
    operation = app.catalog().operations["graph"]
    assert operation.description == "Say something."
    assert {name: field.get("type") for name, field in operation.signature.schema["properties"].items()} == {
        "subject": "string",
        "lines": "array",
    }
    found = operation.signature.check({"subject": 3, "topic": "x"}, path="input")
    assert [violation.field for violation in found] == ["input.subject", "input.topic"]
    assert operation.signature.check({}, path="input") == []


class Frame:
    """What no JSON schema describes."""


class Odd(TypedDict, total=False):
    frame: Frame
    steps_left: RemainingSteps


async def test_keys_that_can_not_be_checked():
    """A key of a type that no JSON schema describes takes anything, and what LangGraph manages by itself is no key."""
    app = app_of(chain(subject=lambda state: {}, schema=Odd).compile())
    properties = app.catalog().operations["graph"].signature.schema["properties"]
    assert list(properties) == ["frame"]
    assert "type" not in properties["frame"]


async def test_an_input_of_your_own():
    """A function that makes the input gives its own parameters to the operation, and its docstring."""

    def ask(question: str, times: int = 1) -> dict[str, Any]:
        """Ask so many times."""
        return {"lines": [question] * times}

    app = app_of(chain(echo=lambda state: {"lines": ["!"]}).compile(), input=ask, select="lines")
    assert app.catalog().operations["graph"].description == "Ask so many times."
    async with Rig(app) as rig:
        events = await rig.run(request(step("a", "graph", input={"question": "?", "times": 2})))
    assert output(events) == ["?", "?", "!"]


async def test_what_can_not_be_selected():
    """A key that the final state lacks fails the step, and the failure says which there are."""
    events = await run(chain(echo=lambda state: {"lines": ["!"]}).compile(), select="answer")
    assert "no 'answer' to select; it has: lines" in failure_of(events, "a")[1]


async def test_an_output_that_is_no_json():
    """A final state that can't be sent fails the step, and the failure says where in it."""
    events = await run(chain(echo=lambda state: {"lines": [object()]}).compile())
    reason, text = failure_of(events, "a")
    assert reason == "OUTPUT_INVALID"
    assert "output" in text
    (update,) = of_kind(events, "stage")
    assert "(object)" in str(update)


async def test_an_entrypoint():
    """A workflow of functions is a graph, too: its input is one value, and its tasks are its nodes."""

    @task
    async def double(number: int) -> int:
        await current_step().agent("doubler", "progress", f"doubling {number}")
        return 2 * number

    @entrypoint()
    async def workflow(number: int) -> int:
        return await double(number) + 1

    events = await run(workflow, {"input": 4})
    assert told(events) == [
        ("agent", "doubler", "doubling 4"),
        ("stage", "double", {"state_update": 8}),
        ("stage", "workflow", {"state_update": 9}),
    ]
    assert output(events) == 9


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


async def test_the_context_of_a_graph():
    """What `context` has reaches the nodes as the context of the graph's runtime."""

    @dataclass
    class Settings:
        language: str

    async def greet(state, runtime: Runtime[Settings]):
        return {"lines": [runtime.context.language]}

    # LangGraph looks the annotation up by its name.
    greet.__annotations__["runtime"] = Runtime[Settings]
    graph = StateGraph(Log, context_schema=Settings)
    graph.add_node("greet", greet)
    graph.add_edge(START, "greet")
    events = await run(graph.compile(), context=Settings("de"), select="lines")
    assert output(events) == ["de"]


async def test_more_configuration():
    """What `config` has reaches LangGraph, beside the thread of the step."""

    async def loop(state):
        return {"lines": ["again"]}

    graph = StateGraph(Log)
    graph.add_node("loop", loop)
    graph.add_edge(START, "loop")
    graph.add_edge("loop", "loop")
    events = await run(graph.compile(), config={"recursion_limit": 3})
    assert kinds(told_stages(events)) == ["stage"] * 3
    assert failure_of(events, "a")[1].startswith("GraphRecursionError: Recursion limit of 3")


def told_stages(events: list[Any]) -> list[Any]:
    return of_kind(events, "stage")


def test_langgraph_is_missing(tmp_path: Path):
    """A server whose app has a graph, and no LangGraph, says in one line what to install, and does not start."""
    program = tmp_path / "graphs.py"
    program.write_text(
        "import sys\n"
        "sys.modules['langgraph'] = sys.modules['langgraph.types'] = None\n"
        "from stepwire_server import App\n"
        "from stepwire_server.bridges import langgraph_operation\n"
        "app = App('graphs')\n"
        "langgraph_operation(app, 'graph', object())\n",
        "utf-8",
    )
    arguments = [command("stepwire-server"), "serve", "graphs:app", "--listen", "127.0.0.1:0", "--journal", "memory"]
    done = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode != 0
    (line,) = done.stderr.strip().splitlines()
    assert 'pip install "stepwire[server,langgraph]"' in line


def test_langgraph_is_not_loaded_with_the_bridges():
    """Importing the bridges, all of them, loads neither LangGraph nor LangChain."""
    code = (
        "import sys, stepwire_server.bridges.langgraph, stepwire_server.bridges.callbacks\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('langgraph', 'langchain_core', 'langsmith')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert done.stdout.strip() == "[]"


def test_a_name_stands_once():
    """Two graphs of an app need names of their own, as operations do."""
    app = App("graphs")
    graph = chain(echo=lambda state: {}).compile()
    langgraph_operation(app, "graph", graph)
    with pytest.raises(ValueError, match="has its operation 'graph' already"):
        langgraph_operation(app, "graph", graph)
