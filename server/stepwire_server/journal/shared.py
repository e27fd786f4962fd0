"""One read of the storage for all who want the same: watchers of one execution that can't keep up come one by one."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from stepwire_server.journal.chunk import Chunk

__all__ = ["SharedReads", "Wanted"]

_MOST_BYTES = 4 << 20
"""Bytes of events that are kept for who comes later."""

_MOST_READS = 1_000
"""How many reads are kept, however small."""


class Wanted(NamedTuple):
    """What a read asks for."""

    execution_id: str
    after: int
    max_events: int
    max_bytes: int
    whole: bool = False


class _Reading:
    """A read that goes on. It has no task of its own: whoever asked first reads, the others wait."""

    __slots__ = ("chunks", "failed", "over")

    def __init__(self) -> None:
        self.chunks: Sequence[Chunk] | None = None
        self.failed = False
        self.over = asyncio.Event()


class SharedReads:
    """What was read last, and what is being read."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Wanted, Sequence[Chunk]] = OrderedDict()
        self._readings: dict[Wanted, _Reading] = {}
        self._size = 0

    async def read(self, wanted: Wanted, load: Callable[[], Awaitable[Sequence[Chunk]]]) -> Sequence[Chunk]:
        """Returns what `load` returns, or has returned to another one who wanted the same. There may be more by now."""
        while True:
            chunks = self._kept.get(wanted)
            if chunks is not None:
                self._kept.move_to_end(wanted)
                return chunks
            reading = self._readings.get(wanted)
            if reading is None:
                return await self._read(wanted, load)
            await reading.over.wait()
            if reading.chunks:
                return reading.chunks
            if reading.chunks is not None or reading.failed:
                # There was nothing when that one began. Since then there may be, and nobody would say so again. And a
                # failure is not shared: to have one after the other take the lead would wake all others each time.
                return await load()

    async def _read(self, wanted: Wanted, load: Callable[[], Awaitable[Sequence[Chunk]]]) -> Sequence[Chunk]:
        reading = self._readings[wanted] = _Reading()
        try:
            chunks = reading.chunks = await load()
        except Exception:
            reading.failed = True
            raise
        finally:
            reading.over.set()
            current = self._readings.get(wanted) is reading
            if current:
                del self._readings[wanted]
        if chunks and current:
            self._keep(wanted, chunks)
        return chunks

    def _keep(self, wanted: Wanted, chunks: Sequence[Chunk]) -> None:
        self._kept[wanted] = chunks
        self._size += _size(chunks)
        while self._size > _MOST_BYTES or len(self._kept) > _MOST_READS:
            _, dropped = self._kept.popitem(last=False)
            self._size -= _size(dropped)

    def drop(self, execution_id: str) -> None:
        """Lets go of an execution: whoever reads from now on reads what there is now."""
        for wanted in [wanted for wanted in self._kept if wanted.execution_id == execution_id]:
            self._size -= _size(self._kept.pop(wanted))
        for wanted in [wanted for wanted in self._readings if wanted.execution_id == execution_id]:
            del self._readings[wanted]

    def clear(self) -> None:
        """Lets go of all."""
        self._kept.clear()
        self._readings.clear()
        self._size = 0


def _size(chunks: Sequence[Chunk]) -> int:
    return sum(len(chunk.data) for chunk in chunks)
