"""What the tests share: a model at a scripted endpoint, asked by a step that an engine runs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

from tests.server.engine.rig import Rig, VirtualClock, of_kind

from stepwire.v1 import Event, Plan
from stepwire_server import App, StepContext, plan_step
from stepwire_server.models import MODEL_RETRY, Limits, Model

from .endpoint import Endpoint, Script

__all__ = ["LONG", "Ask", "Asked", "Patience", "contents", "errors", "reports"]

Ask = Callable[[StepContext, Model], Awaitable[Any]]


class Patience:
    """Limits that are short where a test says so, and nowhere else: a busy machine may stop anywhere."""

    def __init__(self, *, first: Iterable[float] = (), between: Iterable[float] = ()) -> None:
        """`first`, `between`: one limit for each time that it is looked up; then there is none."""
        self._first, self._between = iter(first), iter(between)
        self.whole, self.tries = LONG, 5

    @property
    def first(self) -> float:
        return next(self._first, LONG)

    @property
    def between(self) -> float:
        return next(self._between, LONG)


LONG = 600.0
"""Seconds that are no limit here."""


class Asked:
    """One step "a" that asks a model.

    async with Asked([says("Hello")]) as asked:
        events = await asked.events()
    """

    def __init__(
        self, script: Script, ask: Ask | None = None, *, limits: Limits | Patience | None = None, **options: Any
    ) -> None:
        self.endpoint = Endpoint(script)
        self.waits: list[float] = []
        """Every wait before another try, in seconds. None takes any time."""
        self.model = Model(
            "tiny",
            url=self.endpoint.url,
            limits=limits,
            sleep=self.sleep,
            chance=lambda: 0.5,
            now=lambda: 1_700_000_000.0,
            **options,
        )
        self._ask = ask or _ask

    async def sleep(self, seconds: float) -> None:
        """Notes a wait, and takes no time."""
        self.waits.append(seconds)

    @asynccontextmanager
    async def rig(self) -> AsyncIterator[Rig]:
        """An engine for the app, while the endpoint listens."""
        app = App("asking")

        @app.operation("ask", retry=MODEL_RETRY)
        async def ask(step: StepContext) -> Any:
            return await self._ask(step, self.model)

        with self.endpoint:
            try:
                async with Rig(app, clock=VirtualClock(skip=True)) as rig:
                    yield rig
            finally:
                await self.model.close()

    async def events(self) -> list[Event]:
        """Returns all events of one execution."""
        async with self.rig() as rig:
            return await rig.run(self.plan)

    @property
    def plan(self) -> Plan:
        """The plan with the step."""
        return Plan(steps=[plan_step("a", "ask")])


async def _ask(step: StepContext, model: Model) -> Any:
    answer = await model.text(step, "Say something")
    return {"text": answer.text, "pieces": answer.pieces, "finish": answer.finish_reason}


def contents(events: list[Event], *, channel: str = "", attempt: int = 1) -> list[str]:
    """Returns the pieces that were streamed."""
    found = [event for event in of_kind(events, "content") if event.attempt == attempt]
    return [event.content.text for event in found if event.content.channel == channel]


def errors(events: list[Event]) -> list[str]:
    """Returns what went wrong while the step went on."""
    return [event.message for event in of_kind(events, "error")]


def reports(events: list[Event]) -> list[tuple[float | None, float]]:
    """Returns percentage and pieces of each report of progress."""
    told = [event.step_progress for event in of_kind(events, "step_progress")]
    return [(one.percentage if one.HasField("percentage") else None, one.current) for one in told]
