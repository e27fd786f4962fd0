"""Reads across executions, in the order of positions, from the SQLite journal.

The filter is applied before any data is read. Where little matches in much, the matching executions lead to their
chunks by the index; else the chunks are walked in the order of their positions, which costs a step for each that does
not match, once, and never its data.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from json import dumps

from stepwire.errors import JournalDamaged
from stepwire.v1 import ExecutionFilter
from stepwire_server.journal.base import ENDED
from stepwire_server.journal.schema import UNFINISHED, decode_row
from stepwire_server.journal.selection import conditions
from stepwire_server.journal.wide import Entry, Stand, Standing, Window

__all__ = ["load_many", "standing"]

_STEP = 4096
"""Positions that are walked before it is seen whether that is enough."""

_STEPS = 16
"""Steps of one read, at most: it keeps a reader's thread, and one state of the journal, for so long."""

_FEW = 1_000
"""Executions that may lead to their chunks ..."""

_FEW_EVENTS = 20_000
"""... where they have so many events at most: that bounds the index entries that each read looks at."""

_ROWS = """
SELECT execution_id, position, execution, first, last, ends, kinds, chunks.checksum, data
FROM chunks CROSS JOIN executions ON ordinal = execution WHERE
"""
_POSITIONS = """
SELECT position FROM chunks INDEXED BY chunks_by_first
WHERE execution IN (SELECT value FROM json_each(?)) AND position > ? ORDER BY position LIMIT ?
"""


def standing(connection: sqlite3.Connection, chosen: ExecutionFilter, tenant: str) -> Standing:
    """Does what `Journal.standing` promises."""
    where, parameters = conditions(chosen, tenant)
    table = "executions"
    if not chosen.execution_ids:
        table, where = "executions INDEXED BY executions_unfinished", f"{UNFINISHED} AND {where}"
    rows = connection.execute(
        f"SELECT execution_id, last_sequence, state FROM {table} WHERE {where} ORDER BY ordinal", parameters
    ).fetchall()
    return Standing(
        position=_last(connection),
        purged=_purged(connection),
        executions={name: Stand(last_sequence, state in ENDED) for name, last_sequence, state in rows},
    )


def load_many(
    connection: sqlite3.Connection,
    chosen: ExecutionFilter,
    tenant: str,
    *,
    after: int,
    max_events: int,
    max_bytes: int,
) -> Window:
    """Does what `Journal.load_many` promises."""
    last, purged = _last(connection), _purged(connection)
    where, parameters = conditions(chosen, tenant, row_by_row=True)
    room = _Room(max_events, max_bytes)
    reached = after
    few = _few(connection, chosen, tenant) if last - after > _STEP else None
    if few is not None:
        # One more than there is room for: so the bounds end it, where these are not all.
        positions = [row[0] for row in connection.execute(_POSITIONS, (dumps(few), after, max_events + 1))]
        ended = room.fill(
            connection, f"position IN (SELECT value FROM json_each(?)) AND {where}", (dumps(positions), *parameters)
        )
        return Window(entries=room.entries, reached=ended or last, last=last, purged=purged)
    for _ in range(_STEPS):
        until = min(last, reached + _STEP)
        ended = room.fill(connection, f"position > ? AND position <= ? AND {where}", (reached, until, *parameters))
        reached = ended or until
        if ended or room.entries or reached >= last:
            break
    return Window(entries=room.entries, reached=reached, last=last, purged=purged)


class _Room:
    """What was found, as far as the bounds allow."""

    def __init__(self, max_events: int, max_bytes: int) -> None:
        self.entries: list[Entry] = []
        self._events = max_events
        self._bytes = max_bytes

    def fill(self, connection: sqlite3.Connection, where: str, parameters: tuple[object, ...]) -> int:
        """Takes rows in the order of their positions. Returns the last one's position where the bounds ended it before
        the rows did, else 0. Raises JournalDamaged where the first is damaged, and ends before a later one that is.
        """
        with closing(connection.execute(f"{_ROWS} {where} ORDER BY position", parameters)) as rows:
            for execution_id, *row in rows:
                if self._events <= 0 or self._bytes <= 0:
                    return self.entries[-1].position
                chunk = decode_row(tuple(row))
                if chunk is None:
                    if self.entries:
                        return self.entries[-1].position
                    raise _damaged(execution_id, position=row[0], sequence=row[2])
                self.entries.append(Entry(execution_id, chunk, chunk.position))
                self._events -= len(chunk)
                self._bytes -= len(chunk.data)
        return 0


def _few(connection: sqlite3.Connection, chosen: ExecutionFilter, tenant: str) -> list[int] | None:
    """Returns the ordinals of the executions that match, where they are few and short."""
    where, parameters = conditions(chosen, tenant)
    rows = connection.execute(
        f"SELECT ordinal, last_sequence FROM executions WHERE {where} LIMIT ?", (*parameters, _FEW + 1)
    ).fetchall()
    if len(rows) > _FEW or sum(row[1] for row in rows) > _FEW_EVENTS:
        return None
    return [row[0] for row in rows]


def _last(connection: sqlite3.Connection) -> int:
    found = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'chunks'").fetchone()
    return found[0] if found else 0


def _purged(connection: sqlite3.Connection) -> int:
    found = connection.execute("SELECT position FROM purged").fetchone()
    return found[0] if found else 0


def _damaged(execution_id: str, *, position: int, sequence: int) -> JournalDamaged:
    return JournalDamaged(
        f"The journal is damaged: execution {execution_id} can't be read from sequence {sequence} on.",
        metadata={"execution_id": execution_id, "sequence": str(sequence), "position": str(position)},
    )
