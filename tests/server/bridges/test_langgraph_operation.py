"""A LangGraph graph as an operation: what it takes and gives, and what is to be installed."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from langgraph.func import entrypoint, task
from langgraph.graph import StateGraph
from langgraph.managed import RemainingSteps
from langgraph.runtime import Runtime
from tests.e2e.serving import PATIENCE, command
from tests.server.engine.rig import Rig, failure_of, kinds, of_kind, output, request, step
from typing_extensions import TypedDict

from stepwire_server import App, current_step
from stepwire_server.bridges import langgraph_operation

from .graphs import START, Log, app_of, chain, run, told


async def test_the_input_is_checked():
    """The keys of the graph's input are the operation's parameters: another, or one of another type, is refused."""
    app = app_of(chain(subject=lambda state: {}).compile(), description="Say something.")
    operation = app.catalog().operations["graph"]
    assert operation.description == "Say something."
    assert {name: field.get("type") for name, field in operation.signature.schema["properties"].items()} == {
        "subject": "string",
        "lines": "array",
    }
    found = operation.signature.check({"subject": 3, "topic": "x"}, path="input")
    assert [violation.field for violation in found] == ["input.subject", "input.topic"]
    assert operation.signature.check({}, path="input") == []


class Frame:
    """What no JSON schema describes."""


class Odd(TypedDict, total=False):
    frame: Frame
    steps_left: RemainingSteps


async def test_keys_that_can_not_be_checked():
    """A key of a type that no JSON schema describes takes anything, and what LangGraph manages by itself is no key."""
    app = app_of(chain(subject=lambda state: {}, schema=Odd).compile())
    properties = app.catalog().operations["graph"].signature.schema["properties"]
    assert list(properties) == ["frame"]
    assert "type" not in properties["frame"]


async def test_an_input_of_your_own():
    """A function that makes the input gives its own parameters to the operation, and its docstring."""

    def ask(question: str, times: int = 1) -> dict[str, Any]:
        """Ask so many times."""
        return {"lines": [question] * times}

    app = app_of(chain(echo=lambda state: {"lines": ["!"]}).compile(), input=ask, select="lines")
    assert app.catalog().operations["graph"].description == "Ask so many times."
    async with Rig(app) as rig:
        events = await rig.run(request(step("a", "graph", input={"question": "?", "times": 2})))
    assert output(events) == ["?", "?", "!"]


async def test_what_can_not_be_selected():
    """A key that the final state lacks fails the step, and the failure says which there are."""
    events = await run(chain(echo=lambda state: {"lines": ["!"]}).compile(), select="answer")
    assert "no 'answer' to select; it has: lines" in failure_of(events, "a")[1]


async def test_an_output_that_is_no_json():
    """A final state that can't be sent fails the step, and the failure says where in it."""
    events = await run(chain(echo=lambda state: {"lines": [object()]}).compile())
    reason, text = failure_of(events, "a")
    assert reason == "OUTPUT_INVALID"
    assert "output" in text
    (update,) = of_kind(events, "stage")
    assert "(object)" in str(update)


async def test_an_entrypoint():
    """A workflow of functions is a graph, too: its input is one value, and its tasks are its nodes."""

    @task
    async def double(number: int) -> int:
        await current_step().agent("doubler", "progress", f"doubling {number}")
        return 2 * number

    @entrypoint()
    async def workflow(number: int) -> int:
        return await double(number) + 1

    events = await run(workflow, {"input": 4})
    assert told(events) == [
        ("agent", "doubler", "doubling 4"),
        ("stage", "double", {"state_update": 8}),
        ("stage", "workflow", {"state_update": 9}),
    ]
    assert output(events) == 9


async def test_the_context_of_a_graph():
    """What `context` has reaches the nodes as the context of the graph's runtime."""

    @dataclass
    class Settings:
        language: str

    async def greet(state, runtime: Runtime[Settings]):
        return {"lines": [runtime.context.language]}

    # LangGraph looks the annotation up by its name.
    greet.__annotations__["runtime"] = Runtime[Settings]
    graph = StateGraph(Log, context_schema=Settings)
    graph.add_node("greet", greet)
    graph.add_edge(START, "greet")
    events = await run(graph.compile(), context=Settings("de"), select="lines")
    assert output(events) == ["de"]


async def test_more_configuration():
    """What `config` has reaches LangGraph, beside the thread of the step."""

    async def loop(state):
        return {"lines": ["again"]}

    graph = StateGraph(Log)
    graph.add_node("loop", loop)
    graph.add_edge(START, "loop")
    graph.add_edge("loop", "loop")
    events = await run(graph.compile(), config={"recursion_limit": 3})
    assert kinds(told_stages(events)) == ["stage"] * 3
    assert failure_of(events, "a")[1].startswith("GraphRecursionError: Recursion limit of 3")


def told_stages(events: list[Any]) -> list[Any]:
    return of_kind(events, "stage")


def test_langgraph_is_missing(tmp_path: Path):
    """A server whose app has a graph, and no LangGraph, says in one line what to install, and does not start."""
    program = tmp_path / "graphs.py"
    program.write_text(
        "import sys\n"
        "sys.modules['langgraph'] = sys.modules['langgraph.types'] = None\n"
        "from stepwire_server import App\n"
        "from stepwire_server.bridges import langgraph_operation\n"
        "app = App('graphs')\n"
        "langgraph_operation(app, 'graph', object())\n",
        "utf-8",
    )
    arguments = [command("stepwire-server"), "serve", "graphs:app", "--listen", "127.0.0.1:0", "--journal", "memory"]
    done = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode != 0
    (line,) = done.stderr.strip().splitlines()
    assert 'pip install "stepwire[server,langgraph]"' in line


def test_langgraph_is_not_loaded_with_the_bridges():
    """Importing the bridges, all of them, loads neither LangGraph nor LangChain."""
    code = (
        "import sys, stepwire_server.bridges.langgraph, stepwire_server.bridges.callbacks\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('langgraph', 'langchain_core', 'langsmith')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert done.stdout.strip() == "[]"


def test_a_name_stands_once():
    """Two graphs of an app need names of their own, as operations do."""
    app = App("graphs")
    graph = chain(echo=lambda state: {}).compile()
    langgraph_operation(app, "graph", graph)
    with pytest.raises(ValueError, match="has its operation 'graph' already"):
        langgraph_operation(app, "graph", graph)
