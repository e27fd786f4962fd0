"""What can go wrong, for the client and the server alike: one class a reason, one table of all.

A call that could not be done raises one of these; each carries the `reason` that travels in google.rpc.ErrorInfo
(domain "stepwire") and the canonical status `code` that it travels with.

    StepwireError
    |-- InvalidRequest                 INVALID_ARGUMENT      mend the call
    |   |-- RequestMalformed           REQUEST_MALFORMED
    |   |-- PlanInvalid                PLAN_INVALID
    |   |-- InputInvalid               INPUT_INVALID
    |   |-- FilterInvalid              FILTER_INVALID
    |   |-- PageTokenInvalid           PAGE_TOKEN_INVALID
    |   `-- QueryNotUnderstood         QUERY_NOT_UNDERSTOOD
    |-- NotFound                       NOT_FOUND
    |   |-- ExecutionNotFound          EXECUTION_NOT_FOUND
    |   |-- OperationNotFound          OPERATION_NOT_FOUND
    |   `-- PlanNotFound               PLAN_NOT_FOUND
    |-- RequestIdReused                ALREADY_EXISTS        REQUEST_ID_REUSED
    |-- WrongState                     FAILED_PRECONDITION
    |   |-- ExecutionEnded             EXECUTION_ENDED
    |   |-- ExecutionRunning           EXECUTION_RUNNING
    |   |-- AtMostOnce                 AT_MOST_ONCE
    |   |-- InputNotRequested          INPUT_NOT_REQUESTED
    |   `-- NoPlanner                  NO_PLANNER
    |-- CursorError                    OUT_OF_RANGE
    |   |-- CursorExpired              CURSOR_EXPIRED
    |   `-- CursorAhead                CURSOR_AHEAD
    |-- LimitReached                   RESOURCE_EXHAUSTED    try again after `retry_after`
    |   |-- LimitExecutions            LIMIT_EXECUTIONS
    |   |-- LimitWatchers              LIMIT_WATCHERS
    |   |-- LimitCalls                 LIMIT_CALLS
    |   |-- LimitSize                  LIMIT_SIZE
    |   `-- StorageFull                STORAGE_FULL
    |-- RequestIncomplete              DEADLINE_EXCEEDED     REQUEST_INCOMPLETE
    |-- Unavailable                    UNAVAILABLE           try again with back-off
    |   |-- Draining                   DRAINING
    |   `-- JournalUnavailable         JOURNAL_UNAVAILABLE
    |-- NotBuiltYet                    UNIMPLEMENTED         NOT_BUILT_YET
    |-- JournalDamaged                 DATA_LOSS             JOURNAL_DAMAGED
    |-- InternalError                  INTERNAL              INTERNAL_ERROR
    |-- ExecutionFailed                what ran ended in plan_failed
    |-- ExecutionCancelled             what ran ended in plan_cancelled
    |-- CallFailed                     a status that is not Stepwire's: the transport's, a proxy's
    `-- StreamBroken                   the stream broke the contract, or the budget to resume it is spent
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import ClassVar, NamedTuple

from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2

__all__ = [
    "DOMAIN",
    "FAILURES",
    "REASONS",
    "AtMostOnce",
    "CallFailed",
    "CursorAhead",
    "CursorError",
    "CursorExpired",
    "Draining",
    "ExecutionCancelled",
    "ExecutionEnded",
    "ExecutionFailed",
    "ExecutionNotFound",
    "ExecutionRunning",
    "FilterInvalid",
    "InputInvalid",
    "InputNotRequested",
    "InternalError",
    "InvalidRequest",
    "JournalDamaged",
    "JournalUnavailable",
    "LimitCalls",
    "LimitExecutions",
    "LimitReached",
    "LimitSize",
    "LimitWatchers",
    "NoPlanner",
    "NotBuiltYet",
    "NotFound",
    "OperationNotFound",
    "PageTokenInvalid",
    "PlanInvalid",
    "PlanNotFound",
    "QueryNotUnderstood",
    "RequestIdReused",
    "RequestIncomplete",
    "RequestMalformed",
    "StepwireError",
    "StorageFull",
    "StreamBroken",
    "Unavailable",
    "Violation",
    "WrongState",
    "error_from_status",
    "failure",
    "reason_of",
    "status_from_error",
]

DOMAIN = "stepwire"
"""The domain of every google.rpc.ErrorInfo that Stepwire sends."""

_DETAIL_BYTES = 3000
"""Details stay below 4 KiB on the wire: trailers above 8 KiB are refused at random by some peers."""


class Violation(NamedTuple):
    """One thing that is wrong with a request."""

    field: str
    """Where, as a path: `plan.steps[3].depends_on[0]`."""
    description: str
    """What is wrong, and what would be right."""


class StepwireError(Exception):
    """The root of all errors that Stepwire raises."""

    reason: ClassVar[str] = ""
    code: ClassVar[int] = code_pb2.UNKNOWN

    def __init__(
        self,
        message: str,
        *,
        violations: Iterable[Violation] = (),
        retry_after: timedelta | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.violations = tuple(violations)
        self.retry_after = retry_after
        self.metadata = dict(metadata or {})

    def __str__(self) -> str:
        if len(self.violations) == 1 and self.violations[0].description in self.message:
            # The server's messages say the first violation.
            return self.message
        return self.message + "".join(f"\n  {field}: {text}" for field, text in self.violations)


class InvalidRequest(StepwireError):
    """The call itself is wrong. The same call will fail again."""

    code = code_pb2.INVALID_ARGUMENT


class RequestMalformed(InvalidRequest):
    """The bytes are not the request, or a field is out of its bounds."""

    reason = "REQUEST_MALFORMED"


class PlanInvalid(InvalidRequest):
    """The plan's form is wrong."""

    reason = "PLAN_INVALID"


class InputInvalid(InvalidRequest):
    """An input does not fit its operation's signature."""

    reason = "INPUT_INVALID"


class FilterInvalid(InvalidRequest):
    """A filter names something that does not exist."""

    reason = "FILTER_INVALID"


class PageTokenInvalid(InvalidRequest):
    """The page token is not the server's, or belongs to another filter."""

    reason = "PAGE_TOKEN_INVALID"


class QueryNotUnderstood(InvalidRequest):
    """The planner can't serve the query. The message says what it can serve."""

    reason = "QUERY_NOT_UNDERSTOOD"


class NotFound(StepwireError):
    """What the call names does not exist."""

    code = code_pb2.NOT_FOUND


class ExecutionNotFound(NotFound):
    """There is no such execution."""

    reason = "EXECUTION_NOT_FOUND"


class OperationNotFound(NotFound):
    """The server does not have this operation."""

    reason = "OPERATION_NOT_FOUND"


class PlanNotFound(NotFound):
    """The server does not have a plan of this name."""

    reason = "PLAN_NOT_FOUND"


class RequestIdReused(StepwireError):
    """The request id was used with another request."""

    reason = "REQUEST_ID_REUSED"
    code = code_pb2.ALREADY_EXISTS


class WrongState(StepwireError):
    """The call does not fit the state that things are in."""

    code = code_pb2.FAILED_PRECONDITION


class ExecutionEnded(WrongState):
    """The execution has ended, or is being cancelled."""

    reason = "EXECUTION_ENDED"


class ExecutionRunning(WrongState):
    """The execution has not ended."""

    reason = "EXECUTION_RUNNING"


class AtMostOnce(WrongState):
    """A step that runs at most once, and that ran or may have, would run again without having been named."""

    reason = "AT_MOST_ONCE"


class InputNotRequested(WrongState):
    """No step waits for this input."""

    reason = "INPUT_NOT_REQUESTED"


class NoPlanner(WrongState):
    """A query was sent, and the server's app has no planner."""

    reason = "NO_PLANNER"


class CursorError(StepwireError):
    """The cursor does not stand in what the journal holds."""

    code = code_pb2.OUT_OF_RANGE


class CursorExpired(CursorError):
    """The events after the cursor are gone. `metadata` has first_sequence and last_sequence."""

    reason = "CURSOR_EXPIRED"


class CursorAhead(CursorError):
    """The cursor is beyond the last event."""

    reason = "CURSOR_AHEAD"


class LimitReached(StepwireError):
    """A limit of the server is reached."""

    code = code_pb2.RESOURCE_EXHAUSTED


class LimitExecutions(LimitReached):
    """Too many executions run."""

    reason = "LIMIT_EXECUTIONS"


class LimitWatchers(LimitReached):
    """Too many streams are open."""

    reason = "LIMIT_WATCHERS"


class LimitCalls(LimitReached):
    """Too many calls run, or wait for their requests."""

    reason = "LIMIT_CALLS"


class LimitSize(LimitReached):
    """A request or an event is too large."""

    reason = "LIMIT_SIZE"


class StorageFull(LimitReached):
    """The journal's disk is full."""

    reason = "STORAGE_FULL"


class RequestIncomplete(StepwireError):
    """The request's body did not come in time."""

    reason = "REQUEST_INCOMPLETE"
    code = code_pb2.DEADLINE_EXCEEDED


class Unavailable(StepwireError):
    """The server can't answer now."""

    code = code_pb2.UNAVAILABLE


class Draining(Unavailable):
    """The server is going."""

    reason = "DRAINING"


class JournalUnavailable(Unavailable):
    """The journal can't be reached."""

    reason = "JOURNAL_UNAVAILABLE"


class NotBuiltYet(StepwireError):
    """This release does not have what was asked for."""

    reason = "NOT_BUILT_YET"
    code = code_pb2.UNIMPLEMENTED


class JournalDamaged(StepwireError):
    """What the journal holds does not match its checksum."""

    reason = "JOURNAL_DAMAGED"
    code = code_pb2.DATA_LOSS


class InternalError(StepwireError):
    """A bug of the server. The message has an id that the server's log has too."""

    reason = "INTERNAL_ERROR"
    code = code_pb2.INTERNAL


class ExecutionFailed(StepwireError):
    """The execution ended in plan_failed. `cause` is the reason that the event carries."""

    def __init__(self, message: str, *, cause: str = "", execution_id: str = "") -> None:
        super().__init__(message)
        self.cause = cause
        self.execution_id = execution_id


class ExecutionCancelled(StepwireError):
    """The execution ended in plan_cancelled."""

    def __init__(self, message: str, *, execution_id: str = "") -> None:
        super().__init__(message)
        self.execution_id = execution_id


class CallFailed(StepwireError):
    """A status without Stepwire's ErrorInfo: the transport's or a proxy's. `status_code` is its canonical code."""

    def __init__(self, message: str, *, status_code: int, retry_after: timedelta | None = None) -> None:
        super().__init__(message, retry_after=retry_after)
        self.status_code = status_code


class StreamBroken(StepwireError):
    """The stream broke the contract, or the budget to resume it is spent. Go on after `sequence`."""

    def __init__(self, message: str, *, execution_id: str = "", sequence: int = 0) -> None:
        super().__init__(message)
        self.execution_id = execution_id
        self.sequence = sequence


def _leaves(root: type[StepwireError]) -> Iterable[type[StepwireError]]:
    for child in root.__subclasses__():
        if child.reason:
            yield child
        yield from _leaves(child)


REASONS: Mapping[str, type[StepwireError]] = {leaf.reason: leaf for leaf in _leaves(StepwireError)}
"""Every reason that a status can carry, with its class; the class knows the status code."""


FAILURES: Mapping[str, int] = {
    "OPERATION_FAILED": code_pb2.UNKNOWN,
    "OUTPUT_INVALID": code_pb2.INTERNAL,
    "INPUT_INVALID": code_pb2.INVALID_ARGUMENT,
    "LIMIT_SIZE": code_pb2.RESOURCE_EXHAUSTED,
    "TIMEOUT": code_pb2.DEADLINE_EXCEEDED,
    "INPUT_EXPIRED": code_pb2.DEADLINE_EXCEEDED,
    "RECOVERED": code_pb2.ABORTED,
    "RECOVERY_LIMIT": code_pb2.ABORTED,
    "OUTCOME_UNKNOWN": code_pb2.ABORTED,
    "STEP_FAILED": code_pb2.ABORTED,
    "TIME_LIMIT": code_pb2.DEADLINE_EXCEEDED,
    "QUERY_NOT_UNDERSTOOD": code_pb2.INVALID_ARGUMENT,
    "PLANNER_FAILED": code_pb2.UNKNOWN,
    "PLAN_INVALID": code_pb2.INTERNAL,
    "OPERATION_NOT_FOUND": code_pb2.NOT_FOUND,
    "PLAN_NOT_FOUND": code_pb2.NOT_FOUND,
    "NO_PLANNER": code_pb2.FAILED_PRECONDITION,
    "INTERNAL_ERROR": code_pb2.INTERNAL,
}
"""The reasons that the statuses inside events carry (step_failed, step_retrying, plan_failed, error), with their codes.
Some are reasons of calls too: the same thing found while the work ran."""


def failure(reason: str, message: str) -> status_pb2.Status:
    """Returns the status that an event carries for a reason of FAILURES. The message may be long: it is an event's."""
    status = status_pb2.Status(code=FAILURES[reason], message=message)
    _pack(status, error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN))
    return status


def status_from_error(error: StepwireError) -> status_pb2.Status:
    """Returns the error as a status with ErrorInfo, and BadRequest or RetryInfo where they apply.

    Details stay below 4 KiB: violations beyond that are counted, not listed.
    """
    status = status_pb2.Status(code=error.code, message=error.message[:1000])
    _pack(status, error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=error.metadata))
    if error.violations:
        _pack(status, _bad_request(error.violations))
    if error.retry_after is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromTimedelta(error.retry_after)
        _pack(status, retry)
    return status


def error_from_status(status: status_pb2.Status) -> StepwireError:
    """Returns the error that a status stands for: the class of its reason, or CallFailed where it has none of ours."""
    info = error_details_pb2.ErrorInfo()
    bad = error_details_pb2.BadRequest()
    retry = error_details_pb2.RetryInfo()
    for detail in status.details:
        for message in (info, bad, retry):
            if detail.Is(message.DESCRIPTOR):
                detail.Unpack(message)
    kind = REASONS.get(info.reason) if info.domain == DOMAIN else None
    retry_after = retry.retry_delay.ToTimedelta() if retry.HasField("retry_delay") else None
    if kind is None:
        message_or_name = status.message or code_pb2.Code.Name(status.code)
        return CallFailed(message_or_name, status_code=status.code, retry_after=retry_after)
    return kind(
        status.message,
        violations=[Violation(v.field, v.description) for v in bad.field_violations],
        retry_after=retry_after,
        metadata=info.metadata,
    )


def reason_of(status: status_pb2.Status) -> str:
    """Returns the reason in a status' ErrorInfo, or an empty string. Serves the statuses inside events."""
    info = error_details_pb2.ErrorInfo()
    for detail in status.details:
        if detail.Is(info.DESCRIPTOR):
            detail.Unpack(info)
    return info.reason if info.domain == DOMAIN else ""


def _pack(
    status: status_pb2.Status,
    message: error_details_pb2.ErrorInfo | error_details_pb2.BadRequest | error_details_pb2.RetryInfo,
) -> None:
    detail = any_pb2.Any()
    detail.Pack(message)
    status.details.append(detail)


def _bad_request(violations: tuple[Violation, ...]) -> error_details_pb2.BadRequest:
    bad = error_details_pb2.BadRequest()
    size = 0
    for index, (field, description) in enumerate(violations):
        size += len(field.encode()) + len(description.encode()) + 8
        if size > _DETAIL_BYTES:
            left = len(violations) - index
            bad.field_violations.add(field="", description=f"and {left} more")
            break
        bad.field_violations.add(field=field, description=description)
    return bad
