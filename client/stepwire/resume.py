"""How a stream of events outlives its connections: a state machine without IO, without a clock and without threads.

Both clients drive it in the same way. `take` gives the next event; when it gives none, `step` says what to do, and what
came of it is told with `opened`, `received`, `ended` or `silent`:

    event = resumption.take()
    while event is None:
        match resumption.step(now):
            case Open():      end the old call; wait; open Execute or WatchExecution; resumption.opened(now)
            case Read():      wait for a message at most so long; received, ended or silent
            case Finish():    the stream is over
            case Refuse():    raise its error
        event = resumption.take()

The rules:

1.  The cursor is the last event that the caller has processed, which it says by asking for the next. What was received
    and not yet asked for does not move it.
2.  An event at or below the last accepted one is a duplicate and is dropped.
3.  A hole is refused: what came before it is given, the call is ended, and another is opened from the cursor. Without
    a filter each event is checked, with one only the ranges that the messages say they cover.
4.  The terminal event ends the stream. An event after it breaks the contract and is raised.
5.  A call that ends OK without the terminal event is opened again, unless its snapshot says that the execution ended
    at or before the cursor: then there is nothing left to give.
6.  DRAINING opens again on a new connection, and is no failure. The first time at once, then with back-off.
7.  A status that can pass (see `can_pass`) opens again with back-off: full jitter, doubled each time.
8.  Before the first message Execute is opened, with a request id that makes it safe to send again; after it
    WatchExecution.
9.  Two budgets, one for the start and one for resuming. A new event or a heartbeat fills them again: a heartbeat comes
    only over a call that has been healthy for a whole interval, and a quiet execution may be quiet for days.
10. A call that says nothing for two heartbeat intervals and a second is dead.
11. An event of an unknown kind is an event.

               opened                   terminal event            OK, or silence
    TO_OPEN ------------> READING ------------------------> ENDING --------------> FINISHED
       ^                   |    |                             |
       '-------------------'    '-----------------------------'-------------------> BROKEN
        lost, within budget      refused, budget spent, contract broken
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from google.rpc import code_pb2

from stepwire.errors import CallFailed, Draining, LimitReached, StepwireError, StreamBroken, Unavailable
from stepwire.events import has_ended, is_terminal
from stepwire.v1.event_pb2 import Event
from stepwire.v1.execution_pb2 import EventBatch, Execution

__all__ = [
    "DEFAULT_HEARTBEAT",
    "Finish",
    "Open",
    "Outage",
    "Patience",
    "Read",
    "Refuse",
    "Resumption",
    "Step",
    "backoff",
    "can_pass",
    "pause_before",
]

DEFAULT_HEARTBEAT = 15.0
"""Seconds after which the server says that it lives, where the request does not say otherwise."""

_END_OF_CALL = 1.0
"""Seconds that the status may take after the terminal event. Nothing depends on it any more."""

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
    return pause if passing and failures < patience.start_failures and pause < left else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """A stream that has begun and is without its connection now. It is tried again until the patience is spent."""

    since: float
    """When it was lost, by `time.monotonic`."""
    draining: bool
    """True: the server said that it is going. False: the connection was lost."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """Wait for the next message."""

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


Step = Open | Read | Finish | Refuse


class _State(enum.Enum):
    TO_OPEN = enum.auto()
    READING = enum.auto()
    ENDING = enum.auto()
    FINISHED = enum.auto()
    BROKEN = enum.auto()


class Resumption:
    """One stream of one execution's events. Not safe across threads.

    Without `execution_id` it begins with Execute, with one it begins with WatchExecution after `after_sequence`.
    `silence` is the seconds after which a call that says nothing is dead, `opening` the same for its first message.
    `random` gives 0 to 1.
    """

    def __init__(
        self,
        *,
        execution_id: str = "",
        after_sequence: int = 0,
        filtered: bool = False,
        heartbeat: float = DEFAULT_HEARTBEAT,
        opening: float = 10.0,
        patience: Patience,
        random: Callable[[], float],
    ) -> None:
        self.execution_id = execution_id
        """The execution. Empty until Execute's first message has come."""
        self.execution: Execution | None = None
        """The newest snapshot that a stream began with."""
        self.terminal: Event | None = None
        """The event that ended the execution, once it has been received."""
        self.outage: Outage | None = None
        """Set from the loss of a connection to the first message over the next one. None before the first message."""
        self._filtered = filtered
        self._silence = 2.0 * heartbeat + 1.0
        self._opening = opening
        self._patience = patience
        self._random = random

        self._state = _State.TO_OPEN
        self._pending: deque[Event] = deque()
        self._accepted = after_sequence  # everything up to here has been received, without a hole
        self._given = after_sequence  # the last event that `take` gave
        self._cursor = after_sequence  # the last event that was processed
        self._welcomed = False  # a first message came, once, over any call
        self._deadline = 0.0  # when silence begins, while READING or ENDING
        self._open_at = 0.0
        self._fresh = False
        self._failures = 0
        self._drains = 0
        self._failing_since = 0.0
        self._error: StepwireError | None = None

    @property
    def sequence(self) -> int:
        """The cursor: the last event that the caller has processed. Watch on after this."""
        return self._cursor

    @property
    def welcomed(self) -> bool:
        """True once a first message has come, over any call."""
        return self._welcomed

    def take(self) -> Event | None:
        """Returns the next event, or None where `step` must be asked. The one before it counts as processed."""
        if self._pending:
            event = self._pending.popleft()
            self._cursor = self._given
            self._given = event.sequence
            return event
        # All is processed, and what a filter left out of the end of the last message with it.
        self._cursor = self._given = self._accepted
        return None

    def step(self, now: float) -> Step:
        """Returns what to do next. `now` is in seconds of any clock that never goes back."""
        match self._state:
            case _State.TO_OPEN:
                return Open(
                    execute=not self.execution_id,
                    after_sequence=self._accepted,
                    wait=max(0.0, self._open_at - now),
                    fresh=self._fresh,
                )
            case _State.READING | _State.ENDING:
                return Read(seconds=max(0.0, self._deadline - now))
            case _State.FINISHED:
                return Finish()
            case _State.BROKEN:
                assert self._error is not None
                return Refuse(error=self._error)

    def opened(self, now: float) -> None:
        """Takes note that the call that `step` asked for is under way."""
        assert self._state is _State.TO_OPEN, self._state
        self._state = _State.READING
        self._fresh = False
        self._deadline = now + self._opening

    def suspend(self) -> None:
        """Takes note that the call was ended from our side. Asked again, the stream goes on where it was."""
        if self._state is _State.READING:
            self._state = _State.TO_OPEN
            self._open_at = 0.0
        elif self._state is _State.ENDING:
            self._state = _State.FINISHED

    def received(self, batch: EventBatch, now: float) -> None:
        """Takes a message."""
        assert self._state in (_State.READING, _State.ENDING), self._state
        if self._state is _State.ENDING:
            if any(event.sequence > self._accepted for event in batch.events):
                self._break(self._broken("The server sent an event after the terminal one"))
            return
        self._deadline = now + self._silence
        self._take_in(batch, now)
        self._note_contact()

    def _note_contact(self) -> None:
        """Ends the outage, unless the message itself is why another connection is needed."""
        if self._state is not _State.TO_OPEN:
            self.outage = None

    def _take_in(self, batch: EventBatch, now: float) -> None:
        if not self._welcome(batch, now):
            return
        hole = self._accept(batch)
        if self._state is not _State.READING:
            return
        if hole:
            self._again(self._broken(hole), now)
        elif batch.notice == EventBatch.NOTICE_DRAINING:
            self._again(None, now, fresh=True)
        elif batch.notice == EventBatch.NOTICE_HEARTBEAT:
            self._refill()
        if self.terminal is not None:
            self._state = _State.ENDING
            self._deadline = now + _END_OF_CALL

    def ended(self, error: StepwireError | None, now: float) -> None:
        """Takes the end of the call: its error, or None for OK."""
        if self._state is _State.ENDING:
            self._state = _State.FINISHED
        elif error is not None and not can_pass(error):
            self._break(error)
        elif error is not None:
            self._again(error, now)
        elif self._has_nothing_left():
            self._state = _State.FINISHED
            self.outage = None
        else:
            self._again(self._broken("The stream ended before the execution did"), now)

    def silent(self, now: float) -> None:
        """Takes note that nothing came in the time that `step` gave."""
        if self._state is _State.ENDING:
            self._state = _State.FINISHED
        else:
            text = "The server was silent for too long"
            self._again(CallFailed(text, status_code=code_pb2.DEADLINE_EXCEEDED), now, fresh=True)

    def _welcome(self, batch: EventBatch, now: float) -> bool:
        """Takes what a call's first message says about the execution. Returns whether to go on with the message."""
        if batch.HasField("execution"):
            told = batch.execution.execution_id
            self.execution = batch.execution
        else:
            told = batch.events[0].execution_id if batch.events else self.execution_id
        if not told:
            self._again(self._broken("The server did not say which execution the stream is about"), now)
            return False
        if self.execution_id and told != self.execution_id:
            self._break(self._broken(f"The server sent events of {told}"))
            return False
        if not self._welcomed:
            self._welcomed = True
            self._refill()
        self.execution_id = told
        return True

    def _accept(self, batch: EventBatch) -> str:
        """Takes the events of a message up to the first hole. Returns what is wrong, or an empty string."""
        accepted = before = self._accepted
        if batch.after_sequence > accepted:
            return f"Events {accepted + 1} to {batch.after_sequence} are missing"
        hole = ""
        dense = not self._filtered
        last = batch.sequence
        for event in batch.events:
            sequence = event.sequence
            if sequence <= accepted:
                continue
            if self.terminal is not None:
                self._break(self._broken("The server sent an event after the terminal one"))
                break
            if (dense and sequence != accepted + 1) or sequence > last:
                hole = f"Event {accepted + 1} is missing" if sequence <= last else f"Event {sequence} is out of place"
                break
            self._pending.append(event)
            accepted = sequence
            if is_terminal(event):
                self.terminal = event
        else:
            if dense and accepted < last:
                hole = f"Events {accepted + 1} to {last} are missing"
            elif last > accepted:
                accepted = last
        self._accepted = accepted
        if accepted > before:
            self._refill()
        return hole

    def _has_nothing_left(self) -> bool:
        snapshot = self.execution
        return snapshot is not None and has_ended(snapshot) and snapshot.as_of_sequence <= self._accepted

    def _refill(self) -> None:
        self._failures = 0
        self._drains = 0

    def _again(self, error: StepwireError | None, now: float, *, fresh: bool = False) -> None:
        """Opens again: after a failure within the budget, or without one when asked to move on."""
        patience = self._patience
        if error is None:
            self._drains += 1
            delay = 0.0
        else:
            if not self._failures:
                self._failing_since = now
            self._failures += 1
            delay = error.retry_after.total_seconds() if error.retry_after is not None else 0.0
        if error is not None or self._drains > 1:
            delay += backoff(self._failures + self._drains, patience=patience, random=self._random)
        if error is not None:
            failures, seconds = (
                (patience.resume_failures, patience.resume_seconds)
                if self._welcomed
                else (patience.start_failures, patience.start_seconds)
            )
            if self._failures >= failures or now + delay - self._failing_since > seconds:
                self._give_up(error)
                return
        if self._welcomed and self.outage is None:
            self.outage = Outage(since=now, draining=error is None or isinstance(error, Draining))
        self._state = _State.TO_OPEN
        self._open_at = now + delay
        self._fresh = self._fresh or fresh

    def _give_up(self, error: StepwireError) -> None:
        if not self._welcomed:
            self._break(error)
            return
        spent = self._broken(f"Gave up after {self._failures} failures in a row: {error.message}")
        spent.__cause__ = error
        self._break(spent)

    def _broken(self, text: str) -> StreamBroken:
        return StreamBroken(text, execution_id=self.execution_id, sequence=self._accepted)

    def _break(self, error: StepwireError) -> None:
        self._error = error
        self._state = _State.BROKEN
