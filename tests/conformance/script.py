"""What a scripted server does in each call, and what each call must be: the words that cases are written in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from tests.client.scripted import EXECUTION, batch, completed, draining, event, heartbeat, welcome

from stepwire.errors import REASONS, Violation, status_from_error
from stepwire.v1 import Event, EventBatch

__all__ = [
    "CUT",
    "EXECUTION",
    "HOLD",
    "OK",
    "Act",
    "Answer",
    "Beat",
    "Call",
    "CutNow",
    "CutWithin",
    "End",
    "Hold",
    "Pause",
    "Send",
    "UntilShown",
    "answer",
    "batch",
    "beats",
    "called",
    "completed",
    "cut_within",
    "draining",
    "event",
    "executed",
    "heartbeat",
    "info",
    "pause",
    "piece",
    "pieces",
    "refuse",
    "retry_in",
    "status",
    "until_shown",
    "watched",
    "welcome",
    "with_unknown_kind",
]


# -- what the server does in a call


@dataclass(frozen=True)
class Send:
    """Sends a message."""

    message: EventBatch


@dataclass(frozen=True)
class CutWithin:
    """Sends a message, and cuts the line when half of its bytes have passed.

    A client's gRPC may drop what it has received and not yet given, when the line goes. That the user has an event is
    certain only after `until_shown`.
    """

    message: EventBatch


@dataclass(frozen=True)
class CutNow:
    """Cuts the line."""


@dataclass(frozen=True)
class Beat:
    """Says a heartbeat after each pause, so many times."""

    sequence: int
    every: float
    times: int


@dataclass(frozen=True)
class Pause:
    """Says nothing for so many seconds."""

    seconds: float


@dataclass(frozen=True)
class UntilShown:
    """Waits until the adapter has written the event of this sequence, so long as a case may take."""

    sequence: int


@dataclass(frozen=True)
class Hold:
    """Says nothing more, until the caller leaves. It must."""


@dataclass(frozen=True)
class End:
    """Ends the call with a status."""

    status: status_pb2.Status


@dataclass(frozen=True)
class Answer:
    """Answers a unary call."""

    message: Message


Act = Send | CutWithin | CutNow | Beat | Pause | UntilShown | Hold | End | Answer

OK = End(status_pb2.Status())
HOLD = Hold()
CUT = CutNow()


def cut_within(message: EventBatch) -> CutWithin:
    return CutWithin(message)


def beats(sequence: int, *, every: float, times: int) -> Beat:
    return Beat(sequence, every, times)


def pause(seconds: float) -> Pause:
    return Pause(seconds)


def until_shown(sequence: int) -> UntilShown:
    return UntilShown(sequence)


def answer(message: Message) -> Answer:
    return Answer(message)


def refuse(
    reason: str,
    message: str,
    *,
    violations: Sequence[tuple[str, str]] = (),
    retry_after: float | None = None,
    metadata: Mapping[str, str] | None = None,
) -> End:
    """Ends the call as a Stepwire server does: with a reason, and what belongs to it."""
    error = REASONS[reason](
        message,
        violations=[Violation(*violation) for violation in violations],
        retry_after=timedelta(seconds=retry_after) if retry_after is not None else None,
        metadata=metadata,
    )
    return End(status_from_error(error))


def status(code: str, message: str = "from the transport", *details: Message) -> End:
    """Ends the call with any status: without details it is the transport's or a proxy's."""
    made = status_pb2.Status(code=code_pb2.Code.Value(code), message=message)
    for detail in details:
        packed = AnyMessage()
        packed.Pack(detail)
        made.details.append(packed)
    return End(made)


def info(reason: str, *, domain: str = "stepwire") -> error_details_pb2.ErrorInfo:
    return error_details_pb2.ErrorInfo(reason=reason, domain=domain)


def retry_in(seconds: float) -> error_details_pb2.RetryInfo:
    detail = error_details_pb2.RetryInfo()
    detail.retry_delay.FromTimedelta(timedelta(seconds=seconds))
    return detail


def piece(sequence: int, content: str | bytes | None = None) -> Event:
    """An event with a piece of text or of bytes."""
    made = event(sequence, "content")
    if isinstance(content, bytes):
        made.content.data = content
    else:
        made.content.text = f"piece {sequence}" if content is None else content
    return made


def pieces(*sequences: int, to: int | None = None) -> EventBatch:
    """A message with pieces of text of these sequences."""
    return batch(*map(piece, sequences), to=to)


def with_unknown_kind(made: Event, *, arm: int = 99) -> Event:
    """Returns the event with an arm of `kind` that this release does not have, encoded by hand."""
    made.ClearField("kind")  # type: ignore[arg-type]
    body = b"\x0a\x03new"  # Some message: field 1, three bytes.
    tag = arm << 3 | 2
    head = bytes([tag & 0x7F | 0x80, tag >> 7, len(body)])
    return Event.FromString(made.SerializeToString() + head + body)


# -- what a call must be


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call: what the client must ask for, and what the server does then.

    Of every call the kit looks at more, which no case has to say: see `checks.check_calls`.
    """

    method: str
    acts: Sequence[Act]
    after: int | None = None
    """The `after_sequence` that a WatchExecution must have."""
    request: Mapping[str, Any] = field(default_factory=dict)
    """More fields that the request must have, as proto3 JSON with the names of the proto file."""
    fresh: bool = False
    """It must come over another connection than all calls before."""
    goodbye: bool = False
    """The client must say that it ends it: a process that ends takes its connections with it, and proves nothing."""
    least: float = 0.0
    """Seconds that must pass between the last thing that the call before said and this one."""
    most: float | None = None
    """Seconds that may pass."""


_Says = Act | EventBatch


def _acts(says: Sequence[_Says]) -> Sequence[Act]:
    acts = [Send(said) if isinstance(said, EventBatch) else said for said in says]
    assert isinstance(acts[-1], CutWithin | CutNow | Hold | End | Answer), f"a call must come to an end: {acts[-1]}"
    return acts


def executed(*says: _Says, **expected: Any) -> Call:
    """An Execute, and what the server says in it."""
    return Call(method="Execute", acts=_acts(says), **expected)


def watched(after: int, *says: _Says, **expected: Any) -> Call:
    """A WatchExecution after this sequence, and what the server says in it."""
    return Call(method="WatchExecution", after=after, acts=_acts(says), **expected)


def called(method: str, *says: _Says, **expected: Any) -> Call:
    """A unary call, and what the server says in it."""
    return Call(method=method, acts=_acts(says), **expected)
