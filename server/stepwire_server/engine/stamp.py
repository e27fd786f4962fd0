"""An execution's state as its events tell it: the envelope of each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf.duration_pb2 import Duration

from stepwire.v1 import Event, Progress, StepState

if TYPE_CHECKING:
    from stepwire_server.engine.fold import Fold

__all__ = ["Stamp", "write_progress"]

_SECOND = 1_000_000_000

_NO_STEP = StepState.STEP_STATE_UNSPECIFIED


class Stamp:
    """Writes the envelope into one event, again and again: what it had of that before is gone each time."""

    __slots__ = ("_elapsed", "_progress", "_time", "event")

    def __init__(self, event: Event) -> None:
        self.event = event
        # Held, since each time one asks a message for a part of it, an object is made.
        self._time = event.event_time
        self._progress = event.progress
        self._elapsed = event.progress.elapsed

    def write(self, fold: Fold, step_id: str) -> None:
        """Writes what is true after the event that was just applied. `step_id`: that event's, which may be empty."""
        event = self.event
        event.sequence = fold.sequence
        self._time.seconds, self._time.nanos = divmod(fold.time_ns, _SECOND)
        event.execution_state = fold.state
        if step_id and fold.graph is not None:
            index = fold.graph.index[step_id]
            event.step_state = fold.steps[index].state
            current = index + 1
        else:
            event.step_state = _NO_STEP
            current = fold.started
        write_progress(fold, self._progress, self._elapsed, current=current)


def write_progress(fold: Fold, progress: Progress, elapsed: Duration, *, current: int) -> None:
    """Writes how far an execution is. `elapsed` is the part of `progress` of that name."""
    progress.percentage = fold.percentage
    progress.current_step = current
    progress.total_steps = len(fold.steps)
    progress.completed_steps = fold.completed
    progress.failed_steps = fold.failed
    progress.skipped_steps = fold.skipped
    elapsed.seconds, elapsed.nanos = divmod(fold.time_ns - fold.create_ns, _SECOND)
    if fold.remaining is not None:
        left, margin = fold.remaining
        _write(progress.remaining, left)
        _write(progress.remaining_margin, margin)
    elif progress.HasField("remaining"):
        progress.ClearField("remaining")
        progress.ClearField("remaining_margin")


def _write(duration: Duration, nanoseconds: int) -> None:
    duration.seconds, duration.nanos = divmod(nanoseconds, _SECOND)
