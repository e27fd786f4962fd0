"""An execution's chunks as the SQLite file has them, each verified."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator
from contextlib import closing

from stepwire.errors import JournalDamaged
from stepwire_server.journal.chunk import Chunk
from stepwire_server.journal.ledger import tombstone_of
from stepwire_server.journal.reader import is_damage
from stepwire_server.journal.schema import decode_row

__all__ = ["ROWS_FROM", "history"]

ROWS_FROM = """
SELECT position, execution, first, last, ends, kinds, checksum, data FROM chunks
WHERE execution = :execution
AND first >= (SELECT max(first) FROM chunks WHERE execution = :execution AND first <= :wanted)
ORDER BY first
"""
"""The rows of an execution from the one with the sequence `wanted` on."""


def history(connection: sqlite3.Connection, execution_id: str, *, after: int) -> Generator[Chunk, None, None]:
    """Yields the execution's stored chunks from `after` (exclusive) on, one row at a time.

    Raises CursorExpired where the execution was purged. Raises JournalDamaged before the first chunk where that is
    damaged or missing, and ends before a later one that is: whoever comes back for it learns why.
    """
    found = connection.execute(
        "SELECT ordinal, last_sequence FROM executions WHERE execution_id = ?", (execution_id,)
    ).fetchone()
    if found is None:
        stone = tombstone_of(connection, "execution_id = ?", execution_id)
        if stone is not None:
            raise stone.expired()
        return
    if after >= found[1]:
        return
    execution, last_sequence = found
    reached = after
    with closing(_chunks(connection, execution, wanted=after + 1)) as chunks:
        for chunk in chunks:
            if chunk is None or not chunk.first <= reached + 1 <= chunk.last:
                break
            yield chunk.after(reached)
            reached = chunk.last
        else:
            if reached >= last_sequence:
                return
    if reached == after:
        raise JournalDamaged(
            f"The journal is damaged: execution {execution_id} can't be read from sequence {after + 1} on.",
            metadata={"execution_id": execution_id, "sequence": str(after + 1)},
        )


def _chunks(connection: sqlite3.Connection, execution: int, *, wanted: int) -> Generator[Chunk | None, None, None]:
    """Yields the chunks from the one with the sequence `wanted` on; None for what can't be read."""
    try:
        with closing(connection.execute(ROWS_FROM, {"execution": execution, "wanted": wanted})) as rows:
            for row in rows:
                yield decode_row(row)
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        yield None
