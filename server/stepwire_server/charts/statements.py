"""SQL from a query: names come from the schema and are quoted, values are parameters."""

from __future__ import annotations

__all__ = ["Fold", "Statement", "build_statement", "count_statement", "points_statement"]

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from stepwire_server.charts.schema import Table
from stepwire_server.charts.sources import Dialect
from stepwire_server.charts.specification import Condition, Group, Measure, Query

_COMPARISONS = {"above": ">", "at_least": ">=", "below": "<", "at_most": "<=", "from": ">=", "before": "<"}
_FUNCTIONS = {"average": "AVG", "minimum": "MIN", "maximum": "MAX"}

_Value = str | float | int | bool


@dataclass(frozen=True, slots=True)
class Statement:
    """One SELECT."""

    sql: str
    parameters: tuple[_Value, ...]


@dataclass(frozen=True, slots=True)
class Fold:
    """Which labels of groups are kept, and which groups are not told apart, by the groups' places."""

    kept: Mapping[int, Sequence[str | None]] = field(default_factory=dict)
    others: frozenset[int] = frozenset()
    """Of these, all that is not kept is put together."""
    joined: frozenset[int] = frozenset()
    """Of these, all that is kept is put together."""


def build_statement(query: Query, table: Table, dialect: Dialect, *, most: int, fold: Fold | None = None) -> Statement:
    """Returns the statement of a query that puts rows together; a bucket `auto` must have become one.

    Its rows, at most so many, have the label of each group that is told apart, each measure, the number of rows, and
    for each measure in how many of these it had a value.
    """
    fold = fold or Fold()
    where, parameters = _where(query, table, dialect, fold)
    groups = [group for place, group in enumerate(query.groups) if place not in fold.others | fold.joined]
    labels = [_label(group, table, dialect) for group in groups]
    measures = [_measure(measure, table, dialect) for measure in query.measures]
    counts = [f"COUNT({_value(measure, table, dialect)})" for measure in query.measures]
    sql = f"SELECT {', '.join([*labels, *measures, 'COUNT(*)', *counts])} FROM {table.relation}{where}"
    if groups:
        places = ", ".join(str(place) for place in range(1, len(groups) + 1))
        keys = ", ".join(_order(query.order, groups, table, dialect))
        sql += f" GROUP BY {places} ORDER BY {keys}"
    return Statement(f"{sql} LIMIT {most}", parameters)


def points_statement(query: Query, table: Table, dialect: Dialect, *, every: int) -> Statement:
    """Returns the statement of a scatter: every n-th row that has both numbers, with its group where there is one."""
    where, parameters = _where(query, table, dialect, Fold())
    columns = [dialect.number(table.column(measure.column)) for measure in query.measures]
    columns += [_label(group, table, dialect) for group in query.groups]
    named = ", ".join(f"{column} AS c{place}" for place, column in enumerate(columns))
    rows = f"SELECT {named} FROM {table.relation}{where}"
    numbered = f"SELECT *, ROW_NUMBER() OVER () AS n FROM ({rows}) AS r WHERE c0 IS NOT NULL AND c1 IS NOT NULL"
    shown = ", ".join(f"c{place}" for place in range(len(columns)))
    return Statement(f"SELECT {shown} FROM ({numbered}) AS s WHERE (n - 1) % {every} = 0 ORDER BY n", parameters)


def count_statement(query: Query, table: Table, dialect: Dialect) -> Statement:
    """Returns the statement that counts the rows on which a query's conditions hold, and that have all its numbers."""
    where, parameters = _where(query, table, dialect, Fold())
    whole = " AND ".join(f"{_value(measure, table, dialect)} IS NOT NULL" for measure in query.measures)
    return Statement(f"SELECT COUNT(*), COUNT(CASE WHEN {whole} THEN 1 END) FROM {table.relation}{where}", parameters)


def _label(group: Group, table: Table, dialect: Dialect) -> str:
    column = table.column(group.column)
    return dialect.bucket(column, group.bucket) if group.bucket else dialect.text(column)


def _measure(measure: Measure, table: Table, dialect: Dialect) -> str:
    value = _value(measure, table, dialect)
    match measure.aggregate:
        case "count":
            return f"COUNT({value})"
        case "distinct":
            return f"COUNT(DISTINCT {value})"
        case "sum":
            return dialect.total(value)
        case "median":
            return dialect.median(value)
        case "average" | "minimum" | "maximum":
            return f"{_FUNCTIONS[measure.aggregate]}({value})"
        case "value":
            raise ValueError("a row's own number is for a scatter")


def _value(measure: Measure, table: Table, dialect: Dialect) -> str:
    """What a measure is made of: a number where it computes with it, else the text, or the row itself."""
    if not measure.column:
        return "1"
    column = table.column(measure.column)
    return dialect.number(column) if column.kind == "number" else dialect.text(column)


def _order(order: str, groups: Sequence[Group], table: Table, dialect: Dialect) -> list[str]:
    """Returns by what the rows are sorted: by default dates and numbers upwards, names by what is the largest."""
    places = [str(place) for place in range(1, len(groups) + 1)]
    first = table.column(groups[0].column)
    if order in ("largest", "smallest") or (not order and first.kind in ("text", "boolean")):
        direction = "ASC" if order == "smallest" else "DESC"
        return [f"{len(groups) + 1} {direction} NULLS LAST", *places]
    if first.kind == "number":
        return [f"MIN({dialect.number(first)}) NULLS LAST", *places]
    return [f"{place} NULLS LAST" for place in places]


def _where(query: Query, table: Table, dialect: Dialect, fold: Fold) -> tuple[str, tuple[_Value, ...]]:
    parts, parameters = [], []
    for condition in query.conditions:
        part, values = _condition(condition, table, dialect)
        parts.append(part)
        parameters += values
    for place, kept in fold.kept.items():
        part, texts = _labelled(_label(query.groups[place], table, dialect), kept, other=place in fold.others)
        parts.append(part)
        parameters += texts
    return (f" WHERE {' AND '.join(parts)}" if parts else ""), tuple(parameters)


def _labelled(label: str, kept: Sequence[str | None], *, other: bool) -> tuple[str, list[_Value]]:
    texts: list[_Value] = [text for text in kept if text is not None]
    within = f"{label} IN ({', '.join('?' * len(texts))})" if texts else "1 = 0"
    if other:
        return (
            f"{label} IS NOT NULL AND NOT {within}" if None in kept else f"({label} IS NULL OR NOT {within})"
        ), texts
    return (f"({label} IS NULL OR {within})" if None in kept else within), texts


def _condition(condition: Condition, table: Table, dialect: Dialect) -> tuple[str, list[_Value]]:
    column = table.column(condition.column)
    operator, values = condition.operator, list(condition.values)
    text = dialect.text(column)
    if operator == "empty":
        return f"({text} IS NULL OR {text} = '')", []
    if operator == "present":
        return f"({text} IS NOT NULL AND {text} <> '')", []
    if column.kind == "date":
        return f"{dialect.moment(column)} {_COMPARISONS[operator]} {dialect.moment_parameter}", values
    if column.kind == "number":
        number = dialect.number(column)
        if operator in _COMPARISONS:
            return f"{number} {_COMPARISONS[operator]} ?", values
        within = f"{number} IN ({', '.join('?' * len(values))})"
        return (within if operator == "equals" else f"NOT {within}"), values
    if column.kind == "boolean":
        texts: list[_Value] = ["true" if value else "false" for value in values]
        within = f"{text} IN ({', '.join('?' * len(texts))})"
        return (within if operator == "equals" else f"NOT {within}"), texts
    folded = dialect.fold(text)
    if operator == "contains":
        return f"instr({folded}, {dialect.fold('?')}) > 0", values
    within = f"{folded} IN ({', '.join([dialect.fold('?')] * len(values))})"
    # What has no value differs from every value, too.
    return (within if operator == "equals" else f"({text} IS NULL OR NOT {within})"), values
