"""Who may have how many places at once: counted for each kind of place, for each caller and in all.

What is beyond a limit is refused before anything is accepted, with how to raise the limit. Executions that run are
counted by the engine, in all: they outlive calls and servers, and their events do not say who asked. For each caller
only the starts are counted that are under way, which is what a flood of them costs before the engine's limit holds.
"""

from __future__ import annotations

import ipaddress
import logging
import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from enum import Enum, auto
from typing import NamedTuple
from urllib.parse import unquote

from stepwire.errors import LimitCalls, LimitExecutions, LimitReached, LimitWatchers
from stepwire_server.limits import CallLimits

__all__ = ["Admission", "Place", "caller_of"]

_RETRY = timedelta(seconds=1)

_TOLD_EVERY = 60.0
"""Seconds between two lines in the log about the same limit: who is refused is often refused."""

_log = logging.getLogger(__name__)


class Place(Enum):
    """What a caller takes up."""

    HALF_OPEN = auto()
    """A call whose request has not been read yet."""
    CALL = auto()
    """A call that is answered with one message, soon."""
    STREAM = auto()
    """A stream, or a call that waits."""
    START = auto()
    """The acceptance of an execution."""


class _Bound(NamedTuple):
    what: str
    error: type[LimitReached]
    in_all: str
    """The name of the setting; empty where only callers are bounded."""
    per_caller: str


_BOUNDS = {
    Place.HALF_OPEN: _Bound(
        "calls wait for their requests", LimitCalls, "max_half_open_calls", "max_half_open_calls_per_caller"
    ),
    Place.CALL: _Bound("calls run", LimitCalls, "max_calls", "max_calls_per_caller"),
    Place.STREAM: _Bound("streams and waits are open", LimitWatchers, "max_watchers", "max_watchers_per_caller"),
    Place.START: _Bound("executions are being accepted", LimitExecutions, "", "max_starts_per_caller"),
}


class Admission:
    """Counts who is in. Whatever takes a place gives it back, however it ends."""

    def __init__(self, limits: CallLimits, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits = limits
        self.refused: Counter[str] = Counter()
        """Calls that ended with a reason, by reason."""
        self._taken: Counter[Place] = Counter()
        self._by_caller: dict[tuple[Place, str], int] = {}
        self._clock = clock
        self._told: dict[str, float] = {}

    def taken(self, place: Place) -> int:
        """Returns how many places of a kind are taken now."""
        return self._taken[place]

    @property
    def callers(self) -> int:
        """For how many callers something is counted, once for each kind of place."""
        return len(self._by_caller)

    def admit(self, place: Place, caller: str) -> _Admitted:
        """Takes a place while a `with` lasts, which raises LimitCalls, LimitWatchers or LimitExecutions."""
        return _Admitted(self, place, caller)

    def _take(self, place: Place, caller: str) -> None:
        bound = _BOUNDS[place]
        key = (place, caller)
        mine = self._by_caller.get(key, 0)
        if bound.in_all and self._taken[place] >= (most := getattr(self.limits, bound.in_all)):
            raise self._refusal(bound, most, bound.in_all, "")
        if mine >= (most := getattr(self.limits, bound.per_caller)):
            raise self._refusal(bound, most, bound.per_caller, f" from {caller}")
        self._taken[place] += 1
        self._by_caller[key] = mine + 1

    def _give_back(self, place: Place, caller: str) -> None:
        key = (place, caller)
        self._taken[place] -= 1
        if self._by_caller[key] == 1:
            # A caller that has left is forgotten: there may be any number of them.
            del self._by_caller[key]
        else:
            self._by_caller[key] -= 1

    def _refusal(self, bound: _Bound, most: int, setting: str, whose: str) -> LimitReached:
        flag = "--" + setting.replace("_", "-")
        text = f"{most:,} {bound.what}{whose} already"
        now = self._clock()
        if now - self._told.get(setting, -_TOLD_EVERY) >= _TOLD_EVERY:
            self._told[setting] = now
            _log.warning("refused one more: %s (%s); the next minute's are only counted", text, flag)
        return bound.error(f"{text}; try again later (the server's {flag} sets this limit)", retry_after=_RETRY)


class _Admitted:
    """A place that is taken. A stream has one as long as it lasts: a generator would be five times as large."""

    __slots__ = ("_admission", "_caller", "_place")

    def __init__(self, admission: Admission, place: Place, caller: str) -> None:
        self._admission = admission
        self._place = place
        self._caller = caller

    def __enter__(self) -> None:
        self._admission._take(self._place, self._caller)

    def __exit__(self, *_: object) -> None:
        self._admission._give_back(self._place, self._caller)


def caller_of(peer: str) -> str:
    """Returns the caller of a gRPC peer: the host of an address, the network of an IPv6 address, "local" for what has
    none.
    """
    scheme, _, address = peer.partition(":")
    host = unquote(address.rpartition(":")[0])
    if scheme == "ipv4":
        return host
    if scheme != "ipv6":
        return "local"
    # Whoever has an IPv6 address has as a rule all of its /64, and could come from each as somebody else.
    try:
        found = ipaddress.IPv6Address(host.strip("[]").partition("%")[0])
    except ValueError:
        return host
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.IPv6Network((found, 64), strict=False))
