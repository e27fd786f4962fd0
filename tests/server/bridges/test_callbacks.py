"""Code that reports to a callback runs as it was written, and what it reports becomes events."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import pytest
from tests.server.engine.rig import Rig, failure_of, kinds, of_kind, output, request, state_of, step, turns, well_formed

from stepwire.v1 import Event
from stepwire_server import App, StepEnded, current_step
from stepwire_server.bridges import planning_operation, reporting_operation, streaming_operation, telling

from .graphs import told

STAGES = ["start", "context", "analyzing", "planning", "validation", "execution", "memory", "completion"]


async def run(operation: Any, **given: Any) -> list[Event]:
    """Returns the events of an execution of one step that calls the operation."""
    app = App("callbacks")
    app.operation("op")(operation)
    async with Rig(app) as rig:
        events = await rig.run(request(step("a", "op", input=given)))
    well_formed(events)
    return events


async def test_planning_first():
    """The eight stages of an async progress_callback become stages with details and data, and the end has the whole
    response.
    """

    async def handle(message: str, progress_callback=None) -> dict[str, Any]:
        """Answer a message."""
        for stage in STAGES:
            await progress_callback(stage, f"Now: {stage}", details="more", metadata={"length": len(message)})
        await progress_callback("error", "The memory is full", "nothing was kept")
        await progress_callback("custom", "Mine")
        return {"response": "all of it", "steps": STAGES}

    app = App("planning")
    app.operation("plan")(planning_operation(handle))
    operation = app.catalog().operations["plan"]
    assert operation.description == "Answer a message."
    assert list(operation.signature.schema["properties"]) == ["message"]
    events = await run(planning_operation(handle), message="Hello")
    assert told(events) == [
        *(("stage", stage, {"length": 5}) for stage in STAGES),
        ("error", "The memory is full: nothing was kept"),
        ("stage", "custom", {}),
    ]
    first = of_kind(events, "stage")[0]
    assert (first.message, first.stage.details) == ("Now: start", "more")
    assert output(events) == {"response": "all of it", "steps": STAGES}


async def test_planning_from_other_loops():
    """An async callback works in whichever event loop it is awaited: a plain function may have its own."""

    def handle(progress_callback) -> str:
        async def work() -> str:
            await asyncio.gather(*(progress_callback(stage, stage) for stage in STAGES))
            return "worked"

        return asyncio.run(work())

    events = await run(planning_operation(handle))
    assert [event.stage.name for event in of_kind(events, "stage")] == STAGES
    assert output(events) == "worked"


class Chart:
    """Make a chart of a question."""

    name = "chart"

    def __init__(self, question: str, rows: int = 2) -> None:
        self.question = question
        self.rows = rows

    async def execute(self, callback) -> dict[str, Any]:
        callback.progress("chart", "planning", 10, "Planning", {"rows": self.rows})
        await callback.progress("chart", "executing_query", 50)
        for piece in self.question.split():
            callback.content(piece)
        callback.error("one row is odd", {"row": 1})
        callback.done({"ignored": True})
        return {"chart": "bar", "rows": self.rows}


async def test_any_operation_streams():
    """Progress, content, errors and the end of an object with execute(callback) come in their order, awaited or not."""
    app = App("streaming")
    app.operation()(streaming_operation(Chart))
    operation = app.catalog().operations["chart"]
    assert operation.description == "Make a chart of a question."
    assert operation.signature.check({"rows": 1}, path="input")[0].field == "input.question"
    events = await run(streaming_operation(Chart), question="sales by month")
    assert told(events) == [
        ("step_progress", 10, "Planning", {"operation": "chart", "rows": 2}),
        ("step_progress", 50, "", {"operation": "chart"}),
        ("content", "", "sales"),
        ("content", "", "by"),
        ("content", "", "month"),
        ("error", "one row is odd {'row': 1}"),
        ("step_progress", 100, "", {}),
    ]
    assert [event.step_progress.stage for event in of_kind(events, "step_progress")][:2] == [
        "planning",
        "executing_query",
    ]
    assert output(events) == {"chart": "bar", "rows": 2}


async def test_an_object_that_is_there():
    """An object with a plain execute runs in a thread; what it was done with is the output where it returns none."""

    class Tool:
        name = "tool"

        def execute(self, callback) -> None:
            assert threading.current_thread() is not threading.main_thread()
            callback.progress("tool", "executing_search", 40, "Searching")
            callback.done({"found": 3})

    events = await run(streaming_operation(Tool()))
    assert output(events) == {"found": 3}
    assert kinds(events)[2:-2] == ["step_progress", "step_progress"]


async def test_what_waits_is_not_overtaken():
    """Calls that nobody awaits are said in their order, also where the first of them has to wait."""
    free = asyncio.Event()
    first = [True]

    async def ahead():
        if first and first.pop():
            await free.wait()

    class Hurried:
        async def execute(self, callback) -> None:
            with current_step().behind(ahead):
                for piece in ("1", "2", "3"):
                    callback.content(piece)
                await turns()
                free.set()
                await callback.done("all")

    events = await run(streaming_operation(Hurried()))
    assert [event.content.text for event in of_kind(events, "content")] == ["1", "2", "3"]
    assert output(events) == "all"


class State(Enum):
    RUNNING = "running"


@dataclass
class ProgressEvent:
    """As code of its kind has it."""

    type: str
    step_id: str = ""
    step_name: str = ""
    current_step: int = 0
    total_steps: int = 0
    percentage: float = 0.0
    state: State = State.RUNNING
    message: str = ""
    error: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)


async def test_a_plan_of_its_own():
    """The events of an operation's own plan become progress of the whole, and its handlers are told of theirs."""
    failed, every = [], []

    async def work(query: str, callback) -> str:
        callback.add(every.append)
        callback.add(failed.append, types=["step_failed"])
        callback.add(lambda event: 1 / 0)
        callback.emit("plan_started", total_steps=3, message=f"Starting: {query}")
        for number in (1, 2, 3):
            about = {"step_id": f"s{number}", "step_name": f"Step {number}", "current_step": number, "total_steps": 3}
            await callback.emit(ProgressEvent("step_started", **about))
            callback(ProgressEvent("step_progress", **about, percentage=25, message="agents"))
            if number == 2:
                callback.emit({"event_type": "step_failed", **about, "error": "no answer"})
            else:
                callback.emit(ProgressEvent("step_completed", **about))
        callback.emit("plan_completed", message="2/3 steps")
        return "answer"

    events = await run(reporting_operation(work), query="q")
    reports = of_kind(events, "step_progress")
    expected = [0, 0, 25 / 3, 100 / 3, 100 / 3, (1 + 0.25) * 100 / 3, 200 / 3, 225 / 3, 100, 100]
    assert [event.step_progress.percentage for event in reports] == pytest.approx(expected)
    assert [event.step_progress.stage for event in reports][:4] == [
        "plan_started",
        "step_started",
        "step_progress",
        "step_completed",
    ]
    assert told(events)[2][3]["step_name"] == "Step 1"
    assert told(events)[2][3]["state"] == "running"
    assert [event.message for event in of_kind(events, "error")] == ["Step 2: no answer"]
    assert [event["error"] for event in failed] == ["no answer"]
    assert len(every) == 11


@pytest.mark.parametrize("plain", [False, True], ids=["coroutine", "plain"])
async def test_from_threads(plain: bool):
    """A callback may be called from any thread, and returns when it is said."""

    def call(callback, number: int) -> None:
        callback.content(f"{number} ")
        callback.progress("op", "counting", number)

    class Plain:
        def execute(self, callback) -> str:
            with ThreadPoolExecutor(3) as threads:
                list(threads.map(lambda number: call(callback, number), range(30)))
            return "done"

    class Coroutine:
        async def execute(self, callback) -> str:
            bare = [threading.Thread(target=call, args=(callback, number)) for number in range(30)]
            for thread in bare:
                thread.start()
            for thread in bare:
                await asyncio.to_thread(thread.join)
            return "done"

    events = await run(streaming_operation(Plain() if plain else Coroutine()))
    assert sorted(int(event.content.text) for event in of_kind(events, "content")) == list(range(30))
    assert sorted(event.step_progress.percentage for event in of_kind(events, "step_progress")) == list(range(30))
    for number in range(30):
        order = [word for word in told(events) if word[0] == "content" or word[1] == number]
        assert order.index(("content", "", f"{number} ")) < order.index(
            ("step_progress", number, "", {"operation": "op"})
        )


@pytest.mark.parametrize("plain", [False, True], ids=["coroutine", "plain"])
async def test_a_callback_that_fails_breaks_nothing(plain: bool, caplog: pytest.LogCaptureFixture):
    """A call that can't be said is logged, and the operation goes on to its end."""

    def misuse(callback) -> str:
        callback.content(object())
        callback.progress("op", "running", "half", "Half", {"object": object(), "number": 2**70})
        callback.progress("op", "running", 180)
        callback.content("text")
        return "done"

    class Plain:
        def execute(self, callback) -> str:
            return misuse(callback)

    class Coroutine:
        async def execute(self, callback) -> str:
            return misuse(callback)

    events = await run(streaming_operation(Plain() if plain else Coroutine()))
    assert output(events) == "done"
    assert told(events) == [
        ("step_progress", 0, "Half", {"operation": "op", "object": "(object)", "number": str(2**70)}),
        ("step_progress", 100, "", {"operation": "op"}),
        ("content", "", "text"),
    ]
    assert "a callback's content could not be said" in caplog.text


async def test_what_is_called_without_end(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    """Calls that nobody awaits are bounded in number while the event loop is held up: the log says which were lost."""
    monkeypatch.setattr(telling, "_MOST_WAITING", 100)

    class Flood:
        async def execute(self, callback) -> str:
            for number in range(150):
                callback.content(f"{number} ")
            return "done"

    events = await run(streaming_operation(Flood()))
    assert [int(event.content.text) for event in of_kind(events, "content")] == list(range(100))
    assert caplog.text.count("was called too often") == 50


async def test_a_cancel_ends_it():
    """A cancel interrupts a coroutine, and in a thread the next call of the callback raises StepEnded."""
    ended: list[str] = []
    begun = threading.Event()

    def work(progress_callback, callback) -> None:
        begun.set()
        try:
            while True:
                callback("step_progress", percentage=1)
        except StepEnded:
            ended.append("thread")
            raise

    def both(callback) -> None:
        work(None, callback)

    app = App("callbacks")
    app.operation("op")(reporting_operation(both))

    async def wait(progress_callback) -> None:
        try:
            await progress_callback("start", "Waiting")
            await asyncio.Event().wait()
        finally:
            ended.append("coroutine")

    app.operation("wait")(planning_operation(wait))
    async with Rig(app) as rig:
        execution_id = await rig.start(request(step("a", "op"), step("b", "wait")))
        await asyncio.to_thread(begun.wait, 10)
        await rig.durable(execution_id, "stage")
        await rig.engine.cancel(execution_id, actor="Ann", reason="enough")
        events = await rig.ended(execution_id)
    assert state_of(events) == "CANCELLED"
    assert sorted(ended) == ["coroutine", "thread"]


async def test_what_it_raises_fails_the_step():
    """What the adapted code raises is the failure of its step, after all that it had reported."""

    class Broken:
        async def execute(self, callback) -> None:
            callback.content("so far")
            raise ValueError("the query has no table")

    events = await run(streaming_operation(Broken()))
    assert told(events) == [("content", "", "so far")]
    assert failure_of(events, "a") == ("OPERATION_FAILED", "ValueError: the query has no table")


def test_what_can_not_be_adapted():
    """A function without its callback, a generator and an object without execute are refused, with what is missing."""

    async def without(message: str) -> None: ...

    async def generator(callback):
        yield 1

    with pytest.raises(TypeError, match="no parameter 'progress_callback'; name the one"):
        planning_operation(without)
    assert planning_operation(without, parameter="message")
    with pytest.raises(TypeError, match="is a generator"):
        reporting_operation(generator)
    with pytest.raises(TypeError, match=r"no execute\(callback\)"):
        streaming_operation(object())
