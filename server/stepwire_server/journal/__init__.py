"""Where executions and their events are kept."""

from __future__ import annotations

from stepwire_server.journal.base import (
    ENDED,
    Conflict,
    ExecutionRecord,
    Follower,
    Journal,
    JournalLocked,
    JournalRefused,
    Page,
)
from stepwire_server.journal.chunk import TERMINAL_KINDS, Chunk
from stepwire_server.journal.memory import MemoryJournal
from stepwire_server.journal.sqlite import SqliteJournal

__all__ = [
    "ENDED",
    "TERMINAL_KINDS",
    "Chunk",
    "Conflict",
    "ExecutionRecord",
    "Follower",
    "Journal",
    "JournalLocked",
    "JournalRefused",
    "MemoryJournal",
    "Page",
    "SqliteJournal",
]
