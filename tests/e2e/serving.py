"""Real servers for tests and programs: the command in a process of its own, and a gate that holds operations back."""

from __future__ import annotations

import contextlib
import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, Self

import pytest

__all__ = [
    "APPS",
    "PATIENCE",
    "REPOSITORY",
    "Gate",
    "Lines",
    "ServerProcess",
    "command",
    "find_grpcurl",
    "not_run",
    "paced",
    "until",
]

REPOSITORY = Path(__file__).resolve().parents[2]
APPS = Path(__file__).resolve().parent / "apps"
"""The folder that servers of `sample:app` run in."""

PATIENCE = 20.0
"""Seconds after which a test that waits for something gives up. Slow machines need some of it, no test all."""


def command(name: str) -> str:
    """Returns the path of a command that is installed beside this Python."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    assert found, f"{name} is not installed: run `make test`, which installs it"
    return found


def not_run(missing: str, *, unless: str = "STEPWIRE_REQUIRE_TOOLS") -> NoReturn:
    """Reports the test as not run, and as failed where this variable says that everything which it needs is there."""
    assert unless not in os.environ, missing
    pytest.skip(f"NOT RUN: {missing}")


def find_grpcurl() -> str:
    """Returns the path of grpcurl."""
    found = shutil.which("grpcurl") or shutil.which("grpcurl", path=str(REPOSITORY / "build" / "tools" / "bin"))
    if not found:
        not_run("grpcurl is missing: run `make tools`, which needs Go and puts it into build/tools/bin")
    return found


def until(condition: Callable[[], Any], what: str, *, seconds: float = PATIENCE) -> Any:
    """Returns the first true value of a condition that no event announces. Fails after so many seconds."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what} did not happen within {seconds:g} s"
        pause.wait(0.01)
    return value


class Lines:
    """The lines that a process writes, each with the time (time.time) at which it was read."""

    def __init__(self, stream: Any) -> None:
        self._queue: queue.SimpleQueue[tuple[float, str] | None] = queue.SimpleQueue()
        self._stream = stream
        self._thread = threading.Thread(target=self._read, name="lines", daemon=True)
        self._thread.start()

    def get(self, *, seconds: float = PATIENCE) -> tuple[float, str] | None:
        """Returns the next line with its time; None at the end. Fails where none comes."""
        try:
            return self._queue.get(timeout=max(0.0, seconds))
        except queue.Empty:
            raise AssertionError(f"no line came within {seconds:g} s") from None

    def close(self) -> None:
        """Waits for the end of the stream, which the process's end brings."""
        self._thread.join(PATIENCE)
        self._stream.close()

    def _read(self) -> None:
        for line in self._stream:
            self._queue.put((time.time(), line.rstrip("\n")))
        self._queue.put(None)


class ServerProcess:
    """`stepwire-server serve` in a process of its own, on a free port, with a journal in `folder`.

    with ServerProcess(tmp_path, app="sample:app") as server:
        client = Client(server.address)

    Stopped and started again it keeps its port and its journal. TEST_LOOP=uvloop and TEST_JOURNAL=memory in the
    environment make it run on those; tests/conftest.py leaves out what needs others.
    """

    def __init__(
        self,
        folder: Path,
        *,
        app: str = "",
        cwd: Path = APPS,
        flags: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
    ) -> None:
        self.journal = folder / "journal.db"
        self._kept_in = os.environ.get("TEST_JOURNAL") or str(self.journal)
        self.log = folder / "server.log"
        self.prefix = prefix
        """What stands before the command at its next start, such as strace: it must become the command's process."""
        self.address = "127.0.0.1:0"
        """HOST:PORT, once it has started."""
        self._app = [app] if app else []
        self._cwd = cwd
        self._flags = list(flags)
        self._environment = {key: value for key, value in os.environ.items() if not key.startswith("STEPWIRE_")}
        if "TEST_LOOP" in os.environ:
            self._environment["STEPWIRE_LOOP"] = os.environ["TEST_LOOP"]
        self._environment |= environment or {}
        self._process: subprocess.Popen[str] | None = None
        self._lines: Lines | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def process(self) -> subprocess.Popen[str]:
        """The process that runs."""
        assert self._process is not None, "the server does not run"
        return self._process

    def start(self) -> None:
        """Starts it, and returns once it says where it listens."""
        assert self._process is None, "the server runs already"
        arguments = ["serve", *self._app, "--listen", self.address, "--journal", self._kept_in, *self._flags]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self.prefix, command("stepwire-server"), *arguments],
                cwd=self._cwd,
                env=self._environment,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self._lines = Lines(self._process.stdout)
        line = self._lines.get()
        if line is None or not line[1].startswith("listening on "):
            self.kill()
            raise AssertionError(f"the server did not start: {line}\n{self.log.read_text('utf-8')}")
        self.address = line[1].removeprefix("listening on ")

    def kill(self) -> None:
        """Ends it with SIGKILL, if it runs."""
        if self._process is not None:
            self._process.kill()
            self._wait()

    def terminate(self) -> int:
        """Ends it with SIGTERM, and returns its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self._wait()

    def _wait(self) -> int:
        process, self._process = self.process, None
        try:
            code = process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError("the server did not end after SIGTERM") from None
        finally:
            if self._lines is not None:
                self._lines.close()
        return code


class Gate:
    """Holds operations back. They connect, say their step and attempt, and wait for a byte each time they go on.

    with Gate() as gate:
        plan = {"steps": [{"id": "a", "operation": "paced", "input": {"gate": gate.port, "bursts": [10, 10]}}]}
        ...
        gate.arrived("a")
        gate.release("a")      # ten events
        gate.open()            # whatever comes: nothing is held back any more
    """

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._changed = threading.Condition()
        self._here: dict[tuple[str, int], socket.socket] = {}
        self._newest: dict[str, int] = {}
        self._is_open = False
        self._closed = False
        self._thread = threading.Thread(target=self._accept, name="gate", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """Where it listens on 127.0.0.1."""
        return int(self._listener.getsockname()[1])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.open()
        self._closed = True
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        self._thread.join(PATIENCE)
        self._listener.close()

    def arrived(self, step: str, attempt: int = 1) -> None:
        """Returns once this attempt of the step waits here."""
        with self._changed:
            came = self._changed.wait_for(lambda: self._newest.get(step, 0) >= attempt, PATIENCE)
            assert came, f"attempt {attempt} of step {step} did not come within {PATIENCE:g} s; here: {self._newest}"

    def release(self, step: str, bursts: int = 1) -> None:
        """Lets the newest attempt of a step go on, so many times."""
        self.arrived(step)
        with self._changed:
            self._here[step, self._newest[step]].sendall(b"." * bursts)

    def open(self) -> None:
        """Lets everything go on, now and from now on."""
        with self._changed:
            self._is_open = True
            for connection in self._here.values():
                connection.close()
            self._here.clear()

    def _accept(self) -> None:
        while not self._closed:
            connection, _ = self._listener.accept()
            with connection.makefile("rb") as reader:
                connection.settimeout(PATIENCE)
                line = reader.readline().decode().split()
            with self._changed:
                if len(line) != 2 or self._is_open:
                    connection.close()
                else:
                    self._here[line[0], int(line[1])] = connection
                if len(line) == 2:
                    self._newest[line[0]] = int(line[1])
                self._changed.notify_all()


def paced(gate: Gate, bursts: Sequence[int], **more: Any) -> dict[str, Any]:
    """Returns a plan of one step "a" that reports in bursts which the gate releases: 4 events and the bursts'."""
    step = {"id": "a", "operation": "paced", "input": {"gate": gate.port, "bursts": list(bursts), **more}}
    return {"steps": [step]}
