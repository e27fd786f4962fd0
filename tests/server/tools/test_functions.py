"""Python functions as tools."""

from __future__ import annotations

import asyncio
import sys
import threading
from datetime import date
from typing import Annotated, Any

import pytest
from pydantic import Field

from stepwire_server import StepContext, current_step
from stepwire_server.tools import BlockingToolContext, FunctionTool, Toolbox, ToolContext, ToolFailed

from .parts import HANGS, call, serving


def test_a_function_s_schema():
    """The annotations are the schema of the input, the docstring is the description, and the context is no input."""

    def weigh(tool: BlockingToolContext, kilos: Annotated[float, Field(gt=0)], on: date, what: str = "lamp") -> str:
        """Weigh it."""
        return what

    tool = FunctionTool(weigh, timeout=3)
    assert (tool.name, tool.description, tool.timeout) == ("weigh", "Weigh it.", 3)
    assert set(tool.schema["properties"]) == {"kilos", "on", "what"}
    assert tool.schema["required"] == ["kilos", "on"]
    assert [each.field for each in tool.check({"kilos": 0, "on": "2024-02-30", "tool": 1})] == [
        "input.kilos",
        "input.on",
        "input.tool",
    ]


async def test_where_functions_run():
    """An async function runs in the event loop, a plain one in a thread; the step is there below both."""
    toolbox = Toolbox()
    here = threading.current_thread()

    @toolbox.tool()
    async def inside(day: date) -> list[Any]:
        return [day.year, threading.current_thread() is here, current_step().id]

    @toolbox.tool()
    def outside(day: date) -> list[Any]:
        current_step().stage("seen")
        return [day.year, threading.current_thread() is here, current_step().id]

    @toolbox.tool()
    def given(step, day: date) -> list[Any]:
        return [day.year, threading.current_thread() is here, step.id]

    @toolbox.tool("async-given")
    async def given_async(step: StepContext, day: date) -> list[Any]:
        return [day.year, threading.current_thread() is here, step.id]

    async with serving(toolbox) as served:
        for name, is_here in (("inside", True), ("outside", False), ("given", False), ("async-given", True)):
            ran = await served.tools(call(name, day="2024-02-03"))
            assert ran.output["results"][0]["output"] == [2024, is_here, "a"], name
            assert (await served.step(name, day="2024-02-03")).output == [2024, is_here, "a"], name


async def test_a_plain_function_streams():
    """A plain function reports, streams and gives artifacts through blocking methods, from its thread."""
    toolbox = Toolbox()

    @toolbox.tool()
    def work(tool) -> None:
        tool.progress(current=1, total=4, unit="pages")
        tool.content("page")
        tool.artifact("page", {"n": 1})

    async with serving(toolbox) as served:
        ran = await served.tools(call("work"))
    (told,) = [event.step_progress for event in ran.events if event.step_progress.unit == "pages"]
    assert (told.percentage, told.substep.path) == (25, "work")
    assert ran.text("work") == "page"
    assert [event.artifact.name for event in ran.events if event.HasField("artifact")] == ["work/page"]


async def test_a_function_that_hangs():
    """A function that takes longer than it may fails its call alone; what it says later is refused."""
    toolbox = Toolbox()
    go_on, heard = threading.Event(), threading.Event()
    said: list[str] = []

    @toolbox.tool(timeout=0.05)
    def hang(tool) -> None:
        go_on.wait(HANGS)
        try:
            tool.content("late")
        except ToolFailed as error:
            said.append(str(error))
        heard.set()

    @toolbox.tool(timeout=0.05)
    async def wait() -> None:
        await asyncio.Event().wait()

    @toolbox.tool()
    async def own() -> None:
        raise TimeoutError("its own")

    async with serving(toolbox) as served:
        ran = await served.tools(call("hang"), call("wait"), call("own"))
        go_on.set()
        await asyncio.to_thread(heard.wait, HANGS)
    assert ran.results["hang"]["error"] == ran.results["wait"]["error"] == "it took longer than 0.05 s"
    assert ran.results["own"]["error"] == "TimeoutError: its own"
    assert said == ["the call has ended"]


async def test_hung_functions_are_bounded():
    """Where hundreds of calls of a function hang, the next one is refused, and says why."""
    tool = FunctionTool(lambda: None, name="idle")
    tool._threads._left = 256
    toolbox = Toolbox([tool])
    async with serving(toolbox) as served:
        ran = await served.tools(call("idle"))
    assert ran.results["idle"]["error"].startswith("256 earlier calls still run although nobody waits for them")


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError


def stop() -> None:
    next(iter(()))


def leave() -> None:
    sys.exit(3)


async def leave_async() -> None:
    sys.exit(3)


async def cancel_itself() -> None:
    raise asyncio.CancelledError


def unspeakable() -> None:
    raise Unspeakable


def half() -> None:
    raise ValueError("\ud800")


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (stop, "RuntimeError: the function raised StopIteration"),
        (leave, "it raised SystemExit: 3"),
        (leave_async, "it raised SystemExit: 3"),
        (cancel_itself, "the tool cancelled its own call"),
        (unspeakable, "Unspeakable: (its text can't be had)"),
        (half, "ValueError: \\ud800"),
    ],
)
async def test_functions_that_end_badly(function, says):
    """Whatever a function raises is its call's failure; the server, the step and the other calls go on."""
    toolbox = Toolbox([FunctionTool(function, name="bad")])

    @toolbox.tool()
    def fine() -> int:
        return 1

    async with serving(toolbox) as served:
        ran = await served.tools(call("bad"), call("fine"))
        again = await served.tools(call("fine"))
    assert ran.results["bad"]["state"] == "failed"
    assert ran.results["bad"]["error"] == says
    assert ran.results["fine"]["output"] == again.results["fine"]["output"] == 1


def generator():
    yield 1


async def async_generator():
    yield 1


def unresolved(x: Missing):  # type: ignore[name-defined]  # noqa: F821 - that is what is tried
    raise AssertionError


def positional(x, /):
    raise AssertionError


@pytest.mark.parametrize("function", [generator, async_generator, unresolved, positional])
def test_what_is_no_tool_is_refused(function):
    """A function that can't be called by names, or gives no one result, is refused when it is registered."""
    with pytest.raises(TypeError, match="tool '"):
        FunctionTool(function)


def test_a_time_limit_is_above_nothing():
    """A time limit of nothing is refused when the tool is made."""
    with pytest.raises(ValueError, match="timeout is 0; it must be above 0"):
        FunctionTool(stop, timeout=0)


def test_contexts_have_the_same_methods():
    """What the blocking context offers, the other one offers too."""
    public = {name for name in vars(BlockingToolContext) if not name.startswith("_")}
    assert public == {"progress", "content", "artifact"}
    assert public <= set(vars(ToolContext))
