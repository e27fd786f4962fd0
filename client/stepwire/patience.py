"""How long a client goes on trying, what it tries again, and how long it waits between."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from google.rpc import code_pb2

from stepwire.errors import CallFailed, LimitReached, StepwireError, Unavailable

__all__ = ["Budget", "Patience", "backoff", "can_pass", "pause_before", "silence"]

_PASSING = frozenset(
    {code_pb2.UNAVAILABLE, code_pb2.CANCELLED, code_pb2.UNKNOWN, code_pb2.INTERNAL, code_pb2.DEADLINE_EXCEEDED}
)
"""Codes of the transport that say nothing about the request. CANCELLED: a server that stops ends its calls so."""

_UNARY_PASSING = frozenset({code_pb2.UNAVAILABLE, code_pb2.CANCELLED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a client goes on trying. The defaults give up after about 6 s at the start, and 2 min when resuming.

    client = Client("localhost:50051", patience=Patience(start_failures=3))
    """

    start_failures: int = 8
    """Failures in a row before the first message of a stream, and of a unary call. The last one is raised."""
    start_seconds: float = 30.0
    """Seconds since the first of those failures."""
    resume_failures: int = 50
    """Failures in a row without a new event or a heartbeat between them. Then StreamBroken is raised."""
    resume_seconds: float = 120.0
    """Seconds since the first of those failures."""
    initial_delay: float = 0.1
    """Seconds: the most that the first wait can be. It doubles with each failure."""
    max_delay: float = 5.0
    """Seconds: no wait is longer, unless the server asked for it."""
    poll_delay: float = 0.25
    """Seconds from news to the next question, where a run polls. It doubles while there is none."""
    max_poll_delay: float = 2.0
    """Seconds: the longest of those waits. News is seen after it and the two questions around it; up to 3 s later where
    a stream is tried meanwhile. The end is seen at once."""
    stream_delay: float = 60.0
    """Seconds until a run that polls tries a stream again. It doubles with each that fails, up to ten times that."""


class Budget:
    """What is left of a run's patience: it knows when calls were made, answered and lost, and when nobody asked."""

    def __init__(self, patience: Patience) -> None:
        self.failures = 0
        """In a row."""
        self.error: StepwireError | None = None
        """The last failure's, where nothing was heard since."""
        self._patience = patience
        self._failing_since = 0.0
        self._unanswered_since: float | None = None
        self._left_at: float | None = None

    def refill(self) -> None:
        """Takes note of news, or of a call that has been healthy for long."""
        self.failures = 0

    def asked(self, now: float) -> None:
        """Takes note that a call was made."""
        if self._unanswered_since is None:
            self._unanswered_since = now

    def answered(self) -> None:
        """Takes note of any message. It forgives no failure: a server may say something and go, again and again."""
        self._unanswered_since = self.error = None

    def failed(self, error: StepwireError, now: float) -> None:
        """Takes note that a call failed."""
        if not self.failures:
            self._failing_since = now
        self.failures += 1
        self.error = error

    def is_spent(self, at: float, *, resuming: bool) -> bool:
        """Tells whether a try at that time would be too late, or one too many."""
        patience = self._patience
        failures = patience.resume_failures if resuming else patience.start_failures
        return self.failures >= failures or at - self._failing_since > self._seconds(resuming)

    def leave(self, since: float) -> None:
        """Takes note that nobody asks any more. That time is not held against the server."""
        self._left_at = since

    def come_back(self, now: float, *, resuming: bool) -> bool:
        """Takes note that somebody asks, again or still. Tells whether a reader that was interrupted has asked for long
        enough without an answer: its calls are never silent for long enough to be failures.
        """
        if self._left_at is None:
            return False
        away, self._left_at = now - self._left_at, None
        self._failing_since += away
        if self._unanswered_since is None:
            return False
        self._unanswered_since += away
        return now - self._unanswered_since > self._seconds(resuming)

    def _seconds(self, resuming: bool) -> float:
        return self._patience.resume_seconds if resuming else self._patience.start_seconds


def backoff(failures: int, *, patience: Patience, random: Callable[[], float]) -> float:
    """Returns the seconds to wait after so many failures in a row: any share of the doubled delay (full jitter)."""
    return random() * min(patience.max_delay, patience.initial_delay * 2.0 ** min(failures - 1, 30))


def can_pass(error: StepwireError) -> bool:
    """Tells whether the same call can do better later, or on another connection."""
    match error:
        case Unavailable():
            return True
        case LimitReached():
            return error.retry_after is not None
        case CallFailed(status_code=code_pb2.RESOURCE_EXHAUSTED):
            return error.retry_after is not None
        case CallFailed():
            return error.status_code in _PASSING
        case _:
            return False


def silence() -> CallFailed:
    """Returns the failure of a call that said nothing for too long."""
    return CallFailed("The server was silent for too long", status_code=code_pb2.DEADLINE_EXCEEDED)


def pause_before(
    error: StepwireError, *, failures: int, left: float, patience: Patience, random: Callable[[], float]
) -> float | None:
    """Returns the seconds to wait before a unary call is sent again, or None where its error is to be raised.

    `failures` counts this one, `left` is the seconds to the call's deadline. The call must be safe to send twice.
    """
    passing = isinstance(error, Unavailable) or (isinstance(error, CallFailed) and error.status_code in _UNARY_PASSING)
    pause = backoff(failures, patience=patience, random=random)
    if error.retry_after is not None:
        pause += max(0.0, error.retry_after.total_seconds())
    return pause if passing and failures < patience.start_failures and pause < left else None
