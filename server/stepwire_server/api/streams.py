"""Streams of events: replay from a cursor, then follow, as EventBatches of whatever is ready."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import NamedTuple

from google.protobuf import duration_pb2

from stepwire.errors import Draining, RequestMalformed, Violation
from stepwire.v1 import EventBatch
from stepwire_server.api.admission import Admission, Place
from stepwire_server.api.envelope import Call
from stepwire_server.api.filters import EventSieve
from stepwire_server.api.silence import Silences
from stepwire_server.engine.engine import Engine
from stepwire_server.engine.snapshot import snapshot_of
from stepwire_server.engine.states import ENDED_EXECUTION
from stepwire_server.journal import Chunk, ExecutionRecord, Follower, WideFollower

__all__ = ["BATCH_BYTES", "BATCH_EVENTS", "FIRST_BYTES", "Streams", "heartbeat_seconds"]

BATCH_EVENTS = 512
"""Events in one message."""

BATCH_BYTES = 256 * 1024
"""Bytes of events in one message, unless one event alone has more."""

FIRST_BYTES = 8 * 1024
"""Bytes of events in a stream's first message; the bound doubles with each. Only whole messages are progress: over a
line that breaks often, or is slow, a stream that began with a large one would never come further."""

_HEARTBEAT = (0.1, 15.0, 3600.0)
"""Shortest, default and longest heartbeat interval, in seconds."""


def heartbeat_seconds(interval: duration_pb2.Duration | None) -> float:
    """Returns a request's heartbeat interval in seconds. Raises RequestMalformed out of bounds."""
    shortest, default, longest = _HEARTBEAT
    if interval is None:
        return default
    seconds = interval.ToNanoseconds() / 1e9
    if not shortest <= seconds <= longest:
        text = f"is {seconds:g} s; {shortest:g} s to {longest:g} s are allowed"
        raise RequestMalformed(f"heartbeat_interval {text}", violations=[Violation("heartbeat_interval", text)])
    return seconds


class Streams:
    """All streams and waits that are open, so that a drain can end them."""

    def __init__(self, engine: Engine, *, admission: Admission) -> None:
        self._engine = engine
        self._admission = admission
        self._newest = _Newest()
        self.silences = Silences()
        self.followers: set[Follower | WideFollower] = set()
        """Those of all that is open."""
        self.draining = False

    @property
    def open(self) -> int:
        """How many are open now."""
        return self._admission.taken(Place.STREAM)

    def check_open(self) -> None:
        """Raises Draining where the server is going."""
        if self.draining:
            raise Draining("the server is going; try another one", retry_after=timedelta(seconds=1))

    def drain(self) -> None:
        """Makes every stream say DRAINING and end, and lets no call begin."""
        self.draining = True
        for follower in self.followers:
            follower.wake()

    async def stream(
        self, call: Call, record: ExecutionRecord, *, after: int, sieve: EventSieve, heartbeat: float
    ) -> None:
        """Writes an execution's events after `after` until the terminal one, or until the server drains."""
        live = after >= record.last_sequence
        with self._follow(record, after) as follower, self.silences.of(follower, interval=heartbeat) as silence:
            await call.write(_opening(record, after))
            if live and record.state in ENDED_EXECUTION:
                return
            del record  # A stream lasts, and this may have a megabyte.
            silence.broken()
            stream = _Stream(call, self._newest, follower.execution_id, sent=after, sieve=sieve)
            room = FIRST_BYTES
            while not follower.ended:
                if self.draining:
                    await stream.say(follower.sequence, EventBatch.NOTICE_DRAINING)
                    return
                chunks = await follower.read(max_events=BATCH_EVENTS, max_bytes=room)
                if chunks:
                    room = min(2 * room, BATCH_BYTES)
                    if await stream.send(chunks):
                        silence.broken()
                    elif silence.over:
                        # A long replay of which nothing passes must not look like a dead connection.
                        await stream.say(follower.sequence, EventBatch.NOTICE_HEARTBEAT)
                        silence.broken()
                    else:
                        # Neither the read nor the filter need have waited for anything: let others run.
                        await asyncio.sleep(0)
                    continue
                if not live:
                    live = True
                    await stream.say(follower.sequence, EventBatch.NOTICE_CAUGHT_UP)
                    silence.broken()
                self._engine.check_goes_on(follower.execution_id)
                while not await silence.wait():
                    await stream.say(follower.sequence, EventBatch.NOTICE_HEARTBEAT)
                    silence.broken()

    async def wait(self, record: ExecutionRecord, *, seconds: float) -> None:
        """Returns when the execution has ended, or when the time is over. Raises Draining."""
        if record.state in ENDED_EXECUTION:
            return
        with self._follow(record, record.last_sequence) as follower:
            try:
                async with asyncio.timeout(seconds):
                    while not follower.ended:
                        self.check_open()
                        if not await follower.read(max_events=BATCH_EVENTS, max_bytes=BATCH_BYTES):
                            self._engine.check_goes_on(record.execution_id)
                            await follower.wait()
            except TimeoutError:
                return

    def _follow(self, record: ExecutionRecord, after: int) -> _Following:
        return _Following(self, self._engine, self._engine.journal.follow(record.execution_id, after=after))

    @contextmanager
    def woken_by_drain(self, follower: Follower | WideFollower) -> Iterator[None]:
        """Wakes a follower when the server drains while this lasts: then its stream has to see to `draining`."""
        self.followers.add(follower)
        try:
            yield
        finally:
            self.followers.discard(follower)


class _Following:
    """What a stream or a wait is registered for while it lasts: its execution's watchers, the journal's wake-up and the
    server's drain. One object for all: a generator for each would be more than all else that a stream keeps.
    """

    __slots__ = ("_engine", "_follower", "_streams")

    def __init__(self, streams: Streams, engine: Engine, follower: Follower) -> None:
        self._streams = streams
        self._engine = engine
        self._follower = follower

    def __enter__(self) -> Follower:
        self._engine.watch(self._follower.execution_id)
        self._streams.followers.add(self._follower)
        return self._follower.__enter__()

    def __exit__(self, *_: object) -> None:
        self._follower.__exit__()
        self._streams.followers.discard(self._follower)
        self._engine.unwatch(self._follower.execution_id)


class _Span(NamedTuple):
    execution_id: str
    after: int
    covered: int


class _Newest:
    """The message that was made last, with all events of its span: who stands where another one did gets the same."""

    __slots__ = ("_message", "_span")

    def __init__(self) -> None:
        self._span: _Span | None = None
        self._message = b""

    def get(self, span: _Span) -> bytes | None:
        return self._message if span == self._span else None

    def set(self, span: _Span, message: bytes) -> None:
        self._span, self._message = span, message


class _Stream:
    """What one stream has sent: the ranges of its messages join without a hole."""

    __slots__ = ("_call", "_execution_id", "_newest", "_sent", "_sieve")

    def __init__(self, call: Call, newest: _Newest, execution_id: str, *, sent: int, sieve: EventSieve) -> None:
        self._call = call
        self._newest = newest
        self._execution_id = execution_id
        self._sent = sent
        self._sieve = sieve

    async def send(self, chunks: Sequence[Chunk]) -> bool:
        """Sends the events that pass; says whether there were any. Frames, then scalars, make a valid message."""
        covered = chunks[-1].last
        span = _Span(self._execution_id, self._sent, covered)
        message = self._newest.get(span) if self._sieve.passes_all else None
        if message is None:
            parts = [self._sieve.sift(chunk) for chunk in chunks]
            if not any(parts):
                return False
            parts.append(EventBatch(after_sequence=self._sent, sequence=covered).SerializeToString())
            message = b"".join(parts)
            if self._sieve.passes_all:
                self._newest.set(span, message)
        self._sent = covered
        await self._call.write(message)
        return True

    async def say(self, covered: int, notice: EventBatch.Notice.ValueType) -> None:
        """Sends a notice; what the filter held back up to `covered` is covered by it."""
        message = EventBatch(after_sequence=self._sent, sequence=covered, notice=notice)
        self._sent = covered
        await self._call.write(message.SerializeToString())


def _opening(record: ExecutionRecord, after: int) -> bytes:
    """Returns a stream's first message."""
    first = EventBatch(execution=snapshot_of(record), after_sequence=after, sequence=after)
    if after >= record.last_sequence and record.state not in ENDED_EXECUTION:
        first.notice = EventBatch.NOTICE_CAUGHT_UP
    return first.SerializeToString()
