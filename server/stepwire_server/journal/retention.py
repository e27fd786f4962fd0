"""How long executions that have ended are kept, and what remains of one that was purged.

    ended --> kept --> purged: a tombstone --> forgotten
              30 days          30 days more

A tombstone is all that is left: who watches is told that the events are gone, and the request id does not run again.
What has not ended is never purged.
"""

from __future__ import annotations

from dataclasses import dataclass

from stepwire.errors import CursorExpired
from stepwire.v1 import ExecutionState

__all__ = ["DAY_NS", "KEEP_DAYS", "KEEP_EXECUTIONS", "Purged", "Retention", "Tombstone"]

DAY_NS = 24 * 3600 * 1_000_000_000

KEEP_DAYS = 30
"""Days that an ended execution is kept, unless the operator says otherwise."""

KEEP_EXECUTIONS = 100_000
"""Ended executions that are kept, unless the operator says otherwise."""

_TOMBSTONE_DAYS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """Which ended executions are kept: an execution goes when either bound says so.

    Retention(keep_days=7, keep_executions=0)  # A week, however many there are.
    """

    keep_days: float = KEEP_DAYS
    """Days since the end. 0: no limit."""
    keep_executions: int = KEEP_EXECUTIONS
    """Of the ended ones, those that ended last. 0: no limit."""
    tombstone_days: float = _TOMBSTONE_DAYS
    """Days since the purge that the tombstone stays."""

    def ended_before_ns(self, now_ns: int) -> int | None:
        """Returns the time of the end from which on an execution is kept; None where its age does not matter."""
        return now_ns - int(self.keep_days * DAY_NS) if self.keep_days else None

    def purged_before_ns(self, now_ns: int) -> int:
        """Returns the time of the purge from which on a tombstone is kept."""
        return now_ns - int(self.tombstone_days * DAY_NS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tombstone:
    """What is left of a purged execution."""

    execution_id: str
    """Which it was."""
    tenant: str
    """Whose it was."""
    request_id: str
    """What must not run again. Empty where it had none."""
    state: ExecutionState.ValueType
    """In which it ended."""
    last_sequence: int
    """How many events it had."""
    purge_time_ns: int
    """When it was purged, in nanoseconds since 1970."""

    def expired(self) -> CursorExpired:
        """Returns the error for whoever wants its events. The events from first_sequence to last_sequence are there,
        which is to say: none.
        """
        return CursorExpired(
            f"execution {self.execution_id} was purged: its {self.last_sequence:,} events are gone",
            metadata={
                "execution_id": self.execution_id,
                "first_sequence": str(self.last_sequence + 1),
                "last_sequence": str(self.last_sequence),
            },
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Purged:
    """What one pass removed."""

    executions: int = 0
    """Executions of which a tombstone is left."""
    events: int = 0
    """Their events."""
    tombstones: int = 0
    """Tombstones that were old enough."""
