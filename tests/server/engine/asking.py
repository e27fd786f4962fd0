"""What the tests of questions share: an app that asks, what it asked, and answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from google.protobuf import struct_pb2

from stepwire.v1 import Event, InputRequested
from stepwire.values import to_python, to_value
from stepwire_server import App
from stepwire_server.journal import ExecutionRecord

from .rig import Rig, of_kind

Operation = Callable[..., Awaitable[Any]]


def app_of(operation: Operation, **options: Any) -> App:
    """Returns an app with one operation, `op`."""
    app = App("asking")
    app.operation("op", **options)(operation)
    return app


async def asked(rig: Rig, execution_id: str, *, count: int = 1) -> InputRequested:
    """Returns the question that was asked as the `count`th, once it is durable."""
    return (await rig.durable(execution_id, "input_requested", count=count)).input_requested


async def answer(rig: Rig, execution_id: str, value: Any, *, to: str = "", actor: str = "Ada") -> ExecutionRecord:
    """Answers the question that was asked last, or another one."""
    if not to:
        to = of_kind(await rig.events(execution_id), "input_requested")[-1].input_requested.input_id
    sent = value if isinstance(value, struct_pb2.Value) else to_value(value)
    return await rig.engine.provide(execution_id, to, sent, actor=actor)


def received(events: list[Event]) -> list[tuple[Any, bool]]:
    """Returns the answers, each with whether it is the end of the time; "-" where there is none."""
    return [
        (
            to_python(event.input_received.value) if event.input_received.HasField("value") else "-",
            event.input_received.expired,
        )
        for event in of_kind(events, "input_received")
    ]


async def crash(app: App, rig: Rig, execution_id: str, times: int, kind: str, count: int) -> Rig:
    """Takes an execution over so many times, each time when it has come to one more event of a kind."""
    for number in range(times):
        rig = Rig(app, journal=rig.journal, leaves_tasks=True, recover=True)
        await rig.__aenter__()
        await rig.durable(execution_id, kind, count=count + number + 1)
    return rig
