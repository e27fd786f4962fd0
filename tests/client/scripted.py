"""A real gRPC server that plays scripts, and short ways to write the messages in them."""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from google.protobuf import message_factory
from google.rpc import code_pb2, status_pb2
from grpc_status import rpc_status

from stepwire.errors import StepwireError, status_from_error
from stepwire.requests import METHODS
from stepwire.v1 import Event, EventBatch, Execution, Progress, execution_service_pb2
from stepwire.values import to_value

EXECUTION = "e-1"

HANG = object()
"""An act: say nothing more until the client leaves."""


class Status:
    """An act: end with a status that is not Stepwire's."""

    def __init__(self, code: int, text: str = "from the transport", *, details: bytes | None = None) -> None:
        self.status = status_pb2.Status(code=code, message=text)
        self.details = details


Act = EventBatch | StepwireError | Status | threading.Event | object


class Call:
    """One call that the server saw."""

    def __init__(self, name: str, request: Any, peer: str) -> None:
        self.name = name
        self.request = request
        self.peer = peer
        self.left = threading.Event()
        """Set when the call is over on the server's side."""


class ScriptedServer:
    """Plays one script for each stream and one reply for each unary call, in the order in which they come."""

    def __init__(self, *, port: int = 0, credentials: grpc.ServerCredentials | None = None) -> None:
        self.calls: list[Call] = []
        self.came = threading.Condition()
        self._scripts: deque[list[Act]] = deque()
        self._replies: dict[str, deque[Any]] = defaultdict(deque)
        self._server = grpc.server(ThreadPoolExecutor(max_workers=20), options=[("grpc.so_reuseport", 0)])
        handlers = {name: self._handler(name) for name in METHODS}
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("stepwire.v1.ExecutionService", handlers),)
        )
        address = f"127.0.0.1:{port}"
        if credentials is None:
            self.port = self._server.add_insecure_port(address)
        else:
            self.port = self._server.add_secure_port(address, credentials)
        self.target = f"127.0.0.1:{self.port}"
        self._server.start()

    def plays(self, *scripts: Iterable[Act]) -> None:
        """Adds scripts for the streams to come."""
        self._scripts.extend(list(script) for script in scripts)

    def replies(self, name: str, *replies: Any) -> None:
        """Adds replies for the calls of a unary method to come."""
        self._replies[name].extend(replies)

    def names(self) -> list[str]:
        """The methods that were called, in order."""
        return [call.name for call in self.calls]

    def call(self, index: int) -> Call:
        """Waits until so many calls have come, and returns that one."""
        with self.came:
            assert self.came.wait_for(lambda: len(self.calls) > index, 10)
            return self.calls[index]

    def stop(self) -> None:
        self._server.stop(None).wait()

    def _handler(self, name: str) -> grpc.RpcMethodHandler:
        service = execution_service_pb2.DESCRIPTOR.services_by_name["ExecutionService"]
        method = service.methods_by_name[name]
        kind = message_factory.GetMessageClass(method.input_type)
        make = grpc.unary_stream_rpc_method_handler if method.server_streaming else grpc.unary_unary_rpc_method_handler
        behaviour: Callable[..., Any] = self._stream if method.server_streaming else self._unary
        return make(
            lambda request, context: behaviour(name, request, context),
            request_deserializer=kind.FromString,
            response_serializer=METHODS[name].response.SerializeToString,
        )

    def _note(self, name: str, request: Any, context: grpc.ServicerContext) -> Call:
        call = Call(name, request, context.peer())
        context.add_callback(call.left.set)
        with self.came:
            self.calls.append(call)
            self.came.notify_all()
        return call

    def _stream(self, name: str, request: Any, context: grpc.ServicerContext) -> Iterator[EventBatch]:
        call = self._note(name, request, context)
        script = self._scripts.popleft() if self._scripts else [Status(code_pb2.FAILED_PRECONDITION, "no script left")]
        for act in script:
            if act is HANG:
                call.left.wait(20)
            elif isinstance(act, threading.Event):
                act.wait(20)
            elif isinstance(act, EventBatch):
                yield act
            else:
                _abort(act, context)

    def _unary(self, name: str, request: Any, context: grpc.ServicerContext) -> Any:
        call = self._note(name, request, context)
        replies = self._replies[name]
        reply = replies.popleft() if replies else Status(code_pb2.FAILED_PRECONDITION, "no reply left")
        if reply is HANG:
            call.left.wait(20)
            reply = Status(code_pb2.ABORTED)
        if isinstance(reply, StepwireError | Status):
            _abort(reply, context)
        return reply


def _abort(act: object, context: grpc.ServicerContext) -> None:
    if isinstance(act, StepwireError):
        context.abort_with_status(rpc_status.to_status(status_from_error(act)))
    assert isinstance(act, Status), act
    # Without details, as a transport or a proxy ends a call, or with some that are not a Status.
    if act.details is not None:
        context.set_trailing_metadata((("grpc-status-details-bin", act.details),))
    code = next(code for code in grpc.StatusCode if code.value[0] == act.status.code)
    context.abort(code, act.status.message)


def welcome(after: int = 0, *, state: int = 3, last: int | None = None) -> EventBatch:
    """The first message of a stream."""
    snapshot = Execution(execution_id=EXECUTION, state=state, as_of_sequence=after if last is None else last)
    return EventBatch(execution=snapshot, after_sequence=after, sequence=after)


def page(*events: Event, at: int | None = None, last: int | None = None, state: int = 3) -> EventBatch:
    """A page of events, or an empty one after `at`, of an execution whose last event is `last`."""
    made = batch(*events, after=at if not events else None)
    end = made.sequence if last is None else last
    ended = 6 if any(e.WhichOneof("kind") == "plan_completed" for e in events) else state
    made.execution.CopyFrom(Execution(execution_id=EXECUTION, state=ended, as_of_sequence=end))
    return made


def event(sequence: int, kind: str = "step_progress", **fields: Any) -> Event:
    """An event of a plan with two steps."""
    made = Event(
        execution_id=EXECUTION,
        sequence=sequence,
        execution_state=3,
        progress=Progress(percentage=min(99.0, sequence * 10.0), current_step=1, total_steps=2),
        message=f"event {sequence}",
    )
    made.event_time.FromSeconds(1_700_000_000 + sequence)
    if kind:
        getattr(made, kind).SetInParent()
    if kind.startswith("step"):
        made.step_id, made.step_name, made.attempt, made.step_state = "s1", "First", 1, 4
    for name, value in fields.items():
        if isinstance(value, Progress):
            getattr(made, name).CopyFrom(value)
        else:
            setattr(made, name, value)
    return made


def completed(sequence: int, output: object = "done") -> Event:
    """The terminal event of an execution that went well."""
    made = event(sequence, "plan_completed", execution_state=6)
    made.plan_completed.output.CopyFrom(to_value(output))
    made.progress.percentage = 100
    made.progress.completed_steps = 2
    return made


def batch(*events: Event, after: int | None = None, to: int | None = None, notice: int = 0) -> EventBatch:
    """A message with these events; its range is theirs unless it is given."""
    first = events[0].sequence - 1 if events else 0
    last = events[-1].sequence if events else (after or 0)
    return EventBatch(
        events=events,
        after_sequence=first if after is None else after,
        sequence=last if to is None else to,
        notice=notice,
    )


def numbers(*sequences: int) -> EventBatch:
    """A message with events of these sequences."""
    return batch(*(event(sequence, "content") for sequence in sequences))


def heartbeat(sequence: int) -> EventBatch:
    return EventBatch(after_sequence=sequence, sequence=sequence, notice=EventBatch.NOTICE_HEARTBEAT)


def draining(sequence: int) -> EventBatch:
    return EventBatch(after_sequence=sequence, sequence=sequence, notice=EventBatch.NOTICE_DRAINING)
