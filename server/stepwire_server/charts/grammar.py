"""A question that names columns and aggregates becomes a query, without a model.

    average price by region                     Summe umsatz pro monat in 2024 als Liniendiagramm
    count of orders per status                  top 5 customers by revenue where region is north
    price against weight                        number of different products by month

What is not understood is said, and never passed over: every word is part of the grammar, a name, a value or a filler.
"""

from __future__ import annotations

__all__ = ["is_german", "read_question"]

from collections.abc import Mapping, Sequence

from stepwire_server.charts.cursor import Cursor
from stepwire_server.charts.failures import Ambiguous, NotUnderstood
from stepwire_server.charts.reader import Reader
from stepwire_server.charts.schema import Table
from stepwire_server.charts.small_words import GERMAN
from stepwire_server.charts.specification import Query, checked
from stepwire_server.charts.tokens import tokenize
from stepwire_server.charts.wording import wording

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
        cursor = Cursor(tokens, table, answers, words)
        try:
            outcome: Query | Ambiguous = checked(Reader(cursor, alone=len(tables) == 1).read(), table)
        except Ambiguous as ambiguity:
            outcome = ambiguity
        except NotUnderstood as error:
            failed.append((cursor.furthest, cursor.quality[0], error))
            continue
        read.append((cursor.quality, table, outcome))
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
