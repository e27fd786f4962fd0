"""What sessions remember: a file for each, of JSON lines, which is written whole and then renamed into its place.

    {"stepwire_memory": 1, "session_id": "web", "sha256": "..."}      of all that follows
    {"total": {"text": "12 * 7", "value": 84}}                        results that were given a name
    {"execution_id": "...", "request": "12 * 7", "results": [...]}    turns, the oldest first

A file that can't be read is told of, counts as empty, and is set aside when the session has a turn again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Memory", "MemoryLimits", "Recollection"]

_FORM = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryLimits:
    """What is kept at most. What is older goes first."""

    turns: int = 50
    """Turns of a session."""
    names: int = 100
    """Named results of a session."""
    session_bytes: int = 256 * 1024
    """Bytes of a session; its newest turn is kept without its plan and results where it is larger by itself."""
    sessions: int = 1_000
    """Sessions; those that were quiet longest go."""
    all_bytes: int = 64 * 1024 * 1024
    """Bytes of all sessions together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recollection:
    """What a session remembers."""

    turns: tuple[Mapping[str, Any], ...] = ()
    """The oldest first."""
    names: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Named results, each with `text` and `value`."""
    problem: str = ""
    """Why it is empty, where it should not be."""

    @property
    def results(self) -> list[Mapping[str, Any]]:
        """The results of all turns, each with `text` and `value`, the oldest first."""
        return [result for turn in self.turns for result in turn["results"]]


class Memory:
    """The sessions' files in a folder. Its methods wait for the disk: call them in a thread.

    Several processes may use one folder: whoever writes has a lock from before it reads until it has written.
    """

    def __init__(self, folder: Path, limits: MemoryLimits | None = None) -> None:
        self.folder = folder
        """Where the files are. Made (0700) with the first one."""
        self._limits = limits or MemoryLimits()

    def read(self, session_id: str) -> Recollection:
        """Returns what a session remembers. Raises OSError where its file is there and can't be read."""
        try:
            return _parse((self.folder / _name(session_id)).read_bytes(), session_id)
        except FileNotFoundError:
            return Recollection()
        except ValueError as error:
            text = f"the memory of session {session_id} is damaged, and counts as empty: {error}"
            return Recollection(problem=text)

    def add(self, session_id: str, turn: Mapping[str, Any], names: Mapping[str, Mapping[str, Any]]) -> int:
        """Adds a turn and the names that it gave, and returns how many turns are kept, once they are on disk. A turn of
        an execution that is there already changes nothing. Raises OSError.
        """
        with self._alone():
            path = self.folder / _name(session_id)
            found = self.read(session_id)
            if any(kept["execution_id"] == turn["execution_id"] for kept in found.turns):
                return len(found.turns)
            if found.problem:
                path.replace(path.with_suffix(".damaged"))
            # What was named last is the last to go.
            merged = {name: given for name, given in found.names.items() if name not in names} | dict(names)
            kept_names = dict(list(merged.items())[-self._limits.names :])
            turns = [*found.turns, turn][-self._limits.turns :]
            content = _content(session_id, kept_names, turns)
            while len(content) > self._limits.session_bytes and (len(turns) > 1 or kept_names):
                if len(turns) > 1:
                    turns = turns[(len(turns) + 1) // 2 :]
                else:
                    kept_names = dict(list(kept_names.items())[1:])
                content = _content(session_id, kept_names, turns)
            if len(content) > self._limits.session_bytes:
                content = _content(session_id, kept_names, [{**turn, "plan": [], "results": [], "shortened": True}])
            self._write(path, content)
            self._make_room(path)
            return len(turns)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        import fcntl  # Not everywhere; without it the app works, and its journal is in memory.

        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(self.folder / ".lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _write(self, path: Path, content: bytes) -> None:
        # Whoever writes is alone, so that the name needs no number; what a crash left there is overwritten.
        beside = self.folder / ".writing"
        with open(os.open(beside, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
        folder = os.open(self.folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _make_room(self, newest: Path) -> None:
        """Removes what was written longest ago, until all is within the limits."""
        with os.scandir(self.folder) as entries:
            files = [entry for entry in entries if entry.name.endswith((".jsonl", ".damaged"))]
        ages = sorted((entry.stat().st_mtime_ns, entry.stat().st_size, entry.path) for entry in files)
        count, size = len(ages), sum(size for _, size, _ in ages)
        for _, bytes_, path in ages:
            if count <= self._limits.sessions and size <= self._limits.all_bytes:
                return
            if Path(path) != newest:
                os.unlink(path)
                count, size = count - 1, size - bytes_


def _name(session_id: str) -> str:
    # Some file systems know no difference between "Web" and "web", and some names are none on others.
    return f"{hashlib.sha256(session_id.encode()).hexdigest()[:32]}.jsonl"


def _content(session_id: str, names: Mapping[str, Any], turns: list[Mapping[str, Any]]) -> bytes:
    lines = "".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in (names, *turns)).encode()
    header = {"stepwire_memory": _FORM, "session_id": session_id, "sha256": hashlib.sha256(lines).hexdigest()}
    return f"{json.dumps(header)}\n".encode() + lines


def _parse(content: bytes, session_id: str) -> Recollection:
    """Returns what a file has. Raises ValueError, which says what is wrong with it."""
    first, _, rest = content.partition(b"\n")
    try:
        header = json.loads(first)
        known = header["stepwire_memory"], header["session_id"]
        total = header["sha256"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise ValueError("its first line is none of a memory") from None
    if known != (_FORM, session_id):
        raise ValueError(f"it is of form {known[0]!r} and session {known[1]!r}")
    if hashlib.sha256(rest).hexdigest() != total:
        raise ValueError("its checksum is another one")
    # What has the checksum was written here.
    names, *turns = [json.loads(line) for line in rest.decode().split("\n")[:-1]]
    return Recollection(turns=tuple(turns), names=names)
