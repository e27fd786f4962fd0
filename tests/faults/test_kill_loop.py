"""A server that is killed again and again loses nothing and hangs nobody: a short run of the kill loop."""

from __future__ import annotations

from pathlib import Path

import pytest

from . import kill_loop
from .noted import Noted


@pytest.mark.slow
@pytest.mark.fault("kill -9 of the server at random moments", how="SIGKILL of a real process, seeded")
@pytest.mark.timeout(150)
async def test_twenty_kills(tmp_path: Path, random_seed: int, noted: Noted) -> None:
    """After twenty kills while work is under way, every promise holds and the server served again within 5 s."""
    outcome = await kill_loop.run(tmp_path, kills=20, seed=random_seed, sessions=4, limit=120)
    print(kill_loop.table(outcome))
    noted.times = sum(outcome.kills.values())
    assert sum(outcome.kills.values()) >= 20
    assert not outcome.violations, kill_loop.table(outcome)
    assert max(outcome.to_serving) < 5
