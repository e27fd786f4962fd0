"""What the tests of tools share: a real server with a toolbox, and what its executions streamed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.serving import until

from stepwire.aio import Client
from stepwire.v1 import Event, Plan
from stepwire.values import to_python
from stepwire_server import App, plan_step
from stepwire_server.api.server import Options, Server
from stepwire_server.journal import MemoryJournal
from stepwire_server.tools import Toolbox

__all__ = ["HANGS", "PROGRAM", "Ran", "Served", "call", "come", "serving"]

HANGS = 20.0
"""Seconds after which a test says that something never came."""

PROGRAM = Path(__file__).with_name("mcp_program.py")
"""A real MCP server."""


@dataclass
class Ran:
    """What an execution streamed, and what it gave."""

    events: list[Event]
    output: Any

    @property
    def stages(self) -> list[str]:
        """The names of its stages, in their order."""
        return [event.stage.name for event in self.events if event.HasField("stage")]

    def stage(self, name: str) -> dict[str, Any]:
        """The data of a stage."""
        (found,) = [event.stage.data for event in self.events if event.HasField("stage") and event.stage.name == name]
        return dict(to_python(found))

    @property
    def results(self) -> dict[str, dict[str, Any]]:
        """The outcomes of its calls, by their ids."""
        return {result["id"]: result for result in self.output["results"]}

    @property
    def totals(self) -> dict[str, Any]:
        return {key: value for key, value in self.output["totals"].items() if key != "seconds"}

    def text(self, channel: str = "") -> str:
        """What was streamed on a channel."""
        return "".join(event.content.text for event in self.events if event.content.channel == channel)

    @property
    def failure(self) -> str:
        """Why its step failed."""
        (found,) = [event.step_failed.error.message for event in self.events if event.HasField("step_failed")]
        return found


class Served:
    """A server that serves tools, and a client."""

    def __init__(self, client: Client, toolbox: Toolbox) -> None:
        self.client = client
        self.toolbox = toolbox

    async def tools(self, *calls: Mapping[str, Any], **more: Any) -> Ran:
        """Makes calls in one step, which does not fail because they do."""
        return await self.step("run_tools", calls=list(calls), **{"fail_on_error": False, **more})

    async def step(self, operation: str, /, **inputs: Any) -> Ran:
        """Runs one step to its end."""
        async with asyncio.timeout(HANGS):
            started = await self.client.execute(plan=self.plan(operation, **inputs))
            events = [event async for event in started]
            last = events[-1]
            return Ran(events, to_python(last.plan_completed.output) if last.HasField("plan_completed") else None)

    @staticmethod
    def plan(operation: str, /, **inputs: Any) -> Plan:
        return Plan(steps=[plan_step("a", operation, input=inputs)])


def call(tool: str, /, *, id: str | None = None, **given: Any) -> dict[str, Any]:  # noqa: A002 - the input's own word
    """Returns a call as callers write it."""
    return {"tool": tool, "input": given} | ({} if id is None else {"id": id})


@asynccontextmanager
async def serving(toolbox: Toolbox) -> AsyncIterator[Served]:
    """Serves a toolbox."""
    app = App("tested")
    toolbox.register(app)
    try:
        await app.start()
        async with (
            Server(app.catalog(), MemoryJournal(), Options(drain_grace=0.0)) as server,
            Client(server.address) as client,
        ):
            yield Served(client, toolbox)
    finally:
        await app.stop()


async def come(path: Path) -> None:
    """Waits for a file that another process makes."""
    await asyncio.to_thread(until, path.exists, f"{path.name}")
