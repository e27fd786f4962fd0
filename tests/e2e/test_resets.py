"""A connection that is reset again and again costs nothing but bytes."""

from __future__ import annotations

import asyncio
import random

import pytest

import stepwire.aio
from stepwire.v1 import Event

from . import resets
from .proxy import Proxy
from .serving import PATIENCE, Gate, ServerProcess, paced


@pytest.mark.parametrize("client", ["sync", "aio"])
async def test_a_stream_outlives_resets(sample: ServerProcess, client: str) -> None:
    """Through 20 resets each of 2,000 events comes once and in order, for less than twice the bytes."""
    seed = random.SystemRandom().randrange(1 << 31)
    print(f"seed {seed}")
    outcome = await resets.run(sample, client=client, events=2000, resets=20, seed=seed)
    assert outcome.resets == 20
    assert outcome.connections > 20
    assert not outcome.violations(expected=2000)


async def test_a_line_that_breaks_often_gets_through(sample: ServerProcess, gate: Gate) -> None:
    """A replay comes through a line that breaks each 40 KB: a stream's first messages are small enough to arrive."""
    gate.open()
    seen = []
    async with stepwire.aio.Client(sample.address) as client:
        execution_id = (await client.start(plan=paced(gate, [2000]))).execution_id
        await client.wait(execution_id, PATIENCE)
    async with Proxy(sample.address) as proxy, stepwire.aio.Client(proxy.address) as client:

        async def break_again_and_again() -> None:
            while True:
                await proxy.reset_after(40_000)

        breaking = asyncio.create_task(break_again_and_again())
        async with asyncio.timeout(2 * PATIENCE):
            async for event in await client.watch(execution_id):
                seen.append(event.sequence)
        breaking.cancel()
    assert seen == list(range(1, 2005))
    assert proxy.resets >= 5


@pytest.mark.parametrize("harm", ["drop", "swap", "repeat", "second end", "no end", "bytes"])
def test_the_check_finds(harm: str) -> None:
    """The check of the resets finds an event that is dropped, swapped or repeated, a wrong end, and too many bytes."""
    events = [Event(sequence=number, message="as it was") for number in range(1, 10)]
    events[-1].plan_completed.SetInParent()
    size = sum(event.ByteSize() for event in events)
    good = resets.Outcome(client="sync", seed=0, events=list(events), bytes_from_server=size + 1)
    assert not good.violations(expected=9)
    match harm:
        case "drop":
            del events[4]
        case "swap":
            events[4], events[5] = events[5], events[4]
        case "repeat":
            events.insert(4, events[4])
        case "second end":
            events[7].plan_completed.SetInParent()
        case "no end":
            events[8].ClearField("plan_completed")
        case "bytes":
            size *= 2
    assert resets.Outcome(client="sync", seed=0, events=events, bytes_from_server=size).violations(expected=9)
