"""The analysis by itself, and a real server with the assistant, asked through the client."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from stepwire.aio import Client
from stepwire.v1 import Event, Plan
from stepwire_server.api.server import Options, Server
from stepwire_server.assistant import create_app
from stepwire_server.assistant.language import Analysis, analyze
from stepwire_server.assistant.search import Shelf, load_shelf
from stepwire_server.journal import MemoryJournal


class Outcome(NamedTuple):
    """What an execution streamed, and what it gave."""

    events: list[Event]
    output: Any

    @property
    def kinds(self) -> list[str]:
        return [event.WhichOneof("kind") or "" for event in self.events]


Run = Callable[..., Awaitable[Outcome]]


@pytest.fixture(scope="session")
def shelf() -> Shelf:
    return load_shelf()


@pytest.fixture(scope="session")
def understand(shelf: Shelf) -> Callable[[str], Analysis]:
    def run(query: str) -> Analysis:
        return analyze(query, gazetteer=shelf.gazetteer, vocabulary=shelf.index.vocabulary)

    return run


@pytest.fixture
async def run() -> Run:
    """Runs a query or a plan on a server with the assistant, and returns its events and output."""

    async def execute(query: str | None = None, *, plan: Plan | None = None, documents: Path | None = None) -> Outcome:
        app = create_app()
        await app.start({} if documents is None else {"documents": str(documents)})
        async with (
            Server(app.catalog(), MemoryJournal(), Options(drain_grace=0.0)) as server,
            Client(server.address) as client,
        ):
            started = await client.execute(query, plan=plan)
            events = [event async for event in started]
            return Outcome(events, await started.result())

    return execute
