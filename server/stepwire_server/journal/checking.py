"""Whether a journal's file holds what was written to it: every checksum, every rule, one execution after the other.

    the file        its pages fit together, each row is in each index and nothing else is (PRAGMA integrity_check), and
                    no chunk is without its execution
    a chunk         is what was written, by its checksum; its position is above the one before
    an execution    its events are dense from 1 to last_sequence; a terminal event is the last one, and there where it
                    has ended; its record, its snapshot and its last event agree on state and sequence
    statistics      each tally is what was written, by its checksum; hours, days and months tell the same

The file may be in use meanwhile. The first part reads all of it in one go, about a second a gigabyte from memory, and
for so long a server's write-ahead log only grows. The rest is read in short transactions, and by sequence: what is
appended, joined or purged between two of them is no finding.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field

from google.protobuf.message import DecodeError

from stepwire.errors import JournalDamaged
from stepwire.v1 import EventBatch, Execution, ExecutionState
from stepwire_server.journal.base import ENDED
from stepwire_server.journal.chunk import TERMINAL_KINDS, Chunk
from stepwire_server.journal.counting import tally_problems
from stepwire_server.journal.history import ROWS_FROM
from stepwire_server.journal.ledger import stored_record
from stepwire_server.journal.reader import is_damage
from stepwire_server.journal.schema import decode_row

__all__ = ["Finding", "Report", "check"]

_SECONDS = 0.05
"""How long one transaction lasts, about: for so long the server can't shorten its write-ahead log."""

_NEXT = "SELECT ordinal, execution_id FROM executions WHERE ordinal > ? ORDER BY ordinal LIMIT 1"
_RECORD = """
SELECT state, last_sequence, snapshot, end_time_ns, execution FROM executions LEFT JOIN requests ON execution = ordinal
WHERE ordinal = ?
"""
_STRAYS = """
SELECT execution, count(*) FROM chunks
WHERE execution NOT IN (SELECT ordinal FROM executions) AND execution NOT IN (SELECT execution FROM remains)
GROUP BY execution
"""
_MOST_FINDINGS = 20
"""Of integrity_check."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong."""

    execution_id: str
    """Where; empty where it is the file as a whole."""
    problem: str
    """What, in words."""


@dataclass(slots=True, kw_only=True)
class Report:
    """What a check saw."""

    executions: int = 0
    """How many were looked at."""
    events: int = 0
    """Events in chunks whose checksum is right."""
    chunks: int = 0
    """Those chunks."""
    findings: list[Finding] = field(default_factory=list)
    """What is wrong. Empty: nothing."""


def check(connection: sqlite3.Connection, *, progress: Callable[[int], None] = lambda events: None) -> Report:
    """Reads the whole journal and returns what is wrong with it. `progress` is told how many events were read since it
    was called last.
    """
    report = Report()
    for (line,) in _guarded(report, connection, f"PRAGMA integrity_check({_MOST_FINDINGS})"):
        if line != "ok":
            report.findings.append(Finding(execution_id="", problem=str(line)))
    for execution, count in _guarded(report, connection, _STRAYS):
        problem = f"{count} chunks belong to number {execution}, which is no execution"
        report.findings.append(Finding(execution_id="", problem=problem))
    try:
        report.findings += [Finding(execution_id="", problem=problem) for problem in tally_problems(connection)]
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        report.findings.append(Finding(execution_id="", problem=f"the statistics can't be read: {error}"))
    view = _View(connection)
    ordinal = 0
    with closing(view):
        while found := view.next_after(ordinal, report):
            ordinal, execution_id = found
            _Check(view, report, ordinal, execution_id, progress).run()
            report.executions += 1
            view.renew()
    return report


def _guarded(report: Report, connection: sqlite3.Connection, sql: str) -> list[tuple[int | str, ...]]:
    try:
        return connection.execute(sql).fetchall()
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        report.findings.append(Finding(execution_id="", problem=f"the file can't be read in all its parts: {error}"))
        return []


class _View:
    """The file as of one moment, which moves on when it is renewed."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self._since = time.monotonic()
        connection.execute("BEGIN")

    @property
    def stale(self) -> bool:
        return time.monotonic() - self._since > _SECONDS

    def renew(self) -> None:
        if self.stale:
            self.connection.rollback()
            self.connection.execute("BEGIN")
            self._since = time.monotonic()

    def next_after(self, ordinal: int, report: Report) -> tuple[int, str] | None:
        try:
            found: tuple[int, str] | None = self.connection.execute(_NEXT, (ordinal,)).fetchone()
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            report.findings.append(
                Finding(execution_id="", problem=f"the executions after number {ordinal} can't be read: {error}")
            )
            return None
        return found

    def close(self) -> None:
        self.connection.rollback()


class _Check:
    """The check of one execution."""

    def __init__(
        self, view: _View, report: Report, ordinal: int, execution_id: str, progress: Callable[[int], None]
    ) -> None:
        self._view = view
        self._report = report
        self._ordinal = ordinal
        self._execution_id = execution_id
        self._progress = progress
        self._reached = 0
        self._position = 0
        self._terminal = 0
        self._damaged = False
        self._last: Chunk | None = None

    def run(self) -> None:
        try:
            while True:
                record = self._view.connection.execute(_RECORD, (self._ordinal,)).fetchone()
                if record is None:
                    return  # Purged meanwhile.
                if self._read():
                    break
                self._view.renew()
            self._conclude(*record)
            stored_record(self._view.connection, "ordinal = ?", self._ordinal)
        except JournalDamaged:
            self._found("its record or its request is not what was written")
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            self._found(f"can't be read after sequence {self._reached}: {error}")

    def _found(self, problem: str) -> None:
        self._report.findings.append(Finding(execution_id=self._execution_id, problem=problem))

    def _read(self) -> bool:
        """Reads on in the present view. Returns whether it came to the end."""
        wanted = {"execution": self._ordinal, "wanted": self._reached + 1}
        renewed = self._reached > 0
        with closing(self._view.connection.execute(ROWS_FROM, wanted)) as rows:
            for row in rows:
                if renewed and row[3] == self._reached:
                    renewed = False
                    continue  # The row that was read last, where nothing has followed yet.
                chunk = decode_row(row)
                if chunk is None:
                    self._damaged = True
                    self._found(
                        f"the chunk at position {row[0]} is not what was written (sequences {row[2]}..{row[3]})"
                    )
                    self._reached = row[3] if isinstance(row[3], int) and row[3] > self._reached else self._reached
                    continue
                self._take(chunk, renewed=renewed)
                renewed = False
                if self._view.stale:
                    return False
        return True

    def _take(self, chunk: Chunk, *, renewed: bool) -> None:
        joined_since = renewed and chunk.first <= self._reached < chunk.last
        if chunk.first != self._reached + 1 and not joined_since:
            self._damaged = True
            self._found(f"sequence {self._reached + 1} is expected, and {chunk.first} follows")
        if chunk.position <= self._position and not joined_since:
            self._found(f"the chunk from sequence {chunk.first} on has a position that is not above the one before")
        fresh = chunk.after(self._reached) if joined_since else chunk
        for index, kind in enumerate(fresh.kinds):
            if self._terminal:
                self._found(f"sequence {fresh.first + index} follows the terminal event {self._terminal}")
                self._terminal = 0
            if kind in TERMINAL_KINDS:
                self._terminal = fresh.first + index
        self._position = chunk.position
        self._reached = chunk.last
        self._last = chunk
        self._report.events += len(fresh)
        self._report.chunks += 1
        self._progress(len(fresh))

    def _conclude(
        self,
        state: ExecutionState.ValueType,
        last_sequence: int,
        snapshot: bytes,
        end_time_ns: int,
        request_of: int | None,
    ) -> None:
        if request_of is None:
            self._found("its request is missing")
        if last_sequence != self._reached:
            self._found(f"its record ends at sequence {last_sequence}, its chunks at {self._reached}")
        ended = state in ENDED
        if ended != bool(end_time_ns):
            self._found(f"its record is {_name(state)}, and {'has no' if ended else 'has a'} time of the end")
        if self._damaged:
            return  # What follows from the last event can't be said.
        if ended and self._terminal != self._reached:
            self._found(f"it is {_name(state)}, and its last event is not a terminal one")
        if self._terminal and not ended:
            self._found(f"it is {_name(state)} after the terminal event {self._terminal}")
        try:
            self._agree(state, last_sequence, snapshot)
        except (DecodeError, TypeError) as error:  # TypeError: a column of another type.
            self._found(f"its last event or its snapshot can't be decoded: {error}")

    def _agree(self, state: ExecutionState.ValueType, last_sequence: int, snapshot: bytes) -> None:
        if self._last is not None:
            event = EventBatch.FromString(self._last.frame(len(self._last) - 1)).events[0]
            if event.sequence != self._reached or event.execution_id != self._execution_id:
                self._found(f"its last event says that it is {event.execution_id}/{event.sequence}")
            if event.execution_state != state:
                self._found(f"its record is {_name(state)}, its last event {_name(event.execution_state)}")
        shown = Execution.FromString(snapshot)
        if (shown.state, shown.as_of_sequence) != (state, last_sequence):
            self._found(
                f"its record is {_name(state)} at {last_sequence}, its snapshot {_name(shown.state)} "
                f"at {shown.as_of_sequence}"
            )


def _name(state: ExecutionState.ValueType) -> str:
    try:
        return ExecutionState.Name(state).removeprefix("EXECUTION_STATE_")
    except ValueError:
        return str(state)
