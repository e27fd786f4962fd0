"""When a stream that has nothing to say is to say that it is there.

Ten thousand streams that are silent would have ten thousand timers. Those whose heartbeats are due at nearly the same
time share one here, and say it together: gRPC sends many small messages at once for much less than one after the other.
A stream that says something touches no timer: that it was not silent shows when its heartbeat would have been due.
"""

from __future__ import annotations

import asyncio
import math
from typing import NamedTuple, Self

from stepwire_server.journal import Follower, WideFollower

__all__ = ["Silence", "Silences"]

_LATE = 128
"""A heartbeat comes late by at most its interval divided by this."""


class _Together(NamedTuple):
    timer: asyncio.TimerHandle
    silences: set[Silence]


class Silences:
    """The silences of all streams of a server."""

    def __init__(self) -> None:
        self._due: dict[float, _Together] = {}

    def of(self, follower: Follower | WideFollower, *, interval: float) -> Silence:
        """Gives the silence of a stream that says something each `interval` seconds, to be used in `with`."""
        return Silence(self, follower, interval)

    def add(self, silence: Silence) -> None:
        """Ends the stream's wait when it has been silent for its interval."""
        at = silence.due = _due(silence)
        together = self._due.get(at)
        if together is None:
            timer = asyncio.get_running_loop().call_at(at, self._come, at)
            together = self._due[at] = _Together(timer, set())
        together.silences.add(silence)

    def discard(self, silence: Silence) -> None:
        """Lets go of a stream that ends."""
        together = self._due[silence.due]
        together.silences.discard(silence)
        if not together.silences:
            together.timer.cancel()
            del self._due[silence.due]

    def _come(self, at: float) -> None:
        for silence in self._due.pop(at).silences:
            silence.due = 0.0
            if _due(silence) > at:
                self.add(silence)
            else:
                # One that does not wait writes, or reads: it comes again when it waits.
                silence.follower.remind()


def _due(silence: Silence) -> float:
    """Returns when to look at it. Only what this gives is compared: it may be a little less than the sum in it."""
    late = silence.interval / _LATE
    return math.ceil((silence.since + silence.interval) / late) * late


class Silence:
    """How long one stream has said nothing.

    with silences.of(follower, interval=15.0) as silence:
        while True:
            if await silence.wait():
                ...
            else:
                await write(heartbeat)
            silence.broken()
    """

    __slots__ = ("_silences", "due", "follower", "interval", "since")

    def __init__(self, silences: Silences, follower: Follower | WideFollower, interval: float) -> None:
        self._silences = silences
        self.follower = follower
        self.interval = interval
        self.since = 0.0
        """When it last said something."""
        self.due = 0.0
        """When it is looked at. 0: not before it waits."""

    def __enter__(self) -> Self:
        self.broken()
        return self

    def __exit__(self, *_: object) -> None:
        if self.due:
            self._silences.discard(self)

    def broken(self) -> None:
        """Takes note that something was said."""
        self.since = asyncio.get_running_loop().time()

    @property
    def over(self) -> bool:
        """Whether a heartbeat is due: for who does not wait."""
        return asyncio.get_running_loop().time() >= self.since + self.interval

    def wait(self) -> asyncio.Future[bool]:
        """Waits for the follower's wake-up, and gives True; False where a heartbeat is due before."""
        if not self.due:
            self._silences.add(self)
        return self.follower.wait()
