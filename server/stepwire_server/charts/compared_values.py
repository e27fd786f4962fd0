"""What a question compares a column with: a number, or a text, of which nobody says where it ends."""

from __future__ import annotations

__all__ = ["is_value", "joins", "number_value", "text_value"]

from stepwire_server.charts.cursor import NAME, Cursor
from stepwire_server.charts.failures import NotUnderstood
from stepwire_server.charts.lexicon import AND, AS_CHART, BY, IN, OR, OVER_TIME, PERIODS, SORTED, WHERE
from stepwire_server.charts.names import fold
from stepwire_server.charts.periods import read_period
from stepwire_server.charts.schema import Column


def joins(cursor: Cursor) -> bool:
    """Returns whether "and" or "to" stands here; does not go past it."""
    token = cursor.token
    return token is not None and token.folded in ("and", "und", "to", "bis")


def number_value(cursor: Cursor, column: Column) -> float:
    """Goes past a number. Raises NotUnderstood where there is none, or one that means two things."""
    token = cursor.token
    if token is None or token.kind not in ("number", "quoted"):
        raise NotUnderstood(cursor.words.no_number.format(column=column.name))
    text = token.text.strip()
    whole, mark, part = text.replace(",", ".").partition(".")
    # 1.000 is a thousand in German, and one in English.
    if "." in part or (mark and len(part) == 3 and "," in text) or (mark and len(part) == 3 and len(whole) <= 3):
        raise NotUnderstood(cursor.words.grouped_number.format(text=text))
    try:
        number = float(f"{whole}.{part}") if mark else int(whole)
    except ValueError:
        raise NotUnderstood(cursor.words.no_number.format(column=column.name)) from None
    cursor.place += 1
    return number


def text_value(cursor: Cursor, column: Column) -> str:
    """Goes past a value: a quoted one, one that the column has, or all words up to the next clause."""
    token = cursor.token
    if token is None:
        raise NotUnderstood(cursor.words.no_value.format(column=column.name))
    if token.kind == "quoted":
        cursor.place += 1
        return token.text
    length = _known(cursor, column)
    if length == 0:
        length = 1
        while cursor.place + length < len(cursor.tokens) and not _ends(cursor, cursor.place + length, column):
            length += 1
    value = cursor.phrase(length)
    cursor.place += length
    cursor.furthest = max(cursor.furthest, cursor.place)
    return value


def is_value(cursor: Cursor, column: Column) -> bool:
    """Returns whether a value that the column is known to have stands here, or a quoted one."""
    token = cursor.token
    return token is not None and (token.kind == "quoted" or _known(cursor, column) > 0)


def _known(cursor: Cursor, column: Column) -> int:
    """Returns of how many tokens the longest of the column's known values is that stands here; 0 without one."""
    known = {fold(value) for value in column.values}
    longest = min(NAME, len(cursor.tokens) - cursor.place)
    return next((length for length in range(longest, 0, -1) if fold(cursor.phrase(length)) in known), 0)


def _ends(cursor: Cursor, place: int, column: Column) -> bool:
    """Returns whether a text that nobody quoted ends before a place."""
    tokens = cursor.tokens
    if any(phrases.at(tokens, place) for phrases in (BY, WHERE, AS_CHART, SORTED, OVER_TIME)):
        return True
    if AND.at(tokens, place):
        # "Trinidad and Tobago" goes on; "Trinidad and price above 5" and "North, South" do not.
        here, cursor.place = cursor.place, place + 1
        follows = cursor.is_column() or is_value(cursor, column)
        cursor.place = here
        return follows
    if OR.at(tokens, place):
        return True
    marks = (IN, PERIODS)
    return any(
        (found := phrases.at(tokens, place)) is not None and read_period(tokens[place + found[1] :]) is not None
        for phrases in marks
    )
