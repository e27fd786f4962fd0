"""What a graph interrupts itself for is asked, and the answer resumes it: also after a restart, and once."""

from __future__ import annotations

import operator
from typing import Annotated, Any

import pytest
from google.protobuf.duration_pb2 import Duration
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Send, interrupt
from tests.server.engine import asking
from tests.server.engine.rig import Rig, VirtualClock, failure_of, kinds, of_kind, output, request, step
from typing_extensions import TypedDict

from stepwire.values import to_python
from stepwire_server import Retry, current_step
from stepwire_server.bridges.interrupts import question_of
from stepwire_server.journal import MemoryJournal

from .graphs import app_of, chain, run


async def converse(rig: Rig, execution_id: str, *answers: Any, after: int = 0) -> list[str]:
    """Answers the questions of an execution in their order, and returns what was asked."""
    asked = []
    for number, given in enumerate(answers, after + 1):
        question = await asking.asked(rig, execution_id, count=number)
        asked.append(question.prompt)
        await asking.answer(rig, execution_id, given, to=question.input_id)
    return asked


async def test_an_answer_counts_also_for_the_next_attempt():
    """A node that fails after its answer is not asked again, and gets the same answer, whatever it saved itself."""
    tries: list[str] = []

    async def approve(state):
        await current_step().save("its own")
        tries.append(interrupt("Send it?"))
        if len(tries) == 1:
            raise OSError("the mail server is away")
        return {"lines": tries[-1:]}

    graph = chain(approve).compile(checkpointer=InMemorySaver())
    retry = Retry(attempts=2, initial_delay=Duration(nanos=1_000_000))
    async with Rig(app_of(graph, select="lines", retry=retry), clock=VirtualClock(skip=True)) as rig:
        execution_id = await rig.start(request(step("a", "graph")))
        await converse(rig, execution_id, "yes")
        events = await rig.ended(execution_id)
    assert output(events) == ["yes"]
    assert tries == ["yes", "yes"]
    assert kinds(events).count("input_requested") == 1


async def test_one_question():
    """A node that interrupts the graph asks people, and goes on with their answer."""

    def approve(state):
        return {"lines": [f"{state['subject']}: {interrupt('Send it?')}"]}

    graph = chain(team=chain(approve).compile()).compile(checkpointer=InMemorySaver())
    async with Rig(app_of(graph, select="lines")) as rig:
        execution_id = await rig.start(request(step("a", "graph", input={"subject": "mail"})))
        assert await converse(rig, execution_id, "yes") == ["Send it?"]
        events = await rig.ended(execution_id)
    assert output(events) == ["mail: yes"]
    assert kinds(events).count("input_requested") == 1


async def test_the_same_question_again():
    """A node that asks the same until the answer pleases it gets another answer each time."""

    def until_it_is_a_number(state):
        while not (answer := interrupt("How many?")).isdigit():
            pass
        return {"lines": [answer]}

    graph = chain(until_it_is_a_number).compile(checkpointer=InMemorySaver())
    async with Rig(app_of(graph, select="lines")) as rig:
        execution_id = await rig.start(request(step("a", "graph")))
        assert await converse(rig, execution_id, "some", "many", "12") == ["How many?"] * 3
        assert output(await rig.ended(execution_id)) == ["12"]


async def test_several_at_once():
    """Nodes side by side may ask at once: each gets the answer to its own question."""

    class Cities(TypedDict, total=False):
        city: str
        visits: Annotated[list[str], operator.add]

    def visit(state):
        answer = interrupt({"question": f"When to {state['city']}?", "choices": ["May", "June"], "city": state["city"]})
        return {"visits": [f"{state['city']} in {answer}"]}

    graph = StateGraph(Cities)
    graph.add_node("visit", visit)
    graph.add_conditional_edges(
        START, lambda state: [Send("visit", {"city": city}) for city in ("Ulm", "Bonn", "Köln")]
    )
    graph.add_edge("visit", END)
    compiled = graph.compile(checkpointer=InMemorySaver())
    async with Rig(app_of(compiled, select="visits")) as rig:
        execution_id = await rig.start(request(step("a", "graph")))
        asked = await converse(rig, execution_id, "May", "June", "May")
        events = await rig.ended(execution_id)
    assert asked == ["When to Ulm?", "When to Bonn?", "When to Köln?"]
    assert output(events) == ["Ulm in May", "Bonn in June", "Köln in May"]
    assert list(of_kind(events, "input_requested")[0].input_requested.choices) == ["May", "June"]
    shown = [to_python(event.stage.data)["value"]["city"] for event in of_kind(events, "stage") if event.stage.details]
    assert shown == ["Ulm", "Bonn", "Köln"]


@pytest.mark.parametrize("keeps", [True, False], ids=["kept thread", "lost thread"])
async def test_answers_outlive_a_restart(keeps: bool):
    """A server that stops while a graph waits asks on after its start; what was answered is not asked again, also where
    the graph's checkpoints were lost and it begins again.
    """
    calls = []

    def plan(state):
        calls.append("plan")
        return {"lines": [interrupt("Where to?")]}

    def book(state):
        calls.append("book")
        return {"lines": [interrupt("How many?"), interrupt("How many?")]}

    journal = MemoryJournal()
    await journal.open()
    graph = chain(plan, book).compile(checkpointer=InMemorySaver())
    async with Rig(app_of(graph, select="lines"), journal=journal, leaves_tasks=True) as rig:
        execution_id = await rig.start(request(step("a", "graph")))
        await converse(rig, execution_id, "Ulm", "2")
        await rig.durable(execution_id, "input_requested", count=3)
        assert calls == ["plan", "plan", "book", "book"]
    if not keeps:
        graph = chain(plan, book).compile(checkpointer=InMemorySaver())
    async with Rig(app_of(graph, select="lines"), journal=journal, recover=True) as rig:
        await rig.durable(execution_id, "step_started", count=2)
        assert await converse(rig, execution_id, "5", after=2 if keeps else 3) == ["How many?"]
        events = await rig.ended(execution_id)
    await journal.close()
    assert output(events) == ["Ulm", "2", "5"]
    assert calls.count("plan") == (2 if keeps else 4)
    questions = {event.input_requested.input_id for event in of_kind(events, "input_requested")}
    assert len(questions) == 3


async def test_no_checkpointer():
    """A graph that interrupts itself and keeps no checkpoints fails, and the failure says what it needs."""

    def approve(state):
        interrupt("Send it?")

    events = await run(chain(approve).compile())
    assert "needs a checkpointer: compile it with one" in failure_of(events, "a")[1]
    assert not of_kind(events, "input_requested")


async def test_a_breakpoint_asks_nothing():
    """A graph that was compiled to stop before a node goes on by itself: there is nothing to ask."""
    graph = chain(one=lambda state: {"lines": ["1"]}, two=lambda state: {"lines": ["2"]})
    compiled = graph.compile(checkpointer=InMemorySaver(), interrupt_before=["two"])
    events = await run(compiled, select="lines")
    assert output(events) == ["1", "2"]


def test_what_a_question_is_made_of():
    """A text is the question, a dict has it with its choices or its schema, and anything else is shown as JSON."""
    schema = {"type": "integer"}
    plain = {"choices": [], "schema": None}
    assert question_of("Go?") == {"prompt": "Go?", **plain}
    assert question_of({"prompt": "Go?", "options": ["yes", "no", "yes"]}) == {
        "prompt": "Go?",
        "choices": ["yes", "no"],
        "schema": None,
    }
    assert question_of({"message": "How many?", "schema": schema}) == {
        "prompt": "How many?",
        "choices": [],
        "schema": schema,
    }
    assert question_of("How many?", schema)["schema"] == schema
    assert question_of({"draft": "ä", "choices": [1, 2]}) == {"prompt": '{"choices": [1, 2], "draft": "ä"}', **plain}
    assert question_of(["a"]) == {"prompt": '["a"]', **plain}
    assert question_of(" ") == {"prompt": '" "', **plain}
    assert len(question_of({"draft": "x" * 50_000})["prompt"]) <= 10_000


async def test_a_question_that_waits_withholds_no_slot():
    """While a graph waits for an answer, other steps run in its slot."""

    def approve(state):
        return {"lines": [interrupt("Send it?")]}

    app = app_of(chain(approve).compile(checkpointer=InMemorySaver()), select="lines")

    @app.operation("other")
    async def other() -> str:
        return "done"

    work = request(step("a", "graph"), step("b", "other"))
    work.options.max_parallel_steps = 1
    async with Rig(app) as rig:
        execution_id = await rig.start(work)
        await rig.durable(execution_id, "step_completed")
        await converse(rig, execution_id, "yes")
        assert output(await rig.ended(execution_id)) == {"a": ["yes"], "b": "done"}
