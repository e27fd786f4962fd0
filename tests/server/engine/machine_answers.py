"""What the engine has to answer to the machine's callers, exactly: reckoned at the moment in which a call is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from google.protobuf import struct_pb2
from tests.faults.history import Kept, events_of
from tests.faults.pauses import halted

from stepwire.errors import (
    ExecutionEnded,
    ExecutionNotFound,
    InputInvalid,
    InputNotRequested,
    JournalUnavailable,
    RequestIdReused,
    StepwireError,
)
from stepwire.v1 import Event, ExecuteRequest, ExecutionState, InputReceived
from stepwire_server.engine.acceptance import normalised
from stepwire_server.engine.engine import Engine
from stepwire_server.journal import ENDED, ExecutionRecord

__all__ = ["Accepting", "Answers", "Controls"]

_E = ExecutionState
_CAN_PAUSE = (_E.EXECUTION_STATE_PENDING, _E.EXECUTION_STATE_PLANNING, _E.EXECUTION_STATE_RUNNING)
_KINDS = {"pause": "plan_paused", "resume": "plan_resumed"}


@dataclass(kw_only=True)
class _Asked:
    """One call that pauses or resumes."""

    word: str
    execution_id: str
    actor: str
    reason: str
    state: ExecutionState.ValueType | None = None
    """The execution's, when it was asked of its owner. None: this engine does not run it."""
    sequence: int = 0
    """Its last event then, durable or not."""

    @property
    def changes(self) -> bool:
        return self.state in _CAN_PAUSE if self.word == "pause" else self.state == _E.EXECUTION_STATE_PAUSED


class Controls:
    """Pauses and resumes, and what becomes of them. Every call has an actor of its own, by which its event is known."""

    def __init__(self, kept: Callable[[str], Kept], excused: Callable[[Engine], bool]) -> None:
        self._kept = kept
        self._excused = excused
        """Whether an engine may have lost its executions, so that it may answer that it does not run one."""
        self._asked: dict[str, _Asked] = {}
        self.counts = {"pauses": 0, "resumes": 0}

    async def ask(self, engine: Engine, word: str, execution_id: str) -> None:
        """Makes the call and judges its answer."""
        number = len(self._asked)
        asked = _Asked(word=word, execution_id=execution_id, actor=f"actor {number}", reason=f"reason {number % 3}")
        self._asked[asked.actor] = asked
        executor = engine._live.get(execution_id)
        record = engine.journal._records.get(execution_id)  # type: ignore[attr-defined]
        if executor is not None:
            # Up to its first wait the call runs at once, so that this is the state that it finds.
            asked.state, asked.sequence = executor.fold.state, executor.fold.sequence
        call = engine.pause if word == "pause" else engine.resume
        try:
            answer = await call(execution_id, actor=asked.actor, reason=asked.reason)
        except StepwireError as error:
            self._refused(engine, asked, record, error)
        else:
            self._accepted(asked, answer)

    def _refused(self, engine: Engine, asked: _Asked, record: ExecutionRecord | None, error: StepwireError) -> None:
        state = record.state if asked.state is None and record is not None else asked.state
        if record is None:
            assert isinstance(error, ExecutionNotFound), repr(error)
        elif isinstance(error, ExecutionEnded):
            assert state in ENDED or state == _E.EXECUTION_STATE_CANCELLING, (asked, repr(error))
            assert error.metadata["state"] == _E.Name(state).removeprefix("EXECUTION_STATE_"), (asked, repr(error))
            assert error.metadata["execution_id"] == asked.execution_id
            kept = self._kept(asked.execution_id)
            assert kept.last_sequence >= asked.sequence, ("told of an end that is not durable", asked)
        else:
            assert self._excused(engine), (asked, repr(error))

    def _accepted(self, asked: _Asked, record: ExecutionRecord) -> None:
        assert asked.state in (*_CAN_PAUSE, _E.EXECUTION_STATE_PAUSED), ("accepted", asked)
        assert record.execution_id == asked.execution_id
        kept = self._kept(asked.execution_id)
        events = events_of(kept)
        assert kept.last_sequence >= record.last_sequence >= asked.sequence + asked.changes, ("not durable", asked)
        if asked.changes:
            assert _is(events[asked.sequence], asked), ("it is not what was recorded", asked)
            self.counts[f"{asked.word}s"] += 1
        if record.state not in (*ENDED, _E.EXECUTION_STATE_CANCELLING):
            # Another call may have come between; but then the events say so.
            is_paused = halted(events[: record.last_sequence]) == "plan_paused"
            assert is_paused == (record.state == _E.EXECUTION_STATE_PAUSED), asked

    def judge(self, kept: Kept) -> None:
        """Holds an execution's pauses and resumes to those that were asked for, once, where that changed anything."""
        seen: set[str] = set()
        for event in events_of(kept):
            kind = event.WhichOneof("kind")
            if kind not in _KINDS.values():
                continue
            told = event.plan_paused if kind == "plan_paused" else event.plan_resumed
            asked = self._asked.get(told.actor)
            assert asked is not None, ("nobody asked for it", event)
            assert _is(event, asked), ("it is not what was asked for", asked, event)
            assert asked.execution_id == kept.execution_id, asked
            assert asked.changes, ("it changed nothing, and was recorded", asked, event)
            assert event.sequence == asked.sequence + 1, (asked, event)
            assert told.actor not in seen, ("recorded twice", asked)
            seen.add(told.actor)


def _is(event: Event, asked: _Asked) -> bool:
    if event.WhichOneof("kind") != _KINDS[asked.word]:
        return False
    told = event.plan_paused if asked.word == "pause" else event.plan_resumed
    return (told.actor, told.reason) == (asked.actor, asked.reason)


@dataclass(kw_only=True)
class _Given:
    """One call that answers a question."""

    execution_id: str
    input_id: str
    value: struct_pb2.Value
    actor: str
    runs: bool = False
    """Whether the engine runs the execution."""
    expected: type[StepwireError] | None = None
    """What it is refused with."""
    changes: bool = False
    """Whether it is recorded."""
    sequence: int = 0
    """The execution's last event then, durable or not."""


class Answers:
    """Answers to questions, and what becomes of them. Every call has an actor of its own, and every answer that fits a
    number of its own, by which what a step is given is known.
    """

    def __init__(self, kept: Callable[[str], Kept], excused: Callable[[Engine], bool]) -> None:
        self._kept = kept
        self._excused = excused
        self._given: dict[str, _Given] = {}
        self._asked: dict[str, int] = {}
        self.counts = {"questions": 0, "answers": 0}

    def earlier(self, which: int) -> tuple[str, str, struct_pb2.Value] | None:
        """Returns an answer that was given before: execution, question and value."""
        given = list(self._given.values())
        if not given:
            return None
        again = given[which % len(given)]
        return again.execution_id, again.input_id, again.value

    async def give(
        self, engine: Engine, execution_id: str, input_id: str, value: struct_pb2.Value | None = None
    ) -> None:
        """Makes the call and judges its answer. Without a value, one that fits and that nobody gave before."""
        number = len(self._given)
        value = value or struct_pb2.Value(number_value=number)
        given = _Given(execution_id=execution_id, input_id=input_id, value=value, actor=f"person {number}")
        self._given[given.actor] = given
        record = engine.journal._records.get(execution_id)  # type: ignore[attr-defined]
        self._reckon(engine, given, record)
        try:
            answer = await engine.provide(execution_id, input_id, value, actor=given.actor)
        except StepwireError as error:
            self._refused(engine, given, error)
        else:
            self._accepted(given, answer)

    def _refused(self, engine: Engine, given: _Given, error: StepwireError) -> None:
        if given.expected is None or not isinstance(error, given.expected):
            assert self._excused(engine), (given, repr(error))
        elif given.runs:
            # Nobody is told of an end, or of another's answer, that a crash could take back.
            kept = self._kept(given.execution_id)
            assert kept.last_sequence >= given.sequence, ("told what is not durable", given)

    def _accepted(self, given: _Given, answer: ExecutionRecord) -> None:
        assert given.expected is None, ("accepted", given)
        kept = self._kept(given.execution_id)
        assert kept.last_sequence >= answer.last_sequence >= given.sequence + given.changes, ("not durable", given)
        if given.changes:
            assert _is_answer(events_of(kept)[given.sequence], given), ("it is not what was recorded", given)
            self.counts["answers"] += 1

    def _reckon(self, engine: Engine, given: _Given, record: ExecutionRecord | None) -> None:
        """Notes what has to become of a call, by the state that it finds: up to its first wait it runs at once."""
        executor = engine._live.get(given.execution_id)
        if executor is None:
            if record is None:
                given.expected = ExecutionNotFound
            elif record.state not in ENDED:
                given.expected = JournalUnavailable
            elif not _counts(self._answer(given), given):
                given.expected = ExecutionEnded
            return
        fold = executor.fold
        given.runs, given.sequence = True, fold.sequence
        if not fold.ended and given.input_id in fold.questions.open:
            given.changes = given.value.HasField("number_value")
            given.expected = None if given.changes else InputInvalid
        elif not _counts(fold.questions.answers.get(given.input_id), given):
            given.expected = ExecutionEnded if fold.ended else InputNotRequested

    def _answer(self, given: _Given) -> InputReceived | None:
        """Returns how the question was closed last, and was not asked again since."""
        answer = None
        for event in events_of(self._kept(given.execution_id)):
            if event.input_requested.input_id == given.input_id:
                answer = None
            elif event.input_received.input_id == given.input_id:
                answer = event.input_received
        return answer

    def judge(self, kept: Kept) -> None:
        """Holds an execution's answers to those that were given, each once, where the question was open."""
        seen: set[str] = set()
        self._asked[kept.execution_id] = sum(event.HasField("input_requested") for event in events_of(kept))
        self.counts["questions"] = sum(self._asked.values())
        timed: dict[str, bool] = {}
        for event in events_of(kept):
            if event.HasField("input_requested"):
                timed[event.input_requested.input_id] = event.input_requested.HasField("expire_time")
            if not event.HasField("input_received"):
                continue
            if event.input_received.expired:
                # No puppet stops waiting by itself: only the time ends a question without an answer. By the wall, which
                # is set back now and then, that may be earlier.
                assert timed[event.input_received.input_id], ("closed without an answer", event)
                continue
            given = self._given.get(event.input_received.actor)
            assert given is not None, ("nobody gave it", event)
            assert _is_answer(event, given), ("it is not what was given", given, event)
            assert given.execution_id == kept.execution_id, given
            assert given.changes, ("it was to be refused, and was recorded", given, event)
            assert event.sequence == given.sequence + 1, (given, event)
            assert given.actor not in seen, ("recorded twice", given)
            seen.add(given.actor)

    def is_durable(self, kept: Kept, step_id: str, value: int | None) -> bool:
        """Whether a step may go on with an answer."""
        return any(
            event.step_id == step_id
            and event.HasField("input_received")
            and event.input_received.HasField("value")
            and event.input_received.value.number_value == value
            for event in events_of(kept)
        )


def _counts(answer: InputReceived | None, given: _Given) -> bool:
    """Whether a question has the answer that is given, from a person."""
    return answer is not None and not answer.expired and answer.value == given.value


def _is_answer(event: Event, given: _Given) -> bool:
    received = event.input_received
    return (received.input_id, received.actor, received.value) == (given.input_id, given.actor, given.value)


@dataclass(kw_only=True)
class Accepting:
    """One start, maybe with a request id that was used."""

    request: ExecuteRequest
    known: ExecutionRecord | None = None
    """The execution that had the request id when the call was made."""

    async def call(self, engine: Engine) -> ExecutionRecord | None:
        """Makes the call and judges its answer; returns the record, None where there is none."""
        records = engine.journal._records  # type: ignore[attr-defined]
        request_id = self.request.request_id
        self.known = next((record for record in records.values() if record.request_id == request_id), None)
        same = normalised(self.request)
        refusal: StepwireError | None = None
        record = None
        try:
            record = await engine.accept(self.request)
        except StepwireError as error:
            refusal = error
        if record is not None:
            assert records[record.execution_id].request_id == request_id
            assert ExecuteRequest.FromString(record.request) == same, ("answered with another request's", request_id)
            assert self.known is None or record.execution_id == self.known.execution_id, ("another one now", request_id)
        elif isinstance(refusal, RequestIdReused):
            owner = records[refusal.metadata["execution_id"]]
            assert owner.request_id == request_id, (request_id, repr(refusal))
            assert ExecuteRequest.FromString(owner.request) != same, ("it is the same", request_id)
        else:
            assert self.known is None, ("accepted once, and refused now", request_id, repr(refusal))
        return record
