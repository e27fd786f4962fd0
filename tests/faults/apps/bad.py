"""Operations that do what no operation should.

BAD_BLOCKS  for how many seconds `blocks` stops the event loop
"""

from __future__ import annotations

import asyncio
import logging
import os
import time

from stepwire_server import App, StepContext

app = App("bad", description="Operations that misbehave.")
_log = logging.getLogger("bad")
_late: set[asyncio.Task[None]] = set()


@app.operation()
async def raises() -> None:
    """Raise."""
    raise RuntimeError("as bad operations do")


@app.operation()
async def hangs() -> None:
    """Never end, but let itself be cancelled."""
    await asyncio.Event().wait()


@app.operation()
async def swallows() -> None:
    """Never end, whatever comes."""
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            _log.warning("swallowed a cancel")


@app.operation()
async def cancelled() -> None:
    """Say that it was cancelled, which it was not."""
    raise asyncio.CancelledError


@app.operation()
async def exits() -> None:
    """Try to end the process."""
    raise SystemExit(3)


@app.operation()
async def blocks() -> str:
    """Let nothing else run for some seconds."""
    time.sleep(float(os.environ["BAD_BLOCKS"]))  # noqa: ASYNC251 - that is what is bad about it
    return "done"


@app.operation()
async def unfit() -> object:
    """Return what can't be encoded."""
    return object()


@app.operation()
async def late(step: StepContext) -> str:
    """End, and go on to speak in the step's name."""

    async def speak() -> None:
        while not step.closed:  # noqa: ASYNC110 - nothing tells that a step is over
            await asyncio.sleep(0)
        try:
            await step.progress(99, "after the end")
        except Exception as error:
            _log.warning("spoke after the end: %r", error)

    task = asyncio.create_task(speak())
    _late.add(task)
    task.add_done_callback(_late.discard)
    return "done"


@app.operation()
async def honest(step: StepContext) -> str:
    """Report, and end."""
    await step.progress(50, "half of it")
    return "done"
