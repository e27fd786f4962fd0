"""The events of a step's attempts: what its runner records of their beginnings and ends."""

from __future__ import annotations

from google.protobuf import duration_pb2, struct_pb2
from google.rpc import status_pb2

from stepwire.errors import LimitSize, failure
from stepwire.v1 import Event, Step
from stepwire_server import failpoints
from stepwire_server.engine.clock import Clock
from stepwire_server.engine.fold import StepFold
from stepwire_server.engine.recorder import Recorder

__all__ = ["StepEvents", "describe", "one_line"]

_MESSAGE = 1_000
_ERROR_TEXT = 100_000
"""Characters of an error's text that are kept: in the event's one line, and in its status."""


class StepEvents:
    """Records the events of one step. Each method raises RecorderClosed after the execution's end."""

    __slots__ = ("_clock", "_fold", "_recorder", "_started", "_step", "name")

    def __init__(self, recorder: Recorder, step: Step, fold: StepFold, clock: Clock, *, began: float = 0.0) -> None:
        """`began`: when the newest attempt did, by the clock's monotonic time, where it was not recorded here."""
        self._recorder = recorder
        self._step = step
        self._fold = fold
        self._clock = clock
        self._started = began
        self.name = step.name or step.id
        """The step's name; its id where it has none."""

    def started(self, attempt: int, operation: str) -> int:
        """Records that an attempt begins, from when its time counts. Returns the event's sequence."""
        event = self._event(f"Started: {self.name}")
        event.attempt = attempt
        event.step_started.operation = operation
        failpoints.reach("before-step_started")
        sequence = self._recorder.record(event)
        failpoints.reach("after-step_started")
        self._started = self._clock.monotonic()
        return sequence

    def completed(self, output: struct_pb2.Value) -> None:
        """Records an output, or that the step has failed where it is too large for an event."""
        event = self._event(f"Completed: {self.name}")
        event.step_completed.output.CopyFrom(output)
        self._time(event.step_completed.execution_time)
        try:
            failpoints.reach("before-step_completed")
            self._recorder.record(event)
            failpoints.reach("after-step_completed")
        except LimitSize as error:
            self.failed(failure("LIMIT_SIZE", f"the output is too large: {error.message}"))

    def failed(self, status: status_pb2.Status) -> None:
        """Records that the step has failed for good."""
        status.message = status.message[:_ERROR_TEXT]
        event = self._event(f"Failed: {self.name}: {one_line(status.message)}")
        event.step_failed.error.CopyFrom(status)
        self._time(event.step_failed.execution_time)
        self._recorder.record(event)

    def retrying(self, status: status_pb2.Status, delay: float) -> None:
        """Records that an attempt has failed, and that another follows in so many seconds."""
        status.message = status.message[:_ERROR_TEXT]
        event = self._event(f"Retrying: {self.name}: {one_line(status.message)}")
        event.step_retrying.error.CopyFrom(status)
        event.step_retrying.next_attempt = self._fold.attempt + 1
        event.step_retrying.delay.FromNanoseconds(int(delay * 1e9))
        self._recorder.record(event)

    def cancelled(self, *, abandoned: bool) -> None:
        """Records that the step was cancelled. `abandoned`: its operation may run on."""
        event = self._event(f"Cancelled: {self.name}")
        event.step_cancelled.abandoned = abandoned
        self._time(event.step_cancelled.execution_time)
        self._recorder.record(event)

    def _event(self, message: str) -> Event:
        return Event(step_id=self._step.id, step_name=self.name, attempt=self._fold.attempt, message=message)

    def _time(self, target: duration_pb2.Duration) -> None:
        passed = int((self._clock.monotonic() - self._started) * 1_000_000_000)
        target.seconds, target.nanos = divmod(passed, 1_000_000_000)


def one_line(text: str) -> str:
    """Returns the beginning of a text as one line."""
    return " ".join(text[:_MESSAGE].split())


def describe(error: BaseException) -> str:
    """Returns an exception's class and text, whatever its own __str__ does, and below them the notes that were added
    to it, as text that can be sent.
    """
    name = type(error).__name__
    try:
        text = str(error).encode("utf-8", "backslashreplace").decode()
    except Exception:
        text = "(its text can't be had)"
    added = getattr(error, "__notes__", ())
    notes = [
        note.encode("utf-8", "backslashreplace").decode()
        for note in (added if isinstance(added, list | tuple) else ())
        if isinstance(note, str)
    ]
    return "\n".join([f"{name}: {text}" if text else name, *notes])
