"""A hundred watchers of one execution that join at random moments, with random cursors: do all see the same bytes?

    python -m tests.e2e.watchers --watchers 100 --events 3000 --seed 7

They are raw gRPC calls without a client of ours, and keep the bytes of each event as they stand in the messages.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import grpc.aio

from stepwire.aio import Client
from stepwire.v1 import Event, EventBatch, WatchExecutionRequest

from .serving import PATIENCE, Gate, ServerProcess, paced

__all__ = ["Outcome", "Watch", "frames", "run"]

_WATCH = "/stepwire.v1.ExecutionService/WatchExecution"
_BURSTS = 60


@dataclass(kw_only=True)
class Watch:
    """What one watcher asked for and got."""

    joined: str
    """When: "before", "during" or "after" the execution's work."""
    after: int
    """Its cursor."""
    frames: list[bytes] = field(default_factory=list)
    """The bytes of each event, in the order in which they came."""
    messages: int = 0


@dataclass(kw_only=True)
class Outcome:
    """What all watchers got."""

    watches: list[Watch]
    seconds: float = 0.0

    def violations(self, *, expected: int) -> list[str]:
        """Returns what is wrong, in words; empty where all is right."""
        wrong = []
        known: dict[int, bytes] = {}
        for number, watch in enumerate(self.watches):
            sequences = []
            for frame in watch.frames:
                sequence = Event.FromString(frame).sequence
                sequences.append(sequence)
                if known.setdefault(sequence, frame) != frame:
                    wrong.append(f"watcher {number}: other bytes for event {sequence}")
            if sequences != list(range(watch.after + 1, expected + 1)):
                wrong.append(f"watcher {number} after {watch.after}: {len(sequences)} events, not dense to {expected}")
        if sorted(known) != list(range(1, expected + 1)):
            wrong.append(f"all together saw {len(known)} of {expected} events")
        return wrong


def frames(message: bytes) -> Iterator[bytes]:
    """Gives the bytes of each event in an encoded EventBatch, as they stand there."""
    place = 0
    while place < len(message):
        tag, place = _varint(message, place)
        match tag & 7:
            case 0:
                _, place = _varint(message, place)
            case 2:
                size, place = _varint(message, place)
                if tag >> 3 == EventBatch.EVENTS_FIELD_NUMBER:
                    yield message[place : place + size]
                place += size
            case kind:
                raise ValueError(f"an EventBatch has no field of wire type {kind}")


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7


async def run(server: ServerProcess, *, watchers: int, events: int, seed: int) -> Outcome:
    """Runs an execution of so many events with so many watchers."""
    chance = random.Random(seed)
    # A fifth joins before the work begins, a fifth after its end, the others at random bursts.
    outside = watchers // 5
    joins = [-1] * outside + [_BURSTS] * outside + [chance.randrange(_BURSTS) for _ in range(watchers - 2 * outside)]
    size, rest = divmod(events - 4, _BURSTS)
    bursts = [size + (i < rest) for i in range(_BURSTS)]
    outcome = Outcome(watches=[])
    began = time.monotonic()
    with Gate() as gate:
        async with Client(server.address) as client, asyncio.TaskGroup() as group:
            execution = (await client.start(plan=paced(gate, bursts))).execution_id
            await asyncio.to_thread(gate.arrived, "a")

            async def join(moment: str) -> None:
                durable = (await client.get(execution)).as_of_sequence
                watch = Watch(joined=moment, after=chance.choice([0, chance.randint(0, durable), durable]))
                outcome.watches.append(watch)
                group.create_task(_watch(server.address, execution, watch))

            for burst in range(-1, _BURSTS):
                if burst >= 0:
                    # Watchers join while the burst is being written: it is released, and nothing waits for it.
                    await asyncio.to_thread(gate.release, "a")
                for _ in range(joins.count(burst)):
                    await join("before" if burst < 0 else "during")
            ended = await client.wait(execution, PATIENCE)
            assert ended.as_of_sequence == events, ended
            for _ in range(joins.count(_BURSTS)):
                await join("after")
    outcome.seconds = time.monotonic() - began
    return outcome


async def _watch(address: str, execution: str, watch: Watch) -> None:
    # A connection of its own for each, as if each were another process.
    async with grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        request = WatchExecutionRequest(execution_id=execution, after_sequence=watch.after).SerializeToString()
        async for message in channel.unary_stream(_WATCH)(request, timeout=3 * PATIENCE):
            watch.messages += 1
            watch.frames.extend(frames(message))


def table(outcome: Outcome, *, expected: int) -> str:
    """Returns what happened as a Markdown table."""
    wrong = outcome.violations(expected=expected)
    rows = [["joined", "watchers", "events received", "messages", "cursors"], ["---"] * 5]
    count = Counter(watch.joined for watch in outcome.watches)
    for moment in ("before", "during", "after"):
        of_it = [watch for watch in outcome.watches if watch.joined == moment]
        cursors = [watch.after for watch in of_it]
        rows.append(
            [
                moment,
                str(count[moment]),
                f"{sum(len(watch.frames) for watch in of_it):,}",
                f"{sum(watch.messages for watch in of_it):,}",
                f"{min(cursors, default=0):,} to {max(cursors, default=0):,}",
            ]
        )
    verdict = "; ".join(wrong) or "dense from each cursor to the end, and the same bytes for each sequence"
    lines = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    return f"{lines}\n\n{len(outcome.watches)} watchers, {expected:,} events, {outcome.seconds:.1f} s: {verdict}"


def main() -> None:
    """Runs it and prints the table. Exits 1 where a rule is broken."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--watchers", type=int, default=100)
    parser.add_argument("--events", type=int, default=3_000)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 31))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, ServerProcess(Path(folder), app="sample:app") as server:
        outcome = asyncio.run(run(server, watchers=options.watchers, events=options.events, seed=options.seed))
    print(f"seed {options.seed}\n\n{table(outcome, expected=options.events)}")
    sys.exit(1 if outcome.violations(expected=options.events) else 0)


if __name__ == "__main__":
    main()
