"""Three readers of one execution, as anybody would write them: both clients, and a raw stream with the same channel.

    readers = Readers(address, history)
    reading = asyncio.create_task(readers.read(execution_id))
    await readers.have_events()             # each of them has some
    struck = time.monotonic()
    ...
    await readers.have_events(since=struck)
    print(readers.next_event(struck))

Nothing is set but what the test says: how soon they notice that the server is gone, and how they come back, is what
their defaults give. In a process of its own (`ReaderProcess`) they can be killed, frozen, or put into another network.

    python -m tests.faults.readers --address HOST:PORT --execution ID --into FILE
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import grpc.aio
from tests.e2e.serving import PATIENCE, REPOSITORY, Lines

import stepwire
import stepwire.aio
from stepwire.errors import ExecutionEnded, StepwireError
from stepwire.transport import ChannelOption, channel_options, error_from_call
from stepwire.v1 import EventBatch, Plan, WatchExecutionRequest
from stepwire_server import plan_step

from .checkers import check, events_of
from .history import History, Kept, Reading, Reply, Stream, dump
from .kill_loop import Gauged

__all__ = [
    "KINDS",
    "ReaderProcess",
    "Readers",
    "asked",
    "being_read",
    "cancel",
    "judge",
    "kept",
    "pace",
    "sockets",
    "ticking",
    "told",
]

KINDS = ("aio", "sync", "raw")

_QUICK = 0.2
"""Seconds between heartbeats in a short run."""

_IMPATIENT = (("grpc.keepalive_time_ms", 1_000), ("grpc.http2.ping_timeout_ms", 500))
"""The raw stream's channel in a short run: nothing else tells it that the line is dead."""

_GLANCE = 0.01
"""Seconds between two looks at whether a client has noticed something."""

_WATCH = "/stepwire.v1.ExecutionService/WatchExecution"


class Readers:
    """What they see goes into the history.

    `heartbeat` and `timeout`, in seconds, are for the clients, `options` are for the raw stream's channel.
    """

    def __init__(
        self,
        address: str,
        history: History,
        *,
        kinds: Sequence[str] = KINDS,
        heartbeat: float | None = None,
        timeout: float = 10.0,
        options: Iterable[ChannelOption] = (),
    ) -> None:
        self.history = history
        self.noticed: dict[str, list[float]] = {kind: [] for kind in kinds}
        """When each lost its stream, as it told itself, by time.monotonic."""
        self.drained: dict[str, int] = dict.fromkeys(kinds, 0)
        """How often each was told that the server is going."""
        self.times: dict[str, list[float]] = {kind: [] for kind in kinds}
        """When each was given its events."""
        self._address = address
        self._heartbeat = heartbeat
        self._timeout = timeout
        self._options = list(options)

    async def read(self, execution_id: str) -> None:
        """Returns when all of them have come to the end."""
        async with asyncio.TaskGroup() as group:
            for kind in self.times:
                group.create_task(getattr(self, f"_read_{kind}")(execution_id))

    async def have_events(self, *, since: float = 0.0, count: int = 1, seconds: float = 60.0) -> None:
        """Returns once each has been given so many events since then."""

        def all_have() -> bool:
            return all(sum(at > since for at in times) >= count for times in self.times.values())

        await self._wait(all_have, f"{count} events for each since then", seconds)

    async def have_noticed(self, *, since: float, seconds: float = 60.0) -> None:
        """Returns once each has lost a stream since then."""
        await self._wait(
            lambda: all(any(at > since for at in times) for times in self.noticed.values()), "noticing", seconds
        )

    def first_noticed(self, since: float) -> dict[str, float]:
        """Returns after how many seconds each noticed that its stream was lost."""
        return {kind: min(at for at in times if at > since) - since for kind, times in self.noticed.items()}

    def next_event(self, since: float) -> dict[str, float]:
        """Returns after how many seconds each was given its next event."""
        return {kind: min(at for at in times if at > since) - since for kind, times in self.times.items()}

    async def _wait(self, condition: Any, what: str, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                while not condition():  # noqa: ASYNC110 - threads and other processes are waited for
                    await asyncio.sleep(_GLANCE)
        except TimeoutError:
            has = {kind: len(times) for kind, times in self.times.items()}
            raise AssertionError(f"{what}: not within {seconds:g} s; events {has}, noticed {self.noticed}") from None

    def _reading(self, kind: str, execution_id: str) -> Reading:
        reading = Reading(reader=kind, execution_id=execution_id, after=0)
        self.history.readings.append(reading)
        return reading

    def _take(self, reading: Reading, event: Any) -> None:
        now = time.monotonic()
        reading.events.append(event.SerializeToString())
        reading.times.append(now)
        self.times[reading.reader].append(now)

    async def _look(self, kind: str, run: Any) -> None:
        """Notes each outage that the run tells of."""
        last = 0.0
        while True:
            outage = run.outage
            if outage is not None and outage.since != last:
                last = outage.since
                self.noticed[kind].append(last)
                self.drained[kind] += outage.draining
            await asyncio.sleep(_GLANCE)

    async def _read_aio(self, execution_id: str) -> None:
        reading = self._reading("aio", execution_id)
        async with stepwire.aio.Client(self._address, timeout=self._timeout) as client:
            run = await client.watch(execution_id, heartbeat_interval=self._heartbeat)
            looking = asyncio.create_task(self._look("aio", run))
            try:
                async for event in run:
                    self._take(reading, event)
            except StepwireError as error:
                reading.error = repr(error)
            finally:
                looking.cancel()

    async def _read_sync(self, execution_id: str) -> None:
        reading = self._reading("sync", execution_id)
        with stepwire.Client(self._address, timeout=self._timeout) as client:

            def read(run: Any) -> None:
                try:
                    for event in run:
                        self._take(reading, event)
                except StepwireError as error:
                    reading.error = repr(error)

            with ThreadPoolExecutor(1) as pool:
                loop = asyncio.get_running_loop()
                run = await loop.run_in_executor(
                    pool, lambda: client.watch(execution_id, heartbeat_interval=self._heartbeat)
                )
                looking = asyncio.create_task(self._look("sync", run))
                try:
                    await loop.run_in_executor(pool, read, run)
                finally:
                    looking.cancel()
                    run.close()

    async def _read_raw(self, execution_id: str) -> None:
        """A stream without a client: it is lost when gRPC says so, and nothing watches over its silence."""
        chance = random.Random(execution_id)
        async with grpc.aio.insecure_channel(self._address, options=channel_options(self._options)) as channel:
            after = 0
            while True:
                stream = self.history.open("raw", execution_id, after=after)
                asked = WatchExecutionRequest(execution_id=execution_id, after_sequence=after)
                call = channel.unary_stream(_WATCH)(asked.SerializeToString())
                try:
                    async for data in call:
                        self._take_raw(stream, data)
                    stream.end("OK")
                except grpc.aio.AioRpcError as error:
                    stream.end(error.code().name, str(error_from_call(error).reason or ""))
                if stream.messages:
                    after = stream.messages[-1].sequence
                    if stream.status == "OK" and stream.messages[-1].notice != EventBatch.NOTICE_DRAINING:
                        return
                    self.noticed["raw"].append(stream.ended)
                await asyncio.sleep(chance.random() * 0.2)

    def _take_raw(self, stream: Stream, data: bytes) -> None:
        message = stream.take(data)
        self.drained["raw"] += message.notice == EventBatch.NOTICE_DRAINING
        self.times["raw"] += [message.at] * len(message.frames)


class ReaderProcess:
    """Readers in a process of their own. `into` gets what they saw, once they have come to the end."""

    def __init__(
        self,
        address: str,
        execution_id: str,
        into: Path,
        *,
        kinds: Sequence[str] = KINDS,
        heartbeat: float | None = None,
        timeout: float = 10.0,
        options: Iterable[ChannelOption] = (),
    ) -> None:
        self._into = into
        arguments = ["--address", address, "--execution", execution_id, "--into", str(into), "--timeout", str(timeout)]
        arguments += ["--kinds", *kinds, "--options", json.dumps(list(options))]
        if heartbeat is not None:
            arguments += ["--heartbeat", str(heartbeat)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.readers", *arguments],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            text=True,
            env={key: value for key, value in os.environ.items() if not key.startswith("STEPWIRE_")},
        )
        self._lines = Lines(self.process.stdout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait(PATIENCE)
        self._lines.close()

    async def have_events(self, *, since: float, seconds: float = 60.0) -> None:
        """Returns once each has been given an event since then, by time.monotonic, which all processes share."""
        told = 0.0
        while told <= since:
            line = await asyncio.to_thread(self._lines.get, seconds=seconds)
            assert line is not None, "the readers have ended"
            told = float(line[1])

    async def finish(self, history: History, *, seconds: float = PATIENCE) -> Readers:
        """Waits for the end. What they saw comes into this history; returns them as they were then."""
        assert await asyncio.to_thread(self.process.wait, seconds) == 0
        readers = Readers("", history, kinds=[])
        seen, readers.noticed, readers.drained, readers.times = pickle.loads(self._into.read_bytes())
        history.streams += seen.streams
        history.readings += seen.readings
        return readers


def pace(long: bool) -> dict[str, Any]:
    """Returns how readers are set: in a long run, with all their defaults; in a short one they notice in 1.5 s."""
    return {} if long else {"heartbeat": _QUICK, "timeout": 1.0, "options": _IMPATIENT}


async def ticking(address: str) -> str:
    """Starts an execution that reports 20 times a second until it is cancelled; returns its id."""
    async with stepwire.aio.Client(address) as client:
        step = plan_step("a", "work", input={"pieces": 1_000_000, "pause": 0.05})
        return (await client.start(plan=Plan(steps=[step]))).execution_id


async def cancel(address: str, execution_id: str, history: History) -> None:
    """Ends it where it has not ended, and notes that somebody asked for that."""
    async with stepwire.aio.Client(address) as client:
        with contextlib.suppress(ExecutionEnded), asked(history, execution_id):
            await client.cancel(execution_id)
        await client.wait(execution_id, timeout=20)


@contextlib.contextmanager
def asked(history: History, execution_id: str) -> Iterator[None]:
    """Notes that a cancel is asked for meanwhile, and answered."""
    reply = Reply(method="CancelExecution", sent=time.monotonic(), at=0, status="", execution_id=execution_id)
    history.replies.append(reply)
    try:
        yield
    except ExecutionEnded:
        reply.at, reply.status = time.monotonic(), "FAILED_PRECONDITION"
        raise
    reply.at, reply.status = time.monotonic(), "OK"


async def kept(server: Gauged, folder: Path, execution_id: str) -> dict[str, Kept]:
    """Returns what the journal of a server that runs holds of an execution."""
    copy = await asyncio.to_thread(_copied, server, folder)
    return {execution_id: (await dump(copy))[execution_id]}


def _copied(server: Gauged, folder: Path) -> Path:
    """Copies a journal's files in one moment, as a crash would leave them; returns the copy's path."""
    folder.mkdir()
    server.process.send_signal(signal.SIGSTOP)
    try:
        for suffix in ("", "-wal"):
            file = server.journal.with_name(server.journal.name + suffix)
            if file.exists():
                shutil.copy(file, folder)
    finally:
        server.process.send_signal(signal.SIGCONT)
    return folder / server.journal.name


def sockets(pid: int) -> int:
    """Returns how many sockets a process holds: each connection is one."""
    found = 0
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            found += os.readlink(f"/proc/{pid}/fd/{name}").startswith("socket:")
    return found


def told(seconds: dict[str, float]) -> str:
    """Returns figures in words."""
    return ", ".join(f"{kind} {value:.1f} s" for kind, value in seconds.items())


@contextlib.asynccontextmanager
async def being_read(readers: Readers, server: Gauged, folder: Path, execution_id: str) -> AsyncIterator[None]:
    """Readers read meanwhile. Then the execution is cancelled, they read to the end, and all they saw is judged."""
    reading = asyncio.create_task(readers.read(execution_id))
    try:
        await readers.have_events(count=3)
        yield
        await cancel(server.address, execution_id, readers.history)
        async with asyncio.timeout(60):
            await reading
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    readers.history.journal = await kept(server, folder / "copy", execution_id)
    judge(readers.history, execution_id)


def judge(history: History, execution_id: str) -> None:
    """Fails where a promise is broken, or where a reader was not given everything."""
    violations = check(history)
    assert not violations, violations
    events = events_of(history.journal[execution_id])
    assert [reading.error for reading in history.readings] == [""] * len(history.readings)
    for reading in history.readings:
        assert len(reading.events) == len(events), reading.reader
    raw = sum(len(message.frames) for stream in history.streams for message in stream.messages)
    assert raw == len(events) or not history.streams


async def _run(arguments: argparse.Namespace) -> None:
    readers = Readers(
        arguments.address,
        History(),
        kinds=arguments.kinds,
        heartbeat=arguments.heartbeat,
        timeout=arguments.timeout,
        options=[(name, value) for name, value in arguments.options],
    )
    telling = asyncio.create_task(_tell(readers))
    await readers.read(arguments.execution)
    telling.cancel()
    seen = (readers.history, readers.noticed, readers.drained, readers.times)
    arguments.into.write_bytes(pickle.dumps(seen))


async def _tell(readers: Readers) -> None:
    """Prints, again and again, a time since which all have been given something."""
    while True:
        before = time.monotonic()
        await readers.have_events(since=before, seconds=3600)
        print(before, flush=True)


def main() -> None:
    """Reads to the end."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--address", required=True)
    parser.add_argument("--execution", required=True)
    parser.add_argument("--into", type=Path, required=True)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--heartbeat", type=float)
    parser.add_argument("--timeout", type=float, default=10.0)
    parser.add_argument("--options", type=json.loads, default=[])
    asyncio.run(_run(parser.parse_args()))


if __name__ == "__main__":
    main()
