"""How the chunks of ended executions become few large ones in the SQLite journal, in bites of a few milliseconds.

An execution of thousands of steps has thousands of rows of an event or two, spread over the file among those of others.
Each run of rows that fits into one message of a stream becomes one row, at the highest position of the run; checksums
are verified before and made anew after. Readers see the rows before or the row after, never both. A run of more rows
than a bite may change is joined in parts first, and the parts in another round.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice

from stepwire.errors import JournalDamaged
from stepwire_server.journal.aside import Aside
from stepwire_server.journal.chunk import Chunk, join, runs
from stepwire_server.journal.purging import BITE_ROWS
from stepwire_server.journal.schema import decode_row, encode_row

__all__ = ["START", "CompactBite", "Reached", "compact_bite"]

_ROWS = """
SELECT position, execution, first, last, ends, kinds, checksum, data FROM chunks
WHERE execution = ? AND first > ? ORDER BY first
"""

_SCATTERED = "SELECT ordinal FROM executions WHERE scattered = 1 ORDER BY ordinal LIMIT ?"
_NAME = "SELECT execution_id FROM executions WHERE ordinal = ?"

Reached = tuple[int, int, bool]
"""An execution's ordinal, a sequence in it, and whether it needs another round."""

START: Reached = (0, 0, False)
"""Nothing is reached yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompactBite:
    """What one bite did."""

    fewer: int
    """How many rows fewer there are."""
    reached: Reached
    """From where the next bite goes on. Only to save work: START is right too."""
    damaged: Sequence[str]
    """The ids of executions of which a chunk can't be read, and which stay as they are from there on."""
    more: bool
    """Whether something is left to do."""


def compact_bite(
    connection: sqlite3.Connection, reached: Reached, *, seconds: float, aside: Aside | None = None
) -> CompactBite:
    """Joins some rows in the transaction that is open: at least one run where there is one. Where it raises, nothing of
    it may stay; `aside` says what it was at.
    """
    aside = aside or Aside()
    deadline = time.monotonic() + seconds
    fewer = 0
    damaged: list[str] = []
    rows = 0
    while execution := _next(connection, aside):
        after, again = reached[1:] if reached[0] == execution else (0, False)
        try:
            for run in _next_runs(connection, execution, after):
                if len(run) > 1:
                    _replace(connection, execution, run)
                    fewer += len(run) - 1
                    again = again or len(run) == BITE_ROWS
                after = run[-1].last
                rows += len(run)
                if rows >= BITE_ROWS or time.monotonic() >= deadline:
                    return CompactBite(fewer=fewer, reached=(execution, after, again), damaged=damaged, more=True)
        except JournalDamaged:
            damaged += connection.execute(_NAME, (execution,)).fetchone()
            again = False
        if again:
            return CompactBite(fewer=fewer, reached=(execution, 0, False), damaged=damaged, more=True)
        connection.execute("UPDATE executions SET scattered = 0 WHERE ordinal = ?", (execution,))
    return CompactBite(fewer=fewer, reached=START, damaged=damaged, more=False)


def _next(connection: sqlite3.Connection, aside: Aside) -> int | None:
    aside.at(None)
    execution = aside.first(connection.execute(_SCATTERED, (len(aside.numbers) + 1,)).fetchall())
    aside.at(execution)
    return execution


def _next_runs(connection: sqlite3.Connection, execution: int, after: int) -> Iterator[list[Chunk]]:
    """Yields the runs that follow a sequence, each read anew, since what was joined has changed the table."""
    while True:
        with closing(_chunks(connection, execution, after)) as chunks:
            run = next(runs(islice(chunks, BITE_ROWS)), None)
        if run is None:
            return
        yield run
        after = run[-1].last


def _chunks(connection: sqlite3.Connection, execution: int, after: int) -> Generator[Chunk, None, None]:
    with closing(connection.execute(_ROWS, (execution, after))) as rows:
        for row in rows:
            chunk = decode_row(row)
            if chunk is None or chunk.first != after + 1:
                raise JournalDamaged("A chunk is not what was written, or is missing.")
            yield chunk
            after = chunk.last


def _replace(connection: sqlite3.Connection, execution: int, run: list[Chunk]) -> None:
    connection.execute(
        "DELETE FROM chunks WHERE execution = ? AND first BETWEEN ? AND ?", (execution, run[0].first, run[-1].first)
    )
    connection.execute("INSERT INTO chunks VALUES (?, ?, ?, ?, ?, ?, ?, ?)", encode_row(join(run), execution))
