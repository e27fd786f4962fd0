"""One execution from its request to its terminal event."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import suppress
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from hypothesis import given, settings
from hypothesis import strategies as st

from stepwire.errors import ExecutionEnded, QueryNotUnderstood, StorageFull
from stepwire.v1 import ExecuteRequest, ExecutionOptions, Plan, Retry, StepSkipped
from stepwire_server import App, Result, output_of
from stepwire_server.engine.fold import Fold
from stepwire_server.engine.stamp import Stamp

from .rig import (
    HeldJournal,
    Rig,
    VirtualClock,
    about,
    failure_of,
    folded,
    kind_of,
    kinds,
    of_kind,
    output,
    plan,
    request,
    state_of,
    step,
    turns,
    until,
    view,
    well_formed,
)

FAIL_FAST = ExecutionOptions.FAILURE_POLICY_FAIL_FAST


def options(**more: Any) -> ExecutionOptions:
    return ExecutionOptions(**more)


class Work:
    """An app whose operations do as a script says: per step, how often it fails first, and whether it fails for good.
    It notes which ran when.
    """

    def __init__(self, fails: dict[str, int], *, style: dict[str, str] | None = None) -> None:
        self.fails = fails
        self.running: set[str] = set()
        self.most = 0
        self.began: list[tuple[str, int]] = []
        self.lock = threading.Lock()
        self.app = App("work")
        self.app.operation("coroutine")(self._coroutine)
        self.app.operation("thread")(self._thread)
        self.app.operation("generator")(self._generator)

    def _begin(self, step: Any) -> None:
        with self.lock:
            self.began.append((step.id, step.attempt))
            self.running.add(step.id)
            self.most = max(self.most, len(self.running))

    def _end(self, step: Any) -> None:
        with self.lock:
            self.running.discard(step.id)
        if step.attempt <= self.fails.get(step.id, 0):
            raise ValueError(f"attempt {step.attempt} of {step.id}")

    async def _coroutine(self, step) -> Any:
        self._begin(step)
        await step.progress(25, "begun")
        await asyncio.sleep(0)
        await step.content("text")
        await step.progress(90, "nearly")
        self._end(step)
        return {"of": step.id, "from": sorted(step.results)}

    def _thread(self, step) -> Any:
        self._begin(step)
        step.progress(40)
        self._end(step)
        return {"of": step.id, "from": sorted(step.results)}

    async def _generator(self, step):
        self._begin(step)
        yield 10
        yield 60, "further"
        self._end(step)
        yield Result({"of": step.id, "from": sorted(step.results)})


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, Any]:
    count = draw(st.integers(1, 9))
    order = draw(st.permutations(range(count)))
    steps = []
    fails = {}
    for place in range(count):
        id_ = f"s{place}"
        before = [f"s{other}" for other in range(count) if order.index(other) < order.index(place)]
        needs = draw(st.lists(st.sampled_from(before), unique=True, max_size=3)) if before else []
        attempts = draw(st.integers(0, 3))
        fails[id_] = draw(st.sampled_from([0, 0, 0, 1, 2, 99]))
        steps.append(
            step(
                id_,
                draw(st.sampled_from(["coroutine", "coroutine", "generator", "thread"])),
                depends_on=needs,
                weight=draw(st.one_of(st.none(), st.floats(0.001, 1000))),
                retry=draw(
                    st.sampled_from([None, Retry(attempts=attempts, initial_delay=Duration(seconds=1), jitter=0.5)])
                ),
            )
        )
    return {
        "plan": plan(*steps),
        "fails": fails,
        "options": options(
            max_parallel_steps=draw(st.integers(0, 4)),
            failure_policy=draw(st.sampled_from([0, 1, 2])),
        ),
        "park_after": draw(st.integers(1, 40)),
    }


def attempts_of(of: Any) -> int:
    return max(of.retry.attempts, 1) if of.HasField("retry") else 1


def check(case: dict[str, Any], record: Any, events: list[Any], *, recovered: bool = False) -> None:
    """Holds a recorded execution to all that is true of every one."""
    well_formed(events)
    steps = {item.id: item for item in case["plan"].steps}
    completed: set[str] = set()
    failed: set[str] = set()
    running: set[str] = set()
    attempts: dict[str, int] = {}
    bound = case["options"].max_parallel_steps or 32
    for event in events:
        match kind_of(event):
            case "step_started":
                assert set(steps[event.step_id].depends_on) <= completed
                attempts[event.step_id] = attempts.get(event.step_id, 0) + 1
                assert event.attempt == attempts[event.step_id]
                running.add(event.step_id)
            case "step_retrying":
                running.discard(event.step_id)
                assert event.step_retrying.next_attempt == attempts[event.step_id] + 1
            case "step_completed":
                running.discard(event.step_id)
                completed.add(event.step_id)
            case "step_failed" | "step_cancelled":
                running.discard(event.step_id)
                failed.add(event.step_id)
            case "step_skipped":
                assert event.step_id not in attempts
                if event.step_skipped.cause == StepSkipped.CAUSE_DEPENDENCY:
                    assert event.step_skipped.failed_step_id in failed
        assert len(running) <= bound
    fast = case["options"].failure_policy == FAIL_FAST
    for id_, item in steps.items():
        lucky = case["fails"][id_] < attempts_of(item)
        if set(item.depends_on) <= completed and not fast:
            # An attempt that was lost with its process does not count, so there may be luck where there was none.
            assert id_ in completed if lucky else recovered or id_ not in completed
            if not recovered:
                assert attempts[id_] == (case["fails"][id_] + 1 if lucky else attempts_of(item))
        elif not set(item.depends_on) <= completed:
            assert id_ not in attempts
            assert about(events, id_) == ["step_skipped"]
    assert state_of(events) == ("COMPLETED" if completed == set(steps) else "FAILED")
    # Every envelope is what folding the events before it gives.
    fold = Fold(create_ns=record.create_time_ns, planning=False)
    for event in events:
        fold.apply(event, kind_of(event), event.event_time.ToNanoseconds())
        again = type(event)()
        again.CopyFrom(event)
        for name in ("sequence", "event_time", "execution_state", "step_state", "progress"):
            again.ClearField(name)
        Stamp(again).write(fold, again.step_id)
        assert again == event


@settings(max_examples=60, deadline=None)
@given(graphs())
def test_any_plan_runs_by_the_rules(case):
    """Whatever the graph, weights, failures, retries, policy and parallelism: dense sequences, a terminal event as the
    last, dependencies before dependants, attempts 1, 2, 3, a percentage that never falls, and a live state that is the
    fold of the events.
    """

    async def go() -> None:
        work = Work(case["fails"])
        async with Rig(work.app, clock=VirtualClock(skip=True)) as rig:
            execution_id = await rig.start(ExecuteRequest(plan=case["plan"], options=case["options"]))
            live = rig.engine._live[execution_id].fold
            events = await rig.ended(execution_id)
            record = await rig.engine.get(execution_id)
            check(case, record, events)
            assert view(live) == view(folded(record, events))
            assert work.most <= (case["options"].max_parallel_steps or 32)

    asyncio.run(go())


@settings(max_examples=60, deadline=None)
@given(graphs())
def test_a_plan_goes_on_after_a_stop_in_the_middle(case):
    """An execution that is parked at any event, and taken up by another engine on the same journal, ends by the same
    rules, and its state is the fold of both halves.
    """

    async def go() -> None:
        work = Work(case["fails"])
        async with Rig(work.app, clock=VirtualClock(skip=True), leaves_tasks=True) as first:
            execution_id = await first.start(ExecuteRequest(plan=case["plan"], options=case["options"]))
            fold = first.engine._live[execution_id].fold
            await until(lambda: fold.sequence >= case["park_after"] or fold.ended)
            await first.engine.drain(0)
            await no_step_runs()
            await turns()
            middle = view(fold)
            assert middle == view(await first.fold(execution_id))
            async with Rig(work.app, journal=first.journal, clock=first.clock) as second:
                assert await second.engine.recover() == (0 if fold.ended else 1)
                live = second.engine._live[execution_id].fold if not fold.ended else fold
                if live is not fold:
                    assert view(live) == middle
                events = await second.ended(execution_id)
                record = await second.engine.get(execution_id)
                check(case, record, events, recovered=True)
                assert view(live) == view(folded(record, events))
                assert record.epoch == (1 if live is fold else 2)

    asyncio.run(go())


async def no_step_runs() -> None:
    await until(lambda: not any(task.get_name().startswith("step ") for task in asyncio.all_tasks()))


@settings(max_examples=60, deadline=None)
@given(graphs(), st.booleans())
def test_a_cancel_at_any_moment_is_the_end(case, restart):
    """A cancel at any event, with a restart after it or without: no step starts any more, every step has one end, and
    the execution is cancelled, unless it had ended.
    """

    async def go() -> None:
        work = Work(case["fails"])
        async with Rig(work.app, clock=VirtualClock(skip=True), leaves_tasks=restart) as rig:
            execution_id = await rig.start(ExecuteRequest(plan=case["plan"], options=case["options"]))
            fold = rig.engine._live[execution_id].fold
            await until(lambda: fold.sequence >= case["park_after"] or fold.ended)
            had_ended = fold.ended
            try:
                await rig.engine.cancel(execution_id, actor="me", reason="")
            except ExecutionEnded:
                assert had_ended
            else:
                assert not had_ended
            if restart:
                await rig.engine.drain(0)
                await no_step_runs()
                await turns()
                async with Rig(work.app, journal=rig.journal, clock=rig.clock, recover=True) as second:
                    events = await second.ended(execution_id)
            else:
                events = await rig.ended(execution_id)
        well_formed(events)
        seen = kinds(events)
        if had_ended:
            assert "plan_cancelling" not in seen
            return
        assert seen.count("plan_cancelling") == 1
        assert seen[-1] == "plan_cancelled"
        assert "step_started" not in seen[seen.index("plan_cancelling") :]
        ends = {"step_completed", "step_failed", "step_skipped", "step_cancelled"}
        for item in case["plan"].steps:
            assert [kind for kind in about(events, item.id) if kind in ends] == about(events, item.id)[-1:]

    asyncio.run(go())


# -- percentages


async def row(app_steps: list[Any], **more: Any) -> list[tuple[str, float]]:
    app = App("row")

    @app.operation()
    async def work(step):
        await step.progress(25)
        await step.progress(90)

    async with Rig(app) as rig:
        events = await rig.run(request(*app_steps, options=options(max_parallel_steps=1), **more))
    well_formed(events)
    return [(kind_of(event), round(event.progress.percentage, 2)) for event in events]


async def test_three_equal_steps_report_as_expected():
    """Three equal steps, one at a time, that report 25 and 90 %, give 8.33, 30, 33.33, 41.67, ... 100."""
    seen = await row([step(name, "work") for name in "abc"])
    percentages = [value for kind, value in seen if kind in ("step_progress", "step_completed")]
    assert percentages == [8.33, 30, 33.33, 41.67, 63.33, 66.67, 75, 96.67, 100]
    assert len(seen) == 2 + 4 * 3


@pytest.mark.parametrize("total", [1, 2, 5, 7])
async def test_equal_weights_give_the_row_formula(total):
    """For steps of equal weight in a row the percentage is (current - 1) / total * 100 + 100 / total * step / 100."""
    seen = await row([step(f"s{i}", "work", weight=3.5) for i in range(total)])
    progress = [value for kind, value in seen if kind == "step_progress"]
    expected = [
        round((current - 1) / total * 100 + 100 / total * part / 100, 2)
        for current in range(1, total + 1)
        for part in (25, 90)
    ]
    assert progress == expected


async def test_weights_are_shares():
    """A step counts with its weight."""
    seen = await row([step("a", "work", weight=1), step("b", "work", weight=3)])
    assert [value for kind, value in seen if kind == "step_completed"] == [25, 100]


async def test_huge_weights_do_no_harm():
    """Weights whose sum is beyond a double still end at 100."""
    seen = await row([step("a", "work", weight=1e308), step("b", "work", weight=1e308)])
    assert seen[-1] == ("plan_completed", 100)


# -- order and bounds


async def test_ready_steps_start_in_plan_order():
    """Steps that are ready together start in the plan's order, as many as may run at once."""
    work = Work({})
    gate = asyncio.Event()
    started: list[str] = []

    @work.app.operation()
    async def wait(step):
        started.append(step.id)
        await gate.wait()

    async with Rig(work.app) as rig:
        steps = [step(f"s{i}", "wait") for i in range(6)]
        execution_id = await rig.start(request(*steps, options=options(max_parallel_steps=3)))
        await until(lambda: len(started) == 3)
        await turns()
        assert started == ["s0", "s1", "s2"]
        gate.set()
        events = await rig.ended(execution_id)
    assert [event.step_id for event in of_kind(events, "step_started")] == [f"s{i}" for i in range(6)]


async def test_the_server_bounds_parallel_steps():
    """An execution may ask for fewer parallel steps than the server's bound, never for more."""
    for asked, most in [(0, 2), (1, 1), (50, 2)]:
        work = Work({})
        async with Rig(work.app, max_parallel_steps=2) as rig:
            steps = [step(f"s{i}", "coroutine") for i in range(6)]
            await rig.run(request(*steps, options=options(max_parallel_steps=asked)))
        assert work.most == most


async def test_a_step_that_became_ready_goes_before_later_ones():
    """A step whose dependency has just completed starts before a ready one that stands behind it in the plan."""
    work = Work({})
    async with Rig(work.app) as rig:
        steps = [step("a", "coroutine"), step("b", "coroutine", depends_on=["a"]), step("c", "coroutine")]
        await rig.run(request(*steps, options=options(max_parallel_steps=1)))
    assert [name for name, _ in work.began] == ["a", "b", "c"]


# -- failures


async def test_a_failure_skips_what_depends_on_it():
    """Dependants of a failed step, direct or not, are skipped and name it; other branches finish; the whole fails."""
    work = Work({"bad": 1})
    async with Rig(work.app) as rig:
        events = await rig.run(
            request(
                step("bad", "coroutine"),
                step("child", "coroutine", depends_on=["bad"]),
                step("grandchild", "coroutine", depends_on=["child", "other"]),
                step("other", "coroutine"),
            )
        )
    well_formed(events)
    skipped = {event.step_id: event.step_skipped for event in of_kind(events, "step_skipped")}
    assert set(skipped) == {"child", "grandchild"}
    assert {skip.failed_step_id for skip in skipped.values()} == {"bad"}
    assert output(events, "other") == {"of": "other", "from": []}
    assert failure_of(events) == ("STEP_FAILED", "1 of 4 steps failed: bad (ValueError: attempt 1 of bad)")
    assert failure_of(events, "bad") == ("OPERATION_FAILED", "ValueError: attempt 1 of bad")
    assert events[-1].progress.failed_steps == 1
    assert events[-1].progress.skipped_steps == 2


async def test_fail_fast_cancels_the_rest():
    """With FAIL_FAST a failure cancels the steps that run and skips those that wait."""
    app = App("fast")
    gate = asyncio.Event()

    @app.operation()
    async def wait():
        gate.set()
        await asyncio.Event().wait()

    @app.operation()
    async def fail():
        await gate.wait()
        raise KeyError("no")

    async with Rig(app) as rig:
        events = await rig.run(
            request(
                step("wait"),
                step("fail"),
                step("later", "wait"),
                options=options(max_parallel_steps=2, failure_policy=FAIL_FAST),
            )
        )
    well_formed(events)
    assert about(events, "wait") == ["step_started", "step_cancelled"]
    assert about(events, "later") == ["step_skipped"]
    assert of_kind(events, "step_skipped")[0].step_skipped.cause == StepSkipped.CAUSE_ENDED
    assert failure_of(events)[0] == "STEP_FAILED"


async def test_fail_fast_meets_steps_that_have_not_begun():
    """A failure in the moment in which others are started ends the execution all the same."""
    app = App("fast")

    @app.operation()
    async def fail():
        raise KeyError("no")

    async with Rig(app) as rig:
        steps = [step(f"s{i}", "fail") for i in range(20)]
        events = await rig.run(request(*steps, options=options(failure_policy=FAIL_FAST)))
    well_formed(events)
    assert state_of(events) == "FAILED"


async def test_a_cancel_meets_a_step_that_has_not_begun():
    """A cancel between a step's choice and its first line ends the execution at once, not after a grace period."""
    app = App("early")
    release = asyncio.Event()

    @app.operation()
    async def work():
        await release.wait()

    async with Rig(app) as rig:
        execution_id = await rig.start(request(step("a", "work"), step("b", "work", depends_on=["a"])))
        executor = rig.engine._live[execution_id]
        release.set()
        while all(runner._begun for runner in executor._running.values()):  # noqa: ASYNC110 - it must be this very turn
            await asyncio.sleep(0)
        executor.cancel(actor="me", reason="")
        events = await rig.ended(execution_id)
    well_formed(events)
    begun = ["plan_started", "step_started", "step_completed"]
    assert kinds(events) == [*begun, "plan_cancelling", "step_skipped", "plan_cancelled"]


async def test_the_text_of_many_failures_is_short():
    """plan_failed names the first failed steps and counts the others."""
    work = Work({f"s{i}": 9 for i in range(8)})
    async with Rig(work.app) as rig:
        events = await rig.run(request(*[step(f"s{i}", "coroutine") for i in range(8)]))
    assert failure_of(events)[1].startswith("8 of 8 steps failed: ")
    assert failure_of(events)[1].endswith(" and 3 more")


async def test_all_failures_together_skip_in_linear_time():
    """Thousands of failed steps with the same thousands of descendants take no longer than one of them."""
    work = Work({f"s{i}": 9 for i in range(3_000)})

    @work.app.operation()
    async def fail():
        raise ValueError

    first = [step(f"s{i}", "fail") for i in range(3_000)]
    chain = [step("c0", "fail", depends_on=[item.id for item in first])]
    chain += [step(f"c{i}", "fail", depends_on=[f"c{i - 1}"]) for i in range(1, 3_000)]
    async with Rig(work.app) as rig:
        began = time.process_time()
        events = await rig.run(request(*first, *chain))
        assert time.process_time() - began < 10
    well_formed(events)
    assert events[-1].progress.skipped_steps == 3_000


@pytest.mark.parametrize("shape", ["chain", "fan"])
async def test_ten_thousand_steps_take_seconds(shape):
    """A chain and a fan of 10,000 steps run without a part that grows with their square."""
    app = App("many")

    @app.operation()
    async def noop(step):
        return len(step.results)

    count = 10_000
    steps = [step("s0", "noop")]
    for i in range(1, count - 1):
        steps.append(step(f"s{i}", "noop", depends_on=[f"s{i - 1}" if shape == "chain" else "s0"]))
    steps.append(step("last", "noop", depends_on=[item.id for item in (steps[1:] if shape == "fan" else steps[-1:])]))
    async with Rig(app) as rig:
        began = time.process_time()
        events = await rig.run(request(*steps))
        assert time.process_time() - began < 20
    assert len(events) == 2 + 2 * count
    assert output(events) == (1 if shape == "chain" else count - 2)


# -- outputs


async def test_the_output_of_one_sink_is_the_execution_s():
    """The execution's output is that of the only step that nothing depends on; of several, an object by step id."""
    app = App("sinks")

    @app.operation()
    async def give(value: Any):
        return value

    async with Rig(app) as rig:
        one = await rig.run(
            request(step("a", "give", input={"value": 1}), step("b", "give", input={"value": output_of("a")}))
        )
        two = await rig.run(
            request(step("a", "give", input={"value": 1}), step("b", "give", input={"value": [None, 2.5]}))
        )
    assert output(one) == 1
    assert output(two) == {"a": 1, "b": [None, 2.5]}


async def test_outputs_that_are_too_large_together_are_left_out():
    """Where the outputs together exceed an event, the execution completes without them and says so."""
    app = App("large")

    @app.operation()
    async def give():
        return "x" * 700_000

    async with Rig(app) as rig:
        events = await rig.run(request(step("a", "give"), step("b", "give")))
    assert state_of(events) == "COMPLETED"
    assert not events[-1].plan_completed.HasField("output")
    assert "above 1 MiB" in events[-1].message


async def test_a_failed_execution_gives_the_outputs_that_there_are():
    """plan_failed carries the outputs of the sinks that completed."""
    work = Work({"b": 9})
    async with Rig(work.app) as rig:
        events = await rig.run(request(step("a", "coroutine"), step("b", "coroutine")))
    assert set(events[-1].plan_failed.output.struct_value.fields) == {"a"}


# -- simulation


async def test_simulation_reports_and_calls_nothing():
    """Simulated, each step reports 10, 50 and 90 % and completes with null; no operation is called."""
    work = Work({"a": 9})
    async with Rig(work.app) as rig:
        events = await rig.run(
            request(
                step("a", "coroutine"),
                step("b", "thread", input={}, depends_on=["a"]),
                options=options(simulate=True, max_parallel_steps=1),
            )
        )
    well_formed(events)
    assert work.began == []
    progress = [event.step_progress.percentage for event in of_kind(events, "step_progress")]
    assert progress == [10, 50, 90] * 2
    assert state_of(events) == "COMPLETED"
    assert output(events) is None


# -- limits


async def test_a_time_limit_ends_the_execution():
    """An execution that runs beyond its time limit is cancelled in its steps and fails with TIME_LIMIT."""
    app = App("slow")

    @app.operation()
    async def wait():
        await asyncio.Event().wait()

    async with Rig(app) as rig:
        execution_id = await rig.start(
            request(
                step("a", "wait"), step("b", "wait", depends_on=["a"]), options=options(time_limit=Duration(seconds=5))
            )
        )
        await rig.durable(execution_id, "step_started")
        rig.clock.advance(4.9)
        await turns()
        assert rig.engine.running == 1
        rig.clock.advance(0.2)
        events = await rig.ended(execution_id)
    well_formed(events)
    assert about(events, "a") == ["step_started", "step_cancelled"]
    assert about(events, "b") == ["step_skipped"]
    assert failure_of(events) == ("TIME_LIMIT", "the execution did not end within its time limit of 0:00:05")


async def test_the_time_limit_counts_what_passed_before_a_restart():
    """An execution whose time was up while no server ran fails at recovery, even where nothing is left to run."""
    app = App("slow")
    begun = asyncio.Event()

    @app.operation()
    async def wait():
        begun.set()
        await asyncio.Event().wait()

    clock = VirtualClock()
    journal = HeldJournal()
    async with Rig(app, journal=journal, clock=clock, leaves_tasks=True) as first:
        execution_id = await first.start(request(step("a", "wait"), options=options(time_limit=Duration(seconds=5))))
        await begun.wait()
        await turns()
        # The end begins, and the process is gone after the step's cancel, before the execution's end.
        clock.advance(5)
        executor = first.engine._live[execution_id]
        executor._course.leaving = True
        await until(lambda: "step_cancelled" in str(journal._chunks[execution_id]) or executor.fold.steps[0].state == 8)
        await first.engine.drain(0)
        assert kinds(await first.events(execution_id))[-1] == "step_cancelled"
        async with Rig(app, journal=journal, clock=clock, recover=True) as second:
            events = await second.ended(execution_id)
    well_formed(events)
    assert failure_of(events)[0] == "TIME_LIMIT"


async def test_a_time_limit_that_passes_when_all_is_done_is_none():
    """An execution whose steps had all completed completes, also where its time is up before anyone can say so."""
    app = App("slow")
    begun, gate = asyncio.Event(), asyncio.Event()

    @app.operation()
    async def wait():
        begun.set()
        await gate.wait()

    clock = VirtualClock()
    async with Rig(app, clock=clock, leaves_tasks=True) as first:
        execution_id = await first.start(request(step("a", "wait"), options=options(time_limit=Duration(seconds=5))))
        await begun.wait()
        drain = asyncio.create_task(first.engine.drain(20))
        await turns()
        gate.set()
        await drain
        assert kinds(await first.events(execution_id))[-1] == "step_completed"
        clock.advance(6)
        async with Rig(app, journal=first.journal, clock=clock, recover=True) as second:
            events = await second.ended(execution_id)
    well_formed(events)
    assert state_of(events) == "COMPLETED"


# -- planning


class Strange(BaseException):
    """An exception that is no Exception."""


async def planned(planner: Any, **more: Any) -> list[Any]:
    app = App("planned")
    app.planner(planner)

    @app.operation()
    async def noop():
        return "done"

    async with Rig(app, **more) as rig:
        return await rig.run(ExecuteRequest(query="do it"))


async def test_a_query_is_planned_inside_of_the_execution():
    """A planner's plan is recorded with the query in plan_started."""

    async def planner(query: str) -> Plan:
        """Plans."""
        return plan(step("a", "noop"))

    events = await planned(planner)
    well_formed(events)
    assert events[0].plan_started.query == "do it"
    assert output(events) == "done"


@pytest.mark.parametrize("plain", [False, True], ids=["async", "plain"])
@pytest.mark.parametrize(
    ("error", "reason", "text"),
    [
        (QueryNotUnderstood("ask for something else"), "QUERY_NOT_UNDERSTOOD", "ask for something else"),
        (KeyError("x"), "PLANNER_FAILED", "KeyError: 'x'"),
        (StopIteration("x"), "PLANNER_FAILED", "StopIteration"),
        (SystemExit(3), "PLANNER_FAILED", "SystemExit"),
        (Strange("odd"), "PLANNER_FAILED", "Strange: odd"),
        (asyncio.CancelledError(), "PLANNER_FAILED", "the planner raised CancelledError"),
        (ValueError("\udce9"), "PLANNER_FAILED", "ValueError: \\udce9"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
async def test_a_planner_that_raises_fails_the_execution(plain, error, reason, text):
    """What a planner raises ends in plan_failed, and in nothing else."""

    def raising(query: str) -> Plan:
        raise error

    async def raising_later(query: str) -> Plan:
        raise error

    events = await planned(raising if plain else raising_later)
    assert kinds(events) == ["plan_failed"]
    found = failure_of(events)
    assert found[0] == reason
    assert text in found[1]


async def test_a_planner_that_cancels_itself_fails_the_execution():
    """A planner whose own task is cancelled has failed: nobody asked for the execution's end."""

    async def planner(query: str) -> Plan:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)
        return plan(step("a", "noop"))

    events = await planned(planner)
    assert kinds(events) == ["plan_failed"]
    assert failure_of(events) == ("PLANNER_FAILED", "the planner cancelled its own task")


@pytest.mark.parametrize("nonsense", [None, 7, "plan", {"steps": []}], ids=repr)
async def test_a_planner_that_returns_nonsense_fails_the_execution(nonsense):
    """What is no Plan is named by its type."""

    async def planner(query: str) -> Any:
        return nonsense

    events = await planned(planner)
    assert kinds(events) == ["plan_failed"]
    assert failure_of(events) == ("PLAN_INVALID", f"the planner returned {type(nonsense).__name__}, not Plan")


async def test_a_planner_s_plan_is_checked():
    """A plan of the planner that can't run fails the execution with each violation named."""

    async def planner(query: str) -> Plan:
        return plan(step("a", "noop", depends_on=["b"]), step("b", "noop", depends_on=["a"]))

    events = await planned(planner)
    reason, text = failure_of(events)
    assert reason == "PLAN_INVALID"
    assert "is a cycle: a -> b -> a" in text


async def test_a_planner_that_hangs_can_be_cancelled():
    """A cancel while the planner runs ends the execution at once."""
    app = App("planned")
    begun = asyncio.Event()

    @app.planner
    async def planner(query: str) -> Plan:
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    async with Rig(app) as rig:
        execution_id = await rig.start(ExecuteRequest(query="do it"))
        await begun.wait()
        record = await rig.engine.cancel(execution_id, actor="me", reason="enough")
        assert record.last_sequence == 1
        events = await rig.ended(execution_id)
    assert kinds(events) == ["plan_cancelling", "plan_cancelled"]
    assert events[-1].plan_cancelled.reason == "enough"


async def test_a_planner_that_swallows_its_cancel_is_abandoned():
    """A planner that does not end is let go of after the grace period, and its plan is not taken any more."""
    app = App("planned")
    begun = asyncio.Event()
    free = asyncio.Event()

    @app.operation()
    async def noop():
        raise AssertionError

    @app.planner
    async def planner(query: str) -> Plan:
        begun.set()
        while not free.is_set():
            with suppress(asyncio.CancelledError):
                await free.wait()
        return plan(step("a", "noop"))

    async with Rig(app, cancel_grace=10) as rig:
        execution_id = await rig.start(ExecuteRequest(query="do it"))
        await begun.wait()
        await rig.engine.cancel(execution_id, actor="me", reason="")
        await turns()
        assert rig.engine.running == 1
        rig.clock.advance(10)
        events = await rig.ended(execution_id)
        assert rig.engine.abandoned == 1
        free.set()
        await until(lambda: not rig.engine.abandoned)
    assert kinds(events) == ["plan_cancelling", "plan_cancelled"]


async def test_a_named_plan_is_made_with_its_input():
    """A plan function gets the call's input; a plain one runs in a thread, where it can't hold up the event loop."""
    app = App("named")
    threads: list[str] = []

    @app.operation()
    async def give(value: int):
        return value

    @app.plan()
    def plain(value: int) -> Plan:
        threads.append(threading.current_thread().name)
        return plan(step("a", "give", input={"value": value}))

    @app.plan()
    async def later(value: int = 3) -> Plan:
        return plan(step("a", "give", input={"value": value}))

    async with Rig(app) as rig:
        call = ExecuteRequest()
        call.call.plan = "plain"
        call.call.input["value"] = 5
        assert output(await rig.run(call)) == 5
        call = ExecuteRequest()
        call.call.plan = "later"
        assert output(await rig.run(call)) == 3
    assert threads != [threading.main_thread().name]


async def test_storage_full_holds_an_execution_up_and_no_more():
    """While the disk is full an execution waits, and goes on when there is room."""
    work = Work({})
    journal = HeldJournal()
    journal.fails = [StorageFull("full"), StorageFull("full")]
    async with Rig(work.app, journal=journal) as rig:
        execution_id = await rig.start(request(step("a", "coroutine")))
        for _ in range(2):
            await until(lambda: rig.clock.pending)
            rig.clock.advance(1)
        events = await rig.ended(execution_id)
    well_formed(events)
    assert state_of(events) == "COMPLETED"


async def test_what_happens_while_there_is_no_room_is_not_missed():
    """A failure that comes while the execution waits for the journal ends it as soon as there is room, with no grace to
    wait for.
    """
    app = App("full")
    fail, failed = asyncio.Event(), asyncio.Event()

    @app.operation()
    async def loud(step) -> None:
        await step.content("x" * 20_000)

    @app.operation()
    async def bad() -> None:
        await fail.wait()
        failed.set()
        raise ValueError("no")

    @app.operation()
    async def noop() -> None:
        pass

    journal = HeldJournal()
    async with Rig(app, journal=journal, max_pending_bytes=10_000) as rig:
        execution_id = await rig.start(
            request(
                step("a", "bad"),
                step("b", "noop", depends_on=["a"]),
                step("c", "loud"),
                step("d", "noop", depends_on=["c"]),
                options=ExecutionOptions(failure_policy=ExecutionOptions.FAILURE_POLICY_FAIL_FAST),
            )
        )
        journal.hold()
        await until(lambda: rig.engine._live[execution_id].fold.completed)
        await turns()
        fail.set()
        await failed.wait()
        await turns()
        journal.release()
        events = await rig.ended(execution_id)
        assert rig.clock.monotonic() == 0
    well_formed(events)
    assert about(events, "d") == ["step_skipped"]
