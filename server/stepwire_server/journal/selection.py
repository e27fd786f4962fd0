"""Which records a filter selects: as a test in Python, and as a condition for SQLite."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from json import dumps
from typing import TYPE_CHECKING

from google.protobuf.timestamp_pb2 import Timestamp

from stepwire.v1 import ExecutionFilter

if TYPE_CHECKING:
    from stepwire_server.journal.base import ExecutionRecord

__all__ = ["conditions", "matcher"]

_LABELLED = "ordinal IN (SELECT execution FROM labels WHERE name = ? AND value = ?)"
_HAS_LABEL = "EXISTS (SELECT 1 FROM labels WHERE name = ? AND value = ? AND labels.execution = ordinal)"


def matcher(chosen: ExecutionFilter) -> Callable[[ExecutionRecord], bool]:
    """Returns the filter as a test of a record. Its tenant is not looked at."""
    execution_ids = frozenset(chosen.execution_ids)
    session_id = chosen.session_id
    labels = dict(chosen.labels)
    states = frozenset(chosen.states)
    created_from = chosen.created_from.ToNanoseconds() if chosen.HasField("created_from") else None
    created_before = chosen.created_before.ToNanoseconds() if chosen.HasField("created_before") else None

    def matches(record: ExecutionRecord) -> bool:
        return (
            (not execution_ids or record.execution_id in execution_ids)
            and (not session_id or record.session_id == session_id)
            and all(record.labels.get(name) == value for name, value in labels.items())
            and (not states or record.state in states)
            and (created_from is None or record.create_time_ns >= created_from)
            and (created_before is None or record.create_time_ns < created_before)
        )

    return matches


def conditions(chosen: ExecutionFilter, tenant: str, *, row_by_row: bool = False) -> tuple[str, Sequence[str | int]]:
    """Returns the filter as an SQL condition on the table executions, with its parameters. `row_by_row`: it is for rows
    that another table leads to, so no list of all that match may be made first.
    """
    dated = chosen.HasField("created_from") or chosen.HasField("created_before")
    led = bool(chosen.execution_ids or chosen.labels)
    # The plus keeps SQLite from going through all that a tenant has, where there is a shorter way.
    found = ["+tenant = ?" if led or not (chosen.session_id or dated) else "tenant = ?"]
    parameters: list[str | int] = [tenant]
    if chosen.execution_ids:  # As one parameter, since SQLite bounds their number.
        found.append("execution_id IN (SELECT value FROM json_each(?))")
        parameters.append(dumps(list(chosen.execution_ids)))
    if chosen.session_id:
        found.append("session_id = ? AND session_id <> ''")
        parameters.append(chosen.session_id)
    for name, value in chosen.labels.items():
        found.append(_HAS_LABEL if row_by_row else _LABELLED)
        parameters += (name, value)
    if chosen.states:
        found.append(f"state IN ({', '.join(str(int(state)) for state in set(chosen.states))})")
    if chosen.HasField("created_from"):
        found.append("create_time_ns >= ?")
        parameters.append(_nanoseconds(chosen.created_from))
    if chosen.HasField("created_before"):
        found.append("create_time_ns < ?")
        parameters.append(_nanoseconds(chosen.created_before))
    return " AND ".join(found), parameters


def _nanoseconds(time: Timestamp) -> int:
    """Returns the time in nanoseconds since 1970, as far as SQLite's integers reach: from 1677 to 2262."""
    return max(-(1 << 63), min(time.seconds * 1_000_000_000 + time.nanos, (1 << 63) - 1))
