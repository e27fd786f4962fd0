"""A server whose storage fails it: calls that end with EIO, and a disk that is full."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest

from stepwire.v1 import ExecuteRequest, Plan
from stepwire_server import plan_step

from .checkers import check
from .history import History, dump
from .kill_loop import Clients
from .noted import Noted
from .storage import Harmed, failing, strace

PATIENCE = 60.0
FATAL = 74
"""What a server ends with that does not know what is stored."""


def plan() -> Plan:
    """Returns a plan with quiet moments, in which the journal is checkpointed."""
    return Plan(
        steps=[
            plan_step("a", "work", input={"pieces": 6, "pause": 0.03}),
            plan_step("b", "pay", input={"pause": 0.35}, depends_on=["a"]),
            plan_step("c", "talk", input={"pieces": 6, "pause": 0.02}, depends_on=["b"]),
            plan_step("d", "work", input={"pieces": 3, "pause": 0.3}, depends_on=["c"]),
        ]
    )


@dataclass(frozen=True, kw_only=True)
class Strike:
    """Which call fails."""

    durability: str
    file: str
    """What is added to the journal's name."""
    when: str
    calls: str = "fsync,fdatasync"
    fault: str = "error=EIO"
    code: int = FATAL


STRIKES = {
    "commit": Strike(durability="machine", file="-wal", when="3+"),
    "commit-once": Strike(durability="machine", file="-wal", when="7"),
    "checkpoint": Strike(durability="machine", file="", when="1+"),
    "process-checkpoint": Strike(durability="process", file="", when="1+"),
    "process-wal": Strike(durability="process", file="-wal", when="1+"),
    "write-of-a-commit": Strike(durability="machine", file="-wal", when="4+", calls="pwrite64"),
    "write-of-a-checkpoint": Strike(durability="machine", file="", when="2+", calls="pwrite64"),
    "killed-in-a-commit": Strike(
        durability="machine", file="-wal", when="5", calls="pwrite64", fault="signal=SIGKILL", code=-9
    ),
    "killed-in-a-checkpoint": Strike(
        durability="machine", file="", when="3", calls="pwrite64", fault="signal=SIGKILL", code=-9
    ),
}
SHORT = ("commit", "checkpoint")


@pytest.mark.parametrize("name", STRIKES)
@pytest.mark.fault("a write or an fsync of the journal fails", how="strace -e inject=...:error=EIO, signal=SIGKILL")
async def test_a_call_fails(tmp_path: Path, name: str, long: bool, random_seed: int, noted: Noted) -> None:
    """A server whose journal's disk fails it ends with 74 and shows nothing that it does not know to be stored; the
    next one goes on, and every promise holds.
    """
    if not long and name not in SHORT:
        pytest.skip("only in the long run: make faults")
    strike = STRIKES[name]
    history = History()
    with Harmed(tmp_path, flags=["--durability", strike.durability]) as server:
        clients = Clients(server.address, history, Random(random_seed))
        try:
            async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
                file = server.journal.with_name(server.journal.name + strike.file)
                with failing(server, file, calls=strike.calls, fault=strike.fault, when=strike.when):
                    for number in range(3):
                        group.create_task(_session(clients, f"r{number}", number))
                    code = await asyncio.to_thread(server.wait_for_its_end)
                assert code == strike.code, server.said
                await asyncio.to_thread(server.start)
        finally:
            await clients.close()
        server.kill()
        history.journal = await dump(server.journal)
        history.add_effects(server.effects)
    noted.figures |= {"which": name, "code": str(code)}
    assert len(history.journal) == 3
    assert check(history) == {}
    assert not clients.odd


async def _session(clients: Clients, request_id: str, number: int) -> None:
    execution_id = await clients.start(ExecuteRequest(plan=plan(), request_id=request_id))
    async with asyncio.TaskGroup() as group:
        group.create_task(clients.watch(f"{request_id} raw", execution_id))
        group.create_task(clients.read(f"{request_id} client", execution_id))
        group.create_task(clients.poll(execution_id, Random(number), late=f"{request_id} late"))


@pytest.mark.parametrize(
    ("calls", "when", "code"),
    [
        pytest.param("fsync", "1+", 1, id="log-before-it-is-read"),
        pytest.param("fdatasync", "1+", FATAL, id="claim"),
        pytest.param("pwrite64", "1+", FATAL, id="write-of-a-claim"),
    ],
)
@pytest.mark.fault("a write or an fsync of the journal fails at the start", how="strace -e inject=...:error=EIO")
async def test_a_call_fails_at_the_start(
    tmp_path: Path, calls: str, when: str, code: int, long: bool, random_seed: int, noted: Noted
) -> None:
    """A server whose disk fails it while it takes executions over does not serve; the next one takes them over, under
    epochs that only rise.
    """
    if not long:
        pytest.skip("only in the long run: make faults")
    history = History()
    with Harmed(tmp_path) as server:
        clients = Clients(server.address, history, Random(random_seed))
        try:
            async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
                group.create_task(_session(clients, "r", 1))
                await under_way(clients, server)
                server.kill()
                wal = server.journal.with_name(server.journal.name + "-wal")
                notes = tmp_path / "notes"
                server.prefix = [*strace(path=wal, calls=calls, fault="error=EIO", when=when, follow=notes), "-D"]
                said = await asyncio.to_thread(server.refuse_to_start)
                assert server.code == code, said
                noted.figures["code"] = str(code)
                assert code == FATAL or "Error: the server can't start: [Errno 5]" in said
                assert (code == FATAL) == ("the journal stops: nobody knows" in said)
                server.prefix = []
                await asyncio.to_thread(server.start)
        finally:
            await clients.close()
        server.kill()
        history.journal = await dump(server.journal)
        history.add_effects(server.effects)
    assert check(history) == {}
    assert not clients.odd


@pytest.mark.fault("a disk that fails a new journal", how="strace -e inject=...:error=EIO")
def test_a_new_journal_on_a_disk_that_fails(tmp_path: Path) -> None:
    """A server that can't make its journal says so in one line, and makes it at the next start."""
    server = Harmed(tmp_path)
    command = strace(path=server.journal, calls="pwrite64", fault="error=EIO", when="1+", follow=tmp_path / "notes")
    server.prefix = [*command, "-D"]
    said = server.refuse_to_start()
    assert server.code == 1
    assert said.strip() == f"Error: {server.journal} can't be opened: disk I/O error"
    server.prefix = []
    with server:
        assert server.address


async def under_way(clients: Clients, server: Harmed) -> None:
    """Returns once a watcher has seen a few events, and an operation runs."""
    streams = clients.history.streams
    while not server.gauge()[0] or sum(len(m.frames) for s in streams for m in s.messages) < 5:  # noqa: ASYNC110
        await asyncio.sleep(0)
