"""What an operation is given of its step, and how it says what happens."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from concurrent.futures import CancelledError, Future
from contextlib import AbstractAsyncContextManager, contextmanager
from contextvars import ContextVar
from typing import Any, Literal, TypeVar

from google.protobuf import struct_pb2
from google.rpc import code_pb2, status_pb2

from stepwire.artifacts import as_text, channel_of
from stepwire.errors import StepwireError
from stepwire.v1 import AgentUpdate, Event, Step, SupervisorUpdate
from stepwire.values import to_python
from stepwire_server.engine import values
from stepwire_server.engine.asking import Asking, Desk, StepEnded
from stepwire_server.engine.blocking import BlockingStepContext
from stepwire_server.engine.growth import Growth
from stepwire_server.engine.pieces import Pieces
from stepwire_server.engine.questions import Nothing
from stepwire_server.engine.reckoning import Reckoner, Rule
from stepwire_server.engine.recorder import Recorder, RecorderClosed
from stepwire_server.engine.substeps import Teller, Work
from stepwire_server.engine.voice import Voice
from stepwire_server.journal import Conflict

__all__ = ["Result", "StepContext", "StepEnded", "current_step", "running_step"]

running_step: ContextVar[StepContext | BlockingStepContext] = ContextVar("stepwire_running_step")
"""Set while an operation runs, in its task or thread and all that inherit its context."""

_T = TypeVar("_T")

AgentKind = Literal["think", "progress", "result", "decision"]
SupervisorKind = Literal["decision", "routing", "analysis"]

_ARTIFACT_BYTES = 512 * 1024
_CONTENT_BYTES = 256 * 1024
_SHORT = _CONTENT_BYTES // 4
"""Characters of a text, or bytes, that are no more than that whatever they are."""


class Result:
    """Yield this last from an operation that is an async generator, to give its output."""

    __slots__ = ("output",)

    def __init__(self, output: Any) -> None:
        self.output = output


def current_step() -> StepContext | BlockingStepContext:
    """Returns the context of the step that this code runs in, from anywhere below its operation: in tasks that it
    started, and in `asyncio.to_thread`, where the methods block. (A bare `threading.Thread` inherits no context: run
    `contextvars.copy_context().run` in it.) Raises LookupError outside of a step.
    """
    try:
        step = running_step.get()
    except LookupError:
        raise LookupError("no step runs here; current_step() works below an operation's call") from None
    if isinstance(step, StepContext) and not step.is_here():
        return step.blocking()
    return step


class StepContext(Work):
    """One attempt of one step, for its operation.

        @app.operation("charge")
        async def charge(step: StepContext, order_id: str) -> dict:
            await step.progress(25, "Contacting the bank")
            ...

    Every method waits while too much is unwritten, and all but `save` and `ask` return before the event is durable.
    Each raises StepEnded once the attempt has ended, and LimitSize where the event would be above 1 MiB.
    """

    __slots__ = (
        "_asking",
        "_blocking",
        "_given",
        "_growth",
        "_hold",
        "_loop",
        "_pieces",
        "_recorder",
        "_results",
        "_saved",
        "_thread",
        "_voice",
        "attempt",
        "execution_id",
        "id",
        "name",
        "operation",
        "session_id",
    )

    def __init__(
        self,
        recorder: Recorder,
        *,
        execution_id: str,
        session_id: str,
        id: str,  # noqa: A002 - the step's own word for it
        name: str,
        operation: str,
        attempt: int,
        results: Callable[[], Mapping[str, Any]],
        saved: Callable[[], struct_pb2.Value | None],
        hold: Callable[[bool], Awaitable[None]],
        desk: Desk,
        growth: Growth,
        away: Callable[[bool], AbstractAsyncContextManager[None]],
        broken_off: Callable[[], bool],
        rule: Rule | None,
    ) -> None:
        reckoner = Reckoner(operation=operation, rule=rule)
        self._voice = voice = Voice(recorder, step_id=id, name=name, attempt=attempt)
        super().__init__(Teller(reckoner, voice), path="")
        self._recorder = recorder
        self._loop = asyncio.get_running_loop()
        self._results = results
        self._given: Mapping[str, Any] | None = None
        self._saved = saved
        self._hold = hold
        self._growth = growth
        self._asking = Asking(recorder, desk, event=voice.event, turn=voice.turn, away=away, broken_off=broken_off)
        self._pieces = Pieces(voice.event)
        self._blocking: set[Future[Any]] = set()
        self._thread: int | None = None
        self.execution_id = execution_id
        self.session_id = session_id
        self.id = id
        """The step's id in its plan."""
        self.name = name
        """The step's name; its id where it has none."""
        self.operation = operation
        """The operation's name."""
        self.attempt = attempt
        """The number of this attempt, from 1."""

    @property
    def results(self) -> Mapping[str, Any]:
        """The outputs of the steps that this one depends on directly, by step id. Those that their own conditions
        skipped gave none, and are not in it.
        """
        if self._given is None:
            self._given = self._results()
        return self._given

    @property
    def saved(self) -> Any:
        """What this step saved last, in this attempt or an earlier one, also in a process that is gone; None where it
        saved nothing. A copy of its own each time.
        """
        state = self._saved()
        return None if state is None else to_python(state)

    async def save(self, state: Any) -> None:
        """Keeps a checkpoint: the next attempt finds it in `saved` and can go on from it.

        Returns once it is durable, so that what was done before it need not be done again, whatever happens. That takes
        a commit: save where work would be lost, not at each turn of a loop. It is a `pausepoint` too.

        `state`: anything JSON-like, of which the newest replaces the one before. Raises InputInvalid for what is not.

            for page in range(step.saved or 0, pages):
                await send(page)
                await step.save(page + 1)
        """
        await self._keep(state)
        await self.pausepoint()

    async def pausepoint(self) -> None:
        """Waits here while the execution is paused, and does not count the time as the attempt's. A step that comes to
        none runs on through a pause; so does one of an operation that runs at most once, and what cleans up after a
        cancel or a timeout. Where the server stops, the attempt ends here, and the next one begins after its start.
        """
        await self._stop()

    async def ask(
        self,
        prompt: str,
        *,
        choices: Iterable[str] = (),
        schema: Mapping[str, Any] | None = None,
        key: str = "",
        expires_in: float | None = None,
        default: Any = Nothing,
    ) -> Any:
        """Asks people, and returns the answer once it is durable: one of `choices`, or what matches `schema` (a JSON
        schema), or anything JSON-like. While it waits, other steps have its slot and its time limit stands still; so it
        may take days, and restarts of the server. An operation that runs at most once does not outlive a restart.

        Another attempt that asks the same gets the answer that was given, at once, where it still fits. The same is
        what has the same `key`; without one, the same prompt, asked as often before in its attempt. Questions of
        several tasks are asked one after the other. Where the operation stops waiting, its question is withdrawn.

        `expires_in`: seconds in which to answer; another attempt does not give them again. After them `default` is the
        answer (None is one, too); where there is none, raises InputExpired. Raises ValueError and TypeError for a
        question that is none: a schema that is no JSON schema or refers to another one, a default that does not fit, a
        prompt that is empty or has more than 10,000 characters.

            if await step.ask("The amount differs. Go on?", choices=["yes", "no"]) == "yes":
                await charge(amount)
        """
        details = {"choices": choices, "schema": schema, "key": key, "expires_in": expires_in, "default": default}
        return await self._asking.ask(prompt, **details)

    async def add_steps(self, steps: Iterable[Step]) -> None:
        """Adds steps to the plan, all or none, and returns once that is recorded. They may depend on any step of the
        plan, on this one, and on each other, and start when what they depend on is done.

        What stands in the plan already, and is the same, is not added again: so another attempt may do all of it once
        more. Raises PlanInvalid, which names everything that is wrong: an id that another step has, an operation that
        is not there, an input that does not fit, a plan that would be too large; ExecutionEnded while the execution is
        ending.

            for number, city in enumerate(cities):
                await step.add_steps([plan_step(f"visit-{number}", "visit", input={"city": city})])
        """
        await self._voice.turn()
        try:
            await self._growth.add(steps, added_by=self.id, check=self._voice.check)
        except RecorderClosed:
            raise StepEnded("the execution has ended") from None

    async def content(self, piece: str | bytes, *, channel: str = "", media_type: str = "") -> None:
        """Streams a piece of text or bytes, as it is produced.

        Pieces of one channel make a whole. A piece above 256 KiB is cut.
        """
        for part in _cut(piece) if len(piece) > _SHORT else (piece,):
            await self._voice.ready()
            self._voice.say(self._pieces.event(part, channel=channel, media_type=media_type))

    async def artifact(self, name: str, value: Any, *, media_type: str = "application/json") -> None:
        """Gives a named result as a whole: a JSON-like value, or bytes. Above 512 KiB it goes as content, before the
        event that names it: a text of another media type than JSON as itself, any other value as JSON.
        """
        event = self._voice.event(name)
        artifact = event.artifact
        artifact.name = name
        artifact.media_type = media_type
        if isinstance(value, bytes):
            artifact.size = len(value)
            if artifact.size <= _ARTIFACT_BYTES:
                artifact.data = value
        else:
            artifact.value.CopyFrom(values.to_value(value, field=f"artifact {name!r}"))
            artifact.size = artifact.value.ByteSize()
        if artifact.size > _ARTIFACT_BYTES:
            whole = value if isinstance(value, bytes) else as_text(artifact.value, media_type=media_type)
            data = whole if isinstance(whole, bytes) else whole.encode()
            artifact.channel = channel_of(name, taken=self._pieces.channels)
            artifact.size = len(data)
            artifact.sha256 = hashlib.sha256(data).digest()
            await self.content(whole, channel=artifact.channel, media_type=media_type)
        await self._voice.emit(event)

    async def agent(
        self, agent: str, kind: AgentKind, message: str, *, details: Mapping[str, Any] | None = None
    ) -> None:
        """Says what an agent thinks, does, found or decided."""
        event = self._voice.event(message)
        event.agent.agent = agent
        event.agent.kind = AgentUpdate.Kind.Value(f"KIND_{kind.upper()}")
        if details:
            event.agent.details.CopyFrom(_struct(details, "details"))
        await self._voice.emit(event)

    async def supervisor(
        self,
        kind: SupervisorKind,
        message: str,
        *,
        reasoning: str = "",
        confidence: float | None = None,
        next_agent: str = "",
        instructions: str = "",
        details: Mapping[str, Any] | None = None,
    ) -> None:
        """Says what a supervisor decided, and why. `confidence`: 0 to 1; ValueError outside."""
        if confidence is not None and not 0 <= confidence <= 1:
            raise ValueError(f"confidence is {confidence}; it must be 0 to 1")
        event = self._voice.event(message)
        update = event.supervisor
        update.kind = SupervisorUpdate.Kind.Value(f"KIND_{kind.upper()}")
        update.reasoning = reasoning
        update.next_agent = next_agent
        update.instructions = instructions
        if confidence is not None:
            update.confidence = confidence
        if details:
            update.details.CopyFrom(_struct(details, "details"))
        await self._voice.emit(event)

    async def stage(
        self, name: str, message: str = "", *, details: str = "", data: Mapping[str, Any] | None = None
    ) -> None:
        """Says that a named stage was reached."""
        event = self._voice.event(message or name)
        event.stage.name = name
        event.stage.details = details
        if data:
            event.stage.data.CopyFrom(_struct(data, "data"))
        await self._voice.emit(event)

    async def error(self, message: str) -> None:
        """Says that something went wrong and the step goes on."""
        event = self._voice.event(message)
        event.error.error.CopyFrom(status_pb2.Status(code=code_pb2.UNKNOWN, message=message))
        await self._voice.emit(event)

    @contextmanager
    def behind(self, ahead: Callable[[], Awaitable[None]]) -> Iterator[None]:
        """Has `ahead` awaited before each event of this step while the block runs, from wherever it is said. For what
        takes another way to this step, such as a queue: `ahead` returns once all that stood in it is said, too, and so
        both come in the order in which they happened. What empties the queue must find its way past: for it, `ahead`
        returns at once.

            with step.behind(queue.join):
                await work(queue)
        """
        self._voice.enter(ahead)
        try:
            yield
        finally:
            self._voice.leave(ahead)

    def close(self, why: str) -> None:
        """Makes every further call raise StepEnded with this text. For the engine."""
        self._voice.closed = why
        self._asking.close(why)
        for call in list(self._blocking):
            call.cancel()

    @property
    def closed(self) -> str:
        """Why nothing more can be said; empty while it can."""
        return self._voice.closed

    def wait_in_thread(self, call: Future[_T]) -> _T:
        """Returns what a call of this context gives to another thread. Raises StepEnded when the context is closed
        meanwhile, whatever the call waits for: nobody can cancel a thread.
        """
        self._blocking.add(call)
        try:
            if self._voice.closed:
                call.cancel()
            return call.result()
        except CancelledError:
            raise StepEnded(self._voice.closed or "the step was interrupted") from None
        finally:
            self._blocking.discard(call)

    def is_here(self) -> bool:
        """Returns whether this code runs in the event loop of the step, so that it may await its methods."""
        try:
            return asyncio.get_running_loop() is self._loop
        except RuntimeError:
            return False

    def enter_thread(self) -> None:
        """Notes that the operation is a plain function and runs in this thread. For the engine."""
        self._thread = threading.get_ident()

    def blocking(self) -> BlockingStepContext:
        """Returns the same step for code in another thread."""
        return BlockingStepContext(self, self._loop)

    async def _keep(self, state: Any) -> None:
        """Does what `save` does, but does not stop."""
        event = self._voice.event()
        event.step_saved.state.CopyFrom(values.to_value(state, field="state"))
        sequence = await self._voice.emit(event)
        try:
            await self._recorder.durable(sequence)
        except (Conflict, StepwireError) as error:
            raise StepEnded("the journal takes no events of this execution from here any more") from error

    async def _stop(self, *, in_own_thread: bool = False) -> None:
        """Does what `pausepoint` does. `in_own_thread`: what waits is the thread that the operation runs in."""
        self._voice.check()
        await self._hold(in_own_thread)
        self._voice.check()

    def _place(self, event: Event) -> None:
        """It is about the step itself."""

    def _check_open(self) -> None:
        """A step that has ended says so by itself."""


def _cut(piece: str | bytes) -> list[str] | list[bytes]:
    if isinstance(piece, str):
        if len(piece.encode()) <= _CONTENT_BYTES:
            return [piece]
        return [piece[i : i + _SHORT] for i in range(0, len(piece), _SHORT)]
    return [piece[i : i + _CONTENT_BYTES] for i in range(0, max(len(piece), 1), _CONTENT_BYTES)]


def _struct(mapping: Mapping[str, Any], field: str) -> struct_pb2.Struct:
    return values.to_value(dict(mapping), field=field).struct_value
