"""Harm to what a journal is stored on: calls that fail, a disk that is full, bytes that are not what was written.

with failing(server, "fdatasync,fsync", path=server.journal):      # strace, attached to a server that runs
    code = server.wait_for_its_end()

with SmallDisk(tmp_path / "disk") as disk:                         # a tmpfs
    disk.fill()
    disk.clear()

Damage(seed).flip(path, bits=3)
"""

from __future__ import annotations

import errno
import os
import random
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import pytest
from tests.e2e.serving import command, not_run, until

from .kill_loop import Gauged

__all__ = ["Damage", "Harmed", "SmallDisk", "failing", "findings", "strace"]

_PATIENCE = 30.0


class Harmed(Gauged):
    """A server that is expected to end by itself, or not to start. Its journal is a file in any case."""

    def __init__(
        self,
        folder: Path,
        *,
        flags: Sequence[str] = (),
        environment: dict[str, str] | None = None,
        journal: Path | None = None,
    ) -> None:
        super().__init__(folder, flags=flags, environment=environment)
        self.journal = journal or self.journal
        self._kept_in = str(self.journal)
        self.code: int | None = None
        """What it ended with last."""

    @property
    def said(self) -> str:
        """All that it wrote to standard error."""
        return self.log.read_text("utf-8", "replace") if self.log.exists() else ""

    def wait_for_its_end(self) -> int:
        """Returns the code that it ended with."""
        self.process.wait(_PATIENCE)
        return self._wait()

    def refuse_to_start(self) -> str:
        """Starts it, which must fail with a code and a text; returns the text. `code` has the code."""
        before = len(self.said)
        with pytest.raises(AssertionError, match="the server did not start"):
            self.start()
        assert self.code not in (None, 0)
        return self.said[before:]

    def _wait(self) -> int:
        self.code = super()._wait()
        return self.code


def strace(*, path: Path, calls: str, fault: str, when: str, follow: Path) -> list[str]:
    """Returns the command that lets these system calls on a file fail, from the time on that `when` says."""
    found = shutil.which("strace")
    if not found:
        not_run("strace is missing: install it with the system's package manager")
    injected = ["-e", f"trace={calls}", "-e", f"inject={calls}:{fault}:when={when}"]
    return [found, "-f", "-q", "-o", str(follow), "-P", str(path), *injected]


@contextmanager
def failing(
    server: Harmed,
    path: Path,
    *,
    calls: str = "fsync,fdatasync",
    fault: str = "error=EIO",
    when: str = "1+",
) -> Iterator[None]:
    """Lets system calls of a server that runs fail, on one file and its directory entry, while the block lasts."""
    notes = server.log.with_suffix(".strace")
    arguments = strace(path=path, calls=calls, fault=fault, when=when, follow=notes)
    with notes.with_suffix(".said").open("wb") as said:
        tracer = subprocess.Popen([*arguments, "-p", str(server.process.pid)], stderr=said)
    try:
        until(lambda: _all_traced(server.process.pid) or tracer.poll() is not None, "attaching strace")
        if tracer.poll() is not None:
            not_run(f"strace may not attach here: {notes.with_suffix('.said').read_text()}")
        yield
    finally:
        tracer.terminate()
        tracer.wait(_PATIENCE)


def _all_traced(pid: int) -> bool:
    try:
        states = [(task / "status").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
    except OSError:
        return False
    return all("TracerPid:\t0\n" not in state for state in states)


def findings(path: Path) -> list[str]:
    """Returns what `stepwire-server journal check` finds, line by line. It ends with 0 where that is nothing."""
    done = subprocess.run(
        [command("stepwire-server"), "journal", "check", str(path)], capture_output=True, text=True, timeout=_PATIENCE
    )
    assert "Traceback" not in done.stderr, done.stderr
    lines = done.stdout.splitlines()[:-1] + done.stderr.splitlines()
    assert bool(lines) == bool(done.returncode), (done.returncode, done.stdout, done.stderr)
    return lines


class SmallDisk:
    """A tmpfs of its own, that can be filled to the last byte."""

    def __init__(self, place: Path, *, mebibytes: int = 8) -> None:
        self.place = place
        self._size = mebibytes << 20
        self._ballast = place / "ballast"

    def __enter__(self) -> Self:
        self.place.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={self._size}", "none", str(self.place)],
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
        )
        if done.returncode:
            not_run(f"a tmpfs can't be mounted here, which needs root: {done.stderr.strip()}")
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(["umount", "--lazy", str(self.place)], check=True, timeout=_PATIENCE)

    @property
    def free(self) -> int:
        """Bytes that are left."""
        return shutil.disk_usage(self.place).free

    def fill(self, *, leave: int = 0) -> None:
        """Leaves so many bytes free, or none where somebody else writes meanwhile and takes the rest."""
        with self._ballast.open("ab", buffering=0) as file:
            while (size := self.free - leave) > 0:
                try:
                    file.write(bytes(min(size, 1 << 20)))
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    return

    def clear(self) -> None:
        """Takes the ballast away."""
        self._ballast.unlink()


class Damage:
    """Changes files at random places, by a seed."""

    def __init__(self, seed: int | str) -> None:
        self._chance = random.Random(seed)

    def flip(self, path: Path, *, bits: int = 1, start: int = 0) -> str:
        """Flips bits, each anywhere after `start`."""
        places = []
        with path.open("r+b") as file:
            size = path.stat().st_size
            for _ in range(bits):
                place, bit = self._chance.randrange(start, size), self._chance.randrange(8)
                file.seek(place)
                [byte] = file.read(1)
                file.seek(place)
                file.write(bytes([byte ^ 1 << bit]))
                places.append(f"{place}.{bit}")
        return f"flipped {', '.join(places)} of {size} in {path.name}"

    def truncate(self, path: Path) -> str:
        """Cuts a file anywhere."""
        size = path.stat().st_size
        left = self._chance.randrange(size)
        os.truncate(path, left)
        return f"cut {path.name} from {size} to {left}"

    def blank(self, path: Path, *, pages: int = 1) -> str:
        """Overwrites whole pages of 4,096 bytes with zeros."""
        size = path.stat().st_size
        chosen = [self._chance.randrange(max(1, size // 4096)) for _ in range(pages)]
        with path.open("r+b") as file:
            for page in chosen:
                file.seek(page * 4096)
                file.write(bytes(min(4096, size - page * 4096)))
        return f"zeroed the pages {chosen} of {size // 4096} in {path.name}"
