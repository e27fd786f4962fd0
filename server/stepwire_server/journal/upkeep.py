"""What a server does to its journal from time to time: purge what is not kept, join what is scattered."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from stepwire.errors import StepwireError
from stepwire_server.journal.base import Journal
from stepwire_server.journal.retention import Retention

__all__ = ["UPKEEP_SECONDS", "keep_up"]

_log = logging.getLogger(__name__)

UPKEEP_SECONDS = 300.0
"""Between two passes."""


async def keep_up(
    journal: Journal,
    retention: Retention,
    *,
    sleep: Callable[[float], Awaitable[None]],
    every: float = UPKEEP_SECONDS,
) -> None:
    """Makes a pass at once and then again and again, until it is cancelled. What fails is logged and tried again, and
    keeps nothing else from being done.
    """

    async def purge() -> None:
        purged = await journal.purge(retention)
        if purged.executions:
            _log.info("purged %d executions with %d events", purged.executions, purged.events)

    while True:
        await _try(purge)
        await _try(journal.compact)
        await sleep(every)


async def _try(work: Callable[[], Awaitable[object]]) -> None:
    try:
        await work()
    except StepwireError as error:
        _log.error("the journal could not be kept up: %s", error)
    except Exception:
        _log.exception("a bug in the upkeep of the journal")
