"""Plans that grow while they run."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from stepwire.errors import ExecutionEnded, PlanInvalid
from stepwire.v1 import ExecutionOptions, Retry
from stepwire_server import App, BlockingStepContext, StepContext, current_step, output_of
from stepwire_server.engine.graph import MAX_STEPS, Graph
from stepwire_server.engine.growth import room_violations
from stepwire_server.engine.snapshot import plan_of

from .prefixes import left_after
from .rig import Rig, about, failure_of, folded, kinds, of_kind, output, plan, request, state_of, step, view


def growing(*batches: Any, app: App | None = None) -> App:
    """Returns an app whose operation `decide` adds these batches of steps, one after the other."""
    app = app or App("growing")

    @app.operation()
    async def decide(step: StepContext) -> str:
        for batch in batches:
            await step.add_steps(batch)
        return "decided"

    @app.operation()
    async def give(value: Any = None) -> Any:
        return value

    @app.operation()
    async def fail() -> None:
        raise RuntimeError("no")

    @app.operation()
    async def seen(step: StepContext) -> Any:
        return dict(step.results)

    return app


async def refused(*steps: Any, first: Any = (), error: type[Exception] = PlanInvalid) -> Any:
    """Returns the error that adding these steps raises, after those of `first` were added."""
    found: list[Any] = []
    app = growing()

    @app.operation()
    async def try_it(step: StepContext) -> None:
        await step.add_steps(first)
        with pytest.raises(error) as raised:
            await step.add_steps(steps)
        found.append(raised.value)

    @app.operation(at_most_once=True)
    async def once() -> None: ...

    async with Rig(app) as rig:
        await rig.run(plan(step("try", "try_it"), step("after", "give", depends_on=["try"])))
    return found[0]


def fields(error: PlanInvalid) -> list[str]:
    return [field for field, _ in error.violations]


async def test_what_a_step_adds_runs_after_what_it_depends_on():
    """Added steps are part of the plan: they wait for what they depend on, and give their outputs."""
    added = [
        step("b", "give", input={"value": output_of("c")}),
        step("c", "give", input={"value": 3}, depends_on=["decide", "a"]),
    ]
    async with Rig(growing(added)) as rig:
        events = await rig.run(plan(step("a", "give"), step("decide")))
        (revised,) = of_kind(events, "plan_revised")
        assert [added.id for added in revised.plan_revised.steps] == ["b", "c"]
        assert (revised.plan_revised.added_by, revised.plan_revised.revision) == ("decide", 1)
        assert revised.progress.total_steps == 4
        assert output(events, "b") == 3
        assert state_of(events) == "COMPLETED"
        order = [event.step_id for event in of_kind(events, "step_started")]
        assert order.index("b") > order.index("c") > order.index("decide")
        assert output(events) == 3


async def test_the_output_is_that_of_what_nothing_depends_on_at_the_end():
    """A step that an added one depends on no longer gives the execution's output."""
    async with Rig(growing([step("last", "seen", depends_on=["decide"])])) as rig:
        events = await rig.run(plan(step("decide")))
    assert output(events) == {"decide": "decided"}  # of the one that nothing depends on


async def test_adding_an_identical_step_again_adds_nothing():
    """The same steps once more, in one call or in another attempt, are no revision."""
    batch = [step("b", "give", input={"value": 1}), step("c", "give", depends_on=["b"])]
    app = growing(batch, [*batch, *batch], [], [batch[1], step("d", "give")])
    tried = 0

    @app.operation(retry=Retry(attempts=2))
    async def again(step: StepContext) -> None:
        nonlocal tried
        tried += 1
        await step.add_steps(batch)
        if tried == 1:
            raise RuntimeError("once more")

    async with Rig(app) as rig:
        events = await rig.run(plan(step("decide")))
        assert [len(event.plan_revised.steps) for event in of_kind(events, "plan_revised")] == [2, 1]
        assert [event.plan_revised.revision for event in of_kind(events, "plan_revised")] == [1, 2]
        execution_id = await rig.start(plan(step("again")))
        await rig.durable(execution_id, "step_retrying")
        rig.clock.advance(10)
        events = await rig.ended(execution_id)
        assert len(of_kind(events, "plan_revised")) == 1
        assert state_of(events) == "COMPLETED"


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"operation": "seen"}, "operation"),
        ({"name": "another"}, "name"),
        ({"weight": 2}, "weight"),
        ({"timeout": 1}, "timeout"),
        ({"retry": Retry(attempts=2)}, "retry"),
        ({"depends_on": ["try"]}, "depends_on"),
        ({"input": {"value": 2}}, "input"),
    ],
)
async def test_another_step_of_the_same_id_is_refused(more: dict[str, Any], field: str):
    """An id that the plan has with another step is refused, and what differs is named."""
    same = {"operation": "give", "input": {"value": 1}}
    given = {key: value for key, value in (same | more).items() if key != "input" or more.get("operation") != "seen"}
    error = await refused(step("y", "give"), step("x", **given), first=[step("x", **same)])
    assert f"steps[1].{field}" in fields(error)
    assert "'x'" in str(error)


async def test_what_can_t_be_in_a_plan_is_refused_with_its_field():
    """Form, dependencies, cycles, operations and inputs of added steps are checked as those of a plan that is sent."""
    assert fields(await refused(step("a b", "give"))) == ["steps[0].id"]
    assert fields(await refused(step("x", "give", depends_on=["nobody"]))) == ["steps[0].depends_on[0]"]
    assert fields(await refused(step("x", "give", depends_on=["x"]))) == ["steps[0].depends_on[0]"]
    assert fields(await refused(step("ok", "give"), step("x", "nothing"))) == ["steps[1].operation"]
    assert fields(await refused(step("x", "give", input={"other": 1}))) == ["steps[0].input.other"]
    assert fields(await refused(step("x", "give", weight=-1))) == ["steps[0].weight"]
    assert fields(await refused(step("x", "once", retry=Retry(attempts=2)))) == ["steps[0].retry.attempts"]
    circle = [step("x", "give", depends_on=["y", "try"]), step("y", "give", depends_on=["x"])]
    error = await refused(step("ok", "give"), *circle)
    assert fields(error) == ["steps[1].depends_on"]
    assert "x -> y -> x" in str(error)


async def test_a_call_with_something_that_is_no_step_is_a_type_error():
    """What is no Step is named as what it is."""
    assert "dict" in str(await refused({"id": "x"}, error=TypeError))


async def test_a_plan_has_its_limits_when_it_has_grown():
    """10,000 steps and 768 KiB hold for all of it together; nothing is added of what would be too much."""
    many = [step(f"s{i}", "give") for i in range(MAX_STEPS - 1)]
    error = await refused(*many)
    assert fields(error) == ["steps"]
    assert "10,001 steps" in str(error)
    large = step("x", "give", input={"value": "x" * 400_000})
    error = await refused(step("y", "give", input={"value": "y" * 400_000}), first=[large])
    assert "bytes" in str(error)
    assert room_violations(Graph(plan(step("decide"))), many) == []


async def test_a_refusal_fails_the_operation_that_lets_it_through():
    """The error is the operation's, which fails with its text, and the plan is as it was."""
    async with Rig(growing([step("x", "nothing")])) as rig:
        events = await rig.run(plan(step("decide")))
    reason, text = failure_of(events, "decide")
    assert reason == "OPERATION_FAILED"
    assert "steps[0].operation" in text
    assert events[-1].progress.total_steps == 1


async def test_plain_functions_and_code_below_add_steps_too():
    """The blocking context has it, and current_step() leads to it."""
    app = growing()

    @app.operation()
    def plainly(step: BlockingStepContext) -> None:
        step.add_steps([_added("b")])

    @app.operation()
    async def below() -> None:
        here = current_step()
        assert isinstance(here, StepContext)
        await here.add_steps(_added(name) for name in "cd")

    async with Rig(app) as rig:
        events = await rig.run(plan(step("plainly"), step("below")))
    assert {event.step_id for event in of_kind(events, "step_completed")} == {"plainly", "below", "b", "c", "d"}


async def test_what_depends_on_a_step_that_failed_is_skipped():
    """A step that is added after what it depends on has failed is skipped, with all that wait for it, in any order."""
    batch = [
        step("c", "give", depends_on=["b"]),
        step("b", "give", depends_on=["bad", "slow"]),
        step("on", "give", depends_on=["skipped"]),
        step("fine", "give", depends_on=["slow"]),
    ]
    app = growing(batch)
    gate = asyncio.Event()

    @app.operation()
    async def slow() -> None:
        await gate.wait()

    async with Rig(app) as rig:
        execution_id = await rig.start(
            plan(
                step("bad", "fail"),
                step("skipped", "give", depends_on=["bad"]),
                step("wait", "slow"),
                step("slow"),
                step("decide", depends_on=["wait"]),
            )
        )
        await rig.durable(execution_id, "step_skipped")
        gate.set()
        events = await rig.ended(execution_id)
    skipped = {event.step_id: event.step_skipped.failed_step_id for event in of_kind(events, "step_skipped")}
    assert skipped == {"skipped": "bad", "b": "bad", "c": "bad", "on": "bad"}
    assert about(events, "fine") == ["step_started", "step_completed"]


async def test_the_percentage_of_what_was_reached_becomes_less_of_the_whole():
    """Growth rebases the percentage by the weights, and from there on it rises again, also through a retry."""
    app = growing([step("b", "give", weight=2), step("c", "give", weight=4, depends_on=["decide"])])
    gate = asyncio.Event()

    @app.operation()
    async def wait(step: StepContext) -> None:
        await gate.wait()

    async with Rig(app) as rig:
        execution_id = await rig.start(plan(step("a", "give"), step("wait"), step("decide", depends_on=["a"])))
        revised = await rig.durable(execution_id, "plan_revised")
        gate.set()
        events = await rig.ended(execution_id)
    assert revised.progress.percentage == pytest.approx(100 / 9)
    before = [event.progress.percentage for event in events[: revised.sequence - 1]]
    after = [event.progress.percentage for event in events[revised.sequence - 1 :]]
    assert max(before) == pytest.approx(100 / 3)
    assert before == sorted(before)
    assert after == sorted(after)
    assert after[-1] == 100


async def test_a_paused_execution_grows_and_starts_nothing():
    """In a pause steps are added, and begin when it ends."""
    gate = asyncio.Event()
    app = App("paused")

    @app.operation()
    async def decide(step: StepContext) -> None:
        await gate.wait()
        await step.add_steps([_added("b")])

    @app.operation()
    async def give() -> None: ...

    async with Rig(app) as rig:
        execution_id = await rig.start(plan(step("decide")))
        await rig.durable(execution_id, "step_started")
        await rig.engine.pause(execution_id, actor="a", reason="")
        gate.set()
        await rig.durable(execution_id, "step_completed")
        await rig.quiet()
        events = await rig.events(execution_id)
        assert kinds(events)[-2:] == ["plan_revised", "step_completed"]
        await rig.engine.resume(execution_id, actor="a", reason="")
        assert state_of(await rig.ended(execution_id)) == "COMPLETED"


@pytest.mark.parametrize("how", ["cancel", "fail fast", "time limit"])
async def test_nothing_is_added_to_what_is_ending(how: str):
    """While an execution is ending, adding steps raises ExecutionEnded."""
    found: list[BaseException] = []
    app = App("ending")

    @app.operation()
    async def decide(step: StepContext) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            with pytest.raises(ExecutionEnded) as raised:
                await step.add_steps([_added("b")])
            found.append(raised.value)

    @app.operation()
    async def fail() -> None:
        raise RuntimeError("no")

    @app.operation()
    async def give() -> None: ...

    options = ExecutionOptions()
    if how == "fail fast":
        options.failure_policy = ExecutionOptions.FAILURE_POLICY_FAIL_FAST
    if how == "time limit":
        options.time_limit.FromSeconds(5)
    steps = [step("decide"), *([step("fail")] if how == "fail fast" else [])]
    async with Rig(app) as rig:
        execution_id = await rig.start(request(*steps, options=options))
        await rig.durable(execution_id, "step_started")
        if how == "cancel":
            await rig.engine.cancel(execution_id, actor="a", reason="")
        if how == "time limit":
            await rig.quiet()
            rig.clock.advance(6)
        events = await rig.ended(execution_id)
    assert "ending" in str(found[0]) or "cancelled" in str(found[0])
    assert not of_kind(events, "plan_revised")


async def test_a_plan_grows_again_and_again():
    """Hundreds of calls of one step each are as many revisions, and all of it runs."""
    app = growing(*([step(f"s{i}", "give", depends_on=["decide"])] for i in range(300)))
    async with Rig(app) as rig:
        events = await rig.run(plan(step("decide")))
    assert events[-1].progress.completed_steps == 301
    assert [event.plan_revised.revision for event in of_kind(events, "plan_revised")] == list(range(1, 301))


async def test_a_crash_anywhere_in_a_plan_that_grows_loses_nothing():
    """From every prefix of its events an execution goes on to the same end, and adds nothing twice."""
    batch = [step("b", "give", input={"value": 2}), step("c", "give", input={"value": output_of("b")})]
    app = growing(batch[:1], batch)
    async with Rig(app) as rig:
        execution_id = await rig.start(
            plan(step("a", "give"), step("decide", depends_on=["a"]), step("z", "give", depends_on=["decide"]))
        )
        whole = await rig.ended(execution_id)
        record = await rig.engine.get(execution_id)
    for count in range(len(whole)):
        journal = await left_after(record, whole[:count])
        async with Rig(app, journal=journal, recover=True) as rig:
            live = rig.engine._live[execution_id].fold
            events = await rig.ended(execution_id)
            assert view(live) == view(folded(await rig.engine.get(execution_id), events))
        assert state_of(events) == "COMPLETED", count
        assert output(events) == {"c": 2, "z": None}
        added = [added.id for event in of_kind(events, "plan_revised") for added in event.plan_revised.steps]
        assert added == ["b", "c"]
        starts = [event.step_id for event in of_kind(whole[:count], "step_completed")]
        again = [event.step_id for event in of_kind(events[count:], "step_started")]
        assert not set(starts) & set(again)


async def test_a_retry_has_the_plan_as_it_grew():
    """What a completed supervisor added is part of what is retried: kept where it completed, run where it failed; a
    supervisor that runs again finds its steps there.
    """
    batch = [step("b", "flaky", depends_on=["decide"]), step("c", "give", input={"value": 7}, depends_on=["decide"])]
    app = growing(batch)
    fails = True

    @app.operation()
    async def flaky() -> str:
        if fails:
            raise RuntimeError("not yet")
        return "now"

    async with Rig(app) as rig:
        first = await rig.run(plan(step("decide")))
        fails = False
        again = await rig.engine.retry(first[0].execution_id, step_ids=[], actor="", reason="")
        events = await rig.ended(again.execution_id)
        assert {event.step_id for event in events if "kept_from" in event.metadata} == {"decide", "c"}
        assert output(events) == {"b": "now", "c": 7}
        assert not of_kind(events, "plan_revised")
        again = await rig.engine.retry(again.execution_id, step_ids=["decide"], actor="", reason="")
        events = await rig.ended(again.execution_id)
        assert [event.step_id for event in of_kind(events, "step_started")] == ["decide", "b", "c"]
        assert not of_kind(events, "plan_revised")
        assert state_of(events) == "COMPLETED"


async def test_readers_find_the_plan_as_it_grew():
    """The full view of an execution has the added steps at the plan's end."""
    async with Rig(growing([step("b", "give")], [step("c", "give")])) as rig:
        events = await rig.run(plan(step("decide")))
        found = await plan_of(rig.journal, await rig.engine.get(events[0].execution_id))
    assert found is not None
    assert [step.id for step in found.steps] == ["decide", "b", "c"]


def _added(name: str) -> Any:
    return step(name, "give")
