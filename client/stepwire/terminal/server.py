"""The server that a command calls, and the exit codes that commands end with."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Iterator
from typing import NoReturn

from stepwire.client import Client
from stepwire.errors import ExecutionCancelled, ExecutionFailed, StepwireError, StreamBroken
from stepwire.patience import Patience
from stepwire.terminal.output import error_text
from stepwire.terminal.screen import say

__all__ = ["CANCELLED", "FAILED", "INTERRUPTED", "REFUSED", "Server"]

FAILED = 1
"""The execution failed."""
CANCELLED = 3
"""The execution was cancelled."""
REFUSED = 4
"""The server can't be reached, or refused."""
INTERRUPTED = 130
"""Ctrl-C. What runs on the server goes on."""

_PATIENCE = Patience(start_failures=4)
"""A person waits: say soon that there is no server."""


class Server:
    """Where the server is."""

    def __init__(self, target: str, *, given: bool) -> None:
        self.target = target
        self.given = given

    @contextlib.contextmanager
    def client(self, *, poll: bool = False, request_id: str = "") -> Iterator[Client]:
        """A client whose errors end the command with a clear text. `request_id` is that of the work it starts."""
        try:
            with Client(self.target, patience=_PATIENCE, delivery="poll" if poll else "auto") as client:
                yield client
        except ExecutionFailed:
            sys.exit(FAILED)
        except ExecutionCancelled:
            sys.exit(CANCELLED)
        except StreamBroken as error:
            hint = self.command("watch", error.execution_id, "--after", str(error.sequence))
            _refuse(f"{error}\n  The execution may go on. Watch it again: {hint}" if error.execution_id else str(error))
        except StepwireError as error:
            _refuse(error_text(error, server=self.target, request_id=request_id))
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)

    def command(self, *words: str) -> str:
        """Returns a command line for this server."""
        server = ["--server", self.target] if self.given else []
        return shlex.join(["stepwire", *server, *words])


def _refuse(text: str) -> NoReturn:
    say(f"stepwire: {text}", err=True)
    sys.exit(REFUSED)
