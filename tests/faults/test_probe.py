"""The probe sees what a server shows too early, and nothing where it does not."""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random

import pytest
from tests.e2e.serving import ServerProcess

from stepwire.v1 import ExecuteRequest, Plan
from stepwire_server import plan_step

from . import kill_loop
from .checkers import CHECKERS
from .history import History, Probe
from .kill_loop import APPS, Clients

PATIENCE = 30.0


@pytest.mark.parametrize(("app", "hasty"), [("faulty", False), ("hasty", True)])
async def test_a_server_that_shows_before_it_commits(
    tmp_path: Path, app: str, hasty: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A probe at each message finds a server that wakes its watchers before the commit, and finds nothing in ours."""
    monkeypatch.setattr(kill_loop, "_PROBED", 1.0)
    history = History()
    with ServerProcess(tmp_path, app=f"{app}:app", cwd=APPS, environment={"FAULTS_EFFECTS": "/dev/null"}) as server:
        clients = Clients(server.address, history, Random(1), probe=Probe(server.journal))
        try:
            async with asyncio.timeout(PATIENCE):
                step = plan_step("a", "work", input={"pieces": 10, "pause": 0.01})
                execution_id = await clients.start(ExecuteRequest(plan=Plan(steps=[step])))
                await clients.watch("raw", execution_id)
        finally:
            await clients.close()
    assert sum(message.committed is not None for stream in history.streams for message in stream.messages) > 2
    assert bool(list(CHECKERS["P5"](history))) is hasty
