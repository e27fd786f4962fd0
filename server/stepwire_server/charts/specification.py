"""The small query that a question comes to, whether a grammar or a model has read it. SQL is written from it, by us."""

from __future__ import annotations

__all__ = [
    "AGGREGATES",
    "BUCKETS",
    "CHARTS",
    "OPERATORS",
    "Aggregate",
    "Bucket",
    "Chart",
    "Condition",
    "Group",
    "Measure",
    "Operator",
    "Order",
    "Query",
    "checked",
]

from dataclasses import dataclass
from typing import Literal, get_args

from stepwire_server.charts.failures import NotUnderstood
from stepwire_server.charts.schema import Column, Table

Aggregate = Literal["count", "distinct", "sum", "average", "minimum", "maximum", "median", "value"]
Bucket = Literal["", "auto", "day", "week", "month", "quarter", "year"]
Chart = Literal["", "bar", "line", "pie", "scatter"]
Order = Literal["", "largest", "smallest", "group"]
Operator = Literal[
    "equals",
    "differs",
    "above",
    "at_least",
    "below",
    "at_most",
    "contains",
    "empty",
    "present",
    "from",
    "before",
]

AGGREGATES: tuple[Aggregate, ...] = get_args(Aggregate)
BUCKETS: tuple[Bucket, ...] = get_args(Bucket)
CHARTS: tuple[Chart, ...] = get_args(Chart)
OPERATORS: tuple[Operator, ...] = get_args(Operator)

_NUMERIC = ("sum", "average", "minimum", "maximum", "median", "value")
_MEASURES = 4
_LIMIT = 100
"""How many groups may be asked for by number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """What is computed: `count` counts rows and needs no column, `value` is a row's own number, for a scatter."""

    aggregate: Aggregate
    column: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """What rows are put together by. `bucket`: the span of time that dates are cut to; `auto` where the data says."""

    column: str
    bucket: Bucket = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """Which rows count. `values`: texts, numbers or booleans by the column's kind; one of several for `equals`, none of
    them for `differs`. `from` (inclusive) and `before` compare a date with a day or a moment, as 2024-01-31.
    """

    column: str
    operator: Operator
    values: tuple[str | float | int | bool, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One question about one table. `chart` and `order` are empty where the data is to decide."""

    table: str
    measures: tuple[Measure, ...]
    groups: tuple[Group, ...] = ()
    conditions: tuple[Condition, ...] = ()
    order: Order = ""
    limit: int | None = None
    chart: Chart = ""


def checked(query: Query, table: Table) -> Query:
    """Returns the query, if it can be asked of the table. Raises NotUnderstood with what is wrong."""
    if not query.measures:
        raise NotUnderstood(f"nothing is said of what to compute; {_numbers(table)}")
    if len(query.measures) > _MEASURES:
        raise NotUnderstood(f"at most {_MEASURES} things can be computed at once")
    for measure in query.measures:
        _check_measure(measure, table)
    raw = [measure.aggregate == "value" for measure in query.measures]
    if any(raw) and (not all(raw) or len(raw) != 2 or query.chart != "scatter" or len(query.groups) > 1):
        raise NotUnderstood("a scatter shows two columns of numbers, and at most one group as colour")
    if query.chart == "scatter" and not all(raw):
        raise NotUnderstood(
            "a scatter shows rows as they are: name two columns of numbers, as in 'price against weight'"
        )
    if len(query.groups) > 2 or (len(query.groups) == 2 and len(query.measures) > 1):
        raise NotUnderstood("a chart has room for one number by two groups, or for several numbers by one group")
    if len({group.column for group in query.groups}) < len(query.groups):
        raise NotUnderstood("a column can't be grouped by twice")
    if query.chart == "pie" and (len(query.groups) != 1 or len(query.measures) != 1):
        raise NotUnderstood("a pie shows one number by one group")
    if query.chart == "line" and not query.groups:
        raise NotUnderstood("a line needs something to run along: say by what, as in 'per month'")
    for group in query.groups:
        if group.bucket and _column(group.column, table).kind != "date":
            raise NotUnderstood(f"{group.column!r} is no date and has no {group.bucket}; {_dates(table)}")
    for condition in query.conditions:
        _check_condition(condition, _column(condition.column, table))
    if query.limit is not None and not 1 <= query.limit <= _LIMIT:
        raise NotUnderstood(f"{query.limit} groups can't be shown; ask for 1 to {_LIMIT:,}")
    return query


def _column(name: str, table: Table) -> Column:
    try:
        return table.column(name)
    except KeyError:
        raise NotUnderstood(f"there is no column {name!r}; there is {table.listed()}") from None


def _check_measure(measure: Measure, table: Table) -> None:
    if not measure.column:
        if measure.aggregate != "count":
            raise NotUnderstood(f"the {measure.aggregate} of which column? {_numbers(table)}")
        return
    column = _column(measure.column, table)
    if measure.aggregate in _NUMERIC and column.kind != "number":
        raise NotUnderstood(f"{column.name!r} is no number ({column.kind}); {_numbers(table)}")


def _check_condition(condition: Condition, column: Column) -> None:
    operator, values = condition.operator, condition.values
    if operator in ("empty", "present"):
        return
    if not values or (len(values) > 1 and operator not in ("equals", "differs")):
        raise NotUnderstood(f"the condition on {column.name!r} needs a value")
    if (column.kind == "date") != (operator in ("from", "before")):
        raise NotUnderstood(f"{column.name!r} ({column.kind}) can't be compared with {operator!r}")
    if operator == "contains" and column.kind != "text":
        raise NotUnderstood(f"only text contains something, and {column.name!r} is none ({column.kind})")
    if operator in ("above", "at_least", "below", "at_most") and column.kind != "number":
        raise NotUnderstood(f"{column.name!r} is no number ({column.kind}), and is neither above nor below one")
    for value in values:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if column.kind == "number" and not is_number:
            raise NotUnderstood(f"{column.name!r} is a number, and {value!r} is none")
        if column.kind == "boolean" and not isinstance(value, bool):
            raise NotUnderstood(f"{column.name!r} is true or false, and not {value!r}")
        if column.kind in ("text", "date") and not isinstance(value, str):
            raise NotUnderstood(f"{column.name!r} ({column.kind}) is compared with text, and {value!r} is none")


def _numbers(table: Table) -> str:
    names = ", ".join(column.name for column in table.of_kind("number"))
    return f"table {table.name!r} has these numbers: {names or 'none'}"


def _dates(table: Table) -> str:
    names = ", ".join(column.name for column in table.of_kind("date"))
    return f"table {table.name!r} has these dates: {names or 'none'}"
