"""Durations in buckets whose bounds grow by 2 %: small, exact to merge, and good for any percentile afterwards.

A bucket holds what is above GAMMA ** (index - 1) nanoseconds and at most GAMMA ** index, so 366 days are in the bucket
1,919. Two histograms of the same durations are equal, whatever was merged into what, and in which order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["GAMMA", "Histogram"]

GAMMA = 1.02
"""Each bucket's upper bound is that of the one before times this."""

_LOG = math.log(GAMMA)
_MIDDLE = 2 / (1 + GAMMA)
"""From a bucket's upper bound to the value that is as far from both bounds, in parts of them: 1 % at most."""


class Histogram:
    """How often which duration was seen."""

    __slots__ = ("_counts",)

    def __init__(self, counts: Mapping[int, int] | None = None) -> None:
        self._counts = dict(counts or {})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Histogram) and self._counts == other._counts

    __hash__ = None  # type: ignore[assignment]  # It changes.

    def __repr__(self) -> str:
        return f"Histogram({dict(sorted(self._counts.items()))})"

    @property
    def total(self) -> int:
        """How many durations were seen."""
        return sum(self._counts.values())

    def add(self, nanoseconds: int) -> None:
        """Takes one more duration. One below a nanosecond is none at all."""
        index = math.ceil(math.log(nanoseconds) / _LOG) if nanoseconds > 1 else max(0, nanoseconds)
        self._counts[index] = self._counts.get(index, 0) + 1

    def merge(self, other: Histogram) -> None:
        """Takes all that another one has seen."""
        counts = self._counts
        for index, count in other._counts.items():
            counts[index] = counts.get(index, 0) + count

    def quantiles(self, *shares: float) -> Sequence[float]:
        """Returns, for each share (0 to 1, rising), the seconds that so many durations did not exceed: the smallest
        duration for which that is so, to within 1 %. All are 0 where none was seen.
        """
        wanted = [max(1, math.ceil(share * self.total - 1e-9)) for share in shares]
        found: list[float] = []
        seen = 0
        for index, count in sorted(self._counts.items()):
            seen += count
            while len(found) < len(wanted) and seen >= wanted[len(found)]:
                found.append(GAMMA**index * _MIDDLE / 1e9 if index else 0.0)
        return found or [0.0] * len(shares)

    def encode(self) -> list[int]:
        """Returns it as a list: index, count, index, count ..., by index."""
        return [number for pair in sorted(self._counts.items()) for number in pair]

    @classmethod
    def decode(cls, encoded: Any) -> Histogram:
        """Returns what was encoded. Raises ValueError or TypeError where it can't be."""
        return cls(dict(zip(encoded[::2], encoded[1::2], strict=True)))
