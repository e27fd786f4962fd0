"""How far a journal had come, beside its file: what tells that the end of the write-ahead log is missing.

SQLite takes the first frame of the log that is not what was written for the log's end, as it must: a crash leaves such
ends. Where acknowledged commits were cut off, or the log is gone, it says nothing. So after each commit that is durable
the journal's last position and ordinal are noted here, in place and without an fsync. After a crash of the process the
note is exact; after one of the machine it is exact or too old, and an old one is no reproach.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from pathlib import Path
from struct import Struct
from zlib import crc32

__all__ = ["Mark", "missing"]

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
    found = dict(connection.execute("SELECT name, seq FROM sqlite_sequence").fetchall())
    return " and ".join(
        f"its {name} end at number {found.get(name, 0):,}, and {number:,} had been stored"
        for name, number in noted.items()
        if found.get(name, 0) < number
    )


def _name(path: Path) -> Path:
    return path.with_name(path.name + ".mark")
