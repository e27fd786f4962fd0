"""How far several executions are together: one progress over all of a batch, a session, or whatever is watched."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from stepwire.events import has_ended
from stepwire.v1.event_pb2 import ExecutionState, Progress
from stepwire.v1.execution_pb2 import Execution

__all__ = ["Totals", "totals_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """One progress over several executions."""

    executions: int
    """How many there are."""
    running: int
    """Those that have not ended, paused ones and those that wait for people too."""
    completed: int
    """Those that ended well."""
    failed: int
    """Those that failed."""
    cancelled: int
    """Those that were cancelled."""
    percentage: float
    """0 to 100: the mean of all, in which whatever has ended counts as done. 0 where there are none."""
    remaining: timedelta | None
    """An estimate of the time until the last one has ended. None where it is unknown of one of them."""

    @property
    def has_ended(self) -> bool:
        """True once none is running."""
        return self.running == 0

    @property
    def has_failures(self) -> bool:
        """True once one has failed."""
        return self.failed > 0

    def to_dict(self) -> dict[str, Any]:
        """Returns the figures as a dict that JSON can carry. `remaining` is in seconds."""
        return {
            "executions": self.executions,
            "running": self.running,
            "completed": self.completed,
            "failed": self.failed,
            "cancelled": self.cancelled,
            "percentage": self.percentage,
            "remaining": None if self.remaining is None else self.remaining.total_seconds(),
        }


def totals_of(executions: Iterable[Execution], ended: Mapping[int, int]) -> Totals:
    """Returns the totals of executions, and of others that have ended, given as how many by state."""
    counts, running = Counter(ended), []
    for execution in executions:
        if has_ended(execution):
            counts[execution.state] += 1
        else:
            running.append(execution.progress)
    over = sum(counts.values())
    done = sum(each.percentage for each in running) + 100.0 * over
    return Totals(
        executions=len(running) + over,
        running=len(running),
        completed=counts[ExecutionState.EXECUTION_STATE_COMPLETED],
        failed=counts[ExecutionState.EXECUTION_STATE_FAILED],
        cancelled=counts[ExecutionState.EXECUTION_STATE_CANCELLED],
        percentage=done / (len(running) + over) if running or over else 0.0,
        remaining=_longest(running),
    )


def _longest(progress: Iterable[Progress]) -> timedelta | None:
    longest = timedelta()
    for each in progress:
        if not each.HasField("remaining"):
            return None
        longest = max(longest, each.remaining.ToTimedelta())
    return longest
