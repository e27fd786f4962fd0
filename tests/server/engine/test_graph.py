"""A plan's form: what is refused, and with which field named."""

from __future__ import annotations

import itertools
import time
from graphlib import CycleError, TopologicalSorter

import pytest
from google.protobuf.duration_pb2 import Duration
from hypothesis import given
from hypothesis import strategies as st

from stepwire.v1 import OutputRef, Plan, Retry, Step
from stepwire.values import to_struct
from stepwire_server.engine.graph import MAX_PLAN_BYTES, MAX_STEPS, Graph, violations


def row(count: int) -> Plan:
    """Returns steps that each depend on the one before."""
    return Plan(steps=[Step(id=f"s{i}", operation="o", depends_on=[f"s{i - 1}"] if i else []) for i in range(count)])


def bad(**fields: object) -> Plan:
    return Plan(steps=[Step(**{"id": "a", "operation": "o", **fields})])


def deep(levels: int) -> object:
    value: object = 1
    for _ in range(levels):
        value = [value]
    return value


CASES = {
    "no steps": (Plan(), "plan.steps", "is empty"),
    "no id": (bad(id=""), "plan.steps[0].id", "does not match"),
    "id with a slash": (bad(id="a/b"), "plan.steps[0].id", "'a/b' does not match"),
    "id with a line's end": (bad(id="a\n"), "plan.steps[0].id", "does not match"),
    "id too long": (bad(id="a" * 65), "plan.steps[0].id", "does not match"),
    "no operation": (bad(operation=""), "plan.steps[0].operation", "is empty"),
    "name too long": (bad(name="n" * 201), "plan.steps[0].name", "has 201 characters"),
    "weight 0": (bad(weight=0), "plan.steps[0].weight", "above 0"),
    "weight below 0": (bad(weight=-1), "plan.steps[0].weight", "above 0"),
    "weight not a number": (bad(weight=float("nan")), "plan.steps[0].weight", "above 0"),
    "weight infinite": (bad(weight=float("inf")), "plan.steps[0].weight", "finite"),
    "timeout 0": (bad(timeout=Duration()), "plan.steps[0].timeout", "above 0"),
    "timeout too long": (bad(timeout=Duration(seconds=10**12)), "plan.steps[0].timeout", "366 days"),
    "attempts below 0": (bad(retry=Retry(attempts=-1)), "plan.steps[0].retry.attempts", "0 to 100"),
    "too many attempts": (bad(retry=Retry(attempts=101)), "plan.steps[0].retry.attempts", "0 to 100"),
    "delay below 0": (
        bad(retry=Retry(initial_delay=Duration(seconds=-1))),
        "plan.steps[0].retry.initial_delay",
        "negative",
    ),
    "longest delay below 0": (
        bad(retry=Retry(max_delay=Duration(nanos=-1))),
        "plan.steps[0].retry.max_delay",
        "negative",
    ),
    "delay too long": (
        bad(retry=Retry(initial_delay=Duration(seconds=10**12))),
        "plan.steps[0].retry.initial_delay",
        "366 days",
    ),
    "multiplier below 1": (bad(retry=Retry(multiplier=0.5)), "plan.steps[0].retry.multiplier", "at least 1"),
    "multiplier infinite": (
        bad(retry=Retry(multiplier=float("inf"))),
        "plan.steps[0].retry.multiplier",
        "at least 1",
    ),
    "multiplier not a number": (
        bad(retry=Retry(multiplier=float("nan"))),
        "plan.steps[0].retry.multiplier",
        "at least 1",
    ),
    "jitter above 1": (bad(retry=Retry(jitter=1.5)), "plan.steps[0].retry.jitter", "0 to 1"),
    "jitter not a number": (bad(retry=Retry(jitter=float("nan"))), "plan.steps[0].retry.jitter", "0 to 1"),
    "depends on itself": (bad(depends_on=["a"]), "plan.steps[0].depends_on[0]", "is the step itself"),
    "depends on nobody": (bad(depends_on=["b"]), "plan.steps[0].depends_on[0]", "no step has the id 'b'"),
    "input too deep": (bad(input=to_struct({"x": 1})), "", ""),
    "output of a step that it does not depend on": (
        bad(input_from={"x": OutputRef(step_id="b")}),
        "plan.steps[0].input_from['x'].step_id",
        "depends_on",
    ),
    "id twice": (
        Plan(steps=[Step(id="a", operation="o"), Step(id="a", operation="o")]),
        "plan.steps[1].id",
        "is the id of steps[0] too",
    ),
    "input given twice": (
        Plan(
            steps=[
                Step(id="b", operation="o"),
                Step(
                    id="a",
                    operation="o",
                    depends_on=["b"],
                    input=to_struct({"x": 1}),
                    input_from={"x": OutputRef(step_id="b")},
                ),
            ]
        ),
        "plan.steps[1].input_from['x']",
        "is given by input too",
    ),
    "pointer without a slash": (
        Plan(
            steps=[
                Step(id="b", operation="o"),
                Step(
                    id="a",
                    operation="o",
                    depends_on=["b"],
                    input_from={"x": OutputRef(step_id="b", json_pointer="y")},
                ),
            ]
        ),
        "plan.steps[1].input_from['x'].json_pointer",
        "begin with '/'",
    ),
}
del CASES["input too deep"]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_each_violation_is_named_with_its_field(case):
    """What is wrong with a plan's form is named with its field, and nothing else is."""
    wrong, field, text = CASES[case]
    (found,) = violations(wrong)
    assert found.field == field
    assert text in found.description


def test_all_violations_are_named_at_once():
    """A plan with several faults is told of all of them."""
    wrong = Plan(
        steps=[
            Step(id="a b", operation="", weight=-1, depends_on=["x", "a b"]),
            Step(id="c", operation="o", depends_on=["y"], name="n" * 300),
        ]
    )
    assert {found.field for found in violations(wrong)} == {
        "plan.steps[0].id",
        "plan.steps[0].operation",
        "plan.steps[0].weight",
        "plan.steps[0].depends_on[0]",
        "plan.steps[0].depends_on[1]",
        "plan.steps[1].depends_on[0]",
        "plan.steps[1].name",
    }


def test_values_of_inputs_are_bounded():
    """An input's numbers must be what JSON has and a double holds, each named with its place."""
    step = Step(id="a", operation="o")
    step.input["big"] = 2.0**60
    step.input["nothing"] = float("nan")
    step.input.fields["empty"].SetInParent()
    step.input["list"] = [1, {"deep": float("inf")}]
    assert {found.field for found in violations(Plan(steps=[step]))} == {
        "plan.steps[0].input.big",
        "plan.steps[0].input.nothing",
        "plan.steps[0].input.empty",
        "plan.steps[0].input.list[1].deep",
    }


def test_ten_thousand_steps_are_the_most():
    """10,000 steps are fine, 10,001 are refused."""
    assert MAX_STEPS == 10_000
    assert violations(row(10_000)) == []
    (found,) = violations(row(10_001))
    assert found.field == "plan.steps"
    assert "10,001" in found.description


def test_a_plan_is_bounded_in_bytes():
    """A plan above 768 KiB is refused, and told its size."""
    plan = Plan(steps=[Step(id="a", operation="o")])
    plan.steps[0].input["x"] = "y" * MAX_PLAN_BYTES
    (found,) = violations(plan)
    assert found.field == "plan"
    assert "786,432" in found.description


def test_a_wide_step_is_checked_in_linear_time():
    """A step with thousands of dependencies and thousands of references to them is checked at once."""
    count = 9_000
    plan = Plan(steps=[Step(id=f"s{i}", operation="o") for i in range(count)])
    last = plan.steps.add(id="last", operation="o", depends_on=[f"s{i}" for i in range(count)])
    for i in range(count):
        last.input_from[f"p{i}"].step_id = f"s{i}"
    began = time.process_time()
    assert violations(plan) == []
    assert time.process_time() - began < 2


@given(
    st.integers(1, 12).flatmap(
        lambda n: st.tuples(st.just(n), st.sets(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=30))
    )
)
def test_cycles_are_found_exactly_where_they_are(drawn):
    """A plan is refused for a cycle exactly when a topological sort finds one, and the named way is a cycle."""
    count, edges = drawn
    edges = {(a, b) for a, b in edges if a != b}
    plan = Plan(
        steps=[
            Step(id=f"s{i}", operation="o", depends_on=[f"s{b}" for a, b in sorted(edges) if a == i])
            for i in range(count)
        ]
    )
    found = violations(plan)
    try:
        list(TopologicalSorter({i: [b for a, b in edges if a == i] for i in range(count)}).static_order())
    except CycleError:
        (cycle,) = found
        way = cycle.description.removeprefix("is a cycle: ").split(" -> ")
        assert way[0] == way[-1]
        assert len(set(way)) == len(way) - 1
        needs = {step.id: set(step.depends_on) for step in plan.steps}
        assert all(after in needs[before] for before, after in itertools.pairwise(way))
        index = int(way[0].removeprefix("s"))
        assert cycle.field == f"plan.steps[{index}].depends_on"
    else:
        assert found == []


def test_a_long_cycle_is_shortened():
    """A cycle of thousands of steps is named in one line."""
    plan = row(5_000)
    plan.steps[0].depends_on.append("s4999")
    (found,) = violations(plan)
    assert len(found.description) < 300
    assert "more" in found.description


def test_a_graph_knows_its_dependants_in_plan_order():
    """Direct dependants and sinks come in the plan's order; naming a dependency twice changes nothing."""
    graph = Graph(
        Plan(
            steps=[
                Step(id="d", depends_on=["b", "c", "b"]),
                Step(id="c", depends_on=["a"]),
                Step(id="b", depends_on=["a"]),
                Step(id="a"),
                Step(id="e"),
            ]
        )
    )
    assert graph.waits_for == [2, 1, 1, 0, 0]
    assert graph.dependants[3] == [1, 2]
    assert graph.sinks() == [0, 4]
    assert len(graph) == 5
