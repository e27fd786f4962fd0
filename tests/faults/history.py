"""What every client saw, and what the journal holds: plain data that checkers judge.

    history = History()
    recording = history.open("raw 1", execution_id, after=0)
    recording.take(message)               # the bytes of an EventBatch
    recording.end("OK")
    history.journal = await dump(path)    # when no server has it open

Times are time.monotonic()'s, unless a clock of another kind made all of them.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from tests.e2e.watchers import frames

from stepwire.v1 import Event, EventBatch, ExecuteRequest, Execution, ExecutionFilter
from stepwire_server.journal import Journal, SqliteJournal
from stepwire_server.journal.retention import Tombstone

__all__ = [
    "Append",
    "Bounds",
    "Canary",
    "Effect",
    "History",
    "Holding",
    "Kept",
    "Message",
    "Probe",
    "Reading",
    "Reply",
    "Stream",
    "decoded",
    "dump",
    "dump_open",
    "events_of",
    "gone",
    "kind_of",
]

_PAGE = 500

_COMMITTED = """
SELECT last_sequence FROM executions WHERE execution_id = :id
UNION ALL SELECT last_sequence FROM tombstones WHERE execution_id = :id
"""


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
    committed: int | None = None
    """Up to where another connection to the journal saw the execution's events when the message was here; -1: it saw no
    execution. None: nobody looked.
    """


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
    said: str = ""
    """The status's text and all metadata that came with it."""
    left: bool = False
    """Whether its reader ended it."""

    def take(self, message: bytes, probe: Probe | None = None) -> Message:
        """Adds what came, and what a probe sees then."""
        batch = EventBatch.FromString(message)
        if not self.execution_id:
            self.execution_id = batch.execution.execution_id
        snapshot = batch.execution.SerializeToString() if batch.HasField("execution") else b""
        committed = probe.committed(self.execution_id) if probe is not None else None
        taken = Message(
            at=time.monotonic(),
            frames=list(frames(message)),
            after=batch.after_sequence,
            sequence=batch.sequence,
            notice=batch.notice,
            execution=snapshot,
            committed=committed,
        )
        self.messages.append(taken)
        return taken

    def end(self, status: str, reason: str = "", metadata: dict[str, str] | None = None, said: str = "") -> None:
        """Notes how it ended."""
        self.ended, self.status, self.reason, self.metadata = time.monotonic(), status, reason, metadata or {}
        self.said = said

    def leave(self) -> None:
        """Notes that its reader ended it, if nobody else had."""
        if not self.ended:
            self.ended, self.left = time.monotonic(), True


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
    committed: int | None = None
    """As a message's."""
    said: str = ""
    """The status's text and all metadata that came with it."""
    left: bool = False
    """Whether the caller did not wait for the answer."""
    answer: int | None = None
    """What a question was answered with."""


@dataclass(frozen=True, kw_only=True)
class Effect:
    """A line that an operation left in a file: it did what it does."""

    execution_id: str
    step_id: str
    attempt: int
    at_most_once: bool
    saved: int | None = None
    """What the attempt found as its saved state, 0 for nothing; None where its operation saves nothing."""


@dataclass(frozen=True, kw_only=True)
class Append:
    """What one owner added to an execution at once, as the journal took it."""

    execution_id: str
    epoch: int
    first: int
    last: int


@dataclass(frozen=True, kw_only=True)
class Holding:
    """What the server's process held at one moment."""

    phase: str
    """"before", "during" or "after" what is done to it."""
    resident: int
    """Bytes of memory."""
    descriptors: int
    tasks: int = 0
    """Of its event loop; 0 where nobody counted."""


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """How much more than before a server may hold."""

    resident_during: int
    resident_after: int
    descriptors_during: int = 1_000_000
    descriptors_after: int = 0
    tasks_after: int = 0


@dataclass(frozen=True, kw_only=True)
class Canary:
    """A text that must not be found."""

    text: str
    allowed: frozenset[str] = frozenset()
    """Where it may stand: "journal", "log", "status"."""


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


@lru_cache(maxsize=1 << 16)
def decoded(frame: bytes) -> Event:
    """Returns an event, to be read only: many checkers look at the same one."""
    return Event.FromString(frame)


def events_of(kept: Kept) -> list[Event]:
    """Returns an execution's events, decoded, to be read only."""
    return [decoded(frame) for frame in kept.frames]


class Probe:
    """Sees what is committed, beside the server: with a connection of its own that only reads.

    In WAL mode with synchronous=FULL a commit is seen by another connection only after the WAL was synced, so what it
    sees is durable. It looks when the client has a message in its hands, which is later than the server sent it: a
    message that is shown some milliseconds too early is caught, one that is early by less than it travels is not.
    """

    def __init__(self, path: Path) -> None:
        self._uri = f"{path.absolute().as_uri()}?mode=ro"

    def committed(self, execution_id: str) -> int:
        """Returns the last event that is committed; -1 where there is no such execution."""
        with closing(sqlite3.connect(self._uri, uri=True, isolation_level=None)) as connection:
            found = connection.execute(_COMMITTED, {"id": execution_id}).fetchone()
        return -1 if found is None else int(found[0])


def kind_of(event: Event) -> str:
    """Returns the name of an event's kind; empty where it is unknown."""
    return event.WhichOneof("kind") or ""


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
    purged: dict[str, Tombstone] = field(default_factory=dict)
    """What is left of executions that were purged, by execution id."""
    appends: list[Append] = field(default_factory=list)
    """In the order in which the journal took them, where somebody wrote them down."""
    outages: list[tuple[float, float]] = field(default_factory=list)
    """From when to when the server was dead, or was made to stand still. In between, nothing can happen in time."""
    wall: float = field(default_factory=lambda: time.time() - time.monotonic())
    """What the wall clock shows at the moment 0 of this history's times."""
    cancel_grace: float | None = None
    """The server's grace for cancelled steps, where it is known."""
    cancel_margin: float = 2.0
    """Seconds that an end may take besides the grace."""
    stubborn: bool = False
    """Whether there are operations that go on when they are told to end."""
    holdings: list[Holding] = field(default_factory=list)
    bounds: Bounds | None = None
    canaries: list[Canary] = field(default_factory=list)
    log: str = ""
    """The server's."""

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
        """Reads the file in which operations leave a line: execution, step, attempt, 1 for at most once, and
        what the attempt found as its saved state, where there is a fifth word.
        """
        for line in path.read_text("utf-8").splitlines() if path.exists() else ():
            execution_id, step_id, attempt, once, *saved = line.split()
            self.effects.append(
                Effect(
                    execution_id=execution_id,
                    step_id=step_id,
                    attempt=int(attempt),
                    at_most_once=once == "1",
                    saved=int(saved[0]) if saved else None,
                )
            )

    def ids(self) -> set[str]:
        """Returns the executions that clients heard of."""
        told = {stream.execution_id for stream in self.streams} | {reply.execution_id for reply in self.replies}
        return told - {""}


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


async def gone(path: Path, execution_ids: Iterable[str]) -> dict[str, Tombstone]:
    """Returns what is left of those of the executions that were purged. No server may have the file open."""
    journal = SqliteJournal(path)
    await journal.open()
    try:
        found = [(execution_id, await journal.tombstone(execution_id)) for execution_id in sorted(execution_ids)]
    finally:
        await journal.close()
    return {execution_id: stone for execution_id, stone in found if stone is not None}


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
