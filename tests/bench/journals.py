"""Journals that have grown: filled directly, in chunks as a busy server writes them, which saves minutes."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.server.journal.million import run

from stepwire_server.journal import SqliteJournal

__all__ = ["LONGEST", "SHORT", "fill"]

LONGEST = "longest"
"""The execution that has half of all events."""

SHORT = 100
"""Events of each of the others."""

_CHUNK = 100
_AT_ONCE = 200


def fill(path: Path, *, events: int) -> int:
    """Fills a new journal. Returns how many executions it has: one with half of all events, and many short ones."""
    return asyncio.run(_fill(path, events))


async def _fill(path: Path, events: int) -> int:
    # Its content is the same as with the durability that is measured; only making it is faster.
    journal = SqliteJournal(path, durability="process")
    await journal.open()
    try:
        names = [f"short-{number}" for number in range(max(1, events // 2 // SHORT))]
        for first in range(0, len(names), _AT_ONCE):
            some = names[first : first + _AT_ONCE]
            await asyncio.gather(*(run(journal, name, events=SHORT, step=_CHUNK) for name in some))
        await run(journal, LONGEST, events=events - len(names) * SHORT, step=_CHUNK)
    finally:
        await journal.close()
    return len(names) + 1
