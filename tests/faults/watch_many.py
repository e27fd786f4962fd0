"""Many executions that are started at once: what does one watch of all cost the server, against a watch of each?

    python -m tests.faults.watch_many --executions 500 --events 60 --rate 3

Each run has a server of its own: one without a watcher, one with a single stream of all executions, one with a stream
of each. The difference to the first is what watching costs.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import grpc.aio
from tests.e2e.serving import PATIENCE, ServerProcess

import stepwire.aio
from stepwire.events import is_terminal
from stepwire.requests import METHODS
from stepwire.transport import channel_options
from stepwire.v1 import EventBatch, ExecutionFilter, WatchExecutionRequest, WatchExecutionsRequest

from .gauges import Gauge, markdown, mebibytes
from .kill_loop import APPS

__all__ = ["Outcome", "run", "table"]

Watching = Literal["none", "one", "each"]
SESSION = "many"


@dataclass(kw_only=True)
class Outcome:
    """What one run showed."""

    watching: Watching
    seconds: float = 0.0
    processor: float = 0.0
    """Seconds of the server's processor time, from the first start to the last end."""
    resident: int = 0
    """Bytes by which the server's memory grew at most."""
    messages: int = 0
    events: int = 0
    lost: int = 0
    repeated: int = 0
    sequences: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))

    def take(self, batch: EventBatch) -> int:
        """Takes a message. Returns how many ends it had."""
        self.messages += 1
        for event in batch.events:
            self.sequences[event.execution_id].append(event.sequence)
        return sum(map(is_terminal, batch.events))


async def run(folder: Path, watching: Watching, *, executions: int, events: int, rate: float) -> Outcome:
    """Starts so many executions at once, each with so many events at so many a second, and watches them to the end."""
    outcome = Outcome(watching=watching)
    with ServerProcess(folder, app="faulty:app", cwd=APPS) as server:
        gauge = Gauge(server.process.pid)
        before, used = gauge.sample(), _processor(server.process.pid)
        began = time.monotonic()
        channel = grpc.aio.insecure_channel(server.address, options=channel_options(()))
        async with stepwire.aio.Client(server.address, timeout=PATIENCE) as client, channel:
            with gauge.peak(every=0.05) as most:
                readers = []
                if watching == "one":
                    begun = asyncio.Event()
                    readers = [asyncio.create_task(_watch_all(channel, outcome, executions, begun))]
                    await begun.wait()
                plan = {"steps": [{"id": "a", "operation": "talk", "input": {"pieces": events, "pause": 1 / rate}}]}
                started = await asyncio.gather(
                    *(client.start(plan=plan, session_id=SESSION) for _ in range(executions))
                )
                names = [execution.execution_id for execution in started]
                if watching == "each":
                    readers = [asyncio.create_task(_watch(channel, outcome, name)) for name in names]
                async with asyncio.timeout(60 + 10 * events / rate):
                    if readers:
                        await asyncio.gather(*readers)
                    else:
                        while left := [one async for one in client.list(states=["PENDING", "RUNNING"])]:
                            await client.wait(left[-1].execution_id)
            outcome.seconds = time.monotonic() - began
            outcome.processor = _processor(server.process.pid) - used
            outcome.resident = most.resident - before.resident
            for name in names if readers else ():
                last = (await client.get(name)).as_of_sequence
                got = outcome.sequences[name]
                outcome.events += last
                outcome.lost += last - len(set(got))
                outcome.repeated += len(got) - len(set(got))
                assert got == sorted(got), f"{name}: out of order"
    return outcome


def table(outcomes: list[Outcome]) -> str:
    """Returns the runs as a table."""
    alone = next((outcome.processor for outcome in outcomes if outcome.watching == "none"), 0.0)
    rows = [
        [
            {"none": "nobody", "one": "one watch of all", "each": "a watch of each"}[outcome.watching],
            f"{outcome.seconds:.1f}",
            f"{outcome.processor:.2f}",
            f"{outcome.processor - alone:.2f}" if outcome.watching != "none" else "",
            mebibytes(outcome.resident),
            f"{outcome.messages:,}",
            f"{outcome.events:,}",
            str(outcome.lost),
            str(outcome.repeated),
        ]
        for outcome in outcomes
    ]
    head = ["who watches", "s", "server's CPU s", "for watching", "MiB more", "messages", "events", "lost", "twice"]
    return markdown(head, rows)


async def _watch_all(channel: grpc.aio.Channel, outcome: Outcome, executions: int, begun: asyncio.Event) -> None:
    request = WatchExecutionsRequest(executions=ExecutionFilter(session_id=SESSION))
    call = _open(channel, "WatchExecutions", request)
    ends = 0
    while ends < executions:
        ends += outcome.take(await call.read())
        begun.set()
    call.cancel()


async def _watch(channel: grpc.aio.Channel, outcome: Outcome, name: str) -> None:
    call = _open(channel, "WatchExecution", WatchExecutionRequest(execution_id=name))
    while not outcome.take(await call.read()):
        pass
    call.cancel()


def _open(channel: grpc.aio.Channel, method: str, request: Any) -> Any:
    return channel.unary_stream(
        METHODS[method].path,
        request_serializer=type(request).SerializeToString,
        response_deserializer=EventBatch.FromString,
    )(request, timeout=600)


def _processor(pid: int) -> float:
    """Returns the seconds of processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--executions", type=int, default=500)
    parser.add_argument("--events", type=int, default=60, help="of each")
    parser.add_argument("--rate", type=float, default=3.0, help="events of each a second")
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    kinds: list[Watching] = ["none", "one", "each"]
    outcomes = []
    for kind in kinds * options.rounds:
        with tempfile.TemporaryDirectory() as folder:
            size = {"executions": options.executions, "events": options.events, "rate": options.rate}
            outcomes.append(asyncio.run(run(Path(folder), kind, **size)))
    print(table(outcomes))
    sys.exit(1 if any(outcome.lost or outcome.repeated for outcome in outcomes) else 0)


if __name__ == "__main__":
    main()
