"""Real servers on free ports, in the test's own loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, Protocol

import pytest

from stepwire_server.api.server import Options, Server
from stepwire_server.engine.executor import Settings
from stepwire_server.journal import Journal, MemoryJournal, SqliteJournal
from stepwire_server.limits import CallLimits

from .shop import Caller, Gate, create_app


class Serve(Protocol):
    """Starts a server; the fixture stops it."""

    async def __call__(self, journal: Journal | None = None, **options: Any) -> Server: ...


class Call(Protocol):
    """Makes a caller of a server; the fixture closes it."""

    def __call__(self, server: Server, **options: Any) -> Caller: ...


@pytest.fixture
async def gate() -> Gate:
    return Gate()


@pytest.fixture
async def serve(gate: Gate) -> AsyncIterator[Serve]:
    """Also holds every test to this: when its servers have stopped, no task is left."""
    started: list[Server] = []

    async def start(journal: Journal | None = None, **options: Any) -> Server:
        options = {"drain_grace": 0.0, "settings": Settings(cancel_grace=0.5), "version": "1.2.3"} | options
        limits = {limit.name: options.pop(limit.name) for limit in fields(CallLimits) if limit.name in options}
        server = Server(
            create_app(gate).catalog(), journal or MemoryJournal(), Options(limits=CallLimits(**limits), **options)
        )
        await server.start()
        started.append(server)
        return server

    before = asyncio.all_tasks()
    yield start
    for server in started:
        await server.stop()
    await settled(before)


async def settled(before: set[asyncio.Task[Any]]) -> None:
    """Returns when no task is left but those that were there before; fails after 20 s."""
    try:
        async with asyncio.timeout(20):
            while left := asyncio.all_tasks() - before - {asyncio.current_task()}:
                await asyncio.wait(left, timeout=0.1)
    except TimeoutError:
        pytest.fail(f"tasks are left: {left}")


async def eventually(condition: Callable[[], bool]) -> None:
    """Returns when the condition holds; fails after 20 s. For what ends by itself and tells nobody."""
    loop = asyncio.get_running_loop()
    until = loop.time() + 20
    while not condition():
        assert loop.time() < until, "it never came"
        turn = asyncio.Event()
        loop.call_later(0.005, turn.set)
        await turn.wait()


@pytest.fixture(params=["memory", "sqlite"])
def journal(request: pytest.FixtureRequest, tmp_path: Path) -> Journal:
    return MemoryJournal() if request.param == "memory" else SqliteJournal(tmp_path / "journal.db")


@pytest.fixture
async def server(serve: Serve) -> Server:
    return await serve()


@pytest.fixture
async def call_with(serve: Serve) -> AsyncIterator[Call]:
    callers: list[Caller] = []

    def make(server: Server, **options: Any) -> Caller:
        callers.append(Caller(server.address, [(f"grpc.{name}", value) for name, value in options.items()]))
        return callers[-1]

    yield make
    for caller in callers:
        await caller.close()


@pytest.fixture
async def caller(server: Server, call_with: Call) -> Caller:
    return call_with(server)
