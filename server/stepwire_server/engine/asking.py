"""How a step asks people: its question is recorded, it waits aside, and goes on with a durable answer.

ask -> answered before, and it fits still -> the answer
 `---> input_requested, wait aside
          |-> ProvideInput: input_received -> durable -> a slot again -> the answer
          |-> the time is up: input_received (expired) -> the default, or InputExpired
          |-> the operation waits no more: input_received (expired, no value)
          `-> the engine ends the attempt: nothing is recorded; the question stays open for the next one
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from google.protobuf import struct_pb2

from stepwire.errors import InputInvalid, InputNotRequested, StepwireError, Violation
from stepwire.v1 import Event, InputReceived, InputRequested
from stepwire.values import to_python
from stepwire_server.engine import values
from stepwire_server.engine.clock import Clock
from stepwire_server.engine.graph import MAX_SPAN_NS
from stepwire_server.engine.questions import OpenQuestion, answer_violations, input_id_of, question
from stepwire_server.engine.recorder import Recorder, RecorderClosed
from stepwire_server.journal import Conflict

__all__ = ["Asking", "Desk", "InputExpired", "StepEnded", "Verdict", "judge", "record_answer"]


class StepEnded(Exception):
    """The attempt has ended, was cancelled or ran out of time: nothing more can be said in its name."""


class InputExpired(Exception):
    """Nobody answered a question in time, and it has no default. A step that lets it through fails with
    INPUT_EXPIRED.
    """


@dataclass(frozen=True, slots=True)
class Desk:
    """Where the steps of one execution wait for answers."""

    clock: Clock
    waiting: dict[str, asyncio.Future[int]] = field(default_factory=dict)
    """By input id: what is given the sequence of the event that ends the wait."""

    def tell(self, input_id: str, sequence: int) -> None:
        """Wakes the step that waits for an answer, which was recorded. It may be that none waits now."""
        waiting = self.waiting.get(input_id)
        if waiting is not None and not waiting.done():
            waiting.set_result(sequence)


class Asking:
    """The questions of one attempt: one at a time. The attempt gives its texts, its events, and `away`, in which it
    waits.
    """

    __slots__ = (
        "_away",
        "_broken_off",
        "_closed",
        "_counts",
        "_desk",
        "_event",
        "_lock",
        "_recorder",
        "_turn",
        "_waiting",
    )

    def __init__(
        self,
        recorder: Recorder,
        desk: Desk,
        *,
        event: Callable[[str], Event],
        turn: Callable[[], Awaitable[None]],
        away: Callable[[bool], AbstractAsyncContextManager[None]],
        broken_off: Callable[[], bool],
    ) -> None:
        """`turn`: waits until what comes before a question was said. `broken_off`: whether a cancel is the engine's, so
        that the question stays open for a later attempt.
        """
        self._recorder = recorder
        self._desk = desk
        self._event = event
        self._turn = turn
        self._away = away
        self._broken_off = broken_off
        self._lock = asyncio.Lock()
        self._counts: dict[str, int] = {}
        self._closed = ""
        self._waiting: asyncio.Future[int] | None = None

    def close(self, why: str) -> None:
        """Has whoever asks, and will ask, get StepEnded with this text."""
        self._closed = why
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(StepEnded(why))

    async def ask(
        self,
        prompt: str,
        *,
        key: str = "",
        expires_in: float | None = None,
        in_own_thread: bool = False,
        **form: Any,
    ) -> Any:
        """As StepContext.ask. `in_own_thread`: what waits is the thread that the operation runs in; `form`: as for
        `question`.
        """
        self._check()
        requested = question(prompt, **form)
        if not isinstance(key, str):
            raise TypeError(f"key is of type {type(key).__name__}; it must be text")
        if expires_in is not None and not 0 < expires_in <= MAX_SPAN_NS / 1e9:
            raise ValueError(f"expires_in is {expires_in}; it must be above 0 and at most 366 days")
        event = self._event(f"Asks: {' '.join(requested.prompt[:1000].split())}")
        number = self._counts.get(requested.prompt, 0)
        if not key:
            self._counts[requested.prompt] = number + 1
        requested.input_id = input_id_of(event.step_id, key=key, prompt=requested.prompt, number=number)
        async with self._lock:
            try:
                await self._turn()
                await self._recorder.room()
                self._check()
                sequence = self._known(requested)
                if sequence is None:
                    self._record_question(event, requested, expires_in)
            except RecorderClosed:
                raise StepEnded("the execution has ended") from None
            if sequence is None:
                await self._wait(requested, in_own_thread)
            else:
                await self._durable(sequence)
            self._check()
            answer = self._recorder.fold.questions.answers.get(requested.input_id)
        if answer is None:
            raise InputExpired(f"nobody answered in time: {requested.prompt}")
        return to_python(answer.value)

    def _check(self) -> None:
        if self._closed:
            raise StepEnded(self._closed)

    async def _durable(self, sequence: int) -> None:
        try:
            await self._recorder.durable(sequence)
        except (Conflict, StepwireError) as error:
            raise StepEnded("the journal takes no events of this execution from here any more") from error

    def _known(self, requested: InputRequested) -> int | None:
        """Returns a sequence at which there is an answer that fits the question as it is asked now."""
        fold = self._recorder.fold
        answer = fold.questions.answers.get(requested.input_id)
        if answer is None or answer_violations(requested, answer.value):
            return None
        return fold.sequence

    def _record_question(self, event: Event, requested: InputRequested, expires_in: float | None) -> None:
        open_ = self._recorder.fold.questions.open.get(requested.input_id)
        if expires_in is not None:
            if open_ is not None and open_.requested.HasField("expire_time"):
                # Another attempt does not give the time again.
                requested.expire_time.CopyFrom(open_.requested.expire_time)
            else:
                requested.expire_time.FromNanoseconds(self._recorder.now_ns() + int(expires_in * 1e9))
        event.input_requested.CopyFrom(requested)
        self._recorder.record(event)

    async def _wait(self, requested: InputRequested, in_own_thread: bool) -> None:
        """Returns when what ended the wait is durable, and the step goes on."""
        clock = self._desk.clock
        answered: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting = self._desk.waiting[requested.input_id] = answered
        timer = None
        if requested.HasField("expire_time"):
            left = (requested.expire_time.ToNanoseconds() - self._recorder.now_ns()) / 1e9
            timer = clock.call_later(max(0.0, left), lambda: self._expire(requested))
        try:
            async with self._away(in_own_thread):
                try:
                    sequence = await answered
                except asyncio.CancelledError:
                    if not (self._closed or self._broken_off()):
                        # The operation does not wait any longer. Where it was answered just now, that stays.
                        self._record_end(requested, "No longer asked", None)
                    raise
                await self._durable(sequence)
        finally:
            if timer is not None:
                timer.cancel()
            if self._desk.waiting.get(requested.input_id) is answered:
                del self._desk.waiting[requested.input_id]
            self._waiting = None

    def _expire(self, requested: InputRequested) -> None:
        default = requested.default_value if requested.HasField("default_value") else None
        self._record_end(requested, "Nobody answered in time", default)

    def _record_end(self, requested: InputRequested, message: str, value: struct_pb2.Value | None) -> None:
        if requested.input_id not in self._recorder.fold.questions.open:
            return
        event = self._event(message)
        event.input_received.input_id = requested.input_id
        event.input_received.expired = True
        if value is not None:
            event.input_received.value.CopyFrom(value)
        with suppress(RecorderClosed):
            self._desk.tell(requested.input_id, self._recorder.record(event))


class Verdict(NamedTuple):
    """What is wrong with an answer to a question, as the question stood when it was looked at."""

    question: OpenQuestion
    violations: list[Violation]


def judge(question: OpenQuestion, value: struct_pb2.Value) -> Verdict:
    """Checks an answer. Takes a while for a large one; runs in any thread."""
    return Verdict(question, values.check_value(value, "value") or answer_violations(question.requested, value))


def record_answer(
    recorder: Recorder, desk: Desk, input_id: str, value: struct_pb2.Value, *, actor: str, verdict: Verdict | None
) -> int:
    """Records an answer and wakes the step that waits for it. Returns the sequence that must be durable before anyone
    is told. Raises InputNotRequested, InputInvalid, LimitSize.

    `verdict`: what was found before, if anything was. It counts where it is about the question that is open now.
    """
    fold = recorder.fold
    question = fold.questions.open.get(input_id)
    if question is None:
        _check_repeated(fold.questions.answers.get(input_id), input_id, value)
        return fold.sequence
    if verdict is None or verdict.question is not question:
        verdict = judge(question, value)
    if verdict.violations:
        raise _invalid(verdict.violations)
    assert fold.graph is not None
    step = fold.graph.steps[question.step_index]
    event = Event(
        step_id=step.id,
        step_name=step.name or step.id,
        attempt=fold.steps[question.step_index].attempt,
        message=f"Answered by {actor}" if actor else "Answered",
    )
    event.input_received.input_id = input_id
    event.input_received.value.CopyFrom(value)
    event.input_received.actor = actor
    sequence = recorder.record(event)
    desk.tell(input_id, sequence)
    return sequence


def _check_repeated(given: InputReceived | None, input_id: str, value: struct_pb2.Value) -> None:
    """Lets pass who repeats the answer that was given. Raises InputNotRequested for all others."""
    if given is None:
        raise InputNotRequested(f"no step asks for input {input_id[:80]!r}, or it asks no more")
    if given.expired:
        raise InputNotRequested(f"the time to answer input {input_id!r} is over; its default was taken")
    if given.value != value:
        raise InputNotRequested(f"input {input_id!r} has another answer already")


def _invalid(found: list[Violation]) -> InputInvalid:
    first = found[0]
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return InputInvalid(f"the answer does not fit: {first.field} {first.description}{more}", violations=found)
