"""A question read as one about one table: what is computed, by what, for which rows, in which order, as which chart."""

from __future__ import annotations

__all__ = ["Reader"]

from stepwire_server.charts.conditions import conditions
from stepwire_server.charts.cursor import Cursor
from stepwire_server.charts.failures import NotUnderstood
from stepwire_server.charts.lexicon import (
    AND,
    AS_CHART,
    BUCKETS,
    BY,
    CHARTS,
    COUNT,
    DIRECTIONS,
    FROM,
    OVER_TIME,
    PLOT,
    SORTED,
    TOP,
)
from stepwire_server.charts.measures import Measures, Name
from stepwire_server.charts.specification import Bucket, Chart, Condition, Group, Measure, Order, Query


class Reader:
    """Reads one question as one about one table."""

    def __init__(self, cursor: Cursor, *, alone: bool, columns_first: bool) -> None:
        self._cursor = cursor
        self._measures = Measures(cursor, alone=alone, columns_first=columns_first)
        self._groups: list[Group] = []
        self._conditions: list[Condition] = []
        self._chart: Chart = ""
        self._order: Order = ""
        self._limit: int | None = None

    @property
    def names(self) -> list[Name]:
        """The names that stand alone for what is computed."""
        return self._measures.names

    def read(self) -> Query:
        """Returns the query. Raises Ambiguous and NotUnderstood."""
        cursor = self._cursor
        cursor.fill()
        self._leading_chart()
        bucket = cursor.take(BUCKETS) if cursor.peek(BUCKETS) and not cursor.is_column() else ""
        cursor.fill()
        measures = self._head()
        while not cursor.ended:
            self._tail(measures)
        if bucket:
            self._group_by_date(bucket)
        return Query(
            table=cursor.table.name,
            measures=tuple(self._measures.settled(measures, self._chart)),
            groups=tuple(dict.fromkeys(self._groups)),
            conditions=tuple(self._conditions),
            order=self._order,
            limit=self._limit,
            chart=self._chart,
        )

    # -- what is computed

    def _head(self) -> list[Measure]:
        top = self._top()
        measures = [top] if top is not None else self._measures.read()
        if not measures:
            raise self._cursor.unknown()
        meant = self._measures.chart
        self._chart = meant if meant == "scatter" else self._chart or meant
        return measures

    def _top(self) -> Measure | None:
        """ "top 5 customers by revenue"; None where it does not begin so."""
        cursor = self._cursor
        start = cursor.place
        number = cursor.number()
        order = cursor.take(TOP)
        if order and number is None:
            number = cursor.number()
        if not order or number is None:
            cursor.place = start
            return None
        cursor.fill()
        group = cursor.column("group")
        self._order, self._limit = ("smallest" if order == "smallest" else "largest"), number
        self._groups.append(Group(column=group.name, bucket="auto" if group.kind == "date" else ""))
        if not (cursor.take(BY) or cursor.take(FROM) or cursor.take(AS_CHART)):
            raise NotUnderstood(cursor.words.top_by_what.format(column=group.name), there_is=[cursor.table.listed()])
        cursor.fill()
        measures = self._measures.read()
        if len(measures) != 1:
            raise cursor.unknown()
        # Whoever asks for the top by something means its total.
        bare = self._measures.bare
        return Measure(aggregate="sum", column=bare.pop().name) if bare else measures[0]

    # -- what follows

    def _tail(self, measures: list[Measure]) -> None:
        cursor = self._cursor
        if self._as_chart() or self._by() or self._sorted(measures):
            return
        found = conditions(cursor)
        if found:
            self._conditions += found
            return
        if cursor.peek(BUCKETS) and not cursor.is_column(exactly=True):
            self._group_by_date(cursor.take(BUCKETS))
            return
        start = cursor.place
        cursor.take(FROM)
        cursor.fill()
        if cursor.take_table():
            return
        cursor.place = start
        if self._leading_chart() or cursor.fill():
            return
        raise cursor.unknown()

    def _by(self) -> bool:
        cursor = self._cursor
        over_time = cursor.take(OVER_TIME)
        if over_time:
            self._group_by_date(over_time)
            return True
        if not cursor.take(BY):
            return False
        self._group()
        while True:
            start = cursor.place
            if not cursor.take(AND):
                return True
            cursor.take(BY)
            cursor.fill()
            if not (cursor.is_column() or cursor.peek(BUCKETS)):
                cursor.place = start
                return True
            self._group()

    def _group(self) -> None:
        cursor = self._cursor
        cursor.fill()
        if cursor.peek(BUCKETS) and not cursor.is_column(exactly=True):
            self._group_by_date(cursor.take(BUCKETS))
            return
        column = cursor.column("group")
        bucket: Bucket = ""
        if column.kind == "date":
            # "by order date per month" and "by order date (month)" say one thing.
            bucket = "auto"
            start = cursor.place
            cursor.take(BY)
            cursor.fill()
            found = cursor.take(BUCKETS)
            if found:
                bucket = _bucket_of(found)
            else:
                cursor.place = start
        self._groups.append(Group(column=column.name, bucket=bucket))

    def _group_by_date(self, bucket: str) -> None:
        self._groups.append(Group(column=self._cursor.date_column().name, bucket=_bucket_of(bucket)))

    def _sorted(self, measures: list[Measure]) -> bool:
        cursor = self._cursor
        if not cursor.take(SORTED):
            return False
        cursor.fill()
        by_group = False
        if not (cursor.ended or cursor.peek(DIRECTIONS)):
            self._measures.aggregate()
            cursor.fill()
            if cursor.is_column():
                named = cursor.column("group").name
                by_group = named in {group.column for group in self._groups}
                if not by_group and named not in {measure.column for measure in measures}:
                    raise NotUnderstood(cursor.words.sorted_by_what.format(column=named))
            elif not cursor.take(COUNT):
                raise cursor.unknown()
        direction = cursor.take(DIRECTIONS)
        self._order = "group" if by_group else "smallest" if direction == "smallest" else "largest"
        return True

    def _as_chart(self) -> bool:
        cursor = self._cursor
        start = cursor.place
        if not cursor.take(AS_CHART):
            return False
        cursor.fill()
        if not self._leading_chart():
            cursor.place = start
            return False
        return True

    def _leading_chart(self) -> bool:
        """ "bar chart of", "Balkendiagramm der", "as a pie": the chart, with the word for it."""
        cursor = self._cursor
        chart = cursor.take(CHARTS) if cursor.peek(CHARTS) and not cursor.is_column(exactly=True) else ""
        told = cursor.take(PLOT)
        if not (chart or told):
            return False
        if chart:
            self._chart = _chart_of(chart)
        cursor.fill()
        return True


def _bucket_of(text: str) -> Bucket:
    match text:
        case "day" | "week" | "month" | "quarter" | "year" | "auto":
            return text
    raise ValueError(text)


def _chart_of(text: str) -> Chart:
    match text:
        case "bar" | "line" | "pie" | "scatter":
            return text
    raise ValueError(text)
