"""Tools that are useful as they stand and reach nothing outside: arithmetic, dates, figures of a text."""

from __future__ import annotations

import calendar
import re
from collections import Counter
from datetime import date, timedelta
from decimal import Decimal
from typing import Annotated, Any

from pydantic import Field

from stepwire_server import Refused
from stepwire_server.tools.arithmetic import evaluate
from stepwire_server.tools.functions import FunctionTool
from stepwire_server.tools.tool import Tool

__all__ = ["add_to_date", "calculate", "days_between", "ready_made", "text_statistics"]

_EXACT = 2**53
_LONG = Decimal(10) ** 60

Text = Annotated[str, Field(max_length=500_000)]
Span = Annotated[int, Field(ge=-4_000_000, le=4_000_000)]


def ready_made() -> list[Tool]:
    """Returns the tools."""
    return [FunctionTool(each) for each in (calculate, add_to_date, days_between, text_statistics)]


async def calculate(expression: Annotated[str, Field(max_length=1_000)]) -> dict[str, Any]:
    """Work out an arithmetic expression in decimal numbers, to 50 digits.

    Numbers, + - * / // % **, parentheses, abs, ceil, floor, max, min, round, sqrt, sum. Gives `text`, with all digits,
    and `value`, the nearest number.
    """
    found = evaluate(expression)
    return {"text": format(found, "f") if abs(found) < _LONG else str(found), "value": _number(found)}


def _number(found: Decimal) -> int | float | None:
    """Returns the nearest number; None where it is a whole one that no double holds: that can't be sent."""
    if abs(found) > _EXACT:
        return None
    return int(found) if found == found.to_integral_value() else float(found)


async def add_to_date(day: date, days: Span = 0, weeks: Span = 0, months: Span = 0, years: Span = 0) -> dict[str, Any]:
    """Add a span to a date (negative: back). Years and months first; the 31st becomes a month's last day.

    Gives `date` and `weekday`.
    """
    try:
        months_in_all = day.year * 12 + day.month - 1 + years * 12 + months
        year, month = months_in_all // 12, months_in_all % 12 + 1
        last = calendar.monthrange(year, month)[1]
        found = date(year, month, min(day.day, last)) + timedelta(days=days, weeks=weeks)
    except (ValueError, OverflowError):
        raise Refused("the date would lie outside of the years 1 to 9999") from None
    return {"date": found.isoformat(), "weekday": found.strftime("%A")}


async def days_between(start: date, end: date) -> dict[str, Any]:
    """Count the days from one date to another, the first not included, and how many of them are Monday to Friday.

    Gives `days` and `weekdays`, both negative where the end lies before the start.
    """
    days = (end - start).days
    sign, earlier = (1, start) if days >= 0 else (-1, end)
    weeks, rest = divmod(abs(days), 7)
    weekdays = weeks * 5 + sum((earlier.weekday() + each) % 7 < 5 for each in range(1, rest + 1))
    return {"days": days, "weekdays": sign * weekdays}


def text_statistics(text: Text) -> dict[str, Any]:
    """Count a text's characters, bytes in UTF-8, words, lines and sentences, and find its most frequent words."""
    words = re.findall(r"\w+(?:['\u2019-]\w+)*", text)
    frequent = Counter(word.casefold() for word in words).most_common(10)
    return {
        "characters": len(text),
        "bytes": len(text.encode()),
        "words": len(words),
        "lines": len(text.splitlines()),
        "sentences": len(re.findall(r"[.!?…]+(?=\s|$)", text)),
        "frequent": [{"word": word, "count": count} for word, count in frequent],
    }
