"""A server that dies takes nothing back, and goes on when it is started again; its watchers notice nothing."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest

import stepwire.aio
from stepwire import Client, event_type
from stepwire.v1 import Event, EventBatch, WatchExecutionRequest

from .serving import PATIENCE, Gate, ServerProcess, until

STEPS = ["one", "two", "three"]


def chain(gate: Gate, trace: Path) -> dict[str, Any]:
    """Returns a plan of three steps in a row. Each leaves a line in `trace`, and waits at the gate twice."""
    work = {"gate": gate.port, "bursts": [5, 5], "trace": str(trace)}
    return {
        "steps": [
            {"id": step, "operation": "paced", "input": work, "depends_on": STEPS[i - 1 : i] if i else []}
            for i, step in enumerate(STEPS)
        ]
    }


class Watchers:
    """Both clients, each in a thread, reading one execution to its end."""

    def __init__(self, address: str, execution_id: str) -> None:
        self.events: dict[str, list[Event]] = {"sync": [], "aio": []}
        self._told = threading.Condition()
        self._pool = ThreadPoolExecutor(2)
        self._ends: list[Future[None]] = [
            self._pool.submit(self._read_sync, address, execution_id),
            self._pool.submit(lambda: asyncio.run(self._read_aio(address, execution_id))),
        ]

    def have(self, condition: Callable[[list[Event]], Any]) -> None:
        """Returns once both have read what this asks for."""
        with self._told:
            assert self._told.wait_for(lambda: all(map(condition, self.events.values())), PATIENCE), self.events

    def finish(self) -> None:
        """Returns once both have read to the end. Raises what either of them raised."""
        for end in self._ends:
            end.result(PATIENCE)
        self._pool.shutdown()

    def _take(self, name: str, event: Event) -> None:
        with self._told:
            self.events[name].append(event)
            self._told.notify_all()

    def _read_sync(self, address: str, execution_id: str) -> None:
        with Client(address) as client:
            for event in client.watch(execution_id):
                self._take("sync", event)

    async def _read_aio(self, address: str, execution_id: str) -> None:
        async with stepwire.aio.Client(address) as client:
            async for event in await client.watch(execution_id):
                self._take("aio", event)


def in_the_middle_of_two(events: list[Event]) -> bool:
    """Tells whether the first burst of step two has been read."""
    return sum(event_type(event) == "step_progress" and event.step_id == "two" for event in events) == 5


def has_started(step: str, events: list[Event]) -> bool:
    """Tells whether the start of this step has been read."""
    return any(event_type(event) == "step_started" and event.step_id == step for event in events)


def notices(address: str, execution_id: str, into: list[int]) -> None:
    """Reads a raw stream to its end, and keeps the notices of its messages."""
    with grpc.insecure_channel(address) as channel:
        watch = channel.unary_stream(
            "/stepwire.v1.ExecutionService/WatchExecution",
            request_serializer=WatchExecutionRequest.SerializeToString,
            response_deserializer=EventBatch.FromString,
        )
        for batch in watch(WatchExecutionRequest(execution_id=execution_id), timeout=PATIENCE):
            into.append(batch.notice)


@pytest.mark.parametrize("end", ["SIGKILL", "SIGTERM"])
def test_watchers_outlive_the_server(tmp_path: Path, gate: Gate, end: str) -> None:
    """After an end and a new start the watchers have every event once, and completed steps did not run again."""
    trace = tmp_path / "trace"
    with ServerProcess(tmp_path, app="sample:app", flags=["--drain-grace", "0.2"]) as server:
        with Client(server.address) as client:
            execution_id = client.start(plan=chain(gate, trace)).execution_id
        watchers = Watchers(server.address, execution_id)
        gate.release("one", 2)
        gate.release("two")
        watchers.have(in_the_middle_of_two)
        if end == "SIGKILL":
            server.kill()
        else:
            told: list[int] = []
            raw = threading.Thread(target=notices, args=(server.address, execution_id, told), daemon=True)
            raw.start()
            until(lambda: told, "a raw stream's first message")
            assert server.terminate() == 0
            raw.join(PATIENCE)
            assert told[-1] == EventBatch.NOTICE_DRAINING
        server.start()
        gate.arrived("two", attempt=2)
        gate.open()
        watchers.finish()
        for events in watchers.events.values():
            check(events)
        with Client(server.address) as client:
            kept = list(client.events(execution_id))
        assert watchers.events["sync"] == watchers.events["aio"] == kept
    assert trace.read_text("utf-8").splitlines() == ["one 1", "two 1", "two 2", "three 1"]


def check(events: list[Event]) -> None:
    """Checks what a watcher has read: dense, recovered once, one terminal event, the last."""
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    types = [event_type(event) for event in events]
    assert types.count("plan_recovered") == 1
    assert types[-1] == "plan_completed"
    assert [type_ for type_ in types if type_.startswith("plan_")] == [
        "plan_started",
        "plan_recovered",
        "plan_completed",
    ]
    started = [(event.step_id, event.attempt) for event in events if event_type(event) == "step_started"]
    assert started == [("one", 1), ("two", 1), ("two", 2), ("three", 1)]
    retrying = [event for event in events if event_type(event) == "step_retrying"]
    assert [(event.step_id, event.step_retrying.next_attempt) for event in retrying] == [("two", 2)]
    percentages = [event.progress.percentage for event in events]
    assert percentages == sorted(percentages)


def test_killed_again_and_again(tmp_path: Path, gate: Gate) -> None:
    """An execution that loses its server in each of its steps completes all the same, each step run twice."""
    trace = tmp_path / "trace"
    with ServerProcess(tmp_path, app="sample:app") as server:
        with Client(server.address) as client:
            execution_id = client.start(plan=chain(gate, trace)).execution_id
        watchers = Watchers(server.address, execution_id)
        for step in STEPS:
            gate.release(step)
            # What watchers have seen is on disk: the step before is done for good.
            watchers.have(partial(has_started, step))
            server.kill()
            server.start()
            gate.arrived(step, attempt=2)
            gate.release(step, 2)
        watchers.finish()
        for events in watchers.events.values():
            assert [event.sequence for event in events] == list(range(1, len(events) + 1))
            assert event_type(events[-1]) == "plan_completed"
    assert trace.read_text("utf-8").splitlines() == [f"{step} {attempt}" for step in STEPS for attempt in (1, 2)]


def test_a_killed_client_ends_nothing(sample: ServerProcess, gate: Gate, tmp_path: Path) -> None:
    """A client that dies in the middle of its stream leaves the execution running, to its end."""
    trace = tmp_path / "trace"
    program = (
        "import sys, json; from stepwire import Client\n"
        "run = Client(sys.argv[1]).execute(plan=json.loads(sys.argv[2]))\n"
        "for event in run: print(run.execution_id, event.sequence, flush=True)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program, sample.address, json.dumps(chain(gate, trace))],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stdout is not None
        execution_id = child.stdout.readline().split()[0]
        gate.arrived("one")
    finally:
        child.kill()
        child.communicate(timeout=PATIENCE)
    gate.open()
    with Client(sample.address) as client:
        events = list(client.watch(execution_id))
    assert event_type(events[-1]) == "plan_completed"
    assert trace.read_text("utf-8").splitlines() == ["one 1", "two 1", "three 1"]


def test_a_second_server_is_refused(sample: ServerProcess, tmp_path: Path) -> None:
    """A second server on the same journal, or on the same port, does not start, and says why."""
    same_journal = ServerProcess(tmp_path, app="sample:app")
    with pytest.raises(AssertionError, match="is open in another server"):
        same_journal.start()
    other = tmp_path / "other"
    other.mkdir()
    same_port = ServerProcess(other, app="sample:app")
    same_port.address = sample.address
    with pytest.raises(AssertionError, match=f"can't listen on '?{sample.address}"):
        same_port.start()
