"""The app that the end-to-end suite serves: operations that a test can hold back, and that leave traces."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

from stepwire_server import App, BlockingStepContext, StepContext, plan_step

app = App("sample", description="Operations for the end-to-end suite.")


@app.operation()
async def say(step: StepContext, text: str = "hello") -> dict[str, str]:
    """Report twice and return a text."""
    await step.progress(25, f"Thinking about {text}")
    await step.progress(90, "Nearly there")
    return {"text": text}


@app.operation()
async def fail(step: StepContext, text: str = "no") -> None:
    """Raise."""
    raise RuntimeError(text)


@app.operation()
def moody(step: BlockingStepContext, broken: str, trace: str) -> str:
    """Raise as long as the file `broken` is there. Leaves a line for each attempt in the file `trace`."""
    _leave_trace(trace, step)
    if os.path.exists(broken):
        raise RuntimeError("it is broken")
    return f"{step.id} works"


@app.operation()
async def paced(step: StepContext, gate: int, bursts: list[int], trace: str = "") -> dict[str, Any]:
    """Report so many times a burst. Each burst waits for a byte from the gate; a gate that closes lets all go.

    `gate`: a port on 127.0.0.1. `trace`: a file that gets a line for each attempt, before it waits.
    """
    if trace:
        _leave_trace(trace, step)
    async with _Turnstile(gate, step) as turnstile:
        done, total = 0, sum(bursts)
        for burst in bursts:
            await turnstile.wait()
            for _ in range(burst):
                done += 1
                await step.progress(100 * done / total, f"Report {done} of {total}")
    return {"reports": total, "attempt": step.attempt}


@app.operation()
async def supervise(step: StepContext, gate: int, work: dict[str, Any]) -> str:
    """Add a paced step, wait for the gate, and add it once more with another that depends on it and on this one."""
    first = plan_step("first", "paced", input=work)
    second = plan_step("second", "paced", input=work, depends_on=["first", step.id])
    async with _Turnstile(gate, step) as turnstile:
        await step.add_steps([first])
        await turnstile.wait()
        await step.add_steps([first, second])
    return "supervised"


@app.operation()
async def reporting(step: StepContext, gate: int, reports: int = 10, seconds: float = 2.0) -> dict[str, float]:
    """Wait for the gate, then work for so many seconds and report evenly, with the time of day in `data`."""
    async with _Turnstile(gate, step) as turnstile:
        await turnstile.wait()
    for number in range(1, reports + 1):
        await step.progress(100 * number / reports, f"Report {number}", data={"emitted": time.time()})
        await asyncio.sleep(seconds / reports)
    return {"ended": time.time()}


@app.operation()
async def ask(
    step: StepContext, prompt: str, trace: str = "", details: dict[str, Any] | None = None, talks: int = 0
) -> dict[str, Any]:
    """Ask, and return the answer. `details`: more arguments of `ask`. `talks`: reports before it asks.

    `trace`: a file that gets a line for each attempt, before it asks.
    """
    if trace:
        _leave_trace(trace, step)
    for number in range(talks):
        await step.progress(number, f"Report {number + 1}")
    return {"answer": await step.ask(prompt, **(details or {})), "attempt": step.attempt}


class _Turnstile:
    """The operation's end of a gate."""

    def __init__(self, port: int, step: StepContext) -> None:
        self._port = port
        self._line = f"{step.id} {step.attempt}\n".encode()

    async def __aenter__(self) -> _Turnstile:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writer.write(self._line)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()

    async def wait(self) -> None:
        """Returns with the next byte, or at once when the gate is open for good."""
        await self._reader.read(1)


def _leave_trace(path: str, step: StepContext | BlockingStepContext) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(file, f"{step.id} {step.attempt}\n".encode())
        os.fsync(file)
    finally:
        os.close(file)
