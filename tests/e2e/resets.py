"""One execution through a proxy that resets the connection again and again: is every event there once, in order?

    python -m tests.e2e.resets --events 10000 --resets 100 --seed 7

The events come in bursts of random size, one for each reset. Each reset strikes at a random byte of its burst, on a
connection whose stream has begun, and none before the client has come further than at the last one. In half of the
rounds a part of the burst is written while the client is away, so that it finds it when it is back; in half of them the
client has everything before the next burst.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import stepwire
import stepwire.aio
from stepwire.v1 import Event

from .proxy import Proxy
from .serving import PATIENCE, Gate, ServerProcess, paced

__all__ = ["Outcome", "run"]

_LEAST_BYTES = 50
"""No event of the sample app is smaller, so a burst has more bytes than this for each of its events."""


@dataclass(kw_only=True)
class Outcome:
    """What one client saw."""

    client: str
    seed: int
    events: list[Event] = field(default_factory=list)
    """What it gave, in its order."""
    resets: int = 0
    """Connections that were reset while a stream was open on them."""
    connections: int = 0
    """Connections that the client made."""
    bytes_from_server: int = 0
    """What the server sent through the proxy, whether it arrived or not."""
    seconds: float = 0.0
    progress_at_reset: list[int] = field(default_factory=list)
    """How many events the client had at each reset."""

    @property
    def event_bytes(self) -> int:
        """The bytes of the events themselves."""
        return sum(event.ByteSize() for event in self.events)

    @property
    def ratio(self) -> float:
        """Bytes from the server for each byte of the events."""
        return self.bytes_from_server / self.event_bytes

    @property
    def duplicates(self) -> int:
        """Events that came more than once."""
        return len(self.events) - len({event.sequence for event in self.events})

    def violations(self, *, expected: int) -> list[str]:
        """Returns what is wrong, in words; empty where all is right."""
        wrong = []
        sequences = [event.sequence for event in self.events]
        if sequences != list(range(1, expected + 1)):
            where = next((i for i, sequence in enumerate(sequences, 1) if i != sequence), len(sequences) + 1)
            wrong.append(f"{len(sequences)} events instead of {expected}; the first wrong one is number {where}")
        terminal = [event.sequence for event in self.events if stepwire.is_terminal(event)]
        if terminal != [expected]:
            wrong.append(f"terminal events at {terminal}")
        if self.ratio >= 2:
            wrong.append(f"{self.ratio:.2f} bytes from the server for each byte of the events")
        return wrong


class _Progress:
    """How many events the client has, for the one who waits for it. Told from any thread."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Condition()
        self.count = 0

    def tell(self, count: int) -> None:
        asyncio.run_coroutine_threadsafe(self._set(count), self._loop)

    async def reaches(self, count: int) -> None:
        async with self._changed, asyncio.timeout(PATIENCE):
            await self._changed.wait_for(lambda: self.count >= count)

    async def _set(self, count: int) -> None:
        async with self._changed:
            self.count = max(self.count, count)
            self._changed.notify_all()


async def run(server: ServerProcess, *, client: str, events: int, resets: int, seed: int) -> Outcome:
    """Runs one execution of so many events, and resets the connection so many times. `client`: "sync" or "aio"."""
    chance = random.Random(seed)
    outcome = Outcome(client=client, seed=seed)
    rounds = [
        (chance.randrange(burst // 4, burst) if chance.random() < 0.5 else 0, burst)
        for burst in _partition(events - 4, resets, chance)
    ]
    with Gate() as gate:
        async with Proxy(server.address) as proxy:
            progress = _Progress()
            plan = paced(gate, [size for early, burst in rounds for size in (early, burst - early)])
            began = time.monotonic()
            read = _read_sync if client == "sync" else _read_aio
            reader = asyncio.create_task(read(proxy.address, plan, outcome.events, progress.tell))
            given = had = 2  # plan_started, step_started
            for early, burst in rounds:
                await asyncio.to_thread(gate.release, "a")
                given += early
                await progress.reaches(given if chance.random() < 0.5 else min(had + 1, given))
                shot = proxy.reset_after(chance.randrange(1, (burst - early) * _LEAST_BYTES))
                await asyncio.to_thread(gate.release, "a")
                given += burst - early
                async with asyncio.timeout(PATIENCE):
                    await shot
                had = progress.count
                outcome.progress_at_reset.append(had)
            async with asyncio.timeout(PATIENCE):
                await reader
            outcome.seconds = time.monotonic() - began
            outcome.resets = proxy.resets
            outcome.connections = len(proxy.links)
            outcome.bytes_from_server = proxy.from_server
    return outcome


async def _read_sync(address: str, plan: dict, into: list[Event], tell: Callable[[int], None]) -> None:
    def read() -> None:
        with stepwire.Client(address) as client:
            for event in client.execute(plan=plan):
                into.append(event)
                tell(len(into))

    await asyncio.to_thread(read)


async def _read_aio(address: str, plan: dict, into: list[Event], tell: Callable[[int], None]) -> None:
    async with stepwire.aio.Client(address) as client:
        async for event in await client.execute(plan=plan):
            into.append(event)
            tell(len(into))


def _partition(total: int, parts: int, chance: random.Random) -> list[int]:
    """Returns so many numbers, each at least two thirds of the mean, that add up to the total."""
    least = total // parts * 2 // 3
    cuts = sorted(chance.randrange(total - least * parts + 1) for _ in range(parts - 1))
    return [high - low + least for low, high in zip([0, *cuts], [*cuts, total - least * parts], strict=True)]


def table(outcomes: list[Outcome], *, expected: int) -> str:
    """Returns what happened as a Markdown table."""
    head = ["client", "events", "once, in order", "resets", "connections", "event bytes", "server bytes", "ratio", "s"]
    rows = [
        [
            outcome.client,
            f"{len(outcome.events):,}",
            "no" if outcome.violations(expected=expected) else "yes",
            str(outcome.resets),
            str(outcome.connections),
            f"{outcome.event_bytes:,}",
            f"{outcome.bytes_from_server:,}",
            f"{outcome.ratio:.2f}",
            f"{outcome.seconds:.1f}",
        ]
        for outcome in outcomes
    ]
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows])


def main() -> None:
    """Runs both clients and prints the table. Exits 1 where a rule is broken."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--events", type=int, default=10_000)
    parser.add_argument("--resets", type=int, default=100)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 31))
    parser.add_argument("--client", choices=["sync", "aio"], action="append")
    options = parser.parse_args()
    outcomes = []
    with tempfile.TemporaryDirectory() as folder, ServerProcess(Path(folder), app="sample:app") as server:
        for client in options.client or ["sync", "aio"]:
            made = run(server, client=client, events=options.events, resets=options.resets, seed=options.seed)
            outcomes.append(asyncio.run(made))
    print(f"seed {options.seed}\n\n{table(outcomes, expected=options.events)}\n")
    wrong = [
        f"{outcome.client}: {text}" for outcome in outcomes for text in outcome.violations(expected=options.events)
    ]
    for outcome in outcomes:
        places = outcome.progress_at_reset
        print(f"{outcome.client}: events that the client had at the resets: {places[0]:,} to {places[-1]:,}")
    print("\n".join(wrong), file=sys.stderr)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
