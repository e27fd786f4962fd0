"""Parts of a step: what their author may write, and what each call records."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest

from stepwire.errors import LimitSize
from stepwire.parts import MAX_DEPTH, MAX_PARTS
from stepwire.v1 import Event, Retry, StepState
from stepwire_server import App, BlockingStepContext, Report, StepContext
from stepwire_server.engine.reckoning import Rule

from .rig import HANGS, Rig, VirtualClock, kinds, of_kind, output, request, step, view, well_formed


async def run(operation: Any, *, rule: Rule | None = None, retry: Retry | None = None, **more: Any) -> list[Event]:
    """Returns the events of an execution of one step that calls the operation, once they fold to what was live."""
    app = App("parts")
    app.operation("op", progress=rule, retry=retry)(operation)
    async with Rig(app, clock=VirtualClock(skip=True)) as rig:
        execution_id = await rig.start(request(step("a", "op", name="A step"), **more))
        live = rig.engine._live[execution_id].recorder.fold
        events = await rig.ended(execution_id)
        assert view(await rig.fold(execution_id)) == view(live)
    well_formed(events)
    return events


def told(events: list[Event]) -> list[tuple[str, str, float, float | None]]:
    """Returns of each report of a part: path, state, its percentage, and the step's beside it."""
    reports = [event.step_progress for event in of_kind(events, "step_progress")]
    return [
        (
            report.substep.path,
            StepState.Name(report.substep.state).removeprefix("STEP_STATE_"),
            round(report.substep.percentage, 3),
            round(report.percentage, 3) if report.HasField("percentage") else None,
        )
        for report in reports
    ]


NESTED = [
    ("", "UNSPECIFIED", 0, 0),
    ("Pay", "RUNNING", 0, 0),
    ("Pay", "PROGRESS", 50, 25),
    ("Pay/Challenge", "RUNNING", 0, 25),
    ("Pay/Challenge/Wait", "RUNNING", 0, 25),
    ("Pay/Challenge/Wait", "PROGRESS", 80, 40),
    ("Pay/Challenge/Wait", "COMPLETED", 100, 50),
    ("Pay/Challenge", "COMPLETED", 100, 50),
    ("Pay", "COMPLETED", 100, 50),
    ("Ship", "RUNNING", 0, 50),
    ("Ship", "COMPLETED", 100, 100),
]


async def test_three_deep():
    """Each call is one event about one part, and the step's percentage stands beside it, rolled up by the weights."""

    async def op(step: StepContext) -> None:
        await step.substeps({"Pay": 2, "Ship": 2})
        async with step.substep("Pay") as pay:
            await pay.progress(50, "Waiting for the bank")
            async with pay.substep("Challenge", weight=7) as challenge, challenge.substep("Wait") as wait:
                await wait.progress(80)
        async with step.substep("Ship"):
            pass

    events = await run(op)
    assert told(events) == NESTED
    declared, begun, said = of_kind(events, "step_progress")[:3]
    assert [(part.path, part.name, part.weight, part.state) for part in declared.step_progress.declared] == [
        ("Pay", "Pay", 2, StepState.STEP_STATE_PENDING),
        ("Ship", "Ship", 2, StepState.STEP_STATE_PENDING),
    ]
    assert (declared.message, begun.message, said.message) == (
        "Parts: Pay, Ship",
        "Started: Pay",
        "Waiting for the bank",
    )
    assert (said.step_progress.substep.name, said.step_progress.substep.weight) == ("Pay", 2)
    assert kinds(events).count("step_progress") == len(NESTED)
    assert {event.progress.total_steps for event in events} == {1}


async def test_three_deep_in_a_thread():
    """A plain function says the same with plain blocks."""

    def op(step: BlockingStepContext) -> None:
        step.substeps({"Pay": 2, "Ship": 2})
        with step.substep("Pay") as pay:
            pay.progress(50, "Waiting for the bank")
            with pay.substep("Challenge", weight=7) as challenge, challenge.substep("Wait") as wait:
                wait.progress(80)
        with step.substep("Ship"):
            pass

    assert told(await run(op)) == NESTED
