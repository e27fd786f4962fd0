"""The connection under `stepwire.Client`: calls that a thread reads, channels that take over from each other."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, cast

import grpc
from google.protobuf.message import Message

from stepwire.errors import Draining, StepwireError
from stepwire.requests import Method
from stepwire.transport import CLOSED, ROOM, ChannelOption, End, error_from_call

__all__ = ["Call", "Link", "Wire", "pause"]

_LOOK_UP = 0.5
"""Seconds that the main thread waits at most at a time. Python's handler of Ctrl-C runs there alone, and a signal that
comes just before the wait begins does not end it.
"""


def pause(seconds: float, woken: threading.Event | None = None) -> bool:
    """Waits so long, or until `woken` is set. Returns whether it is."""
    woken = woken or threading.Event()
    deadline = time.monotonic() + seconds
    while not woken.is_set() and (left := deadline - time.monotonic()) > 0:
        woken.wait(_slice(left))
    return woken.is_set()


def _slice(seconds: float) -> float:
    """Returns how much of a wait to wait at a time."""
    return min(seconds, _LOOK_UP) if threading.current_thread() is threading.main_thread() else seconds


class Call:
    """An open call. A thread reads it into a box with room for a few messages, so that waiting can end in time."""

    def __init__(self, rpc: Any, link: Link, *, release: Callable[[], None]) -> None:
        self.link = link
        self._rpc = rpc
        self._release = release
        self._box: deque[Message | End] = deque()
        self._changed = threading.Condition()
        self._closed = False
        # The thread knows the call, never the run: a run that nobody holds any more can go.
        self._thread = threading.Thread(target=self._read, name="stepwire-read", daemon=True)
        self._thread.start()

    def get(self, seconds: float) -> Message | End | None:
        """Returns what is next, or None after so many seconds, or when closed."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while not self._box and not self._closed and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(_slice(left))
            if not self._box or self._closed:
                return None
            item = self._box.popleft()
            self._changed.notify_all()
            return item

    def close(self) -> None:
        """Ends the call, and waits for its thread. Not for finalisers: see `Wire.drop`."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._changed.notify_all()
        self._rpc.cancel()
        if self._thread is not threading.current_thread():
            self._thread.join()
        self._release()

    def _read(self) -> None:
        error: StepwireError | None = None
        try:
            for batch in self._rpc:
                if not self._put(batch):
                    return
        except grpc.RpcError:
            error = error_from_call(self._rpc)
        self._put(End(error))

    def _put(self, item: Message | End) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: len(self._box) < ROOM or self._closed)
            if not self._closed:
                self._box.append(item)
                self._changed.notify_all()
            return not self._closed


class Link:
    """A channel, with the number of its open calls."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.channel = channel
        self.calls = 0


class Wire:
    """The connection. A fresh one takes the place of one that is going; the old one closes with its last call."""

    def __init__(
        self, target: str, *, credentials: grpc.ChannelCredentials | None, options: Iterable[ChannelOption]
    ) -> None:
        self._target = target
        self._credentials = credentials
        self._options = list(options)
        self._lock = threading.RLock()
        self._link: Link | None = None
        self._closed = False
        self._dropped: queue.SimpleQueue[Call | None] = queue.SimpleQueue()
        self._closer: threading.Thread | None = None

    def __del__(self) -> None:
        # An open call's thread holds the wire: by now there is none, and nothing comes after this.
        self._dropped.put(None)

    def unary(self, method: Method, request: Message, limit: float) -> Message:
        """Makes a call. One after a Draining goes over a new connection. Raises what the call ended with."""
        link = self._take(None)
        try:
            call = link.channel.unary_unary(
                method.path,
                request_serializer=type(request).SerializeToString,
                response_deserializer=method.response.FromString,
            )
            return call(request, timeout=max(0.0, limit))
        except grpc.RpcError as failure:
            error = error_from_call(cast(Any, failure))
            if isinstance(error, Draining):
                self._retire(link)
            raise error from None
        except ValueError:
            self._check_open()
            raise
        finally:
            self._give(link)

    def call(
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
            self._start_closer()
            open_call = link.channel.unary_stream(
                method.path,
                request_serializer=type(request).SerializeToString,
                response_deserializer=method.response.FromString,
            )
            return Call(
                open_call(request, timeout=limit, wait_for_ready=wait_for_ready), link, release=lambda: self._give(link)
            )
        except BaseException as error:
            self._give(link)
            if isinstance(error, ValueError):
                self._check_open()
            raise

    def drop(self, call: Call) -> None:
        """Has a call ended soon, by a thread that is there for it.

        Finalisers do it so. A garbage collection runs in any thread: in one that gRPC needs to end the call, and with
        gRPC's locks held. Waiting there, or asking gRPC for anything, would be for ever.
        """
        self._dropped.put(call)

    def close(self) -> None:
        with self._lock:
            link, self._link = self._link, None
            closer, self._closer = self._closer, None
            self._closed = True
        if closer is not None:
            self._dropped.put(None)
            if closer is not threading.current_thread():
                closer.join()
        if link is not None:
            link.channel.close()

    def _take(self, instead_of: Link | None) -> Link:
        """Returns the connection for one more call; another one where `instead_of` is the newest."""
        with self._lock:
            self._check_open()
            link = self._link
            if link is None or link is instead_of:
                link = self._link = Link(self._connect())
            link.calls += 1
            return link

    def _retire(self, link: Link) -> None:
        with self._lock:
            if link is self._link:
                self._link = None

    def _check_open(self) -> None:
        # What gRPC says of a closed channel is a ValueError.
        if self._closed:
            raise RuntimeError(CLOSED) from None

    def _give(self, link: Link) -> None:
        with self._lock:
            link.calls -= 1
            last = link.calls == 0 and link is not self._link
        if last:
            link.channel.close()

    def _start_closer(self) -> None:
        with self._lock:
            if self._closer is None and not self._closed:
                self._closer = threading.Thread(
                    target=_close_dropped, args=(self._dropped,), name="stepwire-close", daemon=True
                )
                self._closer.start()

    def _connect(self) -> grpc.Channel:
        if self._credentials is None:
            return grpc.insecure_channel(self._target, options=self._options)
        return grpc.secure_channel(self._target, self._credentials, options=self._options)


def _close_dropped(dropped: queue.SimpleQueue[Call | None]) -> None:
    # It knows the calls, never the wire: a client that nobody holds any more can go.
    while (call := dropped.get()) is not None:
        call.close()
        del call
