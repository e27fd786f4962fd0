"""Steps that run only where what others gave says so."""

from __future__ import annotations

from typing import Any

import pytest

from stepwire.errors import PlanInvalid
from stepwire.v1 import Condition, ExecutionOptions, OutputRef, StepSkipped
from stepwire.values import to_value
from stepwire_server import App, StepContext, output_of, when
from stepwire_server.engine.acceptance import check_work
from stepwire_server.engine.conditions import unmet

from .prefixes import left_after
from .rig import Rig, about, failure_of, folded, of_kind, output, plan, request, state_of, step, view


def conditional() -> App:
    app = App("conditional")

    @app.operation()
    async def give(value: Any = None) -> Any:
        return value

    @app.operation()
    async def need(value: Any) -> Any:
        return value

    @app.operation()
    async def seen(step: StepContext) -> Any:
        return dict(step.results)

    @app.operation()
    async def fail() -> None:
        raise RuntimeError("no")

    return app


VALUE = {"total": 120, "list": [1, {"a": None}], "text": "120", "yes": True, "none": None, "one": 1, "zero": 0}


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        (when("a", "/total").equals(120), True),
        (when("a", "/total").equals(120.0), True),
        (when("a", "/total").equals("120"), False),
        (when("a", "/text").equals("120"), True),
        (when("a", "/yes").equals(True), True),
        (when("a", "/yes").equals(1), False),
        (when("a", "/one").equals(True), False),
        (when("a", "/zero").equals(-0.0), True),
        (when("a", "/none").equals(None), True),
        (when("a", "/nothing").equals(None), False),
        (when("a", "/list").equals([1, {"a": None}]), True),
        (when("a", "/list").equals([{"a": None}, 1]), False),
        (when("a", "/list").equals([1]), False),
        (when("a", "/list/1").equals({"a": False}), False),
        (when("a", "/list/1").equals({"b": None}), False),
        (when("a").equals(VALUE), True),
        (when("a", "/total").not_equals(120), False),
        (when("a", "/total").not_equals("120"), True),
        (when("a", "/nothing").not_equals(120), False),
        (when("a", "/total").one_of(1, 120), True),
        (when("a", "/total").one_of(1, "120"), False),
        (when("a", "/nothing").one_of(1, None), False),
        (when("a", "/total").above(119.5), True),
        (when("a", "/total").above(120), False),
        (when("a", "/text").above(1), False),
        (when("a", "/yes").above(0), False),
        (when("a", "/none").above(-1), False),
        (when("a", "/nothing").above(-1), False),
        (when("a", "/total").below(120.5), True),
        (when("a", "/total").below(120), False),
        (when("a", "/nothing").below(1), False),
        (when("a", "/none").present(), True),
        (when("a", "/list/1/a").present(), True),
        (when("a", "/list/2").present(), False),
        (when("a", "/nothing").absent(), True),
        (when("a", "/none").absent(), False),
        (Condition(output=OutputRef(step_id="a")), False),
    ],
)
def test_a_test_holds_or_does_not_for_every_value(condition: Condition, holds: bool):
    """Types are kept apart, bounds are exclusive, and where nothing is only its absence holds."""
    tested = step("x", "give", conditions=[condition])
    found = unmet(tested, {"a": to_value(VALUE)}.get)
    assert (found == "") == holds, found
    nothing = unmet(tested, lambda _: None)
    assert (nothing == "") == (condition.WhichOneof("test") == "present" and not condition.present)


def test_the_text_says_what_was_found_and_what_was_wanted():
    """A person reads which value did not fit which test."""
    values = {"a": to_value(VALUE)}.get

    def said(condition: Condition) -> str:
        return unmet(step("x", "give", conditions=[condition]), values)

    assert said(when("a", "/total").above(200)) == "/total of a is 120, not above 200"
    assert said(when("a", "/total").below(2)) == "/total of a is 120, not below 2"
    assert said(when("a", "/text").equals(120)) == '/text of a is "120", not 120'
    assert said(when("a", "/text").one_of("1", "2")) == '/text of a is "120", not one of ["1", "2"]'
    assert said(when("a", "/text").not_equals("120")) == '/text of a is "120"'
    assert said(when("a", "/no").present()) == "/no of a is missing"
    assert said(when("b").present()) == "the output of b is missing"
    assert said(when("a", "/one").absent()) == "/one of a is 1"
    long = unmet(step("x", "give", conditions=[when("a").equals(1)]), {"a": to_value("x" * 500)}.get)
    assert len(long) < 120


async def test_a_step_whose_condition_does_not_hold_is_done_and_what_depends_on_it_goes_on():
    """It is skipped with its reason, counts as done, and gives nothing to those that depend on it."""
    steps = [
        step("check", "give", input={"value": {"total": 50}}),
        step("approve", "need", input={"value": 1}, conditions=[when("check", "/total").above(100)]),
        step("ship", "seen", depends_on=["check", "approve"]),
        step("with", "give", input={"value": output_of("approve")}),
    ]
    async with Rig(conditional()) as rig:
        events = await rig.run(plan(*steps))
    (skipped,) = of_kind(events, "step_skipped")
    assert (skipped.step_id, skipped.step_skipped.cause) == ("approve", StepSkipped.CAUSE_CONDITION)
    assert skipped.message == "Skipped: /total of check is 50, not above 100"
    assert about(events, "approve") == ["step_skipped"]
    assert output(events, "ship") == {"check": {"total": 50}}
    assert output(events, "with") is None
    assert state_of(events) == "COMPLETED"
    assert events[-1].progress.percentage == 100
    assert (events[-1].progress.completed_steps, events[-1].progress.skipped_steps) == (3, 1)
    assert "1 skipped" in events[-1].message
    percentages = [event.progress.percentage for event in events]
    assert percentages == sorted(percentages)


async def test_a_step_whose_conditions_all_hold_runs():
    """Several conditions are joined by and."""
    holds, fails = when("a").equals(1), when("a").equals(2)
    for conditions, runs in (([holds, holds], True), ([holds, fails], False), ([fails, holds], False)):
        async with Rig(conditional()) as rig:
            events = await rig.run(
                plan(step("a", "give", input={"value": 1}), step("b", "give", conditions=conditions))
            )
        assert about(events, "b") == (["step_started", "step_completed"] if runs else ["step_skipped"])


async def test_what_a_skipped_step_would_have_given_is_missing_where_there_is_no_default():
    """A parameter without a default fails its step, with the step that was skipped named."""
    async with Rig(conditional()) as rig:
        events = await rig.run(
            plan(
                step("a", "give"),
                step("b", "give", conditions=[when("a").present(), when("a").equals(2)]),
                step("c", "need", input={"value": output_of("b")}),
            )
        )
    reason, text = failure_of(events, "c")
    assert reason == "INPUT_INVALID"
    assert "input.value: is missing; step 'b', which gives 'value', was skipped by its condition" in text


async def test_conditions_pass_on_from_step_to_step():
    """What depends on a skipped step can be skipped with it, and a whole chain of them ends well."""
    steps = [step("s0", "give", input={"value": False})]
    steps += [step(f"s{i}", "give", conditions=[when(f"s{i - 1}").equals(True)]) for i in range(1, 5)]
    async with Rig(conditional()) as rig:
        events = await rig.run(plan(*steps))
    assert state_of(events) == "COMPLETED"
    assert events[-1].progress.skipped_steps == 4
    assert not events[-1].plan_completed.HasField("output")


async def test_a_failure_skips_also_what_has_conditions():
    """Where a dependency failed no condition is looked at: the step is skipped because of the failure."""
    async with Rig(conditional()) as rig:
        events = await rig.run(plan(step("a", "fail"), step("b", "give", conditions=[when("a").absent()])))
    (skipped,) = of_kind(events, "step_skipped")
    assert skipped.step_skipped.cause == StepSkipped.CAUSE_DEPENDENCY
    assert state_of(events) == "FAILED"


async def test_a_simulation_runs_every_step():
    """Simulated steps give nothing, so that no condition is tested."""
    asked = request(
        step("a", "give"),
        step("b", "give", conditions=[when("a").equals(1)]),
        options=ExecutionOptions(simulate=True),
    )
    async with Rig(conditional()) as rig:
        events = await rig.run(asked)
    assert state_of(events) == "COMPLETED"
    assert events[-1].progress.completed_steps == 2


async def test_conditions_are_judged_the_same_after_a_crash_anywhere():
    """From every prefix of its events an execution skips and runs the same steps."""
    asked = plan(
        step("a", "give", input={"value": 1}),
        step("no", "give", conditions=[when("a").equals(2)]),
        step("yes", "seen", conditions=[when("a").equals(1), when("no").absent()]),
        step("last", "seen", depends_on=["yes", "no"]),
    )
    app = conditional()
    async with Rig(app) as rig:
        execution_id = await rig.start(asked)
        whole = await rig.ended(execution_id)
        record = await rig.engine.get(execution_id)
    assert output(whole) == {"yes": {"a": 1}}
    for count in range(len(whole)):
        async with Rig(app, journal=await left_after(record, whole[:count]), recover=True) as rig:
            live = rig.engine._live[execution_id].fold
            events = await rig.ended(execution_id)
            assert view(live) == view(folded(await rig.engine.get(execution_id), events))
        assert output(events) == {"yes": {"a": 1}}, count
        assert [event.step_id for event in of_kind(events, "step_skipped")] == ["no"]


async def test_a_retry_keeps_what_a_condition_skipped_and_judges_anew_what_runs_again():
    """Without new outputs nothing is judged again; where what it tests runs again, it is."""
    app = conditional()
    values = [1, 2]

    @app.operation()
    async def draw() -> int:
        return values.pop(0)

    @app.operation()
    async def flaky() -> None:
        if values != []:
            raise RuntimeError("not yet")

    steps = [
        step("draw"),
        step("two", "give", conditions=[when("draw").equals(2)]),
        step("flaky", depends_on=["two"]),
    ]
    async with Rig(app) as rig:
        first = await rig.run(plan(*steps))
        assert about(first, "two") == ["step_skipped"]
        execution_id = first[0].execution_id
        kept = await rig.engine.retry(execution_id, step_ids=[], actor="", reason="")
        events = await rig.ended(kept.execution_id)
        assert [event.metadata["kept_from"] for event in events if event.step_id == "two"] == [execution_id]
        again = await rig.engine.retry(execution_id, step_ids=["draw"], actor="", reason="")
        events = await rig.ended(again.execution_id)
        assert about(events, "two") == ["step_started", "step_completed"]
        assert state_of(events) == "COMPLETED"


@pytest.mark.parametrize(
    ("condition", "field"),
    [
        (when("b").equals(1), "output.step_id"),
        (Condition(equals=to_value(1)), "output.step_id"),
        (when("a", "total").equals(1), "output.json_pointer"),
        (Condition(output=OutputRef(step_id="a")), ""),
        (when("a").one_of(), "one_of"),
        (when("a").above(float("nan")), "above"),
        (when("a").below(float("inf")), "below"),
        (Condition(output=OutputRef(step_id="a"), equals={}), "equals"),
        (Condition(output=OutputRef(step_id="a"), not_equals={"number_value": float("inf")}), "not_equals"),
        (Condition(output=OutputRef(step_id="a"), one_of={"values": [to_value(1), {}]}), "one_of[1]"),
    ],
)
def test_a_condition_that_can_t_be_tested_is_refused_with_its_field(condition: Condition, field: str):
    """A step that it does not depend on, a pointer that is none, no test and values that JSON lacks are named."""
    steps = [step("a", "give"), step("b", "give"), step("x", "give", depends_on=["a"])]
    steps[2].conditions.extend([when("a").equals(1), condition])
    with pytest.raises(PlanInvalid) as raised:
        check_work(request(*steps), conditional().catalog())
    expected = "plan.steps[2].conditions[1]" + (f".{field}" if field else "")
    assert [found for found, _ in raised.value.violations] == [expected]


def test_a_condition_says_what_it_tests():
    """A `when` without a test is refused with its step; one condition alone need stand in no list."""
    with pytest.raises(TypeError, match="conditions of step 'b' have Tested"):
        step("b", "work", conditions=[when("a")])
    with pytest.raises(TypeError, match="conditions of step 'b' have Tested"):
        step("b", "work", conditions=when("a"))
    assert list(step("b", "work", conditions=when("a").present()).depends_on) == ["a"]
