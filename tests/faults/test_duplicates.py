"""The same request a hundred times at once, from a server that dies, and once more after its reply was lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest
from tests.e2e.proxy import Link, Proxy, Treatment, Way

import stepwire.aio
from stepwire.v1 import ExecuteRequest, Plan
from stepwire_server import failpoints, plan_step

from .checkers import check
from .history import History, dump
from .kill_loop import Clients, Gauged
from .noted import Noted
from .test_failpoints import Doomed

PATIENCE = 30.0


class Deaf(Treatment):
    """Passes on what clients send. What the server says is lost, while it is told to."""

    def __init__(self) -> None:
        self.deaf = False
        self.lost = 0
        """Bytes."""

    async def pieces(self, data: bytes, *, way: Way, link: Link) -> AsyncIterator[bytes]:
        if self.deaf and way == "from_server":
            self.lost += len(data)
        else:
            yield data


@pytest.mark.fault(
    "the same Execute 100 times at once, and the server dies before it has answered", how="fail point, gather"
)
@pytest.mark.parametrize("point", ["before-insert", "before-commit", "after-commit"])
async def test_a_hundred_at_once(tmp_path: Path, point: str, noted: Noted) -> None:
    """A hundred concurrent starts with one request id get one execution, also where the server dies before it has
    answered any of them.
    """
    history = History()
    request = ExecuteRequest(plan=Plan(steps=[plan_step("a", "pay", input={"pause": 0.01})]), request_id="the-same")
    with Doomed(tmp_path, point, 1) as server:
        clients = Clients(server.address, history, Random(1))
        try:
            async with asyncio.timeout(PATIENCE):
                starts = [asyncio.create_task(clients.start(request)) for _ in range(100)]
                assert await asyncio.to_thread(server.wait_for_its_end) == failpoints.EXIT_CODE
                await asyncio.to_thread(server.start)
                found = await asyncio.gather(*starts)
                await clients.poll(found[0], Random(1))
        finally:
            await clients.close()
        server.kill()
        history.journal = await dump(server.journal)
        history.add_effects(server.effects)
    noted.times = 100
    assert check(history) == {}
    assert len(set(found)) == 1
    assert len(history.journal) == 1
    assert len(history.effects) == 1


@pytest.mark.fault("retry after a lost reply", how="the proxy drops what the server says, then resets")
async def test_a_lost_reply(tmp_path: Path) -> None:
    """A start whose reply was lost is sent again by the client, and is one execution with one effect."""
    line = Deaf()
    with Gauged(tmp_path) as server:
        async with (
            asyncio.timeout(PATIENCE),
            Proxy(server.address, treatment=line) as proxy,
            stepwire.aio.Client(proxy.address) as client,
            stepwire.aio.Client(server.address) as witness,
        ):
            await client.server_info()
            line.deaf = True
            plan = Plan(steps=[plan_step("a", "pay", input={"pause": 0.01})])
            starting = asyncio.create_task(client.start(plan=plan, request_id="the-same"))
            # What is durable may be seen before the reply is on its way.
            while not ([execution async for execution in witness.list()] and line.lost):
                assert not starting.done()
            line.deaf = False
            assert proxy.reset()
            execution = await starting
            assert (await witness.wait(execution.execution_id)).HasField("output")
        server.kill()
        history = History(journal=await dump(server.journal))
        history.add_effects(server.effects)
    assert line.lost
    assert check(history) == {}
    assert list(history.journal) == [execution.execution_id]
    assert len(history.effects) == 1
