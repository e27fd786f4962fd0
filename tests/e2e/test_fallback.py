"""Where streams do not come through, both clients poll, and their callers see the same events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

import stepwire
import stepwire.aio
from stepwire.v1 import Event

from . import fallback
from .fallback import Which
from .gateway import Gateway, Manner
from .proxy import Link, Proxy, Treatment, Way
from .serving import PATIENCE, Gate, ServerProcess, paced, until

QUICK = stepwire.Patience(initial_delay=0.02, max_delay=0.2)


CLIENTS: tuple[Which, ...] = ("sync", "aio")
"""All of them at once: each takes its seconds, most of which are waited for."""


async def test_through_gateways(sample: ServerProcess) -> None:
    """Through a gateway that buffers streams, refuses them or answers 503, every event comes once, in order, the
    terminal one last, and before the execution has ended.
    """
    manners: list[Manner] = ["passes", "buffers", "refuses", "unavailable"]
    runs = [
        fallback.run(sample, manner=manner, client=client, reports=12, seconds=3, timeout=0.5, patience=QUICK)
        for manner in manners
        for client in CLIENTS
    ]
    outcomes = await asyncio.gather(*runs)
    print(fallback.table(outcomes))
    for outcome in outcomes:
        assert not outcome.violations()
        assert len(outcome.events) == 12 + 4
        polled = outcome.calls["ListEvents"] > 2
        assert polled == (outcome.manner != "passes")
        # The reports do not come all at once when the execution is over.
        assert outcome.arrived[-1] - outcome.arrived[len(outcome.arrived) // 2] > 0.5
        assert outcome.calls.total() < 60


async def test_through_a_gateway_that_cuts(sample: ServerProcess) -> None:
    """Through a gateway that ends each call soon: streams that give something each are resumed, and where
    the execution is quiet for longer than a stream lives, it is polled.
    """

    async def through(client: Which) -> None:
        busy, quiet = await asyncio.gather(
            fallback.run(sample, manner="cuts", client=client, reports=12, seconds=3, life=0.5),
            fallback.run(sample, manner="cuts", client=client, reports=1, seconds=3, life=0.5, patience=QUICK),
        )
        print(fallback.table([busy, quiet]))
        for outcome in (busy, quiet):
            assert not outcome.violations()
        assert (len(busy.events), len(quiet.events)) == (16, 5)
        assert busy.calls["ListEvents"] == 0
        assert busy.calls["WatchExecution"] >= 2
        assert quiet.calls["WaitExecution"] >= 2
        assert quiet.calls["WatchExecution"] <= 4

    await asyncio.gather(*(through(client) for client in CLIENTS))


class Ephemeral(Treatment):
    """Lets a connection live for half a second from its first byte."""

    async def pieces(self, data: bytes, *, way: Way, link: Link) -> AsyncIterator[bytes]:
        if way == "to_server" and link.to_server == len(data):
            asyncio.get_running_loop().call_later(0.5, link.reset)
        yield data


async def test_connections_that_do_not_last(sample: ServerProcess, gate: Gate) -> None:
    """Where each connection is reset after half a second, a quiet execution is polled, and each event comes once."""
    patience = stepwire.Patience(initial_delay=0.02, max_delay=0.1)
    async with (
        Proxy(sample.address, treatment=Ephemeral()) as proxy,
        stepwire.aio.Client(proxy.address, patience=patience) as client,
        asyncio.timeout(2 * PATIENCE),
    ):
        followed = await client.execute(plan=paced(gate, [3, 3]))
        seen: list[int] = []
        reading = asyncio.create_task(read_on(followed, seen))
        await becomes_polling(followed)
        await asyncio.to_thread(gate.release, "a", 2)
        await reading
    assert seen == list(range(1, 11))
    assert len(proxy.links) >= 3


async def read_on(followed: Any, seen: list[int]) -> None:
    async for event in followed:
        seen.append(event.sequence)


async def becomes_polling(followed: Any) -> None:
    """Returns once the run polls."""
    await asyncio.to_thread(until, lambda: followed.outage is not None and followed.outage.polling, "polling")


async def test_streams_again(sample: ServerProcess, gate: Gate) -> None:
    """Where streams come through again, the client goes back to them, without a duplicate or a hole."""
    patience = stepwire.Patience(stream_delay=0.3)
    async with (
        Gateway(sample.address, manner="refuses") as gateway,
        stepwire.aio.Client(gateway.address, patience=patience) as client,
        asyncio.timeout(2 * PATIENCE),
    ):
        followed = await client.execute(plan=paced(gate, [3, 3, 3]))
        seen: list[int] = []
        reading = asyncio.create_task(read_on(followed, seen))
        await becomes_polling(followed)
        await asyncio.to_thread(gate.release, "a")
        await asyncio.to_thread(until, lambda: len(seen) == 5, "the first burst")
        gateway.manner = "passes"
        tried = gateway.calls["WatchExecution"]
        await asyncio.to_thread(until, lambda: gateway.calls["WatchExecution"] > tried, "a trial")
        await asyncio.to_thread(gate.release, "a")
        await asyncio.to_thread(until, lambda: followed.outage is None, "the stream")
        asked = gateway.calls["ListEvents"]
        await asyncio.to_thread(gate.release, "a")
        await reading
    assert seen == list(range(1, 14))
    assert gateway.calls["ListEvents"] == asked


@pytest.mark.parametrize("delivery", ["poll", "auto"])
async def test_filtered(sample: ServerProcess, gate: Gate, delivery: Any) -> None:
    """A filter selects the same events when polling, and the terminal one comes whatever it is."""
    gate.open()

    def read(address: str, **settings: Any) -> list[Event]:
        with stepwire.Client(address, **settings) as client:
            return list(client.watch(execution_id, kinds=["step_started"]))

    with stepwire.Client(sample.address) as client:
        execution_id = client.start(plan=paced(gate, [40])).execution_id
        client.wait(execution_id, PATIENCE)
    expected = await asyncio.to_thread(read, sample.address)
    async with Gateway(sample.address, manner="buffers" if delivery == "poll" else "refuses") as gateway:
        assert await asyncio.to_thread(read, gateway.address, delivery=delivery) == expected
        assert gateway.calls["ListEvents"] >= 1
    assert [event.sequence for event in expected] == [2, 44]


def test_polling_is_watching(sample: ServerProcess, gate: Gate) -> None:
    """An execution that is to be cancelled when nobody watches it goes on while a client polls."""
    gate.open()
    with stepwire.Client(sample.address, delivery="poll") as client:
        work = fallback.plan(gate, reports=2, seconds=1.5)
        followed = client.execute(plan=work, cancel_if_unwatched_for=0.6)
        assert followed.result() is not None
        assert followed.outage is None


def test_the_server_dies(sample: ServerProcess, gate: Gate) -> None:
    """A client that polls finds a server that was killed and started again, and misses nothing."""
    with stepwire.Client(sample.address, delivery="poll") as client:
        followed = client.execute(plan=paced(gate, [2]))
        seen = [next(followed).sequence, next(followed).sequence]
        gate.arrived("a")
        sample.kill()
        sample.start()
        gate.arrived("a", 2)
        gate.open()
        seen += [event.sequence for event in followed]
    assert seen == list(range(1, len(seen) + 1))
    assert followed.terminal is not None
