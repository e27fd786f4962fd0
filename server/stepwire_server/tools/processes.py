"""Runs a program and streams what it writes: no shell, a group of its own that ends whole, bounded output.

On Linux the group ends with the server, also where that is killed: nobody else would hold it to its time limit. Not so
what a program puts into another group, and a program that closes descriptors which it did not open.
"""

from __future__ import annotations

import asyncio
import codecs
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import IO, Any

__all__ = ["Ended", "run_program"]

_PIECE = 64 * 1024
_GRACE = 1.0
"""Seconds between SIGTERM and SIGKILL, and for which an output is read that another process holds open."""

_RUNAWAY = 100
"""How many times its limit a program may write, unheard, before it is ended."""

_STDERR = 8 * 1024
"""Bytes of standard error that are kept: the last ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a program ended."""

    exit_code: int
    """Negative: the signal that ended it."""
    stdout: str
    """What it wrote, up to the limit."""
    stderr: str
    """The end of what it wrote to standard error."""
    truncated: bool
    """Whether it wrote more than the limit."""
    runaway: bool
    """Whether it was ended because it would not stop writing."""


async def run_program(
    argv: Sequence[str],
    *,
    directory: str,
    environment: Mapping[str, str],
    stdin: bytes,
    max_output: int,
    hear: Callable[[str], Awaitable[None]],
) -> Ended:
    """Runs a program to its end; `hear` gets the pieces of its standard output as they come. `max_output`: bytes of it
    that are kept; the rest is read and dropped. Where this is cancelled, the whole process group ends before it
    returns. Raises OSError where it can't be started.
    """
    with tempfile.TemporaryFile() as given, _tied() as (inherited, tie):
        given.write(stdin)
        given.seek(0)
        async with _pipe() as (output, output_end), _pipe() as (errors, errors_end):
            process = await asyncio.create_subprocess_exec(
                *argv,
                cwd=directory,
                env=dict(environment),
                stdin=given,
                stdout=output_end,
                stderr=errors_end,
                pass_fds=inherited,
                start_new_session=True,
            )
            tie(process.pid)
            output_end.close()
            errors_end.close()
            heard = _Heard(max_output, hear, on_runaway=lambda: _signal(process.pid, signal.SIGKILL))
            told = asyncio.ensure_future(_last(errors, _STDERR))
            readers: list[asyncio.Future[Any]] = [asyncio.ensure_future(heard.listen(output)), told]
            try:
                try:
                    await _wait(process, readers)
                finally:
                    # Also what it started and left behind: that would hold the pipes open.
                    await _end(process)
                await heard.drain(readers)
            finally:
                for reader in readers:
                    reader.cancel()
                await asyncio.gather(*readers, return_exceptions=True)
            _raise_first(readers)
    assert process.returncode is not None
    return Ended(
        exit_code=process.returncode,
        stdout=heard.text,
        stderr="" if told.cancelled() else told.result(),
        truncated=heard.truncated,
        runaway=heard.runaway,
    )


class _Heard:
    """What a program has written to its standard output."""

    def __init__(self, limit: int, hear: Callable[[str], Awaitable[None]], *, on_runaway: Callable[[], None]) -> None:
        self._limit = limit
        self._hear = hear
        self._on_runaway = on_runaway
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._pieces: list[str] = []
        self._size = 0
        self._telling = False
        self.runaway = False

    @property
    def text(self) -> str:
        return "".join(self._pieces)

    @property
    def truncated(self) -> bool:
        return self._size > self._limit

    async def listen(self, stream: asyncio.StreamReader) -> None:
        while piece := await stream.read(_PIECE):
            room = max(0, self._limit - self._size)
            self._size += len(piece)
            if room:
                await self._take(self._decoder.decode(piece[:room]))
                if self.truncated:
                    await self._take(f"\n[truncated: more than {self._limit:,} bytes]\n")
            if self._size > self._limit * _RUNAWAY and not self.runaway:
                self.runaway = True
                self._on_runaway()
        if not self.truncated:
            await self._take(self._decoder.decode(b"", final=True))

    async def drain(self, readers: Sequence[asyncio.Future[Any]]) -> None:
        """Waits for the rest of what an ended program has written: for the end of its pipes, or, where a process that
        left its group holds them, for silence.
        """
        before = -1
        while self._telling or self._size != before:
            before = self._size
            if not (await asyncio.wait(readers, timeout=_GRACE))[1]:
                return

    async def _take(self, text: str) -> None:
        if text:
            self._pieces.append(text)
            self._telling = True
            await self._hear(text)
            self._telling = False


async def _last(stream: asyncio.StreamReader, size: int) -> str:
    """Reads to the end, and returns the last bytes as text."""
    kept = b""
    while piece := await stream.read(_PIECE):
        kept = (kept + piece)[-size:]
    return kept.decode("utf-8", "replace")


@asynccontextmanager
async def _pipe() -> AsyncIterator[tuple[asyncio.StreamReader, IO[bytes]]]:
    """Gives a pipe's reader and its other end. asyncio's own pipes would make the wait for a process one for all that
    hold them.
    """
    reading, writing = os.pipe()
    loop = asyncio.get_running_loop()
    stream = asyncio.StreamReader(limit=_PIECE)
    with os.fdopen(writing, "wb", buffering=0) as end:
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(reading, "rb", buffering=0)
        )
        try:
            yield stream, end
        finally:
            transport.close()


@contextmanager
def _tied() -> Iterator[tuple[tuple[int, ...], Callable[[int], None]]]:
    """Gives descriptors for a program to inherit, and what ties its group to this process: the kernel kills the group
    when the other end of a pipe is closed, which only this process has, and which it loses however it ends.
    """
    if sys.platform != "linux":
        yield (), lambda group: None
        return
    import fcntl

    held, own = os.pipe()

    def tie(group: int) -> None:
        with suppress(ProcessLookupError):  # It has ended.
            fcntl.fcntl(held, fcntl.F_SETOWN, -group)
        fcntl.fcntl(held, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(held, fcntl.F_SETFL, os.O_ASYNC)

    try:
        yield (held,), tie
    finally:
        os.close(held)
        os.close(own)


async def _wait(process: asyncio.subprocess.Process, readers: Sequence[asyncio.Future[Any]]) -> None:
    """Waits for the process's end, or for a reader that fails: then nobody hears it any more."""
    ended = asyncio.ensure_future(process.wait())
    waiting: set[asyncio.Future[Any]] = {ended, *readers}
    try:
        while not ended.done():
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if any(task.exception() for task in done):
                return
    finally:
        ended.cancel()


async def _end(process: asyncio.subprocess.Process) -> None:
    """Ends the process and all of its group: asked first, killed after the grace, however often this is cancelled."""
    cancelled: asyncio.CancelledError | None = None
    if process.returncode is None:
        _signal(process.pid, signal.SIGTERM)
        try:
            async with asyncio.timeout(_GRACE):
                await process.wait()
        except TimeoutError:
            pass
        except asyncio.CancelledError as error:
            cancelled = error
    _signal(process.pid, signal.SIGKILL)
    try:
        await process.wait()
    except asyncio.CancelledError as error:
        cancelled = error
    if cancelled is not None:
        raise cancelled


def _signal(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _raise_first(readers: Sequence[asyncio.Future[Any]]) -> None:
    for reader in readers:
        if not reader.cancelled() and (error := reader.exception()) is not None:
            raise error
