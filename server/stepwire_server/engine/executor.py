"""Runs one execution: from its request, or from where its events end, to its terminal event.

    plan -> ready steps start in plan order -> each step's task records what happens -> conclude

Every step runs in a task of its own, and the execution in another. A step's task records the step's own events; the
execution's task starts and skips steps and records the terminal event. Nothing here knows who watches.
"""

from __future__ import annotations

import asyncio
import contextvars
import enum
import heapq
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Executor as ThreadPool
from dataclasses import dataclass, field
from typing import Any

from google.protobuf import struct_pb2
from google.rpc import status_pb2

from stepwire.errors import ExecutionEnded, LimitSize, QueryNotUnderstood, failure
from stepwire.v1 import (
    Event,
    ExecuteRequest,
    ExecutionOptions,
    ExecutionState,
    Plan,
    Retry,
    Step,
    StepSkipped,
    StepState,
)
from stepwire_server.engine import acceptance, values
from stepwire_server.engine.clock import Clock, Timer
from stepwire_server.engine.context import BlockingStepContext, Result, StepContext, running_step
from stepwire_server.engine.fold import Fold
from stepwire_server.engine.graph import Graph
from stepwire_server.engine.operation import Catalog, Operation, Signature, Style
from stepwire_server.engine.recorder import Recorder, RecorderClosed
from stepwire_server.engine.states import LIVE_STEP
from stepwire_server.journal import ExecutionRecord, Journal

__all__ = ["MAX_RECOVERIES", "Executor", "Settings"]

_log = logging.getLogger(__name__)

MAX_RECOVERIES = 3
"""How often a step may be lost with its process before it fails for good."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What every execution of a server shares."""

    max_parallel_steps: int = 32
    """Steps of one execution that run at once, where its options do not say less."""
    max_pending_bytes: int = 4 << 20
    """Bytes of one execution's events that wait for the journal. Beyond, operations wait."""
    cancel_grace: float = 10.0
    """Seconds that an operation has to end after it was cancelled or ran out of time. Then its task is abandoned."""


class _Cause(enum.Enum):
    """Why a step's task is interrupted."""

    CANCEL = enum.auto()
    TIMEOUT = enum.auto()
    PARK = enum.auto()


@dataclass(slots=True, eq=False)
class _StepRun:
    """One step while it runs."""

    index: int
    step: Step
    operation: Operation
    task: asyncio.Task[None] | None = None
    context: StepContext | None = None
    cause: _Cause | None = None
    started: float = 0.0
    abandoned: bool = False
    timers: list[Timer] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.step.name or self.step.id

    def stop_timers(self) -> None:
        for timer in self.timers:
            timer.cancel()
        self.timers.clear()


class _Failed(Exception):
    """An attempt failed: with the status for its event, and the exception's class where it may be worth another."""

    def __init__(self, status: status_pb2.Status, *, kind: type[BaseException] | None = None) -> None:
        super().__init__(status.message)
        self.status = status
        self.kind = kind


class Executor:
    """Runs one execution in a task of its own."""

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
    ) -> None:
        self.execution_id = record.execution_id
        self.fold = fold
        self._record = record
        self._request = ExecuteRequest.FromString(record.request)
        self._catalog = catalog
        self._clock = clock
        self._settings = settings
        self._threads = threads
        self._on_end = on_end
        self.recorder = Recorder(
            journal,
            record,
            fold,
            clock=clock,
            max_pending_bytes=settings.max_pending_bytes,
            on_lost=self._lost,
        )
        self._wake = asyncio.Event()
        self._waits: list[int] = []
        self._ready: list[int] = []
        self._to_skip: list[tuple[int, str]] = []
        self._running: dict[int, _StepRun] = {}
        self._abandoned: set[asyncio.Task[Any]] = set()
        self._failed: list[str] = []
        self._cancelled_by = ("", "")
        self._overdue = False
        self._stopping = False
        self._parking = False
        self._is_lost = False
        self._grace_over = False
        self._timers: list[Timer] = []
        self._task: asyncio.Task[None] | None = None

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
        self._task = asyncio.create_task(self._run(), name=f"execution {self.execution_id}")

    def cancel(self, *, actor: str, reason: str) -> int:
        """Records that the end was asked for, and tells the running steps. Returns the sequence that must be durable
        before anyone is told. Raises ExecutionEnded.
        """
        if self.fold.ended or self._is_lost:
            raise ended(self.execution_id, self.fold.state)
        if self.fold.state == ExecutionState.EXECUTION_STATE_CANCELLING:
            return self.fold.sequence
        event = Event(message=reason or "Cancelled")
        event.plan_cancelling.actor = actor
        event.plan_cancelling.reason = reason
        sequence = self.recorder.record(event)
        self._cancelled_by = (actor, reason)
        self._stop()
        return sequence

    async def park(self, grace: float) -> None:
        """Starts no other step, lets running ones end for `grace` seconds, then interrupts them, and records no end: a
        later recovery goes on from there.
        """
        self._parking = True
        self._wake.set()
        if self._task is None:
            return
        await asyncio.wait({self._task}, timeout=grace)
        for run in list(self._running.values()):
            self._interrupt(run, _Cause.PARK)
        self._grace_over = True
        self._wake.set()
        _, left = await asyncio.wait({self._task}, timeout=1.0)
        for task in left:
            task.cancel()
            await asyncio.wait({task})

    # -- the execution's task

    async def _run(self) -> None:
        try:
            if await self._prepare():
                await self._run_steps()
            if not (self._parking or self._is_lost or self.fold.ended):
                await self._conclude()
        except RecorderClosed:
            _log.info("execution %s ended elsewhere", self.execution_id)
        except Exception:
            _log.exception("execution %s: a bug in the engine", self.execution_id)
            self._fail_hard()
        finally:
            for timer in self._timers:
                timer.cancel()
            await self.recorder.settle()
            self._on_end(self)

    async def _prepare(self) -> bool:
        """Brings the execution to where steps run: recovers what a former process left, makes the plan. Returns False
        where there is nothing to run.
        """
        if self._record.epoch > 1:
            self._take_over()
        self._watch_time_limit()
        if self.fold.graph is not None:
            return True
        if self._stopping:
            return False
        plan = await self._make_plan()
        if plan is None:
            return False
        event = Event(message=f"Execution started: {_count(len(plan.steps), 'step')}")
        event.plan_started.plan.CopyFrom(plan)
        event.plan_started.query = self._request.query
        self.recorder.record(event)
        return True

    def _watch_time_limit(self) -> None:
        options = self._request.options
        if options.HasField("time_limit"):
            passed = (self._clock.now_ns() - self._record.create_time_ns) / 1e9
            left = options.time_limit.ToNanoseconds() / 1e9 - passed
            self._timers.append(self._clock.call_later(max(left, 0.0), self._time_is_up))

    def _time_is_up(self) -> None:
        if not (self._stopping or self.fold.ended):
            self._overdue = True
            self._stop()

    async def _make_plan(self) -> Plan | None:
        """Returns the plan; None where the execution has to end without one (it has been failed then, or is stopping)."""
        if self._request.HasField("plan"):
            return self._request.plan
        task = asyncio.create_task(self._ask_for_plan(), name=f"planning {self.execution_id}")
        task.add_done_callback(lambda _: self._wake.set())
        interrupted = False
        while not task.done() and not self._grace_over:
            if (self._stopping or self._parking) and not interrupted:
                interrupted = True
                task.cancel()
            self._wake.clear()
            await self._wake.wait()
        if not task.done():
            self._abandon(task, "the planner")
            return None
        if task.cancelled():
            if not interrupted:
                self._end_badly(failure("PLANNER_FAILED", "the planner raised CancelledError"))
            return None
        problem = task.exception()
        if self._stopping or self._parking:
            return None
        if problem is None:
            return task.result()
        if isinstance(problem, QueryNotUnderstood):
            self._end_badly(failure("QUERY_NOT_UNDERSTOOD", problem.message))
        elif isinstance(problem, _Failed):
            self._end_badly(problem.status)
        else:
            _log.error("execution %s: the planner failed", self.execution_id, exc_info=problem)
            self._end_badly(failure("PLANNER_FAILED", _text(problem)))
        return None

    async def _ask_for_plan(self) -> Plan:
        if self._request.HasField("call"):
            named = self._catalog.plans.get(self._request.call.plan)
            if named is None:
                raise _Failed(failure("PLAN_NOT_FOUND", f"there is no plan {self._request.call.plan!r}"))
            made = named.function(**named.signature.bind(values.from_struct(self._request.call.input)))
            plan = await made if asyncio.iscoroutine(made) else made
        elif self._catalog.planner is None:
            raise _Failed(failure("NO_PLANNER", "this server has no planner any more"))
        else:
            plan = await self._catalog.planner(self._request.query)
        if not isinstance(plan, Plan):
            raise _Failed(failure("PLAN_INVALID", f"the planner returned {type(plan).__name__}, not Plan"))
        wrong = acceptance.plan_problem(plan, self._catalog)
        if wrong is not None:
            raise _Failed(failure("PLAN_INVALID", str(wrong)))
        return plan

    async def _run_steps(self) -> None:
        graph = self.fold.graph
        assert graph is not None
        self._find_work(graph)
        bound = self._settings.max_parallel_steps
        if self._request.options.max_parallel_steps:
            bound = min(bound, self._request.options.max_parallel_steps)
        while not self._is_lost:
            await self._skip_what_failed(graph)
            if not (self._stopping or self._parking):
                while self._ready and len(self._running) < bound:
                    await self.recorder.room()
                    if self._stopping or self._parking:
                        break
                    self._begin(graph, heapq.heappop(self._ready))
            if not self._running and not self._to_skip and (not self._ready or self._stopping or self._parking):
                return
            if self._grace_over and self._parking:
                return
            self._wake.clear()
            await self._wake.wait()

    def _find_work(self, graph: Graph) -> None:
        """Sets up the schedule from the fold: from nothing, or from where a former process left off."""
        done = [self._is_done(i) for i in range(len(graph))]
        self._waits = list(graph.waits_for)
        for i in range(len(graph)):
            if done[i]:
                for follower in graph.dependants[i]:
                    self._waits[follower] -= 1
        waiting = (StepState.STEP_STATE_PENDING, StepState.STEP_STATE_STARTING)
        for i, fold in enumerate(self.fold.steps):
            if fold.state in waiting and self._waits[i] == 0:
                self._ready.append(i)
            elif fold.state in (StepState.STEP_STATE_FAILED, StepState.STEP_STATE_CANCELLED):
                self._after_failure(graph, i)

    def _is_done(self, index: int) -> bool:
        # A step that its own condition skipped has an output of null, and its dependants run.
        return self.fold.steps[index].state == StepState.STEP_STATE_COMPLETED

    async def _skip_what_failed(self, graph: Graph) -> None:
        while self._to_skip:
            index, culprit = self._to_skip.pop(0)
            if self.fold.steps[index].state == StepState.STEP_STATE_PENDING:
                await self.recorder.room()
                self._skip(graph, index, StepSkipped.CAUSE_DEPENDENCY, culprit)

    def _skip(self, graph: Graph, index: int, cause: StepSkipped.Cause.ValueType, culprit: str = "") -> None:
        step = graph.steps[index]
        why = f"Skipped: {culprit} did not complete" if culprit else "Skipped: the execution is ending"
        event = Event(step_id=step.id, step_name=step.name or step.id, message=why)
        event.step_skipped.cause = cause
        event.step_skipped.failed_step_id = culprit
        self.recorder.record(event)

    def _begin(self, graph: Graph, index: int) -> None:
        step = graph.steps[index]
        run = _StepRun(index=index, step=step, operation=self._operation(step))
        self._running[index] = run
        run.task = asyncio.create_task(self._run_step(run), name=f"step {self.execution_id}/{step.id}")

    def _after_failure(self, graph: Graph, index: int) -> None:
        name = graph.steps[index].id
        if self.fold.steps[index].state == StepState.STEP_STATE_FAILED:
            self._failed.append(name)
        self._to_skip += [(i, name) for i in graph.descendants(index)]
        if self._request.options.failure_policy == ExecutionOptions.FAILURE_POLICY_FAIL_FAST:
            self._stop()

    def _stop(self) -> None:
        """Starts no other step and interrupts those that run. The cause has been noted."""
        if self._stopping:
            return
        self._stopping = True
        for run in list(self._running.values()):
            self._interrupt(run, _Cause.CANCEL)
        self._timers.append(self._clock.call_later(self._settings.cancel_grace, self._end_grace))
        self._wake.set()

    def _end_grace(self) -> None:
        self._grace_over = True
        self._wake.set()

    async def _conclude(self) -> None:
        graph = self.fold.graph
        if graph is not None:
            for index, fold in enumerate(self.fold.steps):
                if fold.state == StepState.STEP_STATE_PENDING:
                    await self.recorder.room()
                    self._skip(graph, index, StepSkipped.CAUSE_ENDED)
        if self.fold.state == ExecutionState.EXECUTION_STATE_CANCELLING:
            actor, reason = self._cancelled_by
            event = Event(message=f"Execution cancelled{': ' + reason if reason else ''}")
            event.plan_cancelled.actor = actor
            event.plan_cancelled.reason = reason
            self._time(event.plan_cancelled.execution_time)
            self.recorder.record(event)
        elif self._overdue:
            limit = self._request.options.time_limit.ToTimedelta()
            self._end_badly(failure("TIME_LIMIT", f"the execution did not end within its time limit of {limit}"))
        elif self._failed:
            self._end_badly(failure("STEP_FAILED", self._what_failed()))
        else:
            self._end_well()

    def _end_well(self) -> None:
        total = len(self.fold.steps)
        event = Event(message=f"Execution completed: {self.fold.completed}/{total} steps succeeded")
        self._time(event.plan_completed.execution_time)
        output = self._output()
        if output is not None:
            event.plan_completed.output.CopyFrom(output)
        try:
            self.recorder.record(event)
        except LimitSize:
            event.plan_completed.ClearField("output")
            event.message += "; the outputs together are above 1 MiB, read them from step_completed"
            self.recorder.record(event)

    def _end_badly(self, status: status_pb2.Status) -> None:
        event = Event(message=f"Execution failed: {status.message}")
        event.plan_failed.error.CopyFrom(status)
        self._time(event.plan_failed.execution_time)
        output = self._output(only_completed=True)
        if output is not None:
            event.plan_failed.output.CopyFrom(output)
        try:
            self.recorder.record(event)
        except LimitSize:
            event.plan_failed.ClearField("output")
            event.plan_failed.error.message = event.plan_failed.error.message[:1000]
            event.message = event.message[:1000]
            self.recorder.record(event)

    def _output(self, *, only_completed: bool = False) -> struct_pb2.Value | None:
        graph = self.fold.graph
        if graph is None:
            return None
        sinks = graph.sinks()
        if len(sinks) == 1 and not only_completed:
            return self.fold.steps[sinks[0]].output
        outputs = {graph.steps[i].id: self.fold.steps[i].output for i in sinks if self.fold.steps[i].output is not None}
        if not outputs:
            return None
        value = struct_pb2.Value()
        for name, output in outputs.items():
            value.struct_value.fields[name].CopyFrom(output)
        return value

    def _what_failed(self) -> str:
        graph = self.fold.graph
        assert graph is not None
        shown = ", ".join(self._failed[:5]) + (f" and {len(self._failed) - 5} more" if len(self._failed) > 5 else "")
        return f"{_count(len(self._failed), 'step')} of {len(graph)} failed: {shown}"

    def _time(self, target: Any) -> None:
        target.FromNanoseconds(max(self._clock.now_ns(), self.fold.time_ns) - self._record.create_time_ns)

    def _fail_hard(self) -> None:
        """Ends an execution that the engine itself could not run on."""
        for run in list(self._running.values()):
            run.stop_timers()
            if run.task is not None:
                self._abandon(run.task, f"step {run.step.id}")
        self._running.clear()
        try:
            self._end_badly(failure("INTERNAL_ERROR", "the engine failed; the server's log says where"))
        except Exception:
            _log.exception("execution %s: its end could not be recorded", self.execution_id)

    def _lost(self, error: BaseException) -> None:
        """The journal refuses: another process owns the execution, or the journal is gone. Stops, records nothing."""
        self._is_lost = True
        for run in list(self._running.values()):
            self._interrupt(run, _Cause.PARK)
        self._wake.set()

    # -- recovery

    def _take_over(self) -> None:
        """Records that another process runs the execution now, and what that means for the steps that ran."""
        event = Event(message="Recovered: the execution goes on in another process")
        event.plan_recovered.epoch = self._record.epoch
        event.plan_recovered.state = self.fold.state
        self.recorder.record(event)
        graph = self.fold.graph
        if graph is None:
            return
        if self.fold.state == ExecutionState.EXECUTION_STATE_CANCELLING:
            self._cancelled_by = self.fold.cancelled_by
            self._stop()
        for index, fold in enumerate(self.fold.steps):
            step = graph.steps[index]
            if fold.state in LIVE_STEP:
                self._settle_lost_attempt(step, index, self._operation(step))

    def _operation(self, step: Step) -> Operation:
        """Returns a step's operation; one that fails where a recovered plan names one that the app no longer has."""
        return self._catalog.operations.get(step.operation) or Operation(
            name=step.operation, function=_gone, signature=_ANYTHING, style=Style.COROUTINE
        )

    def _settle_lost_attempt(self, step: Step, index: int, operation: Operation) -> None:
        fold = self.fold.steps[index]
        event = Event(step_id=step.id, step_name=step.name or step.id, attempt=fold.attempt)
        if self._stopping:
            event.step_cancelled.abandoned = True
        elif operation.at_most_once:
            status = failure("OUTCOME_UNKNOWN", "the process ended while the step ran; it runs at most once")
            event.step_failed.error.CopyFrom(status)
        elif fold.recoveries >= MAX_RECOVERIES:
            status = failure("RECOVERY_LIMIT", f"the process ended while the step ran, {fold.recoveries + 1} times")
            event.step_failed.error.CopyFrom(status)
        else:
            event.step_retrying.error.CopyFrom(failure("RECOVERED", "the process ended while the step ran"))
            event.step_retrying.next_attempt = fold.attempt + 1
            event.step_retrying.delay.SetInParent()
        event.message = "The attempt was lost with its process"
        self.recorder.record(event)

    # -- a step's task

    async def _run_step(self, run: _StepRun) -> None:
        """Runs a step's attempts and records how it ended. Raises nothing."""
        fold = self.fold.steps[run.index]
        try:
            while not await self._attempt(run):
                pass
        except RecorderClosed:
            pass
        except asyncio.CancelledError:
            if run.cause is None:
                raise
        except Exception:
            _log.exception("execution %s, step %s: a bug in the engine", self.execution_id, run.step.id)
            if not run.abandoned and fold.state in LIVE_STEP:
                self._record_failure(run, failure("INTERNAL_ERROR", "the engine failed; the server's log says where"))
        finally:
            run.stop_timers()
            if not run.abandoned:
                self._step_ended(run)

    def _step_ended(self, run: _StepRun) -> None:
        del self._running[run.index]
        graph = self.fold.graph
        assert graph is not None
        state = self.fold.steps[run.index].state
        if state == StepState.STEP_STATE_COMPLETED:
            for follower in graph.dependants[run.index]:
                self._waits[follower] -= 1
                if self._waits[follower] == 0:
                    heapq.heappush(self._ready, follower)
        elif state in (StepState.STEP_STATE_FAILED, StepState.STEP_STATE_CANCELLED):
            self._after_failure(graph, run.index)
        self._wake.set()

    async def _attempt(self, run: _StepRun) -> bool:
        """Makes one attempt. Returns True where the step has ended, False where another attempt shall follow."""
        fold = self.fold.steps[run.index]
        run.cause = None
        context = run.context = StepContext(
            self.recorder,
            execution_id=self.execution_id,
            session_id=self._record.session_id,
            id=run.step.id,
            name=run.name,
            operation=run.operation.name,
            attempt=fold.attempt + 1,
            results=lambda: self._results(run.step),
        )
        event = self._event(run, f"Started: {run.name}", attempt=context.attempt)
        event.step_started.operation = run.operation.name
        sequence = self.recorder.record(event)
        run.started = self._clock.monotonic()
        self._watch_timeout(run)
        try:
            if run.operation.at_most_once:
                await self.recorder.durable(sequence)
            output = await self._call(run, context)
        except _Failed as error:
            return await self._after_attempt(run, error)
        except asyncio.CancelledError:
            return await self._after_cancel(run)
        except RecorderClosed:
            raise
        except BaseException as error:
            if not isinstance(error, Exception):
                _log.error("step %s raised %r", run.step.id, error)
            return await self._after_attempt(run, self._judge(run, error))
        finally:
            run.stop_timers()
            context.close("the attempt has ended")
        if run.abandoned:
            _log.warning("step %s/%s ended after it was abandoned", self.execution_id, run.step.id)
            return True
        if run.cause is _Cause.TIMEOUT:
            return await self._after_cancel(run)
        return self._record_completion(run, output)

    def _judge(self, run: _StepRun, error: BaseException) -> _Failed:
        """Returns what an exception that an operation raised means for its step."""
        if run.cause is _Cause.TIMEOUT:
            return self._timed_out(run)
        _log.warning("step %s/%s failed", self.execution_id, run.step.id, exc_info=error)
        return _Failed(failure("OPERATION_FAILED", _text(error)), kind=type(error))

    async def _call(self, run: _StepRun, context: StepContext) -> struct_pb2.Value:
        if self._request.options.simulate:
            for percentage in (10, 50, 90):
                await context.progress(percentage, f"Simulating {run.name}")
            return values.to_value(None)
        operation = run.operation
        try:
            arguments = operation.signature.bind(self._input(run.step))
        except (ValueError, KeyError) as error:
            raise _Failed(failure("INPUT_INVALID", str(error.args[0]))) from error
        output = await self._invoke(operation, context, arguments)
        try:
            return values.to_value(output)
        except values.ValueRefused as error:
            raise _Failed(failure("OUTPUT_INVALID", f"the output can't be sent: {error}")) from error

    async def _invoke(self, operation: Operation, context: StepContext, arguments: Mapping[str, Any]) -> Any:
        if operation.style == Style.THREAD:
            return await self._invoke_in_thread(operation, context, arguments)
        running_step.set(context)
        given = (context,) if operation.signature.wants_context else ()
        if operation.style == Style.COROUTINE:
            return await operation.function(*given, **arguments)
        output: Any = None
        stream = operation.function(*given, **arguments)
        try:
            async for item in stream:
                if isinstance(item, Result):
                    output = item.output
                    break
                await _report(context, item)
        finally:
            await stream.aclose()
        return output

    async def _invoke_in_thread(self, operation: Operation, context: StepContext, arguments: Mapping[str, Any]) -> Any:
        loop = asyncio.get_running_loop()
        blocking = BlockingStepContext(context, loop)
        given = (blocking,) if operation.signature.wants_context else ()
        inherited = contextvars.copy_context()
        inherited.run(running_step.set, blocking)
        return await loop.run_in_executor(self._threads, lambda: inherited.run(operation.function, *given, **arguments))

    def _input(self, step: Step) -> dict[str, Any]:
        """Returns a step's input with its references followed. Raises KeyError with a text where one leads nowhere."""
        graph = self.fold.graph
        assert graph is not None
        taken = values.from_struct(step.input)
        for name, source in step.input_from.items():
            output = self.fold.steps[graph.index[source.step_id]].output
            assert output is not None, "a dependency without an output"
            try:
                taken[name] = values.from_value(values.point(output, source.json_pointer))
            except KeyError as error:
                raise KeyError(f"input.{name}: {error.args[0]} in the output of step {source.step_id!r}") from None
        return taken

    def _results(self, step: Step) -> Mapping[str, Any]:
        graph = self.fold.graph
        assert graph is not None
        return {
            name: values.from_value(output)
            for name in step.depends_on
            if (output := self.fold.steps[graph.index[name]].output) is not None
        }

    def _record_completion(self, run: _StepRun, output: struct_pb2.Value) -> bool:
        event = self._event(run, f"Completed: {run.name}")
        event.step_completed.output.CopyFrom(output)
        self._stop_watch(run, event.step_completed.execution_time)
        try:
            self.recorder.record(event)
        except LimitSize as error:
            self._record_failure(run, failure("LIMIT_SIZE", f"the output is too large: {error.message}"))
        return True

    def _record_failure(self, run: _StepRun, status: status_pb2.Status) -> None:
        status.message = status.message[:100_000]
        event = self._event(run, f"Failed: {run.name}: {status.message[:1000]}")
        event.step_failed.error.CopyFrom(status)
        self._stop_watch(run, event.step_failed.execution_time)
        self.recorder.record(event)

    async def _after_attempt(self, run: _StepRun, failed: _Failed) -> bool:
        """Records that an attempt failed: for good, or with another to follow. Returns True for good."""
        if run.abandoned:
            _log.warning("step %s/%s ended after it was abandoned", self.execution_id, run.step.id)
            return True
        if run.cause is _Cause.PARK:
            return True
        retry = run.step.retry if run.step.HasField("retry") else run.operation.retry
        fold = self.fold.steps[run.index]
        tried = fold.attempt - fold.recoveries
        if self._stopping or retry is None or tried >= retry.attempts or not _worth_another(retry, failed.kind):
            self._record_failure(run, failed.status)
            return True
        delay = _delay(retry, tried, self._clock.random.random())
        event = self._event(run, f"Retrying: {run.name}: {failed.status.message[:1000]}")
        event.step_retrying.error.CopyFrom(failed.status)
        event.step_retrying.next_attempt = fold.attempt + 1
        event.step_retrying.delay.FromNanoseconds(int(delay * 1e9))
        self.recorder.record(event)
        try:
            await self._clock.sleep(delay)
        except asyncio.CancelledError:
            return await self._after_cancel(run)
        return False

    async def _after_cancel(self, run: _StepRun) -> bool:
        """Records what an interrupted attempt means. Returns True where the step has ended."""
        task = asyncio.current_task()
        assert task is not None
        if run.cause is None and task.cancelling():
            raise asyncio.CancelledError
        while task.cancelling():
            task.uncancel()
        if run.abandoned:
            _log.warning("step %s/%s ended after it was abandoned", self.execution_id, run.step.id)
            return True
        if run.cause is _Cause.PARK:
            return True
        if run.cause is _Cause.TIMEOUT:
            return await self._after_attempt(run, self._timed_out(run))
        if run.cause is None:
            return await self._after_attempt(
                run,
                _Failed(
                    failure("OPERATION_FAILED", "the operation raised CancelledError"), kind=asyncio.CancelledError
                ),
            )
        self._record_cancel(run, abandoned=False)
        return True

    def _record_cancel(self, run: _StepRun, *, abandoned: bool) -> None:
        event = self._event(run, f"Cancelled: {run.name}")
        event.step_cancelled.abandoned = abandoned
        self._stop_watch(run, event.step_cancelled.execution_time)
        self.recorder.record(event)

    def _watch_timeout(self, run: _StepRun) -> None:
        seconds = self._timeout_of(run)
        if seconds is not None:
            run.timers.append(self._clock.call_later(seconds, lambda: self._interrupt(run, _Cause.TIMEOUT)))

    def _timeout_of(self, run: _StepRun) -> float | None:
        if run.step.HasField("timeout"):
            return float(run.step.timeout.ToNanoseconds()) / 1e9
        return run.operation.timeout.total_seconds() if run.operation.timeout is not None else None

    def _timed_out(self, run: _StepRun) -> _Failed:
        text = f"the attempt took longer than {self._timeout_of(run):g} s"
        reason = "OUTCOME_UNKNOWN" if run.operation.at_most_once else "TIMEOUT"
        return _Failed(failure(reason, text), kind=TimeoutError)

    def _interrupt(self, run: _StepRun, cause: _Cause) -> None:
        """Cancels a step's task once, and abandons it where it has not ended after the grace period."""
        if run.cause is not None and cause is not _Cause.PARK:
            return
        run.cause = cause
        assert run.task is not None
        run.task.cancel()
        if cause is not _Cause.PARK:
            run.timers.append(self._clock.call_later(self._settings.cancel_grace, lambda: self._give_up(run, cause)))

    def _give_up(self, run: _StepRun, cause: _Cause) -> None:
        """Records the end of a step whose operation does not end, and lets go of its task."""
        if run.abandoned or run.index not in self._running:
            return
        run.abandoned = True
        assert run.task is not None
        assert run.context is not None
        run.context.close("the step was abandoned after its grace period")
        self._abandon(run.task, f"step {run.step.id}")
        try:
            if cause is _Cause.TIMEOUT:
                self._record_failure(run, self._timed_out(run).status)
            else:
                self._record_cancel(run, abandoned=True)
        except RecorderClosed:
            pass
        self._step_ended(run)

    def _abandon(self, task: asyncio.Task[Any], what: str) -> None:
        _log.warning("execution %s: %s does not end; its task is abandoned", self.execution_id, what)
        self._abandoned.add(task)
        task.add_done_callback(self._abandoned.discard)
        task.add_done_callback(lambda done: done.cancelled() or done.exception())

    def _event(self, run: _StepRun, message: str, *, attempt: int | None = None) -> Event:
        return Event(
            step_id=run.step.id,
            step_name=run.name,
            attempt=self.fold.steps[run.index].attempt if attempt is None else attempt,
            message=message,
        )

    def _stop_watch(self, run: _StepRun, target: Any) -> None:
        target.FromNanoseconds(int((self._clock.monotonic() - run.started) * 1e9))


async def _gone(step: StepContext, **_: Any) -> None:
    raise _Failed(failure("OPERATION_NOT_FOUND", f"there is no operation {step.operation!r} any more"))


_ANYTHING = Signature(_gone, name="gone")


def ended(execution_id: str, state: ExecutionState.ValueType) -> ExecutionEnded:
    """Returns the error for a call that comes after the end."""
    name = ExecutionState.Name(state).removeprefix("EXECUTION_STATE_")
    return ExecutionEnded(
        f"execution {execution_id} has ended: {name}", metadata={"state": name, "execution_id": execution_id}
    )


async def _report(context: StepContext, item: Any) -> None:
    """Records what an async generator yielded: a number or (number, text) as progress, a text or bytes as content."""
    if isinstance(item, str | bytes):
        await context.content(item)
    elif isinstance(item, int | float) and not isinstance(item, bool):
        await context.progress(item)
    elif isinstance(item, tuple) and len(item) == 2:
        await context.progress(item[0], item[1])
    else:
        raise TypeError(
            f"the operation yielded {type(item).__name__}; it may yield a percentage, (percentage, message), "
            "a piece of text or bytes, and at last Result(output)"
        )


def _worth_another(retry: Retry, kind: type[BaseException] | None) -> bool:
    if kind is None:
        return False
    return not retry.errors or any(base.__name__ in retry.errors for base in kind.__mro__)


def _delay(retry: Retry, tried: int, chance: float) -> float:
    first = retry.initial_delay.ToNanoseconds() / 1e9 if retry.HasField("initial_delay") else 1.0
    longest = retry.max_delay.ToNanoseconds() / 1e9 if retry.HasField("max_delay") else 60.0
    # The exponent is bounded: 100 attempts with a large multiplier must not overflow.
    grown = min(first * (retry.multiplier or 2.0) ** min(tried - 1, 60), longest)
    return float(grown * (1 - retry.jitter * chance))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _text(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
