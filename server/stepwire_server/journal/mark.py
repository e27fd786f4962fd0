"""How far a journal had come, beside its file: what tells that the end of the write-ahead log is missing.

SQLite takes the first frame of the log that is not what was written for the log's end, as it must: a crash leaves such
ends. Where acknowledged commits were cut off, or the log is gone, it says nothing. So after each commit that is durable
the journal's last position and ordinal are noted here, in place and without an fsync. The note is exact or too old: a
kill may come between a commit and its note, a power cut may take notes, and an import makes none. An old one is no
reproach.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from struct import Struct
from zlib import crc32

from stepwire_server.journal.base import JournalRefused
from stepwire_server.journal.cause import primary
from stepwire_server.journal.connection import connect
from stepwire_server.journal.reader import is_damage

__all__ = ["Mark", "missing", "refuse_lacking"]

_NOTE = Struct("<qq")
_CHECK = Struct("<I")


class Mark:
    """The note in `PATH.mark`. Made and used by the one process that writes."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(_name(path), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        self._noted = (-1, -1)

    def note(self, position: int, ordinal: int) -> None:
        """Notes what is durable. Leaves the older note where there is no room for this one."""
        if (position, ordinal) == self._noted:
            return
        self._noted = (position, ordinal)
        note = _NOTE.pack(position, ordinal)
        with suppress(OSError):
            os.pwrite(self._fd, note + _CHECK.pack(crc32(note)), 0)

    def close(self) -> None:
        """Lets go of the file, which stays."""
        os.close(self._fd)

    @staticmethod
    def remove(path: Path) -> None:
        """Removes the note of a journal, if there is one."""
        _name(path).unlink(missing_ok=True)


def missing(connection: sqlite3.Connection, path: Path) -> str:
    """Returns what is missing at the journal's end by its note, in words; nothing where it is all there, or where no
    note can be read. The note is read first: a server may have the journal open.
    """
    try:
        stored = _name(path).read_bytes()
    except OSError:
        return ""
    note, check = stored[: _NOTE.size], stored[_NOTE.size :]
    if len(check) != _CHECK.size or _CHECK.unpack(check)[0] != crc32(note):
        return ""
    noted = dict(zip(("chunks", "executions"), _NOTE.unpack(note), strict=True))
    tables = connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'sqlite_sequence'").fetchone()[0]
    found = dict(connection.execute("SELECT name, seq FROM sqlite_sequence").fetchall()) if tables else {}
    return " and ".join(
        f"its {name} end at number {found.get(name, 0):,}, and {number:,} had been stored"
        for name, number in noted.items()
        if found.get(name, 0) < number
    )


def refuse_lacking(path: Path) -> None:
    """Raises JournalRefused where something is missing at the journal's end by its note. Called before anything that
    can write is connected: that would write over the log, or remove it when it is closed, where the log is what can
    still be put right.
    """
    try:
        with closing(connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            lacking = missing(connection, path)
    except sqlite3.DatabaseError as error:
        # An SQLITE_ERROR: what was asked makes no sense to SQLite, since a table is not as it was defined.
        if not is_damage(error) and primary(error) != sqlite3.SQLITE_ERROR:
            raise
        return  # Whoever opens the file has better words for that.
    if lacking:
        raise JournalRefused(
            f"the end of {path} is missing: {lacking}. Put all its files in their place as they were. Where they are "
            f"lost, or this is an older copy, remove {path}.mark to go on without the rest."
        )


def _name(path: Path) -> Path:
    return path.with_name(path.name + ".mark")
