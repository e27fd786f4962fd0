"""Where executions and their events are kept: the abstract class that all journals share.

A journal stores records (one an execution) and chunks of frames (many an execution). Whoever runs an execution appends;
whoever watches reads from a cursor and waits for the wake-up. Nothing else connects the two:

    append --> durable --> wake --> read from the cursor

A follower registers its wake-up before it reads, so no append can fall between the two.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Self

from stepwire.errors import JournalUnavailable
from stepwire.v1 import ExecutionFilter, ExecutionState
from stepwire_server.journal.chunk import Chunk
from stepwire_server.journal.retention import Purged, Retention, Tombstone
from stepwire_server.journal.selection import matcher
from stepwire_server.journal.shared import SharedReads, Wanted
from stepwire_server.journal.statistics import Statistics, Summary, Typical
from stepwire_server.journal.tail import TAIL_BYTES, Tails
from stepwire_server.journal.waking import Waking
from stepwire_server.journal.wide import Entry, Ring, Standing, WideFollower, Window

__all__ = [
    "ENDED",
    "Conflict",
    "ExecutionRecord",
    "Follower",
    "Journal",
    "JournalBusy",
    "JournalLocked",
    "JournalRefused",
    "Page",
]

ENDED = frozenset(
    {
        ExecutionState.EXECUTION_STATE_COMPLETED,
        ExecutionState.EXECUTION_STATE_FAILED,
        ExecutionState.EXECUTION_STATE_CANCELLED,
    }
)
"""The states of an execution that has ended."""


class Conflict(Exception):
    """It did not fit: its epoch is not the record's, its first sequence is not the next one, or there is no record.

    Another process owns the execution now. The owner that gets this stops, and touches the execution no more.
    """


class JournalBusy(JournalUnavailable):
    """Another process writes to the journal. Nothing of this write is stored: the same one can be tried again."""


class JournalRefused(Exception):
    """What was found can't be opened as a journal. The message says why, and what to do."""


class JournalLocked(JournalRefused):
    """Another process has the journal open. The message says which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionRecord:
    """What the journal knows of an execution besides its events."""

    execution_id: str
    """Unique in the whole journal, not only in its tenant: whoever serves tenants compares `tenant` after `get`."""
    request: bytes
    """The encoded ExecuteRequest that it was started with, without request id, filter and heartbeat interval.

    Up to 1 MiB with a plan in it, so `list` leaves it empty, and nothing else does.
    """
    create_time_ns: int
    """When it was accepted, in nanoseconds since 1970."""
    tenant: str = ""
    """Empty until there is authentication."""
    request_id: str = ""
    """Unique in its tenant, where there is one."""
    session_id: str = ""
    """To select by."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """To select by."""
    epoch: int = 1
    """Rises with each claim. An append must name it."""
    state: ExecutionState.ValueType = ExecutionState.EXECUTION_STATE_PENDING
    """The state after the last durable event."""
    last_sequence: int = 0
    """The last durable event. 0: none yet."""
    snapshot: bytes = b""
    """The encoded Execution, without its plan, as of `last_sequence`."""
    ordinal: int = 0
    """Counts the journal's records in the order of their creation, from 1. Given by the journal."""
    end_time_ns: int = 0
    """When the end became known to the journal, in nanoseconds since 1970. 0: it has not ended. Given by the journal.

    Not before 1, whatever the clock says, and not the time of the terminal event, which the owner's clock gave.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One page of records, newest first."""

    records: Sequence[ExecutionRecord]
    """At most as many as asked for. Their `request` is empty."""
    total: int
    """How many match in all."""
    more: bool
    """Whether older ones match too: ask again with `before` set to the last record's ordinal."""


class Follower(Waking):
    """A cursor in one execution's events, with its wake-up. Made by `Journal.follow`.

        with journal.follow(execution_id, after=0) as follower:
            while not follower.ended:
                for chunk in await follower.read(max_events=512, max_bytes=262_144):
                    ...
                await follower.wait()

    `read` returns what is ready and never waits for more; `wait` returns at once where something may be new.
    """

    __slots__ = ("_journal", "ended", "execution_id", "sequence")

    def __init__(self, journal: Journal, execution_id: str, sequence: int) -> None:
        super().__init__()
        self._journal = journal
        self.execution_id = execution_id
        self.sequence = sequence
        """The last event that was read."""
        self.ended = False
        """Whether the terminal event was read."""

    async def read(self, *, max_events: int, max_bytes: int) -> Sequence[Chunk]:
        """Returns durable chunks that follow, up to the bounds (one event may exceed `max_bytes`), or none. A
        stored chunk that would have to be cut, other than the first, is left to the next read.
        """
        self._woken = False
        try:
            chunks = await self._journal.read(
                self.execution_id, after=self.sequence, max_events=max_events, max_bytes=max_bytes, whole=True
            )
        except BaseException:
            self._woken = True  # Nothing was read, by a cancel or a failure: the wake-up still stands.
            raise
        if chunks:
            self.sequence = chunks[-1].last
            self.ended = chunks[-1].ended
            self._woken = True
        return chunks

    def __enter__(self) -> Self:
        self._journal.followed(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._journal.left(self)


class Journal(ABC):
    """Executions and their events, append-only.

    One event loop uses a journal. Everything that a method returns or a follower reads is durable. Every method may
    raise `stepwire.errors.JournalUnavailable`, those that write `StorageFull`, those that read `JournalDamaged`.
    """

    kind: str = ""
    """The name that GetServerInfo gives."""

    def __init__(
        self,
        *,
        tail_bytes: int = TAIL_BYTES,
        tails_bytes: int = 64 << 20,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._now_ns = now_ns
        self._tails = Tails(each_bytes=tail_bytes, all_bytes=tails_bytes)
        self._shared = SharedReads()
        self._followers: dict[str, set[Follower]] = {}
        self._wide: set[WideFollower] = set()
        self._live: dict[str, ExecutionRecord] = {}  # what filters go by, of executions that have not ended
        self.recent = Ring()
        """What is new, for those who follow many. Empty while there are none."""

    # -- records

    @abstractmethod
    async def open(self) -> None:
        """Makes the journal ready. Called once, in the event loop that will use it."""

    @abstractmethod
    async def close(self) -> None:
        """Finishes what was appended and lets go of everything. Safe to call twice, and without `open`."""

    @abstractmethod
    async def create(self, record: ExecutionRecord) -> tuple[ExecutionRecord, bool]:
        """Adds a record, and returns it with its ordinal and True when it is durable.

        Where the tenant and request id are known already, adds nothing and returns the record that exists, and False.
        A hundred such calls at once give one record. Raises ValueError where another record has the execution id, and
        `stepwire.errors.CursorExpired` where the request id is that of an execution that was purged: it never runs
        again.
        """

    @abstractmethod
    async def create_all(self, records: Sequence[ExecutionRecord]) -> Sequence[ExecutionRecord] | None:
        """Adds all of these records, or none, also over a crash; returns them as `create` does when they are durable.

        Returns None, and has added nothing, where one of the request ids is known already. Raises as `create` does; the
        metadata of CursorExpired then has the request id. No two of them have the same request id.
        """

    @abstractmethod
    async def get(self, execution_id: str) -> ExecutionRecord | None:
        """Returns the record as of its last durable event."""

    @abstractmethod
    async def find(self, *, tenant: str, request_id: str) -> ExecutionRecord | None:
        """Returns the record with this request id, which is not empty."""

    @abstractmethod
    async def list(self, chosen: ExecutionFilter, *, tenant: str, before: int = 0, limit: int) -> Page:
        """Returns up to `limit` (at least 1) records that match the filter, newest first, with an empty `request`.

        With `before`, only those with an ordinal below it (exclusive; 0: all). Orders by ordinal, not by create time.
        A record that is damaged is left out, though counted.
        """

    @abstractmethod
    async def unfinished(self) -> Sequence[ExecutionRecord]:
        """Returns the records of all tenants whose execution has not ended, oldest first.

        Whoever takes one up calls `claim` first, and goes by the record that it returns: an older owner may have
        appended in between.
        """

    @abstractmethod
    async def claim(self, execution_id: str, *, epoch: int) -> ExecutionRecord:
        """Sets the epoch and returns the record when that is durable.

        Raises Conflict unless `epoch` is above the record's, and where there is no record.
        """

    # -- the end of records

    @abstractmethod
    async def tombstone(self, execution_id: str) -> Tombstone | None:
        """Returns what is left of an execution that was purged."""

    @abstractmethod
    async def purge(self, retention: Retention) -> Purged:
        """Removes the ended executions that are not to be kept, those first that ended first, and old tombstones.

        Done in small bites when nothing waits to be appended; returns when nothing is left to remove. Whoever reads a
        purged execution gets CursorExpired, and never a part of what follows its cursor. When the call is cancelled it
        ends after the present bite, and the next call goes on. What can't be removed since the storage is damaged is
        left to the next call, and the log says so; JournalDamaged is raised where nothing can be.
        """

    @abstractmethod
    async def compact(self) -> int:
        """Joins the chunks of ended executions into large ones, and returns how many chunks fewer there are.

        Bytes, sequences and each execution's highest position stay; a joined chunk has the position of its last part.
        In small bites, when nothing waits, as `purge`; readers notice nothing. A chunk that is damaged stays as it is,
        and so does the rest of its execution. Damaged storage is met as `purge` does.
        """

    # -- events

    @abstractmethod
    async def append(
        self,
        execution_id: str,
        *,
        epoch: int,
        chunk: Chunk,
        state: ExecutionState.ValueType,
        snapshot: bytes,
        summary: Summary | None = None,
    ) -> int:
        """Adds a chunk, and with it the record's new state and snapshot; returns the chunk's position. With the chunk
        that ends an execution comes its summary, which goes into the statistics; none where it is not to be counted.

        Returns when all of it is durable, and then the followers have been woken. Chunks of many executions that come
        together share one commit, and are stored in the order of the calls: the next one need not wait for this one.

        Raises Conflict unless `epoch` is the record's and `chunk.first` the next sequence. After that, and after
        StorageFull and JournalBusy, nothing of this append is stored, and other executions are not touched. After any
        other JournalUnavailable, and when the call is cancelled, it may have been stored: only what the journal says
        counts.
        """

    # -- statistics

    @abstractmethod
    async def statistics(self, *, tenant: str, from_ns: int | None = None, before_ns: int | None = None) -> Statistics:
        """Returns what became of the executions that ended in a span of nanoseconds since 1970: of all whole hours that
        it touches. None: open. Also of those that were purged since. What is damaged is left out, and counted.
        """

    @abstractmethod
    async def typical(self, *, tenant: str) -> Mapping[str, Typical]:
        """Returns how long steps take that complete, by operation: of the last day on which an execution ended, and the
        29 days before it. What is damaged is left out.
        """

    # -- reading events

    async def read(
        self, execution_id: str, *, after: int, max_events: int, max_bytes: int, whole: bool = False
    ) -> Sequence[Chunk]:
        """Returns durable events that follow `after` (exclusive), in order, up to the bounds but at least one, or none.

        The first returned event has the sequence `after + 1`. `whole`: of stored chunks only the first is cut, so that
        whoever reads on reads none twice; there may be fewer events then. Raises `stepwire.errors.CursorExpired` where
        the execution was purged, also between two reads.
        """
        chunks = self._tails.read(execution_id, after=after, max_events=max_events, max_bytes=max_bytes)
        if chunks is not None:
            return chunks
        load = partial(self._load, execution_id, after=after, max_events=max_events, max_bytes=max_bytes, whole=whole)
        if len(self._followers.get(execution_id, ())) < 2:
            return await load()
        return await self._shared.read(Wanted(execution_id, after, max_events, max_bytes, whole), load)

    @abstractmethod
    async def _load(
        self, execution_id: str, *, after: int, max_events: int, max_bytes: int, whole: bool = False
    ) -> Sequence[Chunk]:
        """Does what `read` promises, from the storage."""

    def follow(self, execution_id: str, *, after: int) -> Follower:
        """Gives a cursor after `after` (exclusive), to be used in `with`: its wake-up is registered meanwhile."""
        return Follower(self, execution_id, after)

    def followed(self, follower: Follower) -> None:
        """Called by a follower when it begins."""
        self._followers.setdefault(follower.execution_id, set()).add(follower)

    def left(self, follower: Follower) -> None:
        """Called by a follower when it ends."""
        followers = self._followers[follower.execution_id]
        followers.discard(follower)
        if not followers:
            del self._followers[follower.execution_id]

    def wake(self, execution_id: str) -> None:
        """Makes whoever follows an execution look again, where what they look for is not in the journal."""
        for follower in self._followers.get(execution_id, ()):
            follower.wake()

    @abstractmethod
    async def standing(self, chosen: ExecutionFilter, *, tenant: str) -> Standing:
        """Returns where the journal stands, and which of the executions that match are under way, as of one moment."""

    @abstractmethod
    async def load_many(
        self, chosen: ExecutionFilter, *, tenant: str, after: int, max_events: int, max_bytes: int
    ) -> Window:
        """Returns the stored chunks that follow a position (exclusive) and whose execution matches, in the order of
        their positions, whole ones, until the bounds are reached; or none, and how far there is none. All of it, and
        what it says of positions, is as of one moment.
        """

    @contextmanager
    def follow_many(self, chosen: ExecutionFilter, *, tenant: str) -> Iterator[WideFollower]:
        """Gives a cursor in the events of all executions that match, with its wake-up registered from the beginning.
        `states` must be empty: an execution that is followed changes its state.
        """
        follower = WideFollower(self, chosen, tenant, matcher(chosen))
        self._wide.add(follower)
        try:
            yield follower
        finally:
            self._wide.discard(follower)
            if not self._wide:
                self.recent.clear()

    def _met(self, record: ExecutionRecord) -> None:
        """Called by implementations, in the event loop, when an execution was created or claimed: before its first
        event is.
        """
        if record.last_sequence == 0:
            self._tails.begin(record.execution_id)
        if record.state not in ENDED:
            self._live[record.execution_id] = replace(record, request=b"", snapshot=b"")

    def _committed(self, execution_id: str, chunk: Chunk) -> None:
        """Called by implementations, in the event loop and in the order of the positions, when a chunk is durable:
        keeps the tail, wakes followers.
        """
        self._tails.add(execution_id, chunk)
        self.wake(execution_id)
        if self._wide:
            entry = Entry(execution_id, chunk, chunk.position, self._live.get(execution_id))
            self.recent.add(entry)
            for wide in self._wide:
                wide.note(entry)
        if chunk.ended:
            self._live.pop(execution_id, None)

    def _purged(self, execution_id: str) -> None:
        """Called by implementations, in the event loop, when an execution is gone: nothing of it comes from memory."""
        self._tails.drop(execution_id)
        self._shared.drop(execution_id)
        self._live.pop(execution_id, None)
        self.wake(execution_id)
        for wide in self._wide:
            wide.lose(execution_id)

    def _stopped(self) -> None:
        """Called by implementations, in the event loop, when nothing can be read any more.

        Drops what is in memory, so that every read reaches `_load`, which raises; and wakes every follower, so that it
        reads.
        """
        self._tails.clear()
        self._shared.clear()
        self.recent.clear()
        for followers in self._followers.values():
            for follower in followers:
                follower.wake()
        for wide in self._wide:
            wide.wake()
