"""One envelope around every method: admit, read, parse, run, and always end with a status.

Methods are registered without (de)serialisers and as stream-to-stream, which looks the same on the wire as any other
cardinality. So one coroutine sees everything that a caller can do, also a call without a message, which grpc itself
would never answer.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, Generic, TypeVar
from urllib.parse import quote

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc import status_pb2
from grpc import aio
from grpc_status import rpc_status

from stepwire.errors import (
    InternalError,
    LimitSize,
    RequestIncomplete,
    RequestMalformed,
    StepwireError,
    StorageFull,
    status_from_error,
)
from stepwire_server.api.admission import Admission, Place, caller_of

__all__ = ["MAX_REQUEST_BYTES", "Call", "Envelope", "PeerGone", "is_news"]

_log = logging.getLogger(__name__)

MAX_REQUEST_BYTES = 4 << 20
"""Bytes of one request."""

_FAREWELL = 5.0
"""How long a cancellation may take that is on its way."""

_STORAGE_RETRY = timedelta(seconds=10)
"""What RetryInfo says while the disk is full."""

_MESSAGE_BYTES = 1_800
"""Bytes of a status' message on the wire. Peers refuse trailers above 8 KiB, some of them at random."""

_SAFE = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")
"""What gRPC does not percent-encode."""

Request = TypeVar("Request", bound=Message)


class PeerGone(Exception):
    """The caller has left: there is nobody to answer."""


class Call:
    """One call, as far as a method needs it: somewhere to write, and where more may come from."""

    __slots__ = ("_context", "_seconds", "caller")

    def __init__(self, context: aio.ServicerContext[Any, Any], caller: str, *, seconds: float) -> None:
        """`seconds`: how long a message may take to come."""
        self._context = context
        self._seconds = seconds
        self.caller = caller
        """Who calls, as Admission counts them."""

    async def write(self, encoded: bytes) -> None:
        """Sends one encoded message; waits while the caller reads slowly. Raises PeerGone."""
        try:
            await self._context.write(encoded)
        except (aio.InternalError, aio.UsageError) as error:
            # What a write that was blocked raises when the caller leaves, and every write after that.
            raise PeerGone from error

    async def read(self, kind: type[Request]) -> Request | None:
        """Returns the next message, None where no more will come. Raises PeerGone, RequestIncomplete where none came in
        time, LimitSize, and RequestMalformed.
        """
        try:
            async with asyncio.timeout(self._seconds):
                raw = await self._context.read()
        except TimeoutError:
            raise RequestIncomplete(
                f"no request came within {self._seconds:g} s", retry_after=timedelta(seconds=1)
            ) from None
        except (aio.InternalError, aio.UsageError) as error:
            raise PeerGone from error
        if raw is aio.EOF:
            return None
        assert isinstance(raw, bytes)
        if len(raw) > MAX_REQUEST_BYTES:
            raise LimitSize(f"the request has {len(raw):,} bytes; at most {MAX_REQUEST_BYTES:,} are allowed")
        try:
            return kind.FromString(raw)
        except DecodeError:
            name = kind.DESCRIPTOR.full_name
            raise RequestMalformed(f"the bytes are not a {name}, or it is nested too deep") from None


class Envelope(Generic[Request]):
    """A method of the service. `run(request, call)` writes messages and returns, or raises a StepwireError.

    What a stream does for as long as it lasts, it returns: what it took to begin is then let go of.
    """

    def __init__(
        self,
        name: str,
        request_type: type[Request],
        run: Callable[[Request, Call], Awaitable[Awaitable[None] | None]],
        *,
        admission: Admission,
        place: Place,
        check_open: Callable[[], None] = lambda: None,
    ) -> None:
        """`place`: what a call takes up while it runs. `check_open` is called for each request that came, and raises
        where the server takes none now.
        """
        self.name = name
        self._request_type = request_type
        self._run = run
        self._admission = admission
        self._place = place
        self._check_open = check_open
        self.tasks: set[asyncio.Task[Any]] = set()
        """The calls that run now."""

    def handler(self) -> grpc.RpcMethodHandler[Any, Any]:
        """Returns what is registered with the server."""

        # The server looks whether this is a coroutine function, so it must be one itself.
        async def handle(_: object, context: aio.ServicerContext[Any, Any]) -> None:
            await self._handle(context)

        return grpc.stream_stream_rpc_method_handler(handle)

    async def _handle(self, context: aio.ServicerContext[Any, Any]) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        try:
            status = await self._answer(context, task)
            if status is not None:
                # The one place that aborts. `abort` raises, so nothing may catch what comes from here.
                await context.abort_with_status(rpc_status.to_status(status))
        finally:
            self.tasks.discard(task)

    async def _answer(
        self, context: aio.ServicerContext[Any, Any], task: asyncio.Task[Any]
    ) -> status_pb2.Status | None:
        """Runs the method; returns the status to end with, None for OK."""
        try:
            call = Call(context, caller_of(context.peer()), seconds=self._admission.limits.body_timeout)
            with self._admission.admit(Place.HALF_OPEN, call.caller):
                request = await self._read(call)
            self._check_open()
            with self._admission.admit(self._place, call.caller):
                lasting = await self._run(request, call)
                if lasting is not None:
                    del request  # It may have megabytes.
                    await lasting
        except StepwireError as error:
            return self._refuse(error)
        except PeerGone:
            await _cancellation()
            return None
        except asyncio.CancelledError:
            if task.cancelling():
                # The caller left, or the server stops. Swallowing this would leak.
                raise
            # Something within was cancelled that is not this call: without a status the caller would hang for ever.
            return self._refuse(_bug(f"{self.name}: a CancelledError escaped"))
        except Exception:
            return self._refuse(_bug(f"{self.name} failed", exception=True))
        return None

    def _refuse(self, error: StepwireError) -> status_pb2.Status:
        if error.reason:
            self._admission.refused[error.reason] += 1
        return _status(error)

    async def _read(self, call: Call) -> Request:
        request = await call.read(self._request_type)
        if request is None:
            # A caller who has left looks the same, and then this call's cancellation is on its way: a status, which
            # costs more than all before it, would be for nobody.
            await asyncio.sleep(0)
            raise RequestMalformed(f"the call ended without a request; send one {self._request_type.DESCRIPTOR.name}")
        return request


def is_news(record: logging.LogRecord) -> bool:
    """A filter for gRPC's log: False for an operation of a call that failed, as it does when the caller has left. gRPC
    itself ignores that, unless it sees it first; then it logs a traceback that tells nobody anything.
    """
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, aio.InternalError)


async def _cancellation() -> None:
    """Waits for the cancellation of a call whose caller has left: a write may fail before it comes, and a handler that
    ends between the two makes grpc write a traceback into the log.
    """
    try:
        async with asyncio.timeout(_FAREWELL):
            await asyncio.Event().wait()
    except TimeoutError:
        return


def _status(error: StepwireError) -> status_pb2.Status:
    if isinstance(error, StorageFull) and error.retry_after is None:
        error.retry_after = _STORAGE_RETRY
    status = status_from_error(error)
    # The message travels twice: in the details, and percent-encoded, where a byte that is not ASCII takes three.
    text = status.message
    while len(quote(text, safe=_SAFE)) > _MESSAGE_BYTES:
        text = text[: len(text) * 7 // 8]
    if text != status.message:
        status.message = text + "..."
    return status


def _bug(text: str, *, exception: bool = False) -> InternalError:
    """Logs a bug with an id, and returns the error that names the id and nothing else."""
    error_id = secrets.token_hex(6)
    _log.error("error %s: %s", error_id, text, exc_info=exception)
    return InternalError(
        f"internal error {error_id}; the server's log has it under this id", metadata={"error_id": error_id}
    )
