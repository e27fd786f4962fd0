"""Why a transaction of the SQLite journal failed, and what that says about what is stored.

the disk is full            nothing of it is stored: StorageFull for each entry; the writer goes on
another process writes      nothing of it is stored: JournalBusy for each entry; the writer goes on
an entry makes no sense     each entry again, alone: only that one fails
a page is damaged           each entry again, alone: only those fail that need the page, with JournalDamaged
anything else               nobody knows what is stored: JournalUnavailable for all, and the writer stops for good
"""

from __future__ import annotations

import errno
import sqlite3
from enum import Enum, auto

__all__ = ["BROKEN", "BUSY", "CLOSED", "DAMAGED", "FULL", "Cause", "cause_of", "primary"]

BROKEN = "The journal has failed and is stopped: the server has to be restarted."
CLOSED = "The journal is being closed."
FULL = "The journal's disk is full. Nothing was stored; try again when there is room."
DAMAGED = "The journal's file is damaged. Nothing was stored."
BUSY = "Another process writes to the journal's file. Nothing was stored; try again."


class Cause(Enum):
    """Why a transaction failed. The module's docstring says what follows."""

    FULL = auto()
    BUSY = auto()
    ENTRY = auto()
    DAMAGED = auto()
    UNKNOWN = auto()


def cause_of(error: Exception) -> Cause:
    """Returns why the transaction failed in which this was raised."""
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return Cause.FULL
    if not isinstance(error, sqlite3.Error):
        return Cause.ENTRY
    match primary(error):
        case sqlite3.SQLITE_FULL:
            return Cause.FULL
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return Cause.BUSY
        case None | sqlite3.SQLITE_CONSTRAINT | sqlite3.SQLITE_MISMATCH | sqlite3.SQLITE_TOOBIG | sqlite3.SQLITE_MISUSE:
            return Cause.ENTRY
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return Cause.DAMAGED
    return Cause.UNKNOWN


def primary(error: sqlite3.Error) -> int | None:
    """Returns SQLite's error code without its details. None where the error is the module's own."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF
