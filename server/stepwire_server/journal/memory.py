"""The journal in memory: for tests and trials. Also the reference that the other journals have to agree with."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, takewhile

from stepwire.errors import JournalUnavailable
from stepwire.v1 import ExecutionFilter, ExecutionState
from stepwire_server.journal.base import ENDED, Conflict, ExecutionRecord, Journal, Page
from stepwire_server.journal.chunk import Chunk, joined
from stepwire_server.journal.retention import Purged, Retention, Tombstone
from stepwire_server.journal.selection import matcher
from stepwire_server.journal.statistics import (
    DAY,
    HOUR,
    MOST_NAMES,
    OTHER,
    TYPICAL_DAYS,
    Kind,
    Period,
    Statistics,
    Summary,
    Tally,
    Typical,
    covering,
    edges,
    merged,
    rounded,
    tallies,
    typical_of,
)
from stepwire_server.journal.tail import TAIL_BYTES, bounded, following
from stepwire_server.journal.wide import Entry, Stand, Standing, Window

__all__ = ["MemoryJournal"]


class MemoryJournal(Journal):
    """Keeps all in memory, without a bound but the retention. "Durable" means here: until `close`.

    Whatever writes yields to the event loop once before it takes effect, so that nobody comes to rely on an order that
    a journal on a disk does not have.
    """

    kind = "memory"

    def __init__(
        self,
        *,
        tail_bytes: int = TAIL_BYTES,
        tails_bytes: int = 64 << 20,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        super().__init__(tail_bytes=tail_bytes, tails_bytes=tails_bytes, now_ns=now_ns)
        self._open = False
        self._records: dict[str, ExecutionRecord] = {}
        self._by_request_id: dict[tuple[str, str], str] = {}
        self._chunks: dict[str, list[Chunk]] = {}
        self._tombstones: dict[str, Tombstone] = {}
        self._buried: dict[tuple[str, str], Tombstone] = {}
        self._ordinal = 0
        self._position = 0
        self._purged_to = 0
        self._tallies: dict[Period, dict[str, Tally]] = {}

    async def open(self) -> None:
        self._open = True

    async def close(self) -> None:
        self._open = False
        self._stopped()

    async def create(self, record: ExecutionRecord) -> tuple[ExecutionRecord, bool]:
        await self._turn()
        return self._add(record)

    async def create_all(self, records: Sequence[ExecutionRecord]) -> Sequence[ExecutionRecord] | None:
        await self._turn()
        for record in records:
            key = (record.tenant, record.request_id)
            if record.request_id and key in self._by_request_id:
                return None
            if record.request_id and key in self._buried:
                expired = self._buried[key].expired()
                expired.metadata["request_id"] = record.request_id
                raise expired
            if record.execution_id in self._records or record.execution_id in self._tombstones:
                raise ValueError(f"execution {record.execution_id} exists")
        return [self._add(record)[0] for record in records]

    def _add(self, record: ExecutionRecord) -> tuple[ExecutionRecord, bool]:
        key = (record.tenant, record.request_id)
        if record.request_id and key in self._by_request_id:
            return self._records[self._by_request_id[key]], False
        if record.request_id and key in self._buried:
            raise self._buried[key].expired()
        if record.execution_id in self._records or record.execution_id in self._tombstones:
            raise ValueError(f"execution {record.execution_id} exists")
        self._ordinal += 1
        ended = self._end(record.state)
        record = replace(record, ordinal=self._ordinal, labels=dict(record.labels), end_time_ns=ended)
        self._records[record.execution_id] = record
        self._chunks[record.execution_id] = []
        if record.request_id:
            self._by_request_id[key] = record.execution_id
        self._met(record)
        return record, True

    async def get(self, execution_id: str) -> ExecutionRecord | None:
        self._check()
        return self._records.get(execution_id)

    async def find(self, *, tenant: str, request_id: str) -> ExecutionRecord | None:
        self._check()
        execution_id = self._by_request_id.get((tenant, request_id))
        return None if execution_id is None else self._records[execution_id]

    async def list(self, chosen: ExecutionFilter, *, tenant: str, before: int = 0, limit: int) -> Page:
        self._check()
        all_of_them = self._chosen(chosen, tenant)
        older = [record for record in reversed(all_of_them) if not before or record.ordinal < before]
        page = [replace(record, request=b"") for record in older[:limit]]
        return Page(records=page, total=len(all_of_them), more=len(older) > limit)

    async def unfinished(self) -> Sequence[ExecutionRecord]:
        self._check()
        return [record for record in self._records.values() if record.state not in ENDED]

    async def claim(self, execution_id: str, *, epoch: int) -> ExecutionRecord:
        await self._turn()
        record = self._records.get(execution_id)
        if record is None or epoch <= record.epoch:
            raise Conflict(f"claim of {execution_id} with epoch {epoch}, where the record is {_where(record)}")
        record = self._records[execution_id] = replace(record, epoch=epoch)
        self._met(record)
        return record

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
        await self._turn()
        record = self._records.get(execution_id)
        if record is None or epoch != record.epoch or chunk.first != record.last_sequence + 1:
            raise Conflict(
                f"append to {execution_id} of {chunk.first} with epoch {epoch}, where the record is {_where(record)}"
            )
        self._position += 1
        chunk = chunk.at(self._position)
        self._chunks[execution_id].append(chunk)
        ended = self._end(state)
        self._records[execution_id] = replace(
            record, last_sequence=chunk.last, state=state, snapshot=snapshot, end_time_ns=ended
        )
        if summary is not None:
            self._count(summary, record.tenant)
        self._committed(execution_id, chunk)
        return self._position

    async def statistics(self, *, tenant: str, from_ns: int | None = None, before_ns: int | None = None) -> Statistics:
        self._check()
        start, end = rounded(from_ns, before_ns)
        hours = [period.start for period in self._tallies if (period.tenant, period.width) == (tenant, HOUR)]
        found = {
            kind: merged(
                entry
                for width, begin, stop in covering(start, end)
                for entry in self._tallied(tenant, kind, width, begin, stop)
            )
            for kind in Kind
        }
        from_time, before_time = edges(start, end, min(hours, default=None), max(hours, default=None))
        return Statistics(
            from_time=from_time,
            before_time=before_time,
            operations=found[Kind.OPERATION],
            plans=found[Kind.PLAN],
        )

    async def typical(self, *, tenant: str) -> Mapping[str, Typical]:
        self._check()
        kind = Kind.OPERATION
        days = [period.start for period in self._tallies if period[:3] == (tenant, kind, DAY)]
        if not days:
            return {}
        newest = max(days)
        return typical_of(self._tallied(tenant, kind, DAY, newest - (TYPICAL_DAYS - 1) * DAY, newest + DAY))

    def _tallied(self, tenant: str, kind: Kind, width: int, begin: int, stop: int) -> Iterator[tuple[str, Tally]]:
        for period, names in self._tallies.items():
            if period[:3] == (tenant, kind, width) and begin <= period.start < stop:
                yield from names.items()

    def _count(self, summary: Summary, tenant: str) -> None:
        for (period, name), tally in tallies(summary, tenant=tenant).items():
            names = self._tallies.setdefault(period, {})
            if name not in names and len(names) >= MOST_NAMES:
                name = OTHER
            names.setdefault(name, Tally()).merge(tally)

    async def tombstone(self, execution_id: str) -> Tombstone | None:
        self._check()
        return self._tombstones.get(execution_id)

    async def purge(self, retention: Retention) -> Purged:
        await self._turn()
        now = self._now_ns()
        ended = sorted((record for record in self._records.values() if record.end_time_ns), key=_by_end)
        too_many = len(ended) - retention.keep_executions if retention.keep_executions else 0
        before = retention.ended_before_ns(now)
        gone = [
            record
            for index, record in enumerate(ended)
            if index < too_many or (before is not None and record.end_time_ns < before)
        ]
        old = [stone for stone in self._tombstones.values() if stone.purge_time_ns < retention.purged_before_ns(now)]
        for stone in old:
            del self._tombstones[stone.execution_id]
            self._buried.pop((stone.tenant, stone.request_id), None)
        events = executions = 0
        for record in gone:
            if self._records.get(record.execution_id) is record:  # Else another purge took it, or it has changed.
                self._bury(record, now)
                executions, events = executions + 1, events + record.last_sequence
            await self._turn()
        return Purged(executions=executions, events=events, tombstones=len(old))

    async def compact(self) -> int:
        await self._turn()
        before = sum(map(len, self._chunks.values()))
        for execution_id, chunks in self._chunks.items():
            if self._records[execution_id].end_time_ns:
                chunks[:] = joined(chunks)
        return before - sum(map(len, self._chunks.values()))

    async def _load(
        self, execution_id: str, *, after: int, max_events: int, max_bytes: int, whole: bool = False
    ) -> Sequence[Chunk]:
        self._check()
        if execution_id in self._tombstones:
            raise self._tombstones[execution_id].expired()
        chunks = following(self._chunks.get(execution_id, ()), after)
        return bounded(chunks, max_events=max_events, max_bytes=max_bytes, whole=whole)

    async def standing(self, chosen: ExecutionFilter, *, tenant: str) -> Standing:
        self._check()
        found = {
            record.execution_id: Stand(record.last_sequence, record.state in ENDED)
            for record in self._chosen(chosen, tenant)
            if chosen.execution_ids or record.state not in ENDED
        }
        return Standing(position=self._position, purged=self._purged_to, executions=found)

    async def load_many(
        self, chosen: ExecutionFilter, *, tenant: str, after: int, max_events: int, max_bytes: int
    ) -> Window:
        self._check()
        following = (
            takewhile(lambda entry: entry.position > after, self._newest_first(record.execution_id))
            for record in self._chosen(chosen, tenant)
        )
        entries = sorted(chain.from_iterable(following), key=lambda entry: entry.position)
        count = 0
        while count < len(entries) and max_events > 0 and max_bytes > 0:
            max_events -= len(entries[count].chunk)
            max_bytes -= len(entries[count].chunk.data)
            count += 1
        return Window(
            entries=entries[:count],
            reached=self._position if count == len(entries) else entries[count - 1].position,
            last=self._position,
            purged=self._purged_to,
        )

    def _chosen(self, chosen: ExecutionFilter, tenant: str) -> Sequence[ExecutionRecord]:
        matches = matcher(chosen)
        return [record for record in self._records.values() if record.tenant == tenant and matches(record)]

    def _newest_first(self, execution_id: str) -> Iterator[Entry]:
        return (Entry(execution_id, chunk, chunk.position) for chunk in reversed(self._chunks[execution_id]))

    def _bury(self, record: ExecutionRecord, now_ns: int) -> None:
        key = (record.tenant, record.request_id)
        stone = self._tombstones[record.execution_id] = Tombstone(
            execution_id=record.execution_id,
            tenant=record.tenant,
            request_id=record.request_id,
            state=record.state,
            last_sequence=record.last_sequence,
            purge_time_ns=now_ns,
        )
        if record.request_id:
            del self._by_request_id[key]
            self._buried[key] = stone
        if chunks := self._chunks[record.execution_id]:
            self._purged_to = max(self._purged_to, chunks[-1].position)
        del self._records[record.execution_id], self._chunks[record.execution_id]
        self._purged(record.execution_id)

    def _end(self, state: ExecutionState.ValueType) -> int:
        return max(1, self._now_ns()) if state in ENDED else 0

    async def _turn(self) -> None:
        self._check()
        await asyncio.sleep(0)
        self._check()

    def _check(self) -> None:
        if not self._open:
            raise JournalUnavailable("The journal is not open.")


def _where(record: ExecutionRecord | None) -> str:
    return "absent" if record is None else f"at {record.last_sequence} with epoch {record.epoch}"


def _by_end(record: ExecutionRecord) -> tuple[int, int]:
    return record.end_time_ns, record.ordinal
