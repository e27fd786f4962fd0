"""Where tables come from: what a database has to offer, whichever it is, and which one a path names."""

from __future__ import annotations

__all__ = ["Dialect", "Session", "Source", "date_form", "open_source", "profile", "spanned"]

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Self

from stepwire_server.charts.failures import ChartError, DataError, QueryStopped
from stepwire_server.charts.schema import Column, Dates, Table

_ISO = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:?\d{2})?)?")
_DOTTED = re.compile(r"\d{2}\.\d{2}\.\d{4}")
_LOOKED_AT = 100_000
"""Rows in which a column's distinct values are looked for."""
_DISTINCT = 200
"""Distinct values of a column that are kept."""
_LENGTH = 100
"""Characters of a value that is kept: a longer one is no name of a group."""
_FILES = (".csv", ".tsv", ".parquet")


class Dialect(ABC):
    """How a database says what queries are made of. Each method returns an expression in SQL."""

    @abstractmethod
    def number(self, column: Column) -> str:
        """The column's number; NULL where it has none: NaN and infinity are none, and nor is text."""

    @abstractmethod
    def text(self, column: Column) -> str:
        """The column's value as text."""

    @abstractmethod
    def bucket(self, column: Column, unit: str) -> str:
        """The first day, as 2024-01-31, of the day, week (from Monday), month, quarter or year of a date."""

    @abstractmethod
    def moment(self, column: Column) -> str:
        """A date, to be compared with `moment_parameter`."""

    @property
    @abstractmethod
    def moment_parameter(self) -> str:
        """The place of a parameter that is a day or moment in ISO's form."""

    @abstractmethod
    def fold(self, expression: str) -> str:
        """A text without its case."""

    @abstractmethod
    def total(self, expression: str) -> str:
        """The sum, which does not overflow."""

    @abstractmethod
    def median(self, expression: str) -> str:
        """The median: the mean of the two in the middle where their number is even."""


class Session(ABC):
    """One connection that can only read, for one question at a time. All methods but `stop` block."""

    dialect: Dialect
    left_out: dict[str, str]
    """Of each table that can't be read, such as a view of what is gone, why; known once the schema is."""

    @abstractmethod
    def tables(self) -> list[tuple[str, str, list[tuple[str, str]]]]:
        """Returns of each table its name, what stands for it in SQL, and its columns with their types' names."""

    @abstractmethod
    def look(self, relation: str, name: str, type_name: str) -> Column:
        """Returns a column as its type and its values tell it."""

    @abstractmethod
    def run(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Runs one SELECT and returns its rows. Raises QueryStopped, or ChartError with what the database says."""

    @abstractmethod
    def stop(self) -> None:
        """Ends what runs, from any thread, now and from now on. To be called until it has ended."""

    @abstractmethod
    def close(self) -> None:
        """Lets go of the connection."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def schema(self) -> list[Table]:
        """Reads the tables that can be read: names, kinds, how many rows, some distinct values."""
        self.left_out = {}
        found = []
        for name, relation, columns in self.tables():
            try:
                looked = tuple(self.look(relation, column, type_name) for column, type_name in columns)
                ((rows,),) = self.run(f"SELECT COUNT(*) FROM {relation}")
            except QueryStopped:
                raise
            except ChartError as error:
                self.left_out[name] = str(error)
                continue
            if looked:
                found.append(Table(name=name, relation=relation, columns=looked, rows=int(rows)))
        return found


class Source(ABC):
    """A database, or files that are taken for one."""

    name: str
    """The file's or folder's name."""

    @abstractmethod
    def open(self) -> Session:
        """Opens it for one question. Raises DataError where it can't be read any more."""

    def close(self) -> None:
        """Lets go of what it keeps between questions. Sessions that are open go on."""
        return


def open_source(path: Path, *, memory: str) -> Source:
    """Returns what the file or folder is, by its first bytes or its ending. `memory`: what DuckDB may take, as 1GB.

    Raises DataError where it is nothing that is known.
    """
    from stepwire_server.charts.duck import DuckFile, Files
    from stepwire_server.charts.sqlite import SqliteFile

    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in _FILES and file.is_file())
        if not files:
            raise DataError(f"there is no .csv, .tsv or .parquet file in {path}")
        return Files(path.name, files, memory=memory)
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror}") from None
    if head == b"SQLite format 3\0":
        return SqliteFile(path)
    if head[8:12] == b"DUCK":
        return DuckFile(path, memory=memory)
    if path.suffix.lower() in _FILES:
        return Files(path.name, [path], memory=memory)
    raise DataError(
        f"{path} is no SQLite or DuckDB database, and no .csv, .tsv or .parquet file, nor a folder of these"
    )


def date_form(values: Iterable[str]) -> Dates | None:
    """Returns how dates are written in a column of text; None where its values are no dates, or there are none."""
    found = list(values)
    if found and all(_ISO.fullmatch(value.strip()) for value in found):
        return "iso"
    if found and all(_DOTTED.fullmatch(value.strip()) for value in found):
        return "dotted"
    return None


def profile(session: Session, relation: str, name: str, type_name: str, text: str) -> Column:
    """Returns a column of text, or of dates where its values are such. `text`: what gives its text, in SQL."""
    rows = session.run(
        f"SELECT DISTINCT v FROM (SELECT {text} AS v FROM {relation} LIMIT {_LOOKED_AT}) "
        f"WHERE v IS NOT NULL LIMIT {_DISTINCT}"
    )
    values = [str(value) for (value,) in rows]
    form = date_form(values)
    if form:
        return spanned(session, relation, Column(name=name, type=type_name, kind="date", dates=form))
    kept = tuple(sorted(value for value in values if len(value) <= _LENGTH))
    return Column(name=name, type=type_name, kind="text", values=kept)


def spanned(session: Session, relation: str, column: Column) -> Column:
    """Returns a column of dates with its first and last day."""
    day = session.dialect.bucket(column, "day")
    ((first, last),) = session.run(f"SELECT MIN({day}), MAX({day}) FROM {relation}")
    span = None if first is None else (str(first), str(last))
    return Column(name=column.name, type=column.type, kind="date", dates=column.dates, span=span)
