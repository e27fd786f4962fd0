"""The yardsticks do what is asked, and notice what is wrong. How fast they are is nothing that a test could say."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.serving import PATIENCE, REPOSITORY, not_run

from stepwire.v1 import EventBatch

from .event import as_json, build, is_end, json_is_end
from .subject import Disorder, Order
from .yardsticks.batches import encoded, see

EVENTS = 300

NEEDS_PEERS = {"sse", "websocket", "a2a_grpc", "langgraph_steps"}
"""Those that need what `make bench-venv` installs."""

SERVERS = ["per_message", "batched", "batched --live", "raw_socket", "sse", "websocket", "a2a_grpc"]


def _python(name: str) -> str:
    """Returns the Python that a yardstick runs with. Where its peer is missing, the test is reported as not run."""
    if name not in NEEDS_PEERS:
        return sys.executable
    venv = Path(os.environ.get("BENCH_VENV", REPOSITORY / "build" / "bench-venv"))
    if not (venv / ".installed").exists():
        missing = f"{name} needs what it measures: run `make bench-venv`, which installs it into build/bench-venv"
        not_run(missing, unless="STEPWIRE_REQUIRE_BENCH")
    return str(venv / "bin" / "python")


class _Program:
    """A yardstick's server or client."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def says(self) -> dict[str, Any]:
        """Returns the next line that it writes."""
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), PATIENCE)
        assert line, "it has ended"
        found = json.loads(line)
        assert isinstance(found, dict)
        return found

    async def answers(self, **command: Any) -> dict[str, Any]:
        """Returns what it answers to a command."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        return await self.says()

    async def ended(self) -> int:
        """Ends its standard input, and returns its exit code."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        return await asyncio.wait_for(self._process.wait(), PATIENCE)


@asynccontextmanager
async def _program(name: str, *arguments: str) -> AsyncIterator[_Program]:
    process = await asyncio.create_subprocess_exec(
        *(_python(name), "-m", f"tests.bench.yardsticks.{name}", *arguments),
        cwd=REPOSITORY,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        program = _Program(process)
        yield program
        assert await program.ended() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@asynccontextmanager
async def _client(server: str, *options: str) -> AsyncIterator[_Program]:
    """Gives a yardstick's client, ready, with its server beside it."""
    name, *flags = server.split()
    async with _program(name, "serve", *flags, *options) as serving:
        target = (await serving.says())["target"]
        async with _program(name, "drive", "--target", target) as client:
            assert await client.says() == {"ready": True}
            yield client


@pytest.mark.parametrize("server", SERVERS)
async def test_every_event_arrives(server: str) -> None:
    """A client answers with the events that it was told to ask for, as often as it is told, and both end in order."""
    async with _client(server) as client:
        for events in (EVENTS, EVENTS, 1):
            answer = await client.answers(events=events)
            assert answer["events"] == events, answer
            assert 0 < answer["first_ms"] <= 1e3 * answer["seconds"]


@pytest.mark.parametrize("server", SERVERS)
async def test_a_lost_event_is_an_error(server: str) -> None:
    """Where the server leaves an event out, the client answers with an error instead of figures."""
    async with _client(server, "--skip", "157") as client:
        answer = await client.answers(events=EVENTS)
        assert answer == {"error": "Disorder: event 158 came where 157 should"}


@pytest.mark.parametrize("work", [{}, {"rate": 5_000}], ids=["flat out", "paced"])
async def test_a_lost_end_is_an_error(work: dict[str, Any]) -> None:
    """Where the last event is lost, the client says with which event the stream ended."""
    async with _client("per_message", "--skip", str(EVENTS)) as client:
        answer = await client.answers(events=EVENTS, **work)
        assert answer == {"error": "Disorder: the stream ended with event 299 of 300"}


async def test_one_event_a_message_in_all_its_forms() -> None:
    """The bare server does the paced run, many calls at once, and streams that are idle until they are released."""
    async with _client("per_message") as client:
        paced = await client.answers(events=EVENTS, rate=5_000)
        assert paced["seconds"] >= (EVENTS - 1) / 5_000
        assert 0 < paced["p50_ms"] <= paced["p99_ms"] <= paced["max_ms"]
        assert (await client.answers(calls=50, events=14))["events"] == 700
        assert (await client.answers(idle=50))["idle"] == 50
        assert (await client.answers(release=True))["idle"] == 50
        assert "error" in await client.answers(dance=True)


@pytest.mark.parametrize("saver", ["", "sqlite"])
@pytest.mark.parametrize("shape", ["chain", "fan"])
async def test_every_step_of_a_graph_runs(shape: str, saver: str) -> None:
    """LangGraph's client answers with the steps that ran, each of them once, as often as it is told."""
    async with _program("langgraph_steps", "drive") as client:
        assert await client.says() == {"ready": True}
        for _ in range(2):
            assert (await client.answers(shape=shape, steps=40, saver=saver))["steps"] == 40


def test_an_event_has_the_size_that_was_measured() -> None:
    """The event of the benchmark has 208 bytes, give or take 5, and as JSON it says the same."""
    for number in (1, 1_000, 1_000_000):
        assert 203 <= len(build(number).SerializeToString()) <= 213
    assert as_json(7)["seq"] == build(7).sequence == 7
    assert as_json(7)["text"] == build(7).content.text
    for end in (False, True):
        assert json_is_end(as_json(7, end=end)) is is_end(build(7, end=end)) is end


@pytest.mark.parametrize(
    ("numbers", "end", "error"),
    [
        ([1, 2, 2, 3], 3, "event 2 came where 3 should"),
        ([1, 3, 2], 3, "event 3 came where 2 should"),
        ([2, 3], 3, "event 2 came where 1 should"),
        ([1, 2], 2, "event 2 of 3 is the end"),
        ([1, 2, 3], 0, "event 3 of 3 is not the end"),
        ([1, 2, 3, 4], 4, "event 3 of 3 is not the end|event 4 of 3 is the end"),
    ],
)
def test_a_message_is_checked_event_by_event(numbers: list[int], end: int, error: str) -> None:
    """Of a message of many events each one that is lost, doubled or out of order is found, and an end out of place."""
    batch = EventBatch(events=[build(number, end=number == end) for number in numbers])
    with pytest.raises(Disorder, match=error):
        see(batch, Order(3))


def test_messages_join_without_a_hole() -> None:
    """The messages of an execution have all its events, at most 128 each, and ranges that follow each other."""
    batches = [EventBatch.FromString(message) for message in encoded(EVENTS)]
    assert [len(batch.events) for batch in batches] == [128, 128, 44]
    assert [(batch.after_sequence, batch.sequence) for batch in batches] == [(0, 128), (128, 256), (256, 300)]
    order = Order(EVENTS)
    for batch in batches:
        see(batch, order)
    order.finish()
