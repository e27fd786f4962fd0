"""The connection under `stepwire.aio.Client`: calls that a task reads, channels that take over from each other."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import Message
from google.rpc import code_pb2

from stepwire.errors import CallFailed, Draining, StepwireError
from stepwire.requests import Method
from stepwire.transport import CLOSED, ROOM, ChannelOption, End, error_from_call

__all__ = ["Call", "Link", "Wire"]


class Call:
    """An open call. A task reads it into a queue: a read under a time limit would cancel the call itself."""

    def __init__(self, rpc: Any, link: Link, *, release: Callable[[], None]) -> None:
        self.link = link
        self._rpc = rpc
        self._release = release
        self._queue: asyncio.Queue[Message | End | None] = asyncio.Queue(ROOM)
        self._closed = False
        self._left = asyncio.Event()
        # The task knows the call's parts, never the run: a run that nobody holds any more can go.
        self.task = asyncio.create_task(_read(rpc, self._queue, self._left), name="stepwire-read")

    async def get(self, seconds: float) -> Message | End | None:
        """Returns what is next, or None after so many seconds, or when closed."""
        if self._closed:
            return None
        with contextlib.suppress(asyncio.QueueEmpty):
            return self._queue.get_nowait()
        try:
            async with asyncio.timeout(seconds):
                return await self._queue.get()
        except TimeoutError:
            return None

    def cut(self) -> None:
        """Ends the call. Its task ends in the next turns of the loop."""
        if self._closed:
            return
        self._closed = True
        # The task ends by itself: one that is cancelled while it reads leaves 100 bytes behind in gRPC.
        self._left.set()
        self._rpc.cancel()
        while not self._queue.empty():
            self._queue.get_nowait()
        self._queue.put_nowait(None)
        self._release()

    def drop(self) -> None:
        """Has the call cut in the next turn of its loop. For finalisers, which run in any thread, at any place."""
        with contextlib.suppress(RuntimeError):  # the loop is closed, and the call with it
            self.task.get_loop().call_soon_threadsafe(self.cut)

    async def close(self) -> None:
        """Ends the call, and waits for its task."""
        self.cut()
        await asyncio.gather(self.task, return_exceptions=True)


async def _read(rpc: Any, queue: asyncio.Queue[Message | End | None], left: asyncio.Event) -> None:
    error: StepwireError | None = None
    try:
        while (batch := await rpc.read()) is not grpc.aio.EOF:
            await queue.put(batch)
            if left.is_set():
                return
    except grpc.aio.AioRpcError as failure:
        error = error_from_call(failure)
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        error = CallFailed("The call was cancelled.", status_code=code_pb2.CANCELLED)
    except Exception as failure:
        # A message that is none. With threads gRPC makes the same of it.
        error = CallFailed(f"What came can't be read: {failure}", status_code=code_pb2.INTERNAL)
    await queue.put(End(error))


class Link:
    """A channel, with the number of its open calls."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self.calls = 0


class Wire:
    """The connection. A fresh one takes the place of one that is going; the old one closes after its last call."""

    def __init__(
        self, target: str, *, credentials: grpc.ChannelCredentials | None, options: Iterable[ChannelOption]
    ) -> None:
        self._target = target
        self._credentials = credentials
        self._options = list(options)
        self._link: Link | None = None
        self._old: list[Link] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    async def unary(self, method: Method, request: Message, limit: float) -> Message:
        """Makes a call. One after a Draining goes over a new connection. Raises what the call ended with."""
        link = self._take(None)
        try:
            await self._close_idle()
            call = link.channel.unary_unary(
                method.path,
                request_serializer=type(request).SerializeToString,
                response_deserializer=method.response.FromString,
            )
            return await call(request, timeout=max(0.0, limit))
        except grpc.aio.AioRpcError as failure:
            error = error_from_call(failure)
            if isinstance(error, Draining):
                self._retire(link)
            raise error from None
        except (asyncio.CancelledError, grpc.aio.UsageError):
            # Where the channel was closed, gRPC cancels whoever waits for the call, not the call alone.
            task = asyncio.current_task()
            if not self._closed or (task is not None and task.cancelling()):
                raise
            raise RuntimeError(CLOSED) from None
        finally:
            self._give(link)

    async def call(
        self,
        method: Method,
        request: Message,
        *,
        instead_of: Link | None,
        wait_for_ready: bool,
        limit: float | None,
    ) -> Call:
        """Opens a stream, or makes a unary call: that is a stream of one message."""
        link = self._take(instead_of)
        try:
            await self._close_idle()
            if self._closed:
                raise RuntimeError(CLOSED)
            open_call = link.channel.unary_stream(
                method.path,
                request_serializer=type(request).SerializeToString,
                response_deserializer=method.response.FromString,
            )
            call = Call(
                open_call(request, timeout=limit, wait_for_ready=wait_for_ready), link, release=lambda: self._give(link)
            )
        except BaseException:
            self._give(link)
            raise
        self._tasks.add(call.task)
        call.task.add_done_callback(self._tasks.discard)
        return call

    async def close(self) -> None:
        self._closed = True
        # Those of loops that were left may still be on their way out.
        await asyncio.gather(*self._tasks, return_exceptions=True)
        links, self._old, self._link = [*self._old, *([self._link] if self._link else [])], [], None
        for link in links:
            await link.channel.close()

    def _take(self, instead_of: Link | None) -> Link:
        """Returns the connection for one more call; another one where `instead_of` is the newest."""
        if self._closed:
            raise RuntimeError(CLOSED)
        link = self._link
        if link is None or link is instead_of:
            if link is not None:
                self._old.append(link)
            link = self._link = Link(self._connect())
        link.calls += 1
        return link

    def _retire(self, link: Link) -> None:
        if link is self._link:
            self._link = None
            self._old.append(link)

    def _give(self, link: Link) -> None:
        link.calls -= 1

    async def _close_idle(self) -> None:
        idle = [link for link in self._old if not link.calls]
        self._old = [link for link in self._old if link.calls]
        for link in idle:
            await link.channel.close()

    def _connect(self) -> grpc.aio.Channel:
        if self._credentials is None:
            return grpc.aio.insecure_channel(self._target, options=self._options)
        return grpc.aio.secure_channel(self._target, self._credentials, options=self._options)
