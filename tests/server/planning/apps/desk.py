"""The app that the tests of planning serve: tools that a test can hold back, and two stages of its own."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from stepwire_server import StepContext
from stepwire_server.planning import Planning, Turn
from stepwire_server.tools import ToolContext, ToolFailed

planning = Planning("desk")


@planning.tool()
async def hold(tool: ToolContext, gate: int, text: str = "held") -> str:
    """Wait at a gate on 127.0.0.1, and give a text back."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gate)
    try:
        writer.write(f"{tool.step.id} {tool.step.attempt}\n".encode())
        await tool.progress(50, "Waiting")
        await reader.read(1)
        return text
    finally:
        writer.close()


@planning.tool()
def moody(file: str) -> int:
    """Fail as long as the file is there, which it is once."""
    try:
        Path(file).unlink()
    except FileNotFoundError:
        return 7
    raise ToolFailed("it is in a mood")


@planning.tool()
def many(size: int) -> list[str]:
    """Give a list of so many characters."""
    return ["x" * (size // 2), "y" * (size // 2)]


@planning.tool()
def nest(levels: int, text: str = "x") -> list[Any]:
    """Give a list in a list, so many times, around a text."""
    value: Any = text
    for _ in range(levels):
        value = [value]
    return [*value]


@planning.stage("review", after="validation")
async def review(step: StepContext, turn: Turn) -> dict[str, Any]:
    """Looks at the plan before it runs."""
    if any("secret" in call["text"] for call in turn.plan["calls"]):
        raise PermissionError("nothing secret is worked on here")
    return {"calls": len(turn.plan["calls"]), "earlier": turn.given["context"]["turns"]}


@planning.stage("summary", after="execution")
async def summary(step: StepContext, turn: Turn) -> list[Any]:
    """Looks at what the calls came to."""
    return [turn.outcomes[call].get("value") for call in sorted(turn.outcomes)]


app = planning.app
