"""A disk that is full: before a start, at a start, while steps run, and while the journal is kept up."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path
from random import Random

import grpc.aio
import pytest
from tests.e2e.serving import until

from stepwire.errors import StorageFull
from stepwire.transport import error_from_call
from stepwire.v1 import (
    ExecuteRequest,
    ExecutionState,
    ListExecutionsRequest,
    ListExecutionsResponse,
    Plan,
    StartExecutionRequest,
)
from stepwire_server import App, plan_step
from stepwire_server.api.server import Server
from stepwire_server.journal import ExecutionRecord, MemoryJournal

from .checkers import check, events_of
from .history import History, Kept, dump
from .kill_loop import Clients
from .noted import Noted
from .storage import Harmed, SmallDisk, findings

COMPLETED = ExecutionState.EXECUTION_STATE_COMPLETED
SERVICE = "/stepwire.v1.ExecutionService/"
PATIENCE = 60.0
ENOUGH_TO_OPEN = 1 << 16
"""Bytes that let a journal be opened, and not be purged."""


def plan(pieces: int) -> Plan:
    """Returns a plan that reports steadily."""
    return Plan(
        steps=[
            plan_step("a", "work", input={"pieces": pieces, "pause": 0.01}),
            plan_step("b", "talk", input={"pieces": pieces, "pause": 0.01}),
            plan_step("c", "pay", input={"pause": 0.01}, depends_on=["a"]),
            plan_step("d", "burst", input={"reports": 200}, depends_on=["b"]),
        ]
    )


def bulky(size: int = 100_000) -> Plan:
    """Returns a plan of one step whose input is large, so that a few fill what was left."""
    return Plan(steps=[plan_step("a", "work", input={"pieces": 1, "pause": 0.0, "given": "x" * size})])


class Starter:
    """Sends starts once each, and keeps which were accepted."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.aio.insecure_channel(address)
        self.accepted: list[str] = []

    async def close(self) -> None:
        await self._channel.close()

    async def start(self, request_id: str, *, size: int) -> None:
        """Starts an execution. Raises what its status says."""
        request = StartExecutionRequest(plan=bulky(size), request_id=request_id)
        try:
            await self._channel.unary_unary(f"{SERVICE}StartExecution")(request.SerializeToString(), timeout=20)
        except grpc.aio.AioRpcError as error:
            raise error_from_call(error) from None
        self.accepted.append(request_id)

    async def refused(self, *, size: int = 100_000) -> tuple[str, StorageFull]:
        """Starts one execution after the other until one is refused; returns its request id, and why."""
        for number in itertools.count():
            try:
                await self.start(f"bulky-{number}", size=size)
            except StorageFull as error:
                return f"bulky-{number}", error
        raise AssertionError

    async def states(self) -> list[int]:
        """Returns the states of all executions."""
        request = ListExecutionsRequest(page_size=100)
        reply = await self._channel.unary_unary(f"{SERVICE}ListExecutions")(request.SerializeToString(), timeout=20)
        return [execution.state for execution in ListExecutionsResponse.FromString(reply).executions]


def frames(history: History) -> int:
    """Returns how many events the raw watchers have."""
    return sum(len(message.frames) for stream in history.streams for message in stream.messages)


async def seen(history: History, count: int) -> None:
    """Returns once the raw watchers have so many events."""
    while frames(history) < count:  # noqa: ASYNC110 - another process is waited for
        await asyncio.sleep(0)


async def session(clients: Clients, request_id: str, pieces: int) -> None:
    """One execution, its watchers and its end."""
    execution_id = await clients.start(ExecuteRequest(plan=plan(pieces), request_id=request_id))
    async with asyncio.TaskGroup() as group:
        group.create_task(clients.watch(f"{request_id} raw", execution_id))
        group.create_task(clients.read(f"{request_id} client", execution_id))
        group.create_task(clients.poll(execution_id, Random(1), late=f"{request_id} late"))


@pytest.mark.fault("the journal's disk is full while executions run", how="a tmpfs of 8 MiB and a ballast file")
async def test_a_full_disk_under_way(tmp_path: Path, random_seed: int, noted: Noted) -> None:
    """While the disk is full new starts are refused with a reason and a time, what runs waits, watchers keep what they
    have, and all goes on by itself when there is room, without a loss.
    """
    history = History()
    loop = asyncio.get_running_loop()
    with SmallDisk(tmp_path / "disk") as disk:
        server = Harmed(tmp_path, journal=disk.place / "journal.db")
        with server:
            clients = Clients(server.address, history, Random(random_seed))
            starter = Starter(server.address)
            try:
                async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
                    sessions = [group.create_task(session(clients, f"r{number}", 100)) for number in range(3)]
                    await seen(history, 20)
                    disk.fill()
                    request_id, error = await starter.refused()
                    assert error.retry_after is not None
                    noted.figures["retry after"] = f"{error.retry_after.total_seconds():g} s"
                    for sign in ("waits for room on the disk", "can't be checkpointed now"):
                        await asyncio.to_thread(until, lambda sign=sign: sign in server.said, sign)
                    # Whoever reads or watches goes on; nothing fails, and nothing ends.
                    count = frames(history)
                    assert ExecutionState.EXECUTION_STATE_FAILED not in await starter.states()
                    assert not any(task.done() for task in sessions)
                    assert not any(stream.status for stream in history.streams if stream.reason != "CURSOR_AHEAD")
                    freed = loop.time()
                    disk.clear()
                    await seen(history, count + 1)
                    noted.figures["to the next event with room"] = f"{loop.time() - freed:.1f} s"
                    await starter.start(request_id, size=100_000)
            finally:
                await starter.close()
                await clients.close()
            assert server.process.poll() is None, server.said
            server.kill()
        history.journal = await settled(server)
        history.add_effects(server.effects)
        assert findings(server.journal) == []
    assert check(history) == {}
    assert not clients.odd
    # What was refused left no trace.
    assert {kept.request_id for kept in history.journal.values()} == {"r0", "r1", "r2", *starter.accepted}
    for kept in history.journal.values():
        kinds = [event.WhichOneof("kind") for event in events_of(kept)]
        assert kinds[-1] == "plan_completed"


@pytest.mark.fault("the journal's disk is full at the start", how="a tmpfs of 8 MiB and a ballast file")
async def test_a_full_disk_at_the_start(tmp_path: Path, random_seed: int, long: bool) -> None:
    """A server with executions to take over does not start on a full disk, says why in one line, and takes them over
    when there is room.
    """
    if not long:
        pytest.skip("only in the long run: make faults")
    history = History()
    with SmallDisk(tmp_path / "disk") as disk:
        server = Harmed(tmp_path, journal=disk.place / "journal.db")
        with server:
            clients = Clients(server.address, history, Random(random_seed))
            try:
                async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
                    group.create_task(session(clients, "r", 100))
                    await seen(history, 20)
                    server.kill()
                    disk.fill()
                    said = await asyncio.to_thread(server.refuse_to_start)
                    assert server.code == 1
                    assert said.startswith("Error: ")
                    assert said.count("\n") == 1, said
                    assert "disk is full" in said or "there is no room on its disk" in said
                    disk.clear()
                    await asyncio.to_thread(server.start)
            finally:
                await clients.close()
            server.kill()
        history.journal = await dump(server.journal)
        history.add_effects(server.effects)
    assert check(history) == {}
    assert not clients.odd


class FullAtClaims(MemoryJournal):
    """A journal that has room for nothing but what it holds."""

    async def claim(self, execution_id: str, *, epoch: int) -> ExecutionRecord:
        raise StorageFull("The disk is full.")


async def test_nothing_is_left_to_nobody() -> None:
    """A server that has no room to claim an execution at its start does not start without it."""
    journal = FullAtClaims()
    await journal.open()
    await journal.create(ExecutionRecord(execution_id="e", request=b"", create_time_ns=1))
    with pytest.raises(StorageFull):
        await Server(App("empty").catalog(), journal).start()


@pytest.mark.fault("the journal's disk is full during a purge", how="a tmpfs of 8 MiB and a ballast file")
async def test_a_full_disk_during_a_purge(tmp_path: Path, long: bool) -> None:
    """A server that can't purge or compact for want of room serves all the same, and does so at its next start."""
    if not long:
        pytest.skip("only in the long run: make faults")
    with SmallDisk(tmp_path / "disk") as disk:
        server = Harmed(tmp_path, flags=["--keep-executions", "2"], journal=disk.place / "journal.db")
        with server:
            starter = Starter(server.address)
            for number in range(8):
                await starter.start(f"r{number}", size=20_000)
            await _ended(starter, 8)
            await starter.close()
            assert server.terminate() == 0
            disk.fill(leave=ENOUGH_TO_OPEN)
            server.start()
            starter = Starter(server.address)
            await asyncio.to_thread(until, lambda: "the journal could not be kept up" in server.said, "a purge")
            assert "disk is full" in server.said
            assert len(await starter.states()) == 8
            await starter.close()
            assert server.terminate() == 0
            assert findings(server.journal) == []
            disk.clear()
            server.start()
            starter = Starter(server.address)
            await _ended(starter, 2)
            await starter.close()
            server.kill()
        assert findings(server.journal) == []


async def _ended(starter: Starter, count: int) -> None:
    """Returns once there are so many executions, all ended."""
    async with asyncio.timeout(PATIENCE):
        while await starter.states() != [COMPLETED] * count:  # noqa: ASYNC110 - another process is waited for
            await asyncio.sleep(0)


async def settled(server: Harmed) -> dict[str, Kept]:
    """Returns what the journal holds once a server has ended all that it took over."""
    server.start()
    starter = Starter(server.address)
    async with asyncio.timeout(PATIENCE):
        while set(await starter.states()) != {COMPLETED}:  # noqa: ASYNC110 - another process is waited for
            await asyncio.sleep(0)
    await starter.close()
    server.kill()
    return await dump(server.journal)
