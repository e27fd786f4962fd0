"""The honest caller beside a hostile one: asks and executes without a break, and remembers how long each took."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

import grpc.aio

from stepwire.v1 import EventBatch, ExecuteRequest, GetServerInfoRequest, GetServerInfoResponse, Plan
from stepwire_server import plan_step

__all__ = ["EVENTS", "Honest", "Timings"]

_SERVICE = "/stepwire.v1.ExecutionService/"

EVENTS = 14
"""Of one Execute: of the plan 2, of each of its 6 steps 2."""

_PLAN = Plan(
    steps=[plan_step(f"s{n}", "echo", input={"value": n}, depends_on=[f"s{n - 1}"] if n else []) for n in range(6)]
)

_DEADLINE = 30.0


@dataclass(slots=True)
class Timings:
    """How long calls took, in seconds."""

    asked: list[float] = field(default_factory=list)
    executed: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    """What went wrong, call by call."""

    @staticmethod
    def percentile(taken: list[float], percent: float) -> float:
        """Returns what so many percent of the calls did not exceed, in milliseconds."""
        ranked = sorted(taken)
        return 1_000 * ranked[min(len(ranked) - 1, int(len(ranked) * percent / 100))] if ranked else float("nan")

    def shown(self, taken: list[float]) -> str:
        """Returns the median and the 99th percentile."""
        return f"{self.percentile(taken, 50):.1f} / {self.percentile(taken, 99):.1f}"


class Honest:
    """One caller on a channel of its own."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.aio.insecure_channel(address, options=[("grpc.enable_retries", 0)])

    async def close(self) -> None:
        """Closes the channel."""
        await self._channel.close()

    async def info(self) -> GetServerInfoResponse:
        """Asks the server how it is."""
        call: Any = self._channel.unary_unary(
            _SERVICE + "GetServerInfo",
            request_serializer=GetServerInfoRequest.SerializeToString,
            response_deserializer=GetServerInfoResponse.FromString,
        )
        answer: GetServerInfoResponse = await call(GetServerInfoRequest(), timeout=_DEADLINE)
        return answer

    async def execute(self) -> str:
        """Executes the plan, and says what is wrong with what came; an empty text for nothing."""
        call: Any = self._channel.unary_stream(_SERVICE + "Execute", response_deserializer=EventBatch.FromString)(
            ExecuteRequest(plan=_PLAN).SerializeToString(), timeout=_DEADLINE
        )
        events = [event async for batch in call for event in batch.events]
        if [event.sequence for event in events] != list(range(1, EVENTS + 1)):
            return f"sequences {[event.sequence for event in events]}"
        kinds = [event.WhichOneof("kind") for event in events]
        return "" if kinds.index("plan_completed") == EVENTS - 1 else f"ends with {kinds[-1]}"

    async def work(self, *, executes: int, seconds: float, at_once: int = 2) -> Timings:
        """Executes so many plans, some at once, and asks how the server is all the while, for so long at least."""
        timings = Timings()
        until = time.perf_counter() + seconds
        left = executes

        async def execute() -> None:
            nonlocal left
            while left > 0:
                left -= 1
                begun = time.perf_counter()
                try:
                    wrong = await self.execute()
                except grpc.aio.AioRpcError as error:
                    wrong = f"Execute: {error.code().name} {error.details()}"
                timings.executed.append(time.perf_counter() - begun)
                if wrong:
                    timings.failed.append(wrong)

        async def ask(working: list[asyncio.Task[None]]) -> None:
            while time.perf_counter() < until or not all(task.done() for task in working):
                begun = time.perf_counter()
                try:
                    await self.info()
                except grpc.aio.AioRpcError as error:
                    timings.failed.append(f"GetServerInfo: {error.code().name} {error.details()}")
                timings.asked.append(time.perf_counter() - begun)
                # Not as fast as it goes: a caller who floods is no measure.
                await asyncio.sleep(timings.asked[-1] + 0.001)

        async with asyncio.TaskGroup() as group:
            working = [group.create_task(execute()) for _ in range(at_once)]
            group.create_task(ask(working))
        return timings
