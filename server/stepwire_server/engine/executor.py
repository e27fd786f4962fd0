"""Runs one execution: from its request, or from where its events end, to its terminal event.

    plan -> ready steps start in plan order -> each step's runner records what happens -> conclude

The execution has a task of its own, and so has every step. A step's task records the step's own events; the execution's
task starts and skips steps and records the terminal event. Nothing here knows who watches.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Executor as ThreadPool
from functools import partial
from typing import Any

from google.protobuf import struct_pb2
from google.rpc import status_pb2

from stepwire.errors import failure
from stepwire.v1 import Event, ExecuteRequest, ExecutionOptions, ExecutionState
from stepwire_server.engine.asking import Desk, Verdict, record_answer
from stepwire_server.engine.clock import Clock, Timer
from stepwire_server.engine.control import cancelling, paused, resumed
from stepwire_server.engine.course import Course, unless_gone
from stepwire_server.engine.earlier import Inheritance
from stepwire_server.engine.ending import (
    ended,
    record_cancelled,
    record_completed,
    record_failed,
    skip,
    what_failed,
)
from stepwire_server.engine.flow import Flow
from stepwire_server.engine.fold import Fold
from stepwire_server.engine.foresight import Foresight
from stepwire_server.engine.growth import Growth
from stepwire_server.engine.inheritance import has_all, take_over
from stepwire_server.engine.operation import Catalog
from stepwire_server.engine.planning import PlanningFailed, await_plan, record_plan
from stepwire_server.engine.recorder import Recorder, RecorderClosed
from stepwire_server.engine.recovery import operation_of, record_takeover
from stepwire_server.engine.rerun import query_of
from stepwire_server.engine.settings import Settings
from stepwire_server.engine.slots import Slots
from stepwire_server.engine.spread import Spread
from stepwire_server.engine.step_runner import Cause, StepRunner, Surroundings
from stepwire_server.journal import ExecutionRecord, Journal

__all__ = ["Executor", "Settings"]

_log = logging.getLogger(__name__)


_PAUSED = ExecutionState.EXECUTION_STATE_PAUSED
_CANCELLING = ExecutionState.EXECUTION_STATE_CANCELLING

_LAST_WORDS = 1.0
"""Seconds that the steps of a parked execution have to end after they were interrupted, so that it can be recorded."""

_LAST_APPENDS = 1.0
"""Seconds that a parked execution's last events have to become durable."""


class Executor:
    """Runs one execution in a task of its own. `on_end` is called once, when nothing is recorded here any more;
    `keep` is given each task that may run on after that.
    """

    def __init__(
        self,
        record: ExecutionRecord,
        fold: Fold,
        *,
        catalog: Catalog,
        journal: Journal,
        clock: Clock,
        settings: Settings,
        threads: ThreadPool,
        on_end: Callable[[Executor], None],
        keep: Callable[[asyncio.Task[Any]], None],
        known: Callable[[], Mapping[str, Spread]],
        inheritance: Inheritance | None = None,
    ) -> None:
        self.execution_id = record.execution_id
        self.fold = fold
        self._record = record
        self._request = ExecuteRequest.FromString(record.request)
        bound = settings.max_parallel_steps
        if self._request.options.max_parallel_steps:
            bound = min(bound, self._request.options.max_parallel_steps)
        self.recorder = Recorder(
            journal,
            record,
            fold,
            clock=clock,
            max_pending_bytes=settings.max_pending_bytes,
            on_lost=unless_gone(self._lost, None),
            foresight=Foresight(fold, slots=bound, known=known),
        )
        self._catalog = catalog
        self._clock = clock
        self._settings = settings
        self._on_end = on_end
        self._keep = keep
        self._inheritance = inheritance
        self._begun = False
        self.inherited = asyncio.Event()
        """Set when everything that it keeps of an earlier execution is recorded, or it has ended here without that."""
        if inheritance is None:
            self.inherited.set()
        self._course = Course()
        self._wake = asyncio.Event()
        self._slots = Slots(bound, self._wake.set)
        self._around = Surroundings(
            execution_id=record.execution_id,
            session_id=record.session_id,
            recorder=self.recorder,
            clock=clock,
            threads=threads,
            simulate=self._request.options.simulate,
            cancel_grace=settings.cancel_grace,
            course=self._course,
            going=asyncio.Event(),
            slots=self._slots,
            desk=Desk(clock),
            growth=Growth(
                self.recorder,
                catalog,
                execution_id=record.execution_id,
                course=self._course,
                on_grown=unless_gone(self._take_up_growth, None),
            ),
        )
        self._running: dict[int, StepRunner] = {}
        self._flow: Flow | None = None
        self._timers: list[Timer] = []
        self._mind_pause()

    @property
    def unwatched_limit(self) -> float | None:
        """Seconds without a watcher after which the execution is to be cancelled. None: never."""
        options = self._request.options
        if not options.HasField("cancel_if_unwatched_for"):
            return None
        return float(options.cancel_if_unwatched_for.ToNanoseconds()) / 1e9

    # -- from outside

    def start(self) -> None:
        """Begins, or goes on where the events end."""
        if self._inheritance is not None:
            # Before anyone can cancel it: what is cancelled has its plan and what it keeps, so that it can be retried.
            self._begin()
        self._course.task = asyncio.create_task(self._run(), name=f"execution {self.execution_id}")

    def cancel(self, *, actor: str, reason: str) -> int:
        """Records that the end was asked for, and tells the running steps. Returns the sequence that must be durable
        before anyone is told. Raises ExecutionEnded.
        """
        if self.fold.ended:
            raise ended(self.execution_id, self.fold.state)
        if self.fold.state == _CANCELLING:
            return self.fold.sequence
        sequence = self.recorder.record(cancelling(actor=actor, reason=reason))
        self._stop()
        return sequence

    def pause(self, *, actor: str, reason: str) -> int:
        """Records that no other step is to start. Returns the sequence that must be durable before anyone is told.
        Raises ExecutionEnded, also where the end was asked for.
        """
        self._check_going_on()
        if self._paused:
            return self.fold.sequence
        return self._record_pause(paused(actor=actor, reason=reason))

    def resume(self, *, actor: str, reason: str) -> int:
        """Records that steps may start again. Returns and raises as `pause` does."""
        self._check_going_on()
        if not self._paused:
            return self.fold.sequence
        return self._record_pause(resumed(actor=actor, reason=reason))

    def provide(self, input_id: str, value: struct_pb2.Value, *, actor: str, verdict: Verdict | None) -> int:
        """Records the answer to a question and lets its step go on. Returns the sequence that must be durable before
        anyone is told. Raises ExecutionEnded, and as `record_answer`, which has `verdict` too.
        """
        if self.fold.ended:
            raise ended(self.execution_id, self.fold.state)
        return record_answer(self.recorder, self._around.desk, input_id, value, actor=actor, verdict=verdict)

    async def park(self, grace: float) -> None:
        """Starts no other step, lets running ones end for `grace` seconds, then interrupts them, and records no end: a
        later recovery goes on from there.
        """
        assert self._course.task is not None
        self._course.leaving = True
        self._mind_pause()
        for runner in list(self._running.values()):
            runner.park_if_resting()
        self._wake.set()
        await asyncio.wait({self._course.task}, timeout=grace)
        for runner in list(self._running.values()):
            runner.interrupt(Cause.PARK)
        await asyncio.wait({self._course.task}, timeout=_LAST_WORDS)
        for runner in list(self._running.values()):
            runner.leave()
        self._end_grace()
        _, left = await asyncio.wait({self._course.task}, timeout=_LAST_APPENDS)
        if left:
            # The journal does not take what is pending (its disk is full, say). A later owner goes on without it.
            self.recorder.give_up()
            await asyncio.wait(left)

    def _check_going_on(self) -> None:
        if self.fold.ended or self.fold.state == _CANCELLING:
            raise ended(self.execution_id, self.fold.state)

    def _record_pause(self, event: Event) -> int:
        sequence = self.recorder.record(event)
        self._mind_pause()
        self._wake.set()
        return sequence

    @property
    def _paused(self) -> bool:
        return self.fold.state == _PAUSED

    def _mind_pause(self) -> None:
        """Holds attempts back at their places to stop, or lets them go on. What is ending is not held back: its steps
        may have to clean up.
        """
        if (self._paused or self._course.leaving) and not self._course.stopping:
            self._around.going.clear()
        else:
            self._around.going.set()

    # -- the execution's task

    async def _run(self) -> None:
        try:
            self._begin()
            self._watch_time_limit()
            if (self.fold.graph is not None or await self._begin_plan()) and await self._inherit():
                await self._run_steps()
            if not (self._course.leaving or self.fold.ended):
                await self._conclude()
        except RecorderClosed:
            _log.warning("execution %s can't be recorded here any more", self.execution_id)
        except Exception:
            _log.exception("execution %s: a bug in the engine", self.execution_id)
            self._fail_hard()
        finally:
            for timer in self._timers:
                timer.cancel()
            for runner in self._running.values():
                if runner.task is not None:
                    self._keep(runner.task)
            self.inherited.set()
            try:
                await self.recorder.settle()
            finally:
                self._on_end(self)

    def _begin(self) -> None:
        """Records what comes first."""
        if self._begun:
            return
        self._begun = True
        if self._record.epoch > 1:
            self._take_over()
        if self._inheritance is not None and self.fold.graph is None:
            record_plan(self.recorder, self._request, self._inheritance.plan, query=self._inheritance.query)

    def _take_over(self) -> None:
        if self.fold.state == _CANCELLING:
            self._stop()
        record_takeover(
            self.recorder,
            epoch=self._record.epoch,
            stopping=self._course.stopping,
            operation_of=partial(operation_of, self._catalog),
        )

    def _watch_time_limit(self) -> None:
        options = self._request.options
        if options.HasField("time_limit"):
            # By the time of the events: a wall clock that was set back must not give the hours again.
            passed = (self.recorder.now_ns() - self._record.create_time_ns) / 1e9
            left = options.time_limit.ToNanoseconds() / 1e9 - passed
            if left <= 0:
                return self._time_is_up()
            self._timers.append(self._clock.call_later(left, self._time_is_up))
        return None

    def _time_is_up(self) -> None:
        if not (self._course.stopping or self.fold.ended):
            self._course.overdue = True
            self._stop()

    async def _begin_plan(self) -> bool:
        """Gets the plan and records it. Returns False where there is none: the execution has failed, or is stopping."""
        if self._course.stopping or self._course.leaving or self._is_orphan:
            return False
        if self._request.HasField("plan") and self._record.epoch == 1:
            # Checked where it was accepted, in this process. A later one may serve another app.
            record_plan(self.recorder, self._request, self._request.plan, query="")
            return True
        try:
            plan = await await_plan(
                self._request,
                self._catalog,
                name=f"planning {self.execution_id}",
                wake=self._wake,
                stops=lambda: self._course.stopping or self._course.leaving,
                gives_up=lambda: self._course.grace_over,
                keep=self._keep,
            )
        except PlanningFailed as error:
            record_failed(self.recorder, error.status)
            return False
        if plan is None:
            return False
        record_plan(self.recorder, self._request, plan, query=query_of(self._request))
        return True

    async def _inherit(self) -> bool:
        """Records what is kept of an earlier execution, also where this one is to end. Returns False where that is not
        all.
        """
        kept = self._inheritance
        self._inheritance = None
        if kept is not None and not await take_over(self.recorder, kept.events, leaving=lambda: self._course.leaving):
            return False
        self.inherited.set()
        return not self._is_orphan

    @property
    def _is_orphan(self) -> bool:
        """Whether the earlier execution was gone before this one had all that it keeps of it."""
        return not has_all(self.fold, self._request)

    async def _run_steps(self) -> None:
        self._flow = Flow(
            self._around,
            self._catalog,
            running=self._running,
            wake=self._wake,
            fails_fast=self._request.options.failure_policy == ExecutionOptions.FAILURE_POLICY_FAIL_FAST,
            stop=unless_gone(self._stop, None),
            keep=self._keep,
        )
        await self._flow.run()

    def _take_up_growth(self) -> None:
        assert self._flow is not None
        self._flow.grow()

    # -- the end

    def _stop(self) -> None:
        """Starts no other step and interrupts those that run. Why, has been noted."""
        if self._course.stopping:
            return
        self._course.stopping = True
        for runner in list(self._running.values()):
            runner.interrupt(Cause.CANCEL)
        self._mind_pause()
        self._slots.lift()
        self._timers.append(self._clock.call_later(self._settings.cancel_grace, self._end_grace))
        self._wake.set()

    def _end_grace(self) -> None:
        self._course.grace_over = True
        self._wake.set()

    async def _conclude(self) -> None:
        graph = self.fold.graph
        if graph is not None:
            for index in () if self.fold.all_done else range(len(graph)):
                await skip(self.recorder, index, culprit="")
            if self._flow is not None:
                await self._flow.end()
        if self.fold.state == _CANCELLING:
            record_cancelled(self.recorder)
        elif graph is not None and self.fold.all_done:
            # Also where the time was up before this could be said: nothing is left that could take longer.
            record_completed(self.recorder)
        else:
            record_failed(self.recorder, self._why_failed())

    def _why_failed(self) -> status_pb2.Status:
        if self._course.overdue:
            limit = self._request.options.time_limit.ToTimedelta()
            return failure("TIME_LIMIT", f"the execution did not end within its time limit of {limit}")
        if self._is_orphan:
            return failure("PLAN_NOT_FOUND", "the execution that it retries was gone before all was kept of it")
        return failure("STEP_FAILED", what_failed(self.fold, self._flow.failed if self._flow is not None else []))

    def _fail_hard(self) -> None:
        """Ends an execution that the engine itself could not run on."""
        for runner in list(self._running.values()):
            self._keep(runner.abandon())
        self._running.clear()
        try:
            if self.fold.state == _CANCELLING:
                record_cancelled(self.recorder)
                return
            record_failed(self.recorder, failure("INTERNAL_ERROR", "the engine failed; the server's log says where"))
        except Exception:
            _log.exception("execution %s: its end could not be recorded", self.execution_id)

    def _lost(self, error: BaseException) -> None:
        """The journal refuses: another process owns the execution, or the journal is gone. Stops, records nothing."""
        self._course.leaving = True
        for runner in list(self._running.values()):
            runner.interrupt(Cause.PARK)
        self._end_grace()
