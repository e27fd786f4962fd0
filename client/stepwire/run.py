"""What a run is in both clients: its state machine, its tracker, its outcome. All but the IO."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from google.protobuf.message import Message

from stepwire.errors import StepwireError, StreamBroken
from stepwire.events import has_ended, output_of
from stepwire.fallback import Delivery
from stepwire.machine import Machine
from stepwire.patience import Patience, can_pass
from stepwire.progress import Handler, ProgressCallback, ProgressTracker
from stepwire.requests import METHODS, Method, Span, duration, seconds, selection, start
from stepwire.resume import DEFAULT_HEARTBEAT, Resumption
from stepwire.steps import Ask, Open, Outage
from stepwire.v1.event_pb2 import Event
from stepwire.v1.execution_pb2 import EventFilter, Execution
from stepwire.v1.execution_service_pb2 import (
    ExecuteRequest,
    ListEventsRequest,
    WaitExecutionRequest,
    WatchExecutionRequest,
)

__all__ = ["BaseRun", "Source"]


class Source:
    """What a stream follows: the request that starts it, or the execution that exists."""

    def __init__(
        self,
        *,
        request: ExecuteRequest | None = None,
        execution_id: str = "",
        after_sequence: int = 0,
        kinds: Iterable[str] = (),
        step_ids: Iterable[str] = (),
        heartbeat_interval: Span | None = None,
    ) -> None:
        self.request = request
        self.execution_id = execution_id
        self.after_sequence = after_sequence
        self.filter: EventFilter | None = selection(kinds, step_ids)
        self.heartbeat_interval = heartbeat_interval


class BaseRun:
    """One execution that is being followed. `Run` in `stepwire` and in `stepwire.aio` adds the reading."""

    def __init__(
        self,
        source: Source,
        *,
        on_event: Handler | None,
        history: int,
        opening: float,
        delivery: Delivery,
        patience: Patience,
        random: Callable[[], float],
    ) -> None:
        self.tracker = ProgressTracker(history=history)
        """How far it is, by the events that were read so far."""
        interval = source.heartbeat_interval
        self._resumption = Resumption(
            execution_id=source.execution_id,
            after_sequence=source.after_sequence,
            filtered=source.filter is not None,
            heartbeat=DEFAULT_HEARTBEAT if interval is None else seconds(interval),
            opening=opening,
            delivery=delivery,
            patience=patience,
            random=random,
        )
        self._source = source
        self._closed = False
        self._reader: object | None = None  # the loop that read last: only that one ends the call when it is left
        self._left_at: float | None = None  # when reading was left, until the state machine is told
        self._callback: ProgressCallback | None = None
        if on_event is not None:
            self._callback = on_event if isinstance(on_event, ProgressCallback) else ProgressCallback(on_event)

    @property
    def execution_id(self) -> str:
        """The execution. Keep it to watch the execution again, from any process."""
        return self._resumption.execution_id

    @property
    def request_id(self) -> str:
        """The request id that the execution was asked for with. Empty for one that is only watched."""
        return self._source.request.request_id if self._source.request is not None else ""

    @property
    def execution(self) -> Execution:
        """The snapshot that the stream began with; of a resumed stream, that of its newest beginning."""
        return self._resumption.execution or Execution(execution_id=self.execution_id)

    @property
    def sequence(self) -> int:
        """The last event that was processed: the one before the event that was read last. Watch on after this."""
        return self._resumption.sequence

    @property
    def terminal(self) -> Event | None:
        """The event that ended the execution, once it has been received."""
        return self._resumption.terminal

    @property
    def outage(self) -> Outage | None:
        """What the run is without, and since when, or None. Can be read from any thread, while the run is read.

        Reading goes on by itself when the server is back, or when streams come through again: this is for those who
        show how a run is going.

            lost = run.outage
            if lost is not None and time.monotonic() - lost.since > 1:
                print("polling" if lost.polling else "the server is going" if lost.draining else "connection lost")
        """
        return self._resumption.outage

    def _machine(self) -> Machine:
        return self._resumption

    def _take(self) -> Event | None:
        resumption = self._resumption
        event = resumption.take()
        if event is None:
            return None
        if resumption.plain:
            self.tracker._add_plain(event)
        else:
            self.tracker.add_event(event)
        return event

    def _call_for(self, step: Open | Ask) -> tuple[Method, Message]:
        """Returns the method to call, and its request."""
        if isinstance(step, Ask):
            return METHODS[step.method], self._question(step)
        if step.execute:
            assert self._source.request is not None
            return METHODS["Execute"], self._source.request
        return METHODS["WatchExecution"], WatchExecutionRequest(
            execution_id=self.execution_id,
            after_sequence=step.after_sequence,
            filter=self._source.filter,
            heartbeat_interval=duration(self._source.heartbeat_interval),
        )

    def _question(self, step: Ask) -> Message:
        match step.method:
            case "StartExecution":
                assert self._source.request is not None
                return start(self._source.request)
            case "ListEvents":
                return ListEventsRequest(
                    execution_id=self.execution_id,
                    after_sequence=step.after_sequence,
                    page_size=step.page_size,
                    filter=self._source.filter,
                )
            case "WaitExecution":
                return WaitExecutionRequest(execution_id=self.execution_id, timeout=duration(step.timeout))

    def _note_request(self, error: BaseException) -> None:
        """Says on an error of the start how to find out what became of it."""
        if self.request_id and isinstance(error, StepwireError) and can_pass(error):
            error.add_note(f"It may have been accepted all the same: with request_id={self.request_id!r} ask again.")

    def _outcome(self) -> Any:
        """Returns the output once the stream is over. Raises what it ended with."""
        if self._resumption.terminal is not None:
            return output_of(self._resumption.terminal)
        if has_ended(self.execution):
            return output_of(self.execution)
        raise self._closed_error()

    def _closed_error(self) -> StepwireError:
        return StreamBroken(
            f"The run was closed. Watch {self.execution_id or 'it'} again after {self.sequence}.",
            execution_id=self.execution_id,
            sequence=self.sequence,
        )
