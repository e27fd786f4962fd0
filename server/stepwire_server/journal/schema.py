"""The SQLite journal's tables, their version, and how a chunk stands in a row.

    executions   one row an execution, changed by each append: small, so that a change writes one page
    requests     what never changes and may be large, apart from it
    labels       one row a label, to select by
    chunks       one row an append; of an ended execution, after compaction, one row for many
    tombstones   what is left of executions that were purged
    remains      whose chunks are still to be removed: the record goes at once, a long history in bites
    purged       the highest position of what was purged, in one row
    statistics   what the ends of executions told, by hour, day and month: a row an operation, a row a plan

The design would have tenant, execution id and first sequence in the chunks' index. Chunks refer to their execution by
its ordinal instead: an integer of a few bytes where the names take up to 130, in each row and again in its index entry.
"""

from __future__ import annotations

import json
import sqlite3
import sys
from array import array
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from struct import Struct
from zlib import crc32

from google.protobuf.message import DecodeError

from stepwire.v1 import Execution
from stepwire_server.journal.base import ENDED, JournalRefused
from stepwire_server.journal.chunk import Chunk

__all__ = [
    "APPLICATION_ID",
    "MIGRATIONS",
    "UNFINISHED",
    "VERSION",
    "ChunkRow",
    "checksum",
    "decode_ends",
    "decode_row",
    "encode_ends",
    "encode_row",
    "fixed_checksum",
    "prepare",
    "record_checksum",
    "refuse_foreign",
    "request_checksum",
]

ChunkRow = tuple[int, int, int, int, bytes, bytes, int, bytes]
"""A row of the table chunks: position, execution, first, last, ends, kinds, checksum, data."""

APPLICATION_ID = int.from_bytes(b"Step", "big")
"""Marks the file as ours: what `file` and `PRAGMA application_id` show."""

_VERSION_2 = f"""
ALTER TABLE executions ADD COLUMN end_time_ns INTEGER NOT NULL DEFAULT 0;
ALTER TABLE executions ADD COLUMN scattered INTEGER NOT NULL DEFAULT 0;
UPDATE executions SET end_time_ns = end_time_of(snapshot, create_time_ns), scattered = 1
    WHERE state IN ({", ".join(str(state) for state in sorted(ENDED))});
CREATE INDEX executions_ended ON executions (end_time_ns) WHERE end_time_ns > 0;
CREATE INDEX executions_scattered ON executions (ordinal) WHERE scattered = 1;
CREATE TABLE tombstones (
    execution_id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL,
    request_id TEXT NOT NULL,
    state INTEGER NOT NULL,
    last_sequence INTEGER NOT NULL,
    purge_time_ns INTEGER NOT NULL
) WITHOUT ROWID;
CREATE UNIQUE INDEX tombstones_by_request_id ON tombstones (tenant, request_id) WHERE request_id <> '';
CREATE INDEX tombstones_by_time ON tombstones (purge_time_ns);
CREATE TABLE remains (
    execution INTEGER PRIMARY KEY
);
"""
"""Retention and compaction: when an execution ended, whether its chunks are worth joining, what is left of it."""

_VERSION_3 = """
ALTER TABLE executions ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE requests ADD COLUMN request_checksum INTEGER NOT NULL DEFAULT 0;
UPDATE executions SET checksum = record_checksum(ordinal, epoch, state, last_sequence, end_time_ns, snapshot,
    execution_id, tenant, request_id, session_id, create_time_ns,
    (SELECT json_group_object(name, value) FROM labels WHERE execution = ordinal));
UPDATE requests SET request_checksum = request_checksum_of(execution, request);
"""
"""Checksums of records and requests, as chunks have theirs."""

_VERSION_4 = """
CREATE TABLE purged (
    single INTEGER PRIMARY KEY CHECK (single = 1),
    position INTEGER NOT NULL
);
"""
"""For those who follow many executions by position: whether something behind theirs is gone."""

_VERSION_5 = """
CREATE TABLE statistics (
    tenant TEXT NOT NULL,
    kind INTEGER NOT NULL,
    width INTEGER NOT NULL,
    start INTEGER NOT NULL,
    name TEXT NOT NULL,
    tally BLOB NOT NULL,
    checksum INTEGER NOT NULL,
    PRIMARY KEY (tenant, kind, width, start, name)
) WITHOUT ROWID;
"""
"""Statistics of what ends from now on. What had ended before is not counted: that would mean to read every event."""

MIGRATIONS: Sequence[str] = (_VERSION_2, _VERSION_3, _VERSION_4, _VERSION_5)
"""Scripts that lead from version 1 to 2, from 2 to 3, and so on. All that apply run in one transaction, at open.

A semicolon ends a statement and stands nowhere else: not in a text, not in a trigger. A new file takes the same way
from version 1 on, so that there is one description of each version.
"""

VERSION = 1 + len(MIGRATIONS)
"""The version that this release writes, in `PRAGMA user_version`."""

UNFINISHED = f"state NOT IN ({', '.join(str(state) for state in sorted(ENDED))})"
"""The partial index' condition. A query has to repeat it word for word."""

_VERSION_1 = f"""
CREATE TABLE executions (
    ordinal INTEGER PRIMARY KEY AUTOINCREMENT,
    execution_id TEXT NOT NULL UNIQUE,
    tenant TEXT NOT NULL,
    request_id TEXT NOT NULL,
    session_id TEXT NOT NULL,
    create_time_ns INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    state INTEGER NOT NULL,
    last_sequence INTEGER NOT NULL,
    snapshot BLOB NOT NULL
);
CREATE UNIQUE INDEX executions_by_request_id ON executions (tenant, request_id) WHERE request_id <> '';
CREATE INDEX executions_by_session ON executions (tenant, session_id) WHERE session_id <> '';
CREATE INDEX executions_by_create_time ON executions (tenant, create_time_ns);
CREATE INDEX executions_unfinished ON executions (ordinal) WHERE {UNFINISHED};
CREATE TABLE requests (
    execution INTEGER PRIMARY KEY,
    request BLOB NOT NULL
);
CREATE TABLE labels (
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    execution INTEGER NOT NULL,
    PRIMARY KEY (name, value, execution)
) WITHOUT ROWID;
CREATE INDEX labels_by_execution ON labels (execution);
CREATE TABLE chunks (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    execution INTEGER NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    ends BLOB NOT NULL,
    kinds BLOB NOT NULL,
    checksum INTEGER NOT NULL,
    data BLOB NOT NULL
);
CREATE UNIQUE INDEX chunks_by_first ON chunks (execution, first);
PRAGMA application_id = {APPLICATION_ID};
"""

_PLACE = Struct("<qqqq")
_RECORD = Struct("<qqqqq")


def prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Makes the tables in an empty file, or leads older ones to this version, and sees that all are there. Raises
    JournalRefused otherwise.

    The events are not looked at: `PRAGMA quick_check` reads the whole file, about a second a gigabyte from memory and
    many from a disk, and says nothing of what stands in a page. Each chunk has its checksum, which every read
    verifies; `stepwire-server journal check` verifies all.
    """
    version = 0 if _empty(connection, path) else refuse_foreign(connection, path)
    if version < VERSION:
        _lead(connection, version)
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as model:
        _lead(model, 0)
        missing = _definitions(model) - _definitions(connection)
    if missing:
        names = ", ".join(sorted(name for name, _ in missing))
        raise JournalRefused(
            f"{path} is damaged: {names} is missing or is not as Stepwire made it. Put a backup in its place."
        )


def refuse_foreign(connection: sqlite3.Connection, path: Path) -> int:
    """Returns the version of a journal. Raises JournalRefused for what is none, and for one of a newer release."""
    if _empty(connection, path) or connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise JournalRefused(f"{path} is a database, but not a Stepwire journal. Name another file.")
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > VERSION:
        raise JournalRefused(
            f"{path} was written by a newer Stepwire: its version is {version}, this release knows up to {VERSION}. "
            "Start the newer release."
        )
    return version


def _empty(connection: sqlite3.Connection, path: Path) -> bool:
    try:
        return not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_NOTADB:
            raise
        if path.with_name(path.name + ".mark").exists():
            text = f"{path} is damaged: a journal it was, by {path.name}.mark, but no more. Put a backup in its place."
            raise JournalRefused(text) from None
        raise JournalRefused(f"{path} is not a Stepwire journal, nor any SQLite database. Name another file.") from None


def _lead(connection: sqlite3.Connection, version: int) -> None:
    """Leads a file of this version (0: an empty one) to the present one."""
    connection.create_function("end_time_of", 2, _end_time_of, deterministic=True)
    connection.create_function("record_checksum", 12, _record_checksum, deterministic=True)
    connection.create_function("request_checksum_of", 2, request_checksum, deterministic=True)
    _run(connection, "".join((_VERSION_1, *MIGRATIONS)[version:]) + f"PRAGMA user_version = {VERSION};")


def _end_time_of(snapshot: bytes, create_time_ns: int) -> int:
    """Returns when an execution ended, as its snapshot says; version 1 did not say so in its records."""
    try:
        found = Execution.FromString(snapshot).end_time.ToNanoseconds()
    except (DecodeError, TypeError):
        found = 0
    return max(1, found, create_time_ns)


def fixed_checksum(
    *,
    execution_id: str,
    tenant: str,
    request_id: str,
    session_id: str,
    create_time_ns: int,
    labels: Mapping[str, str],
) -> int:
    """Returns the CRC-32 over what never changes of a record."""
    fixed = [execution_id, tenant, request_id, session_id, create_time_ns, sorted(labels.items())]
    return crc32(json.dumps(fixed).encode())


def record_checksum(
    fixed: int, *, ordinal: int, epoch: int, state: int, last_sequence: int, end_time_ns: int, snapshot: bytes
) -> int:
    """Returns the CRC-32 over a record: `fixed`, which is that of its other part, and what changes."""
    return crc32(snapshot, crc32(_RECORD.pack(ordinal, epoch, state, last_sequence, end_time_ns), fixed))


def request_checksum(execution: int, request: bytes) -> int:
    """Returns the CRC-32 over an execution's request, and whose it is."""
    return crc32(request, execution)


def _record_checksum(
    ordinal: int,
    epoch: int,
    state: int,
    last_sequence: int,
    end_time_ns: int,
    snapshot: bytes,
    execution_id: str,
    tenant: str,
    request_id: str,
    session_id: str,
    create_time_ns: int,
    labels: str,
) -> int:
    fixed = fixed_checksum(
        execution_id=execution_id,
        tenant=tenant,
        request_id=request_id,
        session_id=session_id,
        create_time_ns=create_time_ns,
        labels=json.loads(labels),
    )
    return record_checksum(
        fixed,
        ordinal=ordinal,
        epoch=epoch,
        state=state,
        last_sequence=last_sequence,
        end_time_ns=end_time_ns,
        snapshot=snapshot,
    )


def _definitions(connection: sqlite3.Connection) -> set[tuple[str, str]]:
    found = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    return {(name, " ".join(sql.split())) for name, sql in found}


def encode_ends(ends: Sequence[int], size: int) -> bytes:
    """Returns where the frames end, as little-endian numbers of 2 bytes where `size`, the data's, allows, else 4."""
    numbers = array(_code(size), ends)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tobytes()


def decode_ends(stored: bytes, size: int) -> array[int]:
    """Returns what was encoded. Raises ValueError where it can't be."""
    numbers = array(_code(size))
    numbers.frombytes(stored)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def checksum(*, position: int, execution: int, first: int, last: int, ends: bytes, kinds: bytes, data: bytes) -> int:
    """Returns the CRC-32 over the data and everything else in the row, which gives it its meaning."""
    return crc32(data, crc32(kinds, crc32(ends, crc32(_PLACE.pack(position, execution, first, last)))))


def encode_row(chunk: Chunk, execution: int) -> ChunkRow:
    """Returns a chunk that has its position as a row of the table chunks."""
    ends = encode_ends(chunk.ends, len(chunk.data))
    first, last, kinds, data = chunk.first, chunk.last, chunk.kinds, chunk.data
    check = checksum(
        position=chunk.position, execution=execution, first=first, last=last, ends=ends, kinds=kinds, data=data
    )
    return (chunk.position, execution, first, last, ends, kinds, check, data)


def decode_row(row: ChunkRow) -> Chunk | None:
    """Returns a row as a chunk; None where it is not what was written."""
    position, execution, first, last, ends, kinds, check, data = row
    try:
        found = checksum(
            position=position, execution=execution, first=first, last=last, ends=ends, kinds=kinds, data=data
        )
        if found != check:
            return None
        return Chunk(first=first, data=data, ends=decode_ends(ends, len(data)), kinds=kinds, position=position)
    except (TypeError, ValueError, OverflowError):  # A column of another type, or numbers that do not fit together.
        return None


def _code(size: int) -> str:
    return "H" if size <= 0xFFFF else "I"


def _run(connection: sqlite3.Connection, script: str) -> None:
    """Runs a script in one transaction. Connection.executescript would commit before it, and not roll back."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statement in script.split(";"):
            if statement.strip():
                connection.execute(statement)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
