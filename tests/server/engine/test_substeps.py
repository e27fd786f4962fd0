"""Parts of a step: what their author may write, and what each call records."""

from __future__ import annotations

import asyncio
import math
import threading
from contextlib import AsyncExitStack, suppress
from typing import Any

import pytest

from stepwire.errors import LimitSize
from stepwire.parts import MAX_DEPTH, MAX_PARTS
from stepwire.v1 import Event, Retry, StepState
from stepwire_server import App, BlockingStepContext, StepContext, StepEnded
from stepwire_server.engine.reckoning import Rule

from .rig import HANGS, Rig, VirtualClock, kind_of, kinds, of_kind, output, request, step, until, view, well_formed


async def run(operation: Any, *, rule: Rule | None = None, retry: Retry | None = None) -> list[Event]:
    """Returns the events of an execution of one step that calls the operation, once they fold to what was live."""
    app = App("parts")
    app.operation("op", progress=rule, retry=retry)(operation)
    async with Rig(app, clock=VirtualClock(skip=True)) as rig:
        execution_id = await rig.start(request(step("a", "op", name="A step")))
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


async def test_a_part_that_fails():
    """An exception that leaves a part makes it FAILED where it stands, with its text; where it is caught outside, the
    step goes on.
    """

    async def op(step: StepContext) -> str:
        with suppress(OSError):
            async with step.substep("upload") as upload:
                await upload.progress(40)
                raise OSError("no line")
        async with step.substep("print"):
            pass
        return "printed"

    events = await run(op)
    assert output(events) == "printed"
    assert told(events)[2:] == [
        ("upload", "FAILED", 40, 40),
        ("print", "RUNNING", 0, 20),
        ("print", "COMPLETED", 100, 70),
    ]
    assert of_kind(events, "step_progress")[2].message == "Failed: upload: OSError: no line"


async def test_a_part_that_is_cancelled():
    """A cancel that leaves a part makes it CANCELLED, in a coroutine of the operation as by the whole's end."""
    app = App("parts")
    begun = asyncio.Event()

    @app.operation("op")
    async def op(step: StepContext) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0), step.substep("short"):
                await asyncio.Event().wait()
        async with step.substep("long"):
            begun.set()
            await asyncio.Event().wait()

    async with Rig(app) as rig:
        execution_id = await rig.start(request(step("a", "op")))
        await asyncio.wait_for(begun.wait(), HANGS)
        await rig.engine.cancel(execution_id, actor="me", reason="")
        events = await rig.ended(execution_id)
    assert [entry[:2] for entry in told(events)] == [
        ("short", "RUNNING"),
        ("short", "CANCELLED"),
        ("long", "RUNNING"),
        ("long", "CANCELLED"),
    ]
    assert kinds(events)[-3:] == ["step_progress", "step_cancelled", "plan_cancelled"]


@pytest.mark.parametrize("reports", [True, False])
async def test_a_part_whose_step_has_ended(reports):
    """A plain function whose step ends in the middle of a part leaves it with the exception that told it so, or with
    one of its own.
    """
    app = App("parts")
    seen: list[BaseException] = []
    inside, go_on = threading.Event(), threading.Event()

    @app.operation("op")
    def op(step: BlockingStepContext) -> None:
        try:
            with step.substep("slow"):
                inside.set()
                assert go_on.wait(HANGS)
                if reports:
                    step.progress(1)
                raise KeyError
        except (StepEnded, KeyError) as error:
            seen.append(error)
            raise

    async with Rig(app) as rig:
        execution_id = await rig.start(request(step("a", "op")))
        await until(inside.is_set)
        await rig.engine.cancel(execution_id, actor="me", reason="")
        go_on.set()
        events = await rig.ended(execution_id)
    assert [type(error) for error in seen] == [StepEnded if reports else KeyError]
    assert told(events) == [("slow", "RUNNING", 0, 0)]


async def test_a_part_that_outlives_its_attempt():
    """A task that goes on after its operation has ended leaves its part with what it raises, and with StepEnded where
    it raises nothing; nothing more is recorded.
    """
    app = App("parts")
    go_on = asyncio.Event()
    tasks: list[asyncio.Task[None]] = []

    @app.operation("op")
    async def op(step: StepContext) -> None:
        inside = asyncio.Barrier(3)

        async def beyond(error: Exception | None) -> None:
            async with step.substep(repr(error)):
                await inside.wait()
                await go_on.wait()
                if error is not None:
                    raise error

        tasks.extend(asyncio.create_task(beyond(error)) for error in (KeyError(), None))
        await inside.wait()

    async with Rig(app) as rig:
        events = await rig.run(request(step("a", "op")))
        go_on.set()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(end) for end in ends] == [KeyError, StepEnded]
    assert [entry[1] for entry in told(events)] == ["RUNNING", "RUNNING"]


@pytest.mark.parametrize("stops", ["timeout", "drain"])
async def test_a_part_in_which_the_engine_stops_its_step(stops):
    """A timeout and a stop of the server end a part as CANCELLED, before what they say of the step."""
    app = App("parts")
    inside = asyncio.Event()

    @app.operation("op", timeout=5 if stops == "timeout" else None)
    async def op(step: StepContext) -> None:
        async with step.substep("slow"):
            inside.set()
            await asyncio.Event().wait()

    async with Rig(app) as rig:
        execution_id = await rig.start(request(step("a", "op")))
        await asyncio.wait_for(inside.wait(), HANGS)
        if stops == "timeout":
            rig.clock.advance(5)
            await rig.ended(execution_id)
        else:
            await rig.engine.drain(0)
        events = await rig.events(execution_id)
    assert [entry[1] for entry in told(events)] == ["RUNNING", "CANCELLED"]
    after = [event for event in events if event.step_id][-1]
    assert kind_of(after) == ("step_failed" if stops == "timeout" else "step_retrying")


async def test_a_name_for_the_second_time():
    """A part whose name had one before is that one, once more from 0 and without what it had; a loop of tries is no
    bound's concern.
    """

    async def op(step: StepContext) -> None:
        await step.substeps({"send": 3, "file": 1})
        for _ in range(MAX_PARTS):
            with suppress(OSError):
                async with step.substep("send") as send:
                    await send.substeps(["a", "b", "c"])
                    async with send.substep("a"):
                        raise OSError
        async with step.substep("send", weight=1) as send:
            await send.progress(50)

    events = await run(op)
    assert told(events)[-3:] == [
        ("send", "RUNNING", 0, 0),
        ("send", "PROGRESS", 50, 25),
        ("send", "COMPLETED", 100, 50),
    ]
    assert told(events)[6:9] == [("send", "RUNNING", 0, 0), ("", "UNSPECIFIED", 0, 0), ("send/a", "RUNNING", 0, 0)]


async def test_an_author_s_mistakes():
    """What can't be a part, or can't be said of it now, raises where it is written, and nothing is recorded of it."""

    async def op(step: StepContext) -> str:
        unborn = step.substep("unborn")
        with pytest.raises(RuntimeError, match=r"'unborn' has not begun: enter it with `async with`"):
            await unborn.progress(1)
        with pytest.raises(RuntimeError, match="'unborn' has not begun"):
            async with unborn.substep("inner"):
                pass
        async with step.substep("twice") as twice:
            with pytest.raises(RuntimeError, match="'twice' runs already"):
                async with step.substep("twice"):
                    pass
            late = twice.substep("late")
            with pytest.raises(RuntimeError, match="was entered before"):
                async with twice:
                    pass
        for gone in (twice.progress(1), twice.substeps(["x"]), late.__aenter__(), twice.__aexit__(None, None, None)):
            with pytest.raises(RuntimeError, match="'twice' has ended"):
                await gone
        for name in ("", "  ", "x" * 201):
            with pytest.raises(ValueError, match="1 to 200, and not be blank"):
                step.substep(name)
        with pytest.raises(TypeError, match="of type int; it must be text"):
            step.substep(7)  # type: ignore[arg-type]
        for weight in (0, -1, math.nan, math.inf, 2e6):
            with pytest.raises(ValueError, match=r"the weight of 'w' is .*; it must be 0\.000001 to 1,000,000"):
                step.substep("w", weight=weight)
            with pytest.raises(ValueError, match="the weight of 'w'"):
                await step.substeps({"v": 1, "w": weight})
        with pytest.raises(ValueError, match="no parts are given"):
            await step.substeps([])
        with pytest.raises(ValueError, match="0 to 100"):
            async with step.substep("far") as far:
                await far.progress(101)
        return "done"

    events = await run(op)
    assert output(events) == "done"
    assert [entry[:2] for entry in told(events)] == [
        ("twice", "RUNNING"),
        ("twice", "COMPLETED"),
        ("far", "RUNNING"),
        ("far", "FAILED"),
    ]


async def test_names_with_a_stroke():
    """A name may have any character: in the path it can't be taken for two."""

    async def op(step: StepContext) -> None:
        async with step.substep("a/b") as outer, outer.substep("~1/"):
            pass

    parts = [event.step_progress.substep for event in of_kind(await run(op), "step_progress")]
    assert [(part.path, part.name) for part in parts[:2]] == [("a~1b", "a/b"), ("a~1b/~01~1", "~1/")]


async def test_bounds_of_parts():
    """Beyond 1,000 parts at a time, or 16 deep, it raises LimitSize; what has completed makes room for others."""

    async def op(step: StepContext) -> str:
        async with step.substep("first") as first:
            await first.substeps(map(str, range(MAX_PARTS - 1)))
            for declare in (step.substeps(["x"]), first.substeps(["998", "999"]), step.substep("y").__aenter__()):
                with pytest.raises(LimitSize, match=r"more than 1,000 parts; count small pieces"):
                    await declare
            async with first.substep("998"):
                pass
        async with AsyncExitStack() as stack:
            work: Any = step
            for depth in range(MAX_DEPTH):
                work = await stack.enter_async_context(work.substep(f"deep {depth}"))
            with pytest.raises(LimitSize, match=r"would be 17 deep; at most 16"):
                work.substep("too deep")
        return "done"

    events = await run(op)
    assert output(events) == "done"
    assert len(events) == 4 + 5 + 2 * MAX_DEPTH


async def test_what_is_too_large_does_not_count():
    """A report that can't be recorded, of a part or of the step, changes no percentage."""

    async def op(step: StepContext) -> None:
        async with step.substep("part") as part:
            for work in (part, step):
                with pytest.raises(LimitSize):
                    await work.progress(90, "x" * (1 << 20))
            await part.progress(10)

    assert told(await run(op))[1:] == [("part", "PROGRESS", 10, 10), ("part", "COMPLETED", 100, 100)]


async def test_the_step_s_own_word():
    """With parts, what the step, or a part, says itself counts where it is more; a text alone changes nothing."""

    async def op(step: StepContext) -> None:
        await step.progress(10)
        await step.substeps(["a", "b"])
        async with step.substep("a") as a:
            await a.progress(50)
            await step.progress(40, "nearly half")
            await step.progress(5)
            await step.progress(message="only a text")
            async with a.substep("deep") as deep:
                await deep.progress(90)
                await a.progress(20, stage="reading", current=2, total=10, unit="pages")
                await a.progress(message="a text of the part")

    events = await run(op)
    assert told(events) == [
        ("", "UNSPECIFIED", 0, 10),
        ("", "UNSPECIFIED", 0, 10),
        ("a", "RUNNING", 0, 10),
        ("a", "PROGRESS", 50, 25),
        ("", "UNSPECIFIED", 0, 40),
        ("", "UNSPECIFIED", 0, 25),
        ("", "UNSPECIFIED", 0, None),
        ("a/deep", "RUNNING", 0, 25),
        ("a/deep", "PROGRESS", 90, 45),
        ("a", "PROGRESS", 90, 45),
        ("a", "PROGRESS", 90, 45),
        ("a/deep", "COMPLETED", 100, 50),
        ("a", "COMPLETED", 100, 50),
    ]
    counted = of_kind(events, "step_progress")[9].step_progress
    assert (counted.stage, counted.current, counted.total, counted.unit) == ("reading", 2, 10, "pages")


async def test_declared_again():
    """To declare a part that is there changes its weight and nothing else."""

    async def op(step: StepContext) -> None:
        await step.substeps(["a", "b"])
        async with step.substep("a") as a:
            await a.progress(80)
            await step.substeps({"a": 3})
        await step.substeps({"a": 9, "c": 10})

    events = await run(op)
    assert [entry[3] for entry in told(events)] == [0, 0, 40, 60, 75, 45]
    again = of_kind(events, "step_progress")[3].step_progress.declared[0]
    assert (again.state, again.percentage, again.weight) == (StepState.STEP_STATE_PROGRESS, 80, 3)


async def test_a_retry_begins_without_parts():
    """Parts belong to their attempt: the next one begins with none, and the whole does not go back."""

    async def op(step: StepContext) -> None:
        if step.attempt == 1:
            await step.substeps({"a": 1, "b": 3})
            async with step.substep("b"):
                pass
            raise OSError
        async with step.substep("a") as a:
            await a.progress(50)

    events = await run(op, retry=Retry(attempts=2))
    assert [
        (*entry, event.progress.percentage)
        for entry, event in zip(told(events)[2:], of_kind(events, "step_progress")[2:], strict=True)
    ] == [
        ("b", "COMPLETED", 100, 75, 75),
        ("a", "RUNNING", 0, 0, 75),
        ("a", "PROGRESS", 50, 50, 75),
        ("a", "COMPLETED", 100, 100, 99.99),
    ]


def counts(events: list[Event]) -> list[tuple[float, float]]:
    """Returns pieces done and in all of each report."""
    return [(event.step_progress.current, event.step_progress.total) for event in of_kind(events, "step_progress")]


@pytest.mark.parametrize("count", [0, 1, 3, 100, 101, 12_345])
async def test_items_that_are_tracked(count):
    """Items are given in their order, and at most 101 reports say how many of them are done, the first none, the last
    all; of a step, of a part, and in a thread.
    """

    async def op(step: StepContext) -> list[int]:
        return [item async for item in step.track(range(count), "files")][-3:]

    def blocking(step: BlockingStepContext) -> list[int]:
        with step.substep("part") as part:
            return list(part.track(range(count), "files"))[-3:]

    events = await run(op)
    assert output(events) == list(range(count))[-3:]
    found = counts(events)
    assert found[0] == (0, count)
    assert found[-1] == (count, count)
    assert len(found) == min(count, 100) + 1
    assert found == sorted(found)
    events = await run(blocking)
    assert output(events) == list(range(count))[-3:]
    assert counts(events)[1:-1] == found


async def test_items_of_unknown_number():
    """Of what has no number the first two digits of the count are told, and how many there were; and one that was said
    to be smaller is not above its whole.
    """

    async def some() -> Any:
        for item in range(2_025):
            yield item

    async def op(step: StepContext) -> None:
        async for _ in step.track(some(), "rows"):
            pass
        async for _ in step.track(iter("abc"), "rows", total=2):
            pass
        async for _ in step.track("abc"):
            break

    events = await run(op)
    reports = [event.step_progress for event in of_kind(events, "step_progress")]
    assert [report.current for report in reports[:193]] == [*range(100), *range(100, 1_000, 10), 1_000, 1_100, 1_200]
    assert (reports[200].current, reports[200].HasField("total"), reports[200].HasField("percentage")) == (
        2_000,
        False,
        False,
    )
    assert counts(events)[-6:] == [(2_025, 0), (0, 2), (1, 2), (2, 2), (3, 3), (0, 3)]
