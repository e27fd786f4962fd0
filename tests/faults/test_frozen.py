"""A server that is frozen and goes on, and a second one that wants its journal meanwhile."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from random import Random

import pytest
from tests.e2e.serving import ServerProcess

from stepwire.v1 import ExecuteRequest, Plan
from stepwire_server import plan_step

from .checkers import check, events_of
from .history import History, dump
from .kill_loop import APPS, Clients, Gauged
from .noted import Noted
from .readers import Readers, being_read, pace, ticking, told

PATIENCE = 40.0
FREEZE = float(os.environ.get("FAULTS_FREEZE") or (30 if os.environ.get("FAULTS_LONG") else 2))
"""Seconds that a server is frozen."""


def plan() -> Plan:
    """Returns a plan that takes a second or two."""
    return Plan(
        steps=[
            plan_step("a", "work", input={"pieces": 20, "pause": 0.02}),
            plan_step("b", "pay", input={"pause": 0.4}, depends_on=["a"]),
            plan_step("c", "thread", input={"pieces": 20, "pause": 0.02}),
            plan_step("d", "talk", input={"pieces": 20, "pause": 0.02}, depends_on=["c"]),
        ]
    )


def refusal(folder: Path) -> str:
    """Starts a second server on the same journal, which is refused, and returns what it says."""
    second = ServerProcess(folder, app="faulty:app", cwd=APPS, environment={"FAULTS_EFFECTS": os.devnull})
    with pytest.raises(AssertionError, match="the server did not start") as refused:
        second.start()
    return str(refused.value)


async def under_way(clients: Clients, server: Gauged, execution_id: str) -> None:
    """Returns once a watcher has seen a few events, and an operation runs."""

    def seen() -> bool:
        streams = [stream for stream in clients.history.streams if stream.execution_id == execution_id]
        return any(len(message.frames) for stream in streams for message in stream.messages) and server.gauge()[0] > 0

    while not seen():  # noqa: ASYNC110 - another process is waited for
        await asyncio.sleep(0)


@pytest.mark.slow
@pytest.mark.fault("a second server on the same journal, and the server frozen meanwhile", how="SIGSTOP, start two")
async def test_a_frozen_server_goes_on(tmp_path: Path, random_seed: int, noted: Noted) -> None:
    """Clients of a server that was frozen for seconds get everything, a second server is refused all the while, and no
    step runs twice.
    """
    history = History()
    with Gauged(tmp_path) as server:
        clients = Clients(server.address, history, Random(random_seed))
        try:
            async with asyncio.timeout(PATIENCE + FREEZE), asyncio.TaskGroup() as group:
                execution_id = await clients.start(ExecuteRequest(plan=plan(), request_id="request"))
                group.create_task(clients.watch("raw", execution_id))
                group.create_task(clients.read("client", execution_id))
                group.create_task(clients.poll(execution_id, Random(random_seed), late="late"))
                await under_way(clients, server, execution_id)
                server.process.send_signal(signal.SIGSTOP)
                thaw = asyncio.get_running_loop().time() + FREEZE
                said = await asyncio.to_thread(refusal, tmp_path)
                await asyncio.sleep(max(0, thaw - asyncio.get_running_loop().time()))
                server.process.send_signal(signal.SIGCONT)
        finally:
            await clients.close()
        server.kill()
        history.journal = await dump(server.journal)
        history.add_effects(server.effects)
    noted.figures["frozen for"] = f"{FREEZE:g} s"
    assert "is open in another server" in said
    assert check(history) == {}
    events = events_of(history.journal[execution_id])
    assert events[-1].WhichOneof("kind") == "plan_completed"
    assert [event.step_id for event in events if event.WhichOneof("kind") == "step_retrying"] == []


async def test_the_second_server_takes_over(tmp_path: Path, random_seed: int) -> None:
    """The journal of a frozen server is free as soon as that is killed: the next one takes its executions over, under a
    higher epoch, and nothing is lost.
    """
    history = History()
    with Gauged(tmp_path) as first:
        clients = Clients(first.address, history, Random(random_seed))
        try:
            async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
                execution_id = await clients.start(ExecuteRequest(plan=plan(), request_id="request"))
                group.create_task(clients.watch("raw", execution_id))
                group.create_task(clients.read("client", execution_id))
                await under_way(clients, first, execution_id)
                first.process.send_signal(signal.SIGSTOP)
                assert "is open in another server" in await asyncio.to_thread(refusal, tmp_path)
                first.kill()
                second = Gauged(tmp_path)
                second.address = first.address
                with second:
                    other = await clients.start(ExecuteRequest(plan=plan(), request_id="request"))
                    await clients.poll(execution_id, Random(random_seed))
        finally:
            await clients.close()
        history.journal = await dump(first.journal)
        history.add_effects(first.effects)
    assert check(history) == {}
    assert other == execution_id
    kept = history.journal[execution_id]
    assert kept.epoch == 2
    assert [event.plan_recovered.epoch for event in events_of(kept) if event.HasField("plan_recovered")] == [2]


@pytest.mark.slow
@pytest.mark.fault("the server frozen, then on", how="SIGSTOP, SIGCONT")
@pytest.mark.timeout(150)
async def test_readers_notice_a_frozen_server(tmp_path: Path, long: bool, noted: Noted) -> None:
    """Readers of a server that says nothing any more notice, go on trying, and have everything once when it goes on."""
    with Gauged(tmp_path) as server:
        execution_id = await ticking(server.address)
        readers = Readers(server.address, History(), **pace(long))
        async with being_read(readers, server, tmp_path, execution_id):
            server.process.send_signal(signal.SIGSTOP)
            struck = time.monotonic()
            await readers.have_noticed(since=struck)
            if long:
                await asyncio.sleep(max(0, struck + 30 - time.monotonic()))
            server.process.send_signal(signal.SIGCONT)
            thawed = time.monotonic()
            await readers.have_events(since=thawed)
    noted.figures["frozen for"] = f"{thawed - struck:.1f} s"
    noted.figures["noticed after"] = told(readers.first_noticed(struck))
    noted.figures["from SIGCONT to the next event"] = told(readers.next_event(thawed))
    assert max(readers.first_noticed(struck).values()) < 16
    assert max(readers.next_event(thawed).values()) < 15
