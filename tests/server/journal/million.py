"""Measures a journal of 1,000,000 events: check, stats, recovery, compaction, purge with readers and appends beside it.

    python -m tests.server.journal.million [EVENTS] [FOLDER]

Prints a table. Not part of the tests: the figures are those of the machine.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from random import Random

from tests.e2e.serving import until
from tests.faults.gauges import Gauge
from tests.faults.history import History
from tests.faults.kill_loop import Clients, Gauged

from stepwire.errors import CursorExpired
from stepwire.v1 import Event, EventBatch, ExecuteRequest, Execution, ExecutionState, Plan
from stepwire_server import plan_step
from stepwire_server.journal import Chunk, ExecutionRecord, Journal, Retention, SqliteJournal
from stepwire_server.journal.checking import check
from stepwire_server.journal.inspection import opened_to_read, statistics

RUNNING = ExecutionState.EXECUTION_STATE_RUNNING
COMPLETED = ExecutionState.EXECUTION_STATE_COMPLETED
DAY_NS = 24 * 3600 * 1_000_000_000
UNFINISHED = 100
"""Executions that a server has to take over."""

LIVE = 200
"""Appends a second, one event each, while their latency is measured."""


class Wall:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.ns = time.time_ns() - 100 * DAY_NS

    def __call__(self) -> int:
        return self.ns


def chunk_of(name: str, first: int, count: int, *, last: int) -> Chunk:
    """Returns events of about 208 bytes; the one with the sequence `last` is terminal."""
    ends: list[int] = []
    data, kinds = bytearray(), bytearray()
    for sequence in range(first, first + count):
        over = sequence == last
        event = Event(
            execution_id=name,
            sequence=sequence,
            step_id="step",
            message="m" * 150,
            execution_state=COMPLETED if over else RUNNING,
        )
        if over:
            event.plan_completed.SetInParent()
        else:
            event.stage.name = "stage"
        data += EventBatch(events=[event]).SerializeToString()
        ends.append(len(data))
        kinds.append(26 if over else Event.DESCRIPTOR.fields_by_name["stage"].number)
    return Chunk(first=first, data=bytes(data), ends=ends, kinds=bytes(kinds))


async def run(journal: Journal, name: str, *, events: int, step: int) -> None:
    """Runs an execution to its end, `step` events a chunk."""
    await create(journal, name)
    for first in range(1, events + 1, step):
        count = min(step, events - first + 1)
        state = COMPLETED if first + count > events else RUNNING
        snapshot = Execution(execution_id=name, state=state, as_of_sequence=first + count - 1).SerializeToString()
        chunk = chunk_of(name, first, count, last=events)
        await journal.append(name, epoch=1, chunk=chunk, state=state, snapshot=snapshot)


async def create(journal: Journal, name: str) -> None:
    snapshot = Execution(execution_id=name, state=RUNNING).SerializeToString()
    record = ExecutionRecord(execution_id=name, request=b"", create_time_ns=1, state=RUNNING, snapshot=snapshot)
    await journal.create(record)


async def fill(journal: Journal, wall: Wall, events: int) -> None:
    """Three kinds: many short executions, some of thousands of rows, one of a quarter of all events. All ended, the
    older half 100 days ago.
    """
    kinds = [("short", 14, 1, events // 4), ("long", 5_000, 1, events // 4), ("large", 10_000, 64, events // 4)]
    for half in range(2):
        for kind, each, step, share in kinds:
            names = [f"{kind}-{half}-{number}" for number in range(max(1, share // each // 2))]
            for start in range(0, len(names), 200):
                group = names[start : start + 200]
                await asyncio.gather(*(run(journal, name, events=each, step=step) for name in group))
        await run(journal, f"huge-{half}", events=events // 8, step=100)
        if not half:
            wall.ns += 99 * DAY_NS


async def read(journal: Journal, name: str, *, pause: float = 0.0) -> tuple[int, float]:
    """Reads an execution as a stream does. Returns how many events came, and the seconds."""
    start = time.perf_counter()
    with journal.follow(name, after=0) as follower:
        while not follower.ended:
            chunks = await follower.read(max_events=512, max_bytes=256 * 1024)
            assert chunks
            if pause:
                await asyncio.sleep(pause)
        return follower.sequence, time.perf_counter() - start


class Latencies:
    """How long appends take, one after the other at a steady pace."""

    def __init__(self, journal: Journal, name: str) -> None:
        self._journal = journal
        self._name = name
        self._next = 1
        self.seconds: list[float] = []

    async def create(self) -> None:
        await create(self._journal, self._name)

    @asynccontextmanager
    async def measured(self) -> AsyncIterator[None]:
        """Appends while the block lasts."""
        going = asyncio.ensure_future(self._append())
        try:
            yield
        finally:
            going.cancel()
            await asyncio.wait({going})

    async def append(self, count: int) -> None:
        """Appends so many times."""
        for _ in range(count):
            await self._append_one()

    async def _append(self) -> None:
        while True:
            await self._append_one()

    async def _append_one(self) -> None:
        chunk = chunk_of(self._name, self._next, 1, last=0)
        snapshot = Execution(state=RUNNING, as_of_sequence=self._next).SerializeToString()
        self._next += 1
        start = time.perf_counter()
        append = asyncio.ensure_future(
            self._journal.append(self._name, epoch=1, chunk=chunk, state=RUNNING, snapshot=snapshot)
        )
        await asyncio.shield(append)
        self.seconds.append(time.perf_counter() - start)
        await asyncio.sleep(1 / LIVE)

    def line(self) -> str:
        found = sorted(self.seconds)
        self.seconds = []
        p50, p99 = found[len(found) // 2], found[int(len(found) * 0.99)]
        return f"p50 {p50 * 1e3:.2f} ms, p99 {p99 * 1e3:.2f} ms, most {found[-1] * 1e3:.2f} ms of {len(found):,}"


def row(what: str, figure: str) -> None:
    print(f"| {what:<58} | {figure:<58} |", flush=True)


async def timed(what: str, work: Awaitable[object]) -> object:
    start = time.perf_counter()
    result = await work
    row(what, f"{time.perf_counter() - start:.2f} s  ({result})")
    return result


def sizes(path: Path) -> str:
    with opened_to_read(path) as connection:
        start = time.perf_counter()
        found = statistics(connection, path)
        seconds = time.perf_counter() - start
    mib = 1 << 20
    return (
        f"{found.file_bytes / mib:.0f} MiB, free {found.free_bytes / mib:.0f}, WAL {found.wal_bytes / mib:.0f}, "
        f"{found.chunks:,} rows ({seconds:.2f} s)"
    )


def checked(path: Path) -> str:
    with opened_to_read(path) as connection:
        start = time.perf_counter()
        report = check(connection)
        seconds = time.perf_counter() - start
        start = time.perf_counter()
        connection.execute("PRAGMA integrity_check").fetchall()
        quick = time.perf_counter() - start
    return (
        f"{seconds:.2f} s, of it integrity_check {quick:.2f} s; {report.events:,} events, "
        f"{len(report.findings)} findings"
    )


async def slow_reader(journal: Journal) -> str:
    try:
        sequence, _ = await read(journal, "huge-0", pause=0.02)
    except CursorExpired as error:
        return f"CURSOR_EXPIRED {error.metadata['first_sequence']}"
    return f"read all {sequence:,}"


async def main(events: int, folder: Path) -> None:
    path = folder / "journal.db"
    wall = Wall()
    journal = SqliteJournal(path, now_ns=wall, tail_bytes=0)
    await journal.open()
    row("what", "figure")
    await timed(f"written, {events:,} events", fill(journal, wall, events))
    row("size, rows (stats)", sizes(path))
    row("check", await asyncio.to_thread(checked, path))
    row("an execution of 5,000 one-event rows read", f"{(await read(journal, 'long-1-0'))[1] * 1e3:.1f} ms")
    latencies = Latencies(journal, "live")
    await latencies.create()
    await latencies.append(1_000)
    row("append latency alone", latencies.line())
    async with latencies.measured():
        await timed("compaction, with appends: rows fewer", journal.compact())
    row("append latency during it", latencies.line())
    row("size, rows (stats)", sizes(path))
    row("the same execution read", f"{(await read(journal, 'long-1-0'))[1] * 1e3:.1f} ms")
    for where in ("in an empty journal", "beside all these"):
        with tempfile.TemporaryDirectory(dir=folder) as place:
            if where == "beside all these":
                await asyncio.to_thread(copy, path, Path(place) / "journal.db")
            await recovered(where, Path(place))
    reader = asyncio.ensure_future(slow_reader(journal))
    async with latencies.measured():
        await timed("purge of half, with appends and a reader in the middle", journal.purge(Retention()))
    row("append latency during it", latencies.line())
    row("the reader", await reader)
    row("size, rows (stats)", sizes(path))
    row("check", await asyncio.to_thread(checked, path))
    await journal.close()
    start = time.perf_counter()
    journal = SqliteJournal(path, now_ns=wall)
    await journal.open()
    row("open", f"{(time.perf_counter() - start) * 1e3:.0f} ms")
    await fill_again(journal, events)
    row("size after as many events again as were purged", sizes(path))
    await journal.close()


async def recovered(where: str, folder: Path) -> None:
    """Kills a server with 100 executions under way, and measures how the next one takes them over."""
    with Gauged(folder, flags=["--keep-days", "0", "--keep-executions", "0"]) as server:
        clients = Clients(server.address, History(), Random(1))
        plan = Plan(steps=[plan_step("a", "work", input={"pieces": 100_000, "pause": 0.2})])
        requests = [ExecuteRequest(plan=plan, request_id=f"recovered-{number}") for number in range(UNFINISHED)]
        names = await asyncio.gather(*map(clients.start, requests))
        await clients.close()
        await asyncio.to_thread(until, lambda: min(reached(server.journal, names)) >= 20, "20 events each")
        server.kill()
        before = reached(server.journal, names)
        start = time.perf_counter()
        server.start()
        listening = time.perf_counter() - start
        while any(now <= then for now, then in zip(reached(server.journal, names), before, strict=True)):
            pass
        taken = time.perf_counter() - start
        memory = Gauge(server.process.pid).sample().resident >> 20
        row(
            f"start with {UNFINISHED} unfinished {where}",
            f"listening after {listening:.2f} s, all recovered {taken:.2f} s; {memory} MiB",
        )
        server.kill()


def copy(path: Path, there: Path) -> None:
    """Copies a journal that is open, without its live execution, which has no request that could run."""
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(there)) as target:
        source.backup(target)
        target.execute(
            "DELETE FROM chunks WHERE execution = (SELECT ordinal FROM executions WHERE execution_id = 'live')"
        )
        target.execute("DELETE FROM executions WHERE execution_id = 'live'")
        target.commit()


def reached(path: Path, names: Sequence[str]) -> list[int]:
    """Returns the last sequence of each execution, as another process sees it."""
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
        select = "SELECT last_sequence FROM executions WHERE execution_id = ?"
        return [connection.execute(select, (name,)).fetchone()[0] for name in names]


async def fill_again(journal: Journal, events: int) -> None:
    for number in range(max(1, events // 20_000)):
        await run(journal, f"again-{number}", events=10_000, step=100)


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory(dir=sys.argv[2] if len(sys.argv) > 2 else None) as temporary:
        asyncio.run(main(count, Path(temporary)))
