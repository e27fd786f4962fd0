"""A run of consecutive events of one execution, as bytes: what is appended, stored, read and sent."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

__all__ = ["MOST_BYTES", "MOST_EVENTS", "TERMINAL_KINDS", "Chunk", "join", "joined", "runs"]

TERMINAL_KINDS = frozenset({26, 27, 28})
"""The kinds after which nothing follows: plan_completed, plan_failed, plan_cancelled (numbers of Event.kind's arms)."""


MOST_EVENTS = 512
"""Events of a chunk that was joined from others: what one message of a stream carries."""

MOST_BYTES = 256 * 1024
"""Bytes of such a chunk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Consecutive events, at least one. Frames are never decoded here: an event's number, kind and end are all we know.

    Raises ValueError where the numbers do not fit together.
    """

    first: int
    """The first event's sequence."""
    data: bytes
    """The frames, joined. A frame is an event as it stands in `EventBatch.events`: tag, length, bytes."""
    ends: Sequence[int]
    """Where each frame ends in `data`; one number an event, rising. Kept in 4 bytes each: a list and its numbers take
    40, and what is kept for readers has a hundred thousand of them.
    """
    kinds: bytes
    """The number of each event's kind, as its arm in Event.kind; one byte an event."""
    position: int = field(default=0, compare=False)
    """Where the chunk stands in the whole journal, from 1. 0 before it is stored, and where it is a slice."""

    def __post_init__(self) -> None:
        if not isinstance(self.ends, array):
            object.__setattr__(self, "ends", _numbers(self.ends))
        if not self.ends or len(self.kinds) != len(self.ends) or self.ends[-1] != len(self.data) or self.first < 1:
            raise ValueError(
                f"no chunk: first {self.first}, {len(self.data)} bytes, {len(self.ends)} ends, {len(self.kinds)} kinds"
            )

    @property
    def last(self) -> int:
        """The last event's sequence."""
        return self.first + len(self.ends) - 1

    @property
    def ended(self) -> bool:
        """Whether the last event is a terminal one."""
        return self.kinds[-1] in TERMINAL_KINDS

    def __len__(self) -> int:
        return len(self.ends)

    def after(self, sequence: int) -> Chunk:
        """Returns what follows `sequence`, exclusive. Raises ValueError where nothing does."""
        skip = sequence - self.first + 1
        if skip <= 0:
            return self
        if skip >= len(self.ends):
            raise ValueError(f"nothing follows {sequence} in {self.first}..{self.last}")
        return self._slice(skip, len(self.ends))

    def head(self, *, max_events: int, max_bytes: int) -> Chunk:
        """Returns the beginning: at most `max_events` events and `max_bytes` bytes, but at least one event."""
        if len(self.ends) <= max_events and len(self.data) <= max_bytes:
            return self
        fitting = bisect_left(self.ends, max_bytes + 1)
        return self._slice(0, max(1, min(max_events, fitting)))

    def at(self, position: int) -> Chunk:
        """Returns the chunk with its place in the journal."""
        return Chunk(first=self.first, data=self.data, ends=self.ends, kinds=self.kinds, position=position)

    def frame(self, index: int) -> bytes:
        """Returns the frame of the event at `index`, from 0."""
        return self.data[self.ends[index - 1] if index else 0 : self.ends[index]]

    def _slice(self, start: int, stop: int) -> Chunk:
        base = self.ends[start - 1] if start else 0
        return Chunk(
            first=self.first + start,
            data=self.data[base : self.ends[stop - 1]],
            ends=[end - base for end in self.ends[start:stop]] if base else self.ends[:stop],
            kinds=self.kinds[start:stop],
        )


def _numbers(ends: Sequence[int]) -> array[int]:
    try:
        return array("I", ends)
    except OverflowError:
        raise ValueError(f"no chunk: ends that no {MOST_BYTES:,} bytes have") from None


def join(chunks: Sequence[Chunk]) -> Chunk:
    """Returns chunks that follow each other as one, at the last one's position. Raises ValueError where they do not."""
    if any(chunk.first != before.last + 1 for before, chunk in pairwise(chunks)):
        raise ValueError(f"no run of chunks: {[(chunk.first, chunk.last) for chunk in chunks[:20]]}")
    ends: list[int] = []
    for chunk in chunks:
        base = ends[-1] if ends else 0
        ends += [base + end for end in chunk.ends]
    return Chunk(
        first=chunks[0].first,
        data=b"".join([chunk.data for chunk in chunks]),
        ends=ends,
        kinds=b"".join([chunk.kinds for chunk in chunks]),
        position=chunks[-1].position,
    )


def joined(chunks: Iterable[Chunk]) -> list[Chunk]:
    """Returns an execution's chunks as few large ones, filled from the beginning: the same however often it is done."""
    return [join(run) for run in runs(chunks)]


def runs(chunks: Iterable[Chunk]) -> Iterator[list[Chunk]]:
    """Yields the runs of chunks that become one chunk each, as many as fit into MOST_EVENTS and MOST_BYTES."""
    run: list[Chunk] = []
    events = size = 0
    for chunk in chunks:
        if run and (events + len(chunk) > MOST_EVENTS or size + len(chunk.data) > MOST_BYTES):
            yield run
            run, events, size = [], 0, 0
        run.append(chunk)
        events += len(chunk)
        size += len(chunk.data)
    if run:
        yield run
