"""An app whose steps have parts in parts, in coroutines and plain functions: they fail once, and wait at a gate."""

from __future__ import annotations

import asyncio
import socket
from datetime import timedelta

from stepwire_server import App, BlockingStepContext, Report, Retry, StepContext

app = App("nested")

ONCE_MORE = Retry(attempts=2, initial_delay=timedelta(milliseconds=10))


@app.operation(retry=ONCE_MORE)
async def climb(step: StepContext, gate: int) -> int:
    """Go three deep, fail in the first attempt, and wait at the gate in the next."""
    await step.substeps({"up": 1, "down": 3})
    async with step.substep("up") as up, up.substep("camp") as camp:
        async with camp.substep("tent") as tent:
            await tent.progress(50, "Half of it stands")
            if step.attempt == 1:
                raise OSError("wind")
        await camp.progress(message="The tent stands")
    async with step.substep("down") as down, down.substep("slope") as slope, slope.substep("snow") as snow:
        await snow.progress(current=1, total=4, unit="turns")
        reader, writer = await asyncio.open_connection("127.0.0.1", gate)
        writer.write(f"{step.id} {step.attempt}\n".encode())
        await reader.read(1)
        writer.close()
    return step.attempt


@app.operation(retry=ONCE_MORE)
def climb_in_a_thread(step: BlockingStepContext, gate: int) -> int:
    """Do the same in a thread."""
    step.substeps({"up": 1, "down": 3})
    with step.substep("up") as up, up.substep("camp") as camp:
        with camp.substep("tent") as tent:
            tent.progress(50, "Half of it stands")
            if step.attempt == 1:
                raise OSError("wind")
        camp.progress(message="The tent stands")
    with step.substep("down") as down, down.substep("slope") as slope, slope.substep("snow") as snow:
        snow.progress(current=1, total=4, unit="turns")
        with socket.create_connection(("127.0.0.1", gate)) as connection:
            connection.sendall(f"{step.id} {step.attempt}\n".encode())
            connection.recv(1)
    return step.attempt


def by_stages(report: Report) -> float | None:
    """Say how far a step is by the stage that it names."""
    return {"routing": 5, "planning": 10, "completed": 100}.get(report.stage)


@app.operation(progress=by_stages)
async def chart(step: StepContext) -> None:
    """Name stages."""
    for stage in ("routing", "planning", "resting", "completed"):
        await step.progress(stage=stage)
