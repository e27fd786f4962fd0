"""A question that names columns and aggregates becomes a query, without a model.

    average price by region                     Summe umsatz pro monat in 2024 als Liniendiagramm
    count of orders per status                  top 5 customers by revenue where region is north
    price against weight                        number of different products by month

What is not understood is said, and never passed over: every word is part of the grammar, a name, a value or a filler.
"""

from __future__ import annotations

__all__ = ["is_german", "read_question"]

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stepwire_server.charts.cursor import Cursor, is_named
from stepwire_server.charts.failures import Ambiguous, ChartError, NotUnderstood
from stepwire_server.charts.measures import Name
from stepwire_server.charts.names import Match, fold
from stepwire_server.charts.reader import Reader
from stepwire_server.charts.schema import Table
from stepwire_server.charts.small_words import GERMAN
from stepwire_server.charts.specification import Query, checked
from stepwire_server.charts.tokens import tokenize
from stepwire_server.charts.wording import Wording, wording

_LENGTH = 2_000
_LISTED = 5
"""Tables that a refusal names."""

_Refusal = tuple[tuple[int, float, bool], NotUnderstood]
"""How far a question was understood of a table, and what keeps it from being understood as a whole."""


def is_german(question: str) -> bool:
    """Returns whether a question is German rather than English, by its small words."""
    return any(token.folded in GERMAN for token in tokenize(question[:_LENGTH]))


def read_question(
    question: str, tables: Sequence[Table], answers: Mapping[str, str], *, left_out: Mapping[str, str] | None = None
) -> tuple[Query, Table]:
    """Returns the query that a question comes to, and the table that it is about. `answers`: what was asked, by key.

    `left_out`: tables that can't be read, each with why. Raises Ambiguous where a person must choose, NotUnderstood,
    which says what there is, and ChartError where the question names what is left out.
    """
    tokens = tokenize(question)
    if not tokens:
        raise NotUnderstood("the question is empty")
    words = wording(is_german(question))
    readings: list[_Reading] = []
    refusals: list[_Refusal] = []
    for table in tables:
        for columns_first in (False, True):
            cursor = Cursor(tokens, table, answers, words)
            reader = Reader(cursor, alone=len(tables) == 1, columns_first=columns_first)
            try:
                outcome: Query | Ambiguous = checked(reader.read(), table)
            except NotUnderstood as error:
                refusals.append(((cursor.furthest, cursor.quality[0], error.near), error))
            except Ambiguous as ambiguity:
                readings.append(_Reading(table, ambiguity, cursor.quality, tuple(reader.names)))
            else:
                readings.append(_Reading(table, outcome, cursor.quality, tuple(reader.names)))
            if not any(name.shared for name in reader.names):
                break
    if not readings:
        for name, reason in (left_out or {}).items():
            if is_named(name, tokens):
                raise ChartError(words.left_out.format(table=name, reason=reason))
        raise _refusal(refusals, words)
    meant = _meant(readings, answers, words)
    if isinstance(meant.outcome, Ambiguous):
        raise meant.outcome
    return meant.outcome, meant.table


@dataclass(frozen=True, slots=True)
class _Reading:
    """What a question comes to as one about one table."""

    table: Table
    outcome: Query | Ambiguous
    quality: tuple[float, float]
    names: tuple[Name, ...]


def _refusal(refusals: Sequence[_Refusal], words: Wording) -> NotUnderstood:
    """Returns what keeps the question from being understood, of the tables of which it was understood furthest."""
    if not refusals:
        return NotUnderstood("there are no tables")
    furthest, error = max(refusals, key=lambda refusal: refusal[0])
    alike = [other for reached, other in refusals if reached == furthest and other.text == error.text]
    tables = list(dict.fromkeys(table for other in alike for table in other.there_is))
    more = [words.more_tables.format(count=len(tables) - _LISTED)] if len(tables) > _LISTED else []
    return NotUnderstood(error.text, there_is=[*tables[:_LISTED], *more])


def _meant(readings: Sequence[_Reading], answers: Mapping[str, str], words: Wording) -> _Reading:
    """Returns the reading that fits best; of several a person chooses."""
    best = max(reading.quality for reading in readings)
    chosen = [reading for reading in readings if reading.quality == best]
    for reading in chosen:
        for name in reading.names:
            options = _sharing(name, readings, words) if not name.column else {}
            if len(options) > 1:
                prompt = words.which_name.format(name=name.written)
                return _picked(f"name:{fold(name.written)}", prompt, options, answers)
    if len(chosen) == 1:
        return chosen[0]
    return _picked("table", words.which_table, {reading.table.name: reading for reading in chosen}, answers)


def _sharing(table_name: Name, readings: Sequence[_Reading], words: Wording) -> dict[str, _Reading]:
    """Returns what a table's name may stand for: its rows, and the columns that are called so at least as exactly."""
    here = [(name, reading) for reading in readings for name in reading.names if name.place == table_name.place]
    least = max(table_name.how, Match.STEMS)
    rows = {words.rows_of.format(table=reading.table.name): reading for name, reading in here if not name.column}
    columns = {
        words.column_of.format(column=name.column, table=reading.table.name): reading
        for name, reading in here
        if name.column and name.how >= least
    }
    return {**rows, **columns} if columns else {}


def _picked(key: str, prompt: str, options: Mapping[str, _Reading], answers: Mapping[str, str]) -> _Reading:
    answer = answers.get(key, "")
    if answer not in options:
        raise Ambiguous(key, prompt, list(options))
    return options[answer]
