"""A set of tools, for an app's steps and for models.

toolbox = Toolbox()

@toolbox.tool()
def add(a: int, b: int) -> int:
    \"\"\"Add two numbers.\"\"\"
    return a + b

toolbox.register(app)
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Annotated, Any, TypeVar

from pydantic import Field

from stepwire_server import App, StepContext, check_programs
from stepwire_server.tools.calls import BadCall, Call, Calls, Outcome, Run
from stepwire_server.tools.functions import FunctionTool
from stepwire_server.tools.mcp_servers import McpServer
from stepwire_server.tools.tool import Tool, ToolFailed

__all__ = ["RUN_TOOLS", "Toolbox", "tool_operations"]

RUN_TOOLS = "run_tools"
"""The operation that makes several calls."""

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_NAMED = 5

F = TypeVar("F", bound=Callable[..., Any])


class Toolbox:
    """Tools under names, wherever their work is done."""

    def __init__(self, tools: Iterable[Tool] = ()) -> None:
        self._tools: dict[str, Tool] = {}
        self._servers: list[McpServer] = []
        for tool in tools:
            self.add(tool)

    def __getitem__(self, name: str) -> Tool:
        return self._tools[name]

    def __iter__(self) -> Iterator[Tool]:
        return iter(self._tools.values())

    def __len__(self) -> int:
        return len(self._tools)

    def __contains__(self, name: object) -> bool:
        return name in self._tools

    def tool(self, name: str | None = None, *, timeout: float | None = None) -> Callable[[F], F]:
        """Registers a function as a tool, under its own name or another. `timeout`: seconds that a call may take.

        An `async def` runs in the event loop, a plain `def` in a thread. Its annotations become the JSON schema of the
        input, its docstring the description. A first parameter `tool`, or one annotated ToolContext, gets the call's
        context: `tool.progress(50)`, `tool.content("piece")`.
        """
        if callable(name):
            raise TypeError("write @toolbox.tool() with parentheses: what stands in them is the tool's name")

        def register(function: F) -> F:
            self.add(FunctionTool(function, name=name, timeout=timeout))
            return function

        return register

    def add(self, tool: Tool) -> None:
        """Adds a tool. Raises ValueError for a name that can't be one, or that another tool has."""
        if not _NAME.fullmatch(tool.name):
            raise ValueError(f"tool name {tool.name!r} does not match [A-Za-z0-9_-]{{1,64}}")
        if tool.name in self._tools or tool.name == RUN_TOOLS:
            raise ValueError(f"there is a tool {tool.name!r} already; an MCP server's tools can have a prefix")
        self._tools[tool.name] = tool

    def connect(self, server: McpServer) -> None:
        """Adds an MCP server, whose tools are there once `open` was called."""
        self._servers.append(server)

    async def open(self) -> None:
        """Connects the MCP servers and adds their tools. Raises ConnectionError, what `add` raises, and ValueError
        where programs can't be started safely.
        """
        tools, servers = self._tools.values(), self._servers
        if any(tool.starts_programs for tool in tools) or any(server.starts_programs for server in servers):
            check_programs("commands and MCP servers")
        for server in self._servers:
            for tool in await server.open():
                self.add(tool)

    async def close(self) -> None:
        """Ends the connections to the MCP servers."""
        for server in self._servers:
            await server.close()

    def register(self, app: App) -> None:
        """Gives an app the operation `run_tools`, and each tool as an operation of its own. MCP servers are connected
        when the app starts, and what was added until then is served, too.
        """
        _operate(self, app)
        added = tool_operations(app, self)

        @app.startup
        async def start(settings: Mapping[str, str]) -> None:
            await self.open()
            tool_operations(app, self, but=added)

        app.shutdown(self.close)

    def schemas(self) -> list[dict[str, Any]]:
        """Returns the tools as models are told of them, in the form of OpenAI's function calling."""
        return [
            {
                "type": "function",
                "function": {
                    "name": tool.name,
                    "description": tool.description,
                    "parameters": dict(tool.schema),
                },
            }
            for tool in self
        ]

    async def run(self, step: StepContext, calls: Iterable[Call], *, max_parallel: int = 8) -> list[Outcome]:
        """Makes calls side by side for a step, and returns what became of each, in their order."""
        return await Run(self._tools, step).all(list(calls), max_parallel=max_parallel)

    async def answer(
        self, step: StepContext, tool_calls: Iterable[Mapping[str, Any]], *, max_parallel: int = 8
    ) -> list[dict[str, Any]]:
        """Makes the calls that a model asked for, `tool_calls` of its message as JSON, and returns the messages to give
        it back: one a call, with the output, or what was wrong, as JSON.
        """
        asked = [(str(each.get("id", "")), each.get("function", {})) for each in tool_calls]
        if not asked:
            return []
        calls = [_call_of(function) for _, function in asked]
        outcomes = await self.run(step, calls, max_parallel=max_parallel)
        return [
            {"role": "tool", "tool_call_id": call_id, "content": _content(outcome)}
            for (call_id, _), outcome in zip(asked, outcomes, strict=True)
        ]


def tool_operations(app: App, toolbox: Toolbox, *, but: Iterable[str] = ()) -> frozenset[str]:
    """Registers each tool as an operation of its own, but those named; returns the names of all that are registered."""
    left_out = frozenset(but)
    for tool in toolbox:
        if tool.name not in left_out:
            tool.register(app)
    return left_out | {tool.name for tool in toolbox}


def _operate(toolbox: Toolbox, app: App) -> None:
    """Registers the operation `run_tools`."""

    @app.operation(RUN_TOOLS)
    async def run_tools(
        step: StepContext,
        calls: Calls,
        max_parallel: Annotated[int, Field(ge=1, le=64)] = 8,
        fail_on_error: bool | None = None,
    ) -> dict[str, Any]:
        """Call tools, those of one step side by side, `max_parallel` at once.

        Gives `results`, one for each call in their order (`id`, `tool`, `state`, `seconds`, and `output`, `artifact` or
        `error`), and `totals`. A tool's failure never touches the others. Once all have ended the step fails where none
        of them completed; with `fail_on_error` already where one did not, and without, never.
        """
        now = asyncio.get_running_loop().time
        began = now()
        outcomes = await toolbox.run(step, calls, max_parallel=max_parallel)
        none_completed = all(outcome.state != "completed" for outcome in outcomes)
        if none_completed if fail_on_error is None else fail_on_error:
            _refuse(outcomes)
        return {"results": [outcome.shown() for outcome in outcomes], "totals": _totals(outcomes, now() - began)}


def _totals(outcomes: list[Outcome], seconds: float) -> dict[str, Any]:
    states = [outcome.state for outcome in outcomes]
    return {
        "asked": len(states),
        "completed": states.count("completed"),
        "failed": states.count("failed"),
        "errors": states.count("error"),
        "seconds": round(seconds, 6),
    }


def _refuse(outcomes: list[Outcome]) -> None:
    """Raises ToolFailed where a call has not completed."""
    wrong = [f"{each.id} ({each.state}: {each.error})" for each in outcomes if each.state != "completed"]
    if wrong:
        more = f" and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
        raise ToolFailed(f"{len(wrong)} of {len(outcomes)} calls did not complete: {', '.join(wrong[:_NAMED])}{more}")


def _call_of(function: Mapping[str, Any]) -> Call:
    """Returns a model's call; one that can't be understood as what tells the model so."""
    # A name may have half characters, as JSON does: they are spelt out, since nothing can send them.
    name = str(function.get("name") or "unnamed").encode("utf-8", "backslashreplace").decode()[:200]
    arguments = function.get("arguments") or "{}"
    try:
        return Call(tool=name, input=json.loads(arguments, parse_constant=_refuse_constant))
    except (ValueError, TypeError, RecursionError):
        return BadCall(tool=name, problem=f"the arguments are no JSON object: {str(arguments)[:200]!r}")


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _content(outcome: Outcome) -> str:
    shown = outcome.shown()
    if outcome.state == "completed" and outcome.artifact is None:
        return json.dumps(shown["output"], ensure_ascii=False)
    return json.dumps({key: shown[key] for key in ("state", "error", "artifact") if key in shown}, ensure_ascii=False)
