"""A small app to serve in tests, and a caller that speaks gRPC without Stepwire's client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message
from google.rpc import status_pb2
from grpc import aio

from stepwire import v1
from stepwire.errors import QueryNotUnderstood, StepwireError, error_from_status
from stepwire.v1 import (
    EventBatch,
    ExecuteRequest,
    Execution,
    GetExecutionRequest,
    GetExecutionResponse,
    ListEventsRequest,
    Plan,
    StartExecutionRequest,
    StartExecutionResponse,
    WaitExecutionRequest,
    WaitExecutionResponse,
)
from stepwire_server import App, StepContext, plan_step

SERVICE = "/stepwire.v1.ExecutionService/"

Response = TypeVar("Response", bound=Message)


class Gate:
    """What the operation `wait` and the planner's "slow" wait for."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.waiting = asyncio.Event()
        """Set once something waits."""

    async def wait(self) -> None:
        self.waiting.set()
        await self.opened.wait()


def create_app(gate: Gate) -> App:
    app = App("shop")

    @app.operation("echo")
    async def echo(value: Any = None) -> Any:
        """Return the value."""
        return value

    @app.operation("add", timeout=30)
    async def add(a: int, b: float = 0.0) -> float:
        """Add two numbers."""
        return a + b

    @app.operation("wait")
    async def wait(step: StepContext) -> str:
        """Wait until the test opens the gate."""
        await step.progress(50, "waiting")
        await gate.wait()
        return "opened"

    @app.operation("ask")
    async def ask(step: StepContext) -> Any:
        """Ask for an amount, and return the answer."""
        return await step.ask("How much?", schema={"type": "object", "properties": {"amount": {"type": "number"}}})

    @app.operation("stubborn")
    async def stubborn() -> None:
        """Wait, and go on waiting when it is cancelled, until the test opens the gate."""
        while not gate.opened.is_set():
            try:
                await gate.wait()
            except asyncio.CancelledError:
                await gate.opened.wait()
                raise

    @app.operation("chatter")
    async def chatter(step: StepContext, count: int, size: int = 8) -> int:
        """Say much."""
        for number in range(count):
            if number % 10 == 0:
                await step.progress(100 * number / count, f"{number} of {count}")
            else:
                await step.content("x" * size)
        return count

    @app.plan("greet")
    def greet(name: str) -> Plan:
        """Greet someone."""
        return plan(plan_step("hello", "echo", input={"value": f"hello {name}"}))

    @app.planner
    async def planner(query: str) -> Plan:
        """Say "hello", "slow", "nonsense", "broken" or "impossible"."""
        match query:
            case "slow":
                await gate.wait()
            case "nonsense":
                raise QueryNotUnderstood("this can't be planned; say hello")
            case "broken":
                raise RuntimeError("the planner's secret")
            case "impossible":
                return plan(plan_step("a", "no_such_operation"))
            case _ if query.startswith("repeat "):
                raise QueryNotUnderstood(query)
        return plan(plan_step("hello", "echo", input={"value": query}))

    return app


def plan(*steps: v1.Step) -> Plan:
    return Plan(steps=steps)


QUICK = Plan(steps=[plan_step("a", "add", input={"a": 1, "b": 2}), plan_step("b", "echo", depends_on=["a"])])
"""Ends at once: 6 events."""

BLOCKED = Plan(steps=[plan_step("a", "wait"), plan_step("b", "echo", depends_on=["a"])])
"""Ends after the gate was opened."""


def chatter(count: int, *, size: int = 8) -> Plan:
    """A plan with about `count` events."""
    return plan(plan_step("talk", "chatter", input={"count": count, "size": size}))


class Refused(Exception):
    """A call ended with a status other than OK."""

    def __init__(self, code: grpc.StatusCode, error: StepwireError, details: int) -> None:
        super().__init__(f"{code.name} {error.reason}: {error}")
        self.code = code
        self.error = error
        """As Stepwire's errors say it; CallFailed where the status has no ErrorInfo."""
        self.details_size = details
        """Bytes of grpc-status-details-bin."""


async def receive(call: aio.UnaryStreamCall[bytes, bytes]) -> bytes | None:
    """Returns the next message; None at the end, whatever the status."""
    try:
        raw = await call.read()
    except aio.AioRpcError:
        return None
    return None if raw is aio.EOF else raw


async def refusal(call: Any) -> Refused | None:
    """Returns how a call that is over was refused, None for OK."""
    code = await call.code()
    if code is grpc.StatusCode.OK:
        return None
    raw = b""
    for key, value in await call.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            raw = value
    status = status_pb2.Status.FromString(raw) if raw else status_pb2.Status(code=code.value[0])
    if not raw:
        status.message = await call.details() or ""
    else:
        # What a client without the details sees must agree with them.
        assert status.code == code.value[0]
        assert status.message == await call.details()
    return Refused(code, error_from_status(status), len(raw))


class Caller:
    """Calls one server over a channel of its own, with bytes or messages."""

    def __init__(self, address: str, options: Sequence[tuple[str, Any]] = ()) -> None:
        self.channel = aio.insecure_channel(address, options=[("grpc.enable_retries", 0), *options])

    async def close(self) -> None:
        await self.channel.close()

    def open(
        self,
        method: str,
        request: Message | bytes,
        *,
        metadata: Sequence[tuple[str, str | bytes]] = (),
        compression: grpc.Compression | None = None,
    ) -> aio.UnaryStreamCall[bytes, bytes]:
        """Begins a call; reading it gives bytes."""
        raw = request if isinstance(request, bytes) else request.SerializeToString()
        return self.channel.unary_stream(SERVICE + method)(
            raw, metadata=tuple(metadata), compression=compression, timeout=30
        )

    async def batches(self, method: str, request: Message | bytes, **more: Any) -> AsyncIterator[EventBatch]:
        """Reads a stream to its end. Raises Refused."""
        call = self.open(method, request, **more)
        try:
            while (raw := await receive(call)) is not None:
                yield EventBatch.FromString(raw)
            refused = await refusal(call)
            if refused is not None:
                raise refused
        finally:
            call.cancel()

    async def stream(self, method: str, request: Message | bytes, **more: Any) -> list[EventBatch]:
        """Returns a whole stream. Raises Refused."""
        return [batch async for batch in self.batches(method, request, **more)]

    async def call(self, method: str, request: Message | bytes, kind: type[Response], **more: Any) -> Response:
        """Returns the answer of a unary call. Raises Refused."""
        call = self.open(method, request, **more)
        raw = await receive(call)
        refused = await refusal(call)
        if refused is not None:
            raise refused
        assert raw is not None
        return kind.FromString(raw)

    async def refused(self, method: str, request: Message | bytes, **more: Any) -> Refused:
        """Returns how a call is refused; fails where it is not."""
        call = self.open(method, request, **more)
        try:
            answer = await receive(call)
            refused = await refusal(call)
        finally:
            call.cancel()
        assert refused is not None, f"{method} was not refused: {answer!r}"
        return refused

    # -- the calls that many tests make

    async def start(self, plan: Plan = QUICK, **fields: Any) -> Execution:
        request = StartExecutionRequest(plan=plan, **fields)
        return (await self.call("StartExecution", request, StartExecutionResponse)).execution

    async def ended(self, execution_id: str) -> Execution:
        """Waits for the end."""
        request = WaitExecutionRequest(execution_id=execution_id)
        return (await self.call("WaitExecution", request, WaitExecutionResponse)).execution

    async def run(self, plan: Plan = QUICK, **fields: Any) -> Execution:
        """Starts, and waits for the end."""
        return await self.ended((await self.start(plan, **fields)).execution_id)

    async def get(self, execution_id: str, **fields: Any) -> Execution:
        request = GetExecutionRequest(execution_id=execution_id, **fields)
        return (await self.call("GetExecution", request, GetExecutionResponse)).execution

    async def events(self, execution_id: str) -> list[v1.Event]:
        """Reads all events by pages."""
        found: list[v1.Event] = []
        while True:
            request = ListEventsRequest(execution_id=execution_id, after_sequence=len(found))
            page = await self.call("ListEvents", request, EventBatch)
            if not page.events:
                return found
            found += page.events

    async def execute(self, plan: Plan = QUICK, **fields: Any) -> list[EventBatch]:
        return await self.stream("Execute", ExecuteRequest(plan=plan, **fields))
