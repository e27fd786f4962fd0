"""Runs one step: attempt after attempt, until it completes, fails or is cancelled.

    step_started -> call the operation -> step_completed
                         | raises            -> step_retrying, wait, step_started ... | step_failed
                         | takes too long    -> the same, with TIMEOUT
                         | is cancelled      -> step_cancelled
                         `-- does not end    -> after the grace period its task is abandoned

The operation runs in the step's own task. Interrupting means to cancel that task and to note why.
"""

from __future__ import annotations

import asyncio
import enum
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Executor as ThreadPool
from contextlib import asynccontextmanager, contextmanager, nullcontext, suppress
from contextvars import Context
from dataclasses import dataclass
from typing import Any

from google.protobuf import struct_pb2

from stepwire.errors import failure
from stepwire.v1 import ExecutionState, Step, StepState
from stepwire_server import failpoints
from stepwire_server.engine.asking import Desk, InputExpired
from stepwire_server.engine.calling import AttemptFailed, absent_of, call, describe, input_of, results_of, simulate
from stepwire_server.engine.clock import Clock, Timer
from stepwire_server.engine.context import StepContext
from stepwire_server.engine.course import Course
from stepwire_server.engine.growth import Growth
from stepwire_server.engine.operation import Operation
from stepwire_server.engine.recorder import Recorder, RecorderClosed
from stepwire_server.engine.refusal import Refused
from stepwire_server.engine.retries import delay_before, is_worth_another
from stepwire_server.engine.slots import Slots
from stepwire_server.engine.states import LIVE_STEP
from stepwire_server.engine.step_events import StepEvents, one_line
from stepwire_server.engine.time_limit import TimeLimit

__all__ = ["Cause", "StepRunner", "Surroundings"]

_log = logging.getLogger(__name__)


class Cause(enum.Enum):
    """Why a step is interrupted."""

    CANCEL = enum.auto()
    """The execution is ending: the step is recorded as cancelled."""
    TIMEOUT = enum.auto()
    """The attempt took too long: it has failed."""
    PARK = enum.auto()
    """This process lets go of the execution: no end is recorded, and a later one goes on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What all steps of an execution share."""

    execution_id: str
    session_id: str
    recorder: Recorder
    clock: Clock
    threads: ThreadPool
    simulate: bool
    cancel_grace: float
    course: Course
    """Where all tasks are ended by the event loop, a cancel that the engine did not ask for is no step's failure; where
    this process lets go of the execution, a step that only waits is let go of at once.
    """
    going: asyncio.Event
    """Not set while the execution is paused: no attempt begins, and one that comes to a place to stop waits there."""
    slots: Slots
    desk: Desk
    growth: Growth


class StepRunner:
    """One step while it runs. `on_end` is called once, when it has ended or is let go of."""

    def __init__(
        self,
        index: int,
        step: Step,
        operation: Operation,
        around: Surroundings,
        *,
        on_end: Callable[[StepRunner], None],
    ) -> None:
        self.index = index
        self.step = step
        self._operation = operation
        self._around = around
        self._recorder = around.recorder
        self._clock = around.clock
        self._fold = around.recorder.fold.steps[index]
        self._on_end = on_end
        self._events = StepEvents(self._recorder, step, self._fold, around.clock)
        self._context: StepContext | None = None
        self._cause: Cause | None = None
        self._begun = False
        self._stopping = False
        self._resting = False
        self._held: set[asyncio.Task[Any]] = set()
        """The tasks of the operation, and those that its threads wait for, that are held at a place to stop."""
        self.abandoned = False
        """Whether it was let go of while its operation ran on."""
        self._timers: list[Timer] = []
        self._limit: TimeLimit | None = None
        self.task: asyncio.Task[None] | None = None
        """The operation's task, once it has started."""

    def start(self, context: Context) -> None:
        """Begins the first attempt, or the next one of a step that was recovered, in a copy of this context."""
        name = f"step {self._around.execution_id}/{self.step.id} (operation {self._operation.name})"
        self.task = asyncio.create_task(self._run(), name=name, context=context.copy())

    def interrupt(self, cause: Cause) -> None:
        """Cancels the operation, and abandons it where it has not ended after the grace period."""
        if cause is not Cause.TIMEOUT:
            self._stopping = True
        if self._cause is Cause.PARK or (self._cause is not None and cause is Cause.TIMEOUT):
            return
        told = self._cause is not None
        self._cause = cause
        if cause is Cause.PARK:
            self._stop_timers()
        # A task that is cancelled before its first line never runs it: it sees the cause there and ends. An operation
        # that has been told is not told twice: the second one would break off its cleaning up.
        if not self._begun or told:
            return
        assert self.task is not None
        self.task.cancel()
        # What waits in a thread has no other way to hear of it; and what was held must not go on as if it was resumed.
        for held in self._held - {self.task}:
            held.cancel()
        if cause is not Cause.PARK:
            self._timers.append(self._clock.call_later(self._around.cancel_grace, self._give_up))

    def park_if_resting(self) -> None:
        """Lets go of the step where it does nothing but wait for the engine."""
        if self._resting:
            self.interrupt(Cause.PARK)

    def leave(self) -> None:
        """Lets go of the operation because the process ends, and has waited for it: its attempt ends here, and the next
        process does not take it for one that was lost.
        """
        with suppress(RecorderClosed):
            self._record_parting()
        self.abandon()

    def abandon(self) -> asyncio.Task[None]:
        """Lets go of the operation, whatever it does from now on; returns its task, to be kept until it ends."""
        assert self.task is not None
        _log.warning("%s: the operation does not end; its task is abandoned", self.task.get_name())
        self.abandoned = True
        self._stop_timers()
        if self._context is not None:
            self._context.close("the step was abandoned")
        return self.task

    # -- the step's task

    async def _run(self) -> None:
        self._begun = True
        try:
            while self._cause is None and not await self._attempt():
                pass
        except RecorderClosed:
            pass
        except asyncio.CancelledError:
            if self._cause is None:
                raise
        except Exception:
            _log.exception("execution %s, step %s: a bug in the engine", self._around.execution_id, self.step.id)
            if not self.abandoned and self._fold.state in (*LIVE_STEP, StepState.STEP_STATE_STARTING):
                self._events.failed(failure("INTERNAL_ERROR", "the engine failed; the server's log says where"))
        finally:
            self._stop_timers()
            if self.abandoned:
                _log.warning(
                    "execution %s, step %s: ended after it was abandoned", self._around.execution_id, self.step.id
                )
            else:
                self._on_end(self)
            # Nothing refers in a circle any more: all is freed now, and need not be found by the garbage collector,
            # which holds everything up.
            self._context = self.task = None

    async def _attempt(self) -> bool:
        """Makes one attempt. Returns True where the step has ended, False where another attempt shall follow."""
        self._cause = None
        if not self._around.slots.taken(self.index):
            with self._rest():
                await self._around.slots.back(self.index)
        if not self._around.going.is_set():
            await self._wait_for_the_end_of_a_pause()
        context = self._context = self._new_context()
        sequence = self._events.started(context.attempt, self._operation.name)
        outcome: struct_pb2.Value | AttemptFailed | None = None
        try:
            if self._operation.at_most_once or self._recorder.fold.epoch > 1:
                # A process was lost already: it may be this step that ends it, at its first line. That counts where it
                # is known that the step began.
                await self._recorder.durable(sequence)
            self._watch_timeout()
            failpoints.reach("before-effect")
            outcome = await self._call(context)
            failpoints.reach("after-effect")
        except AttemptFailed as error:
            outcome = self._note(error)
        except asyncio.CancelledError:
            outcome = None
        except RecorderClosed:
            raise
        except GeneratorExit:
            raise
        except BaseException as error:
            # sys.exit() in an operation is the operation's failure, not the server's end.
            outcome = self._judge(error)
        finally:
            self._stop_timers()
            context.close("the attempt has ended")
        if outcome is None or self._cause is Cause.TIMEOUT:
            return await self._after_interrupt()
        if isinstance(outcome, AttemptFailed):
            return await self._after_failure(outcome)
        if not self.abandoned:
            self._events.completed(outcome)
        return True

    async def _call(self, context: StepContext) -> struct_pb2.Value:
        if self._around.simulate:
            return await simulate(context)
        fold = self._recorder.fold
        return await call(
            self._operation,
            context,
            input_of(self.step, fold),
            self._around.threads,
            limit=self._limit,
            absent=lambda: absent_of(self.step, fold),
        )

    def _judge(self, error: BaseException) -> AttemptFailed:
        """Returns what an exception that the operation raised means."""
        if isinstance(error, InputExpired):
            return self._note(AttemptFailed(failure("INPUT_EXPIRED", str(error)), kind=type(error)))
        failed = AttemptFailed(failure("OPERATION_FAILED", describe(error)), kind=type(error))
        if isinstance(error, Refused):
            return self._note(failed)
        _log.warning("execution %s, step %s failed", self._around.execution_id, self.step.id, exc_info=error)
        return failed

    def _note(self, failed: AttemptFailed) -> AttemptFailed:
        """Logs a failure that no traceback tells of, and returns it."""
        text = one_line(failed.status.message)
        _log.warning("execution %s, step %s failed: %s", self._around.execution_id, self.step.id, text)
        return failed

    async def _after_interrupt(self) -> bool:
        """Records what a cancelled attempt means. Returns True where the step has ended."""
        task = asyncio.current_task()
        assert task is not None
        if self._cause is None and self._around.course.torn_down:
            raise asyncio.CancelledError
        while task.cancelling():
            task.uncancel()
        match self._cause:
            case Cause.TIMEOUT:
                return await self._after_failure(self._note(self._timed_out()))
            case Cause.CANCEL:
                if not self.abandoned:
                    self._events.cancelled(abandoned=False)
                return True
            case Cause.PARK:
                self._record_parting()
                return True
            case None:
                status = failure("OPERATION_FAILED", "the operation raised CancelledError")
                return await self._after_failure(self._note(AttemptFailed(status, kind=asyncio.CancelledError)))

    async def _after_failure(self, failed: AttemptFailed) -> bool:
        """Records that an attempt failed: for good, or with another to follow after a wait. Returns True for good."""
        if self._cause is Cause.PARK:
            self._record_parting()
            return True
        if self.abandoned:
            return True
        retry = self.step.retry if self.step.HasField("retry") else self._operation.retry
        tried = self._fold.attempt - self._fold.recoveries
        if self._stopping or retry is None or tried >= retry.attempts or not is_worth_another(retry, failed.kind):
            self._events.failed(failed.status)
            return True
        delay = delay_before(retry, tried, self._clock.random.random())
        self._events.retrying(failed.status, delay)
        self._cause = None
        try:
            with self._rest():
                await self._clock.sleep(delay)
        except asyncio.CancelledError:
            if self._cause is None and not self._around.course.torn_down:
                return False  # The operation cancelled its own task and ended before that came through.
            return await self._after_interrupt()
        return False

    # -- what takes too long

    def _watch_timeout(self) -> None:
        seconds = self._timeout()
        if seconds is not None:
            self._limit = TimeLimit(self._clock, seconds, lambda: self.interrupt(Cause.TIMEOUT))

    def _timeout(self) -> float | None:
        if self.step.HasField("timeout"):
            return float(self.step.timeout.ToNanoseconds()) / 1e9
        limit = self._operation.timeout
        return None if limit is None else limit.total_seconds()

    def _timed_out(self) -> AttemptFailed:
        text = f"the attempt took longer than {self._timeout():g} s"
        if self._operation.at_most_once:
            return AttemptFailed(failure("OUTCOME_UNKNOWN", f"{text}; the operation runs at most once"))
        return AttemptFailed(failure("TIMEOUT", text), kind=TimeoutError)

    def _give_up(self) -> None:
        """Records the end of a step whose operation does not end, and lets go of it."""
        if self.abandoned:
            return
        timed_out = self._cause is Cause.TIMEOUT
        self.abandon()
        try:
            if timed_out:
                self._events.failed(self._timed_out().status)
            else:
                self._events.cancelled(abandoned=True)
        except RecorderClosed:
            pass
        finally:
            self._on_end(self)

    async def _hold(self, in_own_thread: bool) -> None:
        """Returns when the execution is not paused. The time does not count against the attempt.

        `in_own_thread`: the operation is a plain function, and its thread waits here.
        """
        if not self._is_held():
            return
        task = asyncio.current_task()
        assert task is not None
        self._held.add(task)
        try:
            with self._untimed():
                await self._wait_for_the_end_of_a_pause(alone=in_own_thread or task is self.task)
        finally:
            self._held.discard(task)

    def _is_held(self) -> bool:
        """Returns whether the step stops where it is. What was told to end is cleaning up. What runs at most once could
        not come back from here: a server that stops would take it for lost, and so would a crash, and a pause may be
        long.
        """
        return not (self._around.going.is_set() or self._cause is not None or self._operation.at_most_once)

    async def _wait_for_the_end_of_a_pause(self, *, alone: bool = True) -> None:
        """`alone`: whether nothing else of the step can be at work meanwhile, as far as the engine knows."""
        # Whoever is woken comes a turn of the event loop later: it may be paused again by then.
        while not self._around.going.is_set():
            with self._rest() if alone else nullcontext():
                await self._around.going.wait()

    @asynccontextmanager
    async def _away(self, in_own_thread: bool) -> AsyncIterator[None]:
        """Lasts while the step waits for a person: its slot is others', and the time does not count against the
        attempt. Ends when it has a slot again and the execution is not paused. `in_own_thread`: as `_hold`.
        """
        context = self._context
        alone = (in_own_thread or asyncio.current_task() is self.task) and not self._operation.at_most_once
        with self._untimed():
            with self._rest() if alone else nullcontext():
                self._around.slots.leave(self.index)
                try:
                    yield
                finally:
                    # Also where the operation gave up waiting and goes on. What has ended must not take a slot, and
                    # what was told to end needs none: it cleans up, for no longer than its grace.
                    if not (self._is_broken_off() or context is None or context.closed):
                        await self._around.slots.back(self.index)
            await self._hold(in_own_thread)

    def _is_broken_off(self) -> bool:
        """Returns whether a cancel in the operation is the engine's, and not one of the operation itself."""
        return self._cause is not None or self._around.course.torn_down

    @contextmanager
    def _untimed(self) -> Iterator[None]:
        """Marks a time that does not count against the attempt."""
        limit = self._limit
        if limit is not None:
            limit.hold()
        try:
            yield
        finally:
            if limit is not None:
                limit.release()

    @contextmanager
    def _rest(self) -> Iterator[None]:
        """Marks a time in which the step does nothing but wait, for the engine or a person: to let go of it then loses
        nothing.
        """
        self._resting = True
        if self._around.course.leaving:
            self.interrupt(Cause.PARK)
        try:
            yield
        finally:
            self._resting = False

    def _stop_timers(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()

    # -- what an attempt is given, and leaves

    def _new_context(self) -> StepContext:
        step, fold, recorder = self.step, self._fold, self._recorder
        return StepContext(
            recorder,
            execution_id=self._around.execution_id,
            session_id=self._around.session_id,
            id=self.step.id,
            name=self._events.name,
            operation=self._operation.name,
            attempt=self._fold.attempt + 1,
            results=lambda: results_of(step, recorder.fold),
            saved=lambda: fold.saved,
            hold=self._hold,
            desk=self._around.desk,
            growth=self._around.growth,
            away=self._away,
            broken_off=self._is_broken_off,
            rule=None if self._around.simulate else self._operation.progress,
        )

    def _record_parting(self) -> None:
        """Records that an attempt ended because this process stops: of one that a later process finds running, nobody
        can tell whether it was what ended its process.
        """
        ending = self._recorder.fold.state == ExecutionState.EXECUTION_STATE_CANCELLING
        if not (self.abandoned or ending or self._operation.at_most_once) and self._fold.state in LIVE_STEP:
            self._events.retrying(failure("RECOVERED", "the server stopped while the step ran"), 0.0)
