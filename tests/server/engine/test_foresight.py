"""How long an execution will still take."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from statistics import median

import pytest
from google.protobuf import struct_pb2

from stepwire.errors import JournalDamaged
from stepwire.v1 import Event, Execution, Plan, PlanRevised
from stepwire_server import App, StepContext, output_of, plan_step
from stepwire_server.engine.fold import Fold
from stepwire_server.engine.foresight import Foresight
from stepwire_server.engine.items import item_steps
from stepwire_server.engine.spread import Spread
from stepwire_server.engine.stamp import Stamp
from stepwire_server.journal import MemoryJournal, Typical

from .remaining import measure
from .rig import Rig, kinds

TEN = Spread(count=100_000, p25=9.8, p50=10.0, p75=10.2)
"""An operation that takes 10 s, as good as always."""


class Scene:
    """An execution whose events come when a test says so."""

    def __init__(self, *steps: object, slots: int = 32, **known: Spread) -> None:
        self.known = dict(known)
        self.now = 0.0
        self.fold = Fold(create_ns=0, planning=False)
        self.foresight = Foresight(self.fold, slots=slots, known=lambda: self.known)
        self.event = Event()
        self.say("plan_started", plan=Plan(steps=steps))  # type: ignore[arg-type]

    def say(self, kind: str, step: str = "", *, after: float = 0.0, **fields: object) -> float | None:
        """Records an event, `after` seconds after the last one. Returns the seconds that it says are left."""
        self.now += after
        event = self.event = Event(step_id=step)
        arm = getattr(event, kind)
        arm.SetInParent()
        for name, value in fields.items():
            target = getattr(arm, name)
            target.CopyFrom(value) if hasattr(target, "CopyFrom") else setattr(arm, name, value)
        at = int(self.now * 1e9)
        self.fold.apply(event, kind, at)
        self.foresight.look(event, kind, at)
        Stamp(event).write(self.fold, event.step_id)
        left = event.progress
        assert left.HasField("remaining") == left.HasField("remaining_margin")
        return left.remaining.ToNanoseconds() / 1e9 if left.HasField("remaining") else None

    def estimated(self) -> float | None:
        """Returns the newest estimate, whatever was told before."""
        self.foresight._told, self.foresight._due = None, 0
        return self.say("stage", name="looking")


def chain(count: int, operation: str = "ten") -> list[object]:
    return [plan_step(f"s{i}", operation, depends_on=[f"s{i - 1}"] if i else []) for i in range(count)]


def test_a_row_of_steps_takes_as_long_as_all_of_them():
    """Along a chain what is left of each step adds up."""
    scene = Scene(*chain(4), ten=TEN)
    assert scene.say("stage", name="begun") == pytest.approx(40, rel=0.01)
    scene.say("step_started", "s0")
    assert scene.say("step_progress", "s0", after=4.0) == pytest.approx(36, rel=0.01)
    scene.say("step_completed", "s0", after=6.0)
    assert scene.say("step_started", "s1") == pytest.approx(30, rel=0.01)


def test_steps_side_by_side_take_as_long_as_the_longest():
    """With slots for all, the critical path counts; with few, all of the work over the slots."""
    fan = [plan_step(f"s{i}", "ten") for i in range(10)] + [plan_step("last", "ten", depends_on=["s0"])]
    assert Scene(*fan, ten=TEN).say("stage", name="begun") == pytest.approx(20, rel=0.01)
    assert Scene(*fan, slots=2, ten=TEN).say("stage", name="begun") == pytest.approx(55, rel=0.01)


def test_it_runs_down_with_the_time_between_estimates():
    """Within a second of the last estimate, only the time that has passed is taken off."""
    scene = Scene(*chain(2), ten=TEN)
    first = scene.say("step_started", "s0")
    assert first is not None
    scene.known = {}
    assert scene.say("stage", name="so", after=0.4) == pytest.approx(first - 0.4)
    assert scene.say("stage", name="on", after=0.5) == pytest.approx(first - 0.9)
    assert scene.say("stage", name="and so on", after=0.2) is None


def test_what_is_told_goes_over_to_a_new_estimate_by_and_by():
    """However much an estimate changes, what is told moves by half of the difference at most, slower the sooner."""
    scene = Scene(*chain(11), ten=TEN)
    assert scene.say("stage", name="begun") == pytest.approx(110, rel=0.01)
    scene.known = {"ten": Spread(count=100_000, p25=0.98, p50=1.0, p75=1.02)}
    soon = scene.say("stage", name="faster", after=1.1)
    assert soon is not None
    assert 90 < soon < 105
    assert scene.say("stage", name="faster", after=30.0) == pytest.approx((soon - 30 + 11) / 2, rel=0.05)


def test_where_nothing_is_left_none_is_told():
    """When the last step has ended nothing is left, whatever was told before."""
    scene = Scene(*chain(1), ten=TEN)
    scene.say("step_started", "s0")
    assert scene.say("step_completed", "s0", after=3.0) == 0.0


def test_nothing_is_told_of_what_nobody_has_seen():
    """A step still to run whose operation has never completed leaves the estimate out; one that has ended does not."""
    scene = Scene(plan_step("a", "new"), plan_step("b", "ten", depends_on=["a"]), ten=TEN)
    assert scene.say("stage", name="begun") is None
    scene.say("step_started", "a")
    assert scene.say("step_completed", "a", after=5.0) == pytest.approx(10, rel=0.01)


def test_the_first_of_many_alike_tells_how_long_the_others_take():
    """An operation that is new to the journal is known by its steps that completed in this execution."""
    scene = Scene(*chain(5, "new"))
    for i in range(2):
        scene.say("step_started", f"s{i}")
        scene.say("step_completed", f"s{i}", after=8.0)
    told = scene.estimated()
    assert told == pytest.approx(3 * 8, rel=0.15)


def test_what_a_step_says_of_itself_is_all_that_is_known():
    """Without a past a running step is extrapolated from its own percentage, once that says something."""
    scene = Scene(plan_step("a", "new"))
    scene.say("step_started", "a")
    assert scene.say("step_progress", "a", after=0.5, percentage=50.0) is None
    assert scene.say("step_progress", "a", after=9.5, percentage=40.0) == pytest.approx(15, rel=0.01)


def test_what_a_step_says_of_itself_counts_beside_the_past():
    """A step that is slower than all before it says so by its percentage; a quick first quarter proves nothing."""
    wide = Spread(count=1000, p25=7.0, p50=10.0, p75=14.0)
    slow = Scene(plan_step("a", "op"), op=wide)
    slow.say("step_started", "a")
    slow.say("step_progress", "a", after=20.0, percentage=50.0)
    assert wide.after(20.0).mean * 1.2 < (slow.estimated() or 0) < 20
    quick = Scene(plan_step("a", "op"), op=wide)
    quick.say("step_started", "a")
    quick.say("step_progress", "a", after=0.001, percentage=25.0)
    assert (quick.estimated() or 0) > 5


def test_nobody_knows_how_long_people_take():
    """While it is paused or a step waits for a person nothing is told; then it goes on, without that time."""
    scene = Scene(*chain(2), ten=TEN)
    scene.say("step_started", "s0")
    assert scene.say("plan_paused", after=2.0) is None
    assert scene.say("stage", name="while paused", after=5.0) is None
    assert scene.say("plan_resumed") == pytest.approx(13, rel=0.1)
    assert scene.say("input_requested", "s0", input_id="q") is None
    assert scene.say("stage", name="while it waits", after=3600.0) is None
    assert scene.say("input_received", "s0", input_id="q") == pytest.approx(13, rel=0.1)


def test_another_attempt_begins_anew():
    """A step that is tried again has all of its time before it."""
    scene = Scene(*chain(1), ten=TEN)
    scene.say("step_started", "s0")
    scene.say("step_retrying", "s0", after=9.0)
    scene.say("step_started", "s0")
    assert scene.estimated() == pytest.approx(10, rel=0.01)


def test_one_that_is_late_still_ends_some_time():
    """A step that takes longer than ever is not told to end at once, nor never."""
    scene = Scene(*chain(1), ten=TEN)
    scene.say("step_started", "s0")
    for _ in range(60):
        left = scene.say("step_progress", "s0", after=5.0)
        assert left is not None
        assert 0 <= left < 40
    assert (scene.estimated() or 0) > 10


@pytest.mark.parametrize("end", ["plan_completed", "plan_failed", "plan_cancelling"])
def test_at_the_end_nothing_is_left_to_tell(end: str):
    """The terminal event has no estimate, nor has one that is being cancelled."""
    scene = Scene(*chain(1), ten=TEN)
    scene.say("step_started", "s0")
    assert scene.say("step_completed", "s0", after=10.0) is not None
    assert scene.say(end) is None


def test_folding_gives_what_was_told():
    """The estimate is in the events: folding them again gives it, and its margin."""
    scene = Scene(*chain(3), ten=TEN)
    scene.say("step_started", "s0", after=1.0)
    again = Fold(create_ns=0, planning=False)
    first = Event()
    first.plan_started.plan.CopyFrom(Plan(steps=chain(3)))  # type: ignore[arg-type]
    again.apply(first, "plan_started", 0)
    assert again.remaining is None
    again.apply(scene.event, "step_started", int(1e9))
    assert again.remaining == scene.fold.remaining
    assert again.remaining is not None
    assert again.snapshot().progress.remaining == scene.event.progress.remaining


def test_a_large_plan_is_gone_over_less_often():
    """Of 10,000 steps the estimate is made every 11 s: each costs what the plan is long."""
    scene = Scene(*[plan_step(f"s{i}", "ten") for i in range(10_000)], slots=100, ten=TEN)
    assert scene.say("stage", name="first") == pytest.approx(1_000, rel=0.01)
    scene.known = {}
    assert scene.say("stage", name="still the first", after=10.9) is not None
    assert scene.say("stage", name="second", after=0.2) is None


@pytest.mark.timeout(120)
def test_it_is_better_than_extrapolation():
    """Over executions of a random plan with noisy steps, what is told is nearer to the truth than the percentage says,
    and nothing is left untold once the journal has seen some.
    """
    outcome = measure(seen=10, executions=10, seed=3)
    assert outcome.untold == 0
    for way in (0.25, 0.5):
        assert median(outcome.told[way]) < median(outcome.extrapolated[way])


def app_with(gate: asyncio.Event) -> App:
    """Returns an app whose one operation ends at once while the gate is open, and never while it is closed."""
    app = App("told")

    @app.operation()
    async def work(step: StepContext) -> None:
        if gate.is_set():
            return
        await step.progress(10)
        await asyncio.Event().wait()

    return app


async def test_a_past_that_cannot_be_read_leaves_estimates_out():
    """A journal that can't tell past durations leaves estimates out, and nothing else."""

    class Damaged(MemoryJournal):
        async def typical(self, *, tenant: str) -> Mapping[str, Typical]:
            raise JournalDamaged("no past")

    gate = asyncio.Event()
    gate.set()
    async with Rig(app_with(gate), journal=Damaged(), recover=True) as rig:
        events = await rig.run(Plan(steps=[plan_step("a", "work")]))
        assert kinds(events)[-1] == "plan_completed"
        assert not any(event.progress.HasField("remaining") for event in events)


async def test_what_is_told_is_in_the_snapshot():
    """The record's snapshot and the fold of the events have what the last event told."""
    gate = asyncio.Event()
    async with Rig(app_with(gate)) as rig:
        gate.set()
        rig.clock.advance(1)
        await rig.run(Plan(steps=[plan_step("a", "work")]))
        rig.clock.advance(5)
        gate.clear()
        await rig.engine._experience.read()
        execution_id = await rig.start(Plan(steps=[plan_step("a", "work"), plan_step("b", "work", depends_on=["a"])]))
        told = await rig.durable(execution_id, "step_progress")
        assert told.progress.HasField("remaining")
        fold = await rig.fold(execution_id)
        assert fold.remaining is not None
        record = await rig.engine.get(execution_id)
        assert Execution.FromString(record.snapshot).progress.remaining == told.progress.remaining
        await rig.engine.cancel(execution_id, actor="", reason="")
        rig.clock.advance(60)
        await rig.ended(execution_id)


def test_a_plan_that_grows_takes_longer():
    """Steps that are added are reckoned with as soon as they are."""
    scene = Scene(*chain(1), ten=TEN)
    scene.say("step_started", "s0")
    added = PlanRevised(steps=[plan_step("more", "ten", depends_on=["s0"])], added_by="s0", revision=1)
    event = Event()
    event.plan_revised.CopyFrom(added)
    scene.fold.apply(event, "plan_revised", int(5e9))
    scene.now = 5.0
    assert scene.estimated() == pytest.approx(15, rel=0.01)


@pytest.mark.parametrize(("bound", "seconds"), [(0, 10.0), (1, 30.0), (2, 15.0)])
def test_a_mapped_step_takes_as_long_as_its_items(bound: int, seconds: float):
    """What a mapped step takes is in its items, as many of them at once as its bound allows."""
    mapped = plan_step("m", "ten", for_each={"n": [1, 2, 3]}, max_parallel=bound)
    scene = Scene(mapped, plan_step("last", "ten", depends_on=["m"]), ten=TEN)
    scene.say("step_started", "m")
    event = Event()
    event.plan_revised.steps.extend(item_steps(mapped, list(mapped.for_each.values.values), most=10_000))
    event.plan_revised.added_by = "m"
    scene.fold.apply(event, "plan_revised", 0)
    assert scene.estimated() == pytest.approx(seconds + 10, rel=0.01)
    scene.known = {}
    for i in (1, 2, 3):
        scene.say("step_started", f"m-{i}")
        scene.say("step_completed", f"m-{i}", after=10.0)
    scene.say("step_completed", "m", after=100.0)
    assert scene.estimated() == pytest.approx(10, rel=0.2)


@pytest.mark.parametrize(("bound", "seconds"), [(0, 20.0), (1, 40.0), (2, 25.0)])
def test_a_mapped_step_that_has_no_items_yet_takes_as_long_as_they_will(bound: int, seconds: float):
    """Before the plan has a step for each item of a list that stands in it, what they will take is told."""
    mapped = plan_step("m", "ten", for_each={"n": [1, 2, 3]}, max_parallel=bound)
    scene = Scene(mapped, plan_step("last", "ten", depends_on=["m"]), ten=TEN)
    assert scene.say("step_started", "m") == pytest.approx(seconds, rel=0.01)


def test_nothing_is_told_before_it_is_known_how_many_items_there_are():
    """A list that another step is still to give may have one item or thousands."""
    mapped = plan_step("m", "ten", for_each={"n": output_of("make")})
    scene = Scene(plan_step("make", "ten"), mapped, ten=TEN)
    assert scene.say("step_started", "make") is None
    scene.say("step_completed", "make", after=10.0)
    scene.say("step_started", "m")
    items = [struct_pb2.Value(number_value=number) for number in range(100)]
    event = Event()
    event.plan_revised.steps.extend(item_steps(mapped, items, most=1 << 20))
    event.plan_revised.added_by = "m"
    scene.fold.apply(event, "plan_revised", int(10e9))
    assert scene.estimated() == pytest.approx(100 * 10 / 32, rel=0.01)
