"""A cursor in the events of many executions: by position, which is the order in which they were stored.

Whoever follows many reads as who follows one does: registers the wake-up, reads from a cursor, waits. What is new comes
from a ring in memory, what is older from the storage, and where the two meet the position says what was read. Positions
only ever rise, and compaction moves events to a higher position, never to a lower one: so nothing is passed over, and
what comes a second time shows by its sequence.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from stepwire.errors import CursorAhead, CursorExpired, JournalDamaged
from stepwire_server.journal.chunk import Chunk
from stepwire_server.journal.waking import Waking

if TYPE_CHECKING:
    from stepwire.v1 import ExecutionFilter
    from stepwire_server.journal.base import ExecutionRecord, Journal

__all__ = ["Entry", "Piece", "Ring", "Stand", "Standing", "WideFollower", "Window", "expired"]

_SCAN = 4096
"""Entries of the ring that one read looks at: others run between two reads."""

_RING_BYTES = 16 << 20
_RING_ENTRIES = 16_384
_TRIM = 512
"""Entries that are let go of together."""


class Entry(NamedTuple):
    """A stored chunk, and whose it is."""

    execution_id: str
    """The execution."""
    chunk: Chunk
    """Its events."""
    position: int
    """Where it stands."""
    about: ExecutionRecord | None = None
    """What a filter goes by. None where that is not known, and where the storage has gone by the filter already."""


class Piece(NamedTuple):
    """Events that a follower has read: all of a stored chunk that was new to it, or the beginning of that."""

    execution_id: str
    """The execution."""
    chunk: Chunk
    """The events."""
    position: int
    """Where their chunk stands. Only when the follower's own position is not below it, all of the chunk was read."""


class Stand(NamedTuple):
    """How far an execution is."""

    last_sequence: int
    """Its last event."""
    ended: bool
    """Whether that is the terminal one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where the journal stood at one moment."""

    position: int
    """The last position that was given out. 0: none yet."""
    purged: int
    """The highest position of what was purged. 0: nothing was."""
    executions: Mapping[str, Stand]
    """Executions that match a filter, in the order of their creation: those that have not ended, and where the filter
    names executions, all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What the storage has after a position."""

    entries: Sequence[Entry]
    """What matches, in the order of the positions."""
    reached: int
    """Up to here there is nothing else that matches. The position of the last entry, where the bounds ended it."""
    last: int
    """The last position that was given out."""
    purged: int
    """As Standing has it."""


class Ring:
    """The newest durable chunks of all executions, in the order of their positions. Bounded by bytes and number."""

    def __init__(self, *, most_bytes: int = _RING_BYTES, most_entries: int = _RING_ENTRIES) -> None:
        self._most_bytes = most_bytes
        self._most_entries = most_entries
        self._entries: list[Entry] = []
        self._start = 0
        self._size = 0
        self._floor: int | None = None  # what follows this position is here; None: nobody knows
        self.last = 0
        """The last position that came."""

    def add(self, entry: Entry) -> None:
        """Takes what is durable now."""
        if self._floor is None:
            self._floor = entry.position - 1
        self._entries.append(entry)
        self._size += len(entry.chunk.data)
        self.last = entry.position
        while self._size > self._most_bytes or len(self._entries) - self._start > self._most_entries:
            oldest = self._entries[self._start]
            self._size -= len(oldest.chunk.data)
            self._floor = oldest.position
            self._start += 1
        if self._start >= _TRIM:
            del self._entries[: self._start]
            self._start = 0

    def after(self, position: int, *, most: int) -> Sequence[Entry] | None:
        """Returns what follows a position, at most so many; None where only the storage knows."""
        if self._floor is None or position < self._floor:
            return None
        first = bisect_right(self._entries, position, lo=self._start, key=_position)
        return self._entries[first : first + most]

    def clear(self) -> None:
        """Lets go of all. What comes next begins anew."""
        self._entries, self._start, self._size, self._floor = [], 0, 0, None


class WideFollower(Waking):
    """A cursor in the events of all executions that match a filter, with its wake-up. Made by `Journal.follow_many`.

        with journal.follow_many(chosen, tenant="") as follower:
            standing = await follower.begin(None)
            while True:
                for piece in await follower.read(max_events=512, max_bytes=262_144):
                    ...
                if follower.caught_up:
                    await follower.wait()

    Within one follower each event comes once, and those of one execution in their order.
    """

    __slots__ = (
        "_beginning",
        "_gone",
        "_journal",
        "_matches",
        "_purged",
        "_read",
        "_stored",
        "caught_up",
        "chosen",
        "position",
        "tenant",
    )

    def __init__(
        self, journal: Journal, chosen: ExecutionFilter, tenant: str, matches: Callable[[ExecutionRecord], bool]
    ) -> None:
        super().__init__()
        self._journal = journal
        self._matches = matches
        self._read: dict[str, int] = {}  # the last event that was read of each execution whose end was not
        self._stored = 0  # up to here only the storage may be read: it may have joined there what the ring has apart
        self._purged = 0
        self._beginning = False
        self._gone: set[str] = set()
        self.chosen = chosen
        """Which executions."""
        self.tenant = tenant
        """Whose."""
        self.position = 0
        """All that matches up to here was read."""
        self.caught_up = False
        """Whether the last read found the end."""

    async def begin(self, after: int | None) -> Standing:
        """Sets the cursor: after a position (exclusive; 0: at the oldest event that is kept), or with None at the
        present end, where the standing says which executions are under way. Raises CursorAhead, and CursorExpired where
        something behind the position was purged. Called once, before the first read.
        """
        standing = await self._journal.standing(self.chosen, tenant=self.tenant)
        if after is None:
            self.position = standing.position
            self._read = {name: stand.last_sequence for name, stand in standing.executions.items() if not stand.ended}
        else:
            if after > standing.position:
                raise CursorAhead(
                    f"after_position is {after}, and the journal's last position is {standing.position}: the cursor "
                    "is another journal's",
                    metadata={"last_position": str(standing.position)},
                )
            if 0 < after < standing.purged:
                raise expired(after, standing.purged, standing.position)
            self.position = after
        self._stored = standing.position
        self._purged = standing.purged
        self._beginning = after == 0
        return standing

    async def read(self, *, max_events: int, max_bytes: int) -> Sequence[Piece]:
        """Returns what follows and matches, up to the bounds (one event may exceed `max_bytes`), or nothing: then
        `caught_up` says whether that was the end. Raises CursorExpired where something was purged that had yet to be
        read.
        """
        self._woken = False
        try:
            # A position that was reached in the storage has passed what compaction has moved behind it. The ring has
            # that where it was, so it can go on only from the end of what was stored then.
            stored = self.position < self._stored
            found = None if stored else self._journal.recent.after(self.position, most=_SCAN)
            if found is None or (found and self._wants(found[0]) is None):
                pieces, more = await self._load(max_events, max_bytes)
            else:
                pieces, whole = self._take(found, max_events, max_bytes)
                more = not whole or self.position < self._journal.recent.last
        except BaseException:
            self._woken = True
            raise
        self.caught_up = not more
        if more:
            self._woken = True
        else:
            self._beginning = False
        return pieces

    def note(self, entry: Entry) -> None:
        """Takes note of a chunk that is durable now. What does not match moves the cursor and wakes nobody."""
        if self.position == entry.position - 1 and self._wants(entry) is False:
            self.position = entry.position
        else:
            self.wake()

    def lose(self, execution_id: str) -> None:
        """Takes note that an execution was purged."""
        if self._beginning:
            self._gone.add(execution_id)
        self.wake()

    async def _load(self, max_events: int, max_bytes: int) -> tuple[Sequence[Piece], bool]:
        """Reads from the storage. Returns what is new, and whether there is more."""
        window = await self._journal.load_many(
            self.chosen, tenant=self.tenant, after=self.position, max_events=max_events, max_bytes=max_bytes
        )
        self._check(window)
        self._stored = window.last
        pieces, whole = self._take(window.entries, max_events, max_bytes, chosen=True)
        if whole:
            self.position = max(self.position, window.reached)
        return pieces, not whole or self.position < window.last

    def _check(self, window: Window) -> None:
        """Raises CursorExpired where what was purged since the last look is missing here. What was never begun by one
        who reads from the oldest event on is not: it might as well have been purged before.
        """
        missing = not self._beginning or not self._gone.isdisjoint(self._read)
        if missing and self.position < window.purged and window.purged > self._purged:
            raise expired(self.position, window.purged, window.last)
        self._gone.clear()
        self._purged = window.purged

    def _take(
        self, entries: Sequence[Entry], max_events: int, max_bytes: int, *, chosen: bool = False
    ) -> tuple[list[Piece], bool]:
        """Moves the cursor over entries, up to the bounds. Returns what is new, and whether it came over all of them.
        `chosen`: all of them match.
        """
        taken: list[Piece] = []
        for entry in entries:
            execution_id, chunk = entry.execution_id, entry.chunk
            if not chosen and (wanted := self._wants(entry)) is not True:
                if wanted is None:
                    return taken, False
                self.position = entry.position
                continue
            known = self._read.get(execution_id)
            if known is not None:
                if chunk.last <= known:
                    self.position = entry.position
                    continue
                if chunk.first > known + 1:
                    raise _missing(entry, known)
                chunk = chunk.after(known)
            if taken and chunk.ends[0] > max_bytes:
                return taken, False
            piece = chunk.head(max_events=max_events, max_bytes=max_bytes)
            taken.append(Piece(execution_id, piece, entry.position))
            if len(piece) < len(chunk):
                self._read[execution_id] = piece.last
                return taken, False
            if piece.ended:
                self._read.pop(execution_id, None)
            else:
                self._read[execution_id] = piece.last
            self.position = entry.position
            max_events -= len(piece)
            max_bytes -= len(piece.data)
            if max_events <= 0 or max_bytes <= 0:
                return taken, False
        return taken, True

    def _wants(self, entry: Entry) -> bool | None:
        """Tells whether an execution matches; None where only the storage knows."""
        if entry.execution_id in self._read:
            return True
        return None if entry.about is None else entry.about.tenant == self.tenant and self._matches(entry.about)


def expired(position: int, purged: int, last: int) -> CursorExpired:
    """Returns the error for whoever goes on from a position behind which something was purged."""
    return CursorExpired(
        f"events that followed position {position} were purged; watch on after {purged}",
        metadata={"first_position": str(purged + 1), "last_position": str(last)},
    )


def _missing(entry: Entry, known: int) -> JournalDamaged:
    return JournalDamaged(
        f"The journal is damaged: events {known + 1} to {entry.chunk.first - 1} of execution {entry.execution_id} "
        "are missing.",
        metadata={
            "execution_id": entry.execution_id,
            "sequence": str(known + 1),
            "position": str(entry.position),
        },
    )


def _position(entry: Entry) -> int:
    return entry.position
