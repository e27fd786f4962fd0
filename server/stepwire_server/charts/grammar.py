"""A question that names columns and aggregates becomes a query, without a model.

    average price by region                     Summe umsatz pro monat in 2024 als Liniendiagramm
    count of orders per status                  top 5 customers by revenue where region is north
    price against weight                        number of different products by month

What is not understood is said, and never passed over: every word is part of the grammar, a name, a value or a filler.
"""

from __future__ import annotations

__all__ = ["Ambiguous", "is_german", "read_question"]

from collections.abc import Mapping, Sequence

from stepwire_server.charts.clauses import Ambiguous, Clauses
from stepwire_server.charts.failures import NotUnderstood
from stepwire_server.charts.lexicon import (
    AGAINST,
    AGGREGATES,
    AND,
    AS_CHART,
    BUCKETS,
    BY,
    CHARTS,
    COMPOUNDS,
    COUNT,
    DIRECTIONS,
    DISTINCT,
    FROM,
    GERMAN,
    OVER_TIME,
    PLOT,
    ROWS,
    SHARE,
    SORTED,
    TOP,
    Token,
    tokenize,
)
from stepwire_server.charts.names import Match, match
from stepwire_server.charts.schema import Column, Table
from stepwire_server.charts.specification import Aggregate, Bucket, Chart, Group, Measure, Order, Query, checked
from stepwire_server.charts.wording import Wording, wording

_LENGTH = 2_000


def is_german(question: str) -> bool:
    """Returns whether a question is German rather than English, by its small words."""
    return any(token.folded in GERMAN for token in tokenize(question[:_LENGTH]))


def read_question(question: str, tables: Sequence[Table], answers: Mapping[str, str]) -> tuple[Query, Table]:
    """Returns the query that a question comes to, and the table that it is about. `answers`: what was asked, by key.

    Raises Ambiguous where a person must choose, and NotUnderstood, which says what there is.
    """
    tokens = tokenize(question)
    if not tokens:
        raise NotUnderstood("the question is empty")
    words = wording(is_german(question))
    read: list[tuple[tuple[float, float], Table, Query | Ambiguous]] = []
    failed: list[tuple[int, float, NotUnderstood]] = []
    for table in tables:
        reader = _Reader(tokens, table, answers, words, alone=len(tables) == 1)
        try:
            outcome: Query | Ambiguous = checked(reader.read(), table)
        except Ambiguous as ambiguity:
            outcome = ambiguity
        except NotUnderstood as error:
            failed.append((reader.furthest, reader.quality[0], error))
            continue
        read.append((reader.quality, table, outcome))
    if not read:
        # Of the table that was understood furthest; all columns stand in its text.
        raise max(failed, key=lambda entry: entry[:2])[2] if failed else NotUnderstood("there are no tables")
    best = max(quality for quality, _, _ in read)
    chosen = [(table, outcome) for quality, table, outcome in read if quality == best]
    if len(chosen) > 1:
        names = [table.name for table, _ in chosen]
        answer = answers.get("table")
        if answer not in names:
            raise Ambiguous("table", words.which_table, names)
        chosen = [(table, outcome) for table, outcome in chosen if table.name == answer]
    table, found = chosen[0]
    if isinstance(found, Ambiguous):
        raise found
    return found, table


class _Reader(Clauses):
    """Reads one question as one about one table."""

    def __init__(
        self, tokens: Sequence[Token], table: Table, answers: Mapping[str, str], words: Wording, *, alone: bool
    ) -> None:
        super().__init__(tokens, table, answers, words)
        self._alone = alone
        self._groups: list[Group] = []
        self._chart: Chart = ""
        self._order: Order = ""
        self._limit: int | None = None
        self._bare: list[Column] = []

    def read(self) -> Query:
        """Returns the query. Raises Ambiguous and NotUnderstood."""
        self.fill()
        self._leading_chart()
        bucket = self.take(BUCKETS) if self.peek(BUCKETS) and not self.is_column() else ""
        self.fill()
        measures = self._head()
        while not self.ended:
            self._tail(measures)
        if bucket:
            self._group_by_date(bucket)
        return self._finish(measures)

    # -- what is computed

    def _head(self) -> list[Measure]:
        top = self._top()
        if top is not None:
            return [top]
        measures = self._measures()
        if not measures:
            raise self.unknown()
        return measures

    def _top(self) -> Measure | None:
        """ "top 5 customers by revenue"; None where it does not begin so."""
        start = self.place
        number = self.number()
        order = self.take(TOP)
        if order and number is None:
            number = self.number()
        if not order or number is None:
            self.place = start
            return None
        self.fill()
        group = self.column("group")
        self._order, self._limit = ("smallest" if order == "smallest" else "largest"), number
        self._groups.append(Group(column=group.name, bucket="auto" if group.kind == "date" else ""))
        if not (self.take(BY) or self.take(FROM) or self.take(AS_CHART)):
            raise NotUnderstood(self.words.top_by_what.format(column=group.name, columns=self.table.listed()))
        self.fill()
        measures = self._measures()
        if len(measures) != 1:
            raise self.unknown()
        # Whoever asks for the top by something means its total.
        return Measure(aggregate="sum", column=self._bare.pop().name) if self._bare else measures[0]

    def _measures(self) -> list[Measure]:
        several = self._several()
        if several:
            return several
        found: list[Measure] = []
        aggregate = ""
        while True:
            measure, aggregate = self._measure(aggregate)
            if measure is None:
                break
            found.append(measure)
            if self.peek(AGAINST):
                self.take(AGAINST)
                self.fill()
                found = [
                    Measure(aggregate="value", column=name) for name in (self.column("number").name, measure.column)
                ]
                self._chart = "scatter"
                break
            start = self.place
            if not self.take(AND):
                break
            self.fill()
            if not (self._begins_measure() or self.is_column()):
                self.place = start
                break
        return found

    def _several(self) -> list[Measure]:
        """ "minimum and maximum price"; nothing where it does not begin so."""
        start = self.place
        aggregates = []
        while (not self.is_column(exactly=True) or self._is_aggregate()) and (aggregate := self._aggregate()):
            aggregates.append(aggregate)
            self.take(AND)
            self.fill()
        if len(aggregates) < 2:
            self.place = start
            return []
        column = self.column("number")
        return [Measure(aggregate=aggregate, column=column.name) for aggregate in aggregates]

    def _is_aggregate(self) -> bool:
        """Returns whether a word that is a column's name, too, stands before a column, and so for an aggregate."""
        start = self.place
        try:
            if not self._begins_measure() or not any(map(self.take, (DISTINCT, COUNT, AGGREGATES))):
                return False
            self.fill()
            return self.is_column()
        finally:
            self.place = start

    def _begins_measure(self) -> bool:
        return any(self.peek(phrases) for phrases in (DISTINCT, COUNT, AGGREGATES))

    def _measure(self, inherited: str) -> tuple[Measure | None, str]:
        """Returns a measure, and the aggregate that the next one has where it names none."""
        if self.take(SHARE):
            self._chart = self._chart or "pie"
            self.fill()
            # Shares are of a total.
            inherited = inherited or "sum"
        if not self.is_column(exactly=True) or self._is_aggregate():
            if self.take(DISTINCT):
                self.fill()
                return Measure(aggregate="distinct", column=self.column("names").name), "distinct"
            if self.take(COUNT):
                self.fill()
                return self._counted(), "count"
            aggregate = self._aggregate()
            if aggregate:
                self.fill()
                return Measure(aggregate=aggregate, column=self.column("number").name), aggregate
        compound = self._compound()
        if compound is not None:
            return compound, compound.aggregate
        if self.take_table() or (self._alone and self.take(ROWS)):
            return Measure(aggregate="count"), "count"
        if not self.is_column():
            return None, ""
        column = self.column("number")
        if inherited and inherited not in ("count", "distinct"):
            return Measure(aggregate=_aggregate_of(inherited), column=column.name), inherited
        self._bare.append(column)
        return Measure(aggregate="value", column=column.name), ""

    def _aggregate(self) -> Aggregate | None:
        found = self.take(AGGREGATES)
        return _aggregate_of(found) if found else None

    def _counted(self) -> Measure:
        """What follows "number of": rows by any name for them, or the values of a column, where a person says how."""
        if self.take(ROWS) or self.take_table() or not self.is_column():
            return Measure(aggregate="count")
        column = self.column("names")
        return self._count_of(column)

    def _count_of(self, column: Column) -> Measure:
        words = self.words
        choices = [words.count_rows, words.count_distinct.format(column=column.name)]
        answer = self.choose(f"count:{column.name}", words.how_to_count.format(column=column.name), choices)
        if answer == choices[0]:
            return Measure(aggregate="count", column=column.name)
        return Measure(aggregate="distinct", column=column.name)

    def _compound(self) -> Measure | None:
        """A German noun such as Durchschnittspreis."""
        token = self.token
        if token is None or token.kind != "word" or self.is_column(exactly=True):
            return None
        for aggregate, beginnings in COMPOUNDS.items():
            for beginning in beginnings:
                rest = token.folded.removeprefix(beginning)
                if rest == token.folded or len(rest) < 3:
                    continue
                columns = [column for column in self.table.of_kind("number") if match(rest, column.name) >= Match.STEMS]
                if len(columns) == 1:
                    self.place += 1
                    self.met(Match.STEMS)
                    return Measure(aggregate=_aggregate_of(aggregate), column=columns[0].name)
        return None

    # -- what follows

    def _tail(self, measures: list[Measure]) -> None:
        if self._as_chart() or self._by() or self._sorted(measures) or self.conditions():
            return
        if self.peek(BUCKETS) and not self.is_column(exactly=True):
            self._group_by_date(self.take(BUCKETS))
            return
        start = self.place
        self.take(FROM)
        self.fill()
        if self.take_table():
            return
        self.place = start
        if self._leading_chart() or self.fill():
            return
        raise self.unknown()

    def _by(self) -> bool:
        over_time = self.take(OVER_TIME)
        if over_time:
            self._group_by_date(over_time)
            return True
        if not self.take(BY):
            return False
        self._group()
        while True:
            start = self.place
            if not self.take(AND):
                return True
            self.take(BY)
            self.fill()
            if not (self.is_column() or self.peek(BUCKETS)):
                self.place = start
                return True
            self._group()

    def _group(self) -> None:
        self.fill()
        if self.peek(BUCKETS) and not self.is_column(exactly=True):
            self._group_by_date(self.take(BUCKETS))
            return
        column = self.column("group")
        bucket: Bucket = ""
        if column.kind == "date":
            # "by order date per month" and "by order date (month)" say one thing.
            bucket = "auto"
            start = self.place
            self.take(BY)
            self.fill()
            found = self.take(BUCKETS)
            if found:
                bucket = _bucket_of(found)
            else:
                self.place = start
        self._groups.append(Group(column=column.name, bucket=bucket))

    def _group_by_date(self, bucket: str) -> None:
        self._groups.append(Group(column=self.date_column().name, bucket=_bucket_of(bucket)))

    def _sorted(self, measures: list[Measure]) -> bool:
        if not self.take(SORTED):
            return False
        self.fill()
        by_group = False
        if not (self.ended or self.peek(DIRECTIONS)):
            self._aggregate()
            self.fill()
            if self.is_column():
                named = self.column("group").name
                by_group = named in {group.column for group in self._groups}
                if not by_group and named not in {measure.column for measure in measures}:
                    raise NotUnderstood(self.words.sorted_by_what.format(column=named))
            elif not self.take(COUNT):
                raise self.unknown()
        direction = self.take(DIRECTIONS)
        self._order = "group" if by_group else "smallest" if direction == "smallest" else "largest"
        return True

    def _as_chart(self) -> bool:
        start = self.place
        if not self.take(AS_CHART):
            return False
        self.fill()
        if not self._leading_chart():
            self.place = start
            return False
        return True

    def _leading_chart(self) -> bool:
        """ "bar chart of", "Balkendiagramm der", "as a pie": the chart, with the word for it."""
        chart = self.take(CHARTS) if self.peek(CHARTS) and not self.is_column(exactly=True) else ""
        told = self.take(PLOT)
        if not (chart or told):
            return False
        if chart:
            self._chart = _chart_of(chart)
        self.fill()
        return True

    # -- what it comes to

    def _finish(self, measures: list[Measure]) -> Query:
        if self._bare and self._chart != "scatter":
            names = [column.name for column in self._bare]
            measures = [
                self._aggregated(column) if column is not None else measure
                for measure, column in ((measure, self._bare_column(measure, names)) for measure in measures)
            ]
        if self._chart == "scatter" and len(measures) == 2 and self._bare and len(self._bare) == 2:
            measures = [Measure(aggregate="value", column=column.name) for column in self._bare]
        return Query(
            table=self.table.name,
            measures=tuple(measures),
            groups=tuple(dict.fromkeys(self._groups)),
            conditions=tuple(self.found_conditions),
            order=self._order,
            limit=self._limit,
            chart=self._chart,
        )

    def _bare_column(self, measure: Measure, names: Sequence[str]) -> Column | None:
        return self.table.column(measure.column) if measure.aggregate == "value" and measure.column in names else None

    def _aggregated(self, column: Column) -> Measure:
        """Of a column that is named alone a person says how its values are put together."""
        if column.kind != "number":
            return self._count_of(column)
        words = self.words
        choices = list(words.aggregates)
        answer = self.choose(f"aggregate:{column.name}", words.which_aggregate.format(column=column.name), choices)
        return Measure(aggregate=words.aggregates[answer], column=column.name)


def _aggregate_of(text: str) -> Aggregate:
    match text:
        case "sum" | "average" | "minimum" | "maximum" | "median" | "count" | "distinct":
            return text
    raise ValueError(text)


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
