"""Where the SQLite journal keeps its tallies: changed as executions end, summed up when somebody asks."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterable, Iterator, Mapping

from stepwire_server.journal.reader import is_damage
from stepwire_server.journal.statistics import (
    DAY,
    HOUR,
    MONTH,
    MOST_NAMES,
    OTHER,
    TYPICAL_DAYS,
    WIDTHS,
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

__all__ = ["Counting", "load_statistics", "load_typical", "tally_problems"]

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
        self._failed = self._skips = False

    def note(self, summary: Summary, *, tenant: str) -> None:
        """Takes an execution's end, to be written with the others of the transaction."""
        try:
            for key, tally in tallies(summary, tenant=tenant).items():
                self._coming.setdefault(key, Tally()).merge(tally)
        except Exception:
            # Statistics keep nothing from ending: tried again at each start, it would fail each time.
            _log.exception("a bug in the statistics; an execution that ends now is not counted")

    def forget(self) -> None:
        """Drops what was noted: the transaction is undone."""
        self._coming = {}

    def write(self) -> None:
        """Writes what was noted, unless it was laid aside. Raises where it can't: then the transaction is lost, since
        SQLite commits none that has met a damaged page, not even from before a savepoint.
        """
        if not self._coming:
            return
        coming, self._coming = self._coming, {}
        if self._skips:
            self._skips = False
            return
        try:
            self._add(coming)
        except sqlite3.DatabaseError as error:
            if is_damage(error):
                _log.error("the journal's statistics are damaged, and lack what ends now: %s", error)
                self._failed = True
            raise
        except Exception:
            _log.exception("a bug in the statistics; what ends now is not counted")

    def lay_aside(self) -> bool:
        """Returns whether it was damage to the statistics that a transaction failed of. Then the next one goes without
        them: they only tell of executions, whose ends must not wait for them.
        """
        failed, self._failed = self._failed, False
        self._skips = self._skips or failed
        return failed

    def _add(self, coming: Mapping[Key, Tally]) -> None:
        sums: dict[Key, Tally | None] = {}
        names: dict[Period, int] = {}
        for key, tally in coming.items():
            found = self._find(key, sums)
            if found is None and key not in sums:
                period = key.period
                if period not in names:
                    (names[period],) = self._connection.execute(_NAMES, period).fetchone()
                if names[period] < MOST_NAMES:
                    names[period] += 1
                else:
                    key = Key(period, OTHER)
                    found = self._find(key, sums)
                if found is None and key not in sums:
                    found = sums[key] = Tally()
            if found is not None:
                found.merge(tally)
        self._connection.executemany(_PUT, [_row(key, tally) for key, tally in sums.items() if tally is not None])

    def _find(self, key: Key, sums: dict[Key, Tally | None]) -> Tally | None:
        """Returns the tally that is stored, or was found before; notes it in `sums`, with None where it is damaged:
        such a one stays as it is, so that it can be found.
        """
        if key in sums:
            return sums[key]
        row = self._connection.execute(_ONE, (*key.period, key.name)).fetchone()
        if row is None:
            return None
        sums[key] = _tally(row)
        if sums[key] is None:
            _log.error("%s, and what ends now is not counted there", _damaged(row))
        return sums[key]


def load_statistics(
    connection: sqlite3.Connection, *, tenant: str, from_ns: int | None, before_ns: int | None
) -> Statistics:
    """Does what `Journal.statistics` promises."""
    start, end = rounded(from_ns, before_ns)
    oldest, newest = connection.execute(_EDGES, (tenant, Kind.PLAN, HOUR)).fetchone()
    damaged: list[_Row] = []
    found = {
        kind: merged(
            _sound(
                (row for span in covering(start, end) for row in connection.execute(_SPAN, (tenant, kind, *span))),
                damaged,
            )
        )
        for kind in Kind
    }
    begin, stop = edges(start, end, oldest, newest)
    return Statistics(
        from_time=begin,
        before_time=stop,
        operations=found[Kind.OPERATION],
        plans=found[Kind.PLAN],
        damaged=len(damaged),
    )


def load_typical(connection: sqlite3.Connection, *, tenant: str) -> Mapping[str, Typical]:
    """Does what `Journal.typical` promises. Goes on without what is damaged."""
    _, newest = connection.execute(_EDGES, (tenant, Kind.OPERATION, DAY)).fetchone()
    if newest is None:
        return {}
    rows = connection.execute(_SPAN, (tenant, Kind.OPERATION, DAY, newest - (TYPICAL_DAYS - 1) * DAY, newest + DAY))
    return typical_of(_sound(rows, []))


def tally_problems(connection: sqlite3.Connection) -> Iterator[str]:
    """Reads all tallies, and yields in words what is wrong with them: which is not what was written, and of which month
    the hours, the days and the month do not tell the same, so that some are missing.
    """
    months: dict[Period, dict[int, Tally]] = {}
    broken: set[Period] = set()
    for row in connection.execute(f"SELECT {_COLUMNS} FROM statistics"):
        tally = _tally(row)
        tenant, kind, width, start = row[:4]
        month = Period(tenant, kind, MONTH, start - start % MONTH if isinstance(start, int) else 0)
        if tally is None:
            broken.add(month)
            yield _damaged(row)
        else:
            sums = months.setdefault(month, {width: Tally() for width in WIDTHS})
            sums[width].merge(tally)
    for month, sums in months.items():
        if month not in broken and not sums[HOUR] == sums[DAY] == sums[MONTH]:
            yield (
                f"its statistics of {_KINDS[month.kind]} in the {MONTH} s after {month.start} do not tell the same by "
                "hour, by day and together: some are missing"
            )


_KINDS = {Kind.OPERATION: "operations", Kind.PLAN: "plans"}


def _sound(rows: Iterable[_Row], damaged: list[_Row]) -> Iterator[tuple[str, Tally]]:
    """Yields the tallies that are what was written, by name."""
    for row in rows:
        tally = _tally(row)
        if tally is None:
            damaged.append(row)
        else:
            yield row[4], tally


def _row(key: Key, tally: Tally) -> _Row:
    encoded = tally.encode()
    return (*key.period, key.name, encoded, tally_checksum(key, encoded))


def _tally(row: _Row) -> Tally | None:
    """Returns a row as a tally; None where it is not what was written."""
    tenant, kind, width, start, name, encoded, check = row
    try:
        key = Key(Period(tenant, Kind(kind), width, start), name)
        return Tally.decode(encoded) if check == tally_checksum(key, encoded) else None
    except (TypeError, ValueError, KeyError):  # A column of another type.
        return None


def _damaged(row: _Row) -> str:
    kind, width, start, name = row[1:5]
    what = _KINDS[Kind(kind)] if kind in tuple(Kind) else "what is"
    return f"its statistics of {what} named {name!r} in the {width} s after {start} are not what was written"
