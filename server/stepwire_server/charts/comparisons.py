"""A column, how it is compared, and with what: "price above 5", "region is North or South", "sold before 2024"."""

from __future__ import annotations

__all__ = ["comparison", "within"]

from stepwire_server.charts.compared_values import is_value, joins, number_value, text_value
from stepwire_server.charts.cursor import Cursor
from stepwire_server.charts.failures import NotUnderstood
from stepwire_server.charts.lexicon import COMPARISONS, OR
from stepwire_server.charts.names import fold
from stepwire_server.charts.periods import Period, read_period
from stepwire_server.charts.schema import Column
from stepwire_server.charts.small_words import FALSE, TRUE
from stepwire_server.charts.specification import Condition, Operator

_DATES = {"equals": "in", "above": "after", "below": "before", "at_least": "since", "at_most": "until"}
_NUMBERS: dict[str, Operator] = {
    "since": "at_least",
    "after": "above",
    "before": "below",
    "until": "at_most",
    "above": "above",
    "at_least": "at_least",
    "below": "below",
    "at_most": "at_most",
    "differs": "differs",
}
_TEXTS: dict[str, Operator] = {"in": "equals", "equals": "equals", "differs": "differs", "contains": "contains"}
"""What is meant by how a date, a number, or a text is compared."""


def comparison(cursor: Cursor) -> list[Condition]:
    """Goes past a comparison, and returns the conditions that it makes. Raises Ambiguous and NotUnderstood."""
    cursor.fill()
    column = cursor.column("any")
    operator = _operator(cursor)
    if operator in ("empty", "present"):
        return [Condition(column=column.name, operator=operator)]  # type: ignore[arg-type]
    if column.kind == "date":
        return _compare_date(cursor, column, operator or "in")
    if column.kind == "number":
        return _compare_number(cursor, column, operator or "equals")
    return [_compare_texts(cursor, column, operator or "equals")]


def within(column: Column, kind: str, first: Period, last: Period) -> list[Condition]:
    """Returns what holds of dates "in", "since", "before", "after" or "until" a period, or from one to another."""
    bounds: list[tuple[Operator, str]] = []
    if kind in ("in", "between", "equals", "since"):
        bounds.append(("from", first.start))
    if kind == "after":
        bounds.append(("from", first.end))
    if kind in ("in", "between", "equals", "until"):
        bounds.append(("before", last.end))
    if kind == "before":
        bounds.append(("before", first.start))
    return [Condition(column=column.name, operator=name, values=(day,)) for name, day in bounds]


def _operator(cursor: Cursor) -> str:
    start = cursor.place
    while (token := cursor.token) is not None and token.folded in ("is", "are", "was", "ist", "sind", "war", "liegt"):
        cursor.place += 1
    here = cursor.place
    if here > start:
        # "is not" is a phrase of its own.
        cursor.place = start
        operator = cursor.take(COMPARISONS)
        if operator in ("differs", "present", "empty"):
            return operator
        cursor.place = here
    return cursor.take(COMPARISONS)


def _compare_date(cursor: Cursor, column: Column, operator: str) -> list[Condition]:
    kind = _DATES.get(operator, operator)
    period = read_period(cursor.tokens[cursor.place :])
    if period is None or kind in ("contains", "differs"):
        raise NotUnderstood(cursor.words.no_day.format(column=column.name))
    cursor.place += period[1]
    first = last = period[0]
    if kind == "between":
        later = read_period(cursor.tokens[cursor.place + 1 :]) if joins(cursor) else None
        if later is None:
            raise NotUnderstood(cursor.words.no_day.format(column=column.name))
        cursor.place += 1 + later[1]
        last = later[0]
    return within(column, kind, first, last)


def _compare_number(cursor: Cursor, column: Column, operator: str) -> list[Condition]:
    if operator == "between":
        low = number_value(cursor, column)
        if not joins(cursor):
            raise NotUnderstood(cursor.words.no_number.format(column=column.name))
        cursor.place += 1
        high = number_value(cursor, column)
        return [
            Condition(column=column.name, operator="at_least", values=(low,)),
            Condition(column=column.name, operator="at_most", values=(high,)),
        ]
    values = [number_value(cursor, column)]
    while operator in ("equals", "in", "differs") and (step := OR.at(cursor.tokens, cursor.place)) is not None:
        following = cursor.tokens[cursor.place + step[1] : cursor.place + step[1] + 1]
        if not (following and following[0].kind == "number"):
            break
        cursor.place += step[1]
        values.append(number_value(cursor, column))
    return [Condition(column=column.name, operator=_NUMBERS.get(operator, "equals"), values=tuple(values))]


def _compare_texts(cursor: Cursor, column: Column, operator: str) -> Condition:
    values = [text_value(cursor, column)]
    while operator in ("equals", "in", "differs"):
        start = cursor.place
        if not cursor.take(OR) or (cursor.tokens[start].folded in ("and", "und", ",") and not is_value(cursor, column)):
            cursor.place = start
            break
        values.append(text_value(cursor, column))
    if column.kind == "boolean":
        found = [fold(value) for value in values]
        if not all(value in TRUE | FALSE for value in found):
            raise NotUnderstood(cursor.words.no_boolean.format(column=column.name))
        meant: tuple[str | float | bool, ...] = tuple(value in TRUE for value in found)
    else:
        meant = tuple(values)
    if operator not in _TEXTS:
        raise NotUnderstood(cursor.words.not_comparable.format(column=column.name))
    return Condition(column=column.name, operator=_TEXTS[operator], values=meant)
