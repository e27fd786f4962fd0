"""What Stepwire's side of the benchmark does, one method for each kind of command.

{"events": 20000}, {"events": 4000, "rate": 2000}    one execution that emits, and one watcher; gives `execution_id`
{"calls": 1000, "events": 14}                        so many Executes at once, of three short steps each
{"shape": "chain", "steps": 100}                     steps that do nothing, one after another or ("fan") all at once
{"replay": id, "after": 0, "events": n}              an execution that has ended, from a cursor
{"pages": 10, "size": 100}                           lists executions
{"hold": 20000}, {"follow": id, ...}                 an execution that waits until its watcher is there
{"watchers": 100, "events": 2000}, {"idle": 10000},  many watchers of one execution: `crowd.py`
{"crawl": id}, {"release": true}
"""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise
from types import TracebackType
from typing import Any, Self

import stepwire.aio
from stepwire.events import is_terminal
from stepwire.v1 import Event, Plan, Step
from stepwire.values import to_struct

from .crowd import Crowd
from .readers import AioReader, BareReader, Reader, SyncReader, Watched, nanoseconds
from .subject import Command, Disorder, Figures, Latencies, Order

__all__ = ["ENVELOPE", "Worker", "emitting", "held", "of_steps"]

ENVELOPE = 4
"""Events of an execution of one step beside those that the step emits: two of the plan, two of the step."""

_HELD = 4
"""Events of the step that waits: it starts, asks, is answered, and completes."""

_READERS: dict[str, type[Reader]] = {"aio": AioReader, "sync": SyncReader, "bare": BareReader}


def emitting(events: int, *, rate: float = 0.0) -> Plan:
    """Returns a plan of one step, with so many events in all."""
    given = to_struct({"events": events - ENVELOPE, "rate": rate})
    return Plan(steps=[Step(id="talk", operation="emit", input=given)])


def held(events: int, *, rate: float = 0.0) -> Plan:
    """Returns a plan that emits when its question is answered, with so many events in all."""
    given = to_struct({"events": events - ENVELOPE - _HELD, "rate": rate})
    return Plan(
        steps=[Step(id="wait", operation="hold"), Step(id="talk", operation="emit", input=given, depends_on=["wait"])]
    )


def of_steps(shape: str, steps: int, *, operation: str = "nothing") -> Plan:
    """Returns a plan whose steps run one after another ("chain"), or wait for nothing ("fan")."""
    if shape not in ("chain", "fan"):
        raise ValueError(f"no such shape: {shape}")
    plan = Plan(steps=[Step(id=f"s{number}", operation=operation) for number in range(steps)])
    if shape == "chain":
        for before, step in pairwise(plan.steps):
            step.depends_on.append(before.id)
    return plan


class Worker:
    """Does what comes, over one connection that stays open."""

    def __init__(self, target: str, *, reader: str = "aio") -> None:
        self._client = stepwire.aio.Client(target)
        self._reader = _READERS[reader](target)
        self._crowd = Crowd(target, self._client)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._crowd.close()
        await self._reader.close()
        await self._client.close()

    async def work(self, command: Command) -> Figures:
        """Does one command. Raises where anything is not as it should be."""
        match command:
            case {"calls": calls, "events": events}:
                return await self._calls(calls, events)
            case {"shape": shape, "steps": steps}:
                return await self._steps(shape, steps)
            case {"replay": execution_id, "events": events}:
                return await self._read(Watched(execution_id, command.get("after", 0)), events)
            case {"resume": execution_id, "after": after, "times": times}:
                return await self._resume(execution_id, after, times)
            case {"pages": pages, "size": size}:
                return await self._list(pages, size)
            case {"hold": events}:
                return await self._crowd.hold(held(events, rate=command.get("rate", 0.0)))
            case {"follow": execution_id, "input_id": input_id, "events": events}:
                return await self._follow(execution_id, input_id, events)
            case {"watchers": watchers, "events": events}:
                return await self._crowd.watch(held(events, rate=command.get("rate", 0.0)), watchers, events)
            case {"idle": watchers}:
                return await self._crowd.idle(held(100), watchers, heartbeat=command.get("heartbeat", 3600.0))
            case {"crawl": execution_id}:
                return await self._crowd.crawl(execution_id, pause=command.get("pause", 0.1))
            case {"release": True}:
                return await self._crowd.release()
            case {"events": events}:
                rate = command.get("rate", 0.0)
                return await self._read(emitting(events, rate=rate), events, Latencies() if rate else None)
            case _:
                raise ValueError(f"no such command: {command}")

    async def _read(self, source: Plan | Watched, events: int, latencies: Latencies | None = None) -> Figures:
        after = source.after if isinstance(source, Watched) else 0
        order = Order(after + events, after=after)
        start = time.perf_counter()
        read = await self._reader.read(source, order, latencies)
        seconds = time.perf_counter() - start
        order.finish()
        if not is_terminal(read.last):
            raise Disorder("the last event is not the end")
        return {
            "events": events,
            "seconds": seconds,
            "first_ms": (read.first_at - start) * 1e3,
            "execution_id": read.last.execution_id,
            **(latencies.figures() if latencies else {}),
        }

    async def _resume(self, execution_id: str, after: int, times: int) -> Figures:
        start = time.perf_counter()
        for _ in range(times):
            order = Order(after + 1, after=after)
            await self._reader.read(Watched(execution_id, after), order, None)
            order.finish()
        return {"times": times, "seconds": time.perf_counter() - start}

    async def _calls(self, calls: int, events: int) -> Figures:
        # Three steps, each with its start, two reports and its end: with the plan's start and end that is 14.
        plan = of_steps("chain", 3, operation="report")

        async def call() -> None:
            order = Order(events)
            event: Event | None = None
            async for event in await self._client.execute(plan=plan):
                order.see(event.sequence)
            order.finish()
            if event is None or not is_terminal(event):
                raise Disorder("the last event is not the end")

        start = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(calls):
                group.create_task(call())
        return {"calls": calls, "events": calls * events, "seconds": time.perf_counter() - start}

    async def _steps(self, shape: str, steps: int) -> Figures:
        plan = of_steps(shape, steps)
        order = Order(2 + 2 * steps)
        first = last = None
        completed = 0
        start = time.perf_counter()
        async for event in await self._client.execute(plan=plan):
            order.see(event.sequence)
            first, last = first or event, event
            completed += event.HasField("step_completed")
        seconds = time.perf_counter() - start
        order.finish()
        if first is None or last is None or not last.HasField("plan_completed") or completed != steps:
            raise Disorder(f"{completed} steps of {steps} completed")
        own = (nanoseconds(last) - nanoseconds(first)) / 1e9
        return {"steps": steps, "events": order.seen, "seconds": seconds, "own_seconds": own}

    async def _follow(self, execution_id: str, input_id: str, events: int) -> Figures:
        """Reads an execution that waits for its watcher, from the moment when it is let go."""
        order = Order(events)
        run = await self._client.watch(execution_id)
        answered = asyncio.create_task(self._client.answer(execution_id, input_id, True))
        start = time.perf_counter()
        event: Event | None = None
        async for event in run:
            order.see(event.sequence)
        seconds = time.perf_counter() - start
        await answered
        order.finish()
        if event is None or not is_terminal(event):
            raise Disorder("the last event is not the end")
        return {"events": events, "seconds": seconds}

    async def _list(self, pages: int, size: int) -> Figures:
        start = time.perf_counter()
        found: list[Any] = []
        async for execution in self._client.list(page_size=size):
            found.append(execution.execution_id)
            if len(found) == pages * size:
                break
        seconds = time.perf_counter() - start
        if len(set(found)) != pages * size:
            raise Disorder(f"{len(set(found))} executions came on {pages} pages of {size}")
        return {"pages": pages, "seconds": seconds}
