"""A server that is killed again and again loses nothing and hangs nobody: a short run of the kill loop."""

from __future__ import annotations

from pathlib import Path

import pytest

from . import kill_loop


@pytest.mark.slow
@pytest.mark.timeout(150)
async def test_twenty_kills(tmp_path: Path, random_seed: int) -> None:
    """After twenty kills while work is under way, every promise holds and the server served again within 5 s."""
    outcome = await kill_loop.run(tmp_path, kills=20, seed=random_seed, sessions=4, limit=120)
    print(kill_loop.table(outcome))
    assert sum(outcome.kills.values()) >= 20
    assert not outcome.violations, kill_loop.table(outcome)
    assert max(outcome.to_serving) < 5
