"""What a person sees who runs a plan, answers its question and cancels it: a real server, the real command, a terminal.

python -m tests.e2e.recorded_session          prints the screen as it was at some moments
"""

from __future__ import annotations

import re
import sys
import tempfile
import time
from pathlib import Path

import pyte

from .serving import PATIENCE, ServerProcess, command
from .test_terminal import Terminal

__all__ = ["record"]

_COLUMNS, _ROWS = 100, 30

_PACE = "1.5"
"""Seconds that a piece of the app's work takes: long enough that the terminal shows each."""


class _Recorder:
    """Reads a terminal, and keeps its screen as a person would see it."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._screen = pyte.Screen(_COLUMNS, _ROWS)
        self._stream = pyte.Stream(self._screen)
        self._fed = 0
        self.moments: list[tuple[str, str]] = []

    def wait(self, *patterns: str) -> str:
        """Returns the screen once it has all of these at a time."""
        deadline = time.monotonic() + PATIENCE
        while not all(re.search(pattern, self._text()) for pattern in patterns):
            assert self._terminal.process.poll() is None, f"it has ended:\n{self._text()}"
            assert time.monotonic() < deadline, f"{patterns} did not come:\n{self._text()}"
            self._terminal.listen(0.05)
        return self._text()

    def keep(self, what: str, *patterns: str) -> None:
        """Keeps the screen as it is once it has these."""
        self.moments.append((what, self.wait(*patterns)))

    def end(self, what: str) -> int:
        """Keeps the last screen, and returns the exit code."""
        code = self._terminal.end()
        self.moments.append((what, self._text()))
        return code

    def _text(self) -> str:
        self._stream.feed(self._terminal.text[self._fed :])
        self._fed = len(self._terminal.text)
        return "\n".join(line.rstrip() for line in self._screen.display).strip("\n")


def record() -> list[tuple[str, str]]:
    """Returns some moments of a session: what happens, and what the screen shows then."""
    with (
        tempfile.TemporaryDirectory(prefix="stepwire-session-") as folder,
        ServerProcess(Path(folder), app="orders:app", environment={"ORDERS_PACE": _PACE}) as server,
        Terminal(command("stepwire"), "--server", server.address, "run", "--call", "evening") as terminal,
    ):
        seen = _Recorder(terminal)
        seen.keep("Files are counted", r"Download .* [12]\d of 40 files")
        seen.keep("Three deep", "Streets .*Looking", "Towns .*Looking")
        seen.keep("An attempt fails", r"tries again", r"62% 0:00:\d\d$")
        seen.keep("Another one begins anew", r"attempt 2", "Towns .*Looking")
        seen.keep("A question", "1 to 2: *$")
        terminal.type(b"yes\r")
        seen.keep("Nobody knows how long the bank takes", "Challenge", "Waiting for the bank")
        terminal.type(b"\x03")
        seen.keep("Ctrl-C", r"Interrupted\. .*: *$")
        terminal.type(b"c\r")
        code = seen.end("Cancelled")
        assert code == 3, f"exit code {code}:\n{seen.moments[-1][1]}"
    return seen.moments


def main() -> int:
    for what, screen in record():
        print(f"-- {what} {'-' * (_COLUMNS - len(what) - 4)}\n\n{screen}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
