"""A graph that keeps its checkpoints in SQLite, and whose nodes leave traces, wait and ask."""

from __future__ import annotations

import asyncio
import operator
from pathlib import Path
from typing import Annotated

from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import START, StateGraph
from langgraph.types import interrupt
from typing_extensions import TypedDict

from stepwire_server import App, current_step
from stepwire_server.bridges import langgraph_operation


class Trip(TypedDict, total=False):
    """What the nodes pass on."""

    gate: int
    folder: str
    done: Annotated[list[str], operator.add]


def trace(state: Trip, node: str) -> None:
    """Leave a line for each call of a node."""
    with (Path(state["folder"]) / "trace").open("a", encoding="utf-8") as file:
        file.write(f"{node} {current_step().attempt}\n")


async def plan(state: Trip):
    trace(state, "plan")
    return {"done": ["planned"]}


async def book(state: Trip):
    trace(state, "book")
    reader, writer = await asyncio.open_connection("127.0.0.1", state["gate"])
    writer.write(f"book {current_step().attempt}\n".encode())
    await reader.read(1)
    writer.close()
    return {"done": ["booked"]}


async def pay(state: Trip):
    return {"done": [f"paid: {interrupt('Pay?')}"]}


graph = StateGraph(Trip).add_sequence([plan, book, pay]).add_edge(START, "plan").compile()

app = App("trips")
langgraph_operation(
    app, "trip", graph, select="done", checkpointer=lambda: AsyncSqliteSaver.from_conn_string("trips.db")
)
