"""The processes that are measured, seen from outside: started once, asked for a round at a time, their CPU and memory.

with Subject("tests.bench.yardsticks.per_message") as subject:
    figures = subject.ask(events=20_000)     # {"events": ..., "seconds": ..., "server_cpu": ..., "client_cpu": ...}
"""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Self

from .subject import Figures

__all__ = ["REPOSITORY", "Failed", "Meter", "Program", "Subject"]

REPOSITORY = Path(__file__).resolve().parents[2]

_STARTS = 60.0
"""Seconds that a program may take to say that it is ready."""

_ENDS = 30.0
"""Seconds that it may take to end, once its standard input has."""

_ANSWERS = 900.0
"""Seconds that one piece of work may take, unless the row says otherwise."""


class Failed(Exception):
    """A program ended, hung, or saw that something was lost. The benchmark ends with it."""


class Meter:
    """Looks at one process."""

    def __init__(self, pid: int) -> None:
        import psutil  # Which only the benchmark's own environment has: the tests need none of it.

        self._process = psutil.Process(pid)

    def cpu(self) -> float:
        """Returns the seconds of processor time that it has used, its own and the system's for it."""
        times = self._process.cpu_times()
        return float(times.user + times.system)

    def memory(self) -> int:
        """Returns its resident memory in bytes."""
        return int(self._process.memory_info().rss)

    @contextlib.contextmanager
    def peak(self, *, every: float = 0.05) -> Iterator[list[int]]:
        """Gives a list of one: the most resident memory that it had while this lasts."""
        most = [self.memory()]
        over = threading.Event()

        def look() -> None:
            while not over.wait(every):
                most[0] = max(most[0], self.memory())

        thread = threading.Thread(target=look, name="peak", daemon=True)
        thread.start()
        try:
            yield most
        finally:
            over.set()
            thread.join()


class Program:
    """A program that speaks JSON, a line at a time. What it writes to standard error is shown where it fails."""

    def __init__(self, module: str, *arguments: str) -> None:
        self.name = " ".join([module, *arguments])
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        self.pid = self._process.pid
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        assert self._process.stdout is not None
        self._reader = threading.Thread(target=self._read, args=[self._process.stdout], name="lines", daemon=True)
        self._reader.start()

    def tell(self, **command: Any) -> None:
        """Sends a command."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(command) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._failure("it has ended") from None

    def hear(self, *, seconds: float) -> Figures:
        """Returns the next answer. Raises Failed where there is none, or where it is an error."""
        try:
            line = self._lines.get(timeout=seconds)
        except queue.Empty:
            raise self._failure(f"no answer within {seconds:g} s") from None
        if not line:
            raise self._failure("it has ended")
        try:
            figures: Figures = json.loads(line)
        except ValueError:
            raise self._failure(f"not an answer: {line!r}") from None
        if "error" in figures:
            raise self._failure(str(figures["error"]))
        return figures

    def close(self) -> None:
        """Ends it: by the end of its standard input, and by force where that is not enough."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(_ENDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(_ENDS)
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._log.close()

    def _read(self, stream: IO[str]) -> None:
        for line in stream:
            self._lines.put(line)
        self._lines.put("")

    def _failure(self, what: str) -> Failed:
        self._log.seek(0)
        said = self._log.read()[-4000:].decode(errors="replace").strip()
        return Failed(f"{self.name}: {what}" + (f"\n{said}" if said else ""))


class Subject:
    """A server and a client of it; or one more client `of` a server that runs; or, `alone`, a program without one."""

    def __init__(
        self,
        module: str,
        *,
        serve: Sequence[str] = (),
        drive: Sequence[str] = (),
        alone: bool = False,
        of: Subject | None = None,
    ) -> None:
        self._module = module
        self._serve = serve
        self._drive = drive
        self._alone = alone
        self._of = of
        self._programs: list[Program] = []
        self.target = ""

    def __enter__(self) -> Self:
        try:
            arguments = list(self._drive)
            if self._of is not None:
                self.target, self.server = self._of.target, self._of.server
            elif not self._alone:
                server = Program(self._module, "serve", *self._serve)
                self._programs.append(server)
                said = server.hear(seconds=_STARTS)
                self.target = said["target"]
                self.server = Meter(said.get("pid", server.pid))
            if self.target:
                arguments += ["--target", self.target]
            self._client = Program(self._module, "drive", *arguments)
            self._programs.append(self._client)
            self._client.hear(seconds=_STARTS)
            self.client = Meter(self._client.pid)
            if self._alone:
                self.server = self.client
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for program in reversed(self._programs):
            program.close()
        self._programs = []

    def ask(self, *, patience: float = _ANSWERS, **command: Any) -> Figures:
        """Has one piece of work done. Returns its figures with the processor time of both sides."""
        server, client = self.server.cpu(), self.client.cpu()
        self._client.tell(**command)
        figures = self._client.hear(seconds=patience)
        return figures | {"server_cpu": self.server.cpu() - server, "client_cpu": self.client.cpu() - client}
