"""A look into a journal's file, also while a server has it open: what is in it, in numbers."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from stepwire.v1 import ExecutionState
from stepwire_server.journal.base import JournalRefused
from stepwire_server.journal.connection import connect
from stepwire_server.journal.place import refuse_lone_log, resolved
from stepwire_server.journal.schema import VERSION, refuse_foreign

__all__ = ["Statistics", "opened_to_read", "statistics"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """What a journal holds."""

    executions: Mapping[ExecutionState.ValueType, int]
    """How many are in each state."""
    events: int
    """In all executions."""
    chunks: int
    """Rows that the events are in."""
    scattered: int
    """Ended executions whose chunks are still to be joined."""
    tombstones: int
    """What is left of purged executions."""
    oldest_ns: int
    """When the oldest execution was created, in nanoseconds since 1970. 0: there is none."""
    newest_ns: int
    """When the newest one was."""
    file_bytes: int
    """The file's size."""
    free_bytes: int
    """How much of that is free, and will be used again."""
    wal_bytes: int
    """The size of the write-ahead log beside it."""


@contextmanager
def opened_to_read(path: Path) -> Iterator[sqlite3.Connection]:
    """Opens a journal's file so that nothing of it can be changed, whether a server has it open or not. Raises
    JournalRefused.
    """
    path = resolved(path)
    if not path.is_file():
        raise JournalRefused(f"there is no journal at {path}")
    refuse_lone_log(path)
    connection = _connect(path)
    try:
        version = refuse_foreign(connection, path)
        if version < VERSION:
            raise JournalRefused(
                f"{path} is of version {version}, and this release reads version {VERSION}. Start a server on it once, "
                "or `stepwire-server journal purge` it: both lead it there."
            )
        yield connection
    finally:
        connection.close()


def _connect(path: Path) -> sqlite3.Connection:
    uri = path.absolute().as_uri()
    connection = connect(f"{uri}?mode=ro", uri=True)
    try:
        connection.execute("SELECT 1 FROM sqlite_master").fetchone()
    except sqlite3.OperationalError as error:
        connection.close()
        if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_CANTOPEN or path.with_name(path.name + "-wal").exists():
            raise
        # In a folder that is not ours to write to, such as a backup's: nobody else has it open either.
        return connect(f"{uri}?immutable=1", uri=True)
    except sqlite3.DatabaseError:
        return connection  # Not a database: whoever looks closer says so.
    return connection


def statistics(connection: sqlite3.Connection, path: Path) -> Statistics:
    """Returns what the journal holds now."""

    def one(sql: str) -> tuple[int, ...]:
        row: tuple[int, ...] = connection.execute(sql).fetchone()
        return row

    connection.execute("BEGIN")
    try:
        states = connection.execute("SELECT state, count(*) FROM executions GROUP BY state ORDER BY state").fetchall()
        oldest, newest, events, scattered = one(
            "SELECT coalesce(min(create_time_ns), 0), coalesce(max(create_time_ns), 0), "
            "coalesce(sum(last_sequence), 0), coalesce(sum(scattered), 0) FROM executions"
        )
        page = one("PRAGMA page_size")[0]
        wal = path.with_name(path.name + "-wal")
        return Statistics(
            executions=dict(states),
            events=events,
            chunks=one("SELECT count(*) FROM chunks")[0],
            scattered=scattered,
            tombstones=one("SELECT count(*) FROM tombstones")[0],
            oldest_ns=oldest,
            newest_ns=newest,
            file_bytes=path.stat().st_size,
            free_bytes=one("PRAGMA freelist_count")[0] * page,
            wal_bytes=wal.stat().st_size if wal.exists() else 0,
        )
    finally:
        connection.rollback()
