"""Time and chance, passed in so that tests need neither."""

from __future__ import annotations

import asyncio
import secrets
import string
import time
from collections.abc import Callable
from random import Random
from typing import Protocol

__all__ = ["Clock", "SystemClock", "Timer", "new_execution_id"]

_LETTERS = string.ascii_letters + string.digits
_LENGTH = 22


class Timer(Protocol):
    """A call that is due later."""

    def cancel(self) -> None:
        """Takes it back. Does nothing where it has been made."""


class Clock(Protocol):
    """What the engine knows of time and chance."""

    @property
    def random(self) -> Random:
        """For the jitter of retries."""

    def now_ns(self) -> int:
        """Nanoseconds since 1970, by the wall. May go back."""

    def monotonic(self) -> float:
        """Seconds since some moment. Never goes back."""

    def call_later(self, delay: float, call: Callable[[], None]) -> Timer:
        """Makes the call in the event loop after `delay` seconds."""

    async def sleep(self, delay: float) -> None:
        """Returns after `delay` seconds."""


class SystemClock:
    """The machine's own."""

    now_ns = staticmethod(time.time_ns)
    monotonic = staticmethod(time.monotonic)

    def __init__(self) -> None:
        self.random = Random()

    def call_later(self, delay: float, call: Callable[[], None]) -> Timer:
        return asyncio.get_running_loop().call_later(delay, call)

    async def sleep(self, delay: float) -> None:
        await asyncio.sleep(delay)


def new_execution_id() -> str:
    """Returns 131 random bits as 22 letters and digits. No "-": an id is an argument of commands, never an option."""
    # Asked of the system once: each time is a call into its kernel.
    left = secrets.randbelow(len(_LETTERS) ** _LENGTH)
    letters = []
    for _ in range(_LENGTH):
        left, place = divmod(left, len(_LETTERS))
        letters.append(_LETTERS[place])
    return "".join(letters)
