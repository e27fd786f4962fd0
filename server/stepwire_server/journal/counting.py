"""Where the SQLite journal keeps its tallies: changed as executions end, summed up when somebody asks."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator, Mapping

from stepwire.errors import JournalDamaged
from stepwire_server.journal.reader import is_damage
from stepwire_server.journal.statistics import (
    DAY,
    HOUR,
    MOST_NAMES,
    OTHER,
    TYPICAL_DAYS,
    Key,
    Kind,
    Period,
    Statistics,
    Summary,
    Tally,
    Typical,
    covering,
    edges,
    merged,
    rounded,
    tallies,
    tally_checksum,
    typical_of,
)

__all__ = ["Counting", "damaged_tallies", "load_statistics", "load_typical"]

_log = logging.getLogger(__name__)

_COLUMNS = "tenant, kind, width, start, name, tally, checksum"
_ONE = f"SELECT {_COLUMNS} FROM statistics WHERE tenant = ? AND kind = ? AND width = ? AND start = ? AND name = ?"
_NAMES = "SELECT count(*) FROM statistics WHERE tenant = ? AND kind = ? AND width = ? AND start = ?"
_PUT = f"INSERT OR REPLACE INTO statistics ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)"
_SPAN = f"""
SELECT {_COLUMNS} FROM statistics WHERE tenant = ? AND kind = ? AND width = ? AND start >= ? AND start < ?
"""
_EDGES = "SELECT min(start), max(start) FROM statistics WHERE tenant = ? AND kind = ? AND width = ?"

_Row = tuple[str, int, int, int, str, bytes, int]


class Counting:
    """Adds what executions tell at their end to the tallies. Lives in the writer thread, inside its transactions."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._coming: dict[Key, Tally] = {}

    def note(self, summary: Summary, *, tenant: str) -> None:
        """Takes an execution's end, to be written with the others of the transaction."""
        for key, tally in tallies(summary, tenant=tenant).items():
            self._coming.setdefault(key, Tally()).merge(tally)

    def forget(self) -> None:
        """Drops what was noted: the transaction is undone."""
        self._coming = {}

    def write(self) -> None:
        """Writes what was noted. Raises what says that the transaction can't go on; damage to the tallies is none of
        that: they only tell of executions, whose ends must not wait for them.
        """
        if not self._coming:
            return
        coming, self._coming = self._coming, {}
        self._connection.execute("SAVEPOINT counting")
        try:
            self._add(coming)
        except sqlite3.DatabaseError as error:
            if not is_damage(error) or not self._connection.in_transaction:
                raise
            self._connection.execute("ROLLBACK TO counting")
            _log.error("the journal's statistics are damaged, and lack what ends now: %s", error)
        self._connection.execute("RELEASE counting")

    def _add(self, coming: Mapping[Key, Tally]) -> None:
        sums: dict[Key, Tally] = {}
        names: dict[Period, int] = {}
        for key, tally in coming.items():
            found = sums.get(key) or self._stored(key)
            if found is None:
                period = key.period
                if period not in names:
                    (names[period],) = self._connection.execute(_NAMES, period).fetchone()
                if names[period] >= MOST_NAMES:
                    key = Key(period, OTHER)
                    found = sums.get(key) or self._stored(key)
                else:
                    names[period] += 1
                found = found or Tally()
            found.merge(tally)
            sums[key] = found
        self._connection.executemany(_PUT, [_row(key, tally) for key, tally in sums.items()])

    def _stored(self, key: Key) -> Tally | None:
        row = self._connection.execute(_ONE, (*key.period, key.name)).fetchone()
        if row is None:
            return None
        try:
            return _tally(row)
        except JournalDamaged as error:
            _log.error("%s It is begun anew.", error)
            return Tally()


def load_statistics(
    connection: sqlite3.Connection, *, tenant: str, from_ns: int | None, before_ns: int | None
) -> Statistics:
    """Does what `Journal.statistics` promises."""
    start, end = rounded(from_ns, before_ns)
    oldest, newest = connection.execute(_EDGES, (tenant, Kind.PLAN, HOUR)).fetchone()
    found: dict[Kind, Mapping[str, Tally]] = {}
    for kind in Kind:
        rows = (
            (row[4], _tally(row))
            for span in covering(start, end)
            for row in connection.execute(_SPAN, (tenant, kind, *span))
        )
        found[kind] = merged(rows)
    begin, stop = edges(start, end, oldest, newest)
    return Statistics(
        from_time=begin,
        before_time=stop,
        operations=found[Kind.OPERATION],
        plans=found[Kind.PLAN],
    )


def load_typical(connection: sqlite3.Connection, *, tenant: str) -> Mapping[str, Typical]:
    """Does what `Journal.typical` promises. Goes on without what is damaged."""
    _, newest = connection.execute(_EDGES, (tenant, Kind.OPERATION, DAY)).fetchone()
    if newest is None:
        return {}
    rows = connection.execute(
        _SPAN, (tenant, Kind.OPERATION, DAY, newest - (TYPICAL_DAYS - 1) * DAY, newest + DAY)
    ).fetchall()
    return typical_of(_sound(rows))


def damaged_tallies(connection: sqlite3.Connection) -> Iterator[str]:
    """Reads all tallies, and yields what is wrong with each that is not what was written, in words."""
    for row in connection.execute(f"SELECT {_COLUMNS} FROM statistics"):
        try:
            _tally(row)
        except JournalDamaged as error:
            yield str(error)


def _sound(rows: list[_Row]) -> Iterator[tuple[str, Tally]]:
    for row in rows:
        try:
            yield row[4], _tally(row)
        except JournalDamaged:
            continue


def _row(key: Key, tally: Tally) -> _Row:
    encoded = tally.encode()
    return (*key.period, key.name, encoded, tally_checksum(key, encoded))


def _tally(row: _Row) -> Tally:
    tenant, kind, width, start, name, encoded, check = row
    try:
        key = Key(Period(tenant, Kind(kind), width, start), name)
        if check == tally_checksum(key, encoded):
            return Tally.decode(encoded)
    except (TypeError, ValueError, KeyError):  # A column of another type.
        pass
    raise JournalDamaged(
        f"The journal is damaged: its statistics of {name!r} in the {width} s after {start} are not what was written."
    )
