"""Operations that do what no operation should: their executions end as they must, and the server lives."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from tests.e2e.serving import ServerProcess, until

import stepwire.aio
from stepwire.errors import reason_of
from stepwire.v1 import ExecuteRequest, Plan
from stepwire_server import plan_step

from .checkers import check, events_of
from .history import History, Kept, dump
from .kill_loop import APPS, Clients
from .noted import Noted

PATIENCE = 60.0

BLOCKED_AFTER = 0.4
"""Seconds after which the server tells of a loop that is blocked."""

TIMED = {"hangs": 0.5, "swallows": 0.5}
"""Operations that never end by themselves, with the time that they get."""

BAD = {
    "raises": ("OPERATION_FAILED", "RuntimeError: as bad operations do"),
    "hangs": ("TIMEOUT", "step hangs failed: the attempt took longer than 0.5 s"),
    "swallows": ("TIMEOUT", "the operation does not end; its task is abandoned"),
    "cancelled": ("OPERATION_FAILED", "step cancelled failed: the operation raised CancelledError"),
    "exits": ("OPERATION_FAILED", "SystemExit: 3"),
    "blocks": ("", "(operation blocks), at "),
    "unfit": ("OUTPUT_INVALID", "step unfit failed: the output can't be sent"),
    "late": ("", "spoke after the end: StepEnded"),
}
"""Of each: the reason that its step fails with, empty where it completes, and what the log says."""


@pytest.fixture
def server(tmp_path: Path, long: bool) -> Iterator[ServerProcess]:
    """A server of bad operations."""
    environment = {"BAD_BLOCKS": f"{blocks(long)}"}
    flags = ["--cancel-grace", "0.5", "--blocked-loop-after", f"{BLOCKED_AFTER}"]
    with ServerProcess(tmp_path, app="bad:app", cwd=APPS, flags=flags, environment=environment) as made:
        yield made


def blocks(long: bool) -> float:
    """Returns for how many seconds the operation that blocks the loop does so."""
    return 5.0 if long else 1.0


@pytest.mark.slow
@pytest.mark.timeout(90)
@pytest.mark.fault(
    "an operation that raises, hangs, swallows a cancel, raises CancelledError or SystemExit, blocks the loop, returns "
    "what can't be encoded, speaks after its end",
    how="sample operations in a real server",
)
async def test_bad_operations(server: ServerProcess, noted: Noted, long: bool) -> None:
    """Each bad operation's step ends as it must, the log says what was wrong, and an honest execution beside them and
    one after them complete; of the one that blocks the loop, the log names the line, and GetServerInfo tells how long.
    """
    history = History(cancel_grace=0.5)
    clients = Clients(server.address, history, Random(1))
    try:
        async with asyncio.timeout(PATIENCE):
            ids = await asyncio.gather(*(clients.start(request(name)) for name in (*BAD, "honest")))
            await asyncio.gather(
                *(clients.watch(f"of {id_}", id_) for id_ in ids), *(clients.poll(id_, Random(1)) for id_ in ids)
            )
            after = await clients.start(ExecuteRequest(plan=Plan(steps=[plan_step("honest", "honest")])))
            await clients.watch("after", after)
    finally:
        await clients.close()
    await asyncio.to_thread(until, lambda: "spoke after" in server.log.read_text("utf-8"), "the late word")
    went_on = re.compile(r"goes on; .*\(operation blocks\)")
    await asyncio.to_thread(until, lambda: went_on.search(server.log.read_text("utf-8")), "the loop's going on")
    async with stepwire.aio.Client(server.address) as client:
        load = (await client.server_info()).load
    assert server.terminate() == 0
    noted.times = len(BAD)
    history.journal = await dump(server.journal)
    assert check(history) == {}
    assert clients.odd == {}
    log = server.log.read_text("utf-8")
    source = (APPS / "bad.py").read_text("utf-8").splitlines()
    for name, id_ in zip(BAD, ids, strict=False):
        reason, line = BAD[name]
        assert reason_for(history.journal[id_]) == reason, name
        assert line in log, name
    assert reason_for(history.journal[ids[-1]]) == reason_for(history.journal[after]) == ""
    step = re.escape(f"{ids[list(BAD).index('blocks')]}/blocks (operation blocks)")
    told = re.findall(rf"WARNING .* blocked for ([\d.]+) s by step {step}, at \S+bad\.py:(\d+), blocks\b", log)
    assert "the event loop has been blocked for" in log
    assert {"time.sleep" in source[int(line) - 1] for _, line in told} == {True}
    seconds = told[-1][0]
    assert float(seconds) == pytest.approx(blocks(long), abs=0.5)
    assert load.loop_blocks >= 1
    assert load.longest_loop_block.ToMilliseconds() / 1000 >= float(seconds) - 0.1
    noted.figures["the loop was blocked"] = f"{seconds} s"


def request(name: str) -> ExecuteRequest:
    """Returns a request that runs one operation, alone."""
    step = plan_step(name, name, timeout=TIMED.get(name))
    return ExecuteRequest(plan=Plan(steps=[step]), request_id=f"request-{name}")


def reason_for(kept: Kept) -> str:
    """Returns why the one step failed; empty where it completed."""
    events = events_of(kept)
    for event in events:
        if event.HasField("step_failed"):
            assert events[-1].HasField("plan_failed")
            return str(reason_of(event.step_failed.error))
    assert events[-1].HasField("plan_completed")
    return ""


async def test_a_server_ends_although_an_operation_does_not(server: ServerProcess) -> None:
    """After SIGTERM a server ends also where an operation that was abandoned goes on for ever; once it did not, because
    asyncio waits for every task that it has cancelled.
    """
    clients = Clients(server.address, History(), Random(1))
    try:
        async with asyncio.timeout(PATIENCE):
            await clients.watch("raw", await clients.start(request("swallows")))
    finally:
        await clients.close()
    assert server.terminate() == 0
    assert "the process ends without it" in server.log.read_text("utf-8")
