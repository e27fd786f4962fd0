"""The three ways in which the benchmark reads a stream of Stepwire: its async client, its plain one, and bare gRPC."""

from __future__ import annotations

import abc
import asyncio
import time
from dataclasses import dataclass

import grpc.aio

import stepwire
import stepwire.aio
from stepwire.events import is_terminal
from stepwire.requests import METHODS
from stepwire.transport import channel_options
from stepwire.v1 import Event, EventBatch, ExecuteRequest, Plan, WatchExecutionRequest

from .subject import Disorder, Latencies, Order

__all__ = ["AioReader", "BareReader", "Read", "Reader", "SyncReader", "Watched", "nanoseconds"]


@dataclass(frozen=True, slots=True)
class Watched:
    """An execution that is there already, and where to begin in it."""

    execution_id: str
    after: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """What a reader saw, beside the order."""

    first_at: float
    """When the first event came, on time.perf_counter."""
    last: Event


def nanoseconds(event: Event) -> int:
    """Returns when an event was built, on time.time_ns."""
    return event.event_time.seconds * 1_000_000_000 + event.event_time.nanos


class Reader(abc.ABC):
    """Reads a stream to its end. The loops stand in each reader: they are what is measured."""

    @abc.abstractmethod
    def __init__(self, target: str) -> None: ...

    @abc.abstractmethod
    async def read(self, source: Plan | Watched, order: Order, latencies: Latencies | None) -> Read:
        """Runs a plan, or watches an execution, and shows every event to `order`."""

    @abc.abstractmethod
    async def close(self) -> None: ...


class AioReader(Reader):
    """`stepwire.aio.Client`."""

    def __init__(self, target: str) -> None:
        self._client = stepwire.aio.Client(target)

    async def read(self, source: Plan | Watched, order: Order, latencies: Latencies | None) -> Read:
        if isinstance(source, Plan):
            run = await self._client.execute(plan=source)
        else:
            run = await self._client.watch(source.execution_id, after_sequence=source.after)
        event, first_at = None, 0.0
        async for event in run:
            order.see(event.sequence)
            first_at = first_at or time.perf_counter()
            if latencies is not None:
                latencies.add(time.time_ns() - nanoseconds(event))
        return _read(event, first_at)

    async def close(self) -> None:
        await self._client.close()


class SyncReader(Reader):
    """`stepwire.Client`: the same, in a thread that waits."""

    def __init__(self, target: str) -> None:
        self._client = stepwire.Client(target)

    async def read(self, source: Plan | Watched, order: Order, latencies: Latencies | None) -> Read:
        return await asyncio.to_thread(self._read, source, order, latencies)

    def _read(self, source: Plan | Watched, order: Order, latencies: Latencies | None) -> Read:
        if isinstance(source, Plan):
            run = self._client.execute(plan=source)
        else:
            run = self._client.watch(source.execution_id, after_sequence=source.after)
        event, first_at = None, 0.0
        for event in run:
            order.see(event.sequence)
            first_at = first_at or time.perf_counter()
            if latencies is not None:
                latencies.add(time.time_ns() - nanoseconds(event))
        return _read(event, first_at)

    async def close(self) -> None:
        self._client.close()


class BareReader(Reader):
    """grpc.aio and the contract's messages: no resuming, no tracker, as the yardsticks' clients have none."""

    def __init__(self, target: str) -> None:
        self._channel = grpc.aio.insecure_channel(target, options=channel_options([]))

    async def read(self, source: Plan | Watched, order: Order, latencies: Latencies | None) -> Read:
        request: ExecuteRequest | WatchExecutionRequest
        if isinstance(source, Plan):
            method, request = METHODS["Execute"], ExecuteRequest(plan=source)
        else:
            method = METHODS["WatchExecution"]
            request = WatchExecutionRequest(execution_id=source.execution_id, after_sequence=source.after)
        call = self._channel.unary_stream(
            method.path,
            request_serializer=type(request).SerializeToString,
            response_deserializer=EventBatch.FromString,
        )(request)
        event, first_at = None, 0.0
        async for batch in call:
            for event in batch.events:
                order.see(event.sequence)
                first_at = first_at or time.perf_counter()
                if latencies is not None:
                    latencies.add(time.time_ns() - nanoseconds(event))
        return _read(event, first_at)

    async def close(self) -> None:
        await self._channel.close()


def _read(event: Event | None, first_at: float) -> Read:
    if event is None:
        raise Disorder("nothing came")
    if not is_terminal(event):
        raise Disorder(f"the last event, {event.sequence}, is not the end")
    return Read(first_at=first_at, last=event)
