"""LangGraph graphs that the tests serve, and an engine that runs them."""

from __future__ import annotations

import operator
from typing import Annotated, Any

from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langgraph.graph import END, START, StateGraph
from tests.server.engine.rig import Rig, kind_of, request, step, well_formed
from typing_extensions import TypedDict

from stepwire.v1 import Event
from stepwire.values import to_python
from stepwire_server import App
from stepwire_server.bridges import langgraph_operation

__all__ = ["END", "START", "Log", "app_of", "chain", "run", "talker", "told"]


class Log(TypedDict, total=False):
    """A state to which every node adds a line."""

    subject: str
    lines: Annotated[list[str], operator.add]


def chain(*nodes: Any, schema: Any = Log, **named: Any) -> StateGraph[Any, Any, Any, Any]:
    """Returns a graph of nodes in a row, not compiled."""
    graph = StateGraph(schema)
    before = START
    for name, node in [*((node.__name__, node) for node in nodes), *named.items()]:
        graph.add_node(name, node)
        graph.add_edge(before, name)
        before = name
    graph.add_edge(before, END)
    return graph


def talker(*texts: str) -> GenericFakeChatModel:
    """Returns a model that says these texts, one a call, word by word."""
    return GenericFakeChatModel(messages=iter([AIMessage(text) for text in texts]))


def app_of(graph: Any, **options: Any) -> App:
    """Returns an app whose operation "graph" is this one."""
    app = App("graphs")
    langgraph_operation(app, "graph", graph, **options)
    return app


async def run(graph: Any, given: dict[str, Any] | None = None, **options: Any) -> list[Event]:
    """Returns the events of an execution of one step that runs the graph."""
    async with Rig(app_of(graph, **options)) as rig:
        events = await rig.run(request(step("a", "graph", input=given or {})))
    well_formed(events)
    return events


def told(events: list[Event]) -> list[tuple[Any, ...]]:
    """Returns what the step said between its start and its end, as (kind, ...)."""
    return [_short(event) for event in events if event.step_id][1:-1]


def _short(event: Event) -> tuple[Any, ...]:
    match kind := kind_of(event):
        case "stage":
            return ("stage", event.stage.name, to_python(event.stage.data))
        case "step_progress":
            report = event.step_progress
            return (kind, report.percentage, event.message, to_python(report.data))
        case "content":
            return (kind, event.content.channel, event.content.text)
        case "agent":
            return (kind, event.agent.agent, event.message)
        case _:
            return (kind, event.message)
