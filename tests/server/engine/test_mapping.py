"""Steps that are mapped over a list."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from stepwire.errors import AtMostOnce, PlanInvalid, StepwireError
from stepwire.v1 import Event, ExecutionOptions, Retry, Step
from stepwire_server import App, StepContext, output_of, plan_step, when
from stepwire_server.engine.acceptance import check_work
from stepwire_server.engine.course import Course
from stepwire_server.engine.graph import MAX_PLAN_BYTES, Graph, violations
from stepwire_server.engine.growth import Growth
from stepwire_server.engine.items import item_steps
from stepwire_server.engine.stamp import Stamp

from .prefixes import left_after
from .rig import Rig, about, failure_of, folded, kinds, of_kind, output, plan, request, state_of, step, until, view


class Mapped:
    """An app whose operation `work` doubles numbers, and says how many of them run at once."""

    def __init__(self, listed: Any = (1, 2, 3)) -> None:
        self.listed = listed
        self.running = 0
        self.most = 0
        self.calls: list[tuple[str, Any]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.bad: set[Any] = set()
        self.app = App("mapped")

        @self.app.operation()
        async def give(value: Any = None) -> Any:
            return value

        @self.app.operation()
        async def make() -> Any:
            return self.listed

        @self.app.operation()
        async def seen(step: StepContext) -> Any:
            return dict(step.results)

        @self.app.operation()
        async def work(step: StepContext, number: int, by: int = 2) -> int:
            return await self._work(step, number, by)

        @self.app.operation(at_most_once=True)
        async def once(step: StepContext, number: int, by: int = 2) -> int:
            return await self._work(step, number, by)

    async def _work(self, step: StepContext, number: int, by: int) -> int:
        self.calls.append((step.id, number))
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(0)
            await self.gate.wait()
        finally:
            self.running -= 1
        if number in self.bad:
            raise RuntimeError(f"{number} is bad")
        return number * by


def mapped(items: Any = None, operation: str = "work", **more: Any) -> Step:
    """Returns a step "m" over what the step "make" gives, or over these items."""
    return step("m", operation, for_each={"number": output_of("make") if items is None else items}, **more)


async def test_an_operation_is_called_for_each_item_and_the_outputs_are_a_list():
    """The mapped step begins, the plan gets a step for each item, and it completes with their outputs in order."""
    work = Mapped()
    async with Rig(work.app) as rig:
        events = await rig.run(
            plan(
                step("make"),
                mapped(name="Double", input={"by": 10}, weight=3, timeout=5),
                step("after", "give", input={"value": output_of("m", "/1")}, depends_on=["m"]),
            )
        )
    assert output(events, "m") == [10, 20, 30]
    assert output(events) == 20
    (revised,) = of_kind(events, "plan_revised")
    assert (revised.plan_revised.added_by, revised.message) == ("m", "Double: 3 items")
    for number, item in enumerate(revised.plan_revised.steps, 1):
        expected = plan_step(
            f"m-{number}",
            "work",
            name=f"Double {number}",
            input={"by": 10, "number": number},
            depends_on=["make"],
            weight=1,
            timeout=5,
        )
        assert item == expected
    assert about(events, "m")[0] == "step_started"
    assert about(events, "m")[-1] == "step_completed"
    assert all(event.step_progress.total == 3 for event in of_kind(events, "step_progress"))
    assert about(events, "m-2") == ["step_started", "step_completed"]
    places = {(event.step_id, event.WhichOneof("kind")): event.sequence for event in events}
    assert places["m", "step_started"] < revised.sequence < places["m-1", "step_started"]
    assert places["m", "step_completed"] > max(places[f"m-{i}", "step_completed"] for i in (1, 2, 3))
    assert state_of(events) == "COMPLETED"


async def test_a_list_can_stand_in_the_plan():
    """Literal items need no other step; the execution's output is the list, and no item's."""
    async with Rig(Mapped().app) as rig:
        events = await rig.run(plan(mapped([4, 5])))
    assert output(events) == [8, 10]


@pytest.mark.parametrize("listed", [[], None])
async def test_an_empty_list_gives_an_empty_list(listed: Any):
    """Without items the step is done at once; a list that a skipped step would have given is empty."""
    work = Mapped([])
    source = step("make", conditions=[when("no").present()] if listed is None else [])
    async with Rig(work.app) as rig:
        events = await rig.run(
            plan(
                step("no", "give", conditions=[when("first").equals(1)]),
                step("first", "give"),
                source,
                mapped(),
                step("after", "seen", depends_on=["m"]),
            )
        )
    assert output(events, "m") == []
    assert output(events, "after") == {"m": []}
    assert not of_kind(events, "plan_revised")
    assert events[-1].progress.percentage == 100


@pytest.mark.parametrize(("bound", "slots", "most"), [(0, 0, 6), (2, 0, 2), (1, 0, 1), (9, 3, 3), (2, 1, 1)])
async def test_items_run_side_by_side_within_their_bound(bound: int, slots: int, most: int):
    """max_parallel bounds the items of one step, within the bound of the execution; the mapped step has no slot."""
    work = Mapped([1, 2, 3, 4, 5, 6])
    work.gate.clear()
    asked = request(step("make"), mapped(max_parallel=bound), options=ExecutionOptions(max_parallel_steps=slots))
    async with Rig(work.app) as rig:
        execution_id = await rig.start(asked)
        await until(lambda: work.running == most)
        await rig.quiet()
        assert work.running == most
        work.gate.set()
        events = await rig.ended(execution_id)
    assert work.most == most
    assert output(events) == [2, 4, 6, 8, 10, 12]


async def test_one_item_s_failure_lets_the_others_end_and_fails_the_step():
    """The step fails with the items that failed named, once all have ended, and what depends on it is skipped."""
    work = Mapped([1, 2, 3, 4])
    work.bad = {2, 4}
    async with Rig(work.app) as rig:
        events = await rig.run(plan(step("make"), mapped(max_parallel=1), step("after", "seen", depends_on=["m"])))
    assert failure_of(events, "m") == (
        "STEP_FAILED",
        "2 of 4 items failed: m-2 (RuntimeError: 2 is bad), m-4 (RuntimeError: 4 is bad)",
    )
    assert [number for _, number in work.calls] == [1, 2, 3, 4]
    assert about(events, "after") == ["step_skipped"]
    assert state_of(events) == "FAILED"
    assert "m-2" in failure_of(events)[1]


async def test_fail_fast_ends_the_other_items():
    """With FAIL_FAST the first failure is the end of all, and the mapped step fails with that item."""
    work = Mapped([1, 2, 3])
    work.bad = {1}
    asked = request(
        step("make"),
        mapped(max_parallel=1),
        options=ExecutionOptions(failure_policy=ExecutionOptions.FAILURE_POLICY_FAIL_FAST),
    )
    async with Rig(work.app) as rig:
        events = await rig.run(asked)
    assert about(events, "m-2") == ["step_skipped"]
    assert failure_of(events, "m")[1].startswith("1 of 3 items failed: m-1")
    assert state_of(events) == "FAILED"


async def test_items_are_tried_again_like_other_steps():
    """Each item has the retries of the mapped step, which itself has one attempt."""
    work = Mapped([1, 2])
    work.bad = {2}
    retry = Retry(attempts=2)
    async with Rig(work.app) as rig:
        execution_id = await rig.start(plan(step("make"), mapped(retry=retry)))
        await rig.durable(execution_id, "step_retrying")
        work.bad = set()
        rig.clock.advance(60)
        events = await rig.ended(execution_id)
    assert about(events, "m-2") == ["step_started", "step_retrying", "step_started", "step_completed"]
    assert about(events, "m").count("step_started") == 1
    assert output(events) == [2, 4]


async def test_what_is_no_list_fails_the_step():
    """A text, a missing place, and an item that does not fit fail what they are about."""
    for listed, pointer, text in (
        ("abc", "", "'' in the output of step 'make' is no list"),
        ({"a": 1}, "/b", "'/b' in the output of step 'make' is not there"),
    ):
        async with Rig(Mapped(listed).app) as rig:
            events = await rig.run(
                plan(step("make"), step("m", "work", for_each={"number": output_of("make", pointer)}))
            )
        reason, found = failure_of(events, "m")
        assert reason == "INPUT_INVALID"
        assert text in found
    async with Rig(Mapped([1, "two"]).app) as rig:
        events = await rig.run(plan(step("make"), mapped()))
    assert failure_of(events, "m-2")[0] == "INPUT_INVALID"
    assert failure_of(events, "m")[0] == "STEP_FAILED"


async def test_more_items_than_a_plan_has_room_for_fail_the_step():
    """10,000 steps and 768 KiB hold with the items; a plan that is full to the last step runs."""
    async with Rig(Mapped(list(range(9_999))).app) as rig:
        events = await rig.run(plan(step("make"), mapped()))
    reason, text = failure_of(events, "m")
    assert reason == "LIMIT_SIZE"
    assert "10,001 steps" in text
    async with Rig(Mapped([0] * 60_000).app) as rig:
        events = await rig.run(plan(step("make"), mapped()))
    assert failure_of(events, "m") == ("LIMIT_SIZE", "its 60,000 items: a plan has at most 10,000 steps")
    async with Rig(Mapped([1] * 40).app) as rig:
        events = await rig.run(
            plan(step("make"), step("m", "give", input={}, name="x" * 200, for_each={"value": output_of("make")}))
        )
        assert state_of(events) == "COMPLETED"
        large = ["x" * 20_000] * 45
        work = Mapped(large)
    async with Rig(work.app) as rig:
        events = await rig.run(plan(step("make"), step("m", "give", for_each={"value": output_of("make")})))
    assert failure_of(events, "m")[0] == "LIMIT_SIZE"
    assert "bytes" in failure_of(events, "m")[1]


async def test_a_large_list_is_mapped():
    """Thousands of items, with others beside them, come out in order."""
    async with Rig(Mapped(list(range(1_000))).app) as rig:
        events = await rig.run(plan(step("make"), mapped(max_parallel=7), step("other", "give")))
    assert output(events)["m"] == [number * 2 for number in range(1_000)]
    assert events[-1].progress.total_steps == 1_003


async def test_the_whole_keeps_its_weight():
    """The items share the weight of their step: nothing is rebased, and the percentage rises as they end."""
    work = Mapped([1, 2, 3, 4])
    async with Rig(work.app) as rig:
        events = await rig.run(
            plan(step("make"), mapped(weight=2, max_parallel=1), step("z", "give", depends_on=["m"]))
        )
    percentages = [event.progress.percentage for event in events]
    assert percentages == sorted(percentages)
    ends = {event.step_id: event.progress.percentage for event in of_kind(events, "step_completed")}
    assert ends["make"] == pytest.approx(25)
    assert ends["m-1"] == pytest.approx(37.5)
    assert ends["m-4"] == pytest.approx(75)
    assert ends["m"] == pytest.approx(75)


async def test_a_pause_holds_items_back_and_a_cancel_ends_them():
    """In a pause no item begins, and the execution stays; a cancel leaves every step with one end."""
    work = Mapped()
    async with Rig(work.app) as rig:
        execution_id = await rig.start(plan(step("make"), mapped(max_parallel=1)))
        await rig.engine.pause(execution_id, actor="", reason="")
        await rig.quiet()
        before = len(work.calls)
        await rig.quiet()
        assert len(work.calls) == before
        await rig.engine.resume(execution_id, actor="", reason="")
        assert output(await rig.ended(execution_id)) == [2, 4, 6]
        work.gate.clear()
        execution_id = await rig.start(plan(step("make"), mapped(max_parallel=1)))
        await until(lambda: work.running == 1)
        await rig.engine.cancel(execution_id, actor="", reason="")
        events = await rig.ended(execution_id)
    assert about(events, "m")[-1] == "step_cancelled"
    assert about(events, "m-1") == ["step_started", "step_cancelled"]
    assert about(events, "m-2") == ["step_skipped"]
    assert state_of(events) == "CANCELLED"


async def test_a_pause_between_the_list_and_its_items_does_not_end_the_execution():
    """An execution that is paused before its mapped step has items waits, and goes on; so does one that makes many."""
    work = Mapped()
    async with Rig(work.app) as rig:
        execution_id = await rig.start(plan(mapped([1, 2])))
        whole = await rig.ended(execution_id)
        record = await rig.engine.get(execution_id)
    begun = whole[: kinds(whole).index("step_started") + 1]
    fold, paused = folded(record, begun), Event(execution_id=execution_id)
    paused.plan_paused.SetInParent()
    fold.apply(paused, "plan_paused", fold.time_ns)
    Stamp(paused).write(fold, paused.step_id)
    async with Rig(work.app, journal=await left_after(record, [*begun, paused]), recover=True) as rig:
        await rig.quiet()
        assert not rig.engine._live[execution_id].fold.ended
        assert kinds(await rig.events(execution_id))[-1] == "plan_recovered"
        await rig.engine.resume(execution_id, actor="", reason="")
        assert output(await rig.ended(execution_id)) == [2, 4]
        # So many are made in a thread, and the pause comes meanwhile.
        execution_id = await rig.start(plan(mapped(range(300))))
        executor = rig.engine._live[execution_id]
        await until(lambda: executor.fold.steps and executor.fold.steps[0].attempt)
        await rig.engine.pause(execution_id, actor="", reason="")
        assert "plan_revised" not in kinds(await rig.events(execution_id))
        await rig.engine.resume(execution_id, actor="", reason="")
        assert len(output(await rig.ended(execution_id))) == 300


async def test_a_simulation_maps_what_stands_in_the_plan():
    """Literal items are simulated one by one; a list that another step would give is empty."""
    asked = request(
        step("make"), mapped(), step("n", "work", for_each={"number": [1, 2]}), options=ExecutionOptions(simulate=True)
    )
    work = Mapped()
    async with Rig(work.app) as rig:
        events = await rig.run(asked)
    assert state_of(events) == "COMPLETED"
    assert output(events) == {"m": [], "n": [None, None]}
    assert work.calls == []


async def test_a_mapped_step_can_be_added_while_a_plan_runs():
    """A supervisor adds a mapped step like any other, also twice."""
    work = Mapped()

    @work.app.operation()
    async def decide(step: StepContext) -> None:
        for _ in range(2):
            await step.add_steps([plan_step("many", "work", for_each={"number": [1, 2]}, depends_on=["decide"])])

    async with Rig(work.app) as rig:
        events = await rig.run(plan(step("decide")))
    assert output(events, "many") == [2, 4]
    assert [event.plan_revised.added_by for event in of_kind(events, "plan_revised")] == ["decide", "many"]


async def test_no_other_step_has_an_item_s_id():
    """Ids of items are refused in a plan that is sent and in steps that are added, before or after their step."""
    work = Mapped()
    found: list[Any] = []

    @work.app.operation()
    async def decide(step: StepContext) -> None:
        for steps in (
            [plan_step("m-4", "give")],
            [plan_step("x", "give", depends_on=["other-1"]), plan_step("other", "give", for_each={"value": []})],
            [plan_step("n-1", "give"), plan_step("n", "give", for_each={"value": []})],
        ):
            with pytest.raises(PlanInvalid) as raised:
                await step.add_steps(steps)
            found.append([field for field, _ in raised.value.violations])

    async with Rig(work.app) as rig:
        await rig.run(plan(step("make"), mapped(), step("other-1", "give"), step("decide", depends_on=["m"])))
    assert found == [["steps[0].id"], ["steps[1].id"], ["steps[0].id"]]


@pytest.mark.parametrize("operation", ["work", "once"])
async def test_a_crash_anywhere_in_a_mapped_step_loses_nothing(operation: str):
    """From every prefix of its events only the items that had not ended run, and the list is the same."""
    work = Mapped()
    asked = plan(step("make"), mapped(operation=operation, max_parallel=2), step("z", "seen", depends_on=["m"]))
    async with Rig(work.app) as rig:
        execution_id = await rig.start(asked)
        whole = await rig.ended(execution_id)
        record = await rig.engine.get(execution_id)
    assert output(whole) == {"m": [2, 4, 6]}
    for count in range(len(whole)):
        work.calls.clear()
        work.most = 0
        async with Rig(work.app, journal=await left_after(record, whole[:count]), recover=True) as rig:
            live = rig.engine._live[execution_id].fold
            events = await rig.ended(execution_id)
            assert view(live) == view(folded(await rig.engine.get(execution_id), events))
        started = {event.step_id for event in of_kind(whole[:count], "step_started")}
        ended = {event.step_id for event in of_kind(whole[:count], "step_completed")}
        lost = {name for name in started - ended if name.startswith("m-")}
        if operation == "once" and lost:
            assert failure_of(events, sorted(lost)[0])[0] == "OUTCOME_UNKNOWN"
            assert failure_of(events, "m")[0] == "STEP_FAILED"
        else:
            assert output(events) == {"m": [2, 4, 6]}, count
        assert about(events, "m").count("step_started") == 1
        assert len(of_kind(events, "plan_revised")) == 1
        assert not {name for name, _ in work.calls} & (ended | (lost if operation == "once" else set()))
        assert work.most <= 2


async def test_a_stop_in_order_ends_no_mapped_step():
    """Items that a server lets go of have not ended: the next start gives them another attempt, and then the list."""
    work = Mapped()
    work.gate.clear()
    async with Rig(work.app) as rig:
        execution_id = await rig.start(plan(step("make"), mapped(), step("z", "seen", depends_on=["m"])))
        await until(lambda: work.running == 3)
        await rig.engine.drain(0)
        work.gate.set()
        async with Rig(work.app, journal=rig.journal, recover=True) as second:
            events = await second.ended(execution_id)
    assert about(events, "m-1") == ["step_started", "step_retrying", "step_started", "step_completed"]
    assert about(events, "m").count("step_started") == 1
    assert output(events) == {"m": [2, 4, 6]}


async def test_a_crash_while_an_execution_is_being_cancelled_ends_the_mapped_step_too():
    """Another process that takes over what is ending records one end of each step."""
    work = Mapped()
    work.gate.clear()
    async with Rig(work.app) as rig:
        execution_id = await rig.start(plan(step("make"), mapped()))
        await until(lambda: work.running == 3)
        await rig.engine.cancel(execution_id, actor="", reason="")
        whole = await rig.ended(execution_id)
        record = await rig.engine.get(execution_id)
    cancelling = kinds(whole).index("plan_cancelling") + 1
    for count in range(cancelling, len(whole)):
        async with Rig(work.app, journal=await left_after(record, whole[:count]), recover=True) as rig:
            events = await rig.ended(execution_id)
        assert state_of(events) == "CANCELLED"
        for name in ("m", "m-1", "m-2", "m-3"):
            assert about(events, name).count("step_cancelled") == 1, (count, name)


async def test_a_retry_runs_only_the_items_that_failed():
    """The items that completed are kept, in the plan as it ran; the list is made of both."""
    work = Mapped()
    work.bad = {2}
    async with Rig(work.app) as rig:
        first = await rig.run(plan(step("make"), mapped(), step("z", "seen", depends_on=["m"])))
        work.bad = set()
        work.calls.clear()
        again = await rig.engine.retry(first[0].execution_id, step_ids=[], actor="", reason="")
        events = await rig.ended(again.execution_id)
    assert work.calls == [("m-2", 2)]
    assert output(events) == {"m": [2, 4, 6]}
    assert not of_kind(events, "plan_revised")
    assert {event.step_id for event in events if "kept_from" in event.metadata} == {"make", "m-1", "m-3"}
    percentages = [event.progress.percentage for event in events]
    assert percentages == sorted(percentages)
    assert percentages[-1] == 100


def test_a_long_list_in_the_plan_needs_room_only_once():
    """A mapped step whose items are there already can be added again, and retried, in a plan that they fill by more
    than half.
    """
    added = plan_step("many", "work", for_each={"number": range(5_500)})
    items = item_steps(added, added.for_each.values.values, most=MAX_PLAN_BYTES)
    ran = plan(step("decide", "give"), added, *items)
    growth: Any = Growth
    checker = growth(None, Mapped().app.catalog(), execution_id="", course=Course(), on_grown=lambda: None)
    assert checker._form(Graph(ran), [added]) == []
    assert checker._form(Graph(plan(step("decide", "give"))), [added]) == []
    assert violations(ran, ran=True) == []
    assert violations(ran) != []


@pytest.mark.parametrize("named", ["make", "m"])
async def test_a_retry_maps_anew_where_the_list_may_be_another_one(named: str):
    """Who names the mapped step, or what its list comes from, gets new items, and as many as there are now."""
    work = Mapped()
    async with Rig(work.app) as rig:
        first = await rig.run(plan(step("make"), mapped(), step("z", "seen", depends_on=["m"])))
        work.calls.clear()
        work.listed = [7, 8]
        again = await rig.engine.retry(first[0].execution_id, step_ids=[named], actor="", reason="")
        events = await rig.ended(again.execution_id)
        assert output(events) == {"m": [14, 16] if named == "make" else [2, 4, 6]}
        assert len(of_kind(events, "plan_revised")) == 1
        assert events[-1].progress.total_steps == (5 if named == "make" else 6)
        work.calls.clear()
        one = await rig.engine.retry(first[0].execution_id, step_ids=["m-2"], actor="", reason="")
        events = await rig.ended(one.execution_id)
    assert work.calls == [("m-2", 2)]
    assert output(events) == {"m": [2, 4, 6]}


async def test_a_retry_runs_no_item_a_second_time_that_runs_at_most_once():
    """Items that completed must be named, one by one or by their step; the mapped step itself needs no word."""
    work = Mapped()
    work.bad = {2}
    async with Rig(work.app) as rig:
        first = await rig.run(plan(step("make"), mapped(operation="once")))
        execution_id = first[0].execution_id
        with pytest.raises(AtMostOnce) as raised:
            await rig.engine.retry(execution_id, step_ids=["make"], actor="", reason="")
        assert sorted(text.split("'")[1] for _, text in raised.value.violations) == ["m-1", "m-3"]
        work.bad = set()
        for names in ([], ["make", "m"], ["make", "m-1", "m-2", "m-3"]):
            again = await rig.engine.retry(execution_id, step_ids=names, actor="", reason="")
            assert output(await rig.ended(again.execution_id)) == [2, 4, 6]
        work.calls.clear()
        last = await rig.engine.retry(again.execution_id, step_ids=["m-2"], actor="", reason="")
        assert output(await rig.ended(last.execution_id)) == [2, 4, 6]
    assert work.calls == [("m-2", 2)]


def refused(*steps: Step) -> list[str]:
    with pytest.raises(StepwireError) as raised:
        check_work(request(*steps), Mapped().app.catalog())
    return [field for field, _ in raised.value.violations]


def test_a_mapping_that_can_t_be_is_refused_with_its_field():
    """Form, parameter, reference, ids and literal items are checked before anything runs."""
    ok = mapped([1])
    assert refused(ok, step("m-7", "give")) == ["plan.steps[1].id"]
    assert refused(step("x" * 59, "work", for_each={"number": [1]})) == ["plan.steps[0].id"]
    check_work(request(step("x" * 58, "work", for_each={"number": [1]}), step("m-x", "give")), Mapped().app.catalog())
    assert refused(mapped([1, "two"])) == ["plan.steps[0].for_each.values[1]"]
    assert refused(step("m", "give", for_each={"other": [1]})) == ["plan.steps[0].input.other"]
    assert refused(step("m", "work", for_each={"by": [1]})) == ["plan.steps[0].input.number"]
    assert refused(mapped([1], input={"number": 1})) == ["plan.steps[0].for_each.parameter"]
    assert refused(mapped([1], max_parallel=-1)) == ["plan.steps[0].for_each.max_parallel"]
    assert refused(mapped(range(10_000))) == ["plan.steps[0].for_each.values"]
    wrong = mapped([1])
    wrong.for_each.ClearField("values")
    assert refused(wrong) == ["plan.steps[0].for_each"]
    wrong = mapped([1])
    wrong.for_each.parameter = ""
    assert "plan.steps[0].for_each.parameter" in refused(wrong)
    wrong = mapped()
    wrong.ClearField("depends_on")
    assert refused(step("make"), wrong) == ["plan.steps[1].for_each.output.step_id"]
    wrong = mapped([1])
    wrong.for_each.values.values.add()
    assert refused(wrong) == ["plan.steps[0].for_each.values[1]"]


def test_for_each_takes_one_parameter():
    """What is no mapping of one parameter is refused where it is written."""
    with pytest.raises(ValueError, match="it takes one"):
        step("m", "work", for_each={"a": [], "b": []})
    with pytest.raises(ValueError, match="max_parallel"):
        step("m", "work", max_parallel=2)


@pytest.mark.parametrize("items", ["abc", b"abc", {"k": 1}, 5])
def test_for_each_takes_a_list(items: Any):
    """A text and a dict could be gone over, and are no lists: they are refused with the step and the parameter."""
    with pytest.raises(TypeError, match=r"for_each of step 'm' has \w+ for 'a'; it takes a list"):
        step("m", "work", for_each={"a": items})
