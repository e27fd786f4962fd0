"""Streams of many executions: what stands, then what follows, by position, as EventBatches of one execution each.

What a read gives is sorted by execution, so that one message has all that is ready of its execution. A message's
position is as high as it can be without passing over what the next ones have: whoever resumes there gets some events
again, after a break in the middle of a read, and none is lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

from stepwire.v1 import EventBatch, Execution, ExecutionFilter
from stepwire_server.api.envelope import Call
from stepwire_server.api.filters import EventSieve
from stepwire_server.api.silence import Silence
from stepwire_server.api.streams import BATCH_BYTES, BATCH_EVENTS, FIRST_BYTES, Streams
from stepwire_server.engine.engine import Engine
from stepwire_server.engine.snapshot import snapshot_of
from stepwire_server.journal import Journal, Piece, Stand, WideFollower

__all__ = ["WideStreams"]

_READ_EVENTS = 4 * BATCH_EVENTS
"""Events of one read: of many executions, so that each has a chance to fill its message."""

_SNAPSHOTS = 100
"""Records that are read at once for the beginning: a slow reader costs no more than these."""


class WideStreams:
    """Makes streams of many executions. They end with the others when the server drains."""

    def __init__(self, engine: Engine, streams: Streams) -> None:
        self._engine = engine
        self._streams = streams

    async def stream(
        self, call: Call, chosen: ExecutionFilter, *, after: int | None, sieve: EventSieve, heartbeat: float
    ) -> None:
        """Writes the events of all executions that match after a position, or from now on where there is none: then
        what is under way is shown first. Ends when all that the filter names have ended, or when the server drains.
        """
        with (
            ExitStack() as watched,
            self._engine.journal.follow_many(chosen, tenant="") as follower,
            self._streams.woken_by_drain(follower),
            self._streams.silences.of(follower, interval=heartbeat) as silence,
        ):
            standing = await follower.begin(after)
            # Whoever names an execution watches it; whoever looks at all of them does not keep each alive.
            named = {name for name, stand in standing.executions.items() if not stand.ended}
            for execution_id in named if chosen.execution_ids else ():
                watched.enter_context(self._engine.watched(execution_id))
            stream = _WideStream(call, self._engine.journal, sieve=sieve)
            if after is not None:
                await stream.say(after)
            elif not await stream.show(standing.executions, self._streams):
                await stream.say(follower.position, EventBatch.NOTICE_DRAINING)
                return
            await self._follow(stream, follower, silence, named=named if chosen.execution_ids else None)

    async def _follow(
        self, stream: _WideStream, follower: WideFollower, silence: Silence, *, named: set[str] | None
    ) -> None:
        live = False
        room = FIRST_BYTES
        silence.broken()
        while True:
            if self._streams.draining:
                await stream.say(follower.position, EventBatch.NOTICE_DRAINING)
                return
            pieces = await follower.read(max_events=_READ_EVENTS, max_bytes=room)
            covered = follower.position
            if pieces:
                room = min(2 * room, BATCH_BYTES)
                if named is not None:
                    named.difference_update(piece.execution_id for piece in pieces if piece.chunk.ended)
                if await stream.send(pieces, covered):
                    silence.broken()
                    continue
            if pieces or not follower.caught_up:
                if silence.over:
                    await stream.say(covered, EventBatch.NOTICE_HEARTBEAT)
                    silence.broken()
                else:
                    # Neither the read nor the filter need have waited for anything: let others run.
                    await asyncio.sleep(0)
                continue
            if not live:
                live = True
                await stream.say(covered, EventBatch.NOTICE_CAUGHT_UP)
                silence.broken()
            if named is not None and not named:
                return
            while not await silence.wait():
                await stream.say(follower.position, EventBatch.NOTICE_HEARTBEAT)
                silence.broken()


class _Part:
    """One message: events of one execution."""

    __slots__ = ("after", "begun_at", "count", "ended", "ended_at", "execution_id", "frames", "sequence")

    def __init__(self, piece: Piece) -> None:
        self.execution_id = piece.execution_id
        self.after = piece.chunk.first - 1
        self.sequence = self.after
        self.begun_at = self.ended_at = piece.position
        self.frames: list[bytes] = []
        self.count = 0
        self.ended = False

    def add(self, piece: Piece, frames: bytes) -> None:
        if frames:
            self.frames.append(frames)
        self.sequence = piece.chunk.last
        self.ended_at = piece.position
        self.count += len(piece.chunk)
        self.ended = piece.chunk.ended


class _WideStream:
    """What one stream has sent: for each execution the ranges of its messages join without a hole."""

    __slots__ = ("_call", "_journal", "_position", "_sieve", "_told")

    def __init__(self, call: Call, journal: Journal, *, sieve: EventSieve) -> None:
        self._call = call
        self._journal = journal
        self._sieve = sieve
        self._position = 0
        self._told: dict[str, int] = {}  # up to where each execution was told whose end was not

    async def show(self, executions: Mapping[str, Stand], streams: Streams) -> bool:
        """Sends a snapshot of each execution, without a position: only the whole of them is a place to go on from.
        Returns whether it came to the end.
        """
        names = list(executions)
        for start in range(0, len(names), _SNAPSHOTS):
            if streams.draining:
                return False
            page = names[start : start + _SNAPSHOTS]
            snapshots = await self._snapshots(page)
            for name in page:
                stand = executions[name]
                message = EventBatch(
                    execution=snapshots[name],
                    execution_id=name,
                    after_sequence=stand.last_sequence,
                    sequence=stand.last_sequence,
                )
                if not stand.ended:
                    self._told[name] = stand.last_sequence
                await self._call.write(message.SerializeToString())
        return True

    async def send(self, pieces: Sequence[Piece], covered: int) -> bool:
        """Sends the events that pass; says whether there were any. Frames, then scalars, make a valid message."""
        parts = [part for part in self._parts(pieces) if part.frames]
        if not parts:
            return False
        # What is told in full first goes first, so that the position can follow.
        parts.sort(key=_ended_at)
        positions = []
        safe = covered
        for part in reversed(parts):
            positions.append(safe)
            safe = min(safe, part.begun_at - 1)
        new = [part.execution_id for part in parts if part.execution_id not in self._told]
        snapshots = await self._snapshots(new) if new else {}
        for part, position in zip(parts, reversed(positions), strict=True):
            name = part.execution_id
            self._position = max(self._position, position)
            rest = EventBatch(
                after_sequence=self._told.get(name, part.after),
                sequence=part.sequence,
                position=self._position,
                execution_id=name,
            )
            if name not in self._told:
                rest.execution.CopyFrom(snapshots[name])
            self._told[name] = part.sequence
            if part.ended:
                del self._told[name]
            part.frames.append(rest.SerializeToString())
            await self._call.write(b"".join(part.frames))
        return True

    async def say(self, covered: int, notice: EventBatch.Notice.ValueType = EventBatch.NOTICE_UNSPECIFIED) -> None:
        """Sends a notice; what the filter held back up to `covered` is covered by it."""
        self._position = max(self._position, covered)
        await self._call.write(EventBatch(position=self._position, notice=notice).SerializeToString())

    def _parts(self, pieces: Sequence[Piece]) -> list[_Part]:
        parts: list[_Part] = []
        newest: dict[str, _Part] = {}
        for piece in pieces:
            part = newest.get(piece.execution_id)
            if part is None or part.count + len(piece.chunk) > BATCH_EVENTS:
                part = newest[piece.execution_id] = _Part(piece)
                parts.append(part)
            part.add(piece, self._sieve.sift(piece.chunk))
        return parts

    async def _snapshots(self, names: Sequence[str]) -> Mapping[str, Execution]:
        """Returns the executions as they are now; of one that is gone, its name."""
        page = await self._journal.list(ExecutionFilter(execution_ids=set(names)), tenant="", limit=len(names))
        found = {name: Execution(execution_id=name) for name in names}
        return found | {record.execution_id: snapshot_of(record) for record in page.records}


def _ended_at(part: _Part) -> int:
    return part.ended_at
