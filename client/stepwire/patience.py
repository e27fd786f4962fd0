"""How long a client goes on trying, what it tries again, and how long it waits between."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from google.rpc import code_pb2

from stepwire.errors import CallFailed, LimitReached, StepwireError, Unavailable

__all__ = ["Patience", "backoff", "can_pass", "pause_before"]

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
