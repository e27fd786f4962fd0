"""Numbers computed a second time, in Python, from the rows themselves."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from typing import Any

__all__ = ["AGGREGATES", "UNITS", "check", "equal"]

AGGREGATES: dict[str, Callable[[Sequence[Any]], Any]] = {
    "average": lambda found: math.fsum(found) / len(found) if found else None,
    "sum": lambda found: math.fsum(found) if found else None,
    "minimum": lambda found: min(found, default=None),
    "maximum": lambda found: max(found, default=None),
    "median": lambda found: statistics.median(found) if found else None,
    "number of different": lambda found: len(set(found)),
}
UNITS: dict[str, Callable[[date], date]] = {
    "day": lambda day: day,
    "week": lambda day: day - timedelta(days=day.weekday()),
    "month": lambda day: day.replace(day=1),
    "quarter": lambda day: date(day.year, (day.month - 1) // 3 * 3 + 1, 1),
    "year": lambda day: date(day.year, 1, 1),
}


def equal(one: Any, other: Any) -> bool:
    if one is None or other is None:
        return one is other
    return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-6)


def check(found: dict[Any, Any], expected: dict[Any, Any]) -> None:
    assert set(found) == set(expected)
    for label, value in expected.items():
        assert equal(found[label], value), (label, found[label], value)
