"""Where a journal's files lie: who may read them, and which one process has them open."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from stepwire_server.journal.base import JournalLocked

__all__ = ["Lock", "make_place"]


def make_place(path: Path) -> None:
    """Makes an empty file (0600) and the folders above it (0700), each where it does not exist, so that they last."""
    _make_folder(path.parent)
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        return
    _sync_folder(path.parent)


class Lock:
    """A lock on `PATH.lock`, held by one process at a time until it lets go or dies. The file itself stays."""

    def __init__(self, path: Path) -> None:
        """Takes the lock. Raises JournalLocked where another has it."""
        name = path.with_name(path.name + ".lock")
        self._fd = os.open(name, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(self._fd, 20).decode("ascii", "replace").strip() or "unknown"
            os.close(self._fd)
            raise JournalLocked(
                f"{path} is open in another server, process {holder}. Stop that one, or give this one another journal."
            ) from None
        except BaseException:
            os.close(self._fd)
            raise
        os.ftruncate(self._fd, 0)
        os.write(self._fd, f"{os.getpid()}\n".encode())

    def release(self) -> None:
        """Lets go. Called once."""
        os.ftruncate(self._fd, 0)
        os.close(self._fd)


def _make_folder(folder: Path) -> None:
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    """Makes a new name in the folder survive a power cut. SQLite does so only for files that it makes itself."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
