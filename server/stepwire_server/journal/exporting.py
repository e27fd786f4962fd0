"""Executions as JSON lines, to be kept or to be put into another journal.

    {"stepwire_journal": 1, "crc32": "..."}                                   the first line, with the format's version
    {"execution": {"execution_id": "...", ...}, "crc32": "..."}               for each execution its record,
    {"chunk": {"first": 1, "ends": [...], "kinds": [...], "data": "..."}, ...}    its events,
    {"complete": {"execution_id": "...", "events": 8}, ...}                   and that these are all
    {"end": {"executions": 1, "events": 8}, "crc32": "..."}                   the last line

Bytes are base64; `data` is the frames of a chunk, which together are an encoded EventBatch. `crc32` is that of the line
without it. So a line that was changed or cut is found, and a file that lacks some is too. An execution whose chunks
could not be read to the end has {"broken": ...} in place of {"complete": ...}, and is not imported.
"""

from __future__ import annotations

import json
import sqlite3
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

from stepwire.errors import CursorExpired, JournalDamaged
from stepwire_server.journal.base import ExecutionRecord
from stepwire_server.journal.chunk import Chunk
from stepwire_server.journal.history import history
from stepwire_server.journal.ledger import stored_record
from stepwire_server.journal.reader import is_damage

__all__ = ["FORMAT", "Exported", "export", "seal"]

FORMAT = 1
"""The version of the format. A reader refuses a higher one."""

_NEXT = "SELECT ordinal, execution_id FROM executions WHERE ordinal > ? AND ordinal <= ? ORDER BY ordinal LIMIT 1"
_NAMES = """
SELECT ordinal, execution_id FROM executions INDEXED BY sqlite_autoindex_executions_1
WHERE ordinal > ? AND ordinal <= ?
"""
_ALL = (1 << 63) - 1

_BYTES = 4 << 20
"""About how many bytes of events are read at once, from one state of the file."""


@dataclass(slots=True, kw_only=True)
class Exported:
    """What went into the file."""

    executions: int = 0
    """How many, whole."""
    events: int = 0
    """Their events."""
    broken: dict[str, str] = field(default_factory=dict)
    """Those that are not in it, and why."""
    lacking: str = ""
    """What else is not in it, where not even its names can be read."""


def seal(content: dict[str, Any]) -> str:
    """Returns one line, with its checksum."""
    text = json.dumps(content, ensure_ascii=True, separators=(",", ":"))
    return f'{text[:-1]},"crc32":"{crc32(text.encode()):08x}"}}\n'


def export(
    connection: sqlite3.Connection,
    write: Callable[[str], object],
    *,
    execution_ids: Sequence[str] = (),
    progress: Callable[[int], None] = lambda events: None,
) -> Exported:
    """Writes these executions, or all that there are when it begins, oldest first, one piece at a time. Each is written
    up to what was its last event when its turn came. Raises nothing for what is damaged: `Exported.broken` says so, and
    `Exported.lacking`.
    """
    done = Exported()
    write(seal({"stepwire_journal": FORMAT}))
    for execution_id in execution_ids or _all(connection, done):
        try:
            record = _record(connection, execution_id)
        except JournalDamaged as error:
            done.broken[execution_id] = str(error)
            continue
        if record is None:
            done.broken[execution_id] = "there is no such execution"
            continue
        write(seal({"execution": _fields(record)}))
        try:
            for chunk in _pieces(connection, record):
                write(seal({"chunk": _chunk(chunk)}))
                progress(len(chunk))
        except (CursorExpired, JournalDamaged) as error:
            done.broken[execution_id] = str(error)
            write(seal({"broken": {"execution_id": execution_id}}))
            continue
        write(seal({"complete": {"execution_id": execution_id, "events": record.last_sequence}}))
        done.executions += 1
        done.events += record.last_sequence
    write(seal({"end": {"executions": done.executions, "events": done.events}}))
    return done


def _all(connection: sqlite3.Connection, done: Exported) -> Iterator[str]:
    newest = ordinal = 0
    try:
        (newest,) = connection.execute("SELECT coalesce(max(ordinal), 0) FROM executions").fetchone()
        while found := connection.execute(_NEXT, (ordinal, newest)).fetchone():
            ordinal = found[0]
            yield found[1]
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        # The table can't be walked to its end. The ids stand in an index too.
        yield from _named(connection, ordinal, newest or _ALL, done)


def _named(connection: sqlite3.Connection, ordinal: int, newest: int, done: Exported) -> Sequence[str]:
    """Returns the ids that the index has, of the executions that follow a number."""
    found: list[tuple[int, str]] = []
    try:
        with _one_state(connection), closing(connection.execute(_NAMES, (ordinal, newest))) as rows:
            found += rows  # As many as come.
    except JournalDamaged as error:
        done.lacking = f"some executions after number {ordinal:,}, and nobody knows which: {error}"
    return [execution_id for _, execution_id in sorted(found)]


def _record(connection: sqlite3.Connection, execution_id: str) -> ExecutionRecord | None:
    with _one_state(connection):
        return stored_record(connection, "execution_id = ?", execution_id)


@contextmanager
def _one_state(connection: sqlite3.Connection) -> Iterator[None]:
    """Shows one state of the file while it lasts. Raises JournalDamaged where a page that is needed can't be read."""
    connection.execute("BEGIN")
    try:
        yield
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        raise JournalDamaged(f"a page of the file is damaged ({error})") from error
    finally:
        connection.rollback()


def _pieces(connection: sqlite3.Connection, record: ExecutionRecord) -> Iterator[Chunk]:
    """Yields the chunks up to the record's last event. No transaction is open while the caller has one."""
    reached = 0
    while reached < record.last_sequence:
        piece: list[Chunk] = []
        size = 0
        with _one_state(connection), closing(history(connection, record.execution_id, after=reached)) as chunks:
            for chunk in chunks:
                chunk = chunk.head(max_events=record.last_sequence - chunk.first + 1, max_bytes=1 << 62)
                piece.append(chunk)
                size += len(chunk.data)
                if size >= _BYTES or chunk.last >= record.last_sequence:
                    break
        if not piece:
            raise JournalDamaged(f"execution {record.execution_id} ends after sequence {reached}")
        reached = piece[-1].last
        yield from piece


def _fields(record: ExecutionRecord) -> dict[str, Any]:
    return {
        "execution_id": record.execution_id,
        "tenant": record.tenant,
        "request_id": record.request_id,
        "session_id": record.session_id,
        "labels": dict(record.labels),
        "create_time_ns": record.create_time_ns,
        "end_time_ns": record.end_time_ns,
        "epoch": record.epoch,
        "state": int(record.state),
        "last_sequence": record.last_sequence,
        "request": b64encode(record.request).decode(),
        "snapshot": b64encode(record.snapshot).decode(),
    }


def _chunk(chunk: Chunk) -> dict[str, Any]:
    return {
        "first": chunk.first,
        "ends": list(chunk.ends),
        "kinds": list(chunk.kinds),
        "data": b64encode(chunk.data).decode(),
    }
