"""The service's methods: each translates a request for the engine or the journal, and the answer back.

Nothing is decided here.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any, NoReturn

from google.protobuf import struct_pb2
from google.protobuf.message import Message

from stepwire.errors import (
    CursorAhead,
    CursorExpired,
    ExecutionNotFound,
    LimitSize,
    PlanInvalid,
    RequestMalformed,
    Violation,
)
from stepwire.v1 import (
    BatchStartExecutionsRequest,
    BatchStartExecutionsResponse,
    BuildPlanRequest,
    BuildPlanResponse,
    CancelExecutionRequest,
    CancelExecutionResponse,
    EventBatch,
    ExecuteRequest,
    Execution,
    ExecutionView,
    GetExecutionRequest,
    GetExecutionResponse,
    GetServerInfoRequest,
    GetServerInfoResponse,
    GetStatisticsRequest,
    Limits,
    ListEventsRequest,
    ListExecutionsRequest,
    ListExecutionsResponse,
    ListOperationsRequest,
    ListOperationsResponse,
    Load,
    NamedPlan,
    Operation,
    PauseExecutionRequest,
    PauseExecutionResponse,
    ProvideInputRequest,
    ProvideInputResponse,
    ResumeExecutionRequest,
    ResumeExecutionResponse,
    RetryExecutionRequest,
    RetryExecutionResponse,
    StartExecutionRequest,
    StartExecutionResponse,
    WaitExecutionRequest,
    WaitExecutionResponse,
    WatchExecutionRequest,
    WatchExecutionsRequest,
)
from stepwire.values import to_struct
from stepwire_server.api import paging
from stepwire_server.api.admission import Admission, Place
from stepwire_server.api.envelope import MAX_REQUEST_BYTES, Call, Envelope
from stepwire_server.api.filters import EventSieve, check_execution_filter
from stepwire_server.api.statistics import answer_of, checked_span
from stepwire_server.api.streams import BATCH_EVENTS, Streams, heartbeat_seconds
from stepwire_server.api.wide import WideStreams
from stepwire_server.engine.acceptance import MAX_QUERY
from stepwire_server.engine.engine import Engine
from stepwire_server.engine.graph import ID, MAX_PLAN_BYTES, MAX_STEPS
from stepwire_server.engine.recorder import MAX_EVENT_BYTES
from stepwire_server.engine.snapshot import plan_of, snapshot_of
from stepwire_server.journal import ExecutionRecord
from stepwire_server.loop_watch import LoopWatch

__all__ = ["SERVICE", "Service"]

SERVICE = "stepwire.v1.ExecutionService"

_STREAMS = frozenset({"Execute", "WatchExecution", "WatchExecutions", "WaitExecution"})
"""The methods that last: all others answer as soon as they can."""

_MAX_BATCH = 1_000
_BATCH_REQUEST_BYTES = 3 << 20
_PAGE = 50
_MAX_PAGE = 500
_PAGE_BYTES = 2 << 20
_EVENTS_BYTES = 1 << 20
_WAIT = (30.0, 600.0)
_TASKS_SECONDS = 1.0
"""How long a count of the tasks is good for: with many, counting takes milliseconds."""

_MAX_REASON = 1_000
_MAX_ACTOR = 200


class Service:
    """The methods of stepwire.v1.ExecutionService."""

    def __init__(
        self,
        engine: Engine,
        streams: Streams,
        *,
        admission: Admission,
        watch: LoopWatch,
        version: str,
        started_ns: int,
    ) -> None:
        self._engine = engine
        self._admission = admission
        self._journal = engine.journal
        self._streams = streams
        self._wide_streams = WideStreams(engine, streams)
        self._watch = watch
        self._version = version
        self._started_ns = started_ns
        self._tasks = 0
        self._tasks_counted = -math.inf
        methods: dict[str, tuple[type[Message], Callable[[Any, Call], Awaitable[Awaitable[None] | None]]]] = {
            "Execute": (ExecuteRequest, self._execute),
            "StartExecution": (StartExecutionRequest, self._start_execution),
            "BatchStartExecutions": (BatchStartExecutionsRequest, self._batch_start_executions),
            "WatchExecution": (WatchExecutionRequest, self._watch_execution),
            "WatchExecutions": (WatchExecutionsRequest, self._watch_executions),
            "WaitExecution": (WaitExecutionRequest, self._wait_execution),
            "GetExecution": (GetExecutionRequest, self._get_execution),
            "ListExecutions": (ListExecutionsRequest, self._list_executions),
            "ListEvents": (ListEventsRequest, self._list_events),
            "CancelExecution": (CancelExecutionRequest, self._cancel_execution),
            "PauseExecution": (PauseExecutionRequest, self._pause_execution),
            "ResumeExecution": (ResumeExecutionRequest, self._resume_execution),
            "ProvideInput": (ProvideInputRequest, self._provide_input),
            "RetryExecution": (RetryExecutionRequest, self._retry_execution),
            "BuildPlan": (BuildPlanRequest, self._build_plan),
            "ListOperations": (ListOperationsRequest, self._list_operations),
            "GetServerInfo": (GetServerInfoRequest, self._get_server_info),
            "GetStatistics": (GetStatisticsRequest, self._get_statistics),
        }
        self._capabilities = sorted(methods)
        self.methods: Mapping[str, Envelope[Any]] = {
            name: Envelope(
                name,
                kind,
                run,
                admission=admission,
                place=Place.STREAM if name in _STREAMS else Place.CALL,
                check_open=streams.check_open,
            )
            for name, (kind, run) in methods.items()
        }
        """Every method, by name."""

    async def settle(self) -> None:
        """Returns when no call runs."""
        while tasks := {task for method in self.methods.values() for task in method.tasks}:
            await asyncio.wait(tasks)

    # -- starting

    async def _execute(self, request: ExecuteRequest, call: Call) -> Awaitable[None]:
        sieve = EventSieve(request.filter)
        heartbeat = heartbeat_seconds(request.heartbeat_interval if request.HasField("heartbeat_interval") else None)
        record = await self._accept(request, call)
        return self._streams.stream(call, record, after=0, sieve=sieve, heartbeat=heartbeat)

    async def _start_execution(self, request: StartExecutionRequest, call: Call) -> None:
        # The same fields under the same numbers: what is sent as the one can be read as the other.
        record = await self._accept(ExecuteRequest.FromString(request.SerializeToString()), call)
        await _answer(call, StartExecutionResponse(execution=snapshot_of(record)))

    async def _batch_start_executions(self, request: BatchStartExecutionsRequest, call: Call) -> None:
        count = len(request.requests)
        if not 1 <= count <= _MAX_BATCH:
            _malformed("requests", f"has {count:,} entries; 1 to {_MAX_BATCH:,} are allowed")
        if request.ByteSize() > _BATCH_REQUEST_BYTES:
            # The answer repeats queries and labels, and has to fit into a message too.
            raise LimitSize(f"a batch has at most {_BATCH_REQUEST_BYTES:,} bytes; send it in parts")
        with ExitStack() as places:
            for _ in range(count):
                places.enter_context(self._admission.admit(Place.START, call.caller))
            wanted = [ExecuteRequest.FromString(one.SerializeToString()) for one in request.requests]
            records = await self._engine.accept_all(wanted)
        await _answer(call, BatchStartExecutionsResponse(executions=map(snapshot_of, records)))

    async def _accept(self, request: ExecuteRequest, call: Call) -> ExecutionRecord:
        with self._admission.admit(Place.START, call.caller):
            return await self._engine.accept(request)

    async def _build_plan(self, request: BuildPlanRequest, call: Call) -> None:
        try:
            plan = await self._engine.build_plan(request.query)
        except PlanInvalid as error:
            # The caller sent a query, not a plan: this is a bug of the app, and the log says which.
            raise RuntimeError(str(error)) from error
        await _answer(call, BuildPlanResponse(plan=plan))

    # -- watching

    async def _watch_execution(self, request: WatchExecutionRequest, call: Call) -> Awaitable[None]:
        sieve = EventSieve(request.filter)
        heartbeat = heartbeat_seconds(request.heartbeat_interval if request.HasField("heartbeat_interval") else None)
        record = await self._record_to_read(request.execution_id)
        _check_cursor(request.after_sequence, record)
        return self._streams.stream(call, record, after=request.after_sequence, sieve=sieve, heartbeat=heartbeat)

    async def _watch_executions(self, request: WatchExecutionsRequest, call: Call) -> Awaitable[None]:
        sieve = EventSieve(request.filter)
        check_execution_filter(request.executions, field="executions", followed=True)
        heartbeat = heartbeat_seconds(request.heartbeat_interval if request.HasField("heartbeat_interval") else None)
        after = request.after_position if request.HasField("after_position") else None
        if after is not None and after < 0:
            _malformed("after_position", f"is {after}; it must be 0 or more")
        return self._wide_streams.stream(call, request.executions, after=after, sieve=sieve, heartbeat=heartbeat)

    async def _wait_execution(self, request: WaitExecutionRequest, call: Call) -> None:
        default, longest = _WAIT
        seconds = request.timeout.ToNanoseconds() / 1e9 if request.HasField("timeout") else default
        if not 0 <= seconds <= longest:
            _malformed("timeout", f"is {seconds:g} s; 0 to {longest:g} s are allowed")
        _check_view(request.view)
        record = await self._record(request.execution_id)
        await self._streams.wait(record, seconds=seconds)
        ended = await self._execution(await self._record(request.execution_id), request.view)
        await _answer(call, WaitExecutionResponse(execution=ended))

    async def _list_events(self, request: ListEventsRequest, call: Call) -> None:
        sieve = EventSieve(request.filter)
        record = await self._record_to_read(request.execution_id)
        _check_cursor(request.after_sequence, record)
        count = _page_size(request.page_size, default=BATCH_EVENTS, most=BATCH_EVENTS)
        chunks = await self._journal.read(
            record.execution_id, after=request.after_sequence, max_events=count, max_bytes=_EVENTS_BYTES
        )
        covered = chunks[-1].last if chunks else request.after_sequence
        rest = EventBatch(execution=snapshot_of(record), after_sequence=request.after_sequence, sequence=covered)
        await call.write(b"".join([sieve.sift(chunk) for chunk in chunks]) + rest.SerializeToString())

    # -- reading

    async def _get_execution(self, request: GetExecutionRequest, call: Call) -> None:
        _check_view(request.view)
        record = await self._record(request.execution_id)
        await _answer(call, GetExecutionResponse(execution=await self._execution(record, request.view)))

    async def _list_executions(self, request: ListExecutionsRequest, call: Call) -> None:
        _check_view(request.view)
        check_execution_filter(request.filter)
        before = paging.decode(request.page_token, request.filter)
        count = _page_size(request.page_size, default=_PAGE, most=_MAX_PAGE)
        page = await self._journal.list(request.filter, tenant="", before=before, limit=count)
        response = ListExecutionsResponse(total_size=page.total)
        size = 0
        for index, record in enumerate(page.records):
            try:
                execution = await self._execution(record, request.view)
            except ExecutionNotFound:  # It was purged since the page was read.
                continue
            if request.view != ExecutionView.EXECUTION_VIEW_FULL:
                execution.ClearField("output")
            size += execution.ByteSize()
            if index and size > _PAGE_BYTES:
                response.next_page_token = paging.encode(page.records[index - 1].ordinal, request.filter)
                break
            response.executions.append(execution)
        else:
            if page.more:
                response.next_page_token = paging.encode(page.records[-1].ordinal, request.filter)
        await _answer(call, response)

    async def _list_operations(self, request: ListOperationsRequest, call: Call) -> None:
        catalog = self._engine.catalog
        response = ListOperationsResponse(
            has_planner=catalog.planner is not None, planner_description=catalog.planner_description
        )
        for name in sorted(catalog.operations):
            operation = catalog.operations[name]
            shown = Operation(
                name=name,
                description=operation.description,
                input_schema=_schema(operation.signature.schema),
                at_most_once=operation.at_most_once,
                retry=operation.retry,
            )
            if operation.timeout is not None:
                shown.timeout.FromTimedelta(operation.timeout)
            response.operations.append(shown)
        for name in sorted(catalog.plans):
            plan = catalog.plans[name]
            response.plans.append(
                NamedPlan(name=name, description=plan.description, input_schema=_schema(plan.signature.schema))
            )
        await _answer(call, response)

    async def _get_server_info(self, request: GetServerInfoRequest, call: Call) -> None:
        settings = self._engine.settings
        bounds = asdict(self._admission.limits)
        body_timeout = bounds.pop("body_timeout")
        limits = Limits(
            **bounds,
            max_parallel_steps=settings.max_parallel_steps,
            max_event_bytes=MAX_EVENT_BYTES,
            max_plan_bytes=MAX_PLAN_BYTES,
            max_plan_steps=MAX_STEPS,
            max_query_characters=MAX_QUERY,
            max_request_bytes=MAX_REQUEST_BYTES,
        )
        limits.cancel_grace.FromNanoseconds(int(settings.cancel_grace * 1e9))
        limits.body_timeout.FromNanoseconds(int(body_timeout * 1e9))
        response = GetServerInfoResponse(
            version=self._version,
            app=self._engine.catalog.app,
            limits=limits,
            capabilities=self._capabilities,
            journal=self._journal.kind,
            load=self._load(),
        )
        response.start_time.FromNanoseconds(self._started_ns)
        await _answer(call, response)

    async def _get_statistics(self, request: GetStatisticsRequest, call: Call) -> None:
        span = checked_span(request)
        found = await self._journal.statistics(tenant="", from_ns=span.from_ns, before_ns=span.before_ns)
        await _answer(call, answer_of(found, request))

    def _load(self) -> Load:
        now = asyncio.get_running_loop().time()
        if now >= self._tasks_counted + _TASKS_SECONDS:
            self._tasks, self._tasks_counted = len(asyncio.all_tasks()), now
        blocked = self._watch.blocked
        load = Load(
            running_executions=self._engine.running,
            open_streams=self._admission.taken(Place.STREAM),
            running_calls=self._admission.taken(Place.CALL),
            half_open_calls=self._admission.taken(Place.HALF_OPEN),
            abandoned_operations=self._engine.abandoned,
            tasks=self._tasks,
            refused=self._admission.refused,
            loop_blocks=blocked.count,
        )
        if blocked.count:
            load.longest_loop_block.FromNanoseconds(int(blocked.longest * 1e9))
        return load

    # -- control

    async def _cancel_execution(self, request: CancelExecutionRequest, call: Call) -> None:
        record = await _control(self._engine.cancel, request)
        await _answer(call, CancelExecutionResponse(execution=snapshot_of(record)))

    async def _pause_execution(self, request: PauseExecutionRequest, call: Call) -> None:
        record = await _control(self._engine.pause, request)
        await _answer(call, PauseExecutionResponse(execution=snapshot_of(record)))

    async def _resume_execution(self, request: ResumeExecutionRequest, call: Call) -> None:
        record = await _control(self._engine.resume, request)
        await _answer(call, ResumeExecutionResponse(execution=snapshot_of(record)))

    async def _provide_input(self, request: ProvideInputRequest, call: Call) -> None:
        _check_text("actor", request.actor, _MAX_ACTOR)
        _check_id(request.execution_id)
        _check_id(request.input_id, field="input_id")
        record = await self._engine.provide(request.execution_id, request.input_id, request.value, actor=request.actor)
        await _answer(call, ProvideInputResponse(execution=snapshot_of(record)))

    async def _retry_execution(self, request: RetryExecutionRequest, call: Call) -> None:
        _check_text("reason", request.reason, _MAX_REASON)
        _check_text("actor", request.actor, _MAX_ACTOR)
        _check_id(request.execution_id)
        with self._admission.admit(Place.START, call.caller):
            record = await self._engine.retry(
                request.execution_id,
                step_ids=request.step_ids,
                request_id=request.request_id,
                actor=request.actor,
                reason=request.reason,
            )
        await _answer(call, RetryExecutionResponse(execution=snapshot_of(record)))

    # -- shared

    async def _record(self, execution_id: str) -> ExecutionRecord:
        _check_id(execution_id)
        return await self._engine.get(execution_id)

    async def _record_to_read(self, execution_id: str) -> ExecutionRecord:
        _check_id(execution_id)
        return await self._engine.get_to_read(execution_id)

    async def _execution(self, record: ExecutionRecord, view: ExecutionView.ValueType) -> Execution:
        execution = snapshot_of(record)
        if view == ExecutionView.EXECUTION_VIEW_FULL:
            try:
                plan = await plan_of(self._journal, record)
            except CursorExpired:
                raise ExecutionNotFound(f"execution {record.execution_id} was purged just now") from None
            if plan is not None:
                execution.plan.CopyFrom(plan)
        return execution


async def _control(
    ask: Callable[..., Awaitable[ExecutionRecord]],
    request: CancelExecutionRequest | PauseExecutionRequest | ResumeExecutionRequest,
) -> ExecutionRecord:
    _check_text("reason", request.reason, _MAX_REASON)
    _check_text("actor", request.actor, _MAX_ACTOR)
    _check_id(request.execution_id)
    return await ask(request.execution_id, actor=request.actor, reason=request.reason)


async def _answer(call: Call, response: Message) -> None:
    await call.write(response.SerializeToString())


def _schema(schema: Mapping[str, Any]) -> struct_pb2.Struct:
    return to_struct(schema, field="input_schema")


def _malformed(field: str, problem: str) -> NoReturn:
    raise RequestMalformed(f"{field} {problem}", violations=[Violation(field, problem)])


def _check_id(identity: str, *, field: str = "execution_id") -> None:
    if not ID.fullmatch(identity):
        _malformed(field, f"{identity[:80]!r} does not match [A-Za-z0-9_-]{{1,64}}")


def _check_view(view: ExecutionView.ValueType) -> None:
    if view not in ExecutionView.values():
        _malformed("view", f"{view} is not a view")


def _check_text(field: str, text: str, most: int) -> None:
    if len(text) > most or "\0" in text:
        _malformed(field, f"must have at most {most:,} characters and no NUL")


def _check_cursor(after: int, record: ExecutionRecord) -> None:
    if after < 0:
        _malformed("after_sequence", f"is {after}; it must be 0 or more")
    if after > record.last_sequence:
        raise CursorAhead(
            f"after_sequence is {after}, and the last event of execution {record.execution_id} is "
            f"{record.last_sequence}: the cursor is another execution's",
            metadata={
                "execution_id": record.execution_id,
                "first_sequence": "1",
                "last_sequence": str(record.last_sequence),
            },
        )


def _page_size(asked: int, *, default: int, most: int) -> int:
    if asked < 0:
        _malformed("page_size", f"is {asked}; it must be 0 or more")
    return min(asked or default, most)
