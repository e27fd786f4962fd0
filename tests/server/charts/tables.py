"""Tables for tests in every form that the charts read, and what a question about them comes to."""

from __future__ import annotations

import csv
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

from stepwire_server.charts.drawing import Drawing, draw
from stepwire_server.charts.grammar import is_german, read_question
from stepwire_server.charts.results import Inquiry, resolved
from stepwire_server.charts.schema import Table
from stepwire_server.charts.sources import Session, Source, open_source
from stepwire_server.charts.wording import wording

__all__ = ["FORMS", "Answer", "ask", "quoted", "schema_of", "write"]

FORMS = ("sqlite", "duckdb", "csv", "parquet")

_TYPES = {"number": "DOUBLE", "whole": "BIGINT", "text": "TEXT", "date": "DATE"}


class Answer(NamedTuple):
    """What a question came to."""

    inquiry: Inquiry
    drawing: Drawing

    @property
    def numbers(self) -> dict[Any, float | None]:
        """The first measure by label (or labels), of what has rows."""
        return {
            row.labels[0] if len(row.labels) == 1 else row.labels: row.values[0]
            for row in self.inquiry.rows
            if row.rows and not row.others
        }


def quoted(name: str) -> str:
    """Returns a name in quotes, for SQL and for questions alike."""
    return '"' + name.replace('"', '""') + '"'


def write(
    folder: Path,
    form: str,
    columns: Mapping[str, str],
    rows: Iterable[Sequence[Any]],
    *,
    table: str = "things",
) -> Path:
    """Writes a table, whose columns are "number", "whole", "text" or "date", and returns its file."""
    import duckdb

    rows = [tuple(row) for row in rows]
    named = ", ".join(f"{quoted(name)} {_TYPES[kind]}" for name, kind in columns.items())
    places = ", ".join("?" * len(columns))
    path = folder / f"{table}.{form}"
    if form == "csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([list(columns), *rows])
    elif form == "sqlite":
        connection = sqlite3.connect(path)
        plain = [[value.isoformat() if isinstance(value, date) else value for value in row] for row in rows]
        connection.execute(f"CREATE TABLE {quoted(table)} ({named})")
        connection.executemany(f"INSERT INTO {quoted(table)} VALUES ({places})", plain)
        connection.commit()
        connection.close()
    else:
        made = duckdb.connect(":memory:" if form == "parquet" else str(path))
        made.execute(f"CREATE TABLE {quoted(table)} ({named})")
        if rows:
            # One row at a time takes DuckDB seconds.
            every = ", ".join([f"({places})"] * len(rows))
            made.execute(f"INSERT INTO {quoted(table)} VALUES {every}", [value for row in rows for value in row])
        if form == "parquet":
            made.execute(f"COPY {quoted(table)} TO '{path}' (FORMAT parquet)")
        made.close()
    return path


def schema_of(source: Source | Path) -> list[Table]:
    """Returns the tables of a source."""
    with _source(source).open() as session:
        return session.schema()


def ask(source: Session | Source | Path, question: str, answers: Mapping[str, str] | None = None) -> Answer:
    """Returns what a question comes to, without a server."""
    german = is_german(question)
    # Whoever opened a session closes it.
    with nullcontext(source) if isinstance(source, Session) else _source(source).open() as session:
        tables = session.schema()
        query, table = read_question(question, tables, answers or {}, left_out=session.left_out)
        inquiry = Inquiry(resolved(query, table), table, session)
        inquiry.ask()
        inquiry.complete()
        return Answer(inquiry, draw(inquiry, wording(german), german=german))


def _source(source: Source | Path) -> Source:
    return source if isinstance(source, Source) else open_source(source, memory="200MB")
