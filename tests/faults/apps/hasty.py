"""The faulty app on a journal that wakes watchers before it has stored what they get: what a probe must find."""

from __future__ import annotations

import asyncio
import functools
from typing import Any

from faulty import app

from stepwire_server.journal import Chunk, SqliteJournal

__all__ = ["TOO_EARLY", "app"]

TOO_EARLY = 0.5
"""Seconds between what watchers are told and what is true."""

_append = SqliteJournal.append


@functools.wraps(_append)
async def _hasty(journal: SqliteJournal, execution_id: str, *, chunk: Chunk, **more: Any) -> int:
    journal._committed(execution_id, chunk)
    await asyncio.sleep(TOO_EARLY)
    journal._committed = lambda *_: None  # type: ignore[method-assign]  # Once is enough.
    try:
        return await _append(journal, execution_id, chunk=chunk, **more)
    finally:
        del journal._committed


SqliteJournal.append = _hasty  # type: ignore[method-assign]
