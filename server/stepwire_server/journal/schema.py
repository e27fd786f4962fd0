"""The SQLite journal's tables, their version, and how a chunk stands in a row.

    executions   one row an execution, changed by each append: small, so that a change writes one page
    requests     what never changes and may be large, apart from it
    labels       one row a label, to select by
    chunks       one row an append

The design would have tenant, execution id and first sequence in the chunks' index. Chunks refer to their execution by
its ordinal instead: an integer of a few bytes where the names take up to 130, in each row and again in its index entry.
"""

from __future__ import annotations

import sqlite3
import sys
from array import array
from collections.abc import Sequence
from pathlib import Path
from struct import Struct
from zlib import crc32

from stepwire_server.journal.base import ENDED, JournalRefused

__all__ = ["APPLICATION_ID", "MIGRATIONS", "UNFINISHED", "VERSION", "checksum", "decode_ends", "encode_ends", "prepare"]

APPLICATION_ID = int.from_bytes(b"Step", "big")
"""Marks the file as ours: what `file` and `PRAGMA application_id` show."""

MIGRATIONS: Sequence[str] = ()
"""Scripts that lead from version 1 to 2, from 2 to 3, and so on. All that apply run in one transaction, at open.

A semicolon ends a statement and stands nowhere else: not in a text, not in a trigger.
"""

VERSION = 1 + len(MIGRATIONS)
"""The version that this release writes, in `PRAGMA user_version`."""

UNFINISHED = f"state NOT IN ({', '.join(str(state) for state in sorted(ENDED))})"
"""The partial index' condition. A query has to repeat it word for word."""

_SCHEMA = f"""
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
PRAGMA user_version = {VERSION};
"""

_PLACE = Struct("<qqqq")


def prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Makes the tables in an empty file, or leads older ones to this version. Raises JournalRefused otherwise."""
    try:
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        empty = not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_NOTADB:
            raise
        raise JournalRefused(f"{path} is not a Stepwire journal, nor any SQLite database. Name another file.") from None
    if empty:
        _run(connection, _SCHEMA)
        return
    if application != APPLICATION_ID:
        raise JournalRefused(f"{path} is a database, but not a Stepwire journal. Name another file.")
    if version > VERSION:
        raise JournalRefused(
            f"{path} was written by a newer Stepwire: its version is {version}, this release knows up to {VERSION}. "
            "Start the newer release."
        )
    if version < VERSION:
        _run(connection, "".join(MIGRATIONS[version - 1 :]) + f"PRAGMA user_version = {VERSION};")


def encode_ends(ends: Sequence[int], size: int) -> bytes:
    """Returns where the frames end, as little-endian numbers of 2 bytes where `size`, the data's, allows, else 4."""
    numbers = array(_code(size), ends)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tobytes()


def decode_ends(stored: bytes, size: int) -> list[int]:
    """Returns what was encoded. Raises ValueError where it can't be."""
    numbers = array(_code(size))
    numbers.frombytes(stored)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tolist()


def checksum(*, position: int, execution: int, first: int, last: int, ends: bytes, kinds: bytes, data: bytes) -> int:
    """Returns the CRC-32 over the data and everything else in the row, which gives it its meaning."""
    return crc32(data, crc32(kinds, crc32(ends, crc32(_PLACE.pack(position, execution, first, last)))))


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
