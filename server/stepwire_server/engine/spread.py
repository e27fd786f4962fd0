"""How long a step may take, as a log-normal distribution: what is left of it, the longer it has run already.

Durations of one operation lie around their median by factors, not by differences: half as long is as likely as twice.
The median and the quartiles decide, so that a few that hung for hours move nothing.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import NamedTuple

__all__ = ["Left", "Spread"]

_NORMAL = NormalDist()
_QUARTILE = _NORMAL.inv_cdf(0.75)

_NARROWEST, _WIDEST = 0.02, 1.0
"""Bounds of the logarithm's deviation: of two operations in one (found in a cache or not) the mean would be far off."""

_DOUBT = 0.5
"""The logarithm's deviation that is added where an operation was seen once; it shrinks with the root of the count."""

_TAIL = 1e-6
"""The share of steps that take longer, below which the tail is reckoned by its limit."""

_LATE = 0.1
"""What is left at least of a step that is late by more than two deviations, as a share of that: something is wrong that
the past does not know, and that seldom ends the next moment.
"""


class Left(NamedTuple):
    """A span that lies ahead, in seconds."""

    mean: float
    """What is expected."""
    variance: float
    """How far it may be off, squared."""

    def __add__(self, other: tuple[object, ...]) -> Left:
        """Returns both spans, one after the other."""
        assert isinstance(other, Left)
        return Left(self.mean + other.mean, self.variance + other.variance)

    @property
    def margin(self) -> float:
        """Every second true value is within so much of the mean."""
        return _QUARTILE * math.sqrt(self.variance)


class Spread:
    """How long steps of one operation take: by their quartiles in seconds, and how many there were, at least one."""

    __slots__ = ("_middle", "_sigma", "whole")

    def __init__(self, *, count: int, p25: float, p50: float, p75: float) -> None:
        middle = max(p50, 1e-6)
        wide = math.log(max(p75, middle) / max(min(p25, middle), 1e-9)) / (2 * _QUARTILE)
        doubt = _DOUBT / math.sqrt(count)
        self._middle = math.log(middle)
        self._sigma = min(max(math.hypot(min(wide, _WIDEST), doubt), _NARROWEST), _WIDEST)
        self.whole = self.after(0.0)
        """What lies ahead of a step that has not started."""

    def after(self, elapsed: float) -> Left:
        """Returns what lies ahead of a step that has run for so many seconds: the mean over those that take longer."""
        middle, sigma = self._middle, self._sigma
        if elapsed <= 0:
            mean = math.exp(middle + sigma**2 / 2)
            return Left(mean, mean**2 * math.expm1(sigma**2))
        place = (math.log(elapsed) - middle) / sigma
        late = _LATE * max(0.0, elapsed - math.exp(middle + 2 * sigma))
        longer = _NORMAL.cdf(-place)
        if longer < _TAIL:
            mean = max(late, elapsed * sigma / place)
            return Left(mean, mean**2)
        mean = math.exp(middle + sigma**2 / 2) * _NORMAL.cdf(sigma - place) / longer
        square = math.exp(2 * middle + 2 * sigma**2) * _NORMAL.cdf(2 * sigma - place) / longer
        return Left(max(mean - elapsed, late), max(square - mean**2, late**2))
