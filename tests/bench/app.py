"""The app that the benchmark serves: steps that say much, steps that do nothing, and steps that wait."""

from __future__ import annotations

import asyncio
import time

from stepwire_server import App, StepContext

from .event import TEXT

__all__ = ["PIECE", "app"]

app = App("bench")

PIECE = f"{TEXT} Section 52 says of whom."
"""With the envelope that every event has, about 208 bytes, as those of the yardsticks."""


@app.operation()
async def emit(step: StepContext, events: int, rate: float = 0.0) -> None:
    """Emit so many events: flat out, or so many a second."""
    if not rate:
        for _ in range(events):
            await step.content(PIECE)
        return
    start = time.perf_counter()
    for number in range(events):
        ahead = start + number / rate - time.perf_counter()
        if ahead > 0:
            await asyncio.sleep(ahead)
        await step.content(PIECE)


@app.operation()
async def nothing(step: StepContext) -> int:
    """Do nothing: what it costs is what a step costs."""
    return 1


@app.operation()
async def report(step: StepContext) -> int:
    """Say twice how far it is, as a short step does."""
    await step.progress(30, "Looking for the documents that say what is needed ...")
    await step.progress(90, "Found what is needed, and put it into the right order")
    return 1


@app.operation()
async def hold(step: StepContext) -> None:
    """Wait until somebody says go: the steps after it begin when all who watch are there."""
    await step.ask("Go?")
