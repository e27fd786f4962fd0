"""A connection that is reset again and again costs nothing but bytes."""

from __future__ import annotations

import asyncio
import random

import pytest

import stepwire.aio

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
    """A replay comes through a line that breaks each 20 KB: a stream's first messages are small enough to arrive."""
    gate.open()
    seen = []
    async with stepwire.aio.Client(sample.address) as client:
        execution_id = (await client.start(plan=paced(gate, [2000]))).execution_id
        await client.wait(execution_id, PATIENCE)
    async with Proxy(sample.address) as proxy, stepwire.aio.Client(proxy.address) as client:

        async def break_again_and_again() -> None:
            while True:
                await proxy.reset_after(20_000)

        breaking = asyncio.create_task(break_again_and_again())
        async with asyncio.timeout(2 * PATIENCE):
            async for event in await client.watch(execution_id):
                seen.append(event.sequence)
        breaking.cancel()
    assert seen == list(range(1, 2005))
    assert proxy.resets >= 10
