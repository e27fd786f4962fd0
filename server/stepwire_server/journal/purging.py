"""How executions that are not kept leave the SQLite journal, in bites of a few milliseconds.

    the record goes, a tombstone and a note in `remains` come     one transaction: from now on the cursor has expired
    the chunks go, some at a time                                 nobody sees them any more
    the note in `remains` goes

A crash in between loses nothing: the notes say what is left to do. Free pages stay in the file and are used again:
giving them back at once would need a map of all pages, which each append would have to keep, and moves pages about.
`stepwire-server journal purge --shrink` gives them back.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass

from stepwire.errors import JournalDamaged
from stepwire_server.journal.aside import Aside
from stepwire_server.journal.retention import Purged, Retention

__all__ = ["BITE_ROWS", "BITE_SECONDS", "Cutoff", "PurgeBite", "cutoff", "due", "purge_bite"]

BITE_SECONDS = 0.002
"""How long a bite goes on, before its commit. An append may have to wait for it."""

BITE_ROWS = 64
"""Rows that a bite changes, about. Those of an execution that ran among others are each on a page of their own, and
the commit writes all these pages: with 512, appends waited 25 ms.
"""

_BYTES = 1 << 20
"""Bytes of chunks that are removed at once."""

_RECORD_ROWS = 8
"""For how many rows an execution's record counts, with its indexes."""

_TOMBSTONES = 0
"""What Aside has in place of an ordinal."""

_NEXT = """
SELECT ordinal FROM executions
WHERE end_time_ns > 0 AND (end_time_ns, ordinal) <= (?, ?) ORDER BY end_time_ns, ordinal LIMIT ?
"""
_RECORD = "SELECT execution_id, last_sequence FROM executions WHERE ordinal = ?"
_DUE = "FROM executions WHERE end_time_ns > 0 AND (end_time_ns, ordinal) <= (?, ?)"
_BURY = """
INSERT OR REPLACE INTO tombstones
SELECT execution_id, tenant, request_id, state, last_sequence, ? FROM executions WHERE ordinal = ?
"""
_FORGET = """
DELETE FROM tombstones WHERE execution_id IN (SELECT execution_id FROM tombstones WHERE purge_time_ns < ? LIMIT ?)
"""
_NOTE_POSITION = """
INSERT INTO purged SELECT 1, max(position) FROM
    (SELECT position FROM chunks WHERE execution = ? ORDER BY first DESC LIMIT 1) HAVING max(position) IS NOT NULL
ON CONFLICT (single) DO UPDATE SET position = max(position, excluded.position)
"""
_LAST_TO_GO = """
SELECT end_time_ns, ordinal FROM executions WHERE end_time_ns > 0
ORDER BY end_time_ns DESC, ordinal DESC LIMIT 1 OFFSET ?
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cutoff:
    """What one pass removes: fixed at its beginning, so that the pass has an end."""

    end_time_ns: int
    """With `ordinal`: the last execution, in the order of their ends, that goes."""
    ordinal: int
    """See `end_time_ns`."""
    purged_before_ns: int
    """Tombstones from before this time go."""
    now_ns: int
    """The time of the purge."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PurgeBite:
    """What one bite did."""

    purged: Purged
    """What it removed."""
    execution_ids: Sequence[str]
    """The executions that are gone since."""
    more: bool
    """Whether something is left to do."""


def cutoff(connection: sqlite3.Connection, retention: Retention, *, now_ns: int) -> Cutoff:
    """Returns where a pass ends that begins now."""
    last = (0, 0)
    before = retention.ended_before_ns(now_ns)
    if before is not None:
        last = (before, 0)  # Ordinals begin at 1, so that what ended just then stays.
    if retention.keep_executions:
        found = connection.execute(_LAST_TO_GO, (retention.keep_executions,)).fetchone()
        last = max(last, found or (0, 0))
    return Cutoff(
        end_time_ns=last[0], ordinal=last[1], purged_before_ns=retention.purged_before_ns(now_ns), now_ns=now_ns
    )


def due(connection: sqlite3.Connection, until: Cutoff) -> Purged:
    """Returns what a pass would remove."""
    executions, events = connection.execute(
        f"SELECT count(*), coalesce(sum(last_sequence), 0) {_DUE}", (until.end_time_ns, until.ordinal)
    ).fetchone()
    (tombstones,) = connection.execute(
        "SELECT count(*) FROM tombstones WHERE purge_time_ns < ?", (until.purged_before_ns,)
    ).fetchone()
    return Purged(executions=executions, events=events, tombstones=tombstones)


def purge_bite(
    connection: sqlite3.Connection, until: Cutoff, *, seconds: float, rows: int = BITE_ROWS, aside: Aside | None = None
) -> PurgeBite:
    """Removes something in the transaction that is open, until the time is over or so many rows were changed. Removes
    at least one thing where there is one. Where it raises, nothing of it may stay; `aside` says what it was at.
    """
    aside = aside or Aside()
    deadline = time.monotonic() + seconds
    gone: list[str] = []
    events = 0
    tombstones = 0
    if _TOMBSTONES not in aside.numbers:
        aside.at(_TOMBSTONES)
        tombstones = connection.execute(_FORGET, (until.purged_before_ns, BITE_ROWS)).rowcount
    more = tombstones == BITE_ROWS
    changed = tombstones
    while True:
        swept = _sweep(connection, aside)
        changed += swept or _RECORD_ROWS
        if not swept:
            aside.at(None)
            room = (until.end_time_ns, until.ordinal, len(aside.numbers) + 1)
            ordinal = aside.first(connection.execute(_NEXT, room).fetchall())
            if ordinal is None:
                break
            aside.at(ordinal)
            record = connection.execute(_RECORD, (ordinal,)).fetchone()
            if record is None:
                raise JournalDamaged(f"Execution number {ordinal} is in an index only.")
            execution_id, last_sequence = record
            _bury(connection, ordinal, now_ns=until.now_ns)
            gone.append(execution_id)
            events += last_sequence
        if changed >= rows or time.monotonic() >= deadline:
            more = True
            break
    return PurgeBite(
        purged=Purged(executions=len(gone), events=events, tombstones=tombstones), execution_ids=gone, more=more
    )


def _bury(connection: sqlite3.Connection, ordinal: int, *, now_ns: int) -> None:
    connection.execute(_BURY, (now_ns, ordinal))
    connection.execute(_NOTE_POSITION, (ordinal,))
    connection.execute("INSERT INTO remains VALUES (?)", (ordinal,))
    connection.execute("DELETE FROM labels WHERE execution = ?", (ordinal,))
    connection.execute("DELETE FROM requests WHERE execution = ?", (ordinal,))
    connection.execute("DELETE FROM executions WHERE ordinal = ?", (ordinal,))


def _sweep(connection: sqlite3.Connection, aside: Aside) -> int:
    """Removes some chunks of an execution that is gone. Returns how many rows that changed, 0 where there is none."""
    aside.at(None)
    remains = connection.execute("SELECT execution FROM remains LIMIT ?", (len(aside.numbers) + 1,)).fetchall()
    execution = aside.first(remains)
    if execution is None:
        return 0
    aside.at(execution)
    rows = connection.execute(
        "SELECT first, length(data) FROM chunks WHERE execution = ? ORDER BY first LIMIT ?", (execution, BITE_ROWS)
    ).fetchall()
    size = count = 0
    while count < len(rows) and size < _BYTES:
        size += rows[count][1]
        count += 1
    if count:
        last = rows[count - 1][0]
        connection.execute("DELETE FROM chunks WHERE execution = ? AND first <= ?", (execution, last))
    if count == len(rows) < BITE_ROWS:
        connection.execute("DELETE FROM remains WHERE execution = ?", (execution,))
    return count + 1
