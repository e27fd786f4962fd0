"""What a run has come to: a tracker that folds events, and callbacks that are told of them."""

from __future__ import annotations

import inspect
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from stepwire.events import EVENT_TYPES, TERMINAL, UNKNOWN, event_type, is_terminal, state_name, to_dict
from stepwire.parts import Part, Parts
from stepwire.v1.event_pb2 import Event, Progress, StepState

__all__ = ["Handler", "ProgressCallback", "ProgressTracker", "are_plain"]

Handler = Callable[[Event], Awaitable[None] | None]
"""What is told of an event. In `stepwire.aio` it may be a coroutine function."""

_log = logging.getLogger("stepwire")

_ENDED = frozenset(
    {
        StepState.STEP_STATE_COMPLETED,
        StepState.STEP_STATE_FAILED,
        StepState.STEP_STATE_SKIPPED,
        StepState.STEP_STATE_CANCELLED,
    }
)


_MINDED = TERMINAL | {"input_requested", "step_progress"}
"""The types of events that change more of a tracker than its figures."""


def are_plain(events: Sequence[Event], *, first: int, last: int) -> bool:
    """Tells whether events are exactly those from `first` to `last`, at least one, and of a tracker change nothing but
    its figures.
    """
    return (
        0 < len(events) == last + 1 - first
        and [event.sequence for event in events] == list(range(first, last + 1))
        and _MINDED.isdisjoint([event.WhichOneof("kind") for event in events])
    )


class ProgressTracker:
    """Folds events into how far an execution is.

    The server counts; the tracker keeps what its newest event says. So it is right with a filter, and from the middle
    of a stream on. The end of the plan is not one more completed step.

        tracker = ProgressTracker()
        for event in run:
            tracker.add_event(event)
        print(tracker.percentage, tracker.completed_steps, tracker.total_steps)

    `history` is how many of the last events `events` keeps; 0 keeps none.
    """

    def __init__(self, *, history: int = 1000) -> None:
        self.events: deque[Event] = deque(maxlen=history)
        """The last events, oldest first."""
        self.event_count = 0
        """All events that were added."""
        self._first: Event | None = None
        self._last: Event | None = None
        self._terminal: Event | None = None
        self._questions: tuple[Event, ...] = ()
        self._parts: dict[str, tuple[int, Parts]] = {}

    def add_event(self, event: Event) -> None:
        """Takes an event. One that is not newer than the last changes nothing, so none counts twice."""
        last = self._last
        if last is None:
            self._first = event
        elif event.sequence <= last.sequence:
            return
        self._last = event
        self.event_count += 1
        self.events.append(event)
        # Most events are about none of these, and there are many.
        kind = event.WhichOneof("kind")
        if self._questions or kind == "input_requested":
            self._mind_questions(event)
        if self._parts or kind == "step_progress":
            self._mind_parts(event)
        if kind in TERMINAL:
            self._terminal = event

    def _add_plain(self, event: Event) -> None:
        """Does the same in a third of the time, for a plain event."""
        last = self._last
        if self._questions or self._parts or last is None or event.sequence <= last.sequence:
            self.add_event(event)
            return
        self._last = event
        self.event_count += 1
        self.events.append(event)

    def _mind_questions(self, event: Event) -> None:
        if event.HasField("input_requested"):
            # A step has one question at a time: another one, or the same once more, takes the place of the first.
            self._questions = (*(q for q in self._questions if q.step_id != event.step_id), event)
        elif closed := self._closed(event):
            self._questions = tuple(question for question in self._questions if not closed(question))

    def _mind_parts(self, event: Event) -> None:
        if not event.step_id:
            return
        attempt, parts = self._parts.get(event.step_id, (0, None))
        if event.HasField("step_retrying") or event.HasField("step_completed") or event.attempt > attempt:
            # What a failed attempt had is void, and of a step that is done nothing is left to tell.
            self._parts.pop(event.step_id, None)
            parts = None
        report = event.step_progress
        if report.HasField("substep") or report.declared:
            if parts is None:
                _, parts = self._parts[event.step_id] = (event.attempt, Parts())
            parts.apply(report, event.message)

    def _closed(self, event: Event) -> Callable[[Event], bool] | None:
        """Returns what says of a question whether an event closes it; None where it closes none."""
        if event.HasField("input_received"):
            return lambda question: question.input_requested.input_id == event.input_received.input_id
        if is_terminal(event):
            return lambda question: True
        if event.step_id and event.step_state in _ENDED:
            return lambda question: question.step_id == event.step_id
        return None

    @property
    def _progress(self) -> Progress:
        return self._last.progress if self._last is not None else Progress()

    @property
    def percentage(self) -> float:
        """0 to 100, of the whole execution."""
        return self._progress.percentage

    @property
    def total_steps(self) -> int:
        """Steps in the plan. 0 before there is one."""
        return self._progress.total_steps

    @property
    def completed_steps(self) -> int:
        """Steps completed."""
        return self._progress.completed_steps

    @property
    def failed_steps(self) -> int:
        """Steps failed for good."""
        return self._progress.failed_steps

    @property
    def skipped_steps(self) -> int:
        """Steps that will not run."""
        return self._progress.skipped_steps

    @property
    def current_step(self) -> int:
        """The place, from 1, of the step that the newest event is about."""
        return self._progress.current_step

    @property
    def start_time(self) -> datetime | None:
        """When the first event happened, by the server's clock."""
        return self._first.event_time.ToDatetime(tzinfo=UTC) if self._first is not None else None

    @property
    def elapsed(self) -> timedelta:
        """Time from the acceptance of the execution to the newest event, by the server's clock."""
        return self._progress.elapsed.ToTimedelta()

    @property
    def remaining(self) -> timedelta | None:
        """An estimate of the time to the end. None when unknown."""
        progress = self._progress
        return progress.remaining.ToTimedelta() if progress.HasField("remaining") else None

    @property
    def remaining_margin(self) -> timedelta | None:
        """How sure `remaining` is: about every second execution ends within this much of it. None where it is."""
        progress = self._progress
        return progress.remaining_margin.ToTimedelta() if progress.HasField("remaining_margin") else None

    @property
    def state(self) -> str:
        """The execution's state, such as "RUNNING". "UNSPECIFIED" before the first event."""
        return state_name(Event(execution_state=self._last.execution_state) if self._last is not None else Event())

    @property
    def questions(self) -> tuple[Event, ...]:
        """What steps ask people and nobody has answered: the `input_requested` events, oldest first. A filter of events
        must let `input_requested`, `input_received` and the ends of steps through.
        """
        return self._questions

    @property
    def parts(self) -> Mapping[str, tuple[Part, ...]]:
        """The parts of each step that has any, by step id, as they are now: of its newest attempt, until it completes.
        A filter of events must let those of steps through. At most 1,000 of a step.
        """
        return {step_id: parts.tree() for step_id, (_, parts) in self._parts.items()}

    @property
    def has_ended(self) -> bool:
        """True once the terminal event was added."""
        return self._terminal is not None

    @property
    def is_completed(self) -> bool:
        """True once the execution has ended well."""
        return self._terminal is not None and self._terminal.HasField("plan_completed")

    @property
    def has_failures(self) -> bool:
        """True once a step failed for good, or the execution did."""
        return self.failed_steps > 0 or (self._terminal is not None and self._terminal.HasField("plan_failed"))

    def to_dict(self) -> dict[str, Any]:
        """Returns the figures and the kept events as a dict that JSON can carry. Times are in seconds."""
        start, remaining, margin = self.start_time, self.remaining, self.remaining_margin
        return {
            "state": self.state,
            "percentage": self.percentage,
            "current_step": self.current_step,
            "total_steps": self.total_steps,
            "completed_steps": self.completed_steps,
            "failed_steps": self.failed_steps,
            "skipped_steps": self.skipped_steps,
            "is_completed": self.is_completed,
            "has_failures": self.has_failures,
            "start_time": start.isoformat().replace("+00:00", "Z") if start is not None else None,
            "elapsed": self.elapsed.total_seconds(),
            "remaining": remaining.total_seconds() if remaining is not None else None,
            "remaining_margin": margin.total_seconds() if margin is not None else None,
            "parts": {step_id: [part.to_dict() for part in parts] for step_id, parts in self.parts.items()},
            "questions": [to_dict(event) for event in self.questions],
            "event_count": self.event_count,
            "events": [to_dict(event) for event in self.events],
        }


class ProgressCallback:
    """Tells several handlers of events, each of all or of some types.

    A handler that raises is logged (logger "stepwire") and breaks neither the run nor the other handlers.

        callback = ProgressCallback(print)
        callback.add(alarm, types=["step_failed", "plan_failed"])
        client.execute("...", on_event=callback)
    """

    def __init__(self, *handlers: Handler) -> None:
        self._handlers: list[tuple[Handler, frozenset[str]]] = []
        for handler in handlers:
            self.add(handler)

    @property
    def needs_loop(self) -> bool:
        """True where a handler is a coroutine function: such a callback serves `stepwire.aio` only."""
        return any(_is_async(handler) for handler, _ in self._handlers)

    def add(self, handler: Handler, *, types: Iterable[str] = ()) -> None:
        """Adds a handler for events of these types; without types, for all. An unknown type is a ValueError."""
        wanted = frozenset([types] if isinstance(types, str) else types)
        unknown = wanted - EVENT_TYPES - {UNKNOWN}
        if unknown:
            raise ValueError(
                f"No such event type: {', '.join(sorted(unknown))}. There are: {', '.join(sorted(EVENT_TYPES))}"
            )
        self._handlers.append((handler, wanted))

    def remove(self, handler: Handler) -> None:
        """Removes a handler, wherever it was added. One that is not there is ignored."""
        self._handlers = [entry for entry in self._handlers if entry[0] != handler]

    def __call__(self, event: Event) -> None:
        """Tells the handlers, in the order in which they were added. Coroutine functions are a TypeError here."""
        if self.needs_loop:
            raise TypeError("A handler is a coroutine function: use `await callback.send(event)` or stepwire.aio.")
        for handler in self._wanting(event):
            try:
                handler(event)
            except Exception:
                _log_failure(handler, event)

    async def send(self, event: Event) -> None:
        """Tells the handlers, one after the other, and waits for those that are coroutine functions."""
        for handler in self._wanting(event):
            try:
                answer = handler(event)
                if inspect.isawaitable(answer):
                    await answer
            except Exception:
                _log_failure(handler, event)

    def _wanting(self, event: Event) -> list[Handler]:
        kind = event_type(event)
        return [handler for handler, wanted in self._handlers if not wanted or kind in wanted]


def _is_async(handler: Handler) -> bool:
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(getattr(handler, "__call__", None))  # noqa: B004


def _log_failure(handler: Handler, event: Event) -> None:
    _log.exception("The handler %r failed at event %s/%d", handler, event.execution_id, event.sequence)
