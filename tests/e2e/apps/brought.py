"""Code that was written for other systems and reports to callbacks, brought along unchanged."""

from __future__ import annotations

import asyncio
from typing import Any

from stepwire_server import App, StepContext
from stepwire_server.bridges import planning_operation, streaming_operation

app = App("brought", description="Code that reports to callbacks.")

STAGES = ("start", "context", "analyzing", "planning", "validation", "execution", "memory", "completion")


async def handle(message: str, progress_callback: Any = None) -> dict[str, Any]:
    """Answer a message in eight stages."""
    for stage in STAGES:
        await progress_callback(stage, f"Now: {stage}", details=f"{len(message)} characters", metadata={"of": 8})
    return {"response": message.upper(), "stages": len(STAGES)}


class Count:
    """Count the words of a text."""

    def __init__(self, text: str) -> None:
        self.text = text

    async def execute(self, callback: Any) -> dict[str, int]:
        """Report each word."""
        words = self.text.split()
        for number, word in enumerate(words, 1):
            await callback.progress("count", "counting", 100 * number / len(words), f"Word {number}", {"word": word})
            await callback.content(f"{word} ")
        result = {"words": len(words)}
        await callback.done(result)
        return result


app.operation("answer")(planning_operation(handle))
app.operation("count")(streaming_operation(Count))


@app.operation()
async def wait(seconds: float) -> str:
    """Wait for so long."""
    await asyncio.sleep(seconds)
    return "waited"


@app.operation()
async def confirm(step: StepContext) -> str:
    """Ask whether to go on."""
    return f"The answer is {await step.ask('Go on?', choices=['yes', 'no'])}"
