"""The app that the fault suite kills: every way to be called, effects that are counted, and a gauge of what goes on.

FAULTS_EFFECTS  a file that gets a line for each effect: execution, step, attempt, 1 for at most once
                plus what the step had saved, where its operation saves numbers
FAULTS_CANARY   a text in local variables and in the causes of exceptions, which must come no further than the log
FAULTS_GAUGE    a file of two numbers: operations that run now, writes that the journal has not answered yet
"""

from __future__ import annotations

import asyncio
import functools
import mmap
import os
import struct
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stepwire_server import App, BlockingStepContext, Plan, Result, StepContext, current_step, plan_step
from stepwire_server.journal import SqliteJournal

app = App("faulty", description="Operations for the fault suite.")


class Gauge:
    """Two numbers in a file that is mapped into memory: whoever stops this process can read them as they were."""

    def __init__(self, path: str) -> None:
        self._values = [0, 0]
        self._lock = threading.Lock()
        self._map: mmap.mmap | None = None
        if path:
            with Path(path).open("r+b") as file:
                self._map = mmap.mmap(file.fileno(), 16)
            self._write()

    @contextmanager
    def counted(self, place: int) -> Iterator[None]:
        """Counts one more while it lasts."""
        self._add(place, 1)
        try:
            yield
        finally:
            self._add(place, -1)

    def _add(self, place: int, amount: int) -> None:
        with self._lock:
            self._values[place] += amount
            self._write()

    def _write(self) -> None:
        if self._map is not None:
            struct.pack_into("<qq", self._map, 0, *self._values)


gauge = Gauge(os.environ.get("FAULTS_GAUGE", ""))
RUNNING, PENDING = 0, 1


def _pending(method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(method)
    async def counted(*positional: Any, **named: Any) -> Any:
        with gauge.counted(PENDING):
            return await method(*positional, **named)

    return counted


SqliteJournal.append = _pending(SqliteJournal.append)  # type: ignore[method-assign]
SqliteJournal.create = _pending(SqliteJournal.create)  # type: ignore[method-assign]
SqliteJournal.claim = _pending(SqliteJournal.claim)  # type: ignore[method-assign]


def effect(step: StepContext | BlockingStepContext, *, once: bool = False, saved: int | None = None) -> None:
    """Leaves a line, which outlives this process."""
    more = "" if saved is None else f" {saved}"
    file = os.open(os.environ["FAULTS_EFFECTS"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(file, f"{step.execution_id} {step.id} {step.attempt} {int(once)}{more}\n".encode())
    finally:
        os.close(file)


@app.operation()
async def work(step: StepContext, pieces: int, pause: float, given: Any = None) -> dict[str, Any]:
    """Report so many times, with a pause before each."""
    with gauge.counted(RUNNING):
        effect(step)
        for piece in range(1, pieces + 1):
            await asyncio.sleep(pause)
            await step.progress(100 * piece / pieces, f"{piece} of {pieces}", metadata={"a": "1", "b": "2"})
        return {"attempt": step.attempt, "given": given}


@app.operation()
async def talk(step: StepContext, pieces: int, pause: float) -> str:
    """Stream a text, with an umlaut in each piece."""
    with gauge.counted(RUNNING):
        for piece in range(pieces):
            await step.content(f"Stück {piece} ", channel="answer")
            await asyncio.sleep(pause)
        await step.artifact("whole", {"pieces": pieces})
        return "said"


@app.operation()
async def burst(step: StepContext, reports: int) -> int:
    """Report as fast as it goes."""
    with gauge.counted(RUNNING):
        for report in range(1, reports + 1):
            await step.progress(100 * report / reports)
        return reports


@app.operation()
async def flaky(step: StepContext, failures: int, pause: float) -> int:
    """Fail so many times in a part of a part, then end."""
    with gauge.counted(RUNNING):
        await step.substeps({"begin": 1, "go on": 3})
        async with step.substep("begin"):
            pass
        async with step.substep("go on") as on, on.substep("inner") as inner:
            await inner.progress(70, "Nearly there")
            await asyncio.sleep(pause)
            if step.attempt <= failures:
                raise ConnectionError(f"attempt {step.attempt}")
        return step.attempt


@app.operation()
async def broken(step: StepContext, pause: float) -> None:
    """Fail."""
    with gauge.counted(RUNNING):
        await asyncio.sleep(pause)
        canary = os.environ.get("FAULTS_CANARY", "")
        local = f"{canary}-local"
        try:
            raise KeyError(f"{canary}-cause")
        except KeyError as error:
            raise RuntimeError(f"for good{local[:0]}") from error


@app.operation(at_most_once=True)
async def pay(step: StepContext, pause: float) -> str:
    """Have an effect that must not be had twice."""
    with gauge.counted(RUNNING):
        effect(step, once=True)
        await step.progress(50, "Paid")
        await asyncio.sleep(pause)
        return "paid"


@app.operation()
def thread(step: BlockingStepContext, pieces: int, pause: float) -> str:
    """Report from a thread."""
    with gauge.counted(RUNNING):
        effect(step)
        with step.substep("aside") as aside:
            for piece in range(1, pieces + 1):
                time.sleep(pause)
                aside.progress(100 * piece / pieces)
                step.pausepoint()
        return "threaded"


@app.operation()
async def generate(pieces: int, pause: float) -> AsyncIterator[Any]:
    """Yield percentages, texts and the output."""
    with gauge.counted(RUNNING):
        effect(current_step())
        for piece in range(1, pieces + 1):
            yield (100 * piece / pieces, f"piece {piece}")
            yield "text "
            await asyncio.sleep(pause)
        yield Result({"pieces": pieces})


@app.operation()
async def careful(step: StepContext, pieces: int, pause: float) -> int:
    """Save after each piece, and go on from there."""
    with gauge.counted(RUNNING):
        begin = step.saved or 0
        effect(step, saved=begin)
        for piece in range(begin, pieces):
            await asyncio.sleep(pause)
            await step.save(piece + 1)
        return pieces


@app.operation()
async def ask(step: StepContext, questions: int) -> list[int]:
    """Ask for so many numbers, one after the other."""
    with gauge.counted(RUNNING):
        effect(step)
        return [await step.ask(f"Number {number}?", schema={"type": "integer"}) for number in range(questions)]


@app.operation()
async def grow(step: StepContext, rounds: int, pause: float) -> int:
    """Add a step that reports, so many times; another attempt adds those that are not there."""
    with gauge.counted(RUNNING):
        effect(step)
        for number in range(rounds):
            await asyncio.sleep(pause)
            given = {"pieces": 2, "pause": pause, "given": number}
            await step.add_steps([plan_step(f"{step.id}-part{number}", "work", input=given)])
        return rounds


@app.planner
async def plan(query: str) -> Plan:
    """Fail, with a text that no status may have."""
    local = f"{os.environ.get('FAULTS_CANARY', '')}-local"
    raise ZeroDivisionError(f"{os.environ.get('FAULTS_CANARY', '')}-cause{local[:0]}")
