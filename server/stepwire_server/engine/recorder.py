"""Turns what happens into events and appends them: the only writer of an execution's log.

    emit: room -> fold -> sequence -> encode -> pending --(in chunks, a batch at a time)--> journal -> durable

An event is encoded once, here; the same bytes go to the journal and from there to every watcher. Appends never wait for
more to come: what is pending when the last ones have returned is appended then, and shares a commit.
"""

from __future__ import annotations

import asyncio
import functools
import heapq
import logging
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from stepwire.errors import JournalUnavailable, LimitSize, StepwireError, StorageFull
from stepwire.v1 import Event, ExecuteRequest, Execution
from stepwire_server.engine.clock import Clock
from stepwire_server.engine.fold import Fold
from stepwire_server.engine.foresight import Foresight
from stepwire_server.engine.snapshot import fixed_part
from stepwire_server.engine.stamp import Stamp
from stepwire_server.engine.states import KINDS
from stepwire_server.engine.summary import summary_of
from stepwire_server.journal import Chunk, Conflict, ExecutionRecord, Journal, JournalBusy, Summary

__all__ = ["MAX_EVENT_BYTES", "Recorder", "RecorderClosed", "check_size", "frame"]

_log = logging.getLogger(__name__)

MAX_EVENT_BYTES = 1 << 20
"""Bytes of one encoded event."""

_ENVELOPE_BYTES = 2048
"""Room for what the recorder writes into an event: sequence, times, states, progress."""

_BODY_BYTES = MAX_EVENT_BYTES - _ENVELOPE_BYTES
"""Bytes of an event without that."""

_CHUNK_EVENTS = 512
_CHUNK_BYTES = 256 * 1024
"""A chunk has the bounds of a message, so that a reader who keeps up gets it as it is."""

_BATCH_BYTES = 384 << 10
"""Bytes of chunks that are appended together. One after the other, each would wait for a commit and the turns of two
threads. More would make the commit long: this many take it some milliseconds.
"""

_ALONE, _AMONG_OTHERS = 0.001, 0.0001
"""Seconds that an execution may record without letting the event loop do anything else: where nothing else took long
the last time, and where something did. A thousand that do nothing but record take a tenth of a second then, in all.
"""

_RETRY = 1.0
"""Seconds between two tries to append while the disk is full, or another process holds the journal."""


class _Sealed(NamedTuple):
    """A chunk, with what its append also writes."""

    chunk: Chunk
    snapshot: Execution
    summary: Summary | None


class RecorderClosed(Exception):
    """The execution has ended here: nothing more can be recorded."""


def frame(encoded: bytes) -> bytes:
    """Returns an encoded event as it stands in EventBatch.events: field 2, length, bytes."""
    return _head(len(encoded)) + encoded


@functools.lru_cache(maxsize=4096)
def _head(size: int) -> bytes:
    head = bytearray(b"\x12")
    while size > 0x7F:
        head.append(size & 0x7F | 0x80)
        size >>= 7
    head.append(size)
    return bytes(head)


def check_size(event: Event) -> None:
    """Raises LimitSize where an event without its envelope is too large to be recorded."""
    size = event.ByteSize()
    if size > _BODY_BYTES:
        raise _too_large(size)


def _too_large(size: int) -> LimitSize:
    return LimitSize(f"the event has {size:,} bytes; at most {_BODY_BYTES:,} are allowed")


class Recorder:
    """The writer of one execution's events. Lives in the event loop."""

    def __init__(
        self,
        journal: Journal,
        record: ExecutionRecord,
        fold: Fold,
        *,
        clock: Clock,
        max_pending_bytes: int,
        on_lost: Callable[[BaseException], None],
        foresight: Foresight,
    ) -> None:
        self.fold = fold
        self._foresight: Foresight | None = foresight
        self._journal = journal
        self._clock = clock
        self._execution_id = record.execution_id
        self._epoch = record.epoch
        self._request = record.request
        # Encoded messages that follow each other merge: an event is what happened and its envelope, which is one
        # message filled anew each time; a snapshot is its fixed part and what events changed.
        self._stamp = Stamp(Event(execution_id=record.execution_id))
        self._fixed = fixed_part(record).SerializeToString()
        self._max_pending_bytes = max_pending_bytes
        self._on_lost = on_lost
        self._frames: list[bytes] = []
        self._ends: list[int] = []
        self._kinds = bytearray()
        self._size = 0
        self._sealed: deque[_Sealed] = deque()
        self._pending_bytes = 0
        self._yielded = clock.monotonic()
        self._unyielding = _ALONE
        self._room = asyncio.Event()
        self._room.set()
        self._appending: asyncio.Task[None] | None = None
        self._durable = fold.sequence
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._lost: BaseException | None = None

    @property
    def lost(self) -> BaseException | None:
        """Why nothing can be recorded any more, where that is so."""
        return self._lost

    def has_room(self) -> bool:
        """Returns whether `room` would return at once."""
        pending = self._pending_bytes < self._max_pending_bytes
        return pending and self._lost is None and self._clock.monotonic() - self._yielded <= self._unyielding

    async def room(self) -> None:
        """Returns when there is room for another event. This is where a fast operation waits for the journal, and where
        one that never waits for anything else lets its events go out.
        """
        began = self._clock.monotonic()
        if began - self._yielded > self._unyielding:
            await asyncio.sleep(0)
            # From here on: where others took long, the next event need not wait for them again.
            self._yielded = self._clock.monotonic()
            self._unyielding = _ALONE if self._yielded - began < _ALONE else _AMONG_OTHERS
        while self._pending_bytes >= self._max_pending_bytes:
            self._room.clear()
            await self._room.wait()
        if self._lost is not None:
            raise RecorderClosed from self._lost

    def record(self, event: Event) -> int:
        """Takes an event with its kind, step and text; adds its envelope; returns its sequence. `event` stays as it is.

        Never waits: `room` comes before, except for the engine's own events, which are few. Raises LimitSize where the
        event is too large, TransitionError where it does not fit the state, RecorderClosed after the end; nothing has
        happened then.
        """
        fold = self.fold
        if self._lost is not None or fold.ended:
            raise RecorderClosed
        body = event.SerializeToString()
        if len(body) > _BODY_BYTES:
            raise _too_large(len(body))
        kind = event.WhichOneof("kind")
        assert kind is not None
        now = self.now_ns()
        fold.apply(event, kind, now)
        self._foresee(event, kind, now)
        self._stamp.write(fold, event.step_id)
        envelope = self._stamp.event.SerializeToString()
        size = len(body) + len(envelope)
        head = _head(size)
        size += len(head)
        self._size += size
        self._pending_bytes += size
        # Joined where the chunk is: to join each event first would be a copy more.
        self._frames += (head, body, envelope)
        self._ends.append(self._size)
        self._kinds.append(KINDS[kind])
        if self._size >= _CHUNK_BYTES or len(self._ends) >= _CHUNK_EVENTS:
            self._seal()
        if self._appending is None:
            self._appending = asyncio.create_task(self._append(), name=f"append {self._execution_id}")
        return fold.sequence

    def _foresee(self, event: Event, kind: str, now: int) -> None:
        if self._foresight is None:
            return
        try:
            self._foresight.look(event, kind, now)
        except Exception:
            # The fold has taken the event: without it in the journal nothing that follows could be recorded. What is
            # only an estimate keeps nothing from that.
            _log.exception("execution %s: a bug in its time remaining; it tells of it no more", self._execution_id)
            self._foresight = None

    def now_ns(self) -> int:
        """Returns the time that the next event would have: the wall's, but never before the last event's."""
        now, last = self._clock.now_ns(), self.fold.time_ns
        return now if now > last else last

    async def durable(self, sequence: int) -> None:
        """Returns when this sequence is durable. Raises what the journal raised where it never will be."""
        if sequence <= self._durable:
            return
        if self._lost is not None:
            raise self._lost
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (sequence, id(done), done))
        await done

    async def settle(self) -> None:
        """Returns when everything that was recorded is durable, or is lost."""
        while self._appending is not None:
            await asyncio.wait({self._appending})

    def give_up(self) -> None:
        """Drops what is not durable yet, and takes nothing more. Whoever owns the execution next goes on without it."""
        # A task that is cancelled before its first line never comes to its last one, either.
        appending, self._appending = self._appending, None
        if appending is not None:
            appending.cancel()
        if self._lost is None:
            self._lose(JournalUnavailable("the journal did not take the last events in time"))

    async def _append(self) -> None:
        try:
            while self._sealed or self._frames:
                await self._store(self._next_batch())
        except (Conflict, StepwireError) as error:
            self._lose(error)
        except Exception as error:
            _log.exception("execution %s: a bug in the journal", self._execution_id)
            self._lose(error)
        finally:
            self._appending = None

    def _next_batch(self) -> list[_Sealed]:
        """Returns chunks of what is pending, the oldest first: at least one, more as long as the bound allows."""
        batch: list[_Sealed] = []
        room = _BATCH_BYTES
        while self._sealed or (self._frames and self._size <= room):
            if not self._sealed:
                self._seal()
            room -= len(self._sealed[0].chunk.data)
            if batch and room < 0:
                break
            batch.append(self._sealed.popleft())
        return batch

    async def _store(self, batch: list[_Sealed]) -> None:
        """Returns when all of it is durable. Raises what the journal raised where it never will be."""
        waits = False
        while batch:
            results: list[BaseException | None] = [None]
            if len(batch) > 1:
                # Begun in their order, which is that in which the journal stores them.
                results = await asyncio.gather(*map(self._append_one, batch), return_exceptions=True)
            else:  # Most are alone, and a task would cost as much as an event.
                try:
                    await self._append_one(batch[0])
                except Exception as alone:
                    results = [alone]
            error = next(filter(None, results), None)
            if error is None:
                if waits:
                    _log.info("execution %s goes on", self._execution_id)
                return
            # What follows it is not stored either, since the journal takes no hole: it is tried again with it.
            batch = batch[results.index(error) :]
            if not isinstance(error, StorageFull | JournalBusy):
                raise error
            what = "room on the disk" if isinstance(error, StorageFull) else "another process to let go of the journal"
            if not waits:  # A thousand that wait would fill the disk with a line each second.
                _log.warning("execution %s waits for %s", self._execution_id, what)
            waits = True
            await self._clock.sleep(_RETRY)

    async def _append_one(self, sealed: _Sealed) -> None:
        await self._journal.append(
            self._execution_id,
            epoch=self._epoch,
            chunk=sealed.chunk,
            state=sealed.snapshot.state,
            snapshot=self._fixed + sealed.snapshot.SerializeToString(),
            summary=sealed.summary,
        )
        if self._lost is None:
            self._is_durable(sealed.chunk)

    def _is_durable(self, chunk: Chunk) -> None:
        self._durable = max(self._durable, chunk.last)
        while self._waiting and self._waiting[0][0] <= self._durable:
            done = heapq.heappop(self._waiting)[2]
            if not done.done():
                done.set_result(None)
        self._pending_bytes -= len(chunk.data)
        self._room.set()

    def _seal(self) -> None:
        """Makes what is pending one chunk, with the snapshot as of its last event, and the summary where that is the
        end.
        """
        count = len(self._ends)
        chunk = Chunk(
            first=self.fold.sequence - count + 1, data=b"".join(self._frames), ends=self._ends, kinds=bytes(self._kinds)
        )
        summary = self._summary() if self.fold.ended else None
        self._sealed.append(_Sealed(chunk, self.fold.snapshot(), summary))
        self._frames, self._ends, self._kinds, self._size = [], [], bytearray(), 0

    def _summary(self) -> Summary | None:
        try:
            return summary_of(self.fold, ExecuteRequest.FromString(self._request))
        except Exception:
            # Statistics keep nothing from ending.
            _log.exception("execution %s: a bug in its summary; it is not counted", self._execution_id)
            return None

    def _lose(self, error: BaseException) -> None:
        _log.error("execution %s can't be recorded any more: %r", self._execution_id, error)
        self._lost = error
        self._sealed.clear()
        self._frames, self._ends, self._kinds, self._size = [], [], bytearray(), 0
        self._pending_bytes = 0
        self._room.set()
        for _, _, done in self._waiting:
            if not done.done():
                done.set_exception(error)
                done.exception()
        self._waiting.clear()
        self._on_lost(error)
