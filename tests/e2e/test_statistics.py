"""Statistics of a server that is killed in between: what it says is what all the events say together."""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path
from random import Random

from tests.faults.history import History
from tests.faults.kill_loop import Clients, Gauged, random_plan
from tests.server.journal.scan import Scan, deviations, scan

import stepwire
from stepwire import aio
from stepwire.v1 import ExecuteRequest, ExecutionOptions, GetStatisticsResponse
from stepwire_server.journal import SqliteJournal

from .serving import PATIENCE, command

EXECUTIONS = 40


async def scan_of(path: Path) -> Scan:
    journal = SqliteJournal(path)
    await journal.open()
    try:
        return await scan(journal)
    finally:
        await journal.close()


def totals(found: GetStatisticsResponse) -> tuple[int, int, int]:
    return found.completed_executions, found.failed_executions, found.cancelled_executions


async def test_a_kill_in_between(tmp_path: Path) -> None:
    """After a kill and a restart, the statistics of both clients and of the terminal are those of a full scan."""
    chance = Random(11)
    with Gauged(tmp_path) as server:
        clients = Clients(server.address, History(), chance)
        async with asyncio.timeout(PATIENCE):
            names = []
            for number in range(EXECUTIONS):
                options = ExecutionOptions(max_parallel_steps=chance.choice([0, 1]))
                request = ExecuteRequest(plan=random_plan(chance), request_id=f"r-{number}", options=options)
                request.plan.name = chance.choice(["", "one", "two"])
                names.append(await clients.start(request))
                if number == EXECUTIONS // 2:
                    server.kill()
                    await asyncio.to_thread(server.start)
            await asyncio.gather(*(clients.poll(name, chance) for name in names))
            async with aio.Client(server.address) as looped:
                found = await looped.statistics()
            with stepwire.Client(server.address) as client:
                assert await asyncio.to_thread(client.statistics) == found
            shown = await asyncio.to_thread(
                subprocess.run,
                [command("stepwire"), "--server", server.address, "stats", "--json"],
                capture_output=True,
                check=True,
            )
        await clients.close()
        assert server.terminate() == 0
    assert len(json.loads(shown.stdout)["operations"]) == len(found.operations)
    assert await deviations(server.journal) == []
    by_scan = await scan_of(server.journal)
    assert sum(totals(found)) == EXECUTIONS
    assert totals(found) == tuple(
        sum(getattr(tally, name) for tally in by_scan.plans.values()) for name in ("completed", "failed", "cancelled")
    )
    assert [(one.operation, one.count, one.failed, one.retries) for one in found.operations] == [
        (name, tally.completed + tally.failed, tally.failed, tally.retries)
        for name, tally in sorted(by_scan.operations.items())
    ]
    for one in found.operations:
        exact = sorted(by_scan.durations[one.operation])
        half = exact[(len(exact) - 1) // 2]
        assert abs(one.p50.ToNanoseconds() - half) <= half / 100 + 1
