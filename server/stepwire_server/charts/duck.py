"""DuckDB: a database's file, or files of CSV and Parquet read as tables. Nothing else can be reached from it."""

from __future__ import annotations

__all__ = ["DuckFile", "DuckSession", "Files"]

import re
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepwire_server.charts.failures import ChartError, DataError, QueryStopped
from stepwire_server.charts.schema import Column
from stepwire_server.charts.sources import Dialect, Session, Source, profile, spanned

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_WHOLE = re.compile(r"U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|DECIMAL\(.*\)|BIGNUM|VARINT")
_REAL = ("FLOAT", "DOUBLE")


class DuckFile(Source):
    """A DuckDB database in a file. It is opened for each question, so that others may write it in between."""

    def __init__(self, path: Path, *, memory: str) -> None:
        self.name = path.name
        self._path = path.absolute()
        self._memory = memory

    def open(self) -> Session:
        """Opens a connection of its own. Raises DataError."""
        import duckdb

        # Attached, and not connected to: a process may not connect to one file twice once that is locked.
        connection = duckdb.connect(":memory:", config=_settings(self._memory))
        try:
            connection.execute(f"ATTACH {_literal(str(self._path))} AS data (READ_ONLY)")
            connection.execute("USE data")
        except duckdb.Error as error:
            connection.close()
            raise DataError(f"{self.name} can't be read: {_first_line(error)}") from None
        _lock(connection)
        return DuckSession(connection)


class Files(Source):
    """Files of CSV and Parquet, each of them a table by its name.

    A file of CSV is read into memory when it is new or has changed: of which types its columns are, all of its rows
    say. One of Parquet says its types, and is read where it lies.
    """

    def __init__(self, name: str, files: Sequence[Path], *, memory: str) -> None:
        self.name = name
        self._files = [file.absolute() for file in files]
        self._memory = memory
        self._lock = threading.Lock()
        self._stamp: list[tuple[int, int]] = []
        self._loaded: DuckDBPyConnection | None = None

    def open(self) -> Session:
        """Returns a connection to what was read; reads it where it has changed. Raises DataError."""
        with self._lock:
            try:
                stamp = [(status.st_mtime_ns, status.st_size) for status in (file.stat() for file in self._files)]
            except OSError as error:
                raise DataError(f"{error.filename} can't be read: {error.strerror}") from None
            if self._loaded is None or stamp != self._stamp:
                # Sessions on what was read before keep it until they are closed.
                self._loaded, self._stamp = self._load(), stamp
            return DuckSession(self._loaded.cursor())

    def close(self) -> None:
        """As Source.close: what was read is read again at the next question."""
        with self._lock:
            if self._loaded is not None:
                self._loaded.close()
            self._loaded = None

    def _load(self) -> DuckDBPyConnection:
        import duckdb

        connection = duckdb.connect(":memory:", config=_settings(self._memory))
        names: set[str] = set()
        parquet = []
        for file in self._files:
            name = file.stem if file.stem.casefold() not in names else file.name
            names.add(name.casefold())
            try:
                if file.suffix.lower() == ".parquet":
                    parquet.append(str(file))
                    connection.execute(f"CREATE VIEW {_quoted(name)} AS FROM read_parquet({_literal(str(file))})")
                else:
                    connection.execute(
                        f"CREATE TABLE {_quoted(name)} AS FROM read_csv(?, sample_size = -1)", [str(file)]
                    )
            except duckdb.Error as error:
                connection.close()
                raise DataError(f"{file.name} can't be read: {_first_line(error)}") from None
        connection.execute(f"SET allowed_paths = [{', '.join(map(_literal, parquet))}]")
        _lock(connection)
        return connection


class DuckSession(Session):
    """One connection, which may be used in one thread after another."""

    def __init__(self, connection: DuckDBPyConnection) -> None:
        self.dialect = _Duck()
        self._connection = connection
        self._stopped = threading.Event()

    def tables(self) -> list[tuple[str, str, list[tuple[str, str]]]]:
        """Of each table and view of every schema; those of another than the usual one are named with it."""
        rows = self.run(
            "SELECT table_schema, table_name, column_name, data_type FROM information_schema.columns "
            "WHERE table_catalog = current_database() ORDER BY table_schema, table_name, ordinal_position"
        )
        found: dict[tuple[str, str], list[tuple[str, str]]] = {}
        for schema, table, column, type_name in rows:
            found.setdefault((schema, table), []).append((column, type_name))
        return [
            (table if schema == "main" else f"{schema}.{table}", f"{_quoted(schema)}.{_quoted(table)}", columns)
            for (schema, table), columns in found.items()
        ]

    def look(self, relation: str, name: str, type_name: str) -> Column:
        """The type says it, but for text that may be dates."""
        if _WHOLE.fullmatch(type_name) or type_name in _REAL:
            return Column(name=name, type=type_name, kind="number")
        if type_name == "BOOLEAN":
            return Column(name=name, type=type_name, kind="boolean")
        if type_name == "DATE" or type_name.startswith("TIMESTAMP"):
            return spanned(self, relation, Column(name=name, type=type_name, kind="date"))
        return profile(self, relation, name, type_name, f"CAST({_quoted(name)} AS VARCHAR)")

    def run(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """As Session.run. What is not one SELECT is refused, whoever wrote it."""
        import duckdb

        try:
            if self._stopped.is_set():
                raise duckdb.InterruptException("stopped before it began")
            statements = duckdb.extract_statements(sql)
            if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
                raise ChartError("only one SELECT can be run")
            return self._connection.execute(statements[0], list(parameters)).fetchall()
        except duckdb.InterruptException:
            raise QueryStopped("the query was stopped") from None
        except duckdb.OutOfMemoryException:
            raise QueryStopped("the query needs more memory than it may take; ask for less of it") from None
        except duckdb.Error as error:
            raise ChartError(f"DuckDB can't run the query: {_first_line(error)}") from None

    def stop(self) -> None:
        """An interrupt ends only what runs: one that comes in between is lost."""
        self._stopped.set()
        self._connection.interrupt()

    def close(self) -> None:
        """As Session.close."""
        self._connection.close()


class _Duck(Dialect):
    def number(self, column: Column) -> str:
        name = _quoted(column.name)
        return f"CASE WHEN isfinite({name}) THEN {name} END" if column.type in _REAL else name

    def text(self, column: Column) -> str:
        return f"CAST({_quoted(column.name)} AS VARCHAR)"

    def bucket(self, column: Column, unit: str) -> str:
        return f"strftime(date_trunc('{unit}', {self.moment(column)}), '%Y-%m-%d')"

    def moment(self, column: Column) -> str:
        name = _quoted(column.name)
        if column.dates == "dotted":
            return f"try_strptime(trim({name}), '%d.%m.%Y')"
        moment = f"TRY_CAST({name} AS TIMESTAMP)"
        if column.dates == "iso":
            # A text taken for a TIMESTAMP would lose its offset.
            moment = f"CAST(TRY_CAST(trim({name}) AS TIMESTAMPTZ) AS TIMESTAMP)"
        return f"CASE WHEN isfinite({moment}) THEN {moment} END"

    @property
    def moment_parameter(self) -> str:
        return "CAST(? AS TIMESTAMP)"

    def fold(self, expression: str) -> str:
        return f"lower({expression})"

    def total(self, expression: str) -> str:
        return f"SUM({expression})"

    def median(self, expression: str) -> str:
        return f"MEDIAN({expression})"


def _settings(memory: str) -> dict[str, str | bool | int | float | list[str]]:
    # Without a folder for what does not fit, a query above its memory fails, and fills no disk.
    return {"memory_limit": memory, "temp_directory": ""}


def _lock(connection: DuckDBPyConnection) -> None:
    """Lets it reach nothing more than it has, for ever."""
    # A day is a day in UTC, as in SQLite, wherever the server stands.
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
