"""How a stream of events outlives its connections: a state machine without IO, without a clock and without threads.

Both clients drive it in the same way. `take` gives the next event; when it gives none, `step` says what to do, and what
came of it is told with `opened`, `received`, `ended` or `silent`:

    event = resumption.take()
    while event is None:
        match resumption.step(now):
            case Open():      end the old call; wait; open Execute or WatchExecution; resumption.opened(now)
            case Ask():       end the old call; wait; make that unary call; resumption.opened(now)
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
6.  DRAINING opens again on a new connection, and is no failure. The first time at once, then with back-off. As a status
    it is a failure, and needs a new connection, too: behind the old one there is the server that goes.
7.  A status that can pass (see `can_pass`) opens again with back-off: full jitter, doubled each time.
8.  Before the first message Execute is opened, with a request id that makes it safe to send again; after it
    WatchExecution.
9.  Two budgets, one for the start and one for resuming. A new event or a heartbeat fills them again: a heartbeat comes
    only over a call that has been healthy for a whole interval, and a quiet execution may be quiet for days. The time
    in which nobody asks is not counted; a reader that is interrupted again and again before anything comes gives up.
10. A call that says nothing for two heartbeat intervals and a second is dead, if it was listened to (`listening`).
11. An event of an unknown kind is an event.
12. At the start a call fails at once where there is no connection, and says why. Later it waits for the connection, so
    long as it may take to begin: two back-offs, ours and the connection's, would add up.
13. Where streams do not come through (`fallback` decides), pages of events are asked for instead. They are messages
    like those of a stream: all of this holds for them too. Execute is then StartExecution, with the same request id.

               opened                   terminal event            OK, or silence
    TO_OPEN ------------> READING ------------------------> ENDING --------------> FINISHED
     ^   |                 |    |                             |                      ^
     |   |                 |    '-----------------------------'-------> BROKEN       |
     |<--|-----------------'     refused, budget spent, contract broken   ^          |
     |   | lost, within budget                                            |          |
     |   '----------> ASKING ---------------------------------------------'----------'
     '------------------'        refused, budget spent, contract broken; terminal event
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable
from typing import Literal

from google.protobuf.message import Message
from google.rpc import code_pb2

from stepwire.errors import CallFailed, Draining, StepwireError, StreamBroken
from stepwire.events import TERMINAL, has_ended
from stepwire.fallback import Delivery, Fallback
from stepwire.listening import Listening
from stepwire.patience import Budget, Patience, backoff, can_pass, silence
from stepwire.progress import are_plain
from stepwire.steps import Ask, Finish, Open, Outage, Read, Refuse, Step
from stepwire.v1.event_pb2 import Event
from stepwire.v1.execution_pb2 import EventBatch, Execution
from stepwire.v1.execution_service_pb2 import StartExecutionResponse, WaitExecutionResponse

__all__ = ["DEFAULT_HEARTBEAT", "Resumption"]

DEFAULT_HEARTBEAT = 15.0
"""Seconds after which the server says that it lives, where the request does not say otherwise."""

_END_OF_CALL = 1.0
"""Seconds that the status may take after the terminal event, and after a deadline. Nothing depends on it any more."""


class _State(enum.Enum):
    TO_OPEN = enum.auto()
    READING = enum.auto()
    ASKING = enum.auto()
    ENDING = enum.auto()
    FINISHED = enum.auto()
    BROKEN = enum.auto()


class Resumption:
    """One stream of one execution's events. Not safe across threads.

    Without `execution_id` it begins with Execute, with one it begins with WatchExecution after `after_sequence`.
    `opening` is the seconds that the first message of a call may take. `random` gives 0 to 1.
    """

    def __init__(
        self,
        *,
        execution_id: str = "",
        after_sequence: int = 0,
        filtered: bool = False,
        heartbeat: float = DEFAULT_HEARTBEAT,
        opening: float = 10.0,
        delivery: Delivery = "auto",
        patience: Patience,
        random: Callable[[], float],
    ) -> None:
        self.execution_id = execution_id
        """The execution. Empty until Execute's first message has come."""
        self.execution: Execution | None = None
        """The newest snapshot that a stream began with."""
        self.terminal: Event | None = None
        """The event that ended the execution, once it has been received."""
        self.plain = False
        """Whether the events that `take` gives until the next message are plain (`progress.are_plain`)."""
        self.outage: Outage | None = None
        """Set from the loss of a connection to the first message over the next one, and while there is nothing but
        polling. None before the first message."""
        self._filtered = filtered
        self._silence = 2.0 * heartbeat + 1.0
        self._opening = opening
        self._patience = patience
        self._random = random
        self._fallback = Fallback(delivery, heartbeat=heartbeat, patience=patience)

        self._state = _State.TO_OPEN
        self._pending: deque[Event] = deque()
        self._accepted = after_sequence  # everything up to here has been received, without a hole
        self._given = after_sequence  # the last event that `take` gave
        self._cursor = after_sequence  # the last event that was processed
        self._welcomed = False  # a first message came, once, over any call
        self._listening = Listening()  # while READING, ASKING or ENDING
        self._open_at = 0.0
        self._fresh = False
        self._budget = Budget(patience)
        self._drains = 0
        self._error: StepwireError | None = None

        self._wait = 0.0  # the seconds of the WaitExecution to ask for; 0: a page is asked for
        self._asked_at = 0.0
        self._answer: Message | None = None
        self._polling_since: float | None = None

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

    def untake(self, event: Event) -> None:
        """Puts back the event that `take` gave last: the caller did not get it."""
        self._pending.appendleft(event)
        self._given = self._cursor
        self.plain = False  # It comes twice.

    def step(self, now: float) -> Step:
        """Returns what to do next. `now` is in seconds of any clock that never goes back."""
        spent = self._budget.come_back(now, resuming=self._welcomed)
        if spent and self._state is _State.TO_OPEN:
            self._give_up(self._budget.error or silence())
        match self._state:
            case _State.TO_OPEN if self._fallback.asks:
                return self._question(now)
            case _State.TO_OPEN:
                return Open(
                    execute=not self.execution_id,
                    after_sequence=self._accepted,
                    wait=max(0.0, self._open_at - now),
                    fresh=self._fresh,
                    wait_for_ready=self._welcomed,
                )
            case _State.READING | _State.ASKING | _State.ENDING:
                return Read(seconds=self._listening.left(now))
            case _State.FINISHED:
                return Finish()
            case _State.BROKEN:
                assert self._error is not None
                return Refuse(error=self._error)

    def opened(self, now: float) -> None:
        """Takes note that the call that `step` asked for is under way."""
        assert self._state is _State.TO_OPEN, self._state
        self._fresh = False
        self._budget.asked(now)
        if self._fallback.asks:
            self._state = _State.ASKING
            self._asked_at, self._answer = now, None
            # The call's own deadline comes first.
            self._listening.expect(now, within=self._wait + self._opening + _END_OF_CALL)
        else:
            self._state = _State.READING
            self._listening.expect(now, within=self._fallback.opening(self._opening))
            self._fallback.opened(now)

    def suspend(self, since: float) -> None:
        """Takes note that the call was ended from our side, at `since`. Asked again, the stream goes on where it was.

        Failures before still count; the time in which nobody asked does not.
        """
        self._budget.leave(since)
        if self._state in (_State.READING, _State.ASKING):
            if self._wait:
                self._wait = max(0.0, self._asked_at + self._wait - since)
            self._state = _State.TO_OPEN
            self._open_at = 0.0
        elif self._state is _State.ENDING:
            self._state = _State.FINISHED

    def received(self, message: Message, now: float) -> None:
        """Takes a message."""
        assert self._state in (_State.READING, _State.ASKING, _State.ENDING), self._state
        self._budget.answered()
        if self._state is _State.ASKING:
            self._answer = message
            return
        assert isinstance(message, EventBatch)
        if self._state is _State.ENDING:
            if any(event.sequence > self._accepted for event in message.events):
                self._break(self._broken("The server sent an event after the terminal one"))
            return
        self._listening.expect(now, within=self._silence)
        if self._take_in(message, now):
            if self.terminal is not None:
                self._state = _State.ENDING
                self._listening.expect(now, within=_END_OF_CALL)
            elif message.notice == EventBatch.NOTICE_DRAINING:
                self._again(None, now, fresh=True)
            elif message.notice == EventBatch.NOTICE_HEARTBEAT:
                self._refill()
        self._note_contact()

    def _note_contact(self) -> None:
        """Ends the outage, unless the message itself is why another connection is needed, or has yet to be believed."""
        if self._state is not _State.TO_OPEN and (self._fallback.chosen or not self._fallback.polls):
            self.outage = self._polling_since = None

    def _take_in(self, batch: EventBatch, now: float) -> bool:
        """Takes the events of a message. Returns False where it is not as it must be."""
        state, before = self._state, self._accepted
        if not self._welcome(batch, now):
            return False
        hole = self._accept(batch)
        if state is _State.READING:
            heartbeat = batch.notice == EventBatch.NOTICE_HEARTBEAT and not hole
            self._fallback.heard(now, news=self._accepted > before, heartbeat=heartbeat)
        if self._state is state and hole and self.terminal is None:
            self._lose(self._broken(hole), now)
        return self._state is state

    def ended(self, error: StepwireError | None, now: float) -> None:
        """Takes the end of the call: its error, or None for OK."""
        if self._state is _State.ASKING:
            self._close_question(error, now)
        elif self._state is _State.ENDING:
            self._state = _State.FINISHED
        elif error is not None and not can_pass(error) and not self._fallback.refuses(error):
            self._break(error)
        elif error is not None:
            self._lose(error, now)
        elif self._has_nothing_left():
            self._state = _State.FINISHED
            self.outage = None
        else:
            self._lose(self._broken("The stream ended before the execution did"), now)

    def silent(self, now: float) -> None:
        """Takes note that nothing came in the time that `step` gave."""
        error = silence()
        if self._state is _State.ENDING:
            self._state = _State.FINISHED
        elif not self._listening.is_over(now):
            return
        elif self._state is _State.ASKING:
            self._close_question(error, now)
        else:
            self._lose(error, now, silent=True)

    # -- questions

    def _question(self, now: float) -> Ask:
        reading: Literal["ListEvents", "WaitExecution"] = "WaitExecution" if self._wait else "ListEvents"
        return Ask(
            method=reading if self.execution_id else "StartExecution",
            after_sequence=self._accepted,
            wait=max(0.0, self._open_at - now),
            fresh=self._fresh,
            wait_for_ready=self._welcomed,
            timeout=self._wait,
            page_size=self._fallback.page_size,
            limit=self._wait + self._opening,
        )

    def _close_question(self, error: StepwireError | None, now: float) -> None:
        """Takes what a question has brought."""
        waited, self._wait = self._wait, 0.0
        answer, self._answer = self._answer, None
        if error is None and answer is None:
            error = CallFailed("The server ended the call without an answer", status_code=code_pb2.INTERNAL)
        if error is not None and waited:
            # Whether the server is there, and the execution, the page will say.
            self._fallback.cut_short(now, after=now - self._asked_at)
            self._ask_again(self._asked_at + waited)
        elif error is not None and not can_pass(error):
            self._break(error)
        elif error is not None:
            self._fallback.unanswered()
            self._polling_since = None
            late = isinstance(error, CallFailed) and error.status_code == code_pb2.DEADLINE_EXCEEDED
            if late and self.execution_id:
                self._fallback.page_late()
            self._again(error, now, fresh=late or isinstance(error, Draining), unanswered=True)
        elif isinstance(answer, WaitExecutionResponse):
            self._take_wait(answer.execution, waited, now)
        elif isinstance(answer, StartExecutionResponse):
            if self._welcome(EventBatch(execution=answer.execution), now):
                self._ask_again(now)
        elif isinstance(answer, EventBatch):
            self._take_page(answer, now)

    def _take_wait(self, execution: Execution, waited: float, now: float) -> None:
        self._note_answer(now, news=False)
        if has_ended(execution) or execution.as_of_sequence > self._accepted:
            self._ask_again(now)
        else:
            self._pause(max(now, self._asked_at + waited))

    def _take_page(self, page: EventBatch, now: float) -> None:
        before = self._accepted
        if not self._take_in(page, now):
            return
        self._fallback.page_came(after=now - self._asked_at, limit=self._opening)
        self._note_answer(now, news=self._accepted > before)
        if self.terminal is not None or self._has_nothing_left():
            self._state = _State.FINISHED
            self._note_contact()
        elif self._accepted > before and page.execution.as_of_sequence != self._accepted:
            self._ask_again(now)
        else:
            self._pause(now)

    def _note_answer(self, now: float, *, news: bool) -> None:
        self._fallback.answered(now, news=news)
        if not self._fallback.polls:
            return
        self._refill()
        if self._fallback.chosen:
            self.outage = None
        else:
            if self._polling_since is None:
                self._polling_since = now
            self.outage = Outage(since=self._polling_since, draining=False, polling=True)

    def _pause(self, now: float) -> None:
        """Goes on with a pause, which is a WaitExecution where that can be had and does not return at once."""
        if not self._fallback.asks:
            self._ask_again(now)
            return
        pause = self._fallback.pause()
        over = self.execution is not None and has_ended(self.execution)
        self._wait = 0.0 if over else min(pause, self._fallback.longest_wait)
        self._ask_again(now if self._wait else now + pause)

    def _ask_again(self, at: float) -> None:
        """Goes on with the next call, which need not be a question."""
        self._state = _State.TO_OPEN
        self._open_at = at

    # -- messages

    def _welcome(self, batch: EventBatch, now: float) -> bool:
        """Takes what a call's first message says about the execution. Returns whether to go on with the message."""
        if batch.HasField("execution"):
            told = batch.execution.execution_id
            self.execution = batch.execution
        else:
            told = batch.events[0].execution_id if batch.events else self.execution_id
        if not told:
            self._lose(self._broken("The server did not say which execution the stream is about"), now)
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
        events = list(batch.events)
        # So it is with most messages, and it is seen in half the time.
        usual = are_plain(events, first=accepted + 1, last=batch.sequence)
        self.plain = usual and (self.plain or not self._pending)
        if usual:
            self._pending.extend(events)
            self._accepted = batch.sequence
            self._refill()
            return ""
        hole = ""
        dense = not self._filtered
        last = batch.sequence
        for event in events:
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
            if event.WhichOneof("kind") in TERMINAL:
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
        self._budget.refill()
        self._drains = 0

    def _lose(self, error: StepwireError, now: float, *, silent: bool = False) -> None:
        """Takes note that a call failed in a way that can pass, and opens again."""
        if self._state is _State.READING:
            self._fallback.lost(error, now, silent=silent)
        self._again(error, now, fresh=silent or isinstance(error, Draining))

    def _again(self, error: StepwireError | None, now: float, *, fresh: bool = False, unanswered: bool = False) -> None:
        """Opens again: after a failure within the budget, or without one when asked to move on."""
        patience = self._patience
        if error is None:
            self._drains += 1
            delay = 0.0
        else:
            self._budget.failed(error, now)
            delay = error.retry_after.total_seconds() if error.retry_after is not None else 0.0
        if error is not None or self._drains > 1:
            delay += backoff(self._budget.failures + self._drains, patience=patience, random=self._random)
        if error is not None and self._budget.is_spent(now + delay, resuming=self._welcomed):
            self._give_up(error)
            return
        # Set at once to what it is now: others read it meanwhile, and None would tell them that all is well.
        if self._welcomed and (self.outage is None or (unanswered and self.outage.polling)):
            self.outage = Outage(since=now, draining=error is None or isinstance(error, Draining))
        self._state = _State.TO_OPEN
        self._open_at = now + delay
        self._fresh = self._fresh or fresh

    def _give_up(self, error: StepwireError) -> None:
        if not self._welcomed:
            self._break(error)
            return
        failures = self._budget.failures
        after = f" after {failures} failures in a row" if failures else ""
        spent = self._broken(f"Gave up{after}: {error.message}")
        spent.__cause__ = error
        self._break(spent)

    def _broken(self, text: str) -> StreamBroken:
        return StreamBroken(text, execution_id=self.execution_id, sequence=self._accepted)

    def _break(self, error: StepwireError) -> None:
        self._error = error
        self._state = _State.BROKEN
