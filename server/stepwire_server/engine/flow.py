"""The steps of one execution, from when its plan is known until none is left to run.

    ready, a slot is free -> its runner begins
    a runner has ended    -> what waited for it is ready, or will not run

A step that can start at once is started where another one ends. What has to wait for room, and what the execution
itself records, is done in its own task, which costs a turn of the event loop more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import copy_context
from typing import Any

from stepwire.v1 import ExecutionState, Step, StepState
from stepwire_server.engine.conditions import unmet
from stepwire_server.engine.course import unless_gone
from stepwire_server.engine.ending import record_not_met, skip
from stepwire_server.engine.fold import Fold
from stepwire_server.engine.graph import Graph
from stepwire_server.engine.mapping import Mappings
from stepwire_server.engine.operation import Catalog
from stepwire_server.engine.recovery import operation_of
from stepwire_server.engine.schedule import Schedule
from stepwire_server.engine.step_runner import StepRunner, Surroundings

__all__ = ["Flow"]

_PAUSED = ExecutionState.EXECUTION_STATE_PAUSED
_COMPLETED = StepState.STEP_STATE_COMPLETED
_FAILED = StepState.STEP_STATE_FAILED
_LOST = frozenset({_FAILED, StepState.STEP_STATE_CANCELLED})


class Flow:
    """Made when the plan is known. The steps that run are in `running`, by their index."""

    def __init__(
        self,
        around: Surroundings,
        catalog: Catalog,
        *,
        running: dict[int, StepRunner],
        wake: asyncio.Event,
        fails_fast: bool,
        stop: Callable[[], None],
        keep: Callable[[asyncio.Task[Any]], None],
    ) -> None:
        """`wake` is set when there is something for `run`; `stop` is called where a failure ends the execution; `keep`
        is given each task that runs on after its step has ended.
        """
        self._around = around
        self._catalog = catalog
        self._recorder = around.recorder
        self._course = around.course
        self._slots = around.slots
        self._running = running
        self._wake = wake
        self._fails_fast = fails_fast
        self._stop = stop
        self._keep = keep
        self._context = copy_context()  # What steps inherit, whoever starts them.
        self._schedule = Schedule.of(self._fold)
        self._mappings = Mappings(
            around,
            self._schedule,
            may_start=unless_gone(self._may_start, False),
            on_end=unless_gone(self._mapped_ended, None),
        )
        pairs = zip(self._graph.steps, self._fold.steps, strict=True)
        self.failed = [step.id for step, fold in pairs if fold.state == _FAILED]
        """The steps that failed, in order."""

    async def run(self) -> None:
        """Returns when no step runs and none is to start, or when nothing is waited for any longer."""
        schedule, mappings, course = self._schedule, self._mappings, self._course
        if self.failed and self._fails_fast:
            self._stop()
        while True:
            # Before anything is looked at: what is done below waits for room, and may miss what happens meanwhile.
            self._wake.clear()
            await mappings.settle()
            while schedule.to_skip:
                index, culprit = schedule.next_to_skip()
                await skip(self._recorder, index, culprit=self._graph.steps[culprit].id)
            while self._can_start():
                await self._recorder.room()
                if self._can_start():
                    self._begin_step(schedule.next_ready())
            idle = not (self._running or schedule.to_skip or mappings.has_news)
            left = schedule.ready or mappings.has_unopened
            if idle and (course.stopping or course.leaving or not left):
                return
            if course.leaving and course.grace_over:
                return
            await self._wake.wait()

    def grow(self) -> None:
        """Takes up steps that were added to the plan."""
        self._schedule.grow(self._fold.steps)
        self._wake.set()

    async def end(self) -> None:
        """Records the ends of mapped steps that have not ended, in an execution that is ending."""
        await self._mappings.end()

    # -- starting

    def _may_start(self) -> bool:
        return not (self._course.stopping or self._course.leaving or self._fold.state == _PAUSED)

    def _can_start(self) -> bool:
        return self._schedule.ready and self._slots.free and self._may_start()

    def _begin_step(self, index: int) -> None:
        """Starts a step, or records that its own conditions skip it. One that had begun is not judged again."""
        step = self._graph.steps[index]
        judged = self._around.simulate or self._fold.steps[index].attempt
        if why := "" if judged else unmet(step, self._fold.output):
            record_not_met(self._recorder, index, why=why)
            self._schedule.done(index)
        elif index in self._graph.items:
            self._mappings.begin(index)
            self._wake.set()
        else:
            self._start_step(step, index)

    def _start_step(self, step: Step, index: int) -> None:
        runner = StepRunner(index, step, operation_of(self._catalog, step), self._around, on_end=self._step_ended)
        self._running[index] = runner
        self._slots.take(index)
        runner.start(self._context)

    def _start_others(self) -> None:
        """Starts steps that can start at once, and leaves all else to `run`."""
        if self._schedule.to_skip or self._mappings.has_news:
            self._wake.set()
            return
        while self._can_start():
            index = self._schedule.first_ready
            step = self._graph.steps[index]
            if step.conditions or index in self._graph.items or not self._recorder.has_room():
                self._wake.set()
                return
            self._start_step(step, self._schedule.next_ready())
        if not self._running:
            self._wake.set()

    # -- ending

    def _step_ended(self, runner: StepRunner) -> None:
        """Is called in the step's task, or in a timer's call."""
        del self._running[runner.index]
        if runner.task is not None and runner.abandoned:
            self._keep(runner.task)
        self._note_end(runner.index)
        self._slots.end(runner.index)
        self._start_others()

    def _mapped_ended(self, index: int) -> None:
        self._note_end(index)
        self._wake.set()

    def _note_end(self, index: int) -> None:
        """Notes what the end of a step means for the others."""
        state = self._fold.steps[index].state
        if state == _COMPLETED:
            self._schedule.done(index)
        elif state in _LOST:
            self._schedule.failed(index)
            if state == _FAILED:
                self.failed.append(self._graph.steps[index].id)
            if self._fails_fast:
                self._stop()
        self._mappings.item_ended(index)

    @property
    def _fold(self) -> Fold:
        return self._recorder.fold

    @property
    def _graph(self) -> Graph:
        graph = self._recorder.fold.graph
        assert graph is not None
        return graph
