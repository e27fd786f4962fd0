"""Readers of every speed, in a process of their own: what they do to a server must not come from sharing a process.

    with ReadersProcess("stalled", address, execution_id) as readers:
        readers.begun()                  # every stream has its first message
        ...
        reports = readers.stop()         # what each has got

Raw gRPC calls, with the channel arguments of our clients: without bandwidth probing an idle stream takes in some
64 KiB, and then flow control holds the server back.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import random
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass, field
from typing import Literal, Self

import grpc.aio
from tests.e2e.serving import PATIENCE, REPOSITORY, Lines

from stepwire.requests import METHODS
from stepwire.transport import channel_options
from stepwire.v1 import Event, EventBatch, WatchExecutionRequest

from .gauges import percentile

__all__ = ["KINDS", "Kind", "ReadersProcess", "Report"]

Kind = Literal["fast", "slow", "stalled", "brisk", "sluggish", "leaving"]
KINDS: dict[Kind, str] = {
    "fast": "reads on at once",
    "brisk": "pauses up to 50 ms after each message",
    "sluggish": "pauses up to a second after each message",
    "slow": "an event a second: after each message as many seconds as it has events",
    "stalled": "reads nothing after its first message",
    "leaving": "ends its call after some messages",
}


@dataclass(kw_only=True)
class Report:
    """What one reader got."""

    kind: str
    last: int = 0
    """The last event."""
    messages: int = 0
    ended: bool = False
    """Whether it has the terminal event, and the stream ended OK after it."""
    digest: str = ""
    """SHA-256 of the bytes of all its events, one after the other."""
    wrong: list[str] = field(default_factory=list)
    """What was not as it should be."""
    count_bytes: int = 0
    latencies: dict[str, float] = field(default_factory=dict)
    """Seconds from an event's time to its arrival, where asked for: p50, p99, max."""


_BEFORE = 2
"""Events that were there before the readers came."""


class ReadersProcess:
    """Some readers of one execution, in a process of their own."""

    def __init__(
        self, kinds: str, address: str, execution_id: str, *, seed: int = 0, timed: bool = False, apart: bool = False
    ) -> None:
        """`kinds`: their kinds, with commas between. `timed`: measure latencies, and look into each event. `apart`:
        each has a connection of its own.
        """
        arguments = ["--kinds", kinds, "--address", address, "--execution", execution_id, "--seed", str(seed)]
        arguments += ["--timed"] * timed + ["--apart"] * apart
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.slow_readers", *arguments],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._lines = Lines(self.process.stdout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def begun(self) -> None:
        """Returns when every stream has its first message."""
        assert self._line() == "begun"

    def stop(self, *, seconds: float = 3 * PATIENCE) -> list[Report]:
        """Ends those that still read, and returns what each has got."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.reports(seconds=seconds)

    def reports(self, *, seconds: float = 3 * PATIENCE) -> list[Report]:
        """Returns what each has got, once all have ended, or were stopped."""
        return [Report(**report) for report in json.loads(self._line(seconds))]

    def kill(self) -> None:
        """Ends the process with SIGKILL, if it runs."""
        self.process.kill()
        self.process.wait()
        self._lines.close()
        assert self.process.stdin is not None
        self.process.stdin.close()

    def _line(self, seconds: float = 3 * PATIENCE) -> str:
        line = self._lines.get(seconds=seconds)
        assert line is not None, "the readers' process ended"
        return line[1]


class _Reader:
    def __init__(self, kind: Kind, chance: random.Random, *, timed: bool) -> None:
        self.report = Report(kind=kind)
        self.begun = asyncio.Event()
        self._chance = chance
        self._digest = hashlib.sha256()
        self._timed = timed
        self._times: list[float] = []

    async def read(self, channel: grpc.aio.Channel, execution_id: str) -> None:
        asked = WatchExecutionRequest(execution_id=execution_id)
        call = channel.unary_stream(METHODS["WatchExecution"].path)(asked.SerializeToString())
        report = self.report
        most = self._chance.randint(1, 20)
        try:
            while (data := await call.read()) is not grpc.aio.EOF:
                self._take(data)
                self.begun.set()
                if report.kind == "leaving" and report.messages == most:
                    return
                await self._pause()
            if not report.ended:
                report.wrong.append("ended OK without a terminal event")
        except grpc.aio.AioRpcError as error:
            report.ended = False
            report.wrong.append(f"{error.code().name}: {error.details()}")
        finally:
            call.cancel()
            report.digest = self._digest.hexdigest()
            if self._times:
                shares = {"p50": 0.5, "p99": 0.99, "max": 1.0}
                report.latencies = {name: percentile(self._times, share) for name, share in shares.items()}

    def _take(self, data: bytes) -> None:
        now = time.time_ns()
        report, batch = self.report, EventBatch.FromString(data)
        report.messages += 1
        if batch.after_sequence != report.last:
            report.wrong.append(f"a message covers from {batch.after_sequence}, and {report.last} was the last")
        if len(batch.events) != batch.sequence - batch.after_sequence:
            report.wrong.append(f"({batch.after_sequence}, {batch.sequence}] has {len(batch.events)} events")
        self._latest = batch
        if batch.events:
            # The frames come first in a message, then what it covers: so their bytes need not be picked out one by one.
            rest = EventBatch(after_sequence=batch.after_sequence, sequence=batch.sequence).SerializeToString()
            assert data.endswith(rest), "a message is no longer its frames and then its range"
            self._digest.update(data[: -len(rest)])
            report.count_bytes += len(data) - len(rest)
            report.ended = _is_terminal(batch.events[-1])
        if self._timed:
            for sequence, event in enumerate(batch.events, report.last + 1):
                if event.sequence != sequence:
                    report.wrong.append(f"event {event.sequence} where {sequence} was due")
                if sequence > _BEFORE:
                    self._times.append((now - event.event_time.ToNanoseconds()) / 1e9)
        report.last = batch.sequence

    async def _pause(self) -> None:
        match self.report.kind:
            case "brisk":
                await asyncio.sleep(self._chance.random() * 0.05)
            case "sluggish":
                await asyncio.sleep(self._chance.random())
            case "slow":
                await asyncio.sleep(len(self._latest.events))
            case "stalled":
                await asyncio.Event().wait()


def _is_terminal(event: Event) -> bool:
    return event.WhichOneof("kind") in ("plan_completed", "plan_failed", "plan_cancelled")


async def _read_all(kinds: list[Kind], address: str, execution_id: str, *, seed: int, timed: bool, apart: bool) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def listen() -> None:
        sys.stdin.read()
        loop.call_soon_threadsafe(stop.set)

    threading.Thread(target=listen, daemon=True).start()
    readers = [_Reader(kind, random.Random(f"{seed}/{number}"), timed=timed) for number, kind in enumerate(kinds)]
    shared = grpc.aio.insecure_channel(address, options=channel_options(()))
    channels = [grpc.aio.insecure_channel(address, options=channel_options(())) if apart else shared for _ in readers]
    tasks = [
        asyncio.create_task(reader.read(channel, execution_id))
        for reader, channel in zip(readers, channels, strict=True)
    ]
    for reader in readers:
        await reader.begun.wait()
    print("begun", flush=True)
    stopping = asyncio.create_task(stop.wait())
    reading = asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.wait({stopping, reading}, return_when=asyncio.FIRST_COMPLETED)
    # The server has said all when the last of it is still on its way to those who read on.
    reading_on = [task for task, kind in zip(tasks, kinds, strict=True) if kind in ("fast", "brisk")]
    if reading_on:
        await asyncio.wait(reading_on, timeout=PATIENCE)
    for task in tasks:
        task.cancel()
    failures = [result for result in await reading if isinstance(result, Exception)]
    assert not failures, failures
    print(json.dumps([asdict(reader.report) for reader in readers]), flush=True)
    for channel in {*channels, shared}:
        await channel.close()
    stopping.cancel()


def main() -> None:
    """Reads, until all have read to the end or standard input is closed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kinds", required=True)
    parser.add_argument("--address", required=True)
    parser.add_argument("--execution", required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--timed", action="store_true")
    parser.add_argument("--apart", action="store_true")
    options = parser.parse_args()
    asyncio.run(
        _read_all(
            options.kinds.split(","),
            options.address,
            options.execution,
            seed=options.seed,
            timed=options.timed,
            apart=options.apart,
        )
    )


if __name__ == "__main__":
    main()
