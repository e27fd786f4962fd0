"""What the journal knows of past durations, at hand for all executions: read at the start, and again as others end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from stepwire.errors import StepwireError
from stepwire_server.engine.clock import Clock
from stepwire_server.engine.spread import Spread
from stepwire_server.journal import Journal

__all__ = ["Experience"]

_EVERY = 1.0
"""Seconds between two readings, at least ..."""

_EVERY_SPENT = 50.0
"""... and so many more for each second that one takes: there may be many operations, and each day has its part."""

_log = logging.getLogger(__name__)


class Experience:
    """How long steps took, by operation. `read` once before all else; `freshen` when an execution begins or ends."""

    def __init__(self, journal: Journal, *, clock: Clock) -> None:
        self._journal = journal
        self._clock = clock
        self._reading: asyncio.Task[None] | None = None
        self._due = 0.0
        self._behind = False
        self.known: Mapping[str, Spread] = {}
        """By operation. Replaced as a whole."""

    async def read(self) -> None:
        """Reads what the journal has. What can't be read only leaves estimates out, and the log says why."""
        self._behind, began = False, self._clock.monotonic()
        try:
            typical = await self._journal.typical(tenant="")
        except StepwireError as error:
            _log.warning("past durations can't be read, and no time remaining is told without them: %s", error)
            return
        finally:
            now = self._clock.monotonic()
            self._due = now + _EVERY + _EVERY_SPENT * (now - began)
        self.known = {
            name: Spread(count=each.count, p25=each.p25, p50=each.p50, p75=each.p75) for name, each in typical.items()
        }

    def freshen(self, *, ended: bool = False) -> None:
        """Reads again what has grown since, unless that was just done. `ended`: it has."""
        self._behind = self._behind or ended
        if self._behind and self._reading is None and self._clock.monotonic() >= self._due:
            self._reading = asyncio.create_task(self.read(), name="past durations")
            self._reading.add_done_callback(self._take)

    async def close(self) -> None:
        """Returns when nothing is being read."""
        if self._reading is not None:
            await asyncio.wait({self._reading})

    def _take(self, task: asyncio.Task[None]) -> None:
        self._reading = None
        if not task.cancelled() and task.exception() is not None:
            _log.error("past durations could not be read", exc_info=task.exception())
