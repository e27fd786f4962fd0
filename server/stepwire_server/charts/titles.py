"""How a query reads for people: its title, what each of its numbers is called, what holds of its rows."""

from __future__ import annotations

__all__ = [
    "brief",
    "conditions_of",
    "day_of",
    "group_title",
    "label_of",
    "measure_title",
    "number_text",
    "title_of",
    "unique",
]

from collections.abc import Iterable
from datetime import date

from stepwire_server.charts.specification import Group, Measure, Query
from stepwire_server.charts.wording import Wording

_LABEL = 200
_BRIEF = 44
"""Characters of a label in the data, and in a picture: it takes seconds to find out where Vega would cut long ones."""
_CUT = {"year": -6, "month": -3}
"""Where a first day is cut, so that the span is left."""


def measure_title(measure: Measure, query: Query, words: Wording) -> str:
    """Returns what a number is called, as "Average of price"."""
    return words.titles[measure.aggregate].format(column=measure.column or query.table)


def group_title(group: Group, words: Wording) -> str:
    """Returns what a group is called, as "region" or "order_date (month)"."""
    return f"{group.column} ({words.buckets[group.bucket]})" if group.bucket else group.column


def title_of(query: Query, words: Wording) -> str:
    """Returns the chart's title."""
    titles = [measure_title(measure, query, words) for measure in query.measures]
    title = f" {words.joint} ".join(titles)
    if query.chart == "scatter":
        title = f"{titles[1]} {words.against} {titles[0]}"
    if query.groups:
        title += f" {words.by} " + f" {words.joint} ".join(group_title(group, words) for group in query.groups)
    if query.limit:
        order = "smallest" if query.order == "smallest" else "largest"
        title += f", {words.top[order].format(limit=query.limit)}"
    return title


def conditions_of(query: Query, words: Wording) -> str:
    """Returns what holds of the rows; empty where all count."""
    parts = []
    for condition in query.conditions:
        values = f" {words.alternative} ".join(str(value) for value in condition.values)
        parts.append(f"{condition.column} {words.operators[condition.operator]} {values}".strip())
    return f" {words.joint} ".join(parts)


def label_of(label: str | None, group: Group, words: Wording) -> str:
    """Returns a group's label as it is shown, in one line of bounded length."""
    if label is None:
        return words.nothing
    if not group.bucket and label in ("true", "false"):
        return words.yes if label == "true" else words.no
    if group.bucket in _CUT:
        return label[: _CUT[group.bucket]]
    if group.bucket == "quarter":
        return f"{label[:4]} Q{(int(label[5:7]) + 2) // 3}"
    line = " ".join("".join(sign if sign.isprintable() else " " for sign in label).split()) or words.nothing
    return line if len(line) <= _LABEL else f"{line[: _LABEL - 1]}…"


def brief(label: str) -> str:
    """Returns a label as it stands in a picture."""
    return label if len(label) <= _BRIEF else f"{label[: _BRIEF - 1]}…"


def unique(labels: Iterable[str]) -> list[str]:
    """Returns labels of which no two are the same, so that none are drawn as one."""
    taken: set[str] = set()
    found = []
    for label in labels:
        name, number = label, 1
        while name in taken:
            number += 1
            name = f"{label} ({number})"
        taken.add(name)
        found.append(name)
    return found


def number_text(value: float | None, *, german: bool) -> str:
    """Returns a number for people."""
    if value is None:
        return "-"
    text = f"{value:,}" if isinstance(value, int) else f"{value:,.2f}" if abs(value) >= 1 else f"{value:.4g}"
    return text.translate(str.maketrans(",.", ".,")) if german else text


def day_of(label: str) -> int | None:
    """Returns a day as milliseconds since 1970, in UTC; None beyond the years that Python knows."""
    try:
        return (date.fromisoformat(label) - date(1970, 1, 1)).days * 86_400_000
    except ValueError:
        return None
