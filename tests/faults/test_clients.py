"""Clients that die, freeze or vanish: the execution does not notice, and the server lets go of what was theirs."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.e2e.serving import PATIENCE

import stepwire.aio
from stepwire.v1 import Plan
from stepwire_server import plan_step

from .history import History
from .kill_loop import Gauged
from .noted import Noted
from .readers import ReaderProcess, Readers, being_read, cancel, pace, sockets, ticking, told

GLANCE = 0.02
VANISHED = 30.0
"""Seconds after which the server finds that nobody answers its ping: 20 s and 10 s."""


def memory(server: Gauged) -> float:
    """Returns the MiB that a server holds."""
    pages = Path(f"/proc/{server.process.pid}/statm").read_text("ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


async def load(server: Gauged) -> tuple[int, int]:
    """Returns how many streams a server has open, and how many tasks, as it says itself."""
    async with stepwire.aio.Client(server.address) as client:
        info = await client.server_info()
    return info.load.open_streams, info.load.tasks


async def until(condition: Callable[[], bool], *, seconds: float) -> float:
    """Returns after how many seconds it was so. Fails where it was not."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() < began + seconds, f"not within {seconds:g} s"
        await asyncio.sleep(GLANCE)
    return time.monotonic() - began


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Gauged]:
    with Gauged(tmp_path) as made:
        yield made


@asynccontextmanager
async def witnessed(server: Gauged, folder: Path) -> AsyncIterator[tuple[str, Readers]]:
    """Starts an execution that ticks, with a healthy reader, who reads to the end; all that it saw is judged."""
    execution_id = await ticking(server.address)
    readers = Readers(server.address, History(), kinds=["aio"])
    async with being_read(readers, server, folder, execution_id):
        yield execution_id, readers


def longest_gap(readers: Readers, since: float) -> float:
    """Returns the longest time between two events of the healthy reader."""
    times = [at for at in readers.times["aio"] if at >= since]
    return max(after - before for before, after in itertools.pairwise(times))


@pytest.mark.fault("kill -9 of clients in mid-stream", how="SIGKILL of a process with three readers")
async def test_killed_clients(server: Gauged, tmp_path: Path, noted: Noted, long: bool) -> None:
    """When clients die the execution goes on as before, and their connections are gone within a second."""
    noted.times = 20 if long else 1
    took = []
    async with witnessed(server, tmp_path) as (execution_id, healthy):
        before, small, (streams, tasks) = sockets(server.process.pid), memory(server), await load(server)
        began = time.monotonic()
        for _ in range(noted.times):
            with ReaderProcess(server.address, execution_id, tmp_path / "seen") as process:
                await process.have_events(since=0)
                assert sockets(server.process.pid) >= before + 3
                assert (await load(server))[0] == streams + 3
                process.process.kill()
                took.append(await until(lambda: sockets(server.process.pid) <= before, seconds=PATIENCE))
                assert (await load(server))[0] == streams
        noted.figures["connections gone after, worst"] = f"{max(took):.2f} s"
        noted.figures["longest pause between events of a healthy reader"] = f"{longest_gap(healthy, began):.2f} s"
        noted.figures["memory, MiB"] = f"{small:.0f}, then {memory(server):.0f}"
        # Tasks are counted once a second at most, so the count may be of a moment before.
        noted.figures["tasks"] = f"{tasks}, then {(await load(server))[1]}"
    assert max(took) < 1
    assert longest_gap(healthy, began) < 2


@pytest.mark.fault("clients frozen", how="SIGSTOP of a process with three readers")
@pytest.mark.timeout(150)
async def test_frozen_clients(server: Gauged, tmp_path: Path, noted: Noted, long: bool) -> None:
    """While clients are frozen the execution and others go on as before; after ping time and timeout the server has
    hung up; when they go on they have everything once.
    """
    async with witnessed(server, tmp_path) as (execution_id, healthy):
        before, small = sockets(server.process.pid), memory(server)
        with ReaderProcess(server.address, execution_id, tmp_path / "seen", **pace(long)) as process:
            await process.have_events(since=0)
            process.process.send_signal(signal.SIGSTOP)
            struck = time.monotonic()
            async with stepwire.aio.Client(server.address) as client:
                plan = Plan(steps=[plan_step("a", "burst", input={"reports": 20_000 if long else 2_000})])
                await client.wait((await client.start(plan=plan)).execution_id)
            noted.figures["another execution meanwhile"] = f"{time.monotonic() - struck:.1f} s"
            if long:
                noted.figures["connections gone after"] = (
                    f"{await until(lambda: sockets(server.process.pid) <= before, seconds=VANISHED + 10):.1f} s"
                )
                assert time.monotonic() - struck < VANISHED + 3
                assert (await load(server))[0] == 1
            await healthy.have_events(since=time.monotonic(), count=20)
            noted.figures["memory, MiB"] = f"{small:.0f}, then {memory(server):.0f}"
            process.process.send_signal(signal.SIGCONT)
            thawed = time.monotonic()
            await process.have_events(since=thawed)
            await cancel(server.address, execution_id, healthy.history)
            readers = await process.finish(healthy.history)
        noted.figures["frozen for"] = f"{thawed - struck:.1f} s"
        noted.figures["from SIGCONT to the next event"] = told(readers.next_event(thawed))
        noted.figures["longest pause between events of a healthy reader"] = f"{longest_gap(healthy, struck):.2f} s"
    assert longest_gap(healthy, struck) < 2
