"""Where the processor time of one event goes, from the call in an operation to the client's tracker: each part alone.

    python -m tests.bench.parts

One process and no network; each figure is the least of many repetitions, so that those of two commits can be compared
on a machine that does other work too. What it costs as a whole, and beside others, `python -m tests.bench` says.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from stepwire.patience import Patience
from stepwire.progress import ProgressTracker
from stepwire.resume import Resumption
from stepwire.v1 import EventBatch, ExecuteRequest, Execution, ExecutionState, Plan
from stepwire_server import App, StepContext, plan_step
from stepwire_server.engine.engine import Engine
from stepwire_server.engine.recorder import frame
from stepwire_server.journal import Chunk, ExecutionRecord, Journal, MemoryJournal, SqliteJournal

from .app import PIECE

__all__ = ["main"]

_EVENTS = 512
"""As many as one message has."""

_TIMES = 60

_HALF_A_CHUNK = 256
_OFFSET = 1_000_000


class Table:
    """The figures, in the order in which they are taken."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, float, str]] = []

    def add(self, what: str, seconds: float) -> None:
        """Notes how long a part takes for `_EVENTS` events."""
        self.rows.append((what, seconds / _EVENTS * 1e6, "µs"))

    def of(self, what: str, once: Callable[[], Any], *, calls: int = _EVENTS) -> None:
        """Measures a part that is done `calls` times for `_EVENTS` events."""

        def all_of_them() -> float:
            start = time.process_time()
            for _ in range(calls):
                once()
            return time.process_time() - start

        self.add(what, min(all_of_them() for _ in range(_TIMES)))

    async def waiting(self, what: str, once: Callable[[], Awaitable[Any]], *, calls: int = _EVENTS) -> None:
        """The same for one that is awaited."""
        best = float("inf")
        for _ in range(_TIMES):
            await asyncio.sleep(0)  # A turn for the journal, which does not count here.
            start = time.process_time()
            for _ in range(calls):
                await once()
            best = min(best, time.process_time() - start)
        self.add(what, best)

    def __str__(self) -> str:
        width = max(len(what) for what, _, _ in self.rows)
        return "\n".join(f"{what:{width}}  {figure:7.2f} {unit} an event" for what, figure, unit in self.rows)


async def emit(table: Table) -> Chunk:
    """Measures what a call in an operation costs until its event is pending. Returns a chunk of such events."""
    app = App("parts")

    @app.operation()
    async def talk(step: StepContext) -> None:
        """Measure it from within a step."""
        await _parts_of_emit(step, table)

    @app.operation()
    async def fill(step: StepContext) -> None:
        """Make events for the other parts."""
        for _ in range(2 * _EVENTS):
            await step.content(PIECE)

    journal = MemoryJournal()
    await journal.open()
    engine = Engine(app.catalog(), journal)
    await engine.recover()
    for operation in ("talk", "fill"):
        record = await engine.accept(ExecuteRequest(plan=Plan(steps=[plan_step("answer", operation)])))
        with journal.follow(record.execution_id, after=0) as follower:
            while not follower.ended:
                if not await follower.read(max_events=_EVENTS, max_bytes=1 << 20):
                    await follower.wait()
        ended = await journal.get(record.execution_id)
        if ended is None or ended.state != ExecutionState.EXECUTION_STATE_COMPLETED:
            raise SystemExit(f"the operation {operation!r} failed; the log says why")
    chunks = await journal.read(record.execution_id, after=_EVENTS, max_events=_EVENTS, max_bytes=1 << 20)
    batch = EventBatch.FromString(b"".join(chunk.data for chunk in chunks))
    for number, event in enumerate(batch.events):
        event.sequence = number + 1
    await engine.drain(0)
    await journal.close()
    return _chunk(batch)


def _chunk(batch: EventBatch) -> Chunk:
    frames = [EventBatch(events=[event]).SerializeToString() for event in batch.events]
    ends, size = [], 0
    for data in frames:
        size += len(data)
        ends.append(size)
    kinds = bytes([event.DESCRIPTOR.fields_by_name["content"].number for event in batch.events])
    return Chunk(first=1, data=b"".join(frames), ends=ends, kinds=kinds)


async def _parts_of_emit(step: StepContext, table: Table) -> None:
    recorder, voice = step._recorder, step._voice
    fold, stamp, now = recorder.fold, recorder._stamp, time.time_ns()

    def build() -> None:
        step._pieces.event(PIECE, channel="", media_type="")

    event = voice.event()
    event.content.text = PIECE
    event.content.offset = _OFFSET
    encoded = event.SerializeToString() + stamp.event.SerializeToString()
    await table.waiting("emit: one call of step.content", lambda: step.content(PIECE))
    table.of("  build the event", build)
    table.of("  record it", lambda: recorder.record(event))
    table.of("    fold it into the state", lambda: fold._apply_to_step(event, step.id, "content", now))
    table.of("    estimate what is left", lambda: recorder._foresee(event, "content", now))
    table.of("    write the envelope", lambda: stamp.write(fold, step.id))
    table.of("    encode both", lambda: (event.SerializeToString(), stamp.event.SerializeToString()))
    table.of("    frame it", lambda: frame(encoded))
    await asyncio.sleep(0)
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for _ in range(_HALF_A_CHUNK):
        recorder.record(event)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    held = f"  memory of one that is pending (encoded: {len(encoded)})"
    table.rows.append((held, (after - before) / _HALF_A_CHUNK, "B"))


async def append(table: Table, what: str, journal: Journal, chunk: Chunk) -> None:
    """Measures the journal's part: processor time of all threads, not the time that the disk takes."""
    await journal.open()
    try:
        for number in range(_TIMES):
            await journal.create(
                ExecutionRecord(execution_id=f"e{number}", request=b"", create_time_ns=1, labels={}, session_id="")
            )
        numbers = iter(range(_TIMES))

        async def once() -> None:
            await journal.append(
                f"e{next(numbers)}",
                epoch=1,
                chunk=chunk,
                state=ExecutionState.EXECUTION_STATE_RUNNING,
                snapshot=bytes(100),
            )

        await table.waiting(f"append: a chunk, {what}", once, calls=1)

        async def follow() -> None:
            with journal.follow("e0", after=0) as follower:
                await follower.wait()
                await follower.read(max_events=_EVENTS, max_bytes=1 << 20)

        await table.waiting(f"wake and read: a chunk, {what}", follow, calls=1)
    finally:
        await journal.close()


def send(table: Table, chunk: Chunk) -> bytes:
    """Measures what makes a message of a chunk, without gRPC. Returns the message."""

    def join() -> bytes:
        return b"".join((chunk.data, EventBatch(after_sequence=0, sequence=chunk.last).SerializeToString()))

    table.of("write: join a message, without gRPC", join, calls=1)
    return join()


def receive(table: Table, message: bytes) -> None:
    """Measures the client's part, without gRPC."""
    table.of("decode: parse a message", lambda: list(EventBatch.FromString(message).events), calls=1)
    batch = EventBatch.FromString(message)
    execution_id = batch.events[0].execution_id
    welcome = EventBatch(execution=Execution(execution_id=execution_id))

    def follow() -> None:
        resumption, tracker = (
            Resumption(execution_id=execution_id, patience=Patience(), random=lambda: 0.5),
            ProgressTracker(),
        )
        resumption.step(0.0)
        resumption.opened(0.0)
        resumption.received(welcome, 0.0)
        resumption.received(batch, 0.0)
        while (event := resumption.take()) is not None:
            if resumption.plain:
                tracker._add_plain(event)
            else:
                tracker.add_event(event)
        assert tracker.event_count == _EVENTS

    table.of("  check its order, hand over, track", follow, calls=1)


async def measure() -> Table:
    """Measures all parts."""
    table = Table()
    chunk = await emit(table)
    with tempfile.TemporaryDirectory(prefix="parts-") as folder:
        await append(table, "in memory", MemoryJournal(), chunk)
        await append(table, "on disk (FULL)", SqliteJournal(Path(folder) / "journal.db"), chunk)
    receive(table, send(table, chunk))
    return table


def main() -> int:
    if sys.argv[1:]:
        print(__doc__)
        return 0 if sys.argv[1:] in (["-h"], ["--help"]) else 2
    print(asyncio.run(measure()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
