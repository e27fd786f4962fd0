"""Many executions cancelled at once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from .cancel_many import GRACES, run
from .noted import Noted


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("operation", GRACES)
@pytest.mark.fault("many executions cancelled at once", how="CancelExecution of each, together")
async def test_many_are_cancelled_at_once(tmp_path: Path, noted: Noted, long: bool, operation: str) -> None:
    """However many run, a cancel ends each: those that let it at once, the others after the grace period and as
    abandoned; what depends on them is skipped, and the server serves on.
    """
    async with asyncio.timeout(280 if long else 55):
        outcome = await run(tmp_path, operation, executions=1_000 if long else 20, grace=2.0 if long else 0.5)
    assert outcome.wrong == []
    noted.times = outcome.executions
    noted.figures["operation"] = operation
    noted.figures["last end after"] = f"{outcome.ended:.2f} s"
    noted.figures["from cancelling to the end, worst"] = f"{max(outcome.each):.2f} s"
