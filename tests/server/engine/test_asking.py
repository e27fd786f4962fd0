"""Questions to people: a step asks and goes on with an answer, once, and when it is durable."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from google.protobuf import struct_pb2
from google.protobuf.duration_pb2 import Duration

from stepwire.errors import (
    ExecutionEnded,
    ExecutionNotFound,
    InputInvalid,
    InputNotRequested,
    LimitSize,
    StorageFull,
)
from stepwire.v1 import Execution, ExecutionState, Retry, StepState
from stepwire.values import to_python, to_value
from stepwire_server import InputExpired
from stepwire_server.engine.asking import Verdict

from .asking import answer, app_of, asked, received
from .rig import (
    HeldJournal,
    Rig,
    about,
    failure_of,
    kinds,
    of_kind,
    output,
    request,
    state_of,
    step,
    turns,
    until,
    well_formed,
)

WAITING = StepState.STEP_STATE_WAITING


# -- question and answer


async def test_a_step_waits_for_its_answer_and_goes_on_with_it():
    """A question shows all that it asks for and makes its step WAITING; the answer makes it RUNNING and is what `ask`
    returns; the log has who answered.
    """

    async def op(step) -> Any:
        return await step.ask("The amount\ndiffers. Go on?", choices=["yes", "no"], default="no", expires_in=60)

    async with Rig(app_of(op)) as rig:
        execution_id = await rig.start(request(step("a", "op")))
        question = await asked(rig, execution_id)
        assert (question.prompt, list(question.choices)) == ("The amount\ndiffers. Go on?", ["yes", "no"])
        assert to_python(question.default_value) == "no"
        assert not question.HasField("schema")
        assert question.expire_time.ToNanoseconds() == rig.clock.now_ns() + 60_000_000_000
        await turns()
        assert rig.engine.running == 1
        record = await answer(rig, execution_id, "yes")
        assert record.last_sequence >= 4
        events = await rig.ended(execution_id)
    well_formed(events)
    assert output(events) == "yes"
    assert about(events, "a") == ["step_started", "input_requested", "input_received", "step_completed"]
    request_event, received_event = events[2:4]
    assert (request_event.step_state, request_event.attempt) == (WAITING, 1)
    assert request_event.message == "Asks: The amount differs. Go on?"
    assert (received_event.step_state, received_event.attempt) == (StepState.STEP_STATE_RUNNING, 1)
    assert (received_event.message, received_event.input_received.actor) == ("Answered by Ada", "Ada")
    assert not received_event.input_received.expired


@pytest.mark.parametrize("value", [None, False, 17, 2.5, "", "text", [], [1, "b"], {}, {"a": {"b": [None]}}], ids=repr)
async def test_any_answer_where_nothing_is_said_of_it(value):
    """A question without choices and schema takes whatever is JSON, and gives it as plain Python."""

    async def op(step) -> Any:
        return {"answer": await step.ask("What?")}

    async with Rig(app_of(op)) as rig:
        execution_id = await rig.start(request(step("a", "op")))
        await asked(rig, execution_id)
        await answer(rig, execution_id, value)
        assert output(await rig.ended(execution_id)) == {"answer": value}


SCHEMA = {
    "type": "object",
    "properties": {"amount": {"type": "number", "minimum": 0}, "lines": {"items": {"$ref": "#/$defs/line"}}},
    "required": ["amount"],
    "additionalProperties": False,
    "$defs": {"line": {"type": "string", "maxLength": 3}},
}


@pytest.mark.parametrize(
    ("asks", "value", "problems"),
    [
        ({"choices": ["yes", "no"]}, "maybe", {"value": "is none of the choices; they are 'yes', 'no'"}),
        ({"choices": ["1"]}, 1, {"value": "is none of the choices; they are '1'"}),
        ({"choices": [f"c{i}" for i in range(22)]}, "", {"value": "c19' and 2 more"}),
        ({"schema": {"type": "integer"}}, "4", {"value": "'4' is not of type 'integer'"}),
        ({"schema": SCHEMA}, {}, {"value": "'amount' is a required property"}),
        (
            {"schema": SCHEMA},
            {"amount": -1, "lines": ["abc", "abcd"], "more": 1},
            {
                "value": "Additional properties are not allowed ('more' was unexpected)",
                "value.amount": "-1 is less than the minimum of 0",
                "value.lines[1]": "'abcd' is too long",
            },
        ),
        ({"schema": {"$ref": "#"}}, 1, {"value": "refers to itself without an end"}),
        ({}, struct_pb2.Value(), {"value": "has no value; send null_value for null"}),
        ({}, struct_pb2.Value(number_value=float("nan")), {"value": "is nan"}),
        ({}, struct_pb2.Value(number_value=2.0**60), {"value": "2^53"}),
    ],
    ids=lambda case: None,
)
@pytest.mark.parametrize("large", [False, True], ids=["", "in a thread"])
async def test_an_answer_that_does_not_fit_is_refused(asks, value, problems, large, monkeypatch):
    """What is none of the choices, does not match the schema or can't be sent is refused with every place that is
    wrong, and leaves no trace.
    """
    if large:
        monkeypatch.setattr("stepwire_server.engine.engine._LARGE_ANSWER", -1)

    async def op(step) -> Any:
        return await step.ask("What?", **asks)

    async with Rig(app_of(op)) as rig:
        execution_id = await rig.start(request(step("a", "op")))
        await asked(rig, execution_id)
        before = await rig.events(execution_id)
        with pytest.raises(InputInvalid) as refused:
            await answer(rig, execution_id, value)
        found = dict(refused.value.violations)
        assert found.keys() == problems.keys()
        assert all(text in found[place] for place, text in problems.items()), found
        assert "the answer does not fit: value" in str(refused.value)
        assert await rig.events(execution_id) == before
        await rig.engine.cancel(execution_id, actor="", reason="")
        assert received(await rig.ended(execution_id)) == []


async def test_an_answer_nested_without_an_end_is_refused():
    """An answer that is nested deeper than an input may be is refused, before its schema is looked at."""
    deep = struct_pb2.Value(string_value="x")
    for _ in range(17):
        deep = struct_pb2.Value(list_value=struct_pb2.ListValue(values=[deep]))

    async def op(step) -> Any:
        return await step.ask("What?", schema={"items": {"$ref": "#"}})

    async with Rig(app_of(op)) as rig:
        execution_id = await rig.start(request(step("a", "op")))
        await asked(rig, execution_id)
        with pytest.raises(InputInvalid, match="nested more than 16 deep"):
            await answer(rig, execution_id, deep)
        await answer(rig, execution_id, deep.list_value.values[0])
        await rig.ended(execution_id)


async def test_an_answer_that_is_too_large_is_refused():
    """An answer for which an event has no room is refused with LIMIT_SIZE, and the question stays open."""

    async def op(step) -> int:
        return len(await step.ask("What?"))

    async with Rig(app_of(op)) as rig:
        execution_id = await rig.start(request(step("a", "op")))
        await asked(rig, execution_id)
        with pytest.raises(LimitSize):
            await answer(rig, execution_id, "x" * (1 << 20))
        await answer(rig, execution_id, "x" * (1 << 19))
        assert output(await rig.ended(execution_id)) == 1 << 19


async def test_an_answer_that_was_found_right_for_another_question_is_checked_again():
    """What a thread found of an answer counts for the question that it looked at, and for no later one."""

    async def op(step) -> Any:
        return await step.ask("What?", choices=["yes"])

    async with Rig(app_of(op)) as rig:
        execution_id = await rig.start(request(step("a", "op")))
        question = await asked(rig, execution_id)
        executor = rig.engine._live[execution_id]
        open_ = executor.fold.questions.open[question.input_id]
        older = Verdict(open_._replace(step_index=1), [])
        with pytest.raises(InputInvalid):
            executor.provide(question.input_id, to_value("no"), actor="", verdict=older)
        executor.provide(question.input_id, to_value("yes"), actor="", verdict=older)
        assert output(await rig.ended(execution_id)) == "yes"


async def test_a_snapshot_counts_what_is_asked():
    """A snapshot says how many questions wait for an answer, and none any more once they were answered."""

    async def op(step) -> Any:
        return await step.ask(f"{step.id}?")

    async with Rig(app_of(op)) as rig:
        execution_id = await rig.start(request(step("a", "op"), step("b", "op")))
        for count in (1, 2):
            await rig.durable(execution_id, "input_requested", count=count)
        record = await rig.engine.get(execution_id)
        assert Execution.FromString(record.snapshot).open_questions == 2
        for open_ in list(rig.engine._live[execution_id].fold.questions.open):
            await rig.engine.provide(execution_id, open_, to_value(1), actor="")
        await rig.ended(execution_id)
        record = await rig.engine.get(execution_id)
        assert Execution.FromString(record.snapshot).open_questions == 0


async def test_to_answer_again():
    """The same answer again is OK and records nothing, also after its step and its execution have ended; another one,
    and one to a question that nobody asks, is INPUT_NOT_REQUESTED, and EXECUTION_ENDED after the end.
    """
    go = asyncio.Event()

    async def op(step) -> Any:
        return await step.ask("What?")

    app = app_of(op)

    @app.operation()
    async def after() -> None:
        await go.wait()

    async with Rig(app) as rig:
        execution_id = await rig.start(request(step("a", "op"), step("b", "after", depends_on=["a"])))
        question = await asked(rig, execution_id)
        with pytest.raises(InputNotRequested, match="no step asks for input 'nothing'"):
            await answer(rig, execution_id, 1, to="nothing")
        await answer(rig, execution_id, {"n": 1})
        await rig.durable(execution_id, "step_started", count=2)
        first, second = [await answer(rig, execution_id, {"n": 1}, actor=who) for who in ("Ada", "Bob")]
        assert first.last_sequence == second.last_sequence
        with pytest.raises(InputNotRequested, match="another answer already"):
            await answer(rig, execution_id, {"n": 2})
        go.set()
        events = await rig.ended(execution_id)
        again = await answer(rig, execution_id, {"n": 1}, actor="Bob")
        assert (again.state, again.last_sequence) == (ExecutionState.EXECUTION_STATE_COMPLETED, len(events))
        for value, to in (({"n": 2}, ""), ({"n": 1}, "nothing"), (struct_pb2.Value(), "")):
            with pytest.raises(ExecutionEnded) as ended:
                await answer(rig, execution_id, value, to=to)
            assert ended.value.metadata["state"] == "COMPLETED"
        with pytest.raises(ExecutionNotFound):
            await answer(rig, "nowhere", 1, to=question.input_id)
    assert received(events) == [({"n": 1}, False)]


async def test_nobody_is_told_what_a_crash_could_take_back():
    """ProvideInput and `ask` return once the answer is durable; whoever comes with another one is refused then, too."""
    journal = HeldJournal()

    async def op(step) -> Any:
        return await step.ask("What?")

    async with Rig(app_of(op), journal=journal) as rig:
        execution_id = await rig.start(request(step("a", "op")))
        await asked(rig, execution_id)
        journal.hold()
        told = asyncio.create_task(answer(rig, execution_id, 1))
        await turns()
        refused = asyncio.create_task(answer(rig, execution_id, 2))
        await turns()
        fold = rig.engine._live[execution_id].fold
        assert (told.done(), refused.done()) == (False, False)
        assert fold.sequence == 4, "the step goes on with an answer that is not durable"
        journal.release()
        await told
        with pytest.raises(InputNotRequested):
            await refused
        assert output(await rig.ended(execution_id)) == 1


async def test_a_full_disk_keeps_the_answer_back():
    """While the disk is full neither the step nor who answers is told; when there is room, both are."""
    journal = HeldJournal()

    async def op(step) -> Any:
        return await step.ask("What?")

    async with Rig(app_of(op), journal=journal) as rig:
        execution_id = await rig.start(request(step("a", "op")))
        await asked(rig, execution_id)
        journal.fails = [StorageFull("the disk is full")]
        told = asyncio.create_task(answer(rig, execution_id, 1))
        await turns()
        assert not told.done()
        rig.clock.advance(5)
        await told
        assert output(await rig.ended(execution_id)) == 1


async def test_another_attempt_waits_until_its_answer_is_durable():
    """An attempt that finds an answer goes on with it when it is durable."""
    journal = HeldJournal()
    fail, went = asyncio.Event(), asyncio.Event()

    async def op(step) -> None:
        task = asyncio.create_task(step.ask("What?"))
        if step.attempt == 1:
            await fail.wait()
            task.add_done_callback(lambda task: task.exception())
            raise ValueError("again")
        await task
        went.set()

    app = app_of(op, retry=Retry(attempts=2, initial_delay=Duration(seconds=1)))
    async with Rig(app, journal=journal) as rig:
        execution_id = await rig.start(request(step("a", "op")))
        await asked(rig, execution_id)
        fail.set()
        await rig.durable(execution_id, "step_retrying")
        journal.hold()
        told = asyncio.create_task(answer(rig, execution_id, 1))
        await turns()
        rig.clock.advance(5)
        await turns()
        assert rig.engine._live[execution_id].fold.steps[0].attempt == 2
        assert not went.is_set()
        journal.release()
        await told
        assert state_of(await rig.ended(execution_id)) == "COMPLETED"


async def test_an_answer_that_comes_as_the_execution_ends():
    """An answer to an execution whose end is recorded and not yet durable is EXECUTION_ENDED, once it is; the one that
    was given before is OK then.
    """
    journal = HeldJournal()

    async def op(step) -> Any:
        return [await step.ask("What?"), await step.ask("More?")]

    async with Rig(app_of(op), journal=journal) as rig:
        execution_id = await rig.start(request(step("a", "op")))
        first = await asked(rig, execution_id)
        await answer(rig, execution_id, 1)
        await asked(rig, execution_id, count=2)
        await rig.quiet()
        journal.hold()
        executor = rig.engine._live[execution_id]
        executor.cancel(actor="", reason="")
        await until(lambda: executor.fold.ended, "it ends")
        late = asyncio.create_task(answer(rig, execution_id, 1))
        again = asyncio.create_task(answer(rig, execution_id, 1, to=first.input_id))
        await turns()
        assert (late.done(), again.done()) == (False, False)
        journal.release()
        with pytest.raises(ExecutionEnded):
            await late
        assert (await again).state == ExecutionState.EXECUTION_STATE_CANCELLED


async def test_what_counts_as_given_after_the_end():
    """After the end the answer counts that the question had then: a default is nobody's, and what was asked again since
    has none.
    """

    async def op(step) -> None:
        await step.ask("In time?", expires_in=60, default="no")
        if step.attempt == 1:
            await step.ask("How many?", key="many")
            raise ValueError("again")
        await step.ask("How many?", key="many", choices=["all"])

    async with Rig(app_of(op, retry=Retry(attempts=2, initial_delay=Duration()))) as rig:
        execution_id = await rig.start(request(step("a", "op")))
        expired = await asked(rig, execution_id)
        rig.clock.advance(60)
        many = await asked(rig, execution_id, count=2)
        await answer(rig, execution_id, 5)
        await rig.durable(execution_id, "step_retrying")
        rig.clock.advance(1)
        await asked(rig, execution_id, count=3)
        await rig.engine.cancel(execution_id, actor="", reason="")
        await rig.ended(execution_id)
        for value, to in (("no", expired), (5, many)):
            with pytest.raises(ExecutionEnded):
                await answer(rig, execution_id, value, to=to.input_id)


# -- the end of the time


async def test_after_its_time_the_default_is_the_answer():
    """When nobody has answered in time the default is recorded and returned; later answers, the same one too, come too
    late.
    """

    async def op(step) -> Any:
        return [await step.ask("What?", expires_in=60, default=None), await step.ask("More?")]

    async with Rig(app_of(op)) as rig:
        execution_id = await rig.start(request(step("a", "op")))
        question = await asked(rig, execution_id)
        rig.clock.advance(59.9)
        await turns()
        assert "input_received" not in kinds(await rig.events(execution_id))
        rig.clock.advance(0.2)
        await asked(rig, execution_id, count=2)
        for value in (None, 1):
            with pytest.raises(InputNotRequested, match="the time to answer"):
                await answer(rig, execution_id, value, to=question.input_id)
        await answer(rig, execution_id, 2)
        events = await rig.ended(execution_id)
    assert output(events) == [None, 2]
    assert received(events) == [(None, True), (2, False)]
    (expired, _) = of_kind(events, "input_received")
    assert (expired.message, expired.input_received.actor) == ("Nobody answered in time", "")
    assert expired.step_state == StepState.STEP_STATE_RUNNING


async def test_without_a_default_the_step_fails_after_the_time():
    """Where nobody has answered in time and there is no default, the step fails with INPUT_EXPIRED, and a retry asks
    anew, with all its time.
    """

    async def op(step) -> Any:
        return await step.ask("What?", expires_in=60)

    async with Rig(app_of(op, retry=Retry(attempts=2, errors=["InputExpired"], initial_delay=Duration()))) as rig:
        execution_id = await rig.start(request(step("a", "op")))
        for number in (1, 2):
            question = await asked(rig, execution_id, count=number)
            assert question.expire_time.ToNanoseconds() == rig.clock.now_ns() + 60_000_000_000
            rig.clock.advance(60)
            if number == 1:
                await rig.durable(execution_id, "step_retrying")
                with pytest.raises(InputNotRequested):
                    await answer(rig, execution_id, 1)
                rig.clock.advance(1)
        events = await rig.ended(execution_id)
    assert failure_of(events, "a") == ("INPUT_EXPIRED", "nobody answered in time: What?")
    assert received(events) == [("-", True)] * 2


async def test_an_operation_may_go_on_without_an_answer():
    """An operation that catches InputExpired goes on."""

    async def op(step) -> str:
        try:
            return str(await step.ask("What?", expires_in=60))
        except InputExpired as error:
            return str(error)

    async with Rig(app_of(op)) as rig:
        execution_id = await rig.start(request(step("a", "op")))
        await asked(rig, execution_id)
        rig.clock.advance(60)
        assert output(await rig.ended(execution_id)) == "nobody answered in time: What?"


async def test_another_process_does_not_give_the_time_again():
    """A question that is asked again after a crash ends at the time that it was given first, also where that has passed
    meanwhile, and where the wall clock was set back.
    """

    async def op(step) -> Any:
        return await step.ask("What?", expires_in=60, default="none")

    app = app_of(op)
    async with Rig(app, leaves_tasks=True) as first:
        execution_id = await first.start(request(step("a", "op")))
        question = await asked(first, execution_id)
        second = Rig(app, journal=first.journal, leaves_tasks=True)
        second.clock.advance(45)
        await second.__aenter__()
        await second.engine.recover()
        assert await asked(second, execution_id, count=2) == question
        assert second.clock.pending == [pytest.approx(15)]
        third = Rig(app, journal=first.journal, leaves_tasks=True)
        third.clock.wall_offset_ns = -3_600_000_000_000
        await third.__aenter__()
        await third.engine.recover()
        assert await asked(third, execution_id, count=3) == question
        assert third.clock.pending == [pytest.approx(15)]
        last = Rig(app, journal=first.journal, leaves_tasks=True)
        last.clock.advance(100)
        async with last:
            await last.engine.recover()
            await last.durable(execution_id, "input_requested", count=4)
            last.clock.advance(0)
            events = await last.ended(execution_id)
    assert output(events) == "none"
    assert received(events) == [("none", True)]


async def test_an_answer_and_the_end_of_the_time_at_once():
    """Of an answer and the end of the time one is recorded, whichever comes first."""

    async def op(step) -> Any:
        return await step.ask("What?", expires_in=60, default="none")

    async with Rig(app_of(op)) as rig:
        execution_id = await rig.start(request(step("a", "op")))
        question = await asked(rig, execution_id)
        executor = rig.engine._live[execution_id]
        executor.provide(question.input_id, to_value("mine"), actor="", verdict=None)
        rig.clock.advance(60)
        events = await rig.ended(execution_id)
    assert output(events) == "mine"
    assert received(events) == [("mine", False)]


# -- what is no question


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"prompt": ""}, ValueError, "prompt is empty"),
        ({"prompt": " \n"}, ValueError, "prompt is empty"),
        ({"prompt": 5}, TypeError, "prompt is of type int"),
        ({"prompt": "x" * 10_001}, ValueError, "10,001 characters; at most 10,000"),
        ({"choices": "yes"}, TypeError, "choices is a text"),
        ({"choices": ["yes", 1]}, TypeError, "choices: 1 is of type int"),
        ({"choices": ["yes", ""]}, ValueError, "one is empty"),
        ({"choices": ["yes", "yes"]}, ValueError, "stands there twice"),
        ({"choices": ["yes"], "schema": {}}, ValueError, "choices or a schema, not both"),
        ({"choices": ["yes"], "default": "no"}, ValueError, "default is none of the choices"),
        ({"schema": []}, TypeError, "schema is of type list"),
        ({"schema": {"type": "whole"}}, ValueError, "no JSON schema: schema.type: 'whole' is not valid"),
        ({"schema": {"pattern": "("}}, ValueError, "no JSON schema: schema.pattern"),
        ({"schema": {"properties": {"a": {"minimum": "1"}}}}, ValueError, "schema.properties.a.minimum"),
        ({"schema": {"const": float("nan")}}, ValueError, "nan"),
        ({"schema": {"type": "integer"}, "default": "4"}, ValueError, "default '4' is not of type 'integer'"),
        ({"default": float("inf")}, ValueError, "inf"),
        ({"default": object()}, ValueError, "default"),
        ({"expires_in": 0}, ValueError, "above 0 and at most 366 days"),
        ({"expires_in": -1}, ValueError, "above 0"),
        ({"expires_in": float("nan")}, ValueError, "above 0"),
        ({"expires_in": float("inf")}, ValueError, "at most 366 days"),
        ({"expires_in": "60"}, TypeError, "not supported"),
        ({"key": 5}, TypeError, "key is of type int"),
    ],
    ids=lambda case: None,
)
async def test_what_is_no_question_is_not_asked(arguments, error, text):
    """Arguments that make no question raise ValueError or TypeError with what is wrong, and record nothing."""

    async def op(step) -> None:
        with pytest.raises(error, match=text):
            await step.ask(**({"prompt": "What?"} | arguments))

    async with Rig(app_of(op)) as rig:
        events = await rig.run(request(step("a", "op")))
    assert about(events, "a") == ["step_started", "step_completed"], failure_of(events, "a")


async def test_a_question_that_is_too_large():
    """A question for which an event has no room raises LimitSize in the operation, which can go on."""

    async def op(step) -> Any:
        with pytest.raises(LimitSize):
            await step.ask("What?", choices=["x" * 100_000 + str(i) for i in range(11)])
        return await step.ask("What?")

    async with Rig(app_of(op)) as rig:
        execution_id = await rig.start(request(step("a", "op")))
        await asked(rig, execution_id)
        await answer(rig, execution_id, 1)
        assert output(await rig.ended(execution_id)) == 1
