"""The journal in memory: for tests and trials. Also the reference that the other journals have to agree with."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

from stepwire.errors import JournalUnavailable
from stepwire.v1 import ExecutionFilter, ExecutionState
from stepwire_server.journal.base import ENDED, Conflict, ExecutionRecord, Journal, Page, bounded
from stepwire_server.journal.chunk import Chunk

__all__ = ["MemoryJournal"]


class MemoryJournal(Journal):
    """Keeps all in memory, without a bound. "Durable" means here: until `close`.

    Whatever writes yields to the event loop once before it takes effect, so that nobody comes to rely on an order that
    a journal on a disk does not have.
    """

    kind = "memory"

    def __init__(self, *, tail_bytes: int = 1 << 20, tails_bytes: int = 64 << 20) -> None:
        super().__init__(tail_bytes=tail_bytes, tails_bytes=tails_bytes)
        self._open = False
        self._records: dict[str, ExecutionRecord] = {}
        self._by_request_id: dict[tuple[str, str], str] = {}
        self._chunks: dict[str, list[Chunk]] = {}
        self._ordinal = 0
        self._position = 0

    async def open(self) -> None:
        self._open = True

    async def close(self) -> None:
        self._open = False
        self._stopped()

    async def create(self, record: ExecutionRecord) -> tuple[ExecutionRecord, bool]:
        await self._turn()
        key = (record.tenant, record.request_id)
        if record.request_id and key in self._by_request_id:
            return self._records[self._by_request_id[key]], False
        if record.execution_id in self._records:
            raise ValueError(f"execution {record.execution_id} exists")
        self._ordinal += 1
        record = replace(record, ordinal=self._ordinal, labels=dict(record.labels))
        self._records[record.execution_id] = record
        self._chunks[record.execution_id] = []
        if record.request_id:
            self._by_request_id[key] = record.execution_id
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
        matches = _matcher(chosen)
        all_of_them = [record for record in self._records.values() if record.tenant == tenant and matches(record)]
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
        return record

    async def append(
        self, execution_id: str, *, epoch: int, chunk: Chunk, state: ExecutionState.ValueType, snapshot: bytes
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
        self._records[execution_id] = replace(record, last_sequence=chunk.last, state=state, snapshot=snapshot)
        self._committed(execution_id, chunk)
        return self._position

    async def _load(self, execution_id: str, *, after: int, max_events: int, max_bytes: int) -> Sequence[Chunk]:
        self._check()
        chunks = [chunk.after(after) for chunk in self._chunks.get(execution_id, ()) if chunk.last > after]
        return bounded(chunks, max_events=max_events, max_bytes=max_bytes)

    async def _turn(self) -> None:
        self._check()
        await asyncio.sleep(0)
        self._check()

    def _check(self) -> None:
        if not self._open:
            raise JournalUnavailable("The journal is not open.")


def _where(record: ExecutionRecord | None) -> str:
    return "absent" if record is None else f"at {record.last_sequence} with epoch {record.epoch}"


def _matcher(chosen: ExecutionFilter) -> Callable[[ExecutionRecord], bool]:
    created_from = chosen.created_from.ToNanoseconds() if chosen.HasField("created_from") else None
    created_before = chosen.created_before.ToNanoseconds() if chosen.HasField("created_before") else None

    def matches(record: ExecutionRecord) -> bool:
        return (
            (not chosen.execution_ids or record.execution_id in chosen.execution_ids)
            and (not chosen.session_id or record.session_id == chosen.session_id)
            and all(record.labels.get(name) == value for name, value in chosen.labels.items())
            and (not chosen.states or record.state in chosen.states)
            and (created_from is None or record.create_time_ns >= created_from)
            and (created_before is None or record.create_time_ns < created_before)
        )

    return matches
