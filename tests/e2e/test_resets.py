"""A connection that is reset again and again costs nothing but bytes."""

from __future__ import annotations

import random

import pytest

from . import resets
from .serving import ServerProcess


@pytest.mark.parametrize("client", ["sync", "aio"])
async def test_a_stream_outlives_resets(sample: ServerProcess, client: str) -> None:
    """Through 20 resets each of 2,000 events comes once and in order, for less than twice the bytes."""
    seed = random.SystemRandom().randrange(1 << 31)
    print(f"seed {seed}")
    outcome = await resets.run(sample, client=client, events=2000, resets=20, seed=seed)
    assert outcome.resets == 20
    assert outcome.connections > 20
    assert not outcome.violations(expected=2000)
