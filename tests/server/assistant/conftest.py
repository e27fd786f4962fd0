from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from google.protobuf.json_format import MessageToDict

from stepwire.v1 import Event, EventBatch, ExecuteRequest, Plan
from stepwire_server.assistant import create_app
from stepwire_server.assistant.language import Analysis, analyze
from stepwire_server.assistant.search import Shelf, load_shelf
from stepwire_server.engine.engine import Engine
from stepwire_server.journal.memory import MemoryJournal


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
    """Runs a query or a plan on an engine with the assistant, and returns its events and output."""

    async def execute(query: str = "", *, plan: Plan | None = None, documents: Path | None = None) -> Outcome:
        app = create_app()
        await app.start({} if documents is None else {"documents": str(documents)})
        journal = MemoryJournal()
        await journal.open()
        engine = Engine(app.catalog(), journal)
        record = await engine.accept(ExecuteRequest(plan=plan) if plan is not None else ExecuteRequest(query=query))
        events: list[Event] = []
        with journal.follow(record.execution_id, after=0) as follower:
            while not follower.ended:
                await follower.wait()
                for chunk in await follower.read(max_events=1000, max_bytes=1 << 20):
                    # Frames, joined, are a batch.
                    events += EventBatch.FromString(chunk.data).events
        await engine.drain(1.0)
        await journal.close()
        return Outcome(events, MessageToDict(events[-1].plan_completed.output))

    return execute
