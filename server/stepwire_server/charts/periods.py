"""Spans of time as people write them: 2024, 2024-03, March 2024, 15.03.2024."""

from __future__ import annotations

__all__ = ["Period", "read_period", "unit_of_span"]

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from stepwire_server.charts.small_words import MONTHS
from stepwire_server.charts.specification import Bucket
from stepwire_server.charts.tokens import Token

_FIRST, _LAST = 1000, 9998
"""Years that are taken for years."""


@dataclass(frozen=True, slots=True)
class Period:
    """From one day on and before another, both as 2024-01-31."""

    start: str
    end: str


def read_period(tokens: Sequence[Token]) -> tuple[Period, int] | None:
    """Returns the period that the tokens begin with, and how many of them it takes; None where there is none."""
    if not tokens:
        return None
    first = tokens[0]
    text = first.text.strip()
    if first.kind in ("date", "quoted", "number"):
        parts = text.split("-")
        if "." in text:
            parts = text.split(".")[::-1]
        if len(parts) > 3 or not all(part.isdigit() for part in parts) or len(parts[0]) != 4:
            return None
        found = _period(*(int(part) for part in parts))
        return None if found is None else (found, 1)
    month = MONTHS.get(first.folded)
    if month is not None and len(tokens) > 1 and tokens[1].kind == "number" and len(tokens[1].text) == 4:
        found = _period(int(tokens[1].text), month) if tokens[1].text.isdigit() else None
        return None if found is None else (found, 2)
    if first.folded in ("year", "jahr", "jahre") and len(tokens) > 1:
        found_later = read_period(tokens[1:])
        return None if found_later is None else (found_later[0], found_later[1] + 1)
    return None


def unit_of_span(span: tuple[str, str] | None) -> Bucket:
    """Returns what dates between two days are cut to, so that a line has some dozens of points."""
    try:
        days = 0 if span is None else (date.fromisoformat(span[1]) - date.fromisoformat(span[0])).days
    except ValueError:  # A year of five digits.
        return "year"
    if days <= 92:
        return "day"
    return "month" if days <= 366 * 10 else "year"


def _period(year: int, month: int | None = None, day: int | None = None) -> Period | None:
    if not _FIRST <= year <= _LAST:
        return None
    try:
        start = date(year, month or 1, day or 1)
        if day is not None:
            end = start + timedelta(days=1)
        elif month is not None:
            end = date(year + month // 12, month % 12 + 1, 1)
        else:
            end = date(year + 1, 1, 1)
    except (ValueError, OverflowError):
        return None
    return Period(start.isoformat(), end.isoformat())
