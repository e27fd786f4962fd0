"""What the writer thread does to the SQLite journal inside one transaction: create, claim, append.

Each entry checks before it writes, so that one that does not fit leaves no trace beside the others. Appends are only
noted at first, and written together at the end: as many rows in as few statements as possible, since each statement
lets go of the interpreter's lock and has to get it back.
"""

from __future__ import annotations

import sqlite3
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from struct import error as StructError

from stepwire.errors import CursorExpired, JournalDamaged
from stepwire.v1 import ExecutionState
from stepwire_server.journal.base import ENDED, Conflict, ExecutionRecord
from stepwire_server.journal.chunk import Chunk
from stepwire_server.journal.counting import Counting
from stepwire_server.journal.retention import Tombstone
from stepwire_server.journal.schema import ChunkRow, encode_row, fixed_checksum, record_checksum, request_checksum
from stepwire_server.journal.statistics import Summary

__all__ = ["COLUMNS", "Ledger", "Taken", "labels_of", "record_of", "stored_record", "tombstone_of"]

COLUMNS = (
    "ordinal, execution_id, tenant, request_id, session_id, create_time_ns, epoch, state, last_sequence, snapshot, "
    "end_time_ns, checksum"
)
"""A record's columns in the table executions."""

_WITH_REQUEST = f"SELECT {COLUMNS}, request, request_checksum FROM executions JOIN requests ON execution = ordinal"

_MOST_HEADS = 10_000

_INSERT = "INSERT INTO chunks VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_UPDATE = "UPDATE executions SET last_sequence = ?, snapshot = ?, checksum = ? WHERE ordinal = ?"
_UPDATE_STATE = "UPDATE executions SET last_sequence = ?, snapshot = ?, checksum = ?, state = ? WHERE ordinal = ?"
_UPDATE_END = """
UPDATE executions SET last_sequence = ?, snapshot = ?, checksum = ?, state = ?, end_time_ns = ?, scattered = ?
WHERE ordinal = ?
"""
_TAKEN = """
SELECT 1 FROM executions WHERE execution_id = :id UNION ALL SELECT 1 FROM tombstones WHERE execution_id = :id
"""
_TOMBSTONE = "SELECT execution_id, tenant, request_id, state, last_sequence, purge_time_ns FROM tombstones WHERE "


class Taken(ValueError):
    """Another record has, or had, the execution id."""


@dataclass(slots=True)
class _Head:
    """What an append is checked against, and what the row will say."""

    ordinal: int
    tenant: str
    fixed: int
    """The checksum of what never changes."""
    epoch: int
    state: ExecutionState.ValueType
    last_sequence: int
    snapshot: bytes | None = None
    """What is to be written. None: nothing."""
    state_changed: bool = False
    end_changed: bool = False
    """Whether it has ended, or goes on after an end."""
    one_chunk: bool = False
    """Whether what it has is in one chunk."""


class Ledger:
    """The tables, as the one connection that writes sees them. Lives in the writer thread.

    Keeps in memory where each live execution stands, which nobody else changes: an append needs no query.
    """

    def __init__(self, connection: sqlite3.Connection, *, now_ns: Callable[[], int]) -> None:
        self._connection = connection
        self._now_ns = now_ns
        self._heads: OrderedDict[str, _Head] = OrderedDict()
        self._changed: dict[str, _Head] = {}
        self._rows: list[ChunkRow] = []
        self._counting = Counting(connection)
        found = dict(connection.execute("SELECT name, seq FROM sqlite_sequence").fetchall())
        self._position: int = found.get("chunks", 0)
        self._next = self._position + 1
        self._ordinal: int = found.get("executions", 0)
        self._created = self._ordinal

    @property
    def connection(self) -> sqlite3.Connection:
        """The connection, for what is done in a transaction of its own: purging and compacting."""
        return self._connection

    @property
    def reached(self) -> tuple[int, int]:
        """The last position and the last ordinal that were committed."""
        return self._position, self._ordinal

    # -- one transaction

    def begin(self) -> None:
        """Begins a transaction."""
        self._connection.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """Writes what was noted, and makes the transaction durable."""
        self.flush()
        self._counting.write()
        self._connection.execute("COMMIT")
        self._position = self._next - 1
        self._ordinal = self._created
        for execution_id, head in self._changed.items():
            if head.state in ENDED:
                self._heads.pop(execution_id, None)
            else:
                self._heads[execution_id] = head
                self._heads.move_to_end(execution_id)
        while len(self._heads) > _MOST_HEADS:
            self._heads.popitem(last=False)
        self._changed = {}

    def rollback(self) -> None:
        """Undoes the transaction, if it is not undone already."""
        self._changed = {}
        self._rows = []
        self._counting.forget()
        self._next = self._position + 1
        self._created = self._ordinal
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def lay_statistics_aside(self) -> bool:
        """Returns whether the transaction that was just undone failed of the statistics alone. Then the next one that
        has ends of executions does not count them.
        """
        return self._counting.lay_aside()

    # -- its entries

    def create(self, record: ExecutionRecord) -> tuple[ExecutionRecord, bool]:
        """Does what `Journal.create` promises."""
        found = self._known(record)
        return (found, False) if found is not None else (self._insert(record), True)

    def create_all(self, records: Sequence[ExecutionRecord]) -> Sequence[ExecutionRecord] | None:
        """Does what `Journal.create_all` promises. Looks at all of them before it writes."""
        for record in records:
            try:
                if self._known(record) is not None:
                    return None
            except CursorExpired as error:
                error.metadata["request_id"] = record.request_id
                raise
        return [self._insert(record) for record in records]

    def _known(self, record: ExecutionRecord) -> ExecutionRecord | None:
        """Returns the record that has the request id. Raises CursorExpired, Taken."""
        if record.request_id:
            found = self._record("tenant = ? AND request_id = ? AND request_id <> ''", record.tenant, record.request_id)
            if found is not None:
                return found
            stone = tombstone_of(
                self._connection,
                "tenant = ? AND request_id = ? AND request_id <> ''",
                record.tenant,
                record.request_id,
            )
            if stone is not None:
                raise stone.expired()
        if self._connection.execute(_TAKEN, {"id": record.execution_id}).fetchone():
            raise Taken(f"execution {record.execution_id} exists")
        return None

    def _insert(self, record: ExecutionRecord) -> ExecutionRecord:
        end_time_ns = max(1, self._now_ns()) if record.state in ENDED else 0
        ordinal = self._created + 1
        fixed = _fixed(record)
        record = replace(record, ordinal=ordinal, labels=dict(record.labels), end_time_ns=end_time_ns)
        self._connection.execute(
            "INSERT INTO executions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?)",
            (
                ordinal,
                record.execution_id,
                record.tenant,
                record.request_id,
                record.session_id,
                record.create_time_ns,
                record.epoch,
                record.state,
                record.last_sequence,
                record.snapshot,
                end_time_ns,
                _checksum(record, fixed),
            ),
        )
        self._created = ordinal
        self._connection.execute(
            "INSERT INTO requests VALUES (?, ?, ?)",
            (ordinal, record.request, request_checksum(ordinal, record.request)),
        )
        if record.labels:
            self._connection.executemany(
                "INSERT INTO labels VALUES (?, ?, ?)", [(name, value, ordinal) for name, value in record.labels.items()]
            )
        self._changed[record.execution_id] = _Head(
            ordinal, record.tenant, fixed, record.epoch, record.state, record.last_sequence
        )
        return record

    def claim(self, execution_id: str, epoch: int) -> ExecutionRecord:
        """Does what `Journal.claim` promises."""
        head = self._head(execution_id)
        if head is None or epoch <= head.epoch:
            raise Conflict(f"claim of {execution_id} with epoch {epoch}, where the record is {_where(head)}")
        self.flush()
        record = self._record("ordinal = ?", head.ordinal)
        assert record is not None
        record = replace(record, epoch=epoch)
        self._connection.execute(
            "UPDATE executions SET epoch = ?, checksum = ? WHERE ordinal = ?",
            (epoch, _checksum(record, head.fixed), head.ordinal),
        )
        head.epoch = epoch
        return record

    def append(
        self,
        execution_id: str,
        epoch: int,
        chunk: Chunk,
        state: ExecutionState.ValueType,
        snapshot: bytes,
        summary: Summary | None = None,
    ) -> Chunk:
        """Does what `Journal.append` promises, and returns the chunk with its position."""
        head = self._head(execution_id)
        if head is None or epoch != head.epoch or chunk.first != head.last_sequence + 1:
            raise Conflict(
                f"append to {execution_id} of {chunk.first} with epoch {epoch}, where the record is {_where(head)}"
            )
        chunk = chunk.at(self._next)
        self._rows.append(encode_row(chunk, head.ordinal))
        self._next += 1
        head.last_sequence = chunk.last
        head.snapshot = snapshot
        if state != head.state or state in ENDED:
            head.end_changed = head.end_changed or state in ENDED or head.state in ENDED
            head.one_chunk = chunk.first == 1
            head.state = state
            head.state_changed = True
        if summary is not None:
            self._counting.note(summary, tenant=head.tenant)
        return chunk

    def count(self, summary: Summary, *, tenant: str) -> None:
        """Adds an execution that has ended to the statistics, where that is not done as its last chunk comes."""
        self._counting.note(summary, tenant=tenant)

    def flush(self) -> None:
        """Writes what was noted, as `commit` does: a row for each append, and each execution's last change."""
        if not self._rows:
            return
        self._connection.executemany(_INSERT, self._rows)
        self._rows = []
        plain: list[tuple[int, bytes, int, int]] = []
        states: list[tuple[int, bytes, int, int, int]] = []
        ends: list[tuple[int, bytes, int, int, int, int, int]] = []
        for head in self._changed.values():
            if head.snapshot is None:
                continue
            ended = head.end_changed and head.state in ENDED
            end_time_ns, scattered = (max(1, self._now_ns()), int(not head.one_chunk)) if ended else (0, 0)
            check = record_checksum(
                head.fixed,
                ordinal=head.ordinal,
                epoch=head.epoch,
                state=head.state,
                last_sequence=head.last_sequence,
                end_time_ns=end_time_ns,
                snapshot=head.snapshot,
            )
            changed = (head.last_sequence, head.snapshot, check)
            if head.end_changed:
                ends.append((*changed, head.state, end_time_ns, scattered, head.ordinal))
            elif head.state_changed:  # Apart, because naming `state` writes the partial index, whatever its value.
                states.append((*changed, head.state, head.ordinal))
            else:
                plain.append((*changed, head.ordinal))
            head.snapshot = None
            head.state_changed = head.end_changed = False
        if plain:
            self._connection.executemany(_UPDATE, plain)
        if states:
            self._connection.executemany(_UPDATE_STATE, states)
        if ends:
            self._connection.executemany(_UPDATE_END, ends)

    # -- underneath

    def _head(self, execution_id: str) -> _Head | None:
        """Returns where the execution stands, for this transaction to change."""
        head = self._changed.get(execution_id)
        if head is not None:
            return head
        known = self._heads.get(execution_id)
        if known is not None:
            head = _Head(known.ordinal, known.tenant, known.fixed, known.epoch, known.state, known.last_sequence)
        else:
            head = self._stored_head(execution_id)
        if head is not None:
            self._changed[execution_id] = head
        return head

    def _stored_head(self, execution_id: str) -> _Head | None:
        record = self._record("execution_id = ?", execution_id)
        if record is None:
            return None
        head = _Head(record.ordinal, record.tenant, _fixed(record), record.epoch, record.state, record.last_sequence)
        last = self._connection.execute(
            "SELECT last FROM chunks WHERE execution = ? ORDER BY first DESC LIMIT 1", (head.ordinal,)
        ).fetchone()
        if last is not None and last[0] != head.last_sequence:
            raise JournalDamaged(
                f"Execution {execution_id} ends at sequence {head.last_sequence}, its last chunk at {last[0]}.",
                metadata={"execution_id": execution_id, "sequence": str(head.last_sequence)},
            )
        return head

    def _record(self, condition: str, *parameters: str | int) -> ExecutionRecord | None:
        return stored_record(self._connection, condition, *parameters)


def stored_record(connection: sqlite3.Connection, condition: str, *parameters: str | int) -> ExecutionRecord | None:
    """Returns the record that the condition chooses, with its request. Raises JournalDamaged where it is not what was
    written.
    """
    row = connection.execute(f"{_WITH_REQUEST} WHERE {condition}", parameters).fetchone()
    if row is None:
        return None
    *rest, request, check = row
    record = replace(record_of(tuple(rest), labels_of(connection, row[0])), request=request)
    if not isinstance(request, bytes) or check != request_checksum(record.ordinal, request):
        raise _damaged(record.execution_id)
    return record


def labels_of(connection: sqlite3.Connection, ordinal: int) -> Mapping[str, str]:
    """Returns an execution's labels."""
    return dict(connection.execute("SELECT name, value FROM labels WHERE execution = ?", (ordinal,)).fetchall())


def record_of(
    row: tuple[int, str, str, str, str, int, int, ExecutionState.ValueType, int, bytes, int, int],
    labels: Mapping[str, str],
) -> ExecutionRecord:
    """Returns a row of COLUMNS as a record, without its request. Raises JournalDamaged as `stored_record` does."""
    ordinal, execution_id, tenant, request_id, session_id, create_time_ns, epoch, state, last_sequence = row[:9]
    record = ExecutionRecord(
        execution_id=execution_id,
        request=b"",
        create_time_ns=create_time_ns,
        tenant=tenant,
        request_id=request_id,
        session_id=session_id,
        labels=labels,
        epoch=epoch,
        state=state,
        last_sequence=last_sequence,
        snapshot=row[9],
        ordinal=ordinal,
        end_time_ns=row[10],
    )
    try:
        sound = row[11] == _checksum(record, _fixed(record))
    except (TypeError, ValueError, StructError):  # A column of another type.
        sound = False
    if not sound:
        raise _damaged(execution_id)
    return record


def _fixed(record: ExecutionRecord) -> int:
    return fixed_checksum(
        execution_id=record.execution_id,
        tenant=record.tenant,
        request_id=record.request_id,
        session_id=record.session_id,
        create_time_ns=record.create_time_ns,
        labels=record.labels,
    )


def _checksum(record: ExecutionRecord, fixed: int) -> int:
    return record_checksum(
        fixed,
        ordinal=record.ordinal,
        epoch=record.epoch,
        state=record.state,
        last_sequence=record.last_sequence,
        end_time_ns=record.end_time_ns,
        snapshot=record.snapshot,
    )


def _damaged(execution_id: str) -> JournalDamaged:
    return JournalDamaged(
        f"The journal is damaged: the record of execution {execution_id} is not what was written.",
        metadata={"execution_id": str(execution_id)},
    )


def tombstone_of(connection: sqlite3.Connection, condition: str, *parameters: str) -> Tombstone | None:
    """Returns the tombstone that the condition chooses."""
    row = connection.execute(_TOMBSTONE + condition, parameters).fetchone()
    if row is None:
        return None
    execution_id, tenant, request_id, state, last_sequence, purge_time_ns = row
    return Tombstone(
        execution_id=execution_id,
        tenant=tenant,
        request_id=request_id,
        state=state,
        last_sequence=last_sequence,
        purge_time_ns=purge_time_ns,
    )


def _where(head: _Head | None) -> str:
    return "absent" if head is None else f"at {head.last_sequence} with epoch {head.epoch}"
