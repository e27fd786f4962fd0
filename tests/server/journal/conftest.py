"""What the journal's tests share: journals of each kind, records, chunks."""

from __future__ import annotations

import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Protocol

import pytest
from tests.server.engine.rig import HeldJournal

from stepwire.v1 import ExecutionState
from stepwire_server.journal import Chunk, ExecutionRecord, Journal, MemoryJournal, SqliteJournal

RUNNING = ExecutionState.EXECUTION_STATE_RUNNING


class NewJournal(Protocol):
    """Opens a journal of the kind under test; the fixture closes it."""

    def __call__(
        self, *, tail_bytes: int = 1 << 20, tails_bytes: int = 64 << 20, now_ns: Callable[[], int] = ...
    ) -> Awaitable[Journal]: ...


class NewChunk(Protocol):
    """Makes a chunk from a sequence on, whose bytes say which event is which."""

    def __call__(self, first: int, count: int = 1, *, size: int = 10, kind: int = 5) -> Chunk: ...


class NewRecord(Protocol):
    """Makes a record."""

    def __call__(
        self,
        execution_id: str = "e1",
        *,
        tenant: str = "",
        request_id: str = "",
        session_id: str = "",
        labels: Mapping[str, str] = ...,
        create_time_ns: int = 1,
        state: ExecutionState.ValueType = ...,
    ) -> ExecutionRecord: ...


class Append(Protocol):
    """Appends a chunk to an execution, as its owner does."""

    def __call__(
        self, journal: Journal, execution_id: str, chunk: Chunk, *, epoch: int = 1, snapshot: bytes = b""
    ) -> Awaitable[int]: ...


@pytest.fixture
def new_chunk() -> NewChunk:
    def make(first: int, count: int = 1, *, size: int = 10, kind: int = 5) -> Chunk:
        frames = [f"{sequence}|".encode().ljust(size + sequence % 3, b".") for sequence in range(first, first + count)]
        return Chunk(
            first=first,
            data=b"".join(frames),
            ends=list(itertools.accumulate(map(len, frames))),
            kinds=bytes([kind]) * count,
        )

    return make


@pytest.fixture
def new_record() -> NewRecord:
    def make(
        execution_id: str = "e1",
        *,
        tenant: str = "",
        request_id: str = "",
        session_id: str = "",
        labels: Mapping[str, str] | None = None,
        create_time_ns: int = 1,
        state: ExecutionState.ValueType = ExecutionState.EXECUTION_STATE_PENDING,
    ) -> ExecutionRecord:
        return ExecutionRecord(
            execution_id=execution_id,
            request=f"request of {execution_id}".encode(),
            create_time_ns=create_time_ns,
            tenant=tenant,
            request_id=request_id,
            session_id=session_id,
            labels=labels or {},
            state=state,
        )

    return make


@pytest.fixture
def append() -> Append:
    def append(
        journal: Journal, execution_id: str, chunk: Chunk, *, epoch: int = 1, snapshot: bytes = b""
    ) -> Awaitable[int]:
        return journal.append(execution_id, epoch=epoch, chunk=chunk, state=RUNNING, snapshot=snapshot)

    return append


@pytest.fixture(params=["memory", "sqlite", "held"])
async def new_journal(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[NewJournal]:
    opened: list[Journal] = []

    async def make(
        *, tail_bytes: int = 1 << 20, tails_bytes: int = 64 << 20, now_ns: Callable[[], int] = time.time_ns
    ) -> Journal:
        journal: Journal
        if request.param == "memory":
            journal = MemoryJournal(tail_bytes=tail_bytes, tails_bytes=tails_bytes, now_ns=now_ns)
        elif request.param == "held":
            # What the engine's tests use. It answers late.
            journal = HeldJournal(tail_bytes=tail_bytes, tails_bytes=tails_bytes, now_ns=now_ns)
            journal.turns = lambda: 3
        else:
            path = tmp_path / f"{len(opened)}.db"
            journal = SqliteJournal(
                path, tail_bytes=tail_bytes, tails_bytes=tails_bytes, now_ns=now_ns, bite_seconds=0.0
            )
        opened.append(journal)
        await journal.open()
        return journal

    yield make
    for journal in opened:
        await journal.close()


@pytest.fixture
async def journal(new_journal: NewJournal) -> Journal:
    """A journal whose readers always reach the storage."""
    return await new_journal(tail_bytes=0)


Frames = Callable[[Journal, str], Awaitable[list[bytes]]]


@pytest.fixture
def frames() -> Frames:
    """Reads all events of an execution, from the storage."""

    async def read(journal: Journal, execution_id: str) -> list[bytes]:
        chunks = await journal._load(execution_id, after=0, max_events=1 << 30, max_bytes=1 << 40)
        return [chunk.frame(index) for chunk in chunks for index in range(len(chunk))]

    return read
