"""Plans that grew, when what made them grow runs once more: another attempt, or a retry of the execution."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from stepwire.errors import InputInvalid, PlanInvalid, RequestMalformed, Violation
from stepwire_server import App, StepContext, output_of, plan_step
from stepwire_server.engine import graph, growth
from stepwire_server.engine.foresight import Foresight
from stepwire_server.engine.times import Times

from .rig import Rig, about, failure_of, kind_of, of_kind, output, plan, state_of, step


class Doubling:
    """An app that maps over what it is told to list."""

    def __init__(self) -> None:
        self.listed: Any = [1, 2, 3]
        self.calls: list[int] = []
        self.broken = False
        self.app = App("doubling")

        @self.app.operation()
        async def make() -> Any:
            return self.listed

        @self.app.operation()
        async def double(number: int) -> int:
            self.calls.append(number)
            return 2 * number

        @self.app.operation()
        async def check() -> None:
            if self.broken:
                raise RuntimeError("not yet")


@pytest.fixture
def small_plans(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan has at most 20 steps."""
    monkeypatch.setattr(graph, "MAX_STEPS", 20)
    monkeypatch.setattr(growth, "MAX_STEPS", 20)


@pytest.mark.usefixtures("small_plans")
async def test_a_mapped_step_added_again_needs_no_room_for_its_items_again():
    """Adding an identical mapped step whose items fill most of the plan is a no-op; another one has no room."""
    work = Doubling()
    ended = asyncio.Event()

    @work.app.operation()
    async def decide(step: StepContext) -> None:
        large = _mapped(range(12))
        await step.add_steps([large])
        await ended.wait()
        await step.add_steps([large])
        with pytest.raises(PlanInvalid, match="room for 5 more steps"):
            await step.add_steps([_mapped(range(12), "other")])

    async with Rig(work.app) as rig:
        execution_id = await rig.start(plan(step("decide")))
        await rig.durable(execution_id, "plan_revised", count=2)
        ended.set()
        events = await rig.ended(execution_id)
    assert state_of(events) == "COMPLETED"
    assert len(of_kind(events, "plan_revised")) == 2


@pytest.mark.usefixtures("small_plans")
async def test_a_retry_of_a_plan_that_its_items_fill_is_not_refused():
    """The items of the plan as it ran have their room, whatever the list that stands in it."""
    work = Doubling()
    work.broken = True
    async with Rig(work.app) as rig:
        first = await rig.run(plan(_mapped(range(12)), step("check", depends_on=["m"])))
        assert state_of(first) == "FAILED"
        work.broken = False
        again = await rig.engine.retry(first[0].execution_id, step_ids=[], actor="", reason="")
        events = await rig.ended(again.execution_id)
    assert state_of(events) == "COMPLETED"
    assert len(work.calls) == 12


async def test_items_that_a_retry_makes_anew_are_not_judged_by_the_old_ones():
    """Where the list is made again, an item of the old one that did not fit does not refuse the retry; else it does."""
    work = Doubling()
    work.listed = [1, "two", 3]
    async with Rig(work.app) as rig:
        first = await rig.run(plan(step("make"), _mapped(output_of("make"))))
        assert failure_of(first, "m-2")[0] == "INPUT_INVALID"
        work.listed = [1, 2, 3]
        with pytest.raises(InputInvalid, match=r"input\.number"):
            await rig.engine.retry(first[0].execution_id, step_ids=[], actor="", reason="")
        again = await rig.engine.retry(first[0].execution_id, step_ids=["make"], actor="", reason="")
        assert output(await rig.ended(again.execution_id)) == [2, 4, 6]


async def test_no_step_that_was_added_to_an_item_is_left_out_without_a_word():
    """Where items are made anew, what was added to depend on them needs the step that added it, which must be named."""
    work = Doubling()

    @work.app.operation()
    async def decide(step: StepContext) -> None:
        await listed.wait()
        await step.add_steps([plan_step("more", "double", input={"number": output_of("m-1")})])

    listed = asyncio.Event()
    async with Rig(work.app) as rig:
        execution_id = await rig.start(plan(step("make"), step("decide"), _mapped(output_of("make"))))
        await rig.durable(execution_id, "plan_revised")
        listed.set()
        await rig.ended(execution_id)
        with pytest.raises(RequestMalformed) as raised:
            await rig.engine.retry(execution_id, step_ids=["make"], actor="", reason="")
        text = "does not name 'decide', which added 'more': that needs an item made anew"
        assert list(raised.value.violations) == [Violation("step_ids", text)]
        listed.clear()
        again = await rig.engine.retry(execution_id, step_ids=["make", "decide"], actor="", reason="")
        await rig.durable(again.execution_id, "plan_revised")
        listed.set()
        events = await rig.ended(again.execution_id)
    assert output(events, "more") == 4


async def test_an_estimate_that_fails_keeps_nothing_from_being_recorded(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """Where the time remaining can't be reckoned, the events come without it, and the log says why."""

    def fail(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Foresight, "_estimate", fail)
    with caplog.at_level(logging.ERROR):
        async with Rig(Doubling().app) as rig:
            events = await rig.run(plan(step("make")))
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert about(events, "make") == ["step_started", "step_completed"]
    assert kind_of(events[-1]) == "plan_completed"
    assert not any(event.progress.HasField("remaining") for event in events)
    assert caplog.text.count("time remaining") == 1


def test_a_step_is_in_the_plan_from_the_growth_that_added_it():
    """Of many growths the last one that is not beyond the step counts; before the first, the plan's own beginning."""
    times = Times()
    times.begin(1)
    for count in range(5, 10_000, 5):
        times.grow(count, count)
    for index in range(10_000):
        assert times.declared(index).ns == (index - index % 5 or 1)


def _mapped(items: Any, name: str = "m") -> Any:
    return step(name, "double", for_each={"number": items})
