"""Several calls in one step: their events, their outcomes, and that none touches another."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepwire.artifacts import Artifacts
from stepwire.errors import InputInvalid
from stepwire.values import to_python
from stepwire_server import App, Plan, StepContext, plan_step
from stepwire_server.tools import Toolbox, ToolFailed, tool_operations

from .parts import HANGS, Ran, call, serving


def box() -> Toolbox:
    toolbox = Toolbox()

    @toolbox.tool()
    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    @toolbox.tool()
    async def refuse(why: str) -> None:
        raise ToolFailed(why)

    @toolbox.tool()
    async def raises() -> None:
        raise KeyError("x")

    return toolbox


def events_of(ran: Ran, name: str) -> list[Any]:
    """The events of a call, its stages and the states of its part, in their order."""
    found: list[Any] = []
    for event in ran.events:
        if event.HasField("stage") and to_python(event.stage.data)["call"] == name:
            found.append(event.stage.name)
        elif event.step_progress.substep.path == name:
            found.append(event.step_progress.substep.state)
    return found


async def test_each_call_says_how_it_goes():
    """A call says executing_X, then completed_X, failed_X where it ran and failed, or error_X where it could not."""
    async with serving(box()) as served:
        ran = await served.tools(
            call("add", a=1, b=2),
            call("refuse", why="not today"),
            call("raises"),
            call("add", a=1, b="2"),
            call("nowhere", id="last"),
        )
    running, completed, failed = 3, 5, 6
    assert events_of(ran, "add") == ["executing_add", running, completed, "completed_add"]
    assert events_of(ran, "refuse") == ["executing_refuse", running, failed, "failed_refuse"]
    assert events_of(ran, "raises") == ["executing_raises", running, failed, "failed_raises"]
    assert events_of(ran, "add-2") == ["executing_add", running, failed, "error_add"]
    assert events_of(ran, "last") == ["executing_nowhere", running, failed, "error_nowhere"]
    assert ran.stage("executing_refuse") == {"call": "refuse", "tool": "refuse", "input": {"why": "not today"}}
    told = ran.stage("completed_add")
    assert (told["call"], told["tool"], told["output"]) == ("add", "add", 3)
    assert told["seconds"] >= 0
    assert ran.stage("failed_raises")["error"] == "KeyError: 'x'"


async def test_outcomes_and_totals():
    """The output has each call's outcome in the order in which they were asked, and the totals; the step completes."""
    async with serving(box()) as served:
        ran = await served.tools(
            call("raises"), call("add", a=1, b=2), call("nowhere"), call("add", a=3, b=4, id="x"), call("add", c=1)
        )
    assert [result["id"] for result in ran.output["results"]] == ["raises", "add", "nowhere", "x", "add-2"]
    assert [result["state"] for result in ran.output["results"]] == [
        "failed", "completed", "error", "completed", "error",
    ]  # fmt: skip
    assert ran.results["x"]["output"] == 7
    assert ran.results["nowhere"]["error"] == "there is no tool 'nowhere'; there are: add, raises, refuse"
    assert "input.c: is not a parameter" in ran.results["add-2"]["error"]
    assert "input.a: is missing" in ran.results["add-2"]["error"]
    assert ran.totals == {"asked": 5, "completed": 2, "failed": 1, "errors": 2}
    assert ran.events[-1].progress.percentage == 100


async def test_calls_run_side_by_side():
    """Calls that wait for one another come to their end, because they run at once; no more than max_parallel."""
    toolbox = Toolbox()
    barrier = asyncio.Barrier(3)
    running: list[int] = []

    @toolbox.tool()
    async def meet() -> None:
        running.append(1)
        await barrier.wait()

    @toolbox.tool()
    async def alone() -> int:
        running.append(1)
        most = len(running)
        await asyncio.sleep(0)
        running.pop()
        return most

    async with serving(toolbox) as served:
        met = await served.tools(*[call("meet")] * 3, max_parallel=3)
        assert met.totals["completed"] == 3
        running.clear()
        one = await served.tools(*[call("alone")] * 5, max_parallel=1)
        assert [result["output"] for result in one.output["results"]] == [1] * 5


async def test_progress_rolls_up():
    """What a tool reports of itself is its part's progress, and the step is as far as its calls are."""
    toolbox = Toolbox()

    @toolbox.tool()
    async def half(tool) -> None:
        await tool.progress(50, "half way")
        await tool.content("piece ")
        await tool.content("by piece")

    async with serving(toolbox) as served:
        ran = await served.tools(call("half"), call("half", id="second"), max_parallel=1)
        alone = await served.step("half")
    told = [event for event in ran.events if event.message == "half way"]
    assert [event.step_progress.substep.path for event in told] == ["half", "second"]
    assert [event.step_progress.percentage for event in told] == [25, 75]
    assert ran.text("half") == ran.text("second") == "piece by piece"
    assert [event.step_progress.percentage for event in alone.events if event.message == "half way"] == [50]
    assert alone.text() == "piece by piece"


async def test_a_step_may_fail_with_its_calls():
    """With fail_on_error the step fails once all calls have ended, and names those that did not complete."""
    async with serving(box()) as served:
        ran = await served.tools(
            call("refuse", why="not today"), call("add", a=1, b=2), call("nowhere"), fail_on_error=True, max_parallel=1
        )
        fine = await served.tools(call("add", a=1, b=2), fail_on_error=True)
    assert ran.output is None
    assert "completed_add" in ran.stages
    assert ran.failure.startswith(
        "ToolFailed: 2 of 3 calls did not complete: refuse (failed: not today), nowhere (error:"
    )
    assert fine.totals["completed"] == 1


async def test_a_step_fails_where_no_call_completed():
    """A step whose calls have all failed fails, as a caller expects; one that completed is enough, and none is where
    that is said.
    """
    async with serving(box()) as served:
        refused, nowhere = call("refuse", why="not today"), call("nowhere")
        none = await served.tools(refused, nowhere, fail_on_error=None)
        some = await served.tools(refused, call("add", a=1, b=2), fail_on_error=None)
        left = await served.tools(refused)
    assert none.failure.startswith("ToolFailed: 2 of 2 calls did not complete: refuse (failed: not today), nowhere (")
    assert (some.totals["completed"], left.totals["failed"]) == (1, 1)


@pytest.mark.parametrize(
    ("inputs", "field"),
    [
        ({"calls": []}, "calls"),
        ({"calls": [call("add", id="x"), call("add", id="x")]}, "calls"),
        ({"calls": [call("add", id="no spaces")]}, "calls[0].id"),
        ({"calls": [{"tool": ""}]}, "calls[0].tool"),
        ({"calls": [{"tool": "add", "inputs": {}}]}, "calls[0].inputs"),
        ({"calls": [call("add")] * 201}, "calls"),
        ({"calls": [call("add")], "max_parallel": 0}, "max_parallel"),
    ],
)
async def test_calls_of_no_form_are_refused_at_once(inputs, field):
    """Calls that can't be told apart, too many of them, or of a wrong form are refused at once, by name."""
    async with serving(box()) as served:
        with pytest.raises(InputInvalid) as refused:
            await served.client.execute(plan=served.plan("run_tools", **inputs))
    assert [violation.field for violation in refused.value.violations] == [f"plan.steps[0].input.{field}"]


async def test_large_outputs():
    """An output that is too large to stand among the others is an artifact, however large it is."""
    toolbox = Toolbox()

    @toolbox.tool()
    def give(size: int) -> str:
        return "x" * size

    async with serving(toolbox) as served:
        ran = await served.tools(
            call("give", size=300_000, id="large"),
            call("give", size=900_000, id="huge"),
            *[call("give", size=100_000) for _ in range(7)],
            max_parallel=1,
        )
    assert ran.results["large"]["artifact"] == "large"
    assert "output" not in ran.results["large"]
    artifacts = Artifacts()
    made = {whole.name: whole.data for event in ran.events if (whole := artifacts.add(event))}
    assert made["large"] == b'"%s"' % (b"x" * 300_000)
    assert made["huge"] == b'"%s"' % (b"x" * 900_000)
    assert ran.results["huge"]["artifact"] == "huge"
    kept = [result for result in ran.output["results"] if "output" in result]
    assert len(kept) == 5
    assert ran.totals == {"asked": 9, "completed": 9, "failed": 0, "errors": 0}


@pytest.mark.parametrize(
    "output",
    [object(), 2**60, float("nan"), [[[[[[[[[[[[[[[1]]]]]]]]]]]]]]], "\ud800"],
    ids=("object", "int", "nan", "deep", "half"),
)
async def test_outputs_that_can_t_be_sent(output):
    """An output that no event can carry fails its call, and no other one."""
    toolbox = box()

    @toolbox.tool()
    def give() -> Any:
        return output

    async with serving(toolbox) as served:
        ran = await served.tools(call("give"), call("add", a=1, b=2))
    assert ran.results["give"]["error"].startswith("its output can't be sent: ")
    assert ran.results["add"]["output"] == 3


async def test_a_cancel_ends_every_call():
    """Where the execution is cancelled, each call is cancelled, and its part says so."""
    toolbox = Toolbox()
    ended: list[str] = []

    @toolbox.tool()
    async def wait(step: StepContext, name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(name)

    async with serving(toolbox) as served, asyncio.timeout(HANGS):
        calls = [call("wait", id=name, name=name) for name in "abc"]
        run = await served.client.execute(plan=served.plan("run_tools", calls=calls, max_parallel=2))
        events = []
        cancelled = False
        async for event in run:
            events.append(event)
            if event.step_progress.substep.path == "b" and not cancelled:
                cancelled = True
                await run.cancel("enough")
    assert sorted(ended) == ["a", "b"]
    assert [event.stage.name for event in events if event.HasField("stage")] == ["executing_wait"] * 2
    states = {event.step_progress.substep.path: event.step_progress.substep.state for event in events}
    assert states["a"] == states["b"] == 8
    assert events[-1].HasField("plan_cancelled")


async def test_each_tool_is_an_operation():
    """A tool is an operation of its own too, with its schema, so that steps can depend on one another's tools."""
    toolbox = box()
    async with serving(toolbox) as served:
        listed = {each.name: each for each in (await served.client.operations()).operations}
        assert set(listed) == {"run_tools", "add", "refuse", "raises"}
        assert listed["add"].description == "Add two numbers."
        assert to_python(listed["add"].input_schema)["required"] == ["a", "b"]
        assert (await served.step("add", a=1, b=2)).output == 3
        assert (await served.step("refuse", why="no")).failure == "ToolFailed: no"
        with pytest.raises(InputInvalid, match="is missing"):
            await served.client.execute(plan=Plan(steps=[plan_step("a", "add", input={"a": 1})]))


def test_tools_of_one_name():
    """A name is one tool's; what can't be an operation's name is refused, and so is run_tools."""
    toolbox = box()
    for name in ("add", "run_tools", "a b", ""):
        with pytest.raises(ValueError, match="tool"):
            toolbox.tool(name or "ä")(lambda: None)
    with pytest.raises(TypeError, match="with parentheses"):
        toolbox.tool(lambda: None)  # type: ignore[arg-type]
    app = App("tested")
    assert tool_operations(app, toolbox, but=["add"]) == {"add", "refuse", "raises"}
    assert set(app.catalog().operations) == {"refuse", "raises"}


# -- for models


def test_schemas_for_models():
    """Tools are described to models in the form of OpenAI's function calling, and as JSON."""
    (add, *_) = json.loads(json.dumps(box().schemas()))
    assert add["type"] == "function"
    assert (add["function"]["name"], add["function"]["description"]) == ("add", "Add two numbers.")
    assert add["function"]["parameters"]["required"] == ["a", "b"]


async def test_a_model_s_calls_are_answered():
    """A model's calls give one message each, with the output as JSON, or with what was wrong."""
    toolbox = box()
    asked = [
        {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1, "b": 2}'}},
        {"id": "call_2", "type": "function", "function": {"name": "add", "arguments": '{"a": 1, "b": '}},
        {"id": "call_3", "type": "function", "function": {"name": "raises", "arguments": ""}},
        {"id": "call_4", "type": "function", "function": {"name": "add", "arguments": '{"a": NaN, "b": 1}'}},
        {"id": "call_5", "type": "function", "function": {"name": "\ud800", "arguments": '{"a": "\\ud800"}'}},
        {"id": "call_6"},
    ]
    app = App("tested")

    @app.operation("ask")
    async def ask(step: StepContext) -> Any:
        return await toolbox.answer(step, asked), await toolbox.answer(step, [])

    toolbox.register(app)
    from stepwire.aio import Client
    from stepwire_server.api.server import Options, Server
    from stepwire_server.journal import MemoryJournal

    async with (
        Server(app.catalog(), MemoryJournal(), Options(drain_grace=0.0)) as server,
        Client(server.address) as client,
    ):
        messages, none = await (await client.execute(plan=Plan(steps=[plan_step("a", "ask")]))).result()
    assert none == []
    assert [message["tool_call_id"] for message in messages] == [each["id"] for each in asked]
    assert messages[0] == {"role": "tool", "tool_call_id": "call_1", "content": "3"}
    told = [json.loads(message["content"]) for message in messages[1:]]
    assert [each["state"] for each in told] == ["error", "failed", "error", "error", "error"]
    assert "no JSON object" in told[0]["error"]
    assert "no JSON object" in told[2]["error"]


WHOLE = st.characters(exclude_categories=["Cs"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e9, 1e9)
    | st.text(WHOLE, max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab_\n\0-", max_size=5), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
CALLS = st.lists(
    st.builds(
        lambda tool, given: {"tool": tool, "input": given},
        st.sampled_from(["add", "refuse", "raises"]) | st.text(WHOLE, min_size=1, max_size=200),
        st.fixed_dictionaries({}, optional={"a": VALUES, "b": VALUES, "why": VALUES, "-\n\0": VALUES}),
    ),
    min_size=1,
    max_size=12,
)  # fmt: skip


async def test_whatever_is_asked_every_call_ends_once():
    """Whatever tools are named and whatever they are given, each call begins and ends once, and totals agree."""
    async with serving(box()) as served:
        loop = asyncio.get_running_loop()

        def check(calls: list[dict[str, Any]]) -> None:
            ran = asyncio.run_coroutine_threadsafe(served.tools(*calls), loop).result(HANGS)
            assert len(ran.stages) == 2 * len(calls)
            ends = [name.partition("_")[0] for name in ran.stages if not name.startswith("executing_")]
            assert ran.totals == {
                "asked": len(calls),
                "completed": ends.count("completed"),
                "failed": ends.count("failed"),
                "errors": ends.count("error"),
            }

        await asyncio.to_thread(settings(max_examples=20)(given(CALLS)(check)))
