"""What is left of an execution that has ended."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Iterator

import pytest

from stepwire_server import App, StepContext
from stepwire_server.engine.executor import Executor
from stepwire_server.engine.recorder import Recorder
from stepwire_server.engine.step_runner import StepRunner

from .rig import Rig, request, step, until

KINDS = (Executor, Recorder, StepContext, StepRunner)


@pytest.fixture
def uncollected() -> Iterator[None]:
    """What nothing refers to any more is freed, and nothing else: circles stay. Nothing is logged: it would be kept."""
    gc.collect()
    gc.disable()
    logging.disable()
    yield
    logging.disable(logging.NOTSET)
    gc.enable()


def held() -> list[str]:
    return [type(found).__name__ for found in gc.get_objects() if isinstance(found, KINDS)]


async def test_an_execution_that_has_ended_is_freed_at_once(uncollected: None) -> None:
    """Of an execution that has ended nothing is left for the garbage collector, which holds everything up."""
    app = App("freed")
    before = len(held())

    @app.operation()
    async def work(step: StepContext) -> str:
        async with step.substep("part") as part:
            await part.progress(50)
        await step.content("piece")
        await step.pausepoint()
        return step.id

    @app.operation()
    async def fails(step: StepContext) -> None:
        await step.save(1)
        raise ValueError("as it should")

    async with Rig(app) as rig:
        await rig.run(request(step("a", "work"), step("b", "work", depends_on=["a"]), step("c", "fails")))
        await until(lambda: not rig.engine.running)
        for _ in range(3):
            await asyncio.sleep(0)
        assert len(held()) == before, held()
