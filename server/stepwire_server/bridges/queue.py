"""Keeps what a graph's nodes say by their step, and what they hand to LangGraph, in one order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from typing import Any

__all__ = ["Queue"]

_READER_SLEEPS = 1.0
"""Seconds after which a graph that gives nothing, though something stands in its queue, is taken to be ending."""


class Queue:
    """The queue in which LangGraph hands over what a graph streams, as far as it can be seen from outside.

    What a node says by its step has no need of the queue, and would overtake what the node put there before. So it
    first sends a ticket through the queue, and waits until that has come out.
    """

    def __init__(self) -> None:
        self._reader: asyncio.Task[Any] | None = None
        self._write: Callable[[Any], None] | None = None
        self._given = 0
        self._waits = False

    async def read(self, parts: AsyncGenerator[Any]) -> AsyncGenerator[Any]:
        """Gives what comes out."""
        self._reader, self._write = asyncio.current_task(), None
        try:
            async with aclosing(parts):
                try:
                    self._waits = True
                    async for part in parts:
                        self._waits = False
                        self._given += 1
                        if isinstance(part[2], _Ticket):
                            self._write = part[2].write
                            part[2].come()
                        else:
                            yield part
                        self._waits = True
                finally:
                    self._reader = None
        finally:
            self._reader = None

    async def said(self) -> None:
        """Returns once all that this task has put into the queue has come out, and was said."""
        task = asyncio.current_task()
        # What is cancelled cleans up: the queue may not be read any more.
        if self._reader is None or task is self._reader or task is None or task.cancelling():
            return
        from langgraph.config import get_stream_writer

        try:
            # A graph that a node calls may have a writer of its own, that leads elsewhere.
            write = self._write or get_stream_writer()
        except (RuntimeError, KeyError):
            return  # It is said outside of a node.
        came = asyncio.get_running_loop().create_future()
        write(_Ticket(came, write))
        while self._reader is not None and not came.done():
            given = self._given
            await asyncio.wait({came}, timeout=_READER_SLEEPS)
            if self._waits and given == self._given and not came.done():
                # LangGraph waits for nodes that it has cancelled, and what they wait for is not read any more.
                self._reader = None


class _Ticket:
    """Tells a future when it comes out of the queue, or is lost with a queue that nobody reads."""

    __slots__ = ("_came", "write")

    def __init__(self, came: asyncio.Future[None], write: Callable[[Any], None]) -> None:
        self._came = came
        self.write = write

    def come(self) -> None:
        _tell(self._came)

    def __del__(self) -> None:
        if not self._came.done():
            # In whichever thread it is that lets go of it, and maybe after the loop's end.
            with suppress(RuntimeError):
                self._came.get_loop().call_soon_threadsafe(_tell, self._came)


def _tell(came: asyncio.Future[None]) -> None:
    if not came.done():
        came.set_result(None)
