"""All executions of this process: accepted, running, recovered, drained."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

from google.protobuf import struct_pb2

from stepwire.errors import (
    CursorExpired,
    Draining,
    ExecutionEnded,
    JournalDamaged,
    JournalUnavailable,
    NoPlanner,
    PlanInvalid,
    RequestMalformed,
    StepwireError,
    StorageFull,
)
from stepwire.v1 import EventBatch, ExecuteRequest, Plan
from stepwire_server.engine.acceptance import aside, plan_problem, query_violations
from stepwire_server.engine.asking import judge
from stepwire_server.engine.clock import Clock, SystemClock, Timer, new_execution_id
from stepwire_server.engine.earlier import Inheritance
from stepwire_server.engine.ending import ended
from stepwire_server.engine.executor import Executor, Settings
from stepwire_server.engine.experience import Experience
from stepwire_server.engine.fold import Fold
from stepwire_server.engine.inheritance import left_to_keep
from stepwire_server.engine.intake import Intake
from stepwire_server.engine.operation import Catalog, Planner
from stepwire_server.engine.planning import ask_planner, served
from stepwire_server.engine.recorder import RecorderClosed
from stepwire_server.engine.rerun import Rerun, is_planned
from stepwire_server.engine.snapshot import answer_of, not_found, record_to_read
from stepwire_server.engine.standstill import broken_off, left_out
from stepwire_server.engine.threads import Threads
from stepwire_server.journal import ENDED, Conflict, ExecutionRecord, Journal

__all__ = ["Engine"]

_log = logging.getLogger(__name__)

_LARGE_ANSWER = 4096
"""Bytes from which an answer is checked in a thread."""
_PLANNERS = 16
"""Plain planners and plans that are called at once, each in a thread; large answers are checked there too."""

_RECOVERY_EVENTS = 4096
_RECOVERY_BYTES = 4 << 20


class Engine:
    """Runs executions of one app, and keeps them in one journal."""

    def __init__(
        self,
        catalog: Catalog,
        journal: Journal,
        *,
        settings: Settings | None = None,
        max_executions: int = 10_000,
        threads: int = 64,
        clock: Clock | None = None,
        new_id: Callable[[], str] = new_execution_id,
    ) -> None:
        self._clock = clock or SystemClock()
        self._threads = Threads(threads, name="stepwire-operation", now=self._clock.monotonic)
        self._planners = Threads(_PLANNERS, name="stepwire-operation planner", now=self._clock.monotonic)
        self.catalog = served(catalog, self._planners)
        self.journal = journal
        self.settings = settings or Settings()
        self._live: dict[str, Executor] = {}
        self._watchers: dict[str, int] = {}
        self._unwatched: dict[str, Timer] = {}
        self._draining = False
        self._stuck: dict[str, StepwireError] = {}
        """Executions that have not ended and that nobody goes on with before a later start, and what to say of them."""
        self._abandoned: set[asyncio.Task[Any]] = set()
        self._experience = Experience(journal, clock=self._clock)
        self._intake = Intake(
            self.catalog,
            journal,
            clock=self._clock,
            new_id=new_id,
            max_executions=max_executions,
            running=lambda: len(self._live),
            begin=self._start,
        )

    # -- accepting

    async def accept(self, request: ExecuteRequest, *, tenant: str = "") -> ExecutionRecord:
        """Checks a request's form, stores it and begins; returns the durable record. With a request id that is known
        and the same request, returns the record that exists. Raises the errors that the Execute rpc lists.
        """
        return await self._intake.accept(request, tenant=tenant)

    async def accept_all(self, requests: Sequence[ExecuteRequest], *, tenant: str = "") -> Sequence[ExecutionRecord]:
        """Accepts all of several requests, or none: one after the other they would be accepted as `accept` does it.
        Returns their records in order. Raises what `accept` raises, with the request's index.
        """
        return await self._intake.accept_all(requests, tenant=tenant)

    async def retry(
        self,
        execution_id: str,
        *,
        step_ids: Sequence[str],
        request_id: str = "",
        actor: str,
        reason: str,
        tenant: str = "",
    ) -> ExecutionRecord:
        """Begins a new execution that keeps what completed in an ended one; returns the record once all that is kept is
        durable. Idempotent as `accept`. Raises the errors that the RetryExecution rpc lists.
        """
        asked = Rerun(execution_id=execution_id, step_ids=frozenset(step_ids), actor=actor, reason=reason)
        taken = await self._intake.retry(execution_id, step_ids, asked, request_id=request_id, tenant=tenant)
        if not taken.created:
            return taken.record
        if taken.executor is not None:
            await taken.executor.inherited.wait()
            await self._durable(taken.executor, taken.executor.fold.sequence)
        return await self.get(taken.record.execution_id)

    async def build_plan(self, query: str) -> Plan:
        """Returns the plan for a query and runs nothing. Raises QueryNotUnderstood, NoPlanner, RequestMalformed,
        Draining.
        """
        found = query_violations(query)
        if found:
            raise RequestMalformed(f"query {found[0].description}", violations=found)
        if self.catalog.planner is None:
            raise NoPlanner(f"the app {self.catalog.app!r} has no planner; send a plan or a call")
        self._intake.check_open()
        plan = await self._ask(self.catalog.planner, query)
        problem = await aside(plan, lambda: plan_problem(plan, self.catalog))
        if problem is not None:
            raise PlanInvalid(
                f"the planner made a plan that can't run: {problem.message}", violations=problem.violations
            )
        return plan

    async def _ask(self, planner: Planner, query: str) -> Plan:
        """Returns a planner's plan. One that does not end after its caller has left, or the server stops, is abandoned
        after the grace that operations have: the call ends, and with it the server.
        """
        task = asyncio.create_task(ask_planner(planner, query), name="planning without an execution")
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.cancel()
            over = asyncio.Event()
            task.add_done_callback(lambda _: over.set())
            timer = self._clock.call_later(self.settings.cancel_grace, over.set)
            try:
                await over.wait()
            finally:
                timer.cancel()
            raise
        finally:
            if not task.done():
                _log.warning("%s: the planner does not end; its task is abandoned", task.get_name())
                self._keep(task)

    # -- reading

    async def get(self, execution_id: str) -> ExecutionRecord:
        """Returns the record as of its last durable event. Raises ExecutionNotFound."""
        record = await self.journal.get(execution_id)
        if record is None:
            raise not_found(execution_id)
        return record

    async def get_to_read(self, execution_id: str) -> ExecutionRecord:
        """Returns the record, whose events are to be read. Raises CursorExpired where they were purged, and
        ExecutionNotFound.
        """
        return await record_to_read(self.journal, execution_id)

    @contextmanager
    def watched(self, execution_id: str) -> Iterator[None]:
        """Counts a watcher while it lasts: an execution may ask to be cancelled when it has none for some time."""
        self.watch(execution_id)
        try:
            yield
        finally:
            self.unwatch(execution_id)

    def watch(self, execution_id: str) -> None:
        """Counts a watcher, until `unwatch`."""
        self._watchers[execution_id] = self._watchers.get(execution_id, 0) + 1
        timer = self._unwatched.pop(execution_id, None)
        if timer is not None:
            timer.cancel()

    def unwatch(self, execution_id: str) -> None:
        """Counts a watcher no more."""
        self._watchers[execution_id] -= 1
        if self._watchers[execution_id] == 0:
            del self._watchers[execution_id]
            self._mind_unwatched(execution_id)

    def check_goes_on(self, execution_id: str) -> None:
        """Raises what is to be said of an execution that has not ended, and to which nothing more will be added here:
        who waits for more would wait for ever.
        """
        if execution_id in self._stuck:
            raise self._stuck[execution_id]

    # -- control

    async def cancel(self, execution_id: str, *, actor: str, reason: str) -> ExecutionRecord:
        """Asks an execution to end, and returns the record once that is durable. Raises ExecutionNotFound,
        ExecutionEnded.
        """
        return await self._control(execution_id, lambda executor: executor.cancel(actor=actor, reason=reason))

    async def pause(self, execution_id: str, *, actor: str, reason: str) -> ExecutionRecord:
        """Lets running steps end and starts no other. Returns and raises as `cancel` does; ExecutionEnded also where it
        is cancelling.
        """
        return await self._control(execution_id, lambda executor: executor.pause(actor=actor, reason=reason))

    async def resume(self, execution_id: str, *, actor: str, reason: str) -> ExecutionRecord:
        """Lets steps start again. Returns and raises as `pause` does."""
        return await self._control(execution_id, lambda executor: executor.resume(actor=actor, reason=reason))

    async def provide(
        self, execution_id: str, input_id: str, value: struct_pb2.Value, *, actor: str
    ) -> ExecutionRecord:
        """Answers a question that a step asked. The same answer twice is one, also after the end: who did not hear
        that it was taken says it again. Returns as `cancel` does. Raises InputInvalid, InputNotRequested, LimitSize,
        ExecutionNotFound, ExecutionEnded.
        """
        verdict = None
        executor = self._live.get(execution_id)
        if executor is not None and value.ByteSize() > _LARGE_ANSWER:
            question = executor.fold.questions.open.get(input_id)
            if question is not None and not self._draining:
                # Not where operations wait: they may take all of asyncio's own threads.
                verdict = await asyncio.get_running_loop().run_in_executor(self._planners, judge, question, value)
        try:
            return await self._control(
                execution_id, lambda executor: executor.provide(input_id, value, actor=actor, verdict=verdict)
            )
        except ExecutionEnded:
            record = await self.get(execution_id)
            if await self._was_given(record, input_id, value):
                return record
            raise

    async def _was_given(self, record: ExecutionRecord, input_id: str, value: struct_pb2.Value) -> bool:
        """Returns whether somebody gave a question of an ended execution this answer."""
        try:
            answer = await answer_of(self.journal, record, input_id)
        except CursorExpired:
            raise not_found(record.execution_id) from None
        return answer is not None and not answer.expired and answer.value == value

    async def _control(self, execution_id: str, ask: Callable[[Executor], int]) -> ExecutionRecord:
        """Has an execution's executor do what is asked, and returns the record once that is durable."""
        executor = self._live.get(execution_id)
        if executor is None:
            record = await self.get(execution_id)
            executor = self._live.get(execution_id)
            if executor is None:
                raise ended(execution_id, record.state) if record.state in ENDED else self._not_here(execution_id)
        try:
            sequence = ask(executor)
        except StepwireError:
            # Nobody is told of an end, or of another's answer, that a crash could take back.
            await self._durable(executor, executor.fold.sequence)
            raise
        except RecorderClosed:
            raise self._not_here(execution_id) from None
        await self._durable(executor, sequence)
        return await self.get(execution_id)

    async def _durable(self, executor: Executor, sequence: int) -> None:
        try:
            await executor.recorder.durable(sequence)
        except Conflict:
            raise self._not_here(executor.execution_id) from None

    def _not_here(self, execution_id: str) -> StepwireError:
        """Returns the error for an execution that has not ended and that this process does not run."""
        if self._draining:
            return Draining("the server is going; try another one", retry_after=timedelta(seconds=1))
        if execution_id in self._stuck:
            return self._stuck[execution_id]
        return JournalUnavailable(
            f"execution {execution_id} is not run by this server now; try again", retry_after=timedelta(seconds=1)
        )

    # -- life

    async def recover(self) -> int:
        """Takes over every execution that has not ended, and returns how many. Called once, before serving. One that
        can't be read does not go on, and the log says why; its events stay as they are. Raises StorageFull and
        JournalUnavailable, which are about all of them, and has begun none then: what was left out now nobody would
        take over before the next start.
        """
        await self._experience.read()
        taken: list[tuple[ExecutionRecord, Fold, Inheritance | None]] = []
        for record in await self.journal.unfinished():
            try:
                claimed = await self.journal.claim(record.execution_id, epoch=record.epoch + 1)
                fold = await self._fold(claimed)
                inheritance = await left_to_keep(self.journal, claimed, fold)
            except (StorageFull, JournalUnavailable):
                raise
            except (StepwireError, Conflict) as error:
                _log.error("execution %s can't be recovered: %s", record.execution_id, error)
                self._stuck[record.execution_id] = left_out(record.execution_id)
                continue
            except Exception:
                _log.exception("execution %s can't be recovered: its events do not fit", record.execution_id)
                self._stuck[record.execution_id] = left_out(record.execution_id)
                continue
            taken.append((claimed, fold, inheritance))
        for claimed, fold, inheritance in taken:
            self._start(claimed, fold, inheritance)
        return len(taken)

    async def drain(self, grace: float) -> None:
        """Accepts nothing more, lets running steps end for `grace` seconds, and stops where they stand: a later start
        goes on from there.
        """
        self._draining = True
        for timer in self._unwatched.values():
            timer.cancel()
        await self._intake.close()
        if self._live:
            await asyncio.gather(*(executor.park(grace) for executor in list(self._live.values())))
        await self._experience.close()
        self._threads.shutdown(wait=False, cancel_futures=True)
        # What waits for a plan still gets it, or is cancelled with its call.
        self._planners.shutdown(wait=False)

    @property
    def running(self) -> int:
        """How many executions have not ended."""
        return len(self._live)

    @property
    def abandoned(self) -> int:
        """How many operations and planners run on after their step or execution has ended, or their caller has left."""
        return len(self._abandoned) + self._planners.left

    async def _fold(self, record: ExecutionRecord) -> Fold:
        request = ExecuteRequest.FromString(record.request)
        fold = Fold(create_ns=record.create_time_ns, planning=is_planned(request))
        while fold.sequence < record.last_sequence:
            chunks = await self.journal.read(
                record.execution_id, after=fold.sequence, max_events=_RECOVERY_EVENTS, max_bytes=_RECOVERY_BYTES
            )
            if not chunks:
                raise JournalDamaged(f"events after {fold.sequence} are missing of {record.last_sequence}")
            for chunk in chunks:
                for event in EventBatch.FromString(chunk.data).events:
                    kind = event.WhichOneof("kind")
                    assert kind is not None
                    fold.apply(event, kind, event.event_time.ToNanoseconds())
        return fold

    def _start(self, record: ExecutionRecord, fold: Fold, inheritance: Inheritance | None = None) -> Executor:
        executor = Executor(
            record,
            fold,
            catalog=self.catalog,
            journal=self.journal,
            clock=self._clock,
            settings=self.settings,
            threads=self._threads,
            on_end=self._ended,
            keep=self._keep,
            known=lambda: self._experience.known,
            inheritance=inheritance,
        )
        self._live[record.execution_id] = executor
        self._experience.freshen()
        executor.start()
        self._mind_unwatched(record.execution_id)
        return executor

    def _ended(self, executor: Executor) -> None:
        self._live.pop(executor.execution_id, None)
        if not self._draining:
            self._experience.freshen(ended=True)
        lost = executor.recorder.lost
        # Where another process owns it, that one goes on; where this one stops, the next.
        gone = self._draining or isinstance(lost, Conflict)
        if not gone and (lost is not None or not executor.fold.ended):
            self._stuck[executor.execution_id] = broken_off(executor.execution_id, lost)
            self.journal.wake(executor.execution_id)
        timer = self._unwatched.pop(executor.execution_id, None)
        if timer is not None:
            timer.cancel()

    def _keep(self, task: asyncio.Task[Any]) -> None:
        """Keeps a task that nobody waits for until it ends: the event loop alone would let go of it. A thread that it
        has does not count any more.
        """
        self._threads.let_go(task)
        self._abandoned.add(task)
        task.add_done_callback(self._abandoned.discard)
        task.add_done_callback(_take_exception)

    def _mind_unwatched(self, execution_id: str) -> None:
        executor = self._live.get(execution_id)
        if executor is None or execution_id in self._watchers or executor.unwatched_limit is None or self._draining:
            return
        limit = executor.unwatched_limit
        self._unwatched[execution_id] = self._clock.call_later(limit, lambda: self._cancel_unwatched(executor, limit))

    def _cancel_unwatched(self, executor: Executor, limit: float) -> None:
        self._unwatched.pop(executor.execution_id, None)
        # One that has ended, or can't be recorded here any more, needs no cancel.
        with suppress(ExecutionEnded, RecorderClosed):
            executor.cancel(actor="stepwire", reason=f"nobody watched for {limit:g} s")


def _take_exception(task: asyncio.Task[Any]) -> None:
    """Keeps asyncio from warning of an exception that nobody waits for."""
    if not task.cancelled():
        task.exception()
