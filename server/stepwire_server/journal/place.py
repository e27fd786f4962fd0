"""Where a journal's files lie: who may read them, and which one process has them open."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from stepwire_server.journal.base import JournalLocked, JournalRefused
from stepwire_server.journal.mark import Mark

__all__ = ["Lock", "refuse_lone_log", "resolved", "sync", "take_place"]


def resolved(path: Path) -> Path:
    """Returns where a journal's file really lies, without symbolic links. SQLite follows them, so the lock and all else
    that lies beside the file must.
    """
    # Path.resolve raises RuntimeError where links go in a circle; here whoever opens the file says so.
    return Path(os.path.realpath(path))


def take_place(path: Path) -> Lock:
    """Takes a journal's lock, and returns it. Where there is no file, makes an empty one (0600) and the folders above
    it (0700), so that they last. Raises JournalLocked, and JournalRefused as `refuse_lone_log` does.
    """
    refuse_lone_log(path)
    _make_folder(path.parent)
    lock = Lock(path)
    try:
        if not path.exists():
            # Of another journal that was there. The new one would be held to it: it goes first, and for good.
            Mark.remove(path)
            sync(path.parent)
            os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
            sync(path.parent)
    except BaseException:
        lock.release()
        raise
    return lock


def refuse_lone_log(path: Path) -> None:
    """Raises JournalRefused where a write-ahead log is there, and the file that it belongs to is not, or is empty.
    SQLite removes such a log as soon as anybody looks, and with it commits that the lost file may need.
    """
    log = path.with_name(path.name + "-wal")
    # The log is looked at first: a server that starts at the same time makes the file before it.
    if log.exists() and log.stat().st_size and not (path.exists() and path.stat().st_size):
        raise JournalRefused(
            f"{path} is {'empty' if path.exists() else 'missing'}, and its write-ahead log {log} is there. "
            "Put the file back beside its log; to begin a new journal, move the log away."
        )


def sync(path: Path) -> None:
    """Makes what a file holds, or a folder's names, survive a power cut. SQLite does so only for what it wrote itself.

    Not for a database or its `-shm`: to close them would let go of SQLite's locks.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


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
        with suppress(OSError):  # On a full disk. It is there only for the message above.
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
    sync(folder.parent)
