"""The same request a hundred times at once, from a server that dies before it has answered."""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random

import pytest

from stepwire.v1 import ExecuteRequest, Plan
from stepwire_server import failpoints, plan_step

from .checkers import check
from .history import History, dump
from .kill_loop import Clients
from .test_failpoints import Doomed

PATIENCE = 30.0


@pytest.mark.parametrize("point", ["before-insert", "before-commit", "after-commit"])
async def test_a_hundred_at_once(tmp_path: Path, point: str) -> None:
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
    assert check(history) == {}
    assert len(set(found)) == 1
    assert len(history.journal) == 1
    assert len(history.effects) == 1
