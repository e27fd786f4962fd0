"""LangGraph: a chain or a fan of steps that do nothing, with and without its SQLite saver.

There is no server. {"shape": "chain", "steps": 100, "saver": ""} runs the steps one after the other, "fan" all at once;
"saver": "sqlite" keeps what happens in a new file. A node is an `async def` that returns a small update of the state. A
graph is built once for each shape and size, and compiling it is not in `seconds`. Every step must have run once.
"""

from __future__ import annotations

import argparse
import asyncio
import operator
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from tests.bench.subject import Disorder, drive_async


class _State(TypedDict):
    done: Annotated[int, operator.add]


class _Steps:
    """A graph of steps, and which of them have run."""

    def __init__(self, shape: str, steps: int) -> None:
        self.ran: list[int] = []
        self.graph = StateGraph(_State)
        names = [self._add(number) for number in range(1, steps + 1)]
        match shape:
            case "chain":
                edges = zip([START, *names], [*names, END], strict=True)
            case "fan":
                edges = ((START, name) for name in names)
            case _:
                raise ValueError(f"no such shape: {shape}")
        for before, after in edges:
            self.graph.add_edge(before, after)
        self.compiled = self.graph.compile()

    def _add(self, number: int) -> str:
        async def step(state: _State) -> dict[str, int]:
            self.ran.append(number)
            return {"done": 1}

        name = f"step-{number}"
        self.graph.add_node(name, step)
        return name

    @asynccontextmanager
    async def saved(self, file: Path) -> AsyncIterator[CompiledStateGraph[Any, Any, Any, Any]]:
        """Gives the graph with a saver that writes to a file."""
        async with AsyncSqliteSaver.from_conn_string(str(file)) as saver:
            await saver.setup()
            yield self.graph.compile(checkpointer=saver)

    async def run(self, graph: CompiledStateGraph[Any, Any, Any, Any]) -> float:
        """Runs all steps; returns the seconds. Raises Disorder where not every step ran once."""
        self.ran.clear()
        steps = len(self.graph.nodes)
        config: RunnableConfig = {"recursion_limit": steps + 10, "configurable": {"thread_id": "1"}}
        begun = time.perf_counter()
        state = await graph.ainvoke({"done": 0}, config)
        seconds = time.perf_counter() - begun
        if sorted(self.ran) != list(range(1, steps + 1)) or state["done"] != steps:
            raise Disorder(f"of {steps} steps {len(self.ran)} ran, and the state says {state['done']}")
        return seconds


async def drive() -> None:
    """Does the work that standard input asks for."""
    made: dict[tuple[str, int], _Steps] = {}

    async def work(command: dict[str, Any]) -> dict[str, Any]:
        key = command["shape"], command["steps"]
        steps = made.get(key) or made.setdefault(key, _Steps(*key))
        match command["saver"]:
            case "":
                seconds = await steps.run(steps.compiled)
            case "sqlite":
                with tempfile.TemporaryDirectory() as folder:
                    async with steps.saved(Path(folder, "checkpoints.sqlite")) as graph:
                        seconds = await steps.run(graph)
            case saver:
                raise ValueError(f"no such saver: {saver}")
        return {"steps": key[1], "events": key[1], "seconds": seconds}

    await drive_async(work)


def main() -> None:
    """Runs the program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_subparsers(dest="command", required=True).add_parser("drive", help="does what standard input asks for")
    parser.parse_args()
    asyncio.run(drive())


if __name__ == "__main__":
    main()
