"""Whatever plans grow, map and skip: the promises hold, and a crash at any event changes nothing of the outcome."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.faults.checkers import CHECKERS
from tests.faults.history import History, Kept

from stepwire.v1 import ExecuteRequest, Step, StepSkipped
from stepwire.values import to_python
from stepwire_server import App, StepContext, output_of, when

from .prefixes import left_after
from .rig import START_NS, Rig, folded, of_kind, output, plan, state_of, step, view

PROMISES = ("P2", "P8", "P11", "P12", "P16", "P17")


@st.composite
def steps_(draw: st.DrawFn, stem: str, earlier: list[str], *, most: int, depth: int = 0) -> tuple[Any, ...]:
    """Gives steps, and the batches that those of them that are supervisors add, by their ids."""
    made: list[Step] = []
    batches: dict[str, list[list[Step]]] = {}
    for number in range(draw(st.integers(1, most))):
        name = f"{stem}{number}"
        before = [*earlier, *(one.id for one in made)]
        needs = draw(st.lists(st.sampled_from(before), unique=True, max_size=2)) if before else []
        more: dict[str, Any] = {"depends_on": needs, "weight": draw(st.sampled_from([None, 0.3, 7.0]))}
        if needs and draw(st.integers(0, 2)) == 0:
            more["conditions"] = [draw(conditions_(needs[0]))]
        kind = draw(st.sampled_from(["give", "give", "listed", "mapped", "mapped", "decide"]))
        if kind == "mapped":
            listed: list[Any] = [[], [1], [1, "b", None]] + [output_of(one) for one in before]
            more["for_each"] = {"value": draw(st.sampled_from(listed))}
            more["max_parallel"] = draw(st.sampled_from([0, 1, 2]))
            made.append(step(name, "give", **more))
        elif kind == "decide" and depth < 2:
            made.append(step(name, "decide", **more))
            known = [*before, name]
            added, inner = draw(steps_(f"{name}{'xy'[depth]}", known, most=3, depth=depth + 1))
            cut = draw(st.integers(0, len(added)))
            # In two calls, of which the second has all once more; what comes first may not depend on what comes later.
            batches |= {name: [added[:cut], added], **inner}
        else:
            value = [1, 2] if kind == "listed" else draw(st.sampled_from([0, "text", None, {"a": [1]}]))
            made.append(step(name, "give", input={"value": value}, **more))
    return made, batches


@st.composite
def conditions_(draw: st.DrawFn, step_id: str) -> Any:
    tested = when(step_id, draw(st.sampled_from(["", "/a", "/0"])))
    return draw(
        st.sampled_from(
            [tested.present(), tested.absent(), tested.equals(1), tested.not_equals("text"), tested.one_of(0, [1, 2])]
        )
    )


def app_of(batches: dict[str, list[list[Step]]], started: list[tuple[str, int]]) -> App:
    app = App("anywhere")

    @app.operation()
    async def give(step: StepContext, value: Any = None) -> Any:
        started.append((step.id, step.attempt))
        await asyncio.sleep(0)
        return value

    @app.operation()
    async def decide(step: StepContext) -> list[int]:
        started.append((step.id, step.attempt))
        for batch in batches[step.id]:
            await step.add_steps(batch)
        return [len(batch) for batch in batches[step.id]]

    return app


def outcome(events: list[Any]) -> Any:
    """Returns what an execution has come to, in whatever order things happened."""
    ends = {
        event.step_id: event.WhichOneof("kind") + StepSkipped.Cause.Name(event.step_skipped.cause)
        for event in events
        if event.WhichOneof("kind") in ("step_completed", "step_failed", "step_skipped")
    }
    outputs = {event.step_id: to_python(event.step_completed.output) for event in of_kind(events, "step_completed")}
    whole = output(events) if state_of(events) == "COMPLETED" else state_of(events)
    return ends, outputs, whole, events[-1].progress.percentage == 100


def judge(record: Any, events: list[Any]) -> None:
    kept = Kept(
        execution_id=record.execution_id,
        request_id="",
        request=record.request,
        create_time_ns=record.create_time_ns,
        epoch=record.epoch,
        state=record.state,
        last_sequence=record.last_sequence,
        snapshot=record.snapshot,
        firsts=[1],
        counts=[len(events)],
        frames=[event.SerializeToString() for event in events],
    )
    history = History(complete=True, journal={record.execution_id: kept}, wall=START_NS / 1e9)
    found = {name: said for name in PROMISES if (said := list(CHECKERS[name](history)))}
    assert found == {}


@pytest.mark.timeout(300)
@settings(max_examples=200 if os.environ.get("FAULTS_LONG") else 8, deadline=None)
@given(steps_("s", [], most=4), st.sampled_from([0, 1, 2]))
def test_a_crash_at_any_event_changes_nothing(made: Any, bound: int):
    """From every prefix of its events an execution comes to the same: the same steps, ends and outputs, no completed
    step once more, and every promise holds.
    """
    steps, batches = made

    async def go() -> None:
        started: list[tuple[str, int]] = []
        app = app_of(batches, started)
        asked = ExecuteRequest(plan=plan(*steps))
        asked.options.max_parallel_steps = bound
        async with Rig(app) as rig:
            execution_id = await rig.start(asked)
            whole = await rig.ended(execution_id)
            first = await rig.engine.get(execution_id)
            judge(first, whole)
        for count in range(len(whole)):
            started.clear()
            async with Rig(app, journal=await left_after(first, whole[:count]), recover=True) as rig:
                live = rig.engine._live[execution_id].fold
                events = await rig.ended(execution_id)
                record = await rig.engine.get(execution_id)
                judge(record, events)
                assert view(live) == view(folded(record, events))
            assert outcome(events) == outcome(whole), count
            done = {event.step_id for event in of_kind(whole[:count], "step_completed")}
            assert not done & {name for name, _ in started}

    asyncio.run(go())
