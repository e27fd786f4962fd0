"""Everything that a caller can get wrong, as one table: what is sent, and how it has to be refused.

The test goes through it, and so does `python -m tests.server.api.bad_input_report`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import grpc
from google.protobuf import struct_pb2
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from stepwire.v1 import (
    BuildPlanRequest,
    CancelExecutionRequest,
    Condition,
    EventFilter,
    ExecuteRequest,
    ExecutionFilter,
    ExecutionOptions,
    ForEach,
    GetExecutionRequest,
    GetServerInfoRequest,
    GetStatisticsRequest,
    ListEventsRequest,
    ListExecutionsRequest,
    ListExecutionsResponse,
    OutputRef,
    Plan,
    PlanCall,
    ProvideInputRequest,
    Retry,
    RetryExecutionRequest,
    StartExecutionRequest,
    Step,
    WaitExecutionRequest,
    WatchExecutionRequest,
)
from stepwire_server import output_of, plan_step, when
from stepwire_server.api import paging

from .shop import Caller

INVALID = grpc.StatusCode.INVALID_ARGUMENT
NOT_FOUND = grpc.StatusCode.NOT_FOUND
OUT_OF_RANGE = grpc.StatusCode.OUT_OF_RANGE
EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED

MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is there before the bad input comes."""

    execution_id: str
    """Of an execution that has ended."""
    last_sequence: int
    """Its last event."""
    request_id: str
    """What it was started with."""
    page_token: str
    """Of a listing without a filter."""


async def known_things(caller: Caller) -> Known:
    """Runs two executions and lists one page, so that bad inputs have something to be wrong about."""
    ended = await caller.run(request_id="first")
    await caller.run()
    page = await caller.call("ListExecutions", ListExecutionsRequest(page_size=1), ListExecutionsResponse)
    return Known(
        execution_id=ended.execution_id,
        last_sequence=ended.as_of_sequence,
        request_id="first",
        page_token=page.next_page_token,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class BadInput:
    """One bad input."""

    name: str
    method: str
    request: Callable[[Known], Message | bytes]
    code: grpc.StatusCode
    reason: str = ""
    """Empty: the transport refuses it before Stepwire sees it."""
    fields: Sequence[str] = ()
    """The fields that BadRequest names, all of them and no other."""
    says: str = ""
    """What the message contains."""
    metadata: Sequence[tuple[str, str]] = ()
    compression: grpc.Compression | None = field(default=None)
    sometimes: grpc.StatusCode | None = None
    """What the transport may say instead, at random."""


def nested(depth: int) -> bytes:
    """Returns a StartExecutionRequest whose input is nested so deep: the Struct itself, and lists."""
    value = b"\x11" + bytes(8)  # number_value
    for _ in range(depth - 1):
        value = _delimited(6, _delimited(1, value))  # Value.list_value, ListValue.values
    entry = _delimited(1, b"value") + _delimited(2, value)
    step = _delimited(1, b"a") + _delimited(3, b"echo") + _delimited(4, _delimited(1, entry))
    return _delimited(2, _delimited(1, step))


def _delimited(number: int, data: bytes) -> bytes:
    size = len(data)
    length = bytearray()
    while size > 127:
        length.append(size & 127 | 128)
        size >>= 7
    return bytes([number << 3 | 2, *length, size]) + data


def _plan(*steps: Step) -> StartExecutionRequest:
    return StartExecutionRequest(plan=Plan(steps=steps))


def _struct(value: object) -> struct_pb2.Struct:
    struct = struct_pb2.Struct()
    struct.update({"value": value})
    return struct


def _numbered(value: float) -> StartExecutionRequest:
    return _plan(Step(id="a", operation="echo", input=_struct(value)))


def _sized(size: int) -> bytes:
    """Returns a StartExecutionRequest of exactly this many bytes, with a query that is too long."""
    return _delimited(1, b"x" * (size - 5))


def _start(
    name: str,
    request: Message | bytes,
    reason: str,
    *fields: str,
    says: str = "",
    code: grpc.StatusCode = INVALID,
) -> BadInput:
    return BadInput(
        name=name,
        method="StartExecution",
        request=lambda known: request,
        code=code,
        reason=reason,
        fields=fields,
        says=says,
    )


def _of(
    method: str,
    name: str,
    request: Callable[[Known], Message | bytes],
    reason: str,
    *fields: str,
    says: str = "",
    code: grpc.StatusCode = INVALID,
) -> BadInput:
    return BadInput(name=name, method=method, request=request, code=code, reason=reason, fields=fields, says=says)


def _watch(after: int, **more: object) -> Callable[[Known], Message]:
    return lambda known: WatchExecutionRequest(execution_id=known.execution_id, after_sequence=after, **more)  # type: ignore[arg-type]


def _unnamed(number: int) -> Callable[[Known], Message]:
    return lambda known: ListExecutionsRequest(page_token=paging.encode(number, ExecutionFilter()))


BAD_IDS = {
    "a slash": "a/b",
    "a dot": "..",
    "a star": "*",
    "a NUL": "a\0b",
    "a blank": "a b",
    "an umlaut": "ä",
    "65 characters": "x" * 65,
    "a line feed at the end": "a\n",
}

PLANS = [
    _start("a plan without steps", _plan(), "PLAN_INVALID", "plan.steps", says="at least one step"),
    _start(
        "a plan with a cycle",
        _plan(
            plan_step("a", "echo", depends_on=["c"]),
            plan_step("b", "echo", depends_on=["a"]),
            plan_step("c", "echo", depends_on=["b"]),
        ),
        "PLAN_INVALID",
        "plan.steps[0].depends_on",
        says="a -> c -> b -> a",
    ),
    _start(
        "a step that depends on itself",
        _plan(plan_step("a", "echo", depends_on=["a"])),
        "PLAN_INVALID",
        "plan.steps[0].depends_on[0]",
        says="the step itself",
    ),
    _start(
        "unknown dependencies",
        _plan(plan_step("a", "echo", depends_on=["x"]), plan_step("b", "echo", depends_on=["a", "y"])),
        "PLAN_INVALID",
        "plan.steps[0].depends_on[0]",
        "plan.steps[1].depends_on[1]",
        says="'x'",
    ),
    _start(
        "a duplicate id",
        _plan(plan_step("a", "echo"), plan_step("b", "echo"), plan_step("a", "echo")),
        "PLAN_INVALID",
        "plan.steps[2].id",
        says="steps[0]",
    ),
    _start(
        "10,001 steps",
        _plan(*(Step(id=f"s{i}", operation="echo") for i in range(10_001))),
        "PLAN_INVALID",
        "plan.steps",
        says="10,001",
    ),
    _start(
        "a plan above 768 KiB",
        _plan(plan_step("a", "echo", input={"value": "x" * 800_000})),
        "PLAN_INVALID",
        "plan",
        says="786,432",
    ),
    _start(
        "unknown operations, all named",
        _plan(plan_step("a", "missing"), plan_step("b", "echo"), plan_step("c", "lost")),
        "OPERATION_NOT_FOUND",
        "plan.steps[0].operation",
        "plan.steps[2].operation",
        says="'missing'",
        code=NOT_FOUND,
    ),
    _start("no operation", _plan(Step(id="a")), "PLAN_INVALID", "plan.steps[0].operation", says="ListOperations"),
    _start(
        "inputs of the wrong type",
        _plan(plan_step("a", "add", input={"a": "1", "b": True})),
        "INPUT_INVALID",
        "plan.steps[0].input.a",
        "plan.steps[0].input.b",
        says="valid integer",
    ),
    _start(
        "a fraction where a whole number belongs",
        _plan(plan_step("a", "add", input={"a": 1.5})),
        "INPUT_INVALID",
        "plan.steps[0].input.a",
    ),
    _start(
        "a missing parameter",
        _plan(plan_step("a", "add")),
        "INPUT_INVALID",
        "plan.steps[0].input.a",
        says="missing",
    ),
    _start(
        "an unknown parameter",
        _plan(plan_step("a", "add", input={"a": 1, "c": 1})),
        "INPUT_INVALID",
        "plan.steps[0].input.c",
        says="it has: a, b",
    ),
    _start(
        "an output reference to a step that is not there",
        _plan(Step(id="a", operation="echo", input_from={"value": OutputRef(step_id="nowhere")})),
        "PLAN_INVALID",
        "plan.steps[0].input_from['value'].step_id",
        says="'nowhere'",
    ),
    _start(
        "an output reference to a step that it does not depend on",
        _plan(plan_step("a", "echo"), Step(id="b", operation="echo", input_from={"value": OutputRef(step_id="a")})),
        "PLAN_INVALID",
        "plan.steps[1].input_from['value'].step_id",
        says="depends_on",
    ),
    _start(
        "an output reference that is no JSON pointer",
        _plan(
            plan_step("a", "echo"),
            Step(
                id="b",
                operation="echo",
                depends_on=["a"],
                input_from={"value": OutputRef(step_id="a", json_pointer="receipt")},
            ),
        ),
        "PLAN_INVALID",
        "plan.steps[1].input_from['value'].json_pointer",
        says="RFC 6901",
    ),
    _start(
        "an output reference to an unknown parameter",
        _plan(
            plan_step("a", "echo"),
            Step(id="b", operation="echo", depends_on=["a"], input_from={"other": OutputRef(step_id="a")}),
        ),
        "INPUT_INVALID",
        "plan.steps[1].input.other",
    ),
    _start(
        "a weight of 0",
        _plan(plan_step("a", "echo", weight=0)),
        "PLAN_INVALID",
        "plan.steps[0].weight",
    ),
    _start(
        "a weight that is no number",
        _plan(plan_step("a", "echo", weight=math.nan)),
        "PLAN_INVALID",
        "plan.steps[0].weight",
    ),
    _start(
        "101 attempts",
        _plan(plan_step("a", "echo", retry=Retry(attempts=101))),
        "PLAN_INVALID",
        "plan.steps[0].retry.attempts",
    ),
    _start(
        "a negative timeout",
        _plan(plan_step("a", "echo", timeout=-1)),
        "PLAN_INVALID",
        "plan.steps[0].timeout",
    ),
    _start(
        "a condition on a step that it does not depend on",
        _plan(plan_step("a", "echo"), Step(id="b", operation="echo", conditions=[when("a").present()])),
        "PLAN_INVALID",
        "plan.steps[1].conditions[0].output.step_id",
        says="depends_on",
    ),
    _start(
        "a condition without a step",
        _plan(plan_step("a", "echo"), Step(id="b", operation="echo", conditions=[Condition(present=True)])),
        "PLAN_INVALID",
        "plan.steps[1].conditions[0].output.step_id",
    ),
    _start(
        "a condition that is no JSON pointer",
        _plan(plan_step("a", "echo"), plan_step("b", "echo", conditions=[when("a", "total").above(1)])),
        "PLAN_INVALID",
        "plan.steps[1].conditions[0].output.json_pointer",
        says="RFC 6901",
    ),
    _start(
        "a condition without a test",
        _plan(
            plan_step("a", "echo"),
            plan_step("b", "echo", conditions=[when("a").present(), Condition(output=OutputRef(step_id="a"))]),
        ),
        "PLAN_INVALID",
        "plan.steps[1].conditions[1]",
        says="one_of",
    ),
    _start(
        "a condition that is one of nothing",
        _plan(plan_step("a", "echo"), plan_step("b", "echo", conditions=[when("a").one_of()])),
        "PLAN_INVALID",
        "plan.steps[1].conditions[0].one_of",
    ),
    *(
        _start(
            f"a condition {name} {bound}",
            _plan(plan_step("a", "echo"), plan_step("b", "echo", conditions=[getattr(when("a"), name)(bound)])),
            "PLAN_INVALID",
            f"plan.steps[1].conditions[0].{name}",
        )
        for name in ("above", "below")
        for bound in (math.nan, math.inf)
    ),
    *(
        _start(
            f"a condition whose {name} holds nothing",
            _plan(
                plan_step("a", "echo"),
                plan_step("b", "echo", conditions=[Condition(output=OutputRef(step_id="a"), **{name: {}})]),
            ),
            "PLAN_INVALID",
            f"plan.steps[1].conditions[0].{name}",
            says="null_value",
        )
        for name in ("equals", "not_equals")
    ),
    _start(
        "a for_each without items",
        _plan(Step(id="a", operation="echo", for_each=ForEach(parameter="value"))),
        "PLAN_INVALID",
        "plan.steps[0].for_each",
        says="output or values",
    ),
    _start(
        "a for_each over a step that it does not depend on",
        _plan(
            plan_step("a", "echo"),
            Step(id="b", operation="echo", for_each=ForEach(parameter="value", output=OutputRef(step_id="a"))),
        ),
        "PLAN_INVALID",
        "plan.steps[1].for_each.output.step_id",
    ),
    _start(
        "a for_each over what is no JSON pointer",
        _plan(plan_step("a", "echo"), plan_step("b", "echo", for_each={"value": output_of("a", "list")})),
        "PLAN_INVALID",
        "plan.steps[1].for_each.output.json_pointer",
    ),
    _start(
        "a for_each without a parameter",
        _plan(plan_step("a", "echo", for_each={"": [1]})),
        "PLAN_INVALID",
        "plan.steps[0].for_each.parameter",
    ),
    _start(
        "a for_each with a parameter that is given",
        _plan(plan_step("a", "echo", input={"value": 1}, for_each={"value": [1]})),
        "PLAN_INVALID",
        "plan.steps[0].for_each.parameter",
        says="give it once",
    ),
    _start(
        "a for_each with an unknown parameter",
        _plan(plan_step("a", "echo", for_each={"other": [1]})),
        "INPUT_INVALID",
        "plan.steps[0].input.other",
    ),
    _start(
        "a for_each whose items do not fit",
        _plan(plan_step("a", "add", for_each={"a": [1, "2", 3.5]})),
        "INPUT_INVALID",
        "plan.steps[0].for_each.values[1]",
        "plan.steps[0].for_each.values[2]",
        says="valid integer",
    ),
    _start(
        "a for_each with an item that holds nothing",
        _plan(Step(id="a", operation="echo", for_each={"parameter": "value", "values": {"values": [{}]}})),
        "PLAN_INVALID",
        "plan.steps[0].for_each.values[0]",
        says="null_value",
    ),
    _start(
        "a for_each of more items than a plan has room for",
        _plan(plan_step("a", "echo", for_each={"value": range(10_000)})),
        "PLAN_INVALID",
        "plan.steps[0].for_each.values",
        says="9,999",
    ),
    _start(
        "a for_each that runs -1 items at once",
        _plan(plan_step("a", "echo", for_each={"value": [1]}, max_parallel=-1)),
        "PLAN_INVALID",
        "plan.steps[0].for_each.max_parallel",
    ),
    _start(
        "a step with the id of another one's item",
        _plan(plan_step("a", "echo", for_each={"value": [1]}), plan_step("a-7", "echo")),
        "PLAN_INVALID",
        "plan.steps[1].id",
        says="for_each",
    ),
    _start(
        "a for_each whose items would have too long ids",
        _plan(plan_step("a" * 59, "echo", for_each={"value": [1]})),
        "PLAN_INVALID",
        "plan.steps[0].id",
        says="58",
    ),
    *(
        _start(
            f"a step id with {what}",
            _plan(Step(id=bad, operation="echo")),
            "PLAN_INVALID",
            "plan.steps[0].id",
        )
        for what, bad in BAD_IDS.items()
    ),
    _start(
        "a plan by a name that is not there",
        StartExecutionRequest(call=PlanCall(plan="missing")),
        "PLAN_NOT_FOUND",
        says="greet",
        code=NOT_FOUND,
    ),
    _start(
        "a plan by name with a wrong input",
        StartExecutionRequest(call=PlanCall(plan="greet", input=_struct("x"))),
        "INPUT_INVALID",
        "call.input.name",
        "call.input.value",
    ),
]

VALUES = [
    _start("a Struct nested 17 deep", nested(17), "PLAN_INVALID", says="nested more than 16 deep"),
    _start("a Struct nested 50 deep", nested(50), "REQUEST_MALFORMED", says="nested too deep"),
    _start("a Struct nested 5,000 deep", nested(5_000), "REQUEST_MALFORMED", says="nested too deep"),
    *(
        _start(name, _numbered(number), "PLAN_INVALID", "plan.steps[0].input.value", says=says)
        for name, number, says in (
            ("NaN", math.nan, "nan"),
            ("infinity", math.inf, "inf"),
            ("minus infinity", -math.inf, "inf"),
            ("2^60", float(2**60), "2^53"),
        )
    ),
    _start(
        "a Value without a kind",
        _plan(Step(id="a", operation="echo", input=struct_pb2.Struct(fields={"value": struct_pb2.Value()}))),
        "PLAN_INVALID",
        "plan.steps[0].input.value",
        says="null_value",
    ),
    _start("bad UTF-8", b"\x0a\x02\xff\xfe", "REQUEST_MALFORMED", says="StartExecutionRequest"),
    _start("a truncated message", b"\x0a\x10abc", "REQUEST_MALFORMED", says="StartExecutionRequest"),
    _start("bytes that are no message", b"\xff" * 100, "REQUEST_MALFORMED", says="StartExecutionRequest"),
]

REQUESTS = [
    _start("no work at all", StartExecutionRequest(), "REQUEST_MALFORMED", "work", says="nothing to run"),
    _start("an empty query", StartExecutionRequest(query=""), "REQUEST_MALFORMED", "query", says="empty"),
    _start("a blank query", StartExecutionRequest(query=" \t\n"), "REQUEST_MALFORMED", "query", says="empty"),
    _start("a query with NUL", StartExecutionRequest(query="a\0b"), "REQUEST_MALFORMED", "query", says="NUL"),
    _start(
        "a query of 10,001 characters",
        StartExecutionRequest(query="ä" * 10_001),
        "REQUEST_MALFORMED",
        "query",
        says="10,000",
    ),
    _of("BuildPlan", "BuildPlan, a blank query", lambda _: BuildPlanRequest(query=" "), "REQUEST_MALFORMED", "query"),
    _of(
        "BuildPlan",
        "BuildPlan, a query that is not understood",
        lambda _: BuildPlanRequest(query="nonsense"),
        "QUERY_NOT_UNDERSTOOD",
        says="say hello",
    ),
    *(
        _start(
            f"a request id with {what}",
            StartExecutionRequest(query="hello", request_id=bad),
            "REQUEST_MALFORMED",
            "request_id",
        )
        for what, bad in BAD_IDS.items()
    ),
    *(
        _start(
            f"a session id with {what}",
            StartExecutionRequest(query="hello", session_id=bad),
            "REQUEST_MALFORMED",
            "session_id",
        )
        for what, bad in BAD_IDS.items()
    ),
    _start(
        "33 labels",
        StartExecutionRequest(query="hello", labels={f"l{i}": "" for i in range(33)}),
        "REQUEST_MALFORMED",
        "labels",
        says="33",
    ),
    _start(
        "a label with a bad key",
        StartExecutionRequest(query="hello", labels={"a.b": ""}),
        "REQUEST_MALFORMED",
        "labels",
    ),
    _start(
        "a label of 257 characters",
        StartExecutionRequest(query="hello", labels={"a": "x" * 257}),
        "REQUEST_MALFORMED",
        "labels['a']",
    ),
    _start(
        "negative parallel steps",
        StartExecutionRequest(query="hello", options=ExecutionOptions(max_parallel_steps=-1)),
        "REQUEST_MALFORMED",
        "options.max_parallel_steps",
    ),
    _start(
        "a time limit of 0",
        StartExecutionRequest(query="hello", options=ExecutionOptions(time_limit=Duration())),
        "REQUEST_MALFORMED",
        "options.time_limit",
    ),
    _start(
        "an unknown failure policy",
        StartExecutionRequest(query="hello", options=ExecutionOptions(failure_policy=9)),  # type: ignore[arg-type]
        "REQUEST_MALFORMED",
        "options.failure_policy",
    ),
    BadInput(
        name="a request id of another request",
        method="StartExecution",
        request=lambda known: StartExecutionRequest(query="another", request_id=known.request_id),
        code=grpc.StatusCode.ALREADY_EXISTS,
        reason="REQUEST_ID_REUSED",
        says="another request",
    ),
    *(
        _of(
            "Execute",
            f"a heartbeat of {span.ToMilliseconds():,} ms",
            lambda _, span=span: ExecuteRequest(query="hello", heartbeat_interval=span),  # type: ignore[misc]
            "REQUEST_MALFORMED",
            "heartbeat_interval",
            says="0.1 s to 3600 s",
        )
        for span in (Duration(), Duration(nanos=99_000_000), Duration(seconds=3601), Duration(seconds=-1))
    ),
    _of(
        "Execute",
        "Execute, an unknown kind of event",
        lambda _: ExecuteRequest(query="hello", filter=EventFilter(kinds=["step_started", "stepped"])),
        "FILTER_INVALID",
        "filter.kinds[1]",
        says="step_completed",
    ),
]

READING = [
    _of("WatchExecution", "a negative cursor", _watch(-1), "REQUEST_MALFORMED", "after_sequence", says="-1"),
    _of(
        "WatchExecution",
        "a cursor that is ahead",
        lambda known: WatchExecutionRequest(execution_id=known.execution_id, after_sequence=known.last_sequence + 1),
        "CURSOR_AHEAD",
        says="another execution's",
        code=OUT_OF_RANGE,
    ),
    _of("WatchExecution", "a cursor of another execution", _watch(2**62), "CURSOR_AHEAD", code=OUT_OF_RANGE),
    _of(
        "WatchExecution",
        "an unknown execution",
        lambda _: WatchExecutionRequest(execution_id="nobody"),
        "EXECUTION_NOT_FOUND",
        says="'nobody'",
        code=NOT_FOUND,
    ),
    _of(
        "WatchExecution",
        "unknown kinds of events, all named",
        _watch(0, filter=EventFilter(kinds=["", "x"])),
        "FILTER_INVALID",
        "filter.kinds[0]",
        "filter.kinds[1]",
    ),
    _of(
        "WatchExecution",
        "a step id that is none",
        _watch(0, filter=EventFilter(step_ids=["a", "*"])),
        "FILTER_INVALID",
        "filter.step_ids[1]",
    ),
    _of(
        "WatchExecution",
        "a million kinds",
        _watch(0, filter=EventFilter(kinds=["x"] * 1_000_000)),
        "FILTER_INVALID",
        "filter.kinds",
        says="1,000,000",
    ),
    _of(
        "WatchExecution",
        "a heartbeat that is too short",
        _watch(0, heartbeat_interval=Duration(nanos=1)),
        "REQUEST_MALFORMED",
        "heartbeat_interval",
    ),
    *(
        _of(
            method,
            f"{method}, an id with {what}",
            lambda _, kind=kind, bad=bad: kind(execution_id=bad),  # type: ignore[misc]
            "REQUEST_MALFORMED",
            "execution_id",
        )
        for method, kind in (
            ("GetExecution", GetExecutionRequest),
            ("WatchExecution", WatchExecutionRequest),
            ("ListEvents", ListEventsRequest),
            ("WaitExecution", WaitExecutionRequest),
            ("CancelExecution", CancelExecutionRequest),
            ("ProvideInput", ProvideInputRequest),
            ("RetryExecution", RetryExecutionRequest),
        )
        for what, bad in {"nothing": "", **BAD_IDS}.items()
    ),
    *(
        _of(
            method,
            f"{method}, an unknown execution",
            lambda _, kind=kind: kind(execution_id="nobody"),  # type: ignore[misc]
            "EXECUTION_NOT_FOUND",
            code=NOT_FOUND,
        )
        for method, kind in (
            ("GetExecution", GetExecutionRequest),
            ("ListEvents", ListEventsRequest),
            ("WaitExecution", WaitExecutionRequest),
            ("CancelExecution", CancelExecutionRequest),
            ("RetryExecution", RetryExecutionRequest),
        )
    ),
    _of(
        "GetExecution",
        "a view that is none",
        lambda known: GetExecutionRequest(execution_id=known.execution_id, view=7),  # type: ignore[arg-type]
        "REQUEST_MALFORMED",
        "view",
    ),
    _of(
        "WaitExecution",
        "WaitExecution, a view that is none",
        lambda known: WaitExecutionRequest(execution_id=known.execution_id, view=7),  # type: ignore[arg-type]
        "REQUEST_MALFORMED",
        "view",
    ),
    *(
        _of(
            "WaitExecution",
            f"a wait of {span.seconds} s",
            lambda known, span=span: WaitExecutionRequest(execution_id=known.execution_id, timeout=span),  # type: ignore[misc]
            "REQUEST_MALFORMED",
            "timeout",
        )
        for span in (Duration(seconds=-1), Duration(seconds=601), Duration(seconds=2**62))
    ),
    _of(
        "ListEvents",
        "ListEvents, a negative cursor",
        lambda known: ListEventsRequest(execution_id=known.execution_id, after_sequence=-1),
        "REQUEST_MALFORMED",
        "after_sequence",
    ),
    _of(
        "ListEvents",
        "ListEvents, a cursor that is ahead",
        lambda known: ListEventsRequest(execution_id=known.execution_id, after_sequence=1_000),
        "CURSOR_AHEAD",
        code=OUT_OF_RANGE,
    ),
    _of(
        "ListEvents",
        "ListEvents, a negative page size",
        lambda known: ListEventsRequest(execution_id=known.execution_id, page_size=-1),
        "REQUEST_MALFORMED",
        "page_size",
    ),
    _of(
        "ListEvents",
        "ListEvents, an unknown kind of event",
        lambda known: ListEventsRequest(execution_id=known.execution_id, filter=EventFilter(kinds=["x"])),
        "FILTER_INVALID",
        "filter.kinds[0]",
    ),
    _of(
        "ListExecutions",
        "ListExecutions, a negative page size",
        lambda _: ListExecutionsRequest(page_size=-1),
        "REQUEST_MALFORMED",
        "page_size",
    ),
    _of(
        "ListExecutions",
        "ListExecutions, a view that is none",
        lambda _: ListExecutionsRequest(view=-1, filter=ExecutionFilter(session_id="nobody")),  # type: ignore[arg-type]
        "REQUEST_MALFORMED",
        "view",
    ),
    *(
        _of(
            "ListExecutions",
            f"a page token that is {what}",
            lambda _, token=token: ListExecutionsRequest(page_token=token),  # type: ignore[misc]
            "PAGE_TOKEN_INVALID",
            says="begin again",
        )
        for what, token in {
            "no token": "abc",
            "no base64": "!*ä",
            "long": "A" * 100_000,
            "of zeros": "A" * 16,
        }.items()
    ),
    _of("ListExecutions", "a page token beyond all numbers", _unnamed(2**63), "PAGE_TOKEN_INVALID"),
    _of("ListExecutions", "a page token of nothing", _unnamed(0), "PAGE_TOKEN_INVALID"),
    _of(
        "ListExecutions",
        "a page token of another filter",
        lambda known: ListExecutionsRequest(page_token=known.page_token, filter=ExecutionFilter(session_id="other")),
        "PAGE_TOKEN_INVALID",
        says="another filter",
    ),
    _of(
        "ListExecutions",
        "a filter with everything wrong",
        lambda _: ListExecutionsRequest(
            filter=ExecutionFilter(
                execution_ids=["a", "/"],
                session_id="*",
                labels={"a.b": "c"},
                states=[0, 99],  # type: ignore[list-item]
                created_from=Timestamp(seconds=2**62),
                created_before=Timestamp(seconds=-(2**62)),
            )
        ),
        "FILTER_INVALID",
        "filter.execution_ids[1]",
        "filter.session_id",
        "filter.labels",
        "filter.states[0]",
        "filter.states[1]",
        "filter.created_from",
        "filter.created_before",
    ),
    _of(
        "ListExecutions",
        "a filter with 1,001 executions",
        lambda _: ListExecutionsRequest(filter=ExecutionFilter(execution_ids=["a"] * 1_001)),
        "FILTER_INVALID",
        "filter.execution_ids",
        says="1,001",
    ),
    _of(
        "ListExecutions",
        "a filter with 33 labels",
        lambda _: ListExecutionsRequest(filter=ExecutionFilter(labels={f"l{n}": "v" for n in range(33)})),
        "FILTER_INVALID",
        "filter.labels",
        says="at most 32",
    ),
    _of(
        "ListExecutions",
        "a filter with a million states",
        lambda _: ListExecutionsRequest(filter=ExecutionFilter(states=[77] * 1_000_000)),  # type: ignore[list-item]
        "FILTER_INVALID",
        "filter.states",
    ),
    _of(
        "GetStatistics",
        "a span that ends before it begins",
        lambda _: GetStatisticsRequest(from_time=Timestamp(seconds=2), before_time=Timestamp(seconds=1)),
        "REQUEST_MALFORMED",
        "before_time",
    ),
    _of(
        "GetStatistics",
        "a span of nothing",
        lambda _: GetStatisticsRequest(from_time=Timestamp(seconds=2), before_time=Timestamp(seconds=2)),
        "REQUEST_MALFORMED",
        "before_time",
    ),
    _of(
        "GetStatistics",
        "a span between times that are none",
        lambda _: GetStatisticsRequest(from_time=Timestamp(seconds=-(2**62)), before_time=Timestamp(nanos=-1)),
        "REQUEST_MALFORMED",
        "from_time",
        "before_time",
    ),
    _of(
        "GetStatistics",
        "statistics of too many names",
        lambda _: GetStatisticsRequest(operations=["a"] * 1_001, plans=["b"] * 1_000_000),
        "REQUEST_MALFORMED",
        "operations",
        "plans",
        says="1,001",
    ),
    _of(
        "CancelExecution",
        "a cancel of an ended execution",
        lambda known: CancelExecutionRequest(execution_id=known.execution_id),
        "EXECUTION_ENDED",
        says="COMPLETED",
        code=grpc.StatusCode.FAILED_PRECONDITION,
    ),
    _of(
        "CancelExecution",
        "a cancel with a reason of 1,001 characters",
        lambda known: CancelExecutionRequest(execution_id=known.execution_id, reason="x" * 1_001),
        "REQUEST_MALFORMED",
        "reason",
    ),
    _of(
        "CancelExecution",
        "a cancel by an actor with NUL",
        lambda known: CancelExecutionRequest(execution_id=known.execution_id, actor="\0"),
        "REQUEST_MALFORMED",
        "actor",
    ),
    *(
        _of(
            "ProvideInput",
            f"an answer to a question whose id has {what}",
            lambda known, bad=bad: ProvideInputRequest(execution_id=known.execution_id, input_id=bad),  # type: ignore[misc]
            "REQUEST_MALFORMED",
            "input_id",
        )
        for what, bad in {"nothing": "", **BAD_IDS}.items()
    ),
    _of(
        "ProvideInput",
        "an answer by an actor of 201 characters",
        lambda known: ProvideInputRequest(execution_id=known.execution_id, input_id="a", actor="x" * 201),
        "REQUEST_MALFORMED",
        "actor",
    ),
    _of(
        "ProvideInput",
        "an answer to an unknown execution",
        lambda known: ProvideInputRequest(execution_id="nobody", input_id="a"),
        "EXECUTION_NOT_FOUND",
        code=NOT_FOUND,
    ),
    _of(
        "ProvideInput",
        "an answer to an ended execution",
        lambda known: ProvideInputRequest(execution_id=known.execution_id, input_id="a"),
        "EXECUTION_ENDED",
        says="COMPLETED",
        code=grpc.StatusCode.FAILED_PRECONDITION,
    ),
    _of(
        "RetryExecution",
        "a retry of a completed execution",
        lambda known: RetryExecutionRequest(execution_id=known.execution_id),
        "EXECUTION_ENDED",
        says="name those that are to run again",
        code=grpc.StatusCode.FAILED_PRECONDITION,
    ),
    _of(
        "RetryExecution",
        "a retry of a step that is not there",
        lambda known: RetryExecutionRequest(execution_id=known.execution_id, step_ids=["a", "nobody"]),
        "REQUEST_MALFORMED",
        "step_ids[1]",
        says="'nobody'",
    ),
    _of(
        "RetryExecution",
        "a retry of a step id that is none",
        lambda known: RetryExecutionRequest(execution_id=known.execution_id, step_ids=["*"]),
        "REQUEST_MALFORMED",
        "step_ids[0]",
    ),
    _of(
        "RetryExecution",
        "a retry of a hundred thousand steps",
        lambda known: RetryExecutionRequest(execution_id=known.execution_id, step_ids=["a"] * 100_000),
        "REQUEST_MALFORMED",
        "step_ids",
        says="100,000",
    ),
    _of(
        "RetryExecution",
        "a retry with a request id that is none",
        lambda known: RetryExecutionRequest(execution_id=known.execution_id, request_id="a b"),
        "REQUEST_MALFORMED",
        "request_id",
    ),
    _of(
        "RetryExecution",
        "a retry with a reason of 1,001 characters",
        lambda known: RetryExecutionRequest(execution_id=known.execution_id, reason="x" * 1_001),
        "REQUEST_MALFORMED",
        "reason",
    ),
    _of(
        "RetryExecution",
        "a retry by an actor with NUL",
        lambda known: RetryExecutionRequest(execution_id=known.execution_id, actor="\0"),
        "REQUEST_MALFORMED",
        "actor",
    ),
]

TRANSPORT = [
    _start("4 MiB less one byte", _sized(4 * MIB - 1), "REQUEST_MALFORMED", "query", says="10,000"),
    _start("4 MiB", _sized(4 * MIB), "REQUEST_MALFORMED", "query"),
    _start("4 MiB and one byte", _sized(4 * MIB + 1), "LIMIT_SIZE", says="4,194,304", code=EXHAUSTED),
    _start("6 MiB", _sized(6 * MIB), "", code=EXHAUSTED),
    BadInput(
        name="metadata of 9 KiB",
        method="StartExecution",
        request=lambda _: StartExecutionRequest(),
        metadata=(("x-large", "x" * 9 * 1024),),
        code=INVALID,
        sometimes=EXHAUSTED,
        reason="REQUEST_MALFORMED",
    ),
    BadInput(
        name="metadata of 17 KiB",
        method="StartExecution",
        request=lambda _: StartExecutionRequest(query="hello"),
        metadata=(("x-large", "x" * 17 * 1024),),
        code=EXHAUSTED,
    ),
    BadInput(
        name="compressed, and blank within",
        method="StartExecution",
        request=lambda _: StartExecutionRequest(query=" " * 1_000),
        compression=grpc.Compression.Gzip,
        code=INVALID,
        reason="REQUEST_MALFORMED",
        fields=["query"],
    ),
    BadInput(
        name="compressed, and 4 MiB and one byte within",
        method="StartExecution",
        request=lambda _: _sized(4 * MIB + 1),
        compression=grpc.Compression.Gzip,
        code=EXHAUSTED,
        reason="LIMIT_SIZE",
    ),
    BadInput(
        name="compressed, and 64 MiB within",
        method="StartExecution",
        request=lambda _: _sized(64 * MIB),
        compression=grpc.Compression.Gzip,
        code=EXHAUSTED,
    ),
    BadInput(
        name="a method that does not exist",
        method="StartEverything",
        request=lambda _: GetServerInfoRequest(),
        code=grpc.StatusCode.UNIMPLEMENTED,
    ),
]

BAD_INPUTS = [*PLANS, *VALUES, *REQUESTS, *READING, *TRANSPORT]
