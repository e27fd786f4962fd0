"""The chart of a result: which kind it is, its data, and its Vega-Lite specification."""

from __future__ import annotations

__all__ = ["Drawing", "draw"]

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stepwire_server.charts.results import Inquiry, Row
from stepwire_server.charts.titles import (
    brief,
    conditions_of,
    day_of,
    group_title,
    label_of,
    measure_title,
    number_text,
    title_of,
    unique,
)
from stepwire_server.charts.vega import Layout, specification
from stepwire_server.charts.wording import Wording

_EXACT = 2**53
_LINE = 12
_BARS = 40
_SLICES = 8
"""Numbers along an axis beyond which a line is drawn where nothing else is asked for; dates or numbers that bars, and
slices, have room for.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """A chart, ready to be shown."""

    chart: str
    """bar, line, pie, scatter, or number for a single one."""
    title: str
    description: str
    columns: tuple[str, ...]
    data: list[dict[str, Any]]
    """The rows, by the names in `columns`. Whole numbers above 2^53 are text: JSON has no room for them."""
    specification: dict[str, Any]
    notes: tuple[str, ...]


def draw(inquiry: Inquiry, words: Wording, *, german: bool) -> Drawing:
    """Returns the chart of what a query gave."""
    query = inquiry.query
    notes: list[str] = []
    chart = _kind(inquiry, notes)
    rows = _shown(inquiry, chart, notes)
    notes += _notes(inquiry)
    groups = [group_title(group, words) for group in query.groups]
    measures = [measure_title(measure, query, words) for measure in query.measures]
    columns = unique([*measures, *groups] if chart == "scatter" else [*groups, *measures])
    labels = _labels(inquiry, rows, words)
    data = []
    for row, texts in zip(rows, labels, strict=True):
        values = [_exact(value) for value in row.values]
        data.append(dict(zip(columns, [*values, *texts] if chart == "scatter" else [*texts, *values], strict=True)))
    title, where = title_of(query, words), conditions_of(query, words)
    layout = Layout(
        chart=chart,
        title=title,
        subtitle=f"{words.where} {where}" if where else "",
        columns=tuple(columns),
        measures=len(measures),
        bucket=query.groups[0].bucket if query.groups else "",
        stacked=query.measures[0].aggregate in ("sum", "count"),
        from_zero=chart in ("bar", "pie") or query.measures[0].aggregate in ("sum", "count", "distinct"),
        german=german,
    )
    return Drawing(
        chart=chart,
        title=title,
        description=_description(
            inquiry, rows, labels, chart, title + (f", {words.where} {where}" if where else ""), words, german
        ),
        columns=tuple(columns),
        data=data,
        specification=specification(layout, _values(inquiry, rows, labels, measures, chart)),
        notes=tuple(notes),
    )


def _kind(inquiry: Inquiry, notes: list[str]) -> str:
    query, rows = inquiry.query, inquiry.rows
    if not query.groups and query.chart != "scatter":
        if query.chart:
            notes.append(f"one number makes no {query.chart} chart: it is shown as it is")
        return "number"
    values = [value for row in rows for value in row.values if value is not None]
    if query.chart == "pie" and (min(values) < 0 or sum(values) <= 0):
        notes.append("a pie can't show numbers below 0, or nothing but 0: bars are drawn instead")
        return "bar"
    if query.chart == "scatter":
        return "scatter"
    kind, count = inquiry.table.column(query.groups[0].column).kind, len({row.labels[0] for row in rows})
    room = {"bar": _BARS, "pie": _SLICES}
    if query.chart and (kind not in ("date", "number") or count <= room.get(query.chart, count)):
        return query.chart
    if query.chart:
        notes.append(
            f"{count:,} values of {query.groups[0].column!r} are too many for a {query.chart}: a line is drawn"
        )
        return "line"
    if query.limit and len(query.groups) == 1:
        return "bar"
    return "line" if kind == "date" or (kind == "number" and count > _LINE) else "bar"


def _shown(inquiry: Inquiry, chart: str, notes: list[str]) -> list[Row]:
    """Returns the rows that the chart has room for: a line has none for rows without a date."""
    query = inquiry.query
    if not query.groups or not query.groups[0].bucket:
        return inquiry.rows
    dated = [row for row in inquiry.rows if row.labels[0] is not None]
    if len(dated) < len(inquiry.rows):
        undated = sum(row.rows for row in inquiry.rows if row.labels[0] is None)
        notes.append(f"{undated:,} rows have no date in {query.groups[0].column!r} and are not shown")
    return dated or inquiry.rows


def _notes(inquiry: Inquiry) -> list[str]:
    notes = []
    for measure, missing in zip(inquiry.query.measures, inquiry.missing, strict=False):
        if missing and measure.column and measure.aggregate != "count":
            notes.append(f"{missing:,} of {inquiry.matching:,} rows have no value in {measure.column!r}")
    for place, count in inquiry.folded.items():
        notes.append(f"{count:,} values of {inquiry.query.groups[place].column!r} are put together as one")
    if inquiry.filled:
        notes.append(f"{inquiry.filled:,} spans of time without rows are shown as 0")
    if inquiry.sampled:
        notes.append(f"{len(inquiry.rows):,} points of {inquiry.sampled:,} are shown, evenly chosen")
    return notes


def _labels(inquiry: Inquiry, rows: Sequence[Row], words: Wording) -> list[list[str]]:
    """Returns of each row the labels that are shown; what differs in the data differs here too."""
    groups = inquiry.query.groups
    names: list[dict[tuple[bool, str | None], str]] = []
    for place, group in enumerate(groups):
        keys = list(dict.fromkeys((place in row.others, row.labels[place]) for row in rows))
        # What is put together comes last, and gives way to a value that is called the same.
        keys.sort(key=lambda key: key[0])
        shown = unique(words.other if other else label_of(label, group, words) for other, label in keys)
        names.append(dict(zip(keys, shown, strict=True)))
    return [[names[place][place in row.others, row.labels[place]] for place in range(len(groups))] for row in rows]


def _values(
    inquiry: Inquiry, rows: Sequence[Row], labels: Sequence[Sequence[str]], measures: Sequence[str], chart: str
) -> list[dict[str, Any]]:
    """Returns the data as the specification names it: x, y, series. So no column's name means anything to Vega."""
    values: list[dict[str, Any]] = []
    groups = inquiry.query.groups
    numbered = bool(groups) and inquiry.table.column(groups[0].column).kind == "number"
    for row, texts in zip(rows, _brief(labels), strict=True):
        if chart == "scatter":
            point: dict[str, Any] = {"x": _real(row.values[0]), "y": _real(row.values[1])}
            values.append({**point, "series": texts[0]} if texts else point)
            continue
        for name, value in zip(measures, row.values, strict=True):
            entry: dict[str, Any] = {"y": _real(value)}
            if texts:
                entry["x"] = texts[0]
                if numbered and (number := _number(row.labels[0])) is not None:
                    entry["n"] = number
                if groups[0].bucket and row.labels[0] is not None and day_of(row.labels[0]) is not None:
                    entry["t"] = day_of(row.labels[0])
            if len(texts) > 1 or len(measures) > 1:
                entry["series"] = texts[1] if len(texts) > 1 else name
            if 0 in row.others:
                entry["other"] = True
            values.append(entry)
    return values


def _number(label: str | None) -> float | None:
    """Returns the number that a label is; a column of numbers may have some text, too."""
    try:
        return None if label is None else float(label)
    except ValueError:
        return None


def _brief(labels: Sequence[Sequence[str]]) -> list[list[str]]:
    """Returns labels as they are drawn: cut, and still different where they were."""
    names = []
    for column in zip(*labels, strict=True):
        keys = list(dict.fromkeys(column))
        names.append(dict(zip(keys, unique(map(brief, keys)), strict=True)))
    return [[names[place][text] for place, text in enumerate(texts)] for texts in labels]


def _description(
    inquiry: Inquiry,
    rows: Sequence[Row],
    labels: Sequence[Sequence[str]],
    chart: str,
    title: str,
    words: Wording,
    german: bool,
) -> str:
    facts: Mapping[str, Any] = {
        "title": title,
        "table": inquiry.table.name,
        "chart": words.charts[chart],
        "used": number_text(inquiry.matching, german=german),
        "shown": number_text(len(rows), german=german),
    }
    if chart == "number":
        values = ", ".join(number_text(value, german=german) for value in rows[0].values)
        return words.one_number.format(value=values, **facts)
    text = words.described.format(**facts)
    ranked = sorted(
        (value, f"{words.joint} ".join(f"{label} " for label in texts).strip())
        for row, texts in zip(rows, labels, strict=True)
        if (value := row.values[0]) is not None and not row.others
    )
    if len(ranked) > 1 and chart != "scatter":
        (least, last), (value, label) = ranked[0], ranked[-1]
        text += words.largest.format(
            label=label, value=number_text(value, german=german), last=last, least=number_text(least, german=german)
        )
    return text


def _exact(value: float | None) -> float | str | None:
    return str(value) if isinstance(value, int) and abs(value) > _EXACT else value


def _real(value: float | None) -> float | None:
    return float(value) if isinstance(value, int) and abs(value) > _EXACT else value
