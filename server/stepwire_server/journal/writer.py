"""The one thread that writes and checkpoints the SQLite journal.

    submit -> queue -> everything that waits -> one transaction -> COMMIT -> one call into the event loop
    submit_bite -> when nothing waits, one, as a transaction of its own -> COMMIT -> the same call, and a rest

What follows from a transaction that fails is in `cause`.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

from stepwire.errors import CursorExpired, JournalDamaged, JournalUnavailable, StorageFull
from stepwire_server import failpoints
from stepwire_server.journal.base import Conflict, JournalBusy, JournalRefused
from stepwire_server.journal.cause import BROKEN, BUSY, CLOSED, DAMAGED, FULL, Cause, cause_of
from stepwire_server.journal.connection import connect
from stepwire_server.journal.ledger import Ledger, Taken
from stepwire_server.journal.mark import Mark, refuse_lacking
from stepwire_server.journal.place import sync
from stepwire_server.journal.schema import prepare

__all__ = ["Writer"]

_log = logging.getLogger(__name__)

_CHECKPOINT_BYTES = 4 << 20
"""The WAL's size, by estimate, from which on it is checkpointed without waiting for a quiet moment.

Appends wait for it. At 20,000 events/s, 4, 16 and 64 MiB gave a 99th percentile of 1.9, 3.0 and 4.7 ms, and no more
throughput flat out.
"""

_IDLE_SECONDS = 0.25
"""How long nothing must have come before the writer checkpoints."""

_REST = 3
"""How many times as long as a bite of purging or compacting took the writer then leaves to appends alone."""

_PAGE = 4096
_PAGES_A_COMMIT = 5
_PAGES_AN_ENTRY = 1
"""For the estimate: what one transaction, and one entry besides its data, adds to the WAL. Measured, not exact."""

_BUSY_SECONDS = 5.0
"""How long a transaction waits for another process, such as the sqlite3 shell, to let go of the file."""


class _Entry(NamedTuple):
    apply: Callable[[Ledger], Any]
    size: int
    committed: Callable[[Any], None] | None
    done: asyncio.Future[Any]
    bite: bool = False


class _Outcome(NamedTuple):
    entry: _Entry
    result: Any
    error: BaseException | None


class Writer:
    """The thread, and the queue before it. All methods are called in the event loop."""

    def __init__(
        self,
        path: Path,
        *,
        synchronous: str,
        on_broken: Callable[[], None],
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._path = path
        self._now_ns = now_ns
        self._synchronous = synchronous
        self._on_broken = on_broken
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[_Entry | None] = SimpleQueue()
        self._bites: deque[_Entry] = deque()
        self._rest_until = 0.0
        self._broken = False
        self._opened: asyncio.Future[None] = self._loop.create_future()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._wal_bytes = 0
        self._wal_limit = _CHECKPOINT_BYTES
        self._mark: Mark | None = None
        # A daemon, so that a process that dies of something else need not wait for a journal that nobody closes.
        self._thread = threading.Thread(target=self._run, name="stepwire-journal", daemon=True)

    async def open(self) -> None:
        """Starts the thread; returns when the file is ready. Raises what kept it from that; the thread is gone then."""
        self._thread.start()
        try:
            await asyncio.shield(self._opened)
        except BaseException:
            await self.close()
            raise

    def submit(
        self, apply: Callable[[Ledger], Any], *, size: int, committed: Callable[[Any], None] | None = None
    ) -> asyncio.Future[Any]:
        """Has `apply` done to the ledger, and returns a future that is done when it is durable or has failed.

        `apply` runs in the thread, and a second time where it was rolled back through no fault of its own; `size` is
        about how many bytes it stores. `committed` is called with its result, in the event loop and in the order of
        the queue, after the futures of all that shared the transaction are done; also where the future was cancelled.
        """
        if self._broken:
            raise JournalUnavailable(BROKEN)
        done: asyncio.Future[Any] = self._loop.create_future()
        self._queue.put(_Entry(apply, size, committed, done))
        return done

    def submit_bite(
        self, apply: Callable[[Ledger], Any], *, size: int, committed: Callable[[Any], None] | None = None
    ) -> asyncio.Future[Any]:
        """Has `apply` done as `submit` does, but alone in a transaction, when nothing else waits. It takes a few
        milliseconds at most: that is how long an append may have to wait for it. Where it raises, nothing of it stays.
        """
        if self._broken:
            raise JournalUnavailable(BROKEN)
        done: asyncio.Future[Any] = self._loop.create_future()
        self._queue.put(_Entry(apply, size, committed, done, True))
        return done

    async def close(self) -> None:
        """Returns when everything in the queue is settled, the WAL is checkpointed and the thread is gone."""
        self._queue.put(None)
        await asyncio.shield(self._ended)
        self._thread.join()

    # -- in the thread

    def _run(self) -> None:
        connection = None
        try:
            if self._synchronous == "FULL":
                refuse_lacking(self._path)
            connection = connect(self._path, timeout=_BUSY_SECONDS)
            self._set_up(connection)
            ledger = Ledger(connection, now_ns=self._now_ns)
            self._mark = self._marked(ledger)
            self._call(_finish, self._opened)
            self._serve(connection, ledger)
        except BaseException as error:
            self._call(_fail, self._opened, error)
        finally:
            if connection is not None:
                connection.close()
            if self._mark is not None:
                self._mark.close()
            self._call(_finish, self._ended)

    def _set_up(self, connection: sqlite3.Connection) -> None:
        left = self._path.with_name(self._path.name + "-wal")
        if self._synchronous == "FULL" and left.exists():
            # A process that was killed between a write and its fsync has left commits that only the system's memory
            # has. From now on they are shown.
            sync(left)
        prepare(connection, self._path)
        mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        if mode != "wal":
            raise JournalRefused(f"{self._path} can't have a write-ahead log where it lies. Put it on a local disk.")
        connection.execute(f"PRAGMA synchronous = {self._synchronous}")
        connection.execute("PRAGMA fullfsync = ON")  # Counts on macOS only, where fsync alone promises nothing.
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        # What was purged is overwritten where its page is written anyway. ON, which some builds of SQLite have by
        # default, would write each page that becomes free: as much again as was purged.
        connection.execute("PRAGMA secure_delete = FAST")
        self._wal_bytes = left.stat().st_size if left.exists() else 0

    def _marked(self, ledger: Ledger) -> Mark | None:
        """Returns where commits are noted."""
        if self._synchronous != "FULL":
            # A power cut may take commits from this journal, by its operator's choice: that is no damage.
            Mark.remove(self._path)
            return None
        mark = Mark(self._path)
        mark.note(*ledger.reached)
        return mark

    def _serve(self, connection: sqlite3.Connection, ledger: Ledger) -> None:
        batch: list[_Entry] = []
        try:
            more = True
            while more:
                batch, more = self._next()
                if batch:
                    self._process(ledger, batch)
                    batch = []
                    if self._wal_bytes > self._wal_limit:
                        self._checkpoint(connection, "PASSIVE")
                elif more and self._bites:
                    self._bite(connection, ledger)
                elif not more:
                    self._call(_settle, [_Outcome(bite, None, JournalUnavailable(CLOSED)) for bite in self._bites])
                    self._checkpoint(connection, "TRUNCATE")
                elif self._wal_bytes:
                    self._checkpoint(connection, "PASSIVE")
        except BaseException as error:
            self._break(error, batch)

    def _next(self) -> tuple[list[_Entry], bool]:
        """Returns what waits, at least one entry; none after a quiet moment; and whether more may come.

        Bites are laid aside; where there is one, the moment is over when the rest after the last one is.
        """
        batch: list[_Entry] = []
        try:
            entry = self._queue.get(timeout=self._patience())
            while entry is not None:
                (self._bites if entry.bite else batch).append(entry)
                entry = self._queue.get_nowait()
        except Empty:
            return batch, True
        if batch:
            self._queue.put(None)  # The end comes after what was before it.
            return batch, True
        return batch, False

    def _patience(self) -> float | None:
        if self._bites:
            return max(0.0, self._rest_until - time.monotonic())
        return _IDLE_SECONDS if self._wal_bytes else None

    def _bite(self, connection: sqlite3.Connection, ledger: Ledger) -> None:
        if not self._queue.empty():
            return
        start = time.monotonic()
        if start < self._rest_until:
            return
        batch = [self._bites.popleft()]
        try:
            self._process(ledger, batch)
        except BaseException:
            self._bites.appendleft(batch[0])  # To be told with all others that wait.
            raise
        if self._wal_bytes > self._wal_limit:
            self._checkpoint(connection, "PASSIVE")
        end = time.monotonic()
        self._rest_until = end + _REST * (end - start)

    def _process(self, ledger: Ledger, batch: Sequence[_Entry]) -> None:
        """Runs a batch in one transaction and settles it. Raises only what leaves the outcome unknown."""
        try:
            ledger.begin()
            outcomes = [_apply(ledger, entry) for entry in batch]
            failpoints.reach("before-commit")
            ledger.commit()
            if self._mark is not None:
                self._mark.note(*ledger.reached)
            failpoints.reach("after-commit")
        except Exception as error:
            ledger.rollback()
            if ledger.lay_statistics_aside():
                self._process(ledger, batch)
                return
            match cause_of(error):
                case Cause.FULL:
                    outcomes = [_Outcome(entry, None, StorageFull(FULL)) for entry in batch]
                case Cause.BUSY:
                    outcomes = [_Outcome(entry, None, JournalBusy(BUSY)) for entry in batch]
                case Cause.ENTRY if len(batch) == 1:
                    outcomes = [_Outcome(batch[0], None, error)]
                case Cause.DAMAGED if len(batch) == 1:
                    outcomes = [_Outcome(batch[0], None, JournalDamaged(DAMAGED))]
                case Cause.ENTRY | Cause.DAMAGED:
                    for entry in batch:
                        self._process(ledger, [entry])
                    return
                case Cause.UNKNOWN:
                    raise
        else:
            self._wal_bytes += _PAGE * (_PAGES_A_COMMIT + _PAGES_AN_ENTRY * len(batch))
            self._wal_bytes += sum(entry.size for entry in batch)
        self._call(_settle, outcomes)

    def _checkpoint(self, connection: sqlite3.Connection, mode: str) -> None:
        """Moves what is in the WAL to its place, as far as no reader needs it where it is."""
        failpoints.reach("before-checkpoint")
        try:
            _, in_wal, done = connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
        except sqlite3.DatabaseError as error:
            if cause_of(error) not in (Cause.FULL, Cause.BUSY, Cause.DAMAGED):
                raise
            # What was committed stays in the WAL, which grows until the cause is gone.
            _log.warning("the journal's WAL can't be checkpointed now: %s", error)
            self._wal_limit += _CHECKPOINT_BYTES
            self._wal_bytes = 0
            return
        left = (in_wal - done) * _PAGE
        self._wal_bytes = left if left > 0 else 0
        self._wal_limit = self._wal_bytes + _CHECKPOINT_BYTES
        failpoints.reach("after-checkpoint")

    def _break(self, error: BaseException, batch: Sequence[_Entry]) -> None:
        _log.critical("the journal stops: nobody knows what of the last commit is stored", exc_info=error)
        self._call(self._stop_for_good, batch)

    # -- in the event loop

    def _stop_for_good(self, batch: Sequence[_Entry]) -> None:
        self._broken = True
        waiting = [*batch, *self._bites]
        self._bites.clear()
        while True:
            try:
                entry = self._queue.get_nowait()
            except Empty:
                break
            if entry is not None:
                waiting.append(entry)
        _settle([_Outcome(entry, None, JournalUnavailable(BROKEN)) for entry in waiting])
        self._on_broken()

    def _call(self, function: Callable[..., None], *arguments: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:
            _log.error("the event loop ended before its journal was closed")


def _apply(ledger: Ledger, entry: _Entry) -> _Outcome:
    try:
        failpoints.reach("before-insert")
        result = entry.apply(ledger)
        failpoints.reach("after-insert")
        return _Outcome(entry, result, None)
    except (Conflict, CursorExpired, JournalDamaged, Taken) as error:  # Raised before anything was written.
        if entry.bite:
            raise
        return _Outcome(entry, None, error)


def _settle(outcomes: Sequence[_Outcome]) -> None:
    for entry, result, error in outcomes:
        if entry.done.done():
            continue  # Whoever waited was cancelled.
        if error is None:
            entry.done.set_result(result)
        else:
            entry.done.set_exception(error)
    for entry, result, error in outcomes:
        if error is None and entry.committed is not None:
            failpoints.reach("before-wake")
            entry.committed(result)
            failpoints.reach("after-wake")


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _fail(future: asyncio.Future[None], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
