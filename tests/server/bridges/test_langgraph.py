"""A LangGraph graph as an operation: what it does becomes events, in the order in which it happens."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.config import get_stream_writer
from langgraph.graph import MessagesState, StateGraph
from langgraph.types import Send
from tests.server.engine.rig import of_kind, output

from stepwire_server import current_step
from stepwire_server.bridges import queue

from .graphs import START, Log, chain, run, talker, told


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
