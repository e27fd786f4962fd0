"""A connection to a journal's file whose errors are sqlite3's, whatever the file has become."""

from __future__ import annotations

import sqlite3
from typing import Any

__all__ = ["connect"]


def connect(database: Any, **options: Any) -> sqlite3.Connection:
    """Connects as `sqlite3.connect` does, in autocommit mode, and has SQLite read the tables' definitions. Raises
    sqlite3.DatabaseError with SQLITE_CORRUPT where those are damaged so that SQLite's own message about it is no text:
    the module would raise UnicodeDecodeError, in whichever statement came first. Other errors are left to that one.
    """
    connection: sqlite3.Connection = sqlite3.connect(database, isolation_level=None, **options)
    try:
        connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").close()
    except UnicodeDecodeError:
        connection.close()
        damaged = sqlite3.DatabaseError("the definitions of its tables are damaged")
        damaged.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise damaged from None
    except sqlite3.Error:
        pass
    return connection
