"""Damage to one page of a journal's file, as a disk does it."""

from __future__ import annotations

import sqlite3
import struct
from contextlib import closing
from pathlib import Path

__all__ = ["spoil_page"]

_INTERIOR = (2, 5)
"""The types of a page that has only the numbers of others."""


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
