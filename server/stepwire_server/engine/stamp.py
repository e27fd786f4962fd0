"""An execution's state as its events tell it: the envelope of each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf.duration_pb2 import Duration

from stepwire.v1 import Event, Progress, StepState

if TYPE_CHECKING:
    from stepwire_server.engine.fold import Fold

__all__ = ["Stamp", "write_state", "write_time"]

_SECOND = 1_000_000_000

_NO_STEP = StepState.STEP_STATE_UNSPECIFIED


class Stamp:
    """Writes the envelope into one event, again and again: what it had of that before is gone each time."""

    __slots__ = ("_changes", "_elapsed", "_margin", "_progress", "_remaining", "_step_id", "_time", "event")

    def __init__(self, event: Event) -> None:
        self.event = event
        self._changes = -1
        self._step_id = ""
        # Held, since each time one asks a message for a part of it, an object is made.
        self._time = event.event_time
        self._progress = event.progress
        self._elapsed = event.progress.elapsed
        self._remaining = Duration()
        self._margin: int | None = None

    def write(self, fold: Fold, step_id: str) -> None:
        """Writes what is true after the event that was just applied. `step_id`: that event's, which may be empty."""
        self.event.sequence = fold.sequence
        self._time.seconds, self._time.nanos = divmod(fold.time_ns, _SECOND)
        self._elapsed.seconds, self._elapsed.nanos = divmod(fold.time_ns - fold.create_ns, _SECOND)
        if fold.remaining is not None:
            left, margin = fold.remaining
            if margin != self._margin:  # It is another one once a second.
                self._write_margin(margin)
            self._remaining.seconds, self._remaining.nanos = divmod(left, _SECOND)
        elif self._margin is not None:
            self._clear_remaining()
        if fold.changes != self._changes or step_id != self._step_id:
            self._write_state(fold, step_id)
            self._changes, self._step_id = fold.changes, step_id

    def _write_margin(self, margin: int) -> None:
        self._remaining = self._progress.remaining
        _write(self._progress.remaining_margin, margin)
        self._margin = margin

    def _clear_remaining(self) -> None:
        self._progress.ClearField("remaining")
        self._progress.ClearField("remaining_margin")
        self._margin = None

    def _write_state(self, fold: Fold, step_id: str) -> None:
        """Writes what stays as it is while a step only talks."""
        event = self.event
        event.execution_state = fold.state
        if step_id and fold.graph is not None:
            index = fold.graph.index[step_id]
            event.step_state = fold.steps[index].state
            current = index + 1
        else:
            event.step_state = _NO_STEP
            current = fold.started
        write_state(fold, self._progress, current=current)


def write_state(fold: Fold, progress: Progress, *, current: int) -> None:
    """Writes how far an execution is."""
    progress.percentage = fold.percentage
    progress.current_step = current
    progress.total_steps = len(fold.steps)
    progress.completed_steps = fold.completed
    progress.failed_steps = fold.failed
    progress.skipped_steps = fold.skipped


def write_time(fold: Fold, progress: Progress) -> None:
    """Writes how long an execution has taken, and will take, into a progress that says neither yet."""
    _write(progress.elapsed, fold.time_ns - fold.create_ns)
    if fold.remaining is not None:
        left, margin = fold.remaining
        _write(progress.remaining, left)
        _write(progress.remaining_margin, margin)


def _write(duration: Duration, nanoseconds: int) -> None:
    duration.seconds, duration.nanos = divmod(nanoseconds, _SECOND)
