"""From a query to the numbers of a chart: run, checked, and small enough to be looked at. Everything here blocks."""

from __future__ import annotations

__all__ = ["Inquiry", "Row", "resolved"]

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from stepwire_server.charts.failures import ChartError, QueryStopped
from stepwire_server.charts.periods import unit_of_span
from stepwire_server.charts.schema import Table
from stepwire_server.charts.sources import Session
from stepwire_server.charts.specification import Group, Query
from stepwire_server.charts.statements import Fold, Statement, build_statement, count_statement, points_statement

_ROWS = 5_000
"""Rows that a query may give."""
_POINTS = 2_000
"""Points that a scatter shows."""
_NAMES = 20
_SLICES = 8
"""Names that an axis has, and slices or colours that can be told apart; the rest is put together."""

_Number = int | float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of a result."""

    labels: tuple[str | None, ...]
    """Of each group; None where the column is empty."""
    values: tuple[_Number, ...]
    """Of each measure."""
    rows: int = 1
    """Rows of the table that it is made of."""
    others: frozenset[int] = frozenset()
    """The groups, by their place, of which it stands for all that is not shown."""


def resolved(query: Query, table: Table) -> Query:
    """Returns the query with `auto` as the span of time that suits the dates, and the date before a name: it goes along
    the axis.
    """
    groups = [
        replace(group, bucket=_unit(group, query, table)) if group.bucket == "auto" else group for group in query.groups
    ]
    if len(groups) == 2 and groups[1].bucket and not groups[0].bucket:
        groups.reverse()
    return replace(query, groups=tuple(groups))


class Inquiry:
    """One query that is put to its table, and what came of it. It is given a `resolved` one."""

    def __init__(self, query: Query, table: Table, session: Session) -> None:
        self.query = query
        self.table = table
        self.rows: list[Row] = []
        self.asked: list[tuple[Statement, int]] = []
        """The statements that were run, with how many rows each gave."""
        self.matching = 0
        """Rows of the table on which the conditions hold."""
        self.missing: list[int] = []
        """Of each measure, in how many of these it had no value."""
        self.folded: dict[int, int] = {}
        """Of each group, by its place, of how many labels the rest was put together."""
        self.filled = 0
        """Spans of time without rows that were put in, as 0."""
        self.sampled = 0
        """Of how many points a scatter shows some; 0 where it shows all."""
        self._session = session
        self._groups = len(query.groups)
        self._top: dict[int, list[str | None]] = {}
        """The labels that a limit leaves, by the place of their group."""
        self._ranks: dict[int, list[str | None]] = {}

    def ask(self) -> None:
        """Runs the query. Raises QueryStopped where it gives too many rows, ChartError where it gives none."""
        if self.query.chart == "scatter":
            self._ask_points()
            return
        most = self.query.limit if self.query.limit and self._groups == 1 else _ROWS + 1
        self.rows = self._run(self.query, Fold(), most=most)
        if len(self.rows) > _ROWS:
            if self._groups == 1 and not self._is_ordered(0):
                return  # Only the first of them are shown.
            raise QueryStopped(
                f"the query gives more than {_ROWS:,} groups; ask for fewer: by month instead of by day, with a "
                "condition, or for the top 10"
            )

    def complete(self) -> None:
        """Looks whether the rows make a chart, puts together what is too much for one, and puts in what has no rows.

        Raises ChartError where there is nothing to show.
        """
        if self.query.chart != "scatter":
            self._count()
        if not self.rows or (self.matching == 0 and (self._groups or self.query.measures[0].aggregate != "count")):
            raise ChartError(self._nothing())
        if all(value is None for row in self.rows for value in row.values):
            names = ", ".join(repr(measure.column) for measure in self.query.measures)
            raise ChartError(f"there is no number to show: {names} is empty in all {self.matching:,} rows that match")
        self._fold()
        self._sort()
        self._fill()

    # -- what is too much

    def _fold(self) -> None:
        if self.query.chart == "scatter":
            return
        limited = self._limited() if self.query.limit else None
        if limited is not None and self._groups > 1:
            self._top[limited] = self._ranked(limited)[: self.query.limit]
            self.rows = [row for row in self.rows if row.labels[limited] in self._top[limited]]
        kept = dict(self._top)
        for place in range(self._groups):
            labels = {row.labels[place] for row in self.rows}
            room = _SLICES if place == 1 or self.query.chart == "pie" else _NAMES
            if not self._is_ordered(place) and len(labels) > room and place != limited:
                kept[place] = self._ranked(place)[: room - 1]
                self.folded[place] = len(labels) - room + 1
        shown = [row for row in self.rows if all(row.labels[place] in labels for place, labels in kept.items())]
        for size in range(1, len(self.folded) + 1):
            for others in itertools.combinations(self.folded, size):
                shown += self._run(self.query, Fold(kept, others=frozenset(others)), most=_ROWS)
        self.rows = shown

    def _sort(self) -> None:
        """Sorts by what the names come to as a whole: the query has sorted by single numbers. The rest comes last."""
        if self._groups < 2 or self.query.order == "group" or self.query.chart == "scatter":
            return
        if self._is_ordered(0):
            if self.query.groups[0].bucket and self.query.order:
                # The names are the largest ones, and go along time all the same.
                place = {label: rank for rank, label in enumerate(self._ranked(1))}
                self.rows.sort(key=lambda row: (row.labels[0] or "~", place.get(row.labels[1], len(place))))
            return
        ranks = [{label: rank for rank, label in enumerate(self._ranked(place))} for place in (0, 1)]
        self.rows.sort(
            key=lambda row: [(place in row.others, ranks[place].get(row.labels[place], 0)) for place in (0, 1)]
        )

    def _ranked(self, place: int) -> list[str | None]:
        """Returns a group's labels, the most important first: as the query sorts them, or by what they come to.

        What one comes to by all of the other group, its parts do not say: an average is not one of averages.
        """
        if self._groups == 1:
            return [row.labels[0] for row in self.rows]
        if place not in self._ranks:
            query = replace(self.query, order="smallest" if self.query.order == "smallest" else "largest")
            other = {one: labels for one, labels in self._top.items() if one != place}
            rows = self._run(query, Fold(other, joined=frozenset({1 - place})), most=_ROWS)
            self._ranks[place] = [row.labels[place] for row in rows]
        return self._ranks[place]

    def _limited(self) -> int:
        """Returns the place of the group that a limit is about: names rather than dates."""
        return next((place for place in range(self._groups) if not self._is_ordered(place)), 0)

    def _is_ordered(self, place: int) -> bool:
        """Returns whether a group's labels are dates or numbers, which go along an axis, however many they are."""
        return self.table.column(self.query.groups[place].column).kind in ("date", "number")

    # -- what is not there

    def _fill(self) -> None:
        """Puts in the spans of time that have no rows, where what has no rows comes to 0."""
        bucket = self.query.groups[0].bucket if self.query.groups else ""
        if (
            not bucket
            or (self.query.limit and self._limited() == 0)
            or any(measure.aggregate not in ("count", "sum", "distinct") for measure in self.query.measures)
        ):
            return
        dated = [row for row in self.rows if row.labels[0] is not None]
        series = list(dict.fromkeys((row.labels[1:], row.others) for row in dated))
        days = sorted({str(row.labels[0]) for row in dated})
        spans = list(itertools.islice(_spans(days, bucket), _ROWS)) if days else []
        if len(spans) * len(series) > _ROWS:
            return
        present = {(row.labels, row.others) for row in dated}
        zeros = (0,) * len(self.query.measures)
        empty = [
            Row(labels=(day, *rest), values=zeros, rows=0, others=others)
            for day in spans
            for rest, others in series
            if ((day, *rest), others) not in present
        ]
        self.filled = len(empty)
        undated = [row for row in self.rows if row.labels[0] is None]
        order = {key: place for place, key in enumerate(series)}
        dated = sorted([*dated, *empty], key=lambda row: (str(row.labels[0]), order[row.labels[1:], row.others]))
        self.rows = [*dated, *undated]

    # -- asking

    def _run(self, query: Query, fold: Fold, *, most: int) -> list[Row]:
        statement = build_statement(query, self.table, self._session.dialect, most=most, fold=fold)
        found = self._asked(statement)
        places = [place for place in range(self._groups) if place not in fold.others | fold.joined]
        measures = len(self.query.measures)
        rows = []
        for entry in found:
            labels: list[str | None] = [None] * self._groups
            for place, label in zip(places, entry, strict=False):
                labels[place] = None if label is None else str(label)
            values = tuple(map(_number, entry[len(places) : len(places) + measures]))
            count = int(entry[len(places) + measures])
            if count:  # What is put together without groups is one row, also of nothing.
                rows.append(Row(labels=tuple(labels), values=values, rows=count, others=fold.others))
        if not self._groups and not rows:
            rows = [Row(labels=(), values=tuple(map(_number, found[0][:measures])), rows=0)]
        return rows

    def _count(self) -> None:
        """Counts the rows that match, and for each measure those without a value."""
        for measure in self.query.measures:
            statement = count_statement(replace(self.query, measures=(measure,)), self.table, self._session.dialect)
            ((self.matching, whole),) = self._asked(statement)
            self.missing.append(self.matching - int(whole))

    def _ask_points(self) -> None:
        dialect = self._session.dialect
        ((self.matching, whole),) = self._asked(count_statement(self.query, self.table, dialect))
        self.missing = [self.matching - int(whole)]
        every = max(1, math.ceil(whole / _POINTS))
        self.sampled = int(whole) if every > 1 else 0
        found = self._asked(points_statement(self.query, self.table, dialect, every=every))
        self.rows = [
            Row(
                labels=tuple(None if label is None else str(label) for label in entry[2:]),
                values=tuple(map(_number, entry[:2])),
            )
            for entry in found
        ]
        self._limit_colours()

    def _limit_colours(self) -> None:
        counts: dict[str | None, int] = {}
        for row in self.rows:
            for label in row.labels:
                counts[label] = counts.get(label, 0) + 1
        if len(counts) > _SLICES:
            kept = set(sorted(counts, key=lambda label: -counts[label])[: _SLICES - 1])
            self.folded[0] = len(counts) - _SLICES + 1
            others = frozenset({0})
            self.rows = [
                row if row.labels[0] in kept else replace(row, labels=(None,), others=others) for row in self.rows
            ]

    def _asked(self, statement: Statement) -> list[tuple[Any, ...]]:
        found = self._session.run(statement.sql, statement.parameters)
        self.asked.append((statement, len(found)))
        return found

    def _nothing(self) -> str:
        text = f"no row of table {self.table.name!r} matches"
        for condition in self.query.conditions:
            column = self.table.column(condition.column)
            if column.values and condition.operator in ("equals", "contains"):
                some = ", ".join(column.values[:20])
                text += f"; {column.name!r} is not {' or '.join(map(str, condition.values))!r} there: it has {some}"
            elif column.span:
                text += f"; {column.name!r} goes from {column.span[0]} to {column.span[1]}"
        return text if self.query.conditions else f"table {self.table.name!r} has no rows"


def _unit(group: Group, query: Query, table: Table) -> Any:
    column = table.column(group.column)
    if column.span is None:
        return unit_of_span(None)
    first, last = column.span
    for condition in query.conditions:
        if condition.column == group.column and condition.operator == "from":
            first = max(first, str(condition.values[0]))
        if condition.column == group.column and condition.operator == "before":
            last = min(last, str(condition.values[0]))
    return unit_of_span((first[:10], last[:10]))


def _number(value: object) -> _Number:
    """Returns a number as Python has it; NaN and infinity, such as of a sum that overflowed, are none."""
    if isinstance(value, Decimal):
        value = int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, int) else None


def _spans(days: Sequence[str], bucket: str) -> Iterator[str]:
    try:
        day, last = date.fromisoformat(days[0]), date.fromisoformat(days[-1])
        while day <= last:
            yield day.isoformat()
            if bucket in ("day", "week"):
                day += timedelta(days=1 if bucket == "day" else 7)
            else:
                months = day.month - 1 + {"month": 1, "quarter": 3, "year": 12}[bucket]
                day = date(day.year + months // 12, months % 12 + 1, 1)
    except (ValueError, OverflowError):  # Beyond the years that Python knows: nothing is put in.
        return
