"""Networks that lose, delay and cut: every reader notices, comes back, and has everything once."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from tests.e2e import resets
from tests.e2e.proxy import Proxy, Treatment
from tests.e2e.serving import APPS as SAMPLE
from tests.e2e.serving import PATIENCE, ServerProcess

import stepwire.aio
from stepwire.v1 import Plan
from stepwire_server import plan_step

from .history import History, dump
from .kill_loop import Gauged
from .network import Cable, Delayed, Hole, Sliced, Slow
from .noted import Noted
from .readers import ReaderProcess, Readers, asked, being_read, judge, kept, pace, sockets, ticking, told

NOTICE = 15.0
"""Seconds in which every reader notices, with the defaults. A little more passes before it can be measured."""


GLANCE = 0.05


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gauged]:
    """One for all tests here: the network is harmed, not the server."""
    with Gauged(tmp_path_factory.mktemp("server")) as made:
        yield made


@pytest.mark.fault("a black hole", how="a proxy that swallows what goes over the connections that there are")
@pytest.mark.timeout(120)
async def test_a_connection_becomes_a_black_hole(server: Gauged, tmp_path: Path, long: bool, noted: Noted) -> None:
    """Readers whose connection says nothing any more, and does not end, notice, and go on over another one."""
    execution_id = await ticking(server.address)
    hole = Hole()
    async with Proxy(server.address, treatment=hole) as proxy:
        readers = Readers(proxy.address, History(), **pace(long))
        async with being_read(readers, server, tmp_path, execution_id):
            hole.swallow(proxy.links)
            struck = time.monotonic()
            # Not events alone: one that had come before may be given late.
            await readers.have_noticed(since=struck)
            await readers.have_events(since=time.monotonic())
    assert hole.swallowed
    noted.figures["noticed after"] = told(readers.first_noticed(struck))
    noted.figures["to the next event"] = told(readers.next_event(struck + 0.1))
    assert max(readers.first_noticed(struck).values()) < NOTICE + 1
    assert max(readers.next_event(struck + 0.1).values()) < (NOTICE + 2 if long else NOTICE / 2)


@pytest.mark.fault("a black hole that heals after a while", how="a proxy that swallows everything")
@pytest.mark.timeout(150)
async def test_a_black_hole_that_heals(server: Gauged, tmp_path: Path, long: bool, noted: Noted) -> None:
    """While nothing gets through, readers go on trying; when the line is whole again, they go on."""
    execution_id = await ticking(server.address)
    hole = Hole()
    async with Proxy(server.address, treatment=hole) as proxy:
        readers = Readers(proxy.address, History(), **pace(long))
        async with being_read(readers, server, tmp_path, execution_id):
            hole.open()
            struck = time.monotonic()
            await readers.have_noticed(since=struck)
            if long:
                await asyncio.sleep(struck + 40 - time.monotonic())
            hole.close()
            healed = time.monotonic()
            await readers.have_events(since=healed)
    noted.figures["noticed after"] = told(readers.first_noticed(struck))
    noted.figures["the hole for"] = f"{healed - struck:.1f} s"
    noted.figures["from its end to the next event"] = told(readers.next_event(healed))
    assert max(readers.first_noticed(struck).values()) < NOTICE + 1
    assert max(readers.next_event(healed).values()) < NOTICE + 1


@pytest.mark.fault("connections reset in mid-stream, again and again", how="a proxy that resets at random bytes")
@pytest.mark.timeout(200)
async def test_resets(tmp_path: Path, random_seed: int, long: bool, noted: Noted) -> None:
    """Through resets at random places each event comes once and in order, for less than twice the bytes."""
    # Of few resets one in an unlucky place decides the bytes.
    noted.times = 100 if long else 25
    with ServerProcess(tmp_path, app="sample:app", cwd=SAMPLE) as sample:
        for client in ("sync", "aio"):
            outcome = await resets.run(
                sample, client=client, events=100 * noted.times, resets=noted.times, seed=random_seed
            )
            assert outcome.resets == noted.times
            assert not outcome.violations(expected=100 * noted.times)
            noted.figures[f"{client}, seconds"] = f"{outcome.seconds:.1f}"
            noted.figures[f"{client}, bytes for each byte"] = f"{outcome.ratio:.2f}"
    noted.times *= 2


@pytest.mark.parametrize("line", ["slow", "sliced", "delayed"])
@pytest.mark.fault("a bad line", how="a proxy that sends few bytes a second, a few bytes at once, or later")
@pytest.mark.timeout(150)
async def test_a_bad_line(
    server: Gauged, tmp_path: Path, line: str, random_seed: int, long: bool, noted: Noted
) -> None:
    """Over a slow, sliced or delayed line everything comes, nobody loses the connection, and the execution is as fast
    as without anybody.
    """
    reports = 3000 if long else 300
    treatment: Treatment = {
        "slow": Slow(20_000),
        "sliced": Sliced(Random(random_seed)),
        "delayed": Delayed(Random(random_seed), seconds=0.1),
    }[line]
    noted.figures["line"] = {"slow": "20 KB/s", "sliced": "1 to 7 bytes a write", "delayed": "0 to 200 ms"}[line]
    history = History()
    async with stepwire.aio.Client(server.address) as client, Proxy(server.address, treatment=treatment) as proxy:
        readers = Readers(proxy.address, history)
        plan = Plan(steps=[plan_step("a", "burst", input={"reports": reports})])
        began = time.monotonic()
        execution_id = (await client.start(plan=plan)).execution_id
        reading = asyncio.create_task(readers.read(execution_id))
        await client.wait(execution_id)
        took = time.monotonic() - began
        async with asyncio.timeout(120):
            await reading
        noted.figures["the execution took"] = f"{took:.1f} s"
        noted.figures["the last event came after"] = told({kind: t[-1] - began for kind, t in readers.times.items()})
    history.journal = await kept(server, tmp_path / "copy", execution_id)
    judge(history, execution_id)
    assert readers.noticed == {"aio": [], "sync": [], "raw": []}
    if isinstance(treatment, Sliced):
        noted.figures["pieces"] = f"{treatment.pieces_made:,}"
        assert treatment.pieces_made > reports


class Plugged(Gauged):
    """A server at the other end of a cable."""

    def __init__(self, folder: Path, cable: Cable) -> None:
        self._cable = cable
        super().__init__(folder)
        self.address = f"{Cable.SERVER}:0"

    def start(self) -> None:
        with self._cable.server_side():
            super().start()

    def call(self, program: str, *arguments: str) -> str:
        """Runs a program in the server's network, which has a client there, and returns what it prints."""
        whole = f"import sys, stepwire\nclient = stepwire.Client({self.address!r})\n{program}"
        with self._cable.server_side():
            child = subprocess.Popen([sys.executable, "-c", whole, *arguments], stdout=subprocess.PIPE, text=True)
        output, _ = child.communicate(timeout=PATIENCE)
        assert child.returncode == 0
        return output.strip()


START = """
from stepwire_server import Plan, plan_step
step = plan_step("a", "work", input={"pieces": 1_000_000, "pause": 0.05})
print(client.start(plan=Plan(steps=[step])).execution_id)
"""

CANCEL = """
client.cancel(sys.argv[1])
client.wait(sys.argv[1], timeout=20)
"""


async def vanish(cable: Cable, server: Plugged, folder: Path) -> str:
    """Unplugs clients for good, and returns after how many seconds the server has let go of them."""

    execution_id = await asyncio.to_thread(server.call, START)
    before = sockets(server.process.pid)
    with cable.client_side():
        process = ReaderProcess(server.address, execution_id, folder / "vanished")
    with process:
        await process.have_events(since=0)
        assert sockets(server.process.pid) >= before + 3
        cable.unplug()
        gone = time.monotonic()
        process.process.kill()
        while sockets(server.process.pid) > before:
            assert time.monotonic() < gone + 40
            await asyncio.sleep(GLANCE)
        return f"{time.monotonic() - gone:.1f} s"


@pytest.mark.fault("the network unplugged, then back", how="network namespaces: ip link set down, ip address del")
@pytest.mark.timeout(300)
async def test_an_unplugged_network(tmp_path: Path, long: bool, noted: Noted) -> None:
    """Readers whose network is gone for a while, the cable or the server's address, come back by themselves and have
    everything once.
    """
    history = History()
    times = [("cable", 5.0), ("cable", 30.0), ("address", 30.0)] if long else [("cable", 2.0)]
    struck = []
    with Cable() as cable, Plugged(tmp_path, cable) as server:
        execution_id = await asyncio.to_thread(server.call, START)
        with cable.client_side():
            process = ReaderProcess(server.address, execution_id, tmp_path / "seen", **pace(long))
        with process:
            await process.have_events(since=0)
            for what, seconds in times:
                gone = time.monotonic()
                cable.unplug() if what == "cable" else cable.take_address()
                await asyncio.sleep(seconds)
                cable.plug() if what == "cable" else cable.give_address()
                struck.append((what, gone, time.monotonic()))
                await process.have_events(since=struck[-1][2])
            with asked(history, execution_id):
                await asyncio.to_thread(server.call, CANCEL, execution_id)
            readers = await process.finish(history)
        if long:
            noted.figures["clients that never come back: their connections are gone after"] = await vanish(
                cable, server, tmp_path
            )
        server.kill()
    history.journal = {execution_id: (await dump(server.journal))[execution_id]}
    judge(history, execution_id)
    noted.times = len(struck)
    for what, gone, back in struck:
        name = f"{what} for {back - gone:.0f} s"
        noted.figures[f"{name}, from its return to the next event"] = told(readers.next_event(back))
        assert max(readers.next_event(back).values()) < NOTICE
        if back - gone > NOTICE or not long:
            noted.figures[f"{name}, noticed after"] = told(readers.first_noticed(gone))
            assert max(readers.first_noticed(gone).values()) < NOTICE + 1
