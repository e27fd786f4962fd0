"""Operations that speak from far below: five calls deep, from threads and from tasks. Each then waits for the gate."""

from __future__ import annotations

import asyncio
import contextvars
import socket
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from langgraph.graph import START, StateGraph
from typing_extensions import TypedDict

from stepwire_server import App, BlockingStepContext, current_step
from stepwire_server.bridges import langgraph_operation

app = App("depths", description="Words from far below.")


async def deep(below: int = 4) -> None:
    """Say when it is, five calls deep."""
    if below:
        await deep(below - 1)
    else:
        step = current_step()
        await step.agent(step.id, "think", "from far below", details={f"{step.id} emitted": time.time()})


def deep_in_thread(below: int = 4) -> None:
    """Say when it is, five calls deep, where methods block."""
    if below:
        deep_in_thread(below - 1)
    else:
        step = current_step()
        assert isinstance(step, BlockingStepContext)
        step.agent(step.id, "think", "from far below", details={f"{step.id} emitted": time.time()})


async def hold(gate: int) -> dict[str, float]:
    """Wait for the gate, and say when that was."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gate)
    writer.write(f"{current_step().id} 1\n".encode())
    await reader.read(1)
    writer.close()
    return {"ended": time.time()}


def spoken(way: Callable[[], Awaitable[None]]) -> None:
    """Register an operation that speaks in this way."""

    async def operation(gate: int) -> dict[str, float]:
        await way()
        return await hold(gate)

    app.operation(way.__name__)(operation)


@spoken
async def calls() -> None:
    await deep()


@spoken
async def thread() -> None:
    await asyncio.to_thread(deep_in_thread)


@spoken
async def executor() -> None:
    with ThreadPoolExecutor(1) as pool:
        inherited = contextvars.copy_context()
        await asyncio.get_running_loop().run_in_executor(pool, inherited.run, deep_in_thread)


@spoken
async def bare_thread() -> None:
    bare = threading.Thread(target=contextvars.copy_context().run, args=(deep_in_thread,))
    bare.start()
    await asyncio.to_thread(bare.join)


@spoken
async def task() -> None:
    await asyncio.create_task(deep())


@spoken
async def task_of_a_task() -> None:
    async def start() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(deep())

    await asyncio.create_task(start())


@spoken
async def thread_of_a_task() -> None:
    await asyncio.create_task(asyncio.to_thread(deep_in_thread))


@app.operation("plain")
def plain(gate: int) -> dict[str, float]:
    """Speak from a plain function."""
    deep_in_thread()
    with socket.create_connection(("127.0.0.1", gate)) as connection:
        connection.sendall(f"{current_step().id} 1\n".encode())
        connection.recv(1)
    return {"ended": time.time()}


class Below(TypedDict, total=False):
    """What the graphs pass on."""

    gate: int
    ended: float


async def node(state: Below) -> dict[str, float]:
    """Speak from a node."""
    await deep()
    return await hold(state["gate"])


async def node_thread(state: Below) -> dict[str, float]:
    """Speak from a thread of a node."""
    await asyncio.to_thread(deep_in_thread)
    return await hold(state["gate"])


def graph(node: Any, *, inner: bool = False) -> Any:
    """Return a graph of this node, or of a graph of it."""
    built = StateGraph(Below)
    built.add_node("inner", graph(node) if inner else node)
    built.add_edge(START, "inner")
    return built.compile()


langgraph_operation(app, "graph_node", graph(node))
langgraph_operation(app, "thread_of_a_node", graph(node_thread))
langgraph_operation(app, "node_of_a_subgraph", graph(node, inner=True))
