"""A server with callers of all kinds holds as much when they have gone as before they came."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import pytest

from . import soak
from .gauges import Held, mebibytes, slope
from .noted import Noted


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.fault("callers of all kinds, for long", how="17 kinds of sessions, purging all the while")
async def test_nothing_stays(tmp_path: Path, long: bool, noted: Noted, random_seed: int) -> None:
    """While callers start, watch, cancel, leave, are cut off and err, every promise holds; when they have gone, the
    server has the tasks, streams and descriptors that it had before, and no more memory than is allowed.
    """
    if not long:
        # In seconds the server has not yet opened all that it keeps: readers of the journal, threads.
        pytest.skip("only in the long run: make faults")
    outcome = await soak.run(tmp_path, seconds=300, seed=random_seed, rate=25, keep=300, every=10)
    print(soak.table(outcome))
    assert outcome.last is not None
    noted.times = sum(outcome.sessions.values())
    noted.figures["at rest, before and after"] = "; ".join(
        f"{mebibytes(sample.held.resident)} MiB, {sample.census['tasks']} tasks, {sample.held.descriptors} descriptors"
        for sample in (outcome.first, outcome.last)
    )
    assert outcome.violations == {}, soak.table(outcome)
    assert outcome.purged > 0
    assert len(outcome.sessions) > 10


@pytest.mark.parametrize("name", ["tasks", "streams", "followers", "running", "abandoned"])
def test_the_judge_finds_what_stays(name: str) -> None:
    """One task, stream, follower, execution or abandoned step more at rest than before is a violation."""
    outcome = _outcome()
    outcome.judge()
    assert outcome.violations == {}
    assert outcome.last is not None
    outcome.last.census[name] += 1
    outcome.judge()
    assert name in outcome.violations["P15"][0]


def test_the_judge_finds_growing_memory() -> None:
    """Memory that grows by 110 bytes for each of three streams an execution is a violation, noise of a MiB is none."""
    outcome = _outcome(per_execution=330)
    outcome.judge()
    assert "memory grows" in outcome.violations["P15"][0]
    assert outcome.slope[0] == pytest.approx(330_000, rel=0.1)


def test_what_is_kept_for_readers_hides_no_growth() -> None:
    """Memory that grows is a violation also where what is kept for late readers shrinks by as much; and what is kept is
    none, up to its limit.
    """
    outcome = _outcome(per_execution=330)
    for sample in outcome.samples:
        sample.census["tails_bytes"] = (60_000 - sample.census["accepted"]) * 330
        sample.held.resident += sample.census["tails_bytes"]
    outcome.judge()
    assert len(outcome.violations["P15"]) == 1
    assert "memory grows" in outcome.violations["P15"][0]
    outcome = _outcome()
    for number, sample in enumerate(outcome.samples):
        sample.census["tails_bytes"] = number * (64 << 20) // len(outcome.samples)
        sample.held.resident += sample.census["tails_bytes"]
    outcome.judge()
    assert outcome.violations == {}
    outcome.samples[7].census["tails_bytes"] = (64 << 20) + 1
    outcome.judge()
    assert "late readers" in outcome.violations["P15"][0]


def test_chance_is_no_leak() -> None:
    """Memory that goes up and down by more than it grows is no violation, however the line through it lies."""
    outcome = _outcome()
    for number, sample in enumerate(outcome.samples):
        sample.held.resident += (-1) ** number * (10 << 20) + sample.census["accepted"] * 80
    assert outcome.slope[0] > soak.SLOPE
    outcome.judge()
    assert outcome.violations == {}


def test_a_slope() -> None:
    """The slope of points on a line is the line's, without error; of points that do not move, 0; and points beside the
    line have an error.
    """
    assert slope([(0, 5), (10, 25), (20, 45)]) == pytest.approx((2, 0))
    assert slope([(3, 1), (3, 2)]) == (0, 0)
    assert slope([(0, 0), (1, 1)]) == (1, math.inf)
    assert slope([(0, 1), (1, 0), (2, 3), (3, 2)]) == pytest.approx((0.6, 0.8**0.5 * 0.6), rel=0.2)


def _outcome(*, per_execution: int = 0) -> soak.Outcome:
    """Returns an hour's run of 60,000 executions in which memory goes up and down by a MiB."""
    counted = {"tasks": 10, "streams": 1, "followers": 1, "running": 1, "abandoned": 0, "accepted": 0, "tails_bytes": 0}
    first = soak.Sample(
        at=0, held=Held(resident=90 << 20, descriptors=28, threads=20), census=counted, journal=1 << 20, client=1 << 20
    )
    outcome = soak.Outcome(seed=1, first=first)
    for number in range(1, 361):
        sample = copy.deepcopy(first)
        sample.at = 10 * number
        sample.census["accepted"] = number * 60_000 // 360
        sample.held.resident += sample.census["accepted"] * per_execution + (number % 7 - 3 << 18)
        outcome.samples.append(sample)
    outcome.last = copy.deepcopy(first)
    outcome.last.census["accepted"] = 60_000
    return outcome
