"""The queue of a graph, where it is not read to its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import pytest

from stepwire_server.bridges import queue as module
from stepwire_server.bridges.queue import Queue

HANGS = 20.0


async def test_who_waits_for_a_queue_that_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the reader leaves in mid-stream, whoever waits for its turn in the queue goes on, and so the graph can end,
    which waits for its nodes.
    """
    written = asyncio.Event()
    tickets: list[Any] = []

    def write(ticket: Any) -> None:
        tickets.append(ticket)  # It never comes out.
        written.set()

    monkeypatch.setattr("langgraph.config.get_stream_writer", lambda: write)
    monkeypatch.setattr(module, "_READER_SLEEPS", 0.01)
    queue = Queue()

    async def graph() -> AsyncGenerator[Any]:
        node = asyncio.create_task(queue.said())
        try:
            yield ("", "custom", "first")
            yield ("", "custom", "never read")
        finally:
            await node

    async with asyncio.timeout(HANGS), aclosing(queue.read(graph())) as parts:
        assert await anext(parts) == ("", "custom", "first")
        await written.wait()
    assert len(tickets) == 1
