"""How a callback speaks for its step: in the order of its calls, from the event loop or from any thread."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Generator
from typing import Any

from stepwire_server import BlockingStepContext, StepContext, StepEnded

__all__ = ["Said", "Teller"]

_log = logging.getLogger(__name__)

_MOST_WAITING = 10_000
"""Calls that nobody awaited and that wait. What does not let the event loop go on could make any number of them."""


class Said(Awaitable[None]):
    """Has been said: code that awaits its callback goes on at once."""

    def __await__(self) -> Generator[Any, None, None]:
        yield from ()


class Teller:
    """Says for a callback what it was called with.

    In the event loop of its step a call returns at once, with what may be awaited until it is said, and need not be; in
    any thread it returns when it is said. What can't be said is logged and breaks nothing. Only StepEnded is raised in
    threads: the step has ended, and its work should.
    """

    def __init__(self, step: StepContext | BlockingStepContext) -> None:
        self._step = step
        self._waiting: set[asyncio.Task[None]] = set()
        self._last: asyncio.Task[None] | None = None

    def tell(self, method: str, *arguments: Any, **named: Any) -> Awaitable[None]:
        """Calls a method of the step."""
        step = self._step
        if isinstance(step, StepContext):
            if step.is_here():
                return self._tell_later(step, method, arguments, named)
            step = step.blocking()
        try:
            getattr(step, method)(*arguments, **named)
        except StepEnded:
            raise
        except Exception:
            self._log_failure(method)
        return Said()

    async def close(self) -> None:
        """Returns when all is said."""
        try:
            while self._waiting:
                await asyncio.wait(self._waiting)
        except asyncio.CancelledError:
            for task in self._waiting:
                task.cancel()
            raise

    def _tell_later(
        self, step: StepContext, method: str, arguments: tuple[Any, ...], named: dict[str, Any]
    ) -> Awaitable[None]:
        if len(self._waiting) >= _MOST_WAITING:
            _log.warning("%s: a callback was called too often without a pause; the call is lost", self._where)
            return Said()
        task = asyncio.ensure_future(self._tell_after(self._last, step, method, arguments, named))
        self._last = task
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)
        return task

    async def _tell_after(
        self,
        before: asyncio.Task[None] | None,
        step: StepContext,
        method: str,
        arguments: tuple[Any, ...],
        named: dict[str, Any],
    ) -> None:
        if before is not None and not before.done():
            await asyncio.wait({before})
        try:
            await getattr(step, method)(*arguments, **named)
        except Exception:
            self._log_failure(method)

    def _log_failure(self, method: str) -> None:
        _log.warning("%s: a callback's %s could not be said", self._where, method, exc_info=True)

    @property
    def _where(self) -> str:
        return f"execution {self._step.execution_id}, step {self._step.id}"
