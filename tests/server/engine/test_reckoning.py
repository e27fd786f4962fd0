"""How far a step is: by its parts, by an operation's own rule, and whatever happens in whatever order."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.faults.parts import parts_of_steps

from stepwire.parts import Parts
from stepwire.v1 import Event, ExecutionOptions, Retry, StepState
from stepwire_server import App, Report, StepContext
from stepwire_server.engine.fold import Fold
from stepwire_server.engine.substeps import Work

from .rig import Rig, VirtualClock, kind_of, of_kind, request, step, view, well_formed


async def reports(operation: Any, rule: Callable[..., Any], **more: Any) -> list[float | None]:
    """Returns the step's percentages that stand in the reports of an execution of one step with this rule."""
    app = App("rules")
    app.operation("op", progress=rule)(operation)
    async with Rig(app) as rig:
        events = await rig.run(request(step("a", "op"), **more))
    well_formed(events)
    found = [event.step_progress for event in of_kind(events, "step_progress")]
    return [report.percentage if report.HasField("percentage") else None for report in found]


async def slow_and_fast(step: StepContext) -> None:
    await step.substeps(["slow", "fast"])
    async with step.substep("slow") as slow, step.substep("fast") as fast:
        await fast.progress(90)
        await slow.progress(30)


async def test_a_rule_over_the_parts():
    """A rule of the operation's own says how far a step is, from its parts as they are then."""

    def slowest(report: Report) -> float | None:
        return min((part.percentage for part in report.parts), default=None)

    assert await reports(slow_and_fast, slowest) == [0, 0, 0, 0, 30, 30, 100]


async def test_a_rule_over_what_is_counted():
    """A rule sees what a report says, what it would come to without the rule, and which part it is about."""
    seen = []

    def rule(report: Report) -> float | None:
        seen.append((report.path, report.stage, report.current, report.total, report.unit, dict(report.data)))
        return None if report.percentage is None else report.percentage / 2

    async def op(step: StepContext) -> None:
        await step.progress(stage="reading", current=3, total=4, unit="files", data={"x": 1})
        await step.progress(message="a text")
        async with step.substep("part"):
            pass

    assert await reports(op, rule) == [37.5, None, 37.5, 50]
    assert seen == [
        ("", "reading", 3, 4, "files", {"x": 1}),
        ("", "", None, None, "", {}),
        ("part", "", None, None, "", {}),
        ("part", "", None, None, "", {}),
    ]


@pytest.mark.parametrize("given", [-1, 101, float("nan"), float("inf"), "12", [1], object()])
async def test_a_rule_that_returns_nonsense(given, caplog):
    """What is no percentage is said once in the log, and it is as without the rule."""
    with caplog.at_level(logging.WARNING):
        assert await reports(slow_and_fast, lambda report: given) == pytest.approx([0, 0, 0, 45, 60, 65, 100])
    (record,) = caplog.records
    assert (
        record.getMessage() == f"operation 'op': its rule of progress returned {given!r}; it must be 0 to 100, or None"
    )


async def test_a_rule_that_raises(caplog):
    """A rule that raises breaks no step: it is said once in the log, and it is as without the rule."""

    def rule(report: Report) -> float:
        raise KeyError("oops")

    with caplog.at_level(logging.WARNING):
        assert await reports(slow_and_fast, rule) == pytest.approx([0, 0, 0, 45, 60, 65, 100])
    (record,) = caplog.records
    assert record.getMessage() == "operation 'op': its rule of progress raised"
    assert record.exc_info is not None


async def test_a_simulated_step_has_no_rule():
    """Where the operation is not called, its rule is not, either."""
    options = ExecutionOptions(simulate=True)
    assert await reports(slow_and_fast, lambda report: 1, options=options) == [10, 50, 90]


def test_a_rule_is_a_plain_function():
    """A rule that would have to be awaited is refused where it is registered."""

    async def rule(report: Report) -> float:
        return 1

    with pytest.raises(TypeError, match="operation 'op': progress must be a plain function"):
        App("rules").operation("op", progress=rule)(slow_and_fast)  # type: ignore[arg-type]


class Piece(NamedTuple):
    """What a part does: says percentages, has pieces one after the other or side by side, and may fail."""

    weight: float | None
    declares: bool
    together: bool
    fails: bool
    acts: tuple[float | Piece, ...]


weights = st.none() | st.floats(1e-6, 1e6)
percentages = st.floats(0, 100)


def pieces(inner: st.SearchStrategy[Piece] | None) -> st.SearchStrategy[Piece]:
    acts = percentages if inner is None else percentages | inner
    return st.builds(Piece, weights, st.booleans(), st.booleans(), st.booleans(), st.lists(acts, max_size=4).map(tuple))


trees = pieces(pieces(pieces(pieces(None))))


async def play(work: Work, piece: Piece) -> None:
    """Does what a piece says, in the name of a step or a part."""
    inner = [(f"n/{number}", act) for number, act in enumerate(piece.acts) if isinstance(act, Piece)]
    if piece.declares and inner:
        await work.substeps({name: act.weight or 1.0 for name, act in inner})

    async def part(name: str, act: Piece) -> None:
        with suppress(ArithmeticError):
            async with work.substep(name, weight=act.weight) as sub:
                await asyncio.sleep(0)
                await play(sub, act)

    if piece.together:
        await asyncio.gather(*(part(name, act) for name, act in inner))
    for number, act in enumerate(piece.acts):
        if isinstance(act, float):
            await work.progress(act)
        elif not piece.together:
            await part(f"n/{number}", act)
    if piece.fails:
        raise ArithmeticError


@given(trees, st.booleans())
@settings(max_examples=60, deadline=None)
def test_any_tree_in_any_order(tree: Piece, again: bool):
    """Whatever parts do, in whatever order: the step's percentage is what its parts and its word come to, folding the
    events gives the live state at each of them, and the whole never goes back and is 100 at its end alone.
    """
    asyncio.run(run_tree(tree, again))


async def run_tree(tree: Piece, again: bool) -> None:
    app = App("trees")

    @app.operation("op", retry=Retry(attempts=2))
    async def op(step: StepContext) -> None:
        with suppress(ArithmeticError):
            await play(step, tree._replace(acts=tuple(act for act in tree.acts if isinstance(act, Piece))))
        if step.attempt == 1 and again:
            raise OSError

    async with Rig(app, clock=VirtualClock(skip=True)) as rig:
        execution_id = await rig.start(request(step("a", "op"), step("b", "op")))
        live = rig.engine._live[execution_id].recorder.fold
        events = await rig.ended(execution_id)
        record = await rig.engine.get(execution_id)
        assert view(await rig.fold(execution_id)) == view(live)
    well_formed(events)
    fold = Fold(create_ns=record.create_time_ns, planning=False)
    for event in events:
        fold.apply(event, kind_of(event), event.event_time.ToNanoseconds())
        assert fold.percentage == event.progress.percentage
    assert list(parts_of_steps(events)) == []


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xyz"), weights, percentages), max_size=40))
def test_sums_that_are_kept_up(told: list[tuple[str, str, float | None, float]]):
    """Parts whose weights and percentages change again and again come to what they would if they were reckoned anew."""
    parts = Parts()
    newest: dict[str, tuple[float, float]] = {}
    for number, (outer, inner, weight, percentage) in enumerate(told):
        event = Event()
        part = event.step_progress.substep
        part.path, part.weight, part.percentage = f"{outer}/{inner}", weight or 1.0, percentage
        part.state = StepState.STEP_STATE_PROGRESS if number % 3 else StepState.STEP_STATE_FAILED
        parts.apply(event.step_progress)
        newest[part.path] = (part.weight, percentage)
        sums = []
        for name in {path[0] for path in newest}:
            below = [entry for path, entry in newest.items() if path[0] == name]
            sums.append(sum(w * p for w, p in below) / sum(w for w, _ in below))
        assert parts.percentage() == pytest.approx(sum(sums) / len(sums), abs=1e-6)
