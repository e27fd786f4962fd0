"""Which rows count: "where price is above 5", "in 2024", "since March 2023", "in Berlin"."""

from __future__ import annotations

__all__ = ["conditions"]

from stepwire_server.charts.comparisons import comparison, within
from stepwire_server.charts.cursor import NAME, Cursor
from stepwire_server.charts.failures import NotUnderstood
from stepwire_server.charts.lexicon import AND, IN, PERIODS, WHERE
from stepwire_server.charts.names import Match, fold, match
from stepwire_server.charts.periods import Period, read_period
from stepwire_server.charts.schema import Column
from stepwire_server.charts.specification import Condition, Operator


def conditions(cursor: Cursor) -> list[Condition]:
    """Goes past conditions, and returns them; none where none begin here. Raises Ambiguous and NotUnderstood."""
    start = cursor.place
    if cursor.take(WHERE):
        found = comparison(cursor)
        while True:
            before = cursor.place
            if not cursor.take(AND):
                return found
            cursor.take(WHERE)
            cursor.fill()
            if not cursor.is_column():
                cursor.place = before
                return found
            found += comparison(cursor)
    found = _period(cursor) or _of_a_value(cursor)
    if not found:
        cursor.place = start
    return found


def _period(cursor: Cursor) -> list[Condition]:
    """ "in 2024", "since March 2023", "between 2022 and 2023", "from 2022 to 2023": of the table's date."""
    start = cursor.place
    kind = cursor.take(PERIODS) or ("in" if cursor.take(IN) else "")
    while (token := cursor.token) is not None and token.folded in ("the", "dem", "den", "der"):
        cursor.place += 1
    period = read_period(cursor.tokens[cursor.place :]) if kind else None
    if period is None:
        cursor.place = start
        return []
    cursor.place += period[1]
    first = last = period[0]
    if kind in ("between", "in") and (token := cursor.token) is not None:
        joint = token.folded in ("and", "und", "to", "bis", "until", "till")
        later = read_period(cursor.tokens[cursor.place + 1 :]) if joint else None
        if later is not None:
            cursor.place += 1 + later[1]
            last, kind = later[0], "in"
    column = _dated(cursor)
    return within(column, kind, first, last) if column is not None else _within_years(cursor, kind, first, last)


def _dated(cursor: Cursor) -> Column | None:
    """Returns the column of dates; None where there is none, but one of years."""
    if not cursor.table.of_kind("date") and _years(cursor):
        return None
    return cursor.date_column()


def _years(cursor: Cursor) -> Column | None:
    numbers = cursor.table.of_kind("number")
    return next(
        (one for one in numbers if max(match(word, one.name) for word in ("year", "jahr")) >= Match.STEMS), None
    )


def _within_years(cursor: Cursor, kind: str, first: Period, last: Period) -> list[Condition]:
    column = _years(cursor)
    if column is None or not (first.start.endswith("-01-01") and last.start.endswith("-01-01")):
        raise NotUnderstood(cursor.words.no_dates, there_is=[cursor.table.listed()])
    low, high = int(first.start[:4]), int(last.start[:4])
    bounds: list[tuple[Operator, int]] = []
    if kind in ("in", "between", "since"):
        bounds.append(("at_least", low))
    if kind in ("in", "between", "until"):
        bounds.append(("at_most", high))
    if kind == "before":
        bounds.append(("below", low))
    if kind == "after":
        bounds.append(("above", high))
    return [Condition(column=column.name, operator=name, values=(year,)) for name, year in bounds]


def _of_a_value(cursor: Cursor) -> list[Condition]:
    """ "in Berlin", "for north": a value that a column is known to have."""
    start = cursor.place
    if not cursor.take(IN):
        return []
    while (token := cursor.token) is not None and token.folded in ("the", "dem", "den", "der", "die", "das"):
        cursor.place += 1
    for length in range(min(NAME, len(cursor.tokens) - cursor.place), 0, -1):
        written = fold(cursor.phrase(length))
        found = {
            column.name: value
            for column in cursor.table.of_kind("text")
            for value in column.values
            if fold(value) == written
        }
        if found:
            cursor.place += length
            cursor.furthest = max(cursor.furthest, cursor.place)
            name = next(iter(found))
            if len(found) > 1:
                prompt = cursor.words.which_value.format(value=found[name])
                name = cursor.choose(f"value:{written}", prompt, list(found))
            return [Condition(column=name, operator="equals", values=(found[name],))]
    cursor.place = start
    return []
