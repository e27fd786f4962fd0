"""How a stream of many executions outlives its connections: a state machine, driven as the one in `resume`.

What is different from a stream of one execution:

1.  The cursor is a position. It is moved when all events of its message, and of those before it, were processed.
2.  A position may lag behind what was sent. So after a lost connection events may come again: each execution's last
    sequence is kept, and what is not above it is dropped. It is kept for the executions that have not ended, and for
    the last few thousand that have: more can't come again.
3.  A snapshot that comes without events and without a position says where an execution stands; what follows begins
    after it. Where the connection is lost before there is a position, all snapshots come anew.
4.  A hole in an execution's events is refused, as there: the call is ended, and another goes on from the position.
5.  The stream never ends, unless it is of executions that were named: then OK ends it once all of them that it told of
    have ended.
6.  There is no polling: where streams do not come through, it gives up as without a connection.
"""

from __future__ import annotations

import enum
from collections import Counter, OrderedDict, deque
from collections.abc import Callable

from google.protobuf.message import Message

from stepwire.errors import Draining, StepwireError, StreamBroken
from stepwire.events import has_ended, is_terminal
from stepwire.listening import Listening
from stepwire.patience import Budget, Patience, backoff, can_pass, silence
from stepwire.steps import Finish, Open, Outage, Read, Refuse, Step
from stepwire.v1.event_pb2 import Event
from stepwire.v1.execution_pb2 import EventBatch, Execution

__all__ = ["WideResumption"]

_ENDED_KEPT = 4096
"""Executions that have ended and might come again. What lies behind a position is at most 2,048 events."""


class _State(enum.Enum):
    TO_OPEN = enum.auto()
    READING = enum.auto()
    FINISHED = enum.auto()
    BROKEN = enum.auto()


class WideResumption:
    """One stream of many executions' events. Not safe across threads.

    Begins after `after_position`, or with None at the server's present. `named`: the executions are named one by one.
    `opening` is the seconds that the first message of a call may take. `random` gives 0 to 1.
    """

    def __init__(
        self,
        *,
        after_position: int | None = None,
        named: bool = False,
        filtered: bool = False,
        heartbeat: float,
        opening: float = 10.0,
        patience: Patience,
        random: Callable[[], float],
    ) -> None:
        self.executions: dict[str, Execution] = {}
        """What is known of the executions that were told of and whose end was not given yet. Those that were named and
        had ended before stay."""
        self.ends: Counter[int] = Counter()
        """How many have left `executions` because their end was given, by state."""
        self.outage: Outage | None = None
        """Set from the loss of a connection to the first message over the next one. None before the first message."""
        self._named = named
        self._filtered = filtered
        self._silence = 2.0 * heartbeat + 1.0
        self._opening = opening
        self._patience = patience
        self._random = random

        self._state = _State.TO_OPEN
        self._pending: deque[Event | int] = deque()  # events, and the positions that all before them lead to
        self._reached = after_position  # all up to here was received
        self._position = after_position  # all up to here was processed
        self._given: Event | None = None
        self._sequences: dict[str, int] = {}  # the last event that was received of each that has not ended
        self._ended: OrderedDict[str, int] = OrderedDict()  # the same of those that have, the last ones
        self._welcomed = False
        self._caught_up = False  # over this call
        self._listening = Listening()
        self._open_at = 0.0
        self._fresh = False
        self._budget = Budget(patience)
        self._drains = 0
        self._error: StepwireError | None = None

    @property
    def position(self) -> int | None:
        """All events up to here were processed. None: there is no position yet."""
        return self._position

    @property
    def reached(self) -> int | None:
        """What the next call goes on after. None: at the server's present."""
        return self._reached

    @property
    def has_begun(self) -> bool:
        """True once a message has come, and it is known where the stream began."""
        return self._welcomed and self._reached is not None

    def take(self) -> Event | None:
        """Returns the next event, or None where `step` must be asked. The one before it counts as processed."""
        if self._given is not None:
            if is_terminal(self._given):
                self.executions.pop(self._given.execution_id, None)
                self.ends[self._given.execution_state] += 1
            self._given = None
        while self._pending:
            item = self._pending.popleft()
            if isinstance(item, Event):
                self._given = item
                self._note(item)
                return item
            self._position = item
        return None

    def step(self, now: float) -> Step:
        """Returns what to do next. `now` is in seconds of any clock that never goes back."""
        spent = self._budget.come_back(now, resuming=self._welcomed)
        if spent and self._state is _State.TO_OPEN:
            self._give_up(self._budget.error or silence())
        match self._state:
            case _State.TO_OPEN:
                wait = max(0.0, self._open_at - now)
                return Open(
                    execute=False, after_sequence=0, wait=wait, fresh=self._fresh, wait_for_ready=self._welcomed
                )
            case _State.READING:
                return Read(seconds=self._listening.left(now))
            case _State.FINISHED:
                return Finish()
            case _State.BROKEN:
                assert self._error is not None
                return Refuse(error=self._error)

    def opened(self, now: float) -> None:
        """Takes note that the call that `step` asked for is under way."""
        assert self._state is _State.TO_OPEN, self._state
        self._fresh = self._caught_up = False
        self._budget.asked(now)
        self._state = _State.READING
        self._listening.expect(now, within=self._opening)

    def suspend(self, since: float) -> None:
        """Takes note that the call was ended from our side, at `since`. Asked again, the stream goes on there."""
        self._budget.leave(since)
        if self._state is _State.READING:
            self._state = _State.TO_OPEN
            self._open_at = 0.0

    def received(self, message: Message, now: float) -> None:
        """Takes a message."""
        assert self._state is _State.READING, self._state
        assert isinstance(message, EventBatch)
        self._budget.answered()
        self._listening.expect(now, within=self._silence)
        if not self._welcomed:
            self._welcomed = True
            self._refill()
        self.outage = None
        hole = self._accept(message) if message.execution_id else ""
        if hole:
            self._again(self._broken(hole), now)
            return
        # A snapshot alone is no place to go on from: there may be others behind it.
        if message.position or message.events or not message.execution_id:
            self._reached = max(self._reached or 0, message.position)
            self._pending.append(self._reached)
        match message.notice:
            case EventBatch.NOTICE_CAUGHT_UP:
                self._caught_up = True
            case EventBatch.NOTICE_HEARTBEAT:
                self._refill()
            case EventBatch.NOTICE_DRAINING:
                self._again(None, now, fresh=True)

    def ended(self, error: StepwireError | None, now: float) -> None:
        """Takes the end of the call: its error, or None for OK."""
        if error is not None and not can_pass(error):
            self._break(error)
        elif error is not None:
            self._again(error, now, fresh=isinstance(error, Draining))
        elif self._named and self._caught_up and not self._sequences:
            self._state = _State.FINISHED
            self.outage = None
        else:
            self._again(self._broken("The stream ended before what it tells of did"), now)

    def silent(self, now: float) -> None:
        """Takes note that nothing came in the time that `step` gave."""
        if self._listening.is_over(now):
            self._again(silence(), now, fresh=True)

    def _accept(self, batch: EventBatch) -> str:
        """Takes the snapshot and the events of a message. Returns what is wrong, or an empty string."""
        name = batch.execution_id
        if batch.HasField("execution"):
            if not batch.events and not batch.position:
                # Whatever was known, it stands here now.
                self._sequences.pop(name, None)
                if not has_ended(batch.execution) or batch.execution.as_of_sequence > batch.sequence:
                    self._sequences[name] = batch.sequence
                self.executions[name] = batch.execution
                return ""
            if name not in self._ended:
                self.executions.setdefault(name, batch.execution)
        known = self._ended.get(name, self._sequences.get(name, batch.after_sequence))
        if batch.after_sequence > known:
            return f"Events {known + 1} to {batch.after_sequence} of {name} are missing"
        accepted = known
        for event in batch.events:
            if event.sequence <= accepted:
                continue
            if event.sequence > batch.sequence or (not self._filtered and event.sequence != accepted + 1):
                return f"Event {accepted + 1} of {name} is missing"
            if name in self._ended:
                return f"Event {event.sequence} of {name} came after its terminal one"
            self._pending.append(event)
            accepted = event.sequence
            self._sequences[name] = accepted
            if is_terminal(event):
                del self._sequences[name]
                self._ended[name] = accepted
        while len(self._ended) > _ENDED_KEPT:
            self._ended.popitem(last=False)
        if name in self._ended:
            return ""
        if accepted < batch.sequence and not self._filtered:
            return f"Events {accepted + 1} to {batch.sequence} of {name} are missing"
        self._sequences[name] = max(accepted, batch.sequence)
        if accepted > known:
            self._refill()
        return ""

    def _note(self, event: Event) -> None:
        """Brings what is known of an execution up to an event."""
        execution = self.executions.setdefault(event.execution_id, Execution(execution_id=event.execution_id))
        execution.state = event.execution_state
        execution.progress.CopyFrom(event.progress)
        execution.as_of_sequence = event.sequence

    def _refill(self) -> None:
        self._budget.refill()
        self._drains = 0

    def _again(self, error: StepwireError | None, now: float, *, fresh: bool = False) -> None:
        """Opens again: after a failure within the budget, or without one when asked to move on."""
        if error is None:
            self._drains += 1
            delay = 0.0
        else:
            self._budget.failed(error, now)
            delay = error.retry_after.total_seconds() if error.retry_after is not None else 0.0
        if error is not None or self._drains > 1:
            delay += backoff(self._budget.failures + self._drains, patience=self._patience, random=self._random)
        if error is not None and self._budget.is_spent(now + delay, resuming=self._welcomed):
            self._give_up(error)
            return
        if self._welcomed and self.outage is None:
            self.outage = Outage(since=now, draining=error is None or isinstance(error, Draining))
        self._state = _State.TO_OPEN
        self._open_at = now + delay
        self._fresh = self._fresh or fresh

    def _give_up(self, error: StepwireError) -> None:
        if self._welcomed:
            failures = self._budget.failures
            after = f" after {failures} failures in a row" if failures else ""
            spent = self._broken(f"Gave up{after}: {error.message}")
            spent.__cause__ = error
            error = spent
        self._break(error)

    def _broken(self, text: str) -> StreamBroken:
        where = "" if self._reached is None else f" (position {self._reached})"
        return StreamBroken(text + where, execution_id="", sequence=0)

    def _break(self, error: StepwireError) -> None:
        self._error = error
        self._state = _State.BROKEN
