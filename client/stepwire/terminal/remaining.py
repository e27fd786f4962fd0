"""The time remaining for people: rounded to what is known of it, and running down between two events."""

from __future__ import annotations

import time
from collections.abc import Callable

from stepwire.v1.event_pb2 import Progress

__all__ = ["Countdown", "remaining_text"]

_SURE = 0.25
"""Share of the time remaining below which its margin is not worth a word."""


def remaining_text(seconds: float, margin: float = 0.0) -> str:
    """Returns how long something takes still: "about 40 s left", with its margin where that is large."""
    text = f"about {_rough(seconds)} left"
    return f"{text}, give or take {_rough(margin)}" if margin > _SURE * seconds and seconds >= 1 else text


class Countdown:
    """What the newest event said, less the time since it came."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._told: tuple[float, float, float] | None = None

    def set(self, progress: Progress) -> None:
        """Takes what an event says; nothing, where it does not know."""
        told = None
        if progress.HasField("remaining"):
            left = progress.remaining.ToNanoseconds() / 1e9
            told = (self._clock() + left, left, progress.remaining_margin.ToNanoseconds() / 1e9)
        # In one go: another thread draws it meanwhile.
        self._told = told

    @property
    def text(self) -> str:
        """How long it takes still; empty where nobody knows."""
        told = self._told
        if told is None:
            return ""
        end, left, margin = told
        now = max(0.0, end - self._clock())
        return remaining_text(now, margin * now / left if left else 0.0)


def _rough(seconds: float) -> str:
    """Returns a span with one or two digits: nobody knows more of what is to come."""
    if seconds < 1:
        return "1 s"
    if seconds < 10:
        return f"{seconds:.0f} s"
    if seconds < 55:
        return f"{5 * round(seconds / 5)} s"
    if seconds < 3_300:
        return f"{max(1, round(seconds / 60))} min"
    if seconds < 36_000:
        return f"{seconds / 3_600:.1f} h"
    return f"{seconds / 3_600:.0f} h"
