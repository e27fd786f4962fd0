"""What every measured program shares: how it is told what to do, how it answers, and how it checks what came.

A subject is a server program and a client program, each a process of its own. Both are started once a run; the client
then does one piece of work for each line that it is sent:

    $ python -m tests.bench.yardsticks.per_message serve
    {"target": "127.0.0.1:40001"}
    $ python -m tests.bench.yardsticks.per_message drive --target 127.0.0.1:40001
    {"ready": true}
    {"events": 20000}                                                        <- a command, on standard input
    {"events": 20000, "seconds": 1.9}

Where anything is lost, doubled or out of order it answers {"error": "..."}, and the run fails.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

__all__ = [
    "Command",
    "Disorder",
    "Figures",
    "Latencies",
    "Order",
    "Work",
    "announce",
    "answer",
    "commands",
    "drive",
    "drive_async",
    "until_told",
]

Command = dict[str, Any]
Figures = dict[str, Any]
Work = Callable[[Command], Figures]
"""Does what a command asks for once, checks what came, and returns its figures."""


class Disorder(Exception):
    """Something was lost, doubled or out of order, or is not what was asked for."""


class Order:
    """Checks that the events from `after` + 1 to `count` come, each once and in order, the end last.

    order = Order(20_000)
    for event in stream:
        order.see(event.sequence, terminal=is_terminal(event))
    order.finish()
    """

    __slots__ = ("_count", "seen")

    def __init__(self, count: int, *, after: int = 0) -> None:
        self._count = count
        self.seen = after
        """The number of the last event."""

    def see(self, number: int, terminal: bool | None = None) -> None:
        """Checks the next event. `terminal` is None where the stream has no event of its own that ends it."""
        self.seen += 1
        if number != self.seen:
            raise Disorder(f"event {number} came where {self.seen} should")
        if terminal is not None and terminal != (number == self._count):
            raise Disorder(f"event {number} of {self._count} is {'the end' if terminal else 'not the end'}")

    def finish(self) -> None:
        """Checks at the end of the stream that all came."""
        if self.seen != self._count:
            raise Disorder(f"the stream ended with event {self.seen} of {self._count}")


class Latencies:
    """How long events took from being built to being decoded, on the clock that both processes share.

    latencies.add(time.time_ns() - event.event_time.ToNanoseconds())
    answer(events=n, seconds=s, **latencies.figures())
    """

    __slots__ = ("add", "nanoseconds")

    def __init__(self) -> None:
        self.nanoseconds: list[int] = []
        self.add = self.nanoseconds.append

    def figures(self) -> Figures:
        """Returns the quantiles, and those of the first and the last tenth: a queue that grows shows in the last."""
        found = [ns / 1e6 for ns in self.nanoseconds]
        tenth = max(1, len(found) // 10)
        return {
            "p50_ms": _quantile(found, 0.5),
            "p99_ms": _quantile(found, 0.99),
            "max_ms": max(found),
            "first_tenth_ms": _quantile(found[:tenth], 0.5),
            "last_tenth_ms": _quantile(found[-tenth:], 0.5),
        }


def _quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def announce(target: str, **more: Any) -> None:
    """Says where a server serves. Nothing else goes to its standard output.

    `pid` is the process that serves, where it is not the one that says this.
    """
    answer(target=target, **more)


def answer(**figures: Any) -> None:
    """Writes one line of JSON."""
    print(json.dumps(figures), flush=True)


def commands() -> Iterator[Command]:
    """Says that the client is ready, then gives what it is sent, until its standard input ends."""
    answer(ready=True)
    for line in sys.stdin:
        yield json.loads(line)


def drive(work: Work) -> None:
    """Does what comes, until standard input ends. A failure is an answer, too."""
    for command in commands():
        try:
            figures = work(command)
        except Exception as error:
            figures = _failed(error)
        answer(**figures)


async def drive_async(work: Callable[[Command], Awaitable[Figures]]) -> None:
    """Does the same on an event loop, which goes on while it waits for the next command."""
    answer(ready=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        try:
            figures = await work(json.loads(line))
        except Exception as error:
            figures = _failed(error)
        answer(**figures)


def _failed(error: Exception) -> Figures:
    return {"error": f"{type(error).__name__}: {error}"}


async def until_told() -> None:
    """Returns when a server should end: at SIGTERM, or when its standard input ends, as it does with the harness."""
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    # A pipe only: a terminal's or a file's end is nobody's order.
    with contextlib.suppress(OSError, ValueError):
        loop.add_reader(sys.stdin.fileno(), lambda: sys.stdin.buffer.read1() or told.set())
    await told.wait()
