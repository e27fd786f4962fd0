"""A wait for the end of an execution: one WaitExecution after the other. Without IO and without a clock.

A wait goes on where a stream would be resumed, and gives up with the same patience. Where something on the way ends
each call after a time, the next ones are shorter than that.
"""

from __future__ import annotations

from collections.abc import Callable

from stepwire.errors import StepwireError
from stepwire.events import has_ended
from stepwire.patience import Patience, backoff, can_pass
from stepwire.v1.execution_pb2 import Execution

__all__ = ["Waiting"]

_LONGEST = 30.0
"""Seconds of one call: below what proxies allow a silent one."""
_SHORTEST = 0.25
"""Seconds. A call that ended sooner was not cut: it never was under way."""
_CUT_FORGOTTEN = 60.0
"""Seconds for which a call that was cut makes later ones shorter: it may have been a passing fault."""


class Waiting:
    """`timeout` and `grace` are in seconds: how long to wait for the end, and how much longer for an answer."""

    def __init__(
        self, timeout: float | None, *, now: float, grace: float, patience: Patience, random: Callable[[], float]
    ) -> None:
        self._end = None if timeout is None else now + timeout
        self._grace = grace
        self._patience = patience
        self._random = random
        self._span = _LONGEST
        self._asked_at = now
        self._cut_at: float | None = None
        self._reached = False
        self._failures = 0
        self._failing_since = 0.0

    def ask(self, now: float) -> float:
        """Returns the seconds of the call to make now."""
        self._asked_at = now
        return self._span if self._end is None else max(0.0, min(self._span, self._end - now))

    def answered(self, execution: Execution, now: float) -> bool:
        """Takes a snapshot. Returns whether the wait is over."""
        self._reached = True
        self._failures = 0
        if self._cut_at is not None and now - self._cut_at >= _CUT_FORGOTTEN:
            self._span = _LONGEST
        return has_ended(execution) or (self._end is not None and now >= self._end)

    def failed(self, error: StepwireError, now: float) -> float | None:
        """Takes the error of a call. Returns the seconds to wait before the next, or None where it is to be raised."""
        if not can_pass(error):
            return None
        took = now - self._asked_at
        if took >= _SHORTEST:
            self._reached = True
            self._cut_at = now
            self._span = max(_SHORTEST, min(self._span, took) / 2)
        if not self._failures:
            self._failing_since = now
        self._failures += 1
        patience = self._patience
        pause = backoff(self._failures, patience=patience, random=self._random)
        if error.retry_after is not None:
            pause += max(0.0, error.retry_after.total_seconds())
        failures, seconds = (
            (patience.resume_failures, patience.resume_seconds)
            if self._reached
            else (patience.start_failures, patience.start_seconds)
        )
        again = now + pause
        if self._failures >= failures or again - self._failing_since > seconds:
            return None
        if self._end is not None and again > self._end + self._grace:
            return None
        return pause
