"""How many steps of an execution run at once."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

__all__ = ["Slots"]


class Slots:
    """The slots of one execution's steps, which are known by their index.

    A step that waits for a person leaves its slot, and comes back into one before any other step starts: what has begun
    goes before what has not.
    """

    __slots__ = ("_bound", "_coming", "_on_free", "_taken")

    def __init__(self, bound: int, on_free: Callable[[], None]) -> None:
        """`on_free` is called where a slot became free and nobody was waiting to come back."""
        self._bound: float = bound
        self._on_free = on_free
        self._taken: set[int] = set()
        self._coming: dict[int, asyncio.Event] = {}

    @property
    def free(self) -> bool:
        """Whether another step may start."""
        return len(self._taken) < self._bound

    def taken(self, index: int) -> bool:
        """Returns whether a step has a slot."""
        return index in self._taken

    def take(self, index: int) -> None:
        """Gives a step a slot, free or not: ask `free` before."""
        self._taken.add(index)
        self._forget(index)

    def leave(self, index: int) -> None:
        """Takes note that a step needs no slot now. Does nothing where it has none."""
        self.end(index)
        if self.free:
            self._on_free()

    def end(self, index: int) -> None:
        """Does what `leave` does, for who sees to it that others start: `on_free` is not called."""
        self._taken.discard(index)
        if self._coming:
            self._forget(index)
            self._grant()

    async def back(self, index: int) -> None:
        """Returns when a step has a slot: at once where it has one. Those that come back first, have one first. Who is
        cancelled here goes on without a slot, and is given it all the same when the turn comes.
        """
        if index in self._taken:
            return
        if self.free:
            self._taken.add(index)
            return
        await self._coming.setdefault(index, asyncio.Event()).wait()

    def lift(self) -> None:
        """Lets all come back, for good: an execution that is ending starts nothing more."""
        self._bound = math.inf
        self._grant()
        self._on_free()

    def _grant(self) -> None:
        while self._coming and self.free:
            self.take(next(iter(self._coming)))

    def _forget(self, index: int) -> None:
        waiting = self._coming.pop(index, None)
        if waiting is not None:
            waiting.set()
