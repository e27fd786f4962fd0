"""One case, tried with one client: the adapter's process, the server's script, and what is wrong."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .case import Case
from .checks import Seen, check_calls, check_seen
from .clients import Client
from .server import ScriptedServer

__all__ = ["Adapter", "Result", "try_case"]

_LINE = 16 << 20  # bytes of a line of an adapter, at most
_SETTLE = 2.0  # seconds until the server has seen that a process is gone


@dataclass(frozen=True, kw_only=True)
class Result:
    """What came of a case with a client."""

    case: str
    client: str
    seconds: float
    wrong: Sequence[str]
    """What was expected and not seen. Empty: it passed."""
    errors: str
    """What the adapter wrote to standard error."""
    exit_code: int | None
    """None: it had to be killed."""

    @property
    def passed(self) -> bool:
        return not self.wrong


class Adapter:
    """A client's adapter, as a process: it gets one command, and its lines are read as they come.

    async with Adapter(client.run, folder, environment=client.environment) as adapter:
        await adapter.send(command)
        async for name, value in adapter.lines():
            ...
    """

    def __init__(self, command: Sequence[str], folder: Path, *, environment: Mapping[str, str]) -> None:
        self._command = command
        self._folder = folder
        self._environment = {**os.environ, **environment}
        self.errors = folder / "stderr.txt"
        """Where its standard error is."""

    async def __aenter__(self) -> Adapter:
        self._folder.mkdir(parents=True, exist_ok=True)
        with self.errors.open("wb") as errors:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                cwd=self._folder,
                env=self._environment,
                limit=_LINE,
            )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()

    async def send(self, command: Mapping[str, Any]) -> None:
        """Gives it its command."""
        assert self._process.stdin is not None
        with contextlib.suppress(ConnectionError):
            self._process.stdin.write(json.dumps(command).encode() + b"\n")
            await self._process.stdin.drain()
            self._process.stdin.close()

    async def lines(self) -> AsyncIterator[tuple[str, Any]]:
        """Gives the name and the value of every line, to the end. A line that is none has the name ""."""
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            try:
                [(name, value)] = json.loads(line).items()
            except (ValueError, AttributeError):
                name, value = "", line.decode(errors="replace").rstrip()
            yield name, value

    async def wait(self) -> int:
        """Returns its exit code."""
        return await self._process.wait()


async def try_case(case: Case, client: Client, folder: Path) -> Result:
    """Tries a case with a client, in a folder of its own."""
    began = time.monotonic()
    seen = Seen()
    exit_code: int | None = None
    wrong: list[str] = []
    async with ScriptedServer(case.calls) as server:
        async with Adapter(client.run, folder, environment=client.environment) as adapter:
            try:
                async with asyncio.timeout(case.seconds):
                    await adapter.send({**case.command, "target": server.target})
                    async for name, value in adapter.lines():
                        seen.take(name, value)
                        if name == "event":
                            await server.show(value.get("sequence"))
                    exit_code = await adapter.wait()
            except TimeoutError:
                wrong.append(f"it did not end within {case.seconds:g} s")
        await server.settle(_SETTLE)
        wrong += [*check_seen(case, seen), *check_calls(case, server.calls)]
    if exit_code:
        wrong.insert(0, f"the adapter ended with exit code {exit_code}")
    return Result(
        case=case.name,
        client=client.name,
        seconds=time.monotonic() - began,
        wrong=wrong,
        errors=adapter.errors.read_text(errors="replace"),
        exit_code=exit_code,
    )
