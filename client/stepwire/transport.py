"""What both clients know of gRPC: the channel's arguments, statuses as errors, what a call ends with."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import grpc
from google.protobuf.message import DecodeError
from google.rpc import code_pb2, status_pb2

from stepwire.errors import CallFailed, StepwireError, error_from_status

__all__ = ["CLOSED", "ROOM", "ChannelOption", "End", "channel_options", "checked_target", "error_from_call"]

CLOSED = "The client is closed."
"""What a RuntimeError says that a call on a closed client raises."""

ROOM = 4
"""Messages that may wait for the caller. Beyond that flow control holds the server back."""

ChannelOption = tuple[str, int | str]
"""A channel argument of gRPC: `("grpc.max_receive_message_length", 8 << 20)`."""

_OPTIONS: Sequence[ChannelOption] = (
    # A dead peer is noticed within 15 s, also while nothing is said. keepalive_timeout_ms has no effect.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
    # gRPC's own reconnecting would slow down to once in two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    # A server that takes a connection and says nothing, because it is frozen, is given up after this, not after 20 s.
    ("grpc.min_reconnect_backoff_ms", 5_000),
    # Streams are resumed by their cursor, unary calls are retried by the client.
    ("grpc.enable_retries", 0),
    # Without this an idle reader takes in some MB for each stream.
    ("grpc.http2.bdp_probe", 0),
    # Room for a message of 512 short events. With gRPC's 64 KiB a server that replays waits in the midst of each.
    ("grpc.http2.lookahead_bytes", 128 << 10),
    # A new channel means a new connection.
    ("grpc.use_local_subchannel_pool", 1),
)

_WEB = ("http://", "https://")

_DETAILS = "grpc-status-details-bin"


class End:
    """The end of a call: None as error for OK."""

    __match_args__ = ("error",)

    def __init__(self, error: StepwireError | None) -> None:
        self.error = error


class _EndedCall(Protocol):
    """What grpc.RpcError is in both worlds, once the call has ended."""

    def code(self) -> Any: ...
    def details(self) -> str | None: ...
    def trailing_metadata(self) -> Any: ...


def checked_target(target: str) -> str:
    """Returns a target of gRPC's. Raises ValueError for a URL of the web, whose scheme gRPC would look up as a host."""
    if target.lower().startswith(_WEB):
        raise ValueError(f"{target!r} is a URL; say HOST:PORT, and give credentials for TLS")
    return target


def channel_options(options: Iterable[ChannelOption]) -> list[ChannelOption]:
    """Returns the channel's arguments; those that are given win."""
    return list(dict([*_OPTIONS, *options]).items())


def error_from_call(call: _EndedCall) -> StepwireError:
    """Returns the error that an ended call stands for: the class of its reason, or CallFailed."""
    code: grpc.StatusCode = call.code()
    number: int = code.value[0]
    for key, value in call.trailing_metadata() or ():
        if key == _DETAILS:
            # What can't be read is not from a Stepwire server.
            with contextlib.suppress(DecodeError, OverflowError, ValueError):
                status = status_pb2.Status.FromString(value)
                if status.code == number:
                    return error_from_status(status)
    return CallFailed(call.details() or code_pb2.Code.Name(number), status_code=number)
