"""What the state machine of a run asks its driver to do next, and where it stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from stepwire.errors import StepwireError

__all__ = ["Ask", "Finish", "Open", "Outage", "Read", "Refuse", "Step"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """What a run is without at present. It is tried again, until the patience is spent."""

    since: float
    """Since when, by `time.monotonic`."""
    draining: bool
    """True: the server said that it is going."""
    polling: bool = False
    """True: the server answers, but streams do not come through, so the run asks for news again and again. Events
    come as ever, up to `Patience.max_poll_delay` later. False: the connection was lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Open:
    """End the call that there may be, wait, and open another."""

    execute: bool
    """True: Execute. False: WatchExecution."""
    after_sequence: int
    """The cursor for WatchExecution: exclusive."""
    wait: float
    """Seconds to wait first."""
    fresh: bool
    """True: over a new connection."""
    wait_for_ready: bool = False
    """True: the call waits for the connection. False: without one it fails at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """End the call that there may be, wait, and make a unary call."""

    method: Literal["StartExecution", "ListEvents", "WaitExecution"]
    """Which: start the work, get a page of events, wait for the end."""
    after_sequence: int
    """The cursor for ListEvents: exclusive."""
    wait: float
    """Seconds to wait first."""
    fresh: bool
    """True: over a new connection."""
    wait_for_ready: bool
    """True: the call waits for the connection, within its deadline. False: without one it fails at once."""
    timeout: float
    """For WaitExecution: the seconds that the server waits."""
    page_size: int
    """For ListEvents: the most events. 0: as many as the server likes."""
    limit: float
    """The call's deadline, in seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """Wait for the next message, or for the end of the call."""

    seconds: float
    """At most so long; then it is silence. 0: what is there already may still be taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """The stream is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refuse:
    """The stream can't go on."""

    error: StepwireError
    """Why."""


Step = Open | Ask | Read | Finish | Refuse
