"""What every client saw, and what the journal holds: plain data that checkers judge.

    history = History()
    recording = history.open("raw 1", execution_id, after=0)
    recording.take(message)               # the bytes of an EventBatch
    recording.end("OK")
    history.journal = await dump(path)    # when no server has it open

Times are time.monotonic()'s.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e.watchers import frames

from stepwire.v1 import EventBatch, ExecuteRequest, Execution, ExecutionFilter
from stepwire_server.journal import Journal, SqliteJournal

__all__ = ["Effect", "History", "Kept", "Message", "Reading", "Reply", "Stream", "dump", "dump_open"]

_PAGE = 500


@dataclass(kw_only=True)
class Message:
    """One EventBatch as it came."""

    at: float
    frames: list[bytes]
    """The bytes of each event, as they stand in the message."""
    after: int
    sequence: int
    notice: int = 0
    execution: bytes = b""
    """The snapshot, where there was one."""


@dataclass(kw_only=True)
class Stream:
    """One streaming call, from its request to its status."""

    watcher: str
    """Who read it. A watcher resumes with another stream, so it may have many."""
    execution_id: str
    """Empty until the server has said it, where the stream began the execution."""
    after: int
    """The cursor that was asked for."""
    began: float
    kinds: frozenset[str] = frozenset()
    """The filter. Empty: everything."""
    request_id: str = ""
    """Where the stream began the execution."""
    messages: list[Message] = field(default_factory=list)
    ended: float = 0.0
    status: str = ""
    """The name of the status code; empty while it is open, and where its reader ended it."""
    reason: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    """Of the status's ErrorInfo."""

    def take(self, message: bytes) -> Message:
        """Adds what came."""
        batch = EventBatch.FromString(message)
        if not self.execution_id:
            self.execution_id = batch.execution.execution_id
        snapshot = batch.execution.SerializeToString() if batch.HasField("execution") else b""
        taken = Message(
            at=time.monotonic(),
            frames=list(frames(message)),
            after=batch.after_sequence,
            sequence=batch.sequence,
            notice=batch.notice,
            execution=snapshot,
        )
        self.messages.append(taken)
        return taken

    def end(self, status: str, reason: str = "", metadata: dict[str, str] | None = None) -> None:
        """Notes how it ended."""
        self.ended, self.status, self.reason, self.metadata = time.monotonic(), status, reason, metadata or {}


@dataclass(kw_only=True)
class Reading:
    """What one reader of the Python client was given over its whole life, resumed by the client itself."""

    reader: str
    execution_id: str
    after: int
    events: list[bytes] = field(default_factory=list)
    """Encoded again: equal as messages, not byte by byte."""
    times: list[float] = field(default_factory=list)
    error: str = ""
    """What it raised."""


@dataclass(kw_only=True)
class Reply:
    """One unary call."""

    method: str
    sent: float
    at: float
    status: str
    request_id: str = ""
    execution_id: str = ""
    execution: bytes = b""
    """The snapshot in it."""


@dataclass(frozen=True, kw_only=True)
class Effect:
    """A line that an operation left in a file: it did what it does."""

    execution_id: str
    step_id: str
    attempt: int
    at_most_once: bool


@dataclass(kw_only=True)
class Kept:
    """What the journal holds of one execution."""

    execution_id: str
    request_id: str
    request: bytes
    create_time_ns: int
    epoch: int
    state: int
    last_sequence: int
    snapshot: bytes
    firsts: list[int]
    """The first sequence of each chunk."""
    counts: list[int]
    """How many events each has."""
    frames: list[bytes]
    """The bytes of each event, as clients get them."""


@dataclass(kw_only=True)
class History:
    """One run of a cluster of clients against a server that is being harmed."""

    streams: list[Stream] = field(default_factory=list)
    readings: list[Reading] = field(default_factory=list)
    replies: list[Reply] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)
    journal: dict[str, Kept] = field(default_factory=dict)
    """By execution id."""
    complete: bool = True
    """Whether the run waited until every execution had ended."""

    def open(
        self,
        watcher: str,
        execution_id: str,
        *,
        after: int = 0,
        kinds: frozenset[str] = frozenset(),
        request_id: str = "",
    ) -> Stream:
        """Begins to record a stream, at the moment when it is asked for."""
        stream = Stream(
            watcher=watcher,
            execution_id=execution_id,
            after=after,
            began=time.monotonic(),
            kinds=kinds,
            request_id=request_id,
        )
        self.streams.append(stream)
        return stream

    def snapshots(self) -> Iterator[tuple[str, float, Execution]]:
        """Gives every snapshot that a client saw: whose word it was, when, and what."""
        for stream in self.streams:
            for message in stream.messages:
                if message.execution:
                    yield f"stream of {stream.watcher}", message.at, Execution.FromString(message.execution)
        for reply in self.replies:
            if reply.execution:
                yield reply.method, reply.at, Execution.FromString(reply.execution)

    def add_effects(self, path: Path) -> None:
        """Reads the file in which operations leave a line: execution, step, attempt, 1 for at most once."""
        for line in path.read_text("utf-8").splitlines() if path.exists() else ():
            execution_id, step_id, attempt, once = line.split()
            self.effects.append(
                Effect(execution_id=execution_id, step_id=step_id, attempt=int(attempt), at_most_once=once == "1")
            )


async def dump(path: Path) -> dict[str, Kept]:
    """Returns all that a journal's file holds. No server may have it open."""
    journal = SqliteJournal(path)
    await journal.open()
    try:
        return await dump_open(journal)
    finally:
        await journal.close()


async def dump_open(journal: Journal) -> dict[str, Kept]:
    """Returns all that an open journal holds."""
    found: dict[str, Kept] = {}
    before, more = 0, True
    while more:
        page = await journal.list(ExecutionFilter(), tenant="", before=before, limit=_PAGE)
        for record in page.records:
            found[record.execution_id] = await _kept(journal, record.execution_id)
        before, more = page.records[-1].ordinal if page.records else 0, page.more
    return found


async def _kept(journal: Journal, execution_id: str) -> Kept:
    record = await journal.get(execution_id)
    assert record is not None, execution_id
    kept = Kept(
        execution_id=execution_id,
        request_id=record.request_id,
        request=ExecuteRequest.FromString(record.request).SerializeToString(deterministic=True),
        create_time_ns=record.create_time_ns,
        epoch=record.epoch,
        state=record.state,
        last_sequence=record.last_sequence,
        snapshot=record.snapshot,
        firsts=[],
        counts=[],
        frames=[],
    )
    after = 0
    # One more read than the record says: what lies beyond it would be found too.
    while chunks := await journal.read(execution_id, after=after, max_events=4096, max_bytes=4 << 20):
        for chunk in chunks:
            kept.firsts.append(chunk.first)
            kept.counts.append(len(chunk))
            kept.frames.extend(frames(chunk.data))
            after = chunk.last
    return kept
