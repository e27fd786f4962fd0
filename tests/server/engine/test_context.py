"""What an operation is given of its step, and how it says what happens."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from contextlib import ExitStack
from typing import Any

import pytest

from stepwire.artifacts import Artifacts
from stepwire.errors import InputInvalid
from stepwire.values import to_python
from stepwire_server import App, BlockingStepContext, StepContext, current_step, plan_step

from .rig import Rig, failure_of, kind_of, kinds, of_kind, output, request, state_of, step, turns, well_formed


async def run(operation: Any) -> list[Any]:
    """Returns the events of an execution of one step that calls the operation."""
    app = App("context")
    app.operation("op")(operation)
    async with Rig(app) as rig:
        events = await rig.run(request(step("a", "op", name="A step"), session_id="s"))
    well_formed(events)
    return events


async def test_progress_says_all_that_it_is_given():
    """Progress carries percentage, stage, pieces, unit, data and metadata; unknown amounts have no percentage."""

    async def op(step):
        await step.progress(25, "begun", stage="first", data={"x": [1]}, metadata={"k": "v"})
        await step.progress(current=3, total=4, unit="files")
        await step.progress(message="no idea how far")
        await step.progress(current=3, total=0)

    first, second, third, fourth = of_kind(await run(op), "step_progress")
    assert (first.message, first.step_progress.stage, first.step_progress.percentage) == ("begun", "first", 25)
    assert to_python(first.step_progress.data) == {"x": [1]}
    assert dict(first.metadata) == {"k": "v"}
    assert (first.step_id, first.step_name, first.attempt) == ("a", "A step", 1)
    assert second.step_progress.percentage == 75
    assert second.step_progress.unit == "files"
    assert not third.step_progress.HasField("percentage")
    assert not fourth.step_progress.HasField("percentage")


@pytest.mark.parametrize("percentage", [-0.1, 100.1, float("nan"), float("inf")])
async def test_a_percentage_out_of_bounds_is_refused(percentage):
    """A percentage is 0 to 100."""

    async def op(step):
        with pytest.raises(ValueError, match="must be 0 to 100"):
            await step.progress(percentage)
        with pytest.raises(ValueError, match="0 to 1"):
            await step.supervisor("decision", "x", confidence=percentage)
        with pytest.raises(InputInvalid):
            await step.progress(1, data={"x": object()})
        return "done"

    assert output(await run(op)) == "done"


async def test_content_has_offsets_in_bytes_by_channel():
    """Pieces of a channel have the offset of their first byte in UTF-8, and each channel counts for itself."""

    async def op(step):
        await step.content("äö")
        await step.content("b", channel="other")
        await step.content("c")
        await step.content(b"\x00\xff", channel="raw", media_type="application/octet-stream")
        await step.content("")

    found = [event.content for event in of_kind(await run(op), "content")]
    assert [(item.channel, item.offset) for item in found] == [("", 0), ("other", 0), ("", 4), ("raw", 0), ("", 5)]
    assert found[3].data == b"\x00\xff"


@pytest.mark.parametrize("piece", ["x" * 1_000_000, "\N{GRINNING FACE}" * 200_000, b"\x00" * 600_000, "ä" * 100_000])
async def test_a_long_piece_is_cut(piece):
    """A piece above 256 KiB is cut, at characters, and the pieces make the whole again."""

    async def op(step):
        await step.content(piece)

    found = [event.content for event in of_kind(await run(op), "content")]
    whole = piece.encode() if isinstance(piece, str) else piece
    assert b"".join(item.text.encode() + item.data for item in found) == whole
    assert all(len(item.text.encode() + item.data) <= 256 * 1024 for item in found)
    offset = 0
    for item in found:
        assert item.offset == offset
        offset += len(item.text.encode() + item.data)


async def test_artifacts_agents_supervisors_stages_and_errors():
    """Each of them is an event of its kind with what it was given."""

    async def op(step):
        await step.artifact("result", {"x": 1})
        await step.artifact("raw", b"\x00", media_type="image/png")
        await step.agent("coder", "think", "hm", details={"model": "m"})
        await step.supervisor(
            "routing", "go", reasoning="because", confidence=0.5, next_agent="coder", instructions="i"
        )
        await step.stage("analyzing", details="d", data={"x": 1})
        await step.error("a little wrong")
        with pytest.raises(ValueError, match="KIND_DREAM"):
            await step.agent("coder", "dream", "hm")

    events = await run(op)
    assert state_of(events) == "COMPLETED"
    result, raw = [event.artifact for event in of_kind(events, "artifact")]
    assert to_python(result.value) == {"x": 1}
    assert (raw.data, raw.size, raw.media_type) == (b"\x00", 1, "image/png")
    (agent,) = of_kind(events, "agent")
    assert (agent.agent.agent, agent.agent.kind, agent.message) == ("coder", 1, "hm")
    (supervisor,) = of_kind(events, "supervisor")
    assert (supervisor.supervisor.confidence, supervisor.supervisor.next_agent) == (0.5, "coder")
    assert of_kind(events, "stage")[0].message == "analyzing"
    assert of_kind(events, "error")[0].error.error.message == "a little wrong"


@pytest.mark.parametrize(
    ("value", "media_type", "data"),
    [
        (b"\xff" * 600_000, "image/png", b"\xff" * 600_000),
        ("ü" * 300_000, "text/plain", ("ü" * 300_000).encode()),
        ({"x": ["y" * 600_000]}, "application/json", b'{"x":["%s"]}' % (b"y" * 600_000)),
    ],
    ids=["bytes", "text", "value"],
)
async def test_a_large_artifact_travels_as_content(value: object, media_type: str, data: bytes):
    """What is above 512 KiB comes in pieces before the event that names it, with its size and its SHA-256."""

    async def op(step):
        await step.content("between", channel="other")
        for _ in range(2):
            await step.artifact("page", value, media_type=media_type)

    events = await run(op)
    assert [event.artifact.channel for event in of_kind(events, "artifact")] == ["artifact:page", "artifact:page#2"]
    assert {event.content.media_type for event in of_kind(events, "content")} == {"", media_type}
    artifacts = Artifacts()
    made = [whole for event in events if (whole := artifacts.add(event))]
    assert [whole.data == data for whole in made] == [True, True]


async def test_an_artifact_of_512_kib_travels_in_its_event():
    """What has 512 KiB needs no pieces."""

    async def op(step):
        await step.artifact("page", bytes(512 * 1024), media_type="image/png")

    assert [len(event.artifact.data) for event in of_kind(await run(op), "artifact")] == [524_288]


async def test_a_plain_function_has_the_same_methods():
    """In a thread every method does the same, and blocks until it is done."""

    def op(step):
        step.progress(25, "begun", stage="first")
        step.content("text")
        step.artifact("result", {"x": 1})
        step.agent("coder", "result", "done")
        step.supervisor("decision", "go", confidence=1)
        step.stage("analyzing")
        step.error("a little wrong")
        assert (step.id, step.name, step.operation, step.attempt, step.session_id) == ("a", "A step", "op", 1, "s")
        assert step.execution_id
        return dict(step.results)

    events = await run(op)
    assert [event.WhichOneof("kind") for event in events][2:-2] == [
        "step_progress", "content", "artifact", "agent", "supervisor", "stage", "error",
    ]  # fmt: skip
    assert output(events) == {}


async def test_both_contexts_have_the_same_methods():
    """What one context can say, the other can."""

    def public(kind: type) -> set[str]:
        return {name for name in dir(kind) if not name.startswith("_")}

    assert public(BlockingStepContext) <= public(StepContext)
    assert public(StepContext) - public(BlockingStepContext) == {
        "behind",
        "blocking",
        "close",
        "closed",
        "enter_thread",
        "is_here",
        "wait_in_thread",
    }


async def test_results_are_those_of_direct_dependencies():
    """`results` has the outputs of the steps that a step depends on directly, and is made once."""
    app = App("results")
    same: list[bool] = []

    @app.operation()
    async def give(step):
        same.append(step.results is step.results)
        return [step.id, sorted(step.results)]

    async with Rig(app) as rig:
        events = await rig.run(
            request(
                step("a", "give"),
                step("b", "give", depends_on=["a"]),
                step("c", "give", depends_on=["b"]),
            )
        )
    assert output(events) == ["c", ["b"]]
    assert all(same)


# -- current_step


def deep(levels: int) -> Any:
    return current_step() if levels == 0 else deep(levels - 1)


async def later_deep(levels: int) -> Any:
    return current_step() if levels == 0 else await later_deep(levels - 1)


async def test_the_step_is_known_five_calls_deep():
    """current_step() is the operation's own context, however deep, in calls, tasks and groups of tasks."""

    async def op(step):
        assert deep(5) is step
        assert await later_deep(5) is step
        assert await asyncio.create_task(later_deep(5)) is step
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(later_deep(3)) for _ in range(3)]
        assert [task.result() is step for task in tasks] == [True] * 3
        await current_step().progress(50)
        return "done"

    assert output(await run(op)) == "done"


async def test_the_step_is_known_in_to_thread_and_its_methods_block_there():
    """Below an async operation, in asyncio.to_thread, current_step() gives the same step with methods that block."""

    def work() -> str:
        here = deep(5)
        assert isinstance(here, BlockingStepContext)
        here.progress(40, "from a thread")
        return here.id

    async def op(step):
        assert await asyncio.to_thread(work) == step.id
        return "done"

    events = await run(op)
    assert output(events) == "done"
    assert [event.message for event in of_kind(events, "step_progress")] == ["from a thread"]


async def test_the_step_is_known_in_another_event_loop():
    """In a loop of a thread of its own the methods block, too: the step's loop is another one."""

    async def inner() -> None:
        step = current_step()
        assert isinstance(step, BlockingStepContext)
        step.progress(60)

    async def op(step):
        await asyncio.to_thread(lambda: asyncio.run(inner()))

    events = await run(op)
    assert [event.step_progress.percentage for event in of_kind(events, "step_progress")] == [60]


async def test_the_step_is_known_in_plain_functions():
    """Below a plain operation, current_step() is its blocking context; a bare thread has it by copy_context."""

    def op(step):
        assert deep(5) is step
        found: list[Any] = []
        thread = threading.Thread(target=contextvars.copy_context().run, args=(lambda: found.append(deep(2)),))
        thread.start()
        thread.join()
        assert found == [step]
        current_step().progress(50)
        return "done"

    assert output(await run(op)) == "done"


async def test_the_step_is_known_in_generators_and_without_a_parameter():
    """An operation that takes no context, and a generator, have it by current_step()."""

    async def bare():
        await current_step().progress(10)
        return current_step().id

    async def generator():
        yield 10
        await current_step().progress(20)
        yield 30

    assert output(await run(bare)) == "a"
    found = of_kind(await run(generator), "step_progress")
    assert [event.step_progress.percentage for event in found] == [10, 20, 30]


async def test_parallel_steps_have_each_its_own():
    """Steps that run at the same time do not see each other's context."""
    app = App("parallel")
    barrier = asyncio.Barrier(5)

    @app.operation()
    async def op(step):
        await barrier.wait()
        assert await later_deep(3) is step
        return deep(2).id

    async with Rig(app) as rig:
        events = await rig.run(request(*[step(f"s{i}", "op") for i in range(5)]))
    assert output(events) == {f"s{i}": f"s{i}" for i in range(5)}


def test_outside_of_a_step_there_is_none():
    """Where no step runs, current_step() raises LookupError, which says where it works."""
    with pytest.raises(LookupError, match="no step runs here"):
        current_step()


async def test_ways_that_end_in_another_order():
    """What was to come first does so while its block runs, also where blocks end in another order than they began."""
    said: list[str] = []

    def ahead(name):
        async def note():
            said.append(name)

        return note

    async def op(step):
        first, second = step.behind(ahead("first")), step.behind(ahead("second"))
        with ExitStack() as stack:
            stack.enter_context(first)
            second.__enter__()
            await step.stage("both")
        await step.stage("the second alone")
        second.__exit__(None, None, None)
        await step.stage("none")

    assert kinds(await run(op))[-1] == "plan_completed"
    assert said == ["second", "second"]


async def test_what_takes_another_way_comes_in_its_turn():
    """Each word of a step waits for what was put into a queue before it, wherever it is said, and asks in its turn."""
    waiting: asyncio.Queue[str] = asyncio.Queue()
    app = App("turns")

    @app.operation("op")
    async def op(step):
        async def empty():
            while True:
                await step.stage(await waiting.get())
                waiting.task_done()

        async def ahead():
            if asyncio.current_task() is not emptying:
                await waiting.join()

        def in_thread():
            asyncio.run_coroutine_threadsafe(waiting.put("3"), loop).result()
            current_step().content("4")

        loop = asyncio.get_running_loop()
        emptying = asyncio.create_task(empty())
        with step.behind(ahead):
            waiting.put_nowait("1")
            await step.progress(2, "2")
            await asyncio.to_thread(in_thread)
            waiting.put_nowait("5")
            await step.save("6")
            waiting.put_nowait("7")
            await step.add_steps([plan_step("next", "nothing")])
            waiting.put_nowait("9")
            answer = await step.ask("10", default="no", expires_in=1)
            waiting.put_nowait("12")
            await step.artifact("13", answer)
        waiting.put_nowait("late")
        await step.progress(14, "14")
        emptying.cancel()

    @app.operation("nothing")
    async def nothing():
        pass

    async with Rig(app) as rig:
        execution_id = await rig.start(request(step("a", "op")))
        await rig.durable(execution_id, "input_requested")
        rig.clock.advance(1)
        events = await rig.ended(execution_id)
    told = [event for event in events if event.step_id == "a" or kind_of(event) == "plan_revised"]
    assert kinds(told)[1:-1] == [
        *("stage", "step_progress", "stage", "content", "stage", "step_saved", "stage", "plan_revised"),
        *("stage", "input_requested", "input_received", "stage", "artifact", "step_progress"),
    ]
    assert [event.stage.name for event in of_kind(events, "stage")] == ["1", "3", "5", "7", "9", "12"]


async def test_pieces_stand_in_the_order_of_their_offsets():
    """Where a piece has to wait, the offset of its channel is not taken before it is its turn."""
    free = asyncio.Event()

    async def op(step):
        async def ahead():
            if asyncio.current_task() is late:
                await free.wait()

        async def say_late():
            await step.content("late")

        late = asyncio.create_task(say_late())
        with step.behind(ahead):
            await turns()
            await step.content("soon ")
            free.set()
            await late

    found = [event.content for event in of_kind(await run(op), "content")]
    assert [(piece.text, piece.offset) for piece in found] == [("soon ", 0), ("late", 5)]


@pytest.mark.parametrize("notes", [None, 7, "text"])
async def test_notes_that_are_none(notes):
    """An exception whose notes are no list fails its step as any other does."""

    async def op():
        error = ValueError("no such table")
        error.__notes__ = notes
        raise error

    assert failure_of(await run(op), "a") == ("OPERATION_FAILED", "ValueError: no such table")


async def test_a_failure_has_the_notes_of_its_exception():
    """What was noted on an exception stands below its text in the failure of the step."""

    async def op():
        error = ValueError("no such table")
        error.add_note("while reading the orders")
        error.__notes__.append(4)  # Nobody is kept from it.
        raise error

    events = await run(op)
    assert failure_of(events, "a") == ("OPERATION_FAILED", "ValueError: no such table\nwhile reading the orders")
    (failed,) = of_kind(events, "step_failed")
    assert failed.message == "Failed: A step: ValueError: no such table while reading the orders"
