"""How long a step may take."""

from __future__ import annotations

import math
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwire_server.engine.spread import Left, Spread


def test_a_step_that_has_not_started_takes_the_mean_of_what_was_seen():
    """Ahead of a step lies the mean of a log-normal distribution with these quartiles, and its variance."""
    chance = Random(1)
    seen = sorted(chance.lognormvariate(2.0, 0.5) for _ in range(20_000))
    quartiles = {f"p{share}": seen[len(seen) * share // 100] for share in (25, 50, 75)}
    whole = Spread(count=len(seen), **quartiles).whole
    mean = sum(seen) / len(seen)
    assert whole.mean == pytest.approx(mean, rel=0.02)
    assert whole.variance == pytest.approx(sum((x - mean) ** 2 for x in seen) / len(seen), rel=0.06)


@pytest.mark.parametrize("elapsed", [2.0, 7.0, 15.0])
def test_a_step_that_runs_is_one_of_those_that_take_longer(elapsed: float):
    """What is left of a step is the mean over those that took longer than it has run."""
    chance = Random(2)
    seen = [chance.lognormvariate(2.0, 0.5) for _ in range(100_000)]
    longer = [x - elapsed for x in seen if x > elapsed]
    ordered = sorted(seen)
    quartiles = {f"p{share}": ordered[len(ordered) * share // 100] for share in (25, 50, 75)}
    left = Spread(count=len(seen), **quartiles).after(elapsed)
    assert left.mean == pytest.approx(sum(longer) / len(longer), rel=0.03)


@given(
    count=st.integers(1, 10_000),
    quartiles=st.lists(st.floats(0, 1e7), min_size=3, max_size=3).map(sorted),
    elapsed=st.floats(0, 1e8),
)
def test_there_is_always_an_answer(count: int, quartiles: list[float], elapsed: float):
    """Whatever was seen and however long a step has run, what is left is finite and not negative."""
    p25, p50, p75 = quartiles
    left = Spread(count=count, p25=p25, p50=p50, p75=p75).after(elapsed)
    assert 0 <= left.mean < math.inf
    assert 0 <= left.variance < math.inf


def test_the_tail_goes_on_where_its_limit_takes_over():
    """Far beyond all that was seen, what is left does not jump."""
    spread = Spread(count=1000, p25=9.0, p50=10.0, p75=11.0)
    lefts = [spread.after(t / 100).mean for t in range(1_000, 4_000)]
    steps = [abs(after - before) for before, after in pairwise(lefts)]
    assert max(steps) < 0.15


def test_one_that_was_seen_once_is_not_sure():
    """The margin shrinks as more are seen."""
    margins = [Spread(count=count, p25=10.0, p50=10.0, p75=10.0).whole.margin for count in (1, 4, 100, 10_000)]
    assert margins == sorted(margins, reverse=True)
    assert margins[0] > 2.0
    assert margins[-1] < 0.3


def test_spans_add_up():
    """One after the other, means and variances add."""
    assert Left(1.0, 4.0) + Left(2.0, 5.0) == Left(3.0, 9.0)
    assert Left(1.0, 4.0).margin == pytest.approx(2 * 0.6745, abs=1e-3)
