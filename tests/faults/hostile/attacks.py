"""A server of its own, an honest caller, and one attack at a time: what this gets, and what the honest one sees."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import grpc
from tests.e2e.serving import REPOSITORY, ServerProcess
from tests.server.api.bad_inputs import BadInput, Known, known_things
from tests.server.api.shop import Caller, chatter

from stepwire.v1 import Load

from .honest import Honest, Timings

__all__ = ["BODY_TIMEOUT", "Arena", "Result"]

BODY_TIMEOUT = 1.0
"""Seconds that the server waits for a body."""

_FLAGS = ("--body-timeout", str(BODY_TIMEOUT), "--keep-executions", "1000", "--durability", "process")


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A row of the table."""

    name: str
    got: str
    """What the attack was answered."""
    sent: int
    honest: Timings
    before: float
    """MiB that the server had, and after."""
    peak: float
    after: float

    def row(self) -> str:
        """Returns it as Markdown."""
        honest = self.honest
        cells = (
            self.name,
            self.got.replace("|", "\\|"),
            f"{self.sent:,}",
            honest.shown(honest.asked),
            honest.shown(honest.executed),
            f"{len(honest.executed):,}, {len(honest.failed)} failed",
            f"{self.before:.0f} / {self.peak:.0f} / {self.after:.0f}",
        )
        return f"| {' | '.join(cells)} |"

    @staticmethod
    def head() -> str:
        """Returns the table's first lines."""
        cells = (
            "input",
            "what it got",
            "sent",
            "GetServerInfo p50 / p99, ms",
            "Execute p50 / p99, ms",
            "Executes",
            "server MiB before / most / after",
        )
        return f"| {' | '.join(cells)} |\n|{'---|' * len(cells)}"


class Arena:
    """The server, the honest caller and what there is to be wrong about.

    async with Arena(folder) as arena:
        result = await arena.flood("pings", executes=100, seconds=1)
    """

    def __init__(self, folder: Path, *, flags: Sequence[str] = ()) -> None:
        self.server = ServerProcess(
            folder, app="tests.faults.apps.attacked:app", cwd=REPOSITORY, flags=[*_FLAGS, *flags]
        )

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self.server.start)
        try:
            self.honest = Honest(self.server.address)
            self.caller = Caller(self.server.address)
            self.known: Known = await known_things(self.caller)
            self.long = (await self.caller.run(chatter(2_000, size=10_000))).execution_id
        except BaseException:
            self.server.kill()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            await self.caller.close()
            await self.honest.close()
        finally:
            self.server.kill()

    def memory(self, name: str = "VmRSS") -> float:
        """Returns how many MiB of memory the server has now; with VmHWM how many it had at most."""
        status = Path(f"/proc/{self.server.process.pid}/status").read_text("ascii")
        [line] = [line for line in status.splitlines() if line.startswith(name + ":")]
        return int(line.split()[1]) / 1024

    async def load(self) -> Load:
        """Returns what the server says that it does."""
        return (await self.honest.info()).load

    async def try_to_ask(self) -> grpc.aio.AioRpcError | None:
        """Asks the server how it is; returns how it refused, None where it did not."""
        try:
            await self.honest.info()
        except grpc.aio.AioRpcError as error:
            return error
        return None

    async def quiet(self, *, seconds: float = 25.0) -> Load:
        """Returns once nothing of an attack is left: no stream, no call without its request. Fails after so long."""
        async with asyncio.timeout(seconds):
            while await self.try_to_ask() is not None:  # noqa: ASYNC110 - another process is waited for
                await asyncio.sleep(0)
            while (load := await self.load()).open_streams or load.half_open_calls or load.running_calls > 1:  # noqa: ASYNC110 - another process is waited for
                await asyncio.sleep(load.open_streams / 10_000)
        return load

    async def attack(
        self, name: str, attack: Callable[[], Awaitable[str]], *, executes: int, seconds: float = 0.0, sent: int = 1
    ) -> Result:
        """Makes an attack while the honest caller works."""
        before = self._mark()
        working = asyncio.create_task(self.honest.work(executes=executes, seconds=seconds))
        try:
            got = await attack()
        finally:
            honest = await working
        await self.quiet()
        peak, after = self.memory("VmHWM"), self.memory()
        return Result(name=name, got=got, sent=sent, honest=honest, before=before, peak=peak, after=after)

    async def bad_input(self, bad: BadInput) -> str:
        """Sends one of the bad inputs, and says how it was refused."""
        refused = await self.caller.refused(
            bad.method, bad.request(self.known), metadata=bad.metadata, compression=bad.compression
        )
        assert refused.code in (bad.code, bad.sometimes), (bad.name, refused)
        return f"{refused.code.name} {refused.error.reason or 'of the transport'}"

    async def flood(self, name: str, *, executes: int, seconds: float, at_once: int = 2) -> Result:
        """Lets a flood run while the honest caller works."""
        before = self._mark()
        async with self.flooded(name) as told:
            honest = await self.honest.work(executes=executes, seconds=seconds, at_once=at_once)
        await self.quiet()
        report = json.loads(told[0])
        said = [f"{what}: {count:,}" for what, count in sorted(report["said"].items())]
        return Result(
            name=name,
            got=f"{report['connections']:,} connections; {', '.join(said) or 'nothing'}",
            sent=report["sent"],
            honest=honest,
            before=before,
            peak=self.memory("VmHWM"),
            after=self.memory(),
        )

    def _mark(self) -> float:
        # 5: forget the most that it ever had.
        with contextlib.suppress(OSError):
            Path(f"/proc/{self.server.process.pid}/clear_refs").write_text("5", "ascii")
        return self.memory()

    @contextlib.asynccontextmanager
    async def flooded(self, name: str) -> AsyncIterator[list[str]]:
        """Lets a flood run while it lasts; afterwards the list has what it reports, as JSON."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.faults.hostile.floods",
            name,
            self.server.address,
            self.long,
            cwd=REPOSITORY,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        told: list[str] = []
        try:
            yield told
            async with asyncio.timeout(30):
                output, _ = await process.communicate(b"")
            told.append(output.decode())
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
