"""What is computed: "average price", "number of orders", "minimum and maximum cost", "price against weight"."""

from __future__ import annotations

__all__ = ["Measures", "Name"]

from collections.abc import Sequence
from dataclasses import dataclass

from stepwire_server.charts.cursor import Cursor
from stepwire_server.charts.lexicon import AGAINST, AGGREGATES, AND, COMPOUNDS, COUNT, DISTINCT, ROWS, SHARE
from stepwire_server.charts.names import Match, match
from stepwire_server.charts.schema import Column
from stepwire_server.charts.specification import Aggregate, Chart, Measure


@dataclass(frozen=True, slots=True, kw_only=True)
class Name:
    """A name that stands for what is computed without a word of how: a column's, or the table's for its rows."""

    place: int
    written: str
    how: Match
    column: str = ""
    """Empty where it is the table's."""
    shared: bool = False
    """Whether it is the table's, and may as well be a column's."""


class Measures:
    """Reads what is computed. Its methods raise Ambiguous and NotUnderstood.

    `alone`: whether there is no other table. `columns_first`: whether a name that the table shares with a column is the
    column's.
    """

    def __init__(self, cursor: Cursor, *, alone: bool, columns_first: bool) -> None:
        self.chart: Chart = ""
        """The chart that the words for what is computed stand for."""
        self.bare: list[Column] = []
        """Columns of which it is not said how their values are put together."""
        self.names: list[Name] = []
        self._cursor = cursor
        self._alone = alone
        self._columns_first = columns_first

    def read(self) -> list[Measure]:
        """Goes past what is computed, and returns it; none where nothing of the kind stands here."""
        cursor = self._cursor
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
            if cursor.peek(AGAINST):
                cursor.take(AGAINST)
                cursor.fill()
                across = cursor.column("number").name
                found = [Measure(aggregate="value", column=name) for name in (across, measure.column)]
                self.chart = "scatter"
                break
            start = cursor.place
            if not cursor.take(AND):
                break
            cursor.fill()
            if not (self._begins() or cursor.is_column()):
                cursor.place = start
                break
        return found

    def aggregate(self) -> Aggregate | None:
        """Goes past the name of an aggregate, and returns it; None where there is none."""
        found = self._cursor.take(AGGREGATES)
        return _aggregate_of(found) if found else None

    def settled(self, measures: Sequence[Measure], chart: Chart) -> list[Measure]:
        """Returns the measures with how the values of bare columns are put together: a person says so, or the chart."""
        if chart == "scatter":
            raw = [Measure(aggregate="value", column=column.name) for column in self.bare]
            return raw if len(raw) == len(measures) == 2 else list(measures)
        bare = {column.name: column for column in self.bare}
        return [
            self._aggregated(bare[measure.column])
            if measure.aggregate == "value" and measure.column in bare
            else measure
            for measure in measures
        ]

    def _several(self) -> list[Measure]:
        """ "minimum and maximum price"; nothing where it does not begin so."""
        cursor = self._cursor
        start = cursor.place
        aggregates = []
        while (not cursor.is_column(exactly=True) or self._is_aggregate()) and (aggregate := self.aggregate()):
            aggregates.append(aggregate)
            cursor.take(AND)
            cursor.fill()
        if len(aggregates) < 2:
            cursor.place = start
            return []
        column = cursor.column("number")
        return [Measure(aggregate=aggregate, column=column.name) for aggregate in aggregates]

    def _is_aggregate(self) -> bool:
        """Returns whether a word that is a column's name, too, stands before a column, and so for an aggregate."""
        cursor = self._cursor
        start = cursor.place
        try:
            if not self._begins() or not any(map(cursor.take, (DISTINCT, COUNT, AGGREGATES))):
                return False
            cursor.fill()
            return cursor.is_column()
        finally:
            cursor.place = start

    def _begins(self) -> bool:
        return any(self._cursor.peek(phrases) for phrases in (DISTINCT, COUNT, AGGREGATES))

    def _measure(self, inherited: str) -> tuple[Measure | None, str]:
        """Returns a measure, and the aggregate that the next one has where it names none."""
        cursor = self._cursor
        if cursor.take(SHARE):
            self.chart = self.chart or "pie"
            cursor.fill()
            # Shares are of a total.
            inherited = inherited or "sum"
        if not cursor.is_column(exactly=True) or self._is_aggregate():
            measure = self._aggregate_of_a_column()
            if measure is not None:
                return measure, measure.aggregate
        measure = self._compound()
        if measure is not None:
            return measure, measure.aggregate
        # What has an aggregate already is a column.
        columns_first = self._columns_first or inherited not in ("", "count", "distinct")
        if self._rows(columns_first=columns_first) or (self._alone and cursor.take(ROWS)):
            return Measure(aggregate="count"), "count"
        if not cursor.is_column():
            return None, ""
        start = cursor.place
        column = cursor.column("number")
        written = " ".join(token.text for token in cursor.tokens[start : cursor.place])
        self.names.append(Name(place=start, written=written, how=match(written, column.name), column=column.name))
        if inherited and inherited not in ("count", "distinct"):
            return Measure(aggregate=_aggregate_of(inherited), column=column.name), inherited
        self.bare.append(column)
        return Measure(aggregate="value", column=column.name), ""

    def _rows(self, *, columns_first: bool) -> bool:
        """Goes past the table's name, which stands for its rows, and returns whether it stood here."""
        cursor = self._cursor
        start, length = cursor.place, cursor.table_length()
        if not length:
            return False
        written = cursor.phrase(length)
        how = match(written, cursor.table.name)
        shared = any(match(written, column.name) >= max(how, Match.STEMS) for column in cursor.table.columns)
        if shared and columns_first:
            return False
        self.names.append(Name(place=start, written=written, how=how, shared=shared))
        return cursor.take_table()

    def _aggregate_of_a_column(self) -> Measure | None:
        """ "average price", "number of orders", "different products"; None where it does not begin so."""
        cursor = self._cursor
        if cursor.take(DISTINCT):
            cursor.fill()
            return Measure(aggregate="distinct", column=cursor.column("names").name)
        if cursor.take(COUNT):
            cursor.fill()
            return self._counted()
        aggregate = self.aggregate()
        if aggregate is None:
            return None
        cursor.fill()
        return Measure(aggregate=aggregate, column=cursor.column("number").name)

    def _counted(self) -> Measure:
        """What follows "number of": rows by any name for them, or the values of a column, where a person says how."""
        cursor = self._cursor
        if cursor.take(ROWS) or cursor.take_table() or not cursor.is_column():
            return Measure(aggregate="count")
        return self._count_of(cursor.column("names"))

    def _count_of(self, column: Column) -> Measure:
        words = self._cursor.words
        choices = [words.count_rows, words.count_distinct.format(column=column.name)]
        prompt = words.how_to_count.format(column=column.name)
        answer = self._cursor.choose(f"count:{column.name}", prompt, choices)
        if answer == choices[0]:
            return Measure(aggregate="count", column=column.name)
        return Measure(aggregate="distinct", column=column.name)

    def _compound(self) -> Measure | None:
        """A German noun such as Durchschnittspreis."""
        cursor = self._cursor
        token = cursor.token
        if token is None or token.kind != "word" or cursor.is_column(exactly=True):
            return None
        for aggregate, beginnings in COMPOUNDS.items():
            for beginning in beginnings:
                rest = token.folded.removeprefix(beginning)
                if rest == token.folded or len(rest) < 3:
                    continue
                numbers = cursor.table.of_kind("number")
                columns = [column for column in numbers if match(rest, column.name) >= Match.STEMS]
                if len(columns) == 1:
                    cursor.place += 1
                    cursor.met(Match.STEMS)
                    return Measure(aggregate=_aggregate_of(aggregate), column=columns[0].name)
        return None

    def _aggregated(self, column: Column) -> Measure:
        """Of a column that is named alone a person says how its values are put together."""
        if column.kind != "number":
            return self._count_of(column)
        words = self._cursor.words
        choices = list(words.aggregates)
        prompt = words.which_aggregate.format(column=column.name)
        answer = self._cursor.choose(f"aggregate:{column.name}", prompt, choices)
        return Measure(aggregate=words.aggregates[answer], column=column.name)


def _aggregate_of(text: str) -> Aggregate:
    match text:
        case "sum" | "average" | "minimum" | "maximum" | "median" | "count" | "distinct":
            return text
    raise ValueError(text)
