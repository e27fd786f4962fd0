"""A few threads that read the SQLite journal, each with a connection that can't write."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from stepwire.errors import JournalDamaged, JournalUnavailable
from stepwire_server.journal.connection import connect

__all__ = ["Readers", "is_damage"]

T = TypeVar("T")


class Readers:
    """Runs reads, so that none blocks the event loop or the writer."""

    def __init__(self, path: Path, *, threads: int) -> None:
        self._uri = f"{path.absolute().as_uri()}?mode=ro"
        self._pool = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="stepwire-journal-reader")
        self._idle: list[sqlite3.Connection] = []
        self._running: set[Future[object]] = set()

    async def run(self, read: Callable[[sqlite3.Connection], T]) -> T:
        """Returns what `read` returns. It has a connection to itself, sees one state of the journal however many
        statements it runs, and leaves no cursor open.
        """
        future = self._pool.submit(self._read, read)
        self._running.add(future)  # type: ignore[arg-type]  # Future is invariant; nothing is ever put into it here.
        future.add_done_callback(self._running.discard)
        return await asyncio.wrap_future(future)

    async def close(self) -> None:
        """Returns when nothing reads any more and the threads are gone."""
        await asyncio.gather(*map(asyncio.wrap_future, list(self._running)), return_exceptions=True)
        self._pool.shutdown(wait=True)
        while self._idle:
            self._idle.pop().close()

    def _read(self, read: Callable[[sqlite3.Connection], T]) -> T:
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = self._connect()
        try:
            connection.execute("BEGIN")
            return read(connection)
        except sqlite3.DatabaseError as error:
            raise _refusal(error) from error
        finally:
            try:
                connection.rollback()
            except sqlite3.Error:  # Of a damaged file. The next read has a connection that knows nothing of it.
                connection.close()
            else:
                self._idle.append(connection)

    def _connect(self) -> sqlite3.Connection:
        try:
            return connect(self._uri, uri=True, check_same_thread=False)
        except sqlite3.Error as error:  # Such as a process that has no descriptor left.
            raise _refusal(error) from error


def _refusal(error: sqlite3.Error) -> JournalDamaged | JournalUnavailable:
    if isinstance(error, sqlite3.DatabaseError) and is_damage(error):
        return JournalDamaged("The journal's file is damaged.")
    return JournalUnavailable("The journal can't be read now.")


def is_damage(error: sqlite3.Error) -> bool:
    """Tells a damaged file from one that can't be read now."""
    code = getattr(error, "sqlite_errorcode", None)  # None: the module's own, such as a text that is not UTF-8.
    return code is None or code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
