"""How an operation is called, and what it may yield."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from stepwire_server import App, Result, output_of

from .rig import Rig, about, failure_of, of_kind, output, request, step, well_formed


async def run(operation: Any, **input_: Any) -> list[Any]:
    app = App("calling")
    app.operation("op")(operation)
    async with Rig(app) as rig:
        events = await rig.run(request(step("a", "op", input=input_)))
    well_formed(events)
    return events


async def test_a_generator_yields_its_progress():
    """A number is a percentage, a number with a text too, a text or bytes is content, a Result is the output."""

    async def op():
        yield 10
        yield 20.5, "further"
        yield "text"
        yield b"\x00"
        yield Result({"x": 1})
        raise AssertionError("nothing runs after the result")

    events = await run(op)
    progress = of_kind(events, "step_progress")
    assert [event.step_progress.percentage for event in progress] == [10, 20.5]
    assert progress[1].message == "further"
    assert [event.content.text or event.content.data for event in of_kind(events, "content")] == ["text", b"\x00"]
    assert output(events) == {"x": 1}


async def test_a_generator_without_a_result_gives_null():
    """A generator that yields no Result completes with null."""

    async def op():
        yield 10

    assert output(await run(op)) is None


@pytest.mark.parametrize(
    "nonsense", [None, True, {"x": 1}, (1, 2), (1, "a", 2), object(), ("a", 1)], ids=lambda item: type(item).__name__
)
async def test_a_generator_that_yields_nonsense_fails(nonsense):
    """What can't be understood fails the step, names its type, and closes the generator."""
    closed: list[bool] = []

    async def op():
        try:
            yield nonsense
        finally:
            closed.append(True)

    events = await run(op)
    reason, text = failure_of(events, "a")
    assert reason == "OPERATION_FAILED"
    assert f"the operation yielded {type(nonsense).__name__}" in text
    assert closed == [True]


async def test_a_generator_that_yields_too_much_fails():
    """A percentage out of bounds fails the step."""

    async def op():
        yield 101

    assert "must be 0 to 100" in failure_of(await run(op), "a")[1]


async def test_a_plain_function_runs_in_a_thread():
    """A plain function never runs in the event loop's thread."""

    def op():
        return threading.current_thread() is threading.main_thread()

    assert output(await run(op)) is False


async def test_the_input_arrives_in_its_types():
    """A whole double arrives as an int where the signature says int, and as a float where it says float."""

    async def op(whole: int, part: float, texts: list[str], rest: Any = None):
        return [type(whole).__name__, type(part).__name__, texts, rest]

    assert output(await run(op, whole=3.0, part=3, texts=["a"])) == ["int", "float", ["a"], None]


async def test_an_output_is_taken_by_its_pointer():
    """input_from takes another step's output, or what a pointer names in it; a pointer that leads nowhere, and a value
    that does not fit, fail the step before it is called.
    """
    app = App("pointers")
    called: list[Any] = []

    @app.operation()
    async def give():
        return {"receipt": {"ids": [7, 8]}, "text": "x"}

    @app.operation()
    async def take(value: int):
        called.append(value)
        return value

    async with Rig(app) as rig:
        events = await rig.run(
            request(
                step("give"),
                step("good", "take", input={"value": output_of("give", "/receipt/ids/1")}),
                step("nowhere", "take", input={"value": output_of("give", "/receipt/ids/2")}),
                step("misfit", "take", input={"value": output_of("give", "/text")}),
            )
        )
    assert output(events, "good") == 8
    assert failure_of(events, "nowhere") == (
        "INPUT_INVALID", "input.value: there is nothing at '/receipt/ids/2' in the output of step 'give'",
    )  # fmt: skip
    reason, text = failure_of(events, "misfit")
    assert reason == "INPUT_INVALID"
    assert text.startswith("input.value: ")
    assert called == [8]
    assert about(events, "nowhere") == ["step_started", "step_failed"]
