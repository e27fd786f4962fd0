"""A journal with many pages, and damage to one of them, as a disk does it."""

from __future__ import annotations

import sqlite3
import struct
from contextlib import closing
from pathlib import Path

from stepwire.v1 import ExecutionState
from stepwire_server.journal import Chunk, ExecutionRecord, SqliteJournal
from stepwire_server.journal.ledger import Ledger

__all__ = ["crowd", "spoil_page"]

COMPLETED = ExecutionState.EXECUTION_STATE_COMPLETED
RUNNING = ExecutionState.EXECUTION_STATE_RUNNING

_INTERIOR = (2, 5)
"""The types of a page that has only the numbers of others."""


async def crowd(path: Path, count: int, *, chunks: int = 1) -> set[str]:
    """Makes a journal with so many executions that have ended, each in so many chunks. Returns their ids."""
    names = [f"{number * 7919 % count:03}-{'x' * 40}" for number in range(count)]  # Not in the order of their numbers.

    def fill(ledger: Ledger) -> None:
        for name in names:
            labels = {"of": name, "a": "b"}
            ledger.create(ExecutionRecord(execution_id=name, request=b"r" * 300, labels=labels, create_time_ns=1))
            for first in range(1, chunks + 1):
                chunk = Chunk(first=first, data=b"f" * 300, ends=[300], kinds=bytes([5]))
                ledger.append(name, 1, chunk, COMPLETED if first == chunks else RUNNING, b"s" * 100)

    journal = SqliteJournal(path)
    await journal.open()
    await journal._write.submit(fill, size=0)
    await journal.close()
    return set(names)


def spoil_page(path: Path, table: str, *, share: float = 0.5) -> None:
    """Makes a leaf of a table, or of an index, unreadable: the one so far from its beginning, 0 to 1. Nobody may have
    the file open, and all must be in it.
    """
    with closing(sqlite3.connect(path)) as connection:
        size = connection.execute("PRAGMA page_size").fetchone()[0]
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()
    content = bytearray(path.read_bytes())
    start = (page - 1) * size
    assert content[start] in _INTERIOR, f"{table} has one page only"
    while content[start] in _INTERIOR:
        (cells,) = struct.unpack_from(">H", content, start + 3)
        child = int(share * cells)
        where = 8  # The last child's number stands in the head, each other one's at the beginning of its cell.
        if child < cells:
            (where,) = struct.unpack_from(">H", content, start + 12 + 2 * child)
        (page,) = struct.unpack_from(">I", content, start + where)
        start = (page - 1) * size
    content[start] = 0x77  # No type of a page.
    path.write_bytes(content)
