"""Executions from a file of `exporting`, into a journal that no server has open.

The whole file is read and verified first; only then is anything stored. An execution comes in one transaction, and with
it goes into the statistics. One that comes back after it was purged here is in them already.
"""

from __future__ import annotations

import json
import re
import sqlite3
from base64 import b64decode
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, Protocol
from zlib import crc32

from stepwire.v1 import ExecutionState
from stepwire_server.journal.base import ENDED, ExecutionRecord
from stepwire_server.journal.chunk import Chunk
from stepwire_server.journal.exporting import FORMAT
from stepwire_server.journal.ledger import Ledger
from stepwire_server.journal.statistics import Summary

__all__ = ["ExportDamaged", "Imported", "Summing", "import_executions", "verify"]

_SEAL = re.compile(rb',"crc32":"([0-9a-f]{8})"}\n')
_SEAL_BYTES = len(b',"crc32":"00000000"}\n')

_FLUSH_BYTES = 4 << 20


class ExportDamaged(Exception):
    """The file is not what an export wrote. The message names the place."""


class Summing(Protocol):
    """Reads an execution's events, and knows what it tells at its end. The journal itself never decodes events."""

    def take(self, chunk: Chunk) -> None:
        """Takes the next events. Raises nothing, whatever is in them."""

    def summary(self) -> Summary | None:
        """Returns what is to be counted; None: nothing."""


@dataclass(slots=True, kw_only=True)
class Imported:
    """What became of the file's executions."""

    executions: int = 0
    """Those that were stored."""
    events: int = 0
    """Their events."""
    present: int = 0
    """Those that the journal had already."""
    unfinished: list[str] = field(default_factory=list)
    """Those that have not ended, and were left out."""
    refused: dict[str, str] = field(default_factory=dict)
    """Those that can't be stored, and why."""


def verify(path: Path, *, progress: Callable[[int], None] = lambda size: None) -> int:
    """Reads the whole file and returns how many events it has. Raises ExportDamaged. `progress` is told how many bytes
    were read since it was called last.
    """
    events = 0
    for kind, content in _lines(path, progress):
        if kind == "chunk":
            events += len(content["ends"])
    return events


def import_executions(
    connection: sqlite3.Connection,
    path: Path,
    *,
    summing: Callable[[ExecutionRecord], Summing],
    with_unfinished: bool = False,
    progress: Callable[[int], None] = lambda size: None,
) -> Imported:
    """Stores the file's executions that the journal does not have. The file was verified."""
    done = Imported()
    times = [0]
    ledger = Ledger(connection, now_ns=lambda: times[0])
    coming: _Coming | None = None
    for kind, content in _lines(path, progress):
        match kind:
            case "execution":
                record = _record_of(content)
                times[0] = record.end_time_ns
                coming = _Coming.begin(ledger, record, done, summing, with_unfinished=with_unfinished)
            case "chunk" if coming is not None:
                coming.add(_chunk_of(content))
            case "complete" if coming is not None:
                coming.finish(done)
                coming = None
            case "broken" if coming is not None:
                ledger.rollback()
                coming = None
            case _:
                pass
    return done


class _Coming:
    """An execution that is being stored."""

    def __init__(self, ledger: Ledger, record: ExecutionRecord, summing: Summing | None) -> None:
        self._ledger = ledger
        self._record = record
        self._summing = summing
        self._size = 0

    @classmethod
    def begin(
        cls,
        ledger: Ledger,
        record: ExecutionRecord,
        done: Imported,
        summing: Callable[[ExecutionRecord], Summing],
        *,
        with_unfinished: bool,
    ) -> _Coming | None:
        """Begins with the record; returns None where the execution is not to be stored."""
        if record.state not in ENDED and not with_unfinished:
            done.unfinished.append(record.execution_id)
            return None
        ledger.begin()
        known = ledger.connection.execute(
            "SELECT 1 FROM executions WHERE execution_id = ?", (record.execution_id,)
        ).fetchone()
        if known:
            ledger.rollback()
            done.present += 1
            return None
        # Who brings an execution back means it: what was left of it goes.
        known = ledger.connection.execute(
            "DELETE FROM tombstones WHERE execution_id = ?", (record.execution_id,)
        ).rowcount
        taken = ledger.connection.execute(
            "SELECT execution_id FROM executions WHERE tenant = :tenant AND request_id = :id AND request_id <> '' "
            "UNION SELECT execution_id FROM tombstones WHERE tenant = :tenant AND request_id = :id "
            "AND request_id <> ''",
            {"tenant": record.tenant, "id": record.request_id},
        ).fetchone()
        if taken:
            ledger.rollback()
            done.refused[record.execution_id] = f"its request id is that of execution {taken[0]}"
            return None
        pending = ExecutionState.EXECUTION_STATE_PENDING
        state = pending if record.last_sequence else record.state
        ledger.create(replace(record, last_sequence=0, state=state))
        return cls(ledger, record, summing(record) if record.state in ENDED and not known else None)

    def add(self, chunk: Chunk) -> None:
        self._ledger.append(
            self._record.execution_id, self._record.epoch, chunk, self._record.state, self._record.snapshot
        )
        if self._summing is not None:
            self._summing.take(chunk)
        self._size += len(chunk.data)
        if self._size > _FLUSH_BYTES:
            self._ledger.flush()
            self._size = 0

    def finish(self, done: Imported) -> None:
        summary = self._summing.summary() if self._summing is not None else None
        if summary is not None:
            self._ledger.count(summary, tenant=self._record.tenant)
        self._ledger.commit()
        done.executions += 1
        done.events += self._record.last_sequence


def _lines(path: Path, progress: Callable[[int], None]) -> Iterator[tuple[str, Any]]:
    """Yields what each line says. Raises ExportDamaged where it can't be so."""
    with path.open("rb") as file:
        yield from _Reader(file, progress).lines()


class _Reader:
    """Reads a file and holds it to the format's order."""

    def __init__(self, file: BinaryIO, progress: Callable[[int], None]) -> None:
        self._file = file
        self._progress = progress
        self._number = 0
        self._offset = 0
        self._execution = ""
        self._events = self._expected = 0
        self._totals = [0, 0]

    def lines(self) -> Iterator[tuple[str, Any]]:
        kind, content = self._line()
        if kind != "stepwire_journal":
            raise self._damaged("the file does not begin as an export does")
        if not isinstance(content, int) or content > FORMAT:
            raise self._damaged(f"its format is {content!r}, and this release knows {FORMAT}")
        while kind != "end":
            kind, content = self._line()
            try:
                self._check(kind, content)
            except (KeyError, TypeError, ValueError) as error:
                raise self._damaged(f"a line is not as an export writes it: {error!r}") from error
            yield kind, content
        if self._file.read(1):
            self._number += 1
            raise self._damaged("something follows the end")

    def _line(self) -> tuple[str, Any]:
        line = self._file.readline()
        self._number += 1
        if not line:
            raise self._damaged("the file ends before its last line: it was cut")
        seal = _SEAL.fullmatch(line[-_SEAL_BYTES:])
        if seal is None:
            raise self._damaged("the line has no checksum: it was cut or changed")
        body = line[:-_SEAL_BYTES] + b"}"
        if int(seal[1], 16) != crc32(body):
            raise self._damaged("the line is not what was written")
        try:
            ((kind, content),) = json.loads(body).items()
        except (ValueError, AttributeError, RecursionError) as error:
            raise self._damaged("the line is not as an export writes it") from error
        self._offset += len(line)
        self._progress(len(line))
        return kind, content

    def _check(self, kind: str, content: Any) -> None:
        """Raises ExportDamaged where lines are missing or in another order."""
        match kind:
            case "execution" if not self._execution:
                record = _record_of(content)
                self._execution, self._events, self._expected = record.execution_id, 0, record.last_sequence
            case "chunk" if self._execution:
                chunk = _chunk_of(content)
                if chunk.first != self._events + 1:
                    raise self._damaged(f"execution {self._execution} lacks sequence {self._events + 1}")
                self._events = chunk.last
            case "complete" if self._execution:
                if (content["execution_id"], content["events"]) != (self._execution, self._events) or (
                    self._events != self._expected
                ):
                    raise self._damaged(f"execution {self._execution} lacks events after sequence {self._events}")
                self._totals = [self._totals[0] + 1, self._totals[1] + self._events]
                self._execution = ""
            case "broken" if self._execution:
                self._execution = ""
            case "end" if not self._execution:
                if [content["executions"], content["events"]] != self._totals:
                    raise self._damaged("executions are missing")
            case _:
                raise self._damaged(f"{kind[:40]!r} does not belong here")

    def _damaged(self, problem: str) -> ExportDamaged:
        return ExportDamaged(f"line {self._number}, byte {self._offset:,}: {problem}")


def _record_of(fields: dict[str, Any]) -> ExecutionRecord:
    record = ExecutionRecord(
        **fields
        | {
            "request": b64decode(fields["request"], validate=True),
            "snapshot": b64decode(fields["snapshot"], validate=True),
        }
    )
    if not record.execution_id:
        raise ValueError("an execution without an id")
    return record


def _chunk_of(fields: dict[str, Any]) -> Chunk:
    return Chunk(
        first=fields["first"],
        data=b64decode(fields["data"], validate=True),
        ends=fields["ends"],
        kinds=bytes(fields["kinds"]),
    )
