"""The requests of the service, made from plain Python arguments, and the names and types of its methods."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, NamedTuple, TypedDict

from google.protobuf import duration_pb2, message_factory
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from stepwire.errors import StreamBroken
from stepwire.v1 import execution_service_pb2 as service_pb2
from stepwire.v1.event_pb2 import ExecutionState
from stepwire.v1.execution_pb2 import EventBatch, EventFilter, ExecutionFilter, ExecutionOptions
from stepwire.v1.plan_pb2 import Plan, PlanCall
from stepwire.values import to_plan, to_struct, to_value

__all__ = [
    "BATCH_KEYS",
    "METHODS",
    "BatchWork",
    "FailurePolicy",
    "Method",
    "Span",
    "Work",
    "answer",
    "batch",
    "check_page",
    "chosen",
    "duration",
    "execute",
    "retry",
    "seconds",
    "selection",
    "snapshots",
    "start",
    "statistics",
    "watch_many",
]

Span = float | timedelta
"""A span of time: seconds, or a timedelta."""

FailurePolicy = Literal["continue", "fail_fast"]
"""What happens to the rest when a step fails: steps that do not depend on it finish, or all are cancelled."""


class Method(NamedTuple):
    """One method of the service."""

    path: str
    """As gRPC names it."""
    response: type[Message]
    """The class of its response."""


_SERVICE = service_pb2.DESCRIPTOR.services_by_name["ExecutionService"]

METHODS: Mapping[str, Method] = {
    method.name: Method(f"/{_SERVICE.full_name}/{method.name}", message_factory.GetMessageClass(method.output_type))
    for method in _SERVICE.methods
}
"""All methods of the service, by name."""


def seconds(span: Span) -> float:
    """Returns a span in seconds."""
    return span.total_seconds() if isinstance(span, timedelta) else float(span)


class Work(TypedDict, total=False):
    """What to run and how: the keywords of `execute` and `start`, beside the query."""

    plan: Plan | Mapping[str, Any] | None
    """A plan, as a message or written as JSON. Instead of a query."""
    call: str | None
    """The name of a plan that the app keeps. Instead of a query."""
    input: Mapping[str, Any] | None
    """The input of that plan."""
    request_id: str | None
    """Makes the call idempotent: the same id and the same request are the same execution. Default, also where it is
    empty: a new one."""
    session_id: str
    """Groups executions."""
    labels: Mapping[str, str] | None
    """Free pairs to select by."""
    max_parallel_steps: int
    """The most steps that run at once. 0, the default: the server's limit; 1: one at a time."""
    time_limit: Span | None
    """The longest that the execution may take. Default: no limit."""
    failure_policy: FailurePolicy
    """Default: "continue"."""
    simulate: bool
    """Run the plan without its operations."""
    cancel_if_unwatched_for: Span | None
    """Cancel the execution when nobody has watched it for so long. Default: never."""


def execute(
    query: str | None,
    *,
    plan: Plan | Mapping[str, Any] | None = None,
    call: str | None = None,
    input: Mapping[str, Any] | None = None,  # noqa: A002 - the contract's word
    request_id: str | None = None,
    session_id: str = "",
    labels: Mapping[str, str] | None = None,
    max_parallel_steps: int = 0,
    time_limit: Span | None = None,
    failure_policy: FailurePolicy = "continue",
    simulate: bool = False,
    cancel_if_unwatched_for: Span | None = None,
    kinds: Iterable[str] = (),
    step_ids: Iterable[str] = (),
    heartbeat_interval: Span | None = None,
) -> service_pb2.ExecuteRequest:
    """Returns the request. Where no request id is given it gets one, so that it can be sent again."""
    if sum(work is not None for work in (query, plan, call)) != 1:
        raise TypeError("Give one of these: a query, plan=..., call=...")
    if query is not None and not isinstance(query, str):
        raise TypeError(
            f"A query is a text, not {type(query).__name__}; a plan goes with plan=..., a named one with call=..."
        )
    if input is not None and call is None:
        raise TypeError("input=... is the input of a named plan: it goes with call=...")
    if failure_policy not in _POLICIES:
        raise ValueError(f"failure_policy is {failure_policy!r}; it is one of {', '.join(_POLICIES)}")
    options = ExecutionOptions(
        max_parallel_steps=max_parallel_steps,
        time_limit=duration(time_limit),
        failure_policy=_POLICIES[failure_policy],
        simulate=simulate,
        cancel_if_unwatched_for=duration(cancel_if_unwatched_for),
    )
    request = service_pb2.ExecuteRequest(
        request_id=request_id or secrets.token_urlsafe(16),
        session_id=session_id,
        labels=labels,
        options=options,
        filter=selection(kinds, step_ids),
        heartbeat_interval=duration(heartbeat_interval),
    )
    if query is not None:
        request.query = query
    elif plan is not None:
        request.plan.CopyFrom(plan if isinstance(plan, Plan) else to_plan(plan))
    elif call is not None:
        request.call.CopyFrom(PlanCall(plan=call, input=to_struct(input) if input is not None else None))
    return request


def start(request: service_pb2.ExecuteRequest) -> service_pb2.StartExecutionRequest:
    """Returns the request to start the same work without a stream: the fields of that name."""
    started = service_pb2.StartExecutionRequest(
        request_id=request.request_id,
        session_id=request.session_id,
        labels=request.labels,
        options=request.options,
    )
    match request.WhichOneof("work"):
        case "query":
            started.query = request.query
        case "plan":
            started.plan.CopyFrom(request.plan)
        case _:
            started.call.CopyFrom(request.call)
    return started


class BatchWork(Work, total=False):
    """One piece of work of a batch."""

    query: str
    """What to run, unless it has a plan or a call."""


BATCH_KEYS = BatchWork.__required_keys__ | BatchWork.__optional_keys__
"""The keywords that a piece of work may have."""


def batch(works: Iterable[BatchWork | str]) -> service_pb2.BatchStartExecutionsRequest:
    """Returns the request to start several pieces of work. Each gets a request id where it has none."""
    asked: list[BatchWork] = [{"query": work} if isinstance(work, str) else work.copy() for work in works]
    return service_pb2.BatchStartExecutionsRequest(
        requests=[start(execute(work.pop("query", None), **work)) for work in asked]  # type: ignore[misc]
    )


def answer(execution_id: str, input_id: str, value: object, actor: str) -> service_pb2.ProvideInputRequest:
    """Returns the request to answer a question with anything JSON-like."""
    return service_pb2.ProvideInputRequest(
        execution_id=execution_id, input_id=input_id, value=to_value(value), actor=actor
    )


def retry(
    execution_id: str, step_ids: Iterable[str], *, reason: str, actor: str, request_id: str | None
) -> service_pb2.RetryExecutionRequest:
    """Returns the request to retry an ended execution. Where no request id is given it gets one, as `execute`."""
    return service_pb2.RetryExecutionRequest(
        execution_id=execution_id,
        step_ids=_texts(step_ids),
        request_id=request_id or secrets.token_urlsafe(16),
        reason=reason,
        actor=actor,
    )


def check_page(page: EventBatch, request: service_pb2.ListEventsRequest) -> None:
    """Raises StreamBroken where a page of events does not begin where the one before ended."""
    if page.after_sequence > request.after_sequence:
        raise StreamBroken(
            f"Events {request.after_sequence + 1} to {page.after_sequence} are missing",
            execution_id=request.execution_id,
            sequence=request.after_sequence,
        )


def selection(kinds: Iterable[str], step_ids: Iterable[str]) -> EventFilter | None:
    """Returns the filter of events, or None where all are wanted."""
    message = EventFilter(kinds=_texts(kinds), step_ids=_texts(step_ids))
    return message if message.kinds or message.step_ids else None


def snapshots(
    *,
    states: Iterable[str],
    session_id: str,
    labels: Mapping[str, str] | None,
    execution_ids: Iterable[str],
    created_from: datetime | None,
    created_before: datetime | None,
    page_size: int,
) -> service_pb2.ListExecutionsRequest:
    """Returns the request for the first page. States are short names, such as "RUNNING"."""
    message = chosen(
        execution_ids=execution_ids,
        session_id=session_id,
        labels=labels,
        created_from=created_from,
        created_before=created_before,
        states=states,
    )
    return service_pb2.ListExecutionsRequest(filter=message, page_size=page_size)


def chosen(
    *,
    execution_ids: Iterable[str],
    session_id: str,
    labels: Mapping[str, str] | None,
    created_from: datetime | None,
    created_before: datetime | None,
    states: Iterable[str] = (),
) -> ExecutionFilter:
    """Returns the filter of executions. States are short names."""
    message = ExecutionFilter(
        execution_ids=_texts(execution_ids),
        session_id=session_id,
        labels=labels,
        states=[_state(name) for name in _texts(states)],
    )
    for field, time in ((message.created_from, created_from), (message.created_before, created_before)):
        if time is not None:
            _set_time(field, time)
    return message


def _set_time(field: Timestamp, time: datetime) -> None:
    if not isinstance(time, datetime):
        raise TypeError(f"{time!r} is no datetime")
    # One without a time zone is of this machine's, as everywhere in Python; protobuf would take it for UTC.
    field.FromDatetime(time.astimezone(UTC))


def statistics(
    operations: Iterable[str], plans: Iterable[str], *, from_time: datetime | None, before_time: datetime | None
) -> service_pb2.GetStatisticsRequest:
    """Returns the request for statistics of a span."""
    message = service_pb2.GetStatisticsRequest(operations=_texts(operations), plans=_texts(plans))
    if from_time is not None:
        _set_time(message.from_time, from_time)
    if before_time is not None:
        _set_time(message.before_time, before_time)
    return message


def watch_many(
    executions: ExecutionFilter,
    *,
    after_position: int | None,
    kinds: Iterable[str],
    step_ids: Iterable[str],
    heartbeat_interval: Span | None,
) -> service_pb2.WatchExecutionsRequest:
    """Returns the request to follow many executions."""
    return service_pb2.WatchExecutionsRequest(
        executions=executions,
        after_position=after_position,
        filter=selection(kinds, step_ids),
        heartbeat_interval=duration(heartbeat_interval),
    )


_POLICIES: Mapping[FailurePolicy, ExecutionOptions.FailurePolicy.ValueType] = {
    "continue": ExecutionOptions.FAILURE_POLICY_CONTINUE,
    "fail_fast": ExecutionOptions.FAILURE_POLICY_FAIL_FAST,
}


def _state(name: str) -> ExecutionState.ValueType:
    try:
        return ExecutionState.Value(f"EXECUTION_STATE_{name.upper()}")
    except ValueError:
        names = ", ".join(state.removeprefix("EXECUTION_STATE_") for state in ExecutionState.keys()[1:])
        raise ValueError(f"No such state: {name}. There are: {names}") from None


def _texts(texts: Iterable[str]) -> list[str]:
    """A single text is meant as one, not as its letters."""
    return [texts] if isinstance(texts, str) else list(texts)


def duration(span: Span | None) -> duration_pb2.Duration | None:
    """Returns a span as a Duration, or None for none."""
    if span is None:
        return None
    message = duration_pb2.Duration()
    message.FromTimedelta(span if isinstance(span, timedelta) else timedelta(seconds=span))
    return message
