"""The loop that reads a run of `stepwire.aio`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from stepwire.v1.event_pb2 import Event

if TYPE_CHECKING:
    from stepwire.aio import Run

__all__ = ["Loop"]


class Loop:
    """What `async for` holds. A loop that is left drops it at once, and with it the call."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._key = object()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        self._run._reader = self._key
        event = None
        try:
            event = await self._run._next()
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
