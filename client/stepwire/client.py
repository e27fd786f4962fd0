"""The client for programs with threads. `stepwire.aio` has the same for programs with an event loop."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack, cast, get_args
from weakref import WeakSet

import grpc
from google.protobuf.message import Message

from stepwire import requests
from stepwire.errors import StepwireError
from stepwire.events import is_terminal
from stepwire.fallback import Delivery
from stepwire.patience import Patience, pause_before
from stepwire.progress import Handler
from stepwire.reader import Reader
from stepwire.requests import METHODS, Span, seconds
from stepwire.run import BaseRun, Source
from stepwire.transport import ChannelOption, channel_options, checked_target
from stepwire.v1 import execution_service_pb2 as service_pb2
from stepwire.v1.event_pb2 import Event
from stepwire.v1.execution_pb2 import EventBatch, Execution, ExecutionView
from stepwire.v1.plan_pb2 import Plan
from stepwire.waiting import Waiting
from stepwire.watch import BaseWatch
from stepwire.wire import Wire, pause

__all__ = ["Client", "Run", "Watch"]

_Response = TypeVar("_Response", bound=Message)


class Client:
    """Starts, follows and controls executions on one server. Connects when it is first used. Safe across threads.

        with Client("localhost:50051") as client:
            for event in client.execute("Bauantrag für Einfamilienhaus in Stuttgart"):
                print(event.message)

    `target` is HOST:PORT (ValueError for a URL). `timeout` is the deadline of each unary call, and the longest that a
    stream may take to begin. `credentials` make it TLS. `options` are more channel arguments of gRPC. `patience` says
    how long it goes on trying. `delivery` says how events come: "auto" is over streams, and by polling where something
    on the way lets no stream through; "poll" spares the seconds until that is found out; "stream" never polls.
    """

    def __init__(
        self,
        target: str,
        *,
        timeout: Span = 10.0,
        credentials: grpc.ChannelCredentials | None = None,
        options: Iterable[ChannelOption] = (),
        patience: Patience | None = None,
        delivery: Delivery = "auto",
    ) -> None:
        if delivery not in get_args(Delivery):
            raise ValueError(f"No such delivery: {delivery}. There are: {', '.join(get_args(Delivery))}")
        self._timeout = seconds(timeout)
        self._delivery = delivery
        self._patience = patience or Patience()
        self._wire = Wire(checked_target(target), credentials=credentials, options=channel_options(options))
        self._lock = threading.Lock()
        self._runs: WeakSet[Run | Watch] = WeakSet()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends all streams and the connection. What runs on the server goes on. Closing twice is once."""
        with self._lock:
            runs = list(self._runs)
        for run in runs:
            run.close()
        self._wire.close()

    def execute(
        self,
        query: str | None = None,
        *,
        kinds: Iterable[str] = (),
        step_ids: Iterable[str] = (),
        heartbeat_interval: Span | None = None,
        on_event: Handler | None = None,
        history: int = 1000,
        **work: Unpack[requests.Work],
    ) -> Run:
        """Starts an execution and follows it. Returns once the server has accepted it.

        Give a query, or `plan`, or `call` with `input`; the other keywords are those of `stepwire.requests.Work`.
        `kinds` and `step_ids` select events; the terminal event comes whatever they are. `on_event` is called with each
        event that is read. `history` is how many events the tracker keeps. Losing the connection, or this process,
        does not end the execution.

        Raises InvalidRequest, NotFound, NoPlanner, RequestIdReused, LimitReached or CallFailed.
        """
        request = requests.execute(query, kinds=kinds, step_ids=step_ids, heartbeat_interval=heartbeat_interval, **work)
        source = Source(request=request, kinds=kinds, step_ids=step_ids, heartbeat_interval=heartbeat_interval)
        return self._follow(source, on_event=on_event, history=history)

    def watch(
        self,
        execution_id: str,
        *,
        after_sequence: int = 0,
        kinds: Iterable[str] = (),
        step_ids: Iterable[str] = (),
        heartbeat_interval: Span | None = None,
        on_event: Handler | None = None,
        history: int = 1000,
    ) -> Run:
        """Follows an execution that exists, ended or not, from what comes after `after_sequence` (exclusive).

        `kinds` and `step_ids` select events; the terminal event comes whatever they are.

        Raises ExecutionNotFound, CursorExpired, CursorAhead, FilterInvalid, LimitWatchers or CallFailed.
        """
        source = Source(
            execution_id=execution_id,
            after_sequence=after_sequence,
            kinds=kinds,
            step_ids=step_ids,
            heartbeat_interval=heartbeat_interval,
        )
        return self._follow(source, on_event=on_event, history=history)

    def watch_executions(
        self,
        *,
        execution_ids: Iterable[str] = (),
        session_id: str = "",
        labels: Mapping[str, str] | None = None,
        created_from: datetime | None = None,
        created_before: datetime | None = None,
        after_position: int | None = None,
        kinds: Iterable[str] = (),
        step_ids: Iterable[str] = (),
        heartbeat_interval: Span | None = None,
    ) -> Watch:
        """Follows all executions that match all of this, also those that are yet to come. Returns once it has begun:
        `executions` then has what is under way.

        Begins now, or after a position that an earlier watch had reached (exclusive; 0: with the oldest event that is
        kept). `kinds` and `step_ids` select events; terminal events come whatever they are. Ends where `execution_ids`
        are given, when these have ended. Needs streams: it never polls.

        Raises FilterInvalid, CursorExpired, CursorAhead, LimitWatchers or CallFailed.
        """
        request = requests.watch_many(
            requests.chosen(
                execution_ids=execution_ids,
                session_id=session_id,
                labels=labels,
                created_from=created_from,
                created_before=created_before,
            ),
            after_position=after_position,
            kinds=kinds,
            step_ids=step_ids,
            heartbeat_interval=heartbeat_interval,
        )
        watch = Watch(self, request)
        with self._lock:
            self._runs.add(watch)
        watch._begin()
        return watch

    def start(self, query: str | None = None, **work: Unpack[requests.Work]) -> Execution:
        """Starts an execution and returns its snapshot at once. `wait` has the end. Raises as `execute`."""
        request = requests.start(requests.execute(query, **work))
        return self._unary("StartExecution", request, service_pb2.StartExecutionResponse).execution

    def start_batch(self, works: Iterable[requests.BatchWork | str]) -> Sequence[Execution]:
        """Starts several executions, all of them or none, and returns their snapshots in order. Each is a query, or the
        keywords of `start` as a dict, with `query` for its query. `watch_executions` follows them.

        Raises as `start`; the fields of the error's violations begin with `requests[0]`, `requests[1]` and so on.
        """
        request = requests.batch(works)
        return list(self._unary("BatchStartExecutions", request, service_pb2.BatchStartExecutionsResponse).executions)

    def wait(self, execution_id: str, timeout: Span | None = None) -> Execution:
        """Returns the snapshot of the ended execution, or the one after `timeout`: its state says which.

        Goes on when the server is away for a time, as long as a run would be resumed.
        `stepwire.output_of` gives an ended one's output in plain Python.
        """
        waiting = Waiting(
            None if timeout is None else seconds(timeout),
            now=time.monotonic(),
            grace=self._timeout,
            patience=self._patience,
            random=random.random,
        )
        while True:
            span = waiting.ask(time.monotonic())
            request = service_pb2.WaitExecutionRequest(execution_id=execution_id, timeout=requests.duration(span))
            try:
                response = self._wire.unary(METHODS["WaitExecution"], request, span + self._timeout)
            except StepwireError as error:
                delay = waiting.failed(error, time.monotonic())
                if delay is None:
                    raise
                pause(delay)
            else:
                execution = cast(service_pb2.WaitExecutionResponse, response).execution
                if waiting.answered(execution, time.monotonic()):
                    return execution

    def get(self, execution_id: str, *, full: bool = False) -> Execution:
        """Returns a snapshot; with `full` its plan too."""
        view = ExecutionView.EXECUTION_VIEW_FULL if full else ExecutionView.EXECUTION_VIEW_BASIC
        request = service_pb2.GetExecutionRequest(execution_id=execution_id, view=view)
        return self._unary("GetExecution", request, service_pb2.GetExecutionResponse).execution

    def list(
        self,
        *,
        states: Iterable[str] = (),
        session_id: str = "",
        labels: Mapping[str, str] | None = None,
        execution_ids: Iterable[str] = (),
        created_from: datetime | None = None,
        created_before: datetime | None = None,
        page_size: int = 0,
    ) -> Iterator[Execution]:
        """Gives the snapshots that match all of this, newest first. Each page is asked for when it is needed.

        `states` are short names, such as "RUNNING".
        """
        request = requests.snapshots(
            states=states,
            session_id=session_id,
            labels=labels,
            execution_ids=execution_ids,
            created_from=created_from,
            created_before=created_before,
            page_size=page_size,
        )
        return self._pages(request)

    def events(
        self, execution_id: str, after_sequence: int = 0, *, kinds: Iterable[str] = (), step_ids: Iterable[str] = ()
    ) -> Iterator[Event]:
        """Gives the events that there are after `after_sequence` (exclusive), and does not wait for more."""
        request = service_pb2.ListEventsRequest(
            execution_id=execution_id, after_sequence=after_sequence, filter=requests.selection(kinds, step_ids)
        )
        return self._event_pages(request)

    def cancel(self, execution_id: str, reason: str = "", actor: str = "") -> Execution:
        """Asks an execution to end. Returns once that is recorded; the end comes later. Raises ExecutionEnded."""
        request = service_pb2.CancelExecutionRequest(execution_id=execution_id, reason=reason, actor=actor)
        return self._unary("CancelExecution", request, service_pb2.CancelExecutionResponse).execution

    def pause(self, execution_id: str, reason: str = "", actor: str = "") -> Execution:
        """Lets no other step start, nor another attempt of one, until `resume`. Steps that run go on, at most to where
        they let themselves be stopped; the execution's time limit goes on, too. Returns once that is recorded;
        repeating it changes nothing. Raises ExecutionEnded where it has ended or is being cancelled.
        """
        request = service_pb2.PauseExecutionRequest(execution_id=execution_id, reason=reason, actor=actor)
        return self._unary("PauseExecution", request, service_pb2.PauseExecutionResponse).execution

    def resume(self, execution_id: str, reason: str = "", actor: str = "") -> Execution:
        """Lets the steps of a paused execution start again. Returns and raises as `pause` does."""
        request = service_pb2.ResumeExecutionRequest(execution_id=execution_id, reason=reason, actor=actor)
        return self._unary("ResumeExecution", request, service_pb2.ResumeExecutionResponse).execution

    def answer(self, execution_id: str, input_id: str, value: object, actor: str = "") -> Execution:
        """Answers what a step asked: `input_id` is that of its `input_requested`, `value` anything JSON-like that fits
        the question. Returns once it is recorded; the same answer again is no error, and changes nothing.

        Raises InputInvalid, InputNotRequested where the question has another answer or is closed, ExecutionEnded.
        """
        request = requests.answer(execution_id, input_id, value, actor)
        return self._unary("ProvideInput", request, service_pb2.ProvideInputResponse).execution

    def retry_execution(
        self,
        execution_id: str,
        *,
        step_ids: Iterable[str] = (),
        reason: str = "",
        actor: str = "",
        request_id: str | None = None,
    ) -> Execution:
        """Begins a new execution of an ended one: it keeps the outputs of the steps that completed, and runs the
        others, those in `step_ids`, and all that depend on them. Returns its snapshot once all that it keeps is in its
        own events; `watch` it under its own id. The same `request_id` is the same execution, as in `execute`.

        Raises ExecutionRunning, ExecutionEnded where it completed and no step is named, AtMostOnce, CursorExpired,
        InvalidRequest, NotFound, RequestIdReused or LimitExecutions.
        """
        request = requests.retry(execution_id, step_ids, reason=reason, actor=actor, request_id=request_id)
        return self._unary("RetryExecution", request, service_pb2.RetryExecutionResponse).execution

    def build_plan(self, query: str) -> Plan:
        """Returns the plan that a query becomes. Runs nothing. Raises QueryNotUnderstood, NoPlanner."""
        return self._unary("BuildPlan", service_pb2.BuildPlanRequest(query=query), service_pb2.BuildPlanResponse).plan

    def operations(self) -> service_pb2.ListOperationsResponse:
        """Returns what the server can run."""
        return self._unary("ListOperations", service_pb2.ListOperationsRequest(), service_pb2.ListOperationsResponse)

    def statistics(
        self,
        *,
        operations: Iterable[str] = (),
        plans: Iterable[str] = (),
        from_time: datetime | None = None,
        before_time: datetime | None = None,
    ) -> service_pb2.GetStatisticsResponse:
        """Returns durations, failures, retries and bottlenecks of what ended in a span, by operation and plan: of all,
        or of those that are named. Counts whole hours; the response says which. Raises InvalidRequest, JournalDamaged.
        """
        request = requests.statistics(operations, plans, from_time=from_time, before_time=before_time)
        return self._unary("GetStatistics", request, service_pb2.GetStatisticsResponse)

    def server_info(self) -> service_pb2.GetServerInfoResponse:
        """Returns the server's version, limits and capabilities."""
        return self._unary("GetServerInfo", service_pb2.GetServerInfoRequest(), service_pb2.GetServerInfoResponse)

    def _follow(self, source: Source, *, on_event: Handler | None, history: int) -> Run:
        run = Run(self, source, on_event=on_event, history=history)
        with self._lock:
            self._runs.add(run)
        run._begin()
        return run

    def _pages(self, request: service_pb2.ListExecutionsRequest) -> Iterator[Execution]:
        while True:
            page = self._unary("ListExecutions", request, service_pb2.ListExecutionsResponse)
            yield from page.executions
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def _event_pages(self, request: service_pb2.ListEventsRequest) -> Iterator[Event]:
        while True:
            page = self._unary("ListEvents", request, EventBatch)
            requests.check_page(page, request)
            yield from page.events
            if page.sequence <= request.after_sequence or any(is_terminal(event) for event in page.events[-1:]):
                return
            request.after_sequence = page.sequence

    def _unary(
        self, name: str, request: Message, response: type[_Response], *, limit: float | None = None
    ) -> _Response:
        deadline = time.monotonic() + (self._timeout if limit is None else limit)
        failures = 0
        while True:
            try:
                return cast(_Response, self._wire.unary(METHODS[name], request, deadline - time.monotonic()))
            except StepwireError as failure:
                error = failure
            failures += 1
            delay = pause_before(
                error,
                failures=failures,
                left=deadline - time.monotonic(),
                patience=self._patience,
                random=random.random,
            )
            if delay is None:
                raise error
            pause(delay)


class Run(BaseRun, Reader):
    """An execution that is being followed: an iterator of its events, in order, each once. For one thread.

        run = client.execute("...")
        for event in run:
            print(event.progress.percentage, event.message)
        print(run.result())

    Leaving the loop early, by `break` or by an exception, ends the call at once; the execution goes on. Another loop or
    `result` then takes it up again where it was left.
    """

    def __init__(self, client: Client, source: Source, *, on_event: Handler | None, history: int) -> None:
        super().__init__(
            source,
            on_event=on_event,
            history=history,
            opening=client._timeout,
            delivery=client._delivery,
            patience=client._patience,
            random=random.random,
        )
        if self._callback is not None and self._callback.needs_loop:
            raise TypeError("on_event is a coroutine function: use stepwire.aio.Client.")
        self._read_over(client)

    def result(self) -> Any:
        """Reads what is left, and returns the output as plain Python.

        Raises ExecutionFailed or ExecutionCancelled where it did not complete, StreamBroken where the stream can't go
        on.
        """
        for _ in self:
            pass
        return self._outcome()

    def cancel(self, reason: str = "", actor: str = "") -> Execution:
        """Asks the execution to end. Its last events still come. Raises ExecutionEnded where it has."""
        return self._client.cancel(self.execution_id, reason, actor)

    def pause(self, reason: str = "", actor: str = "") -> Execution:
        """Lets no other step start, as `Client.pause` does. Reading goes on: events of steps that run still come."""
        return self._client.pause(self.execution_id, reason, actor)

    def resume(self, reason: str = "", actor: str = "") -> Execution:
        """Lets the execution's steps start again."""
        return self._client.resume(self.execution_id, reason, actor)

    def answer(self, input_id: str, value: object, actor: str = "") -> Execution:
        """Answers what a step of the execution asks: `tracker.questions` has what is open. Raises as the client's."""
        return self._client.answer(self.execution_id, input_id, value, actor)

    def _has_begun(self) -> bool:
        return self._resumption.welcomed

    def _is_over(self) -> bool:
        return self._resumption.terminal is not None

    def _hand_over(self, event: Event) -> None:
        if self._callback is not None:
            try:
                self._callback(event)
            except BaseException:
                # Not a handler's own failure: the reader is interrupted, and has yet to get the event.
                self._resumption.untake(event)
                raise


class Watch(BaseWatch, Reader):
    """Many executions that are being followed: an iterator of their events, each once, those of one execution in
    order. For one thread.

        for event in client.watch_executions(session_id="web"):
            print(event.execution_id, event.progress.percentage, event.message)

    Leaving the loop early ends the call at once; another loop takes it up again where it was left.
    """

    def __init__(self, client: Client, request: service_pb2.WatchExecutionsRequest) -> None:
        super().__init__(request, opening=client._timeout, patience=client._patience, random=random.random)
        self._read_over(client)
