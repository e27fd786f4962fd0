"""What a task reads from a client: the driver of the state machines in `resume` and `wide`, in async."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from types import TracebackType
from typing import TYPE_CHECKING, Self

from google.protobuf.message import Message

from stepwire.aio_wire import Call, Link
from stepwire.machine import Followed
from stepwire.steps import Ask, Finish, Open, Read, Refuse
from stepwire.transport import End
from stepwire.v1.event_pb2 import Event

if TYPE_CHECKING:
    from stepwire.aio import Client

__all__ = ["Reader"]


class Reader(Followed):
    """An async iterator of events, in order, each once. For one task."""

    # A finaliser may come before these are set.
    _call: Call | None = None
    _link: Link | None = None
    _tells = False
    """Whether `_hand_over` has anything to do."""

    def _read_over(self, client: Client) -> None:
        """Sets up the reading. Called once, before all else."""
        self._client = client
        self._woken = asyncio.Event()

    async def _hand_over(self, event: Event) -> None:
        """Called with each event before it is given."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def __del__(self) -> None:
        self._leave_call()

    def __aiter__(self) -> AsyncIterator[Event]:
        return _Loop(self)

    async def __anext__(self) -> Event:
        self._reader = None
        event = await self._next()
        if event is None:
            raise StopAsyncIteration
        return event

    async def close(self) -> None:
        """Ends the call. What runs on the server goes on. Nothing can be read any more. Closing twice is once."""
        self._closed = True
        self._woken.set()
        await self._drop_call()

    async def _begin(self) -> None:
        """Returns once the stream has begun. Raises where it can't."""
        try:
            while not self._has_begun() and await self._advance():
                pass
        except BaseException as error:
            await self.close()
            self._note_request(error)
            raise

    async def _next(self) -> Event | None:
        event = self._take()
        while event is None:
            if not await self._advance():
                return None
            event = self._take()
        await self._hand_over(event)
        return event

    async def _advance(self) -> bool:
        """Does what the state machine asks for next. Returns False where the stream is over."""
        resumption = self._machine()
        left_at, self._left_at = self._left_at, None
        if left_at is not None:
            resumption.suspend(left_at)
        if self._closed:
            # Closed while it was opening: this call nobody else knows.
            await self._drop_call()
            if not self._is_over():
                raise self._closed_error()
            return False
        match resumption.step(time.monotonic()):
            case Read(seconds=left):
                call = self._call
                match await call.get(left) if call is not None else None:
                    case Message() as message:
                        resumption.received(message, time.monotonic())
                    case End(error=error):
                        resumption.ended(error, time.monotonic())
                    case None if not (self._closed or self._left_at is not None):
                        resumption.silent(time.monotonic())
            case Open() | Ask() as opening:
                await self._drop_call()
                if opening.wait > 0:
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._woken.wait(), opening.wait)
                        return True
                method, request = self._call_for(opening)
                try:
                    self._call = await self._client._wire.call(
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
                await self._drop_call()
                return False
            case Refuse(error=error):
                await self._drop_call()
                raise error
        return True

    def _leave_call(self) -> None:
        """Has the call ended soon. May run in a finaliser: the state machine learns of it when it is asked again."""
        call, self._call = self._call, None
        if self._left_at is None:
            self._left_at = time.monotonic()
        if call is not None:
            call.drop()

    async def _drop_call(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            await call.close()


class _Loop:
    """What `async for` holds. A loop that is left drops it at once, and with it the call."""

    def __init__(self, run: Reader) -> None:
        self._run = run
        self._key = object()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        run = self._run
        run._reader = self._key
        # Most events are there already, with those before them: to await them would cost as much as all else here.
        event = None if run._tells else run._take()
        if event is not None:
            return event
        try:
            event = await run._next()
        finally:
            if event is None:
                self._leave()
        if event is None:
            raise StopAsyncIteration
        return event

    def __del__(self) -> None:
        # It may come late, where somebody holds the exception that ended the loop.
        self._leave()

    def _leave(self) -> None:
        if self._run._reader is self._key:
            self._run._leave_call()
