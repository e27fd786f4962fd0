"""Where executions and their events are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepwire_server.journal.base import (
    ENDED,
    Conflict,
    ExecutionRecord,
    Follower,
    Journal,
    JournalBusy,
    JournalLocked,
    JournalRefused,
    Page,
)
from stepwire_server.journal.chunk import TERMINAL_KINDS, Chunk
from stepwire_server.journal.memory import MemoryJournal
from stepwire_server.journal.retention import Purged, Retention, Tombstone
from stepwire_server.journal.statistics import Outcome, Statistics, StepSummary, Summary, Tally, Typical
from stepwire_server.journal.wide import Piece, Stand, Standing, WideFollower

if TYPE_CHECKING:
    from stepwire_server.journal.sqlite import SqliteJournal

__all__ = [
    "ENDED",
    "TERMINAL_KINDS",
    "Chunk",
    "Conflict",
    "ExecutionRecord",
    "Follower",
    "Journal",
    "JournalBusy",
    "JournalLocked",
    "JournalRefused",
    "MemoryJournal",
    "Outcome",
    "Page",
    "Piece",
    "Purged",
    "Retention",
    "SqliteJournal",
    "Stand",
    "Standing",
    "Statistics",
    "StepSummary",
    "Summary",
    "Tally",
    "Tombstone",
    "Typical",
    "WideFollower",
]


def __getattr__(name: str) -> object:
    # The engine needs no SQL; and where sqlite3 or fcntl is missing, the memory journal still works.
    if name == "SqliteJournal":
        from stepwire_server.journal.sqlite import SqliteJournal

        return SqliteJournal
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
