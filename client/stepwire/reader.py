"""What a thread reads from a client: the driver of the state machines in `resume` and `wide`."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Self

from google.protobuf.message import Message

from stepwire.machine import Followed
from stepwire.steps import Ask, Finish, Open, Read, Refuse
from stepwire.transport import End
from stepwire.v1.event_pb2 import Event
from stepwire.wire import Call, Link, pause

if TYPE_CHECKING:
    from stepwire.client import Client

__all__ = ["Reader"]


class Reader(Followed):
    """An iterator of events, in order, each once. For one thread."""

    # A finaliser may come before these are set.
    _call: Call | None = None
    _link: Link | None = None

    def _read_over(self, client: Client) -> None:
        """Sets up the reading. Called once, before all else."""
        self._client = client
        self._woken = threading.Event()

    def _hand_over(self, event: Event) -> None:
        """Called with each event before it is given."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self._leave_call()

    def __iter__(self) -> Iterator[Event]:
        # A generator, because a loop that is left drops it at once, and its `finally` then ends the call. A garbage
        # collection may come to it too, when another loop reads.
        key = object()
        try:
            while True:
                self._reader = key
                event = self._next()
                if event is None:
                    return
                yield event
        finally:
            if self._reader is key:
                self._leave_call()

    def __next__(self) -> Event:
        self._reader = None
        event = self._next()
        if event is None:
            raise StopIteration
        return event

    def close(self) -> None:
        """Ends the call. What runs on the server goes on. Nothing can be read any more. Closing twice is once."""
        self._closed = True
        self._woken.set()
        # The state machine is left alone: another thread, one that reads, may be in it.
        self._drop_call()

    def _begin(self) -> None:
        """Returns once the stream has begun. Raises where it can't."""
        try:
            while not self._has_begun() and self._advance():
                pass
        except BaseException as error:
            self.close()
            self._note_request(error)
            raise

    def _next(self) -> Event | None:
        event = self._take()
        while event is None:
            if not self._advance():
                return None
            event = self._take()
        self._hand_over(event)
        return event

    def _advance(self) -> bool:
        """Does what the state machine asks for next. Returns False where the stream is over."""
        resumption = self._machine()
        left_at, self._left_at = self._left_at, None
        if left_at is not None:
            resumption.suspend(left_at)
        if self._closed:
            self._drop_call()
            if not self._is_over():
                raise self._closed_error()
            return False
        match resumption.step(time.monotonic()):
            case Read(seconds=left):
                call = self._call
                match call.get(left) if call is not None else None:
                    case Message() as message:
                        resumption.received(message, time.monotonic())
                    case End(error=error):
                        resumption.ended(error, time.monotonic())
                    case None if not (self._closed or self._left_at is not None):
                        resumption.silent(time.monotonic())
            case Open() | Ask() as opening:
                self._drop_call()
                if opening.wait > 0 and pause(opening.wait, self._woken):
                    return True
                method, request = self._call_for(opening)
                try:
                    self._call = self._client._wire.call(
                        method,
                        request,
                        instead_of=self._link if opening.fresh else None,
                        wait_for_ready=opening.wait_for_ready,
                        limit=opening.limit if isinstance(opening, Ask) else None,
                    )
                except RuntimeError:
                    # The client was closed meanwhile, and with it the run.
                    if self._closed:
                        return True
                    raise
                self._link = self._call.link
                resumption.opened(time.monotonic())
            case Finish():
                self._drop_call()
                return False
            case Refuse(error=error):
                self._drop_call()
                raise error
        return True

    def _leave_call(self) -> None:
        """Has the call ended soon. May run in a finaliser: the state machine learns of it when it is asked again."""
        call, self._call = self._call, None
        if self._left_at is None:
            self._left_at = time.monotonic()
        if call is not None:
            self._client._wire.drop(call)

    def _drop_call(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            call.close()
