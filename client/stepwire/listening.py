"""When a call that says nothing is given up. Without a clock: every method is told the time.

It is the server that must have been silent, not the reader that was away. An event loop that something blocks, the body
of a loop that computes, a process that is stopped: what has come meanwhile has yet to be read when they go on. So
whoever begins to listen late listens for a moment at least, and a silence that is noticed late gets a moment more,
once. Neither is given again before the next message: a reader that is cancelled each second finds a dead line, too.
"""

from __future__ import annotations

__all__ = ["Listening"]

_MOMENT = 1.0
"""Seconds in which what is there already will be read."""
_LATE = 0.1
"""Seconds. Later than this after its time nobody notices a silence who has listened all the while."""


class Listening:
    """How long to listen for the next message."""

    def __init__(self) -> None:
        self._until = 0.0
        self._least = 0.0  # seconds to listen for, at least, once it begins
        self._begun = False
        self._extended = False

    def expect(self, now: float, *, within: float) -> None:
        """Takes note that the next message is due within so many seconds."""
        self._until = now + within
        self._least = min(within, _MOMENT)
        self._begun = self._extended = False

    def left(self, now: float) -> float:
        """Returns the seconds to listen for. Who asks listens from now on."""
        if not self._begun:
            self._begun = True
            self._until = max(self._until, now + self._least)
        return max(0.0, self._until - now)

    def is_over(self, now: float) -> bool:
        """Tells whether nothing came in that time because nothing was said."""
        if self._extended or now - self._until <= _LATE:
            return True
        self._extended = True
        self._until = now + _MOMENT
        return False
