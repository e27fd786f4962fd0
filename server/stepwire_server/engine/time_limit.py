"""A time limit that stands still while nobody is to blame for the time that passes."""

from __future__ import annotations

from collections.abc import Callable

from stepwire_server.engine.clock import Clock, Timer

__all__ = ["TimeLimit"]


class TimeLimit:
    """Makes a call when so many seconds have passed, those between `hold` and `release` not counted."""

    __slots__ = ("_call", "_clock", "_holds", "_left", "_since", "_timer")

    def __init__(self, clock: Clock, seconds: float, call: Callable[[], None]) -> None:
        """Begins to count at once."""
        self._clock = clock
        self._call = call
        self._left = seconds
        self._holds = 0
        self._since = 0.0
        self._timer: Timer | None = None
        self._go_on()

    def hold(self) -> None:
        """Stands still until `release`. May be held by several at once; each releases once."""
        self._holds += 1
        if self._holds == 1 and self._timer is not None:
            self._timer.cancel()
            self._left -= self._clock.monotonic() - self._since

    def release(self) -> None:
        """Goes on, where nobody else holds it."""
        self._holds -= 1
        if self._holds == 0 and self._timer is not None:
            self._go_on()

    def cancel(self) -> None:
        """Takes the call back for good."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _go_on(self) -> None:
        self._since = self._clock.monotonic()
        self._timer = self._clock.call_later(max(0.0, self._left), self._call)
