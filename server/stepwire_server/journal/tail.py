"""What of an execution stays in memory, so that whoever keeps up needs no storage."""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence

from stepwire_server.journal.chunk import Chunk

__all__ = ["TAIL_BYTES", "Tails", "bounded", "following"]

TAIL_BYTES = 4 << 20
"""Bytes of one execution's newest chunks: some 50 ms of what it records flat out, and by as much a stream may be behind
without reading from the storage.
"""

_MOST_TAILS = 100_000
"""Bounds the tails by number too: a tail costs some 500 bytes besides its data."""


class _Tail:
    """The newest durable chunks of one execution, so that followers who keep up need no storage. Bounded by bytes."""

    __slots__ = ("after", "chunks", "size")

    def __init__(self, after: int) -> None:
        self.after = after
        """The sequence that it follows: of all durable events after it, it has each."""
        self.chunks: list[Chunk] = []
        self.size = 0

    def add(self, chunk: Chunk, limit: int) -> int:
        """Adds a chunk, drops the oldest ones above `limit` bytes, and returns by how much the tail grew."""
        before = self.size
        self.chunks.append(chunk)
        self.size += len(chunk.data)
        dropped = 0
        while self.size > limit:
            self.size -= len(self.chunks[dropped].data)
            self.after = self.chunks[dropped].last
            dropped += 1
        del self.chunks[:dropped]
        return self.size - before

    def read(self, after: int, max_events: int, max_bytes: int) -> list[Chunk] | None:
        """Returns what follows `after`; None where the tail does not reach back so far."""
        if after < self.after:
            return None
        if not self.chunks or after >= self.chunks[-1].last:
            return []
        return bounded(following(self.chunks, after), max_events=max_events, max_bytes=max_bytes)


def following(chunks: Sequence[Chunk], after: int) -> Iterator[Chunk]:
    """Gives what follows `after` of the chunks of one execution. Looks for the first, and at none before it or after
    what is taken: there may be twenty thousand of one event each.
    """
    first = bisect_right(chunks, after, key=_last)
    if first < len(chunks):
        yield chunks[first].after(after)
    for index in range(first + 1, len(chunks)):
        yield chunks[index]


def _last(chunk: Chunk) -> int:
    return chunk.last


def bounded(chunks: Iterable[Chunk], *, max_events: int, max_bytes: int, whole: bool = False) -> list[Chunk]:
    """Returns the beginning of a run of chunks: at most `max_events` and `max_bytes` in all, but at least one event.

    Takes no more chunks than it needs to know that. `whole`: none but the first is cut, nor looked at where one like
    that before it would not fit. What was cut off would have to be read from the storage again.
    """
    taken: list[Chunk] = []
    for chunk in chunks:
        if taken and (chunk.ends[0] > max_bytes or (whole and not _fits(chunk, max_events, max_bytes))):
            break
        piece = chunk.head(max_events=max_events, max_bytes=max_bytes)
        taken.append(piece)
        max_events -= len(piece)
        max_bytes -= len(piece.data)
        if len(piece) < len(chunk) or max_events <= 0 or max_bytes <= 0:
            break
        if whole and not _fits(chunk, max_events, max_bytes):
            break
    return taken


def _fits(chunk: Chunk, max_events: int, max_bytes: int) -> bool:
    return len(chunk) <= max_events and len(chunk.data) <= max_bytes


class Tails:
    """The tails of all executions, bounded together: the one that was written to longest ago goes first."""

    def __init__(self, *, each_bytes: int, all_bytes: int) -> None:
        self._each = each_bytes
        self._all = all_bytes
        self.held: OrderedDict[str, _Tail] = OrderedDict()
        self.size = 0

    def begin(self, execution_id: str) -> None:
        """Notes an execution that has no events yet: whoever follows it from its beginning needs no storage either."""
        if self._each:
            self.held[execution_id] = _Tail(0)

    def add(self, execution_id: str, chunk: Chunk) -> None:
        """Keeps a chunk that is durable now."""
        tail = self.held.get(execution_id)
        if tail is None:
            tail = self.held[execution_id] = _Tail(chunk.first - 1)
        self.held.move_to_end(execution_id)
        self.size += tail.add(chunk, self._each)
        while self.size > self._all or len(self.held) > _MOST_TAILS:
            _, dropped = self.held.popitem(last=False)
            self.size -= dropped.size

    def read(self, execution_id: str, *, after: int, max_events: int, max_bytes: int) -> list[Chunk] | None:
        """Returns what follows `after`, up to the bounds; None where only the storage knows."""
        tail = self.held.get(execution_id)
        return None if tail is None else tail.read(after, max_events, max_bytes)

    def drop(self, execution_id: str) -> None:
        """Lets go of an execution's tail, if there is one."""
        tail = self.held.pop(execution_id, None)
        if tail is not None:
            self.size -= tail.size

    def clear(self) -> None:
        """Lets go of all."""
        self.held.clear()
        self.size = 0
