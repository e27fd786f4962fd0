"""The journal in a file, with SQLite: one thread writes, a few read, and nothing blocks the event loop."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from shutil import disk_usage
from typing import Literal, TypeVar

from stepwire.errors import JournalDamaged, JournalUnavailable
from stepwire.v1 import ExecutionFilter, ExecutionState
from stepwire_server import failpoints
from stepwire_server.journal.aside import Aside
from stepwire_server.journal.base import ExecutionRecord, Journal, JournalRefused, Page
from stepwire_server.journal.cause import BROKEN
from stepwire_server.journal.chunk import Chunk
from stepwire_server.journal.compaction import START, CompactBite, Reached, compact_bite
from stepwire_server.journal.counting import load_statistics, load_typical
from stepwire_server.journal.crossing import load_many, standing
from stepwire_server.journal.history import history
from stepwire_server.journal.ledger import COLUMNS, Ledger, labels_of, record_of, stored_record, tombstone_of
from stepwire_server.journal.place import Lock, resolved, take_place
from stepwire_server.journal.purging import BITE_SECONDS, Cutoff, PurgeBite, cutoff, purge_bite
from stepwire_server.journal.reader import Readers, is_damage
from stepwire_server.journal.retention import Purged, Retention, Tombstone
from stepwire_server.journal.schema import UNFINISHED
from stepwire_server.journal.selection import conditions
from stepwire_server.journal.statistics import Statistics, Summary, Typical
from stepwire_server.journal.tail import TAIL_BYTES, bounded
from stepwire_server.journal.wide import Standing, Window
from stepwire_server.journal.writer import Writer

__all__ = ["SqliteJournal"]

T = TypeVar("T")

_log = logging.getLogger(__name__)

_SYNCHRONOUS = {"machine": "FULL", "process": "NORMAL"}

_BITE_BYTES = 1 << 20
"""About what a bite of purging or compacting adds to the WAL, at most."""

_LEAST_ROOM = 1 << 16
"""Bytes that SQLite needs besides, to open a journal."""

_NOT_OPEN = "The journal is not open."


class SqliteJournal(Journal):
    """Keeps all in one SQLite file, with its `-wal` and `-shm` beside it, a `.lock` and a `.mark`.

    One process has it open at a time; `open` raises JournalLocked where another has, and JournalRefused where the file
    is of something else or of a newer release, is damaged so that nothing can be read, or lacks its end.
    """

    kind = "sqlite"

    def __init__(
        self,
        path: Path,
        *,
        durability: Literal["machine", "process"] = "machine",
        on_fatal: Callable[[], None] | None = None,
        readers: int = 4,
        tail_bytes: int = TAIL_BYTES,
        tails_bytes: int = 64 << 20,
        now_ns: Callable[[], int] = time.time_ns,
        bite_seconds: float = BITE_SECONDS,
    ) -> None:
        """`durability`: whether what is durable survives a power cut ("machine"), or a killed process only ("process").

        `on_fatal` is called in the event loop when a write has failed in such a way that nobody knows what is stored.
        Everything raises JournalUnavailable from then on. The process should stop: a restart reads what there is.

        `bite_seconds`: how long an append may have to wait for a bite of purging or compacting, besides its commit.
        """
        super().__init__(tail_bytes=tail_bytes, tails_bytes=tails_bytes, now_ns=now_ns)
        self._bite_seconds = bite_seconds
        self._path = resolved(path)
        self._synchronous = _SYNCHRONOUS[durability]
        self._on_fatal = on_fatal
        self._reader_threads = readers
        self._refusal = _NOT_OPEN
        self._lock: Lock | None = None
        self._writer: Writer | None = None
        self._readers: Readers | None = None
        self._closing = asyncio.Lock()
        self._told: set[int] = set()
        """The ordinals of damaged records that the log has."""

    async def open(self) -> None:
        self._lock = take_place(self._path)
        try:
            writer = Writer(self._path, synchronous=self._synchronous, on_broken=self._break, now_ns=self._now_ns)
            try:
                await writer.open()
            except sqlite3.Error as error:
                if is_damage(error):
                    raise _damaged(self._path, error) from error
                full = ": there is no room on its disk" if disk_usage(self._path.parent).free < _LEAST_ROOM else ""
                raise JournalUnavailable(f"{self._path} can't be opened: {error}{full}") from error
            self._writer = writer
            self._readers = Readers(self._path, threads=self._reader_threads)
            self._refusal = ""
            # This connection stays until after the writer's. While it is there, the writer's does not checkpoint when
            # it is closed, which it must not after a failure.
            try:
                await self._read(lambda connection: connection.execute("SELECT 1 FROM executions").fetchone())
            except JournalDamaged as error:
                raise _damaged(self._path, error.__cause__ or error) from error
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        async with self._closing:
            broken = self._refusal == BROKEN
            if not broken:
                self._refusal = _NOT_OPEN
            self._stopped()
            if self._readers is not None and not broken:  # The last checkpoint needs a file that nobody reads.
                await self._readers.close()
            if self._writer is not None:
                await self._writer.close()
            if self._readers is not None:
                await self._readers.close()
            if self._lock is not None:
                self._lock.release()
            self._writer = self._readers = self._lock = None

    async def create(self, record: ExecutionRecord) -> tuple[ExecutionRecord, bool]:
        size = len(record.request) + len(record.snapshot)
        created: tuple[ExecutionRecord, bool] = await self._write.submit(
            lambda ledger: ledger.create(record), size=size
        )
        if created[1]:
            self._met(created[0])
        return created

    async def create_all(self, records: Sequence[ExecutionRecord]) -> Sequence[ExecutionRecord] | None:
        size = sum(len(record.request) + len(record.snapshot) for record in records)
        created: Sequence[ExecutionRecord] | None = await self._write.submit(
            lambda ledger: ledger.create_all(records), size=size
        )
        for record in created or ():
            self._met(record)
        return created

    async def get(self, execution_id: str) -> ExecutionRecord | None:
        return await self._read(partial(_one, "execution_id = ?", (execution_id,)))

    async def find(self, *, tenant: str, request_id: str) -> ExecutionRecord | None:
        # The last condition is what lets SQLite use the partial index.
        return await self._read(
            partial(_one, "tenant = ? AND request_id = ? AND request_id <> ''", (tenant, request_id))
        )

    async def list(self, chosen: ExecutionFilter, *, tenant: str, before: int = 0, limit: int) -> Page:
        page, damaged = await self._read(partial(_page, conditions(chosen, tenant), before, limit))
        for ordinal in damaged - self._told:
            _log.error("the record of execution number %d is damaged; lists go on without it", ordinal)
        self._told |= damaged
        return page

    async def unfinished(self) -> Sequence[ExecutionRecord]:
        return await self._read(_unfinished)

    async def claim(self, execution_id: str, *, epoch: int) -> ExecutionRecord:
        def claim(ledger: Ledger) -> ExecutionRecord:
            failpoints.reach("before-claim")
            record = ledger.claim(execution_id, epoch)
            failpoints.reach("after-claim")
            return record

        claimed: ExecutionRecord = await self._write.submit(claim, size=0)
        self._met(claimed)
        return claimed

    async def tombstone(self, execution_id: str) -> Tombstone | None:
        return await self._read(lambda connection: tombstone_of(connection, "execution_id = ?", execution_id))

    async def purge(self, retention: Retention) -> Purged:
        now_ns = self._now_ns()
        until = await self._read(partial(cutoff, retention=retention, now_ns=now_ns))
        executions = events = tombstones = 0
        aside = Aside()
        more = True
        while more:
            try:
                bite: PurgeBite = await self._write.submit_bite(
                    partial(self._purge, until, aside), size=_BITE_BYTES, committed=self._purged_all
                )
            except JournalDamaged:
                if not aside.lay():
                    raise
                continue
            executions += bite.purged.executions
            events += bite.purged.events
            tombstones += bite.purged.tombstones
            more = bite.more
        if aside.numbers:
            _log.error("damaged pages keep %s from being purged", aside)
        return Purged(executions=executions, events=events, tombstones=tombstones)

    async def compact(self) -> int:
        fewer = 0
        reached = START
        aside = Aside()
        more = True
        while more:
            try:
                bite: CompactBite = await self._write.submit_bite(
                    partial(self._compact, reached, aside), size=_BITE_BYTES
                )
            except JournalDamaged:
                if not aside.lay():
                    raise
                continue
            for execution_id in bite.damaged:
                _log.error("execution %s has a damaged chunk; it is not compacted", execution_id)
            fewer += bite.fewer
            reached, more = bite.reached, bite.more
        if aside.numbers:
            _log.error("damaged pages keep %s from being compacted", aside)
        return fewer

    def _purge(self, until: Cutoff, aside: Aside, ledger: Ledger) -> PurgeBite:
        failpoints.reach("before-purge")
        bite = purge_bite(ledger.connection, until, seconds=self._bite_seconds, aside=aside)
        failpoints.reach("after-purge")
        return bite

    def _compact(self, reached: Reached, aside: Aside, ledger: Ledger) -> CompactBite:
        failpoints.reach("before-compaction")
        bite = compact_bite(ledger.connection, reached, seconds=self._bite_seconds, aside=aside)
        failpoints.reach("after-compaction")
        return bite

    def _purged_all(self, bite: PurgeBite) -> None:
        for execution_id in bite.execution_ids:
            self._purged(execution_id)

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
        stored: Chunk = await self._write.submit(
            lambda ledger: ledger.append(execution_id, epoch, chunk, state, snapshot, summary),
            size=len(chunk.data) + len(snapshot),
            committed=partial(self._committed, execution_id),
        )
        return stored.position

    async def statistics(self, *, tenant: str, from_ns: int | None = None, before_ns: int | None = None) -> Statistics:
        return await self._read(
            lambda connection: load_statistics(connection, tenant=tenant, from_ns=from_ns, before_ns=before_ns)
        )

    async def typical(self, *, tenant: str) -> Mapping[str, Typical]:
        return await self._read(lambda connection: load_typical(connection, tenant=tenant))

    async def _load(
        self, execution_id: str, *, after: int, max_events: int, max_bytes: int, whole: bool = False
    ) -> Sequence[Chunk]:
        def load(connection: sqlite3.Connection) -> Sequence[Chunk]:
            with closing(history(connection, execution_id, after=after)) as chunks:
                return bounded(chunks, max_events=max_events, max_bytes=max_bytes, whole=whole)

        return await self._read(load)

    async def standing(self, chosen: ExecutionFilter, *, tenant: str) -> Standing:
        return await self._read(lambda connection: standing(connection, chosen, tenant))

    async def load_many(
        self, chosen: ExecutionFilter, *, tenant: str, after: int, max_events: int, max_bytes: int
    ) -> Window:
        return await self._read(
            lambda connection: load_many(
                connection, chosen, tenant, after=after, max_events=max_events, max_bytes=max_bytes
            )
        )

    @property
    def _write(self) -> Writer:
        if self._refusal or self._writer is None:
            raise JournalUnavailable(self._refusal)
        return self._writer

    async def _read(self, read: Callable[[sqlite3.Connection], T]) -> T:
        if self._refusal or self._readers is None:
            raise JournalUnavailable(self._refusal)
        return await self._readers.run(read)

    def _break(self) -> None:
        self._refusal = BROKEN
        self._stopped()
        if self._on_fatal is not None:
            self._on_fatal()


def _damaged(path: Path, error: BaseException) -> JournalRefused:
    return JournalRefused(
        f"{path} is damaged: {error}. Put a backup in its place; `stepwire-server journal export` saves what it can."
    )


def _one(condition: str, parameters: Sequence[str | int], connection: sqlite3.Connection) -> ExecutionRecord | None:
    return stored_record(connection, condition, *parameters)


def _unfinished(connection: sqlite3.Connection) -> Sequence[ExecutionRecord]:
    found = []
    rows = connection.execute(f"SELECT ordinal FROM executions WHERE {UNFINISHED} ORDER BY ordinal").fetchall()
    for (ordinal,) in rows:
        try:
            record = _one("ordinal = ?", (ordinal,), connection)
        except JournalDamaged:
            record = None
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            record = None
        if record is not None:
            found.append(record)
        else:
            _log.error("the record of execution number %d is damaged; it is left as it is", ordinal)
    return found


def _page(
    conditions: tuple[str, Sequence[str | int]], before: int, limit: int, connection: sqlite3.Connection
) -> tuple[Page, set[int]]:
    """Returns the page, and the ordinals of what it lacks because it is damaged."""
    where, parameters = conditions
    (total,) = connection.execute(f"SELECT count(*) FROM executions WHERE {where}", parameters).fetchone()
    older = f"SELECT {COLUMNS} FROM executions WHERE {where} AND (? = 0 OR ordinal < ?) ORDER BY ordinal DESC LIMIT ?"
    records: list[ExecutionRecord] = []
    damaged: set[int] = set()
    while lacking := limit + 1 - len(records):
        rows = connection.execute(older, (*parameters, before, before, lacking)).fetchall()
        for row in rows:
            before = row[0]
            try:
                records.append(record_of(row, labels_of(connection, before)))
            except JournalDamaged:
                damaged.add(before)
        if len(rows) < lacking:
            break
    return Page(records=records[:limit], total=total, more=len(records) > limit), damaged
