"""One watch of many executions, over a server that dies and comes back."""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import stepwire.aio
from stepwire import Client, is_terminal
from stepwire.v1 import Event

from .serving import PATIENCE, Gate, ServerProcess

HELD = 30
QUICK = 20
CHAIN = {
    "steps": [
        {"id": f"s{number}", "operation": "say", "depends_on": [f"s{number - 1}"] if number else []}
        for number in range(4)
    ]
}


def held(gate: Gate, number: int) -> dict[str, Any]:
    """A plan that reports six times and waits at the gate before each third of it."""
    step = {"id": f"a{number}", "operation": "paced", "input": {"gate": gate.port, "bursts": [2, 2, 2]}}
    return {"steps": [step]}


class Watchers:
    """Both clients, each in a thread, with one watch until so many executions have ended."""

    def __init__(self, address: str, *, ends: int) -> None:
        self.events: dict[str, dict[str, list[Event]]] = {"sync": defaultdict(list), "aio": defaultdict(list)}
        self._ends = ends
        self._told = threading.Condition()
        self._begun = threading.Barrier(3)
        self._pool = ThreadPoolExecutor(2)
        self._reads: list[Future[None]] = [
            self._pool.submit(self._read_sync, address),
            self._pool.submit(lambda: asyncio.run(self._read_aio(address))),
        ]
        self._begun.wait(PATIENCE)

    def have(self, progress: int, ended: int) -> None:
        """Returns once both have read so many reports of steps that are held, and so many ends."""
        with self._told:
            assert self._told.wait_for(
                lambda: all(self._count(name) == (progress, ended) for name in self.events), PATIENCE
            ), {name: self._count(name) for name in self.events}

    def finish(self) -> None:
        """Returns once both have read to the end. Raises what either of them raised."""
        for read in self._reads:
            read.result(PATIENCE)
        self._pool.shutdown()

    def _count(self, name: str) -> tuple[int, int]:
        read = [event for events in self.events[name].values() for event in events]
        held = [event for event in read if event.step_id.startswith("a") and event.HasField("step_progress")]
        return len(held), sum(map(is_terminal, read))

    def _take(self, name: str, event: Event) -> bool:
        """Notes an event. Returns whether it was the last."""
        with self._told:
            self.events[name][event.execution_id].append(event)
            self._told.notify_all()
            return is_terminal(event) and self._count(name)[1] == self._ends

    def _read_sync(self, address: str) -> None:
        with Client(address) as client:
            watch = client.watch_executions(session_id="many")
            self._begun.wait(PATIENCE)
            for event in watch:
                if self._take("sync", event):
                    break

    async def _read_aio(self, address: str) -> None:
        async with stepwire.aio.Client(address) as client:
            watch = await client.watch_executions(labels={"of": "many"})
            self._begun.wait(PATIENCE)
            async for event in watch:
                if self._take("aio", event):
                    break


def test_nothing_is_lost_over_a_kill(sample: ServerProcess, gate: Gate) -> None:
    """A server is killed and started again in the middle of 50 executions, some of which had ended and are compacted
    at the start: one watch, in either client, gives every event of each of them once and in order, and no other.
    """
    marks: dict[str, Any] = {"session_id": "many", "labels": {"of": "many"}}
    watchers = Watchers(sample.address, ends=HELD + QUICK)
    with Client(sample.address) as client:
        names = [client.start(plan=held(gate, number), **marks).execution_id for number in range(HELD)]
        names += [started.execution_id for started in client.start_batch([{"plan": CHAIN, **marks}] * QUICK)]
        client.start(plan=CHAIN)
        for number in range(HELD):
            gate.release(f"a{number}")
        watchers.have(progress=2 * HELD, ended=QUICK)
        for number in range(HELD):
            gate.release(f"a{number}")
        sample.kill()
        gate.open()
        sample.start()
        watchers.finish()
        for name in names:
            wanted = [event.SerializeToString(deterministic=True) for event in client.events(name)]
            for events in watchers.events.values():
                assert [event.SerializeToString(deterministic=True) for event in events[name]] == wanted
        assert all(set(events) == set(names) for events in watchers.events.values())


def test_another_process_goes_on(sample: ServerProcess) -> None:
    """A position that one client has kept is where another one goes on, also after the server was started again."""
    with Client(sample.address) as client:
        first = client.watch_executions()
        names = [client.start(plan=CHAIN).execution_id for _ in range(5)]
        seen: dict[str, int] = {}
        for event in first:
            seen[event.execution_id] = event.sequence
            if sum(seen.values()) > 40:
                break
        position = first.position
        for name in names:
            client.wait(name)
    assert sample.terminate() == 0
    sample.start()
    with Client(sample.address) as client:
        last = {name: client.get(name).as_of_sequence for name in names}
        for event in client.watch_executions(execution_ids=names, after_position=position):
            known = seen.get(event.execution_id, 0)
            assert event.sequence <= known + 1, "nothing may be missing"
            seen[event.execution_id] = max(known, event.sequence)
        assert seen == last
