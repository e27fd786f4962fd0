"""SQLite: opened to read only, with an authorizer that lets nothing but SELECT through, and a stop at any moment."""

from __future__ import annotations

__all__ = ["SqliteFile", "SqliteSession"]

import sqlite3
import statistics
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from stepwire_server.charts.failures import ChartError, DataError, QueryStopped
from stepwire_server.charts.schema import Column
from stepwire_server.charts.sources import Dialect, Session, Source, profile

_ALLOWED = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_RECURSIVE})
_LARGEST = 1.7976931348623157e308
_STEPS = 10_000
"""Steps of SQLite's machine between two looks at whether to stop: about a millisecond."""
_LENGTH = 10_000_000
"""Bytes that one value may have."""


class SqliteFile(Source):
    """A SQLite database in a file."""

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self._path = path.absolute()

    def open(self) -> Session:
        """Opens a connection of its own. Raises DataError."""
        try:
            return SqliteSession(self._path)
        except sqlite3.Error as error:
            raise DataError(f"{self.name} can't be read: {error}") from None


class SqliteSession(Session):
    """One connection, which may be used in one thread after another."""

    def __init__(self, path: Path) -> None:
        self.dialect = _Sqlite()
        self._stopped = threading.Event()
        self._connection = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, check_same_thread=False)
        try:
            self._prepare()
        except sqlite3.Error:
            self._connection.close()
            raise

    def _prepare(self) -> None:
        connection = self._connection
        connection.text_factory = lambda data: data.decode("utf-8", "replace")
        # What a database's own views and schema may call is as untrusted as its data.
        connection.execute("PRAGMA trusted_schema = 0")
        connection.execute("PRAGMA query_only = 1")
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LENGTH)
        connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
        connection.create_function("casefold", 1, _casefold, deterministic=True)
        connection.create_aggregate("median", 1, _Median)  # type: ignore[arg-type]
        connection.create_aggregate("total_of", 1, _Total)  # type: ignore[arg-type]
        connection.set_progress_handler(self._stopped.is_set, _STEPS)
        connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
        connection.set_authorizer(_authorize)

    def tables(self) -> list[tuple[str, str, list[tuple[str, str]]]]:
        """Of each table and view whose columns can be had."""
        rows = self.run(
            "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') AND substr(name, 1, 7) <> 'sqlite_' "
            "ORDER BY name"
        )
        found = []
        for (name,) in rows:
            try:
                columns = self.run(f"PRAGMA table_xinfo({_quoted(name)})")
            except ChartError as error:
                self.left_out[name] = str(error)
                continue
            # The last of a row says whether the column is hidden: 2 and 3 are generated ones, which can be read.
            found.append((name, _quoted(name), [(row[1], row[2]) for row in columns if row[6] != 1]))
        return found

    def look(self, relation: str, name: str, type_name: str) -> Column:
        """A column has values of any type here: of which most are counts, and where there are none, the type's name."""
        column = _quoted(name)
        counted = self.run(
            f"SELECT typeof(v), COUNT(*) FROM (SELECT {column} AS v FROM {relation} LIMIT 10000) GROUP BY 1"
        )
        types: dict[str, int] = dict(counted)
        numbers = types.get("integer", 0) + types.get("real", 0)
        texts = types.get("text", 0) + types.get("blob", 0)
        declared = type_name.upper()
        if "BOOL" in declared and not texts:
            return Column(name=name, type=type_name, kind="boolean")
        if numbers > texts or (not texts and _is_numeric(declared)):
            return Column(name=name, type=type_name, kind="number")
        if not texts and ("DATE" in declared or "TIME" in declared):
            return Column(name=name, type=type_name, kind="date", dates="iso")
        return profile(self, relation, name, type_name, f"CAST({column} AS TEXT)")

    def run(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """As Session.run."""
        try:
            return self._connection.execute(sql, tuple(parameters)).fetchall()
        except sqlite3.OperationalError as error:
            if self._stopped.is_set():
                raise QueryStopped("the query was stopped") from None
            raise ChartError(f"SQLite can't run the query: {error}") from None
        except (sqlite3.Error, OverflowError) as error:
            raise ChartError(f"SQLite can't run the query: {error}") from None

    def stop(self) -> None:
        """The handler of progress sees it, also in a query that has not begun."""
        self._stopped.set()

    def close(self) -> None:
        """As Session.close."""
        self._connection.close()


class _Sqlite(Dialect):
    def number(self, column: Column) -> str:
        name = _quoted(column.name)
        # Text is above every number here, and so beyond the largest.
        return f"CASE WHEN {name} BETWEEN -{_LARGEST} AND {_LARGEST} THEN {name} END"

    def text(self, column: Column) -> str:
        name = _quoted(column.name)
        if column.kind == "boolean":
            return f"CASE WHEN {name} IS NULL THEN NULL WHEN {name} THEN 'true' ELSE 'false' END"
        return f"CAST({name} AS TEXT)"

    def bucket(self, column: Column, unit: str) -> str:
        day = self._date(column)
        match unit:
            case "week":
                return f"date({day}, '-6 days', 'weekday 1')"
            case "month" | "year":
                return f"date({day}, 'start of {unit}')"
            case "quarter":
                months = f"((CAST(strftime('%m', {day}) AS INTEGER) - 1) / 3 * 3)"
                return f"date({day}, 'start of year', '+' || {months} || ' months')"
            case _:
                return f"date({day})"

    def moment(self, column: Column) -> str:
        return f"datetime({self._date(column)})"

    @property
    def moment_parameter(self) -> str:
        return "datetime(?)"

    def fold(self, expression: str) -> str:
        return f"casefold({expression})"

    def total(self, expression: str) -> str:
        return f"total_of({expression})"

    def median(self, expression: str) -> str:
        return f"median({expression})"

    def _date(self, column: Column) -> str:
        text = f"trim({_quoted(column.name)})"
        if column.dates == "dotted":
            return f"substr({text}, 7, 4) || '-' || substr({text}, 4, 2) || '-' || substr({text}, 1, 2)"
        # SQLite knows +02:00 alone, and takes a time with +0200 for none.
        offset = f"substr({text}, 1, length({text}) - 2) || ':' || substr({text}, -2)"
        return f"CASE WHEN {text} GLOB '*:*[+-][0-9][0-9][0-9][0-9]' THEN {offset} ELSE {text} END"


class _Median:
    def __init__(self) -> None:
        self._values: list[float] = []

    def step(self, value: float | None) -> None:
        if value is not None:
            self._values.append(value)

    def finalize(self) -> float | None:
        return _storable(statistics.median(self._values)) if self._values else None


class _Total:
    """SQLite's own sum fails where whole numbers overflow."""

    def __init__(self) -> None:
        self._whole = 0
        self._real: list[float] = []
        self._any = False

    def step(self, value: float | None) -> None:
        if isinstance(value, int):
            self._whole += value
        elif value is not None:
            self._real.append(value)
        self._any = self._any or value is not None

    def finalize(self) -> float | None:
        if not self._any:
            return None
        try:
            return _storable(self._whole + sum(self._real) if self._real else self._whole)
        except OverflowError:
            return None


def _storable(number: float) -> float:
    """Returns a number as SQLite can hold it: whole ones beyond 64 bits are rounded."""
    return number if not isinstance(number, int) or -(2**63) <= number < 2**63 else float(number)


def _authorize(action: int, first: str | None, second: str | None, *_: str | None) -> int:
    allowed = (
        action in _ALLOWED
        or (action == sqlite3.SQLITE_FUNCTION and second != "load_extension")
        or (action == sqlite3.SQLITE_PRAGMA and first == "table_xinfo")
    )
    return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY


def _casefold(value: Any) -> Any:
    return value.casefold() if isinstance(value, str) else value


def _is_numeric(declared: str) -> bool:
    return any(word in declared for word in ("INT", "REAL", "FLOA", "DOUB", "NUM", "DEC"))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
