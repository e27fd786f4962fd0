"""How a follower waits: without a task or a timer of its own, because there may be ten thousand that do."""

from __future__ import annotations

import asyncio

__all__ = ["Waking"]


class Waking:
    """A wake-up for one task. It stands until its owner looks again: none is lost between a look and a wait."""

    __slots__ = ("_waiting", "_woken")

    def __init__(self) -> None:
        self._woken = True
        self._waiting: asyncio.Future[bool] | None = None

    def wait(self) -> asyncio.Future[bool]:
        """Waits until something may be new, and gives True; False where `remind` came first. One task at a time waits.

        A future, not a coroutine: a frame less for each that waits.
        """
        waiting: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        if self._woken:
            waiting.set_result(True)
        else:
            self._waiting = waiting
        return waiting

    def wake(self) -> None:
        """Makes `wait` return."""
        self._woken = True
        self._end_wait(True)

    def remind(self) -> bool:
        """Makes a wait return that goes on, though nothing is new. Returns whether there was one."""
        return self._end_wait(False)

    def _end_wait(self, woken: bool) -> bool:
        waiting, self._waiting = self._waiting, None
        if waiting is None or waiting.done():
            return False
        waiting.set_result(woken)
        return True
