"""A journal as a crash leaves it: with the first of an execution's events, and none of the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from stepwire.v1 import Event, ExecutionState
from stepwire_server.engine.recorder import frame
from stepwire_server.engine.snapshot import first_snapshot
from stepwire_server.engine.states import KINDS
from stepwire_server.journal import Chunk, ExecutionRecord, Journal, MemoryJournal

from .rig import folded, kind_of

__all__ = ["left_after"]


async def left_after(record: ExecutionRecord, events: Sequence[Event]) -> Journal:
    """Returns an open journal that has these first events of an execution."""
    journal = MemoryJournal()
    await journal.open()
    fresh = replace(
        record, epoch=1, state=ExecutionState.EXECUTION_STATE_PENDING, last_sequence=0, ordinal=0, end_time_ns=0
    )
    await journal.create(replace(fresh, snapshot=first_snapshot(fresh)))
    if events:
        frames = [frame(event.SerializeToString()) for event in events]
        chunk = Chunk(
            first=1,
            data=b"".join(frames),
            ends=[sum(map(len, frames[: i + 1])) for i in range(len(frames))],
            kinds=bytes(KINDS[kind_of(event)] for event in events),
        )
        fold = folded(record, events)
        await journal.append(
            record.execution_id,
            epoch=1,
            chunk=chunk,
            state=fold.state,
            snapshot=fold.snapshot().SerializeToString(),
        )
    return journal
