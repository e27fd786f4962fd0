"""Many watchers of one execution, in one process: raw streams, of which a few decode every event.

Thousands of full clients would measure the client's machine. Each of these follows the ranges of the messages, so that
nothing can be lost unseen, and lets the events' bytes be; every fiftieth decodes and checks every event.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterable
from typing import Any

import grpc.aio
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

import stepwire.aio
from stepwire.events import is_terminal
from stepwire.requests import METHODS, duration
from stepwire.transport import channel_options
from stepwire.v1 import Event, EventBatch, Plan, WatchExecutionRequest

from .readers import nanoseconds
from .subject import Disorder, Figures, Order

__all__ = ["Crowd", "count", "decode"]

_PER_CHANNEL = 2_500
"""Streams on one connection: the server admits 4,000."""

_DECODES = 50
"""Each watcher of this many decodes every event."""


def _ranges() -> Any:
    """Returns a message that knows two fields of EventBatch, its range: the events are passed over without decoding."""
    file = descriptor_pb2.FileDescriptorProto(name="bench/range.proto", package="bench", syntax="proto3")
    message = file.message_type.add(name="Range")
    for name in ("after_sequence", "sequence"):
        field = EventBatch.DESCRIPTOR.fields_by_name[name]
        message.field.add(
            name=name,
            number=field.number,
            type=descriptor_pb2.FieldDescriptorProto.TYPE_INT64,
            label=descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL,
        )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("bench.Range"))


_Range = _ranges()


class Crowd:
    """The watchers of one execution."""

    def __init__(self, target: str, client: stepwire.aio.Client) -> None:
        self._target = target
        self._client = client
        self._channels: list[grpc.aio.Channel] = []
        self._calls: list[Any] = []
        self._tasks: list[asyncio.Task[Any]] = []
        self._idle_id = ""

    async def close(self) -> None:
        await self.release()
        for channel in self._channels:
            await channel.close()

    async def hold(self, plan: Plan) -> Figures:
        """Starts an execution that waits for an answer. Returns what names it, and its question."""
        run = await self._client.execute(plan=plan)
        async for event in run:
            if event.HasField("input_requested"):
                return {"execution_id": run.execution_id, "input_id": event.input_requested.input_id}
        raise Disorder("it ended without a question")

    async def watch(self, plan: Plan, watchers: int, events: int) -> Figures:
        """Lets so many watchers follow one execution, which begins to emit when all are there."""
        question = await self.hold(plan)
        execution_id = question["execution_id"]
        calls = self._open(execution_id, watchers, heartbeat=3600.0)
        begun = [asyncio.Event() for _ in calls]
        readers = [
            decode(call, here, events) if number % _DECODES == 0 else count(call, here, events)
            for number, (call, here) in enumerate(zip(calls, begun, strict=True))
        ]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(reader) for reader in readers]
            for here in begun:
                await here.wait()
            start = time.perf_counter()
            await self._client.answer(execution_id, question["input_id"], True)
        seconds = time.perf_counter() - start
        own = tasks[0].result()
        return {"watchers": watchers, "events": events, "seconds": seconds, "own_seconds": own}

    async def idle(self, plan: Plan, watchers: int, *, heartbeat: float) -> Figures:
        """Opens so many streams on an execution that waits, and keeps them until `release`."""
        start = time.perf_counter()
        question = await self.hold(plan)
        self._idle_id = question["execution_id"]
        self._calls = self._open(self._idle_id, watchers, heartbeat=heartbeat)
        begun = [asyncio.Event() for _ in self._calls]
        self._tasks = [asyncio.create_task(_waiting(call, here)) for call, here in zip(self._calls, begun, strict=True)]
        for here, task in zip(begun, self._tasks, strict=True):
            waits = asyncio.create_task(here.wait())
            await asyncio.wait([waits, task], return_when=asyncio.FIRST_COMPLETED)
            waits.cancel()
            if task.done():
                task.result()
        return {"watchers": watchers, "seconds": time.perf_counter() - start}

    async def crawl(self, execution_id: str, *, pause: float) -> Figures:
        """Opens a stream that reads a message each `pause` seconds, beside whatever else goes on, until `release`."""
        (call,) = self._calls = self._open(execution_id, 1, heartbeat=3600.0)
        begun = asyncio.Event()
        self._tasks = [asyncio.create_task(_crawling(call, begun, pause))]
        await begun.wait()
        return {"watchers": 1}

    async def release(self) -> Figures:
        """Ends all streams that were kept open. Says how many, and up to which event those that crawled had come."""
        open_calls, self._calls = self._calls, []
        tasks, self._tasks = self._tasks, []
        for call in open_calls:
            call.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        failed = [error for error in ended if isinstance(error, BaseException)]
        if failed:
            raise Disorder(f"{len(failed)} of {len(ended)} streams failed, such as: {failed[0]}")
        if self._idle_id:
            execution_id, self._idle_id = self._idle_id, ""
            await self._client.cancel(execution_id)
            await self._client.wait(execution_id)
        return {"released": len(open_calls), "reached": max([*ended, 0])}

    def _open(self, execution_id: str, watchers: int, *, heartbeat: float) -> list[Any]:
        while len(self._channels) < math.ceil(watchers / _PER_CHANNEL):
            options = channel_options([("grpc.use_local_subchannel_pool", 1)])
            self._channels.append(grpc.aio.insecure_channel(self._target, options=options))
        request = WatchExecutionRequest(execution_id=execution_id, heartbeat_interval=duration(heartbeat))
        methods = [
            channel.unary_stream(METHODS["WatchExecution"].path, WatchExecutionRequest.SerializeToString)
            for channel in self._channels
        ]
        return [methods[number // _PER_CHANNEL](request, wait_for_ready=True) for number in range(watchers)]


async def count(call: AsyncIterable[bytes], begun: asyncio.Event, events: int) -> None:
    """Follows the ranges: each begins where the one before ended, and the last one ends with the execution's end."""
    reached = 0
    async for data in call:
        begun.set()
        covered = _Range.FromString(data)
        if covered.sequence > reached:
            if covered.after_sequence != reached:
                raise Disorder(f"a message goes on after {covered.after_sequence} where {reached} was reached")
            reached = covered.sequence
    if reached != events:
        raise Disorder(f"{reached} events of {events} came")


async def decode(call: AsyncIterable[bytes], begun: asyncio.Event, events: int) -> float:
    """Checks every event. Returns how long the execution took, by its events' times, from when it began to emit."""
    order = Order(events)
    first = event = None
    async for data in call:
        begun.set()
        for event in EventBatch.FromString(data).events:
            order.see(event.sequence)
            if first is None and event.HasField("content"):
                first = event
    order.finish()
    if not isinstance(first, Event) or not isinstance(event, Event) or not is_terminal(event):
        raise Disorder("the last event is not the end")
    return (nanoseconds(event) - nanoseconds(first)) / 1e9


async def _waiting(call: Any, begun: asyncio.Event) -> int:
    with contextlib.suppress(asyncio.CancelledError):
        async for data in call:
            if EventBatch.FromString(data).notice == EventBatch.NOTICE_CAUGHT_UP:
                begun.set()
    return 0


async def _crawling(call: Any, begun: asyncio.Event, pause: float) -> int:
    reached = 0
    ended = asyncio.ensure_future(call.code())
    with contextlib.suppress(asyncio.CancelledError):
        while (data := await call.read()) is not grpc.aio.EOF:
            reached = max(reached, _Range.FromString(data).sequence)
            begun.set()
            await asyncio.wait([ended], timeout=pause)
    return reached
