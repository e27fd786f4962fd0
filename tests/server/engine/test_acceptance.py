"""Whether a request may become an execution: each violation is named with its field."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from stepwire.errors import InputInvalid, OperationNotFound, PlanNotFound, RequestMalformed
from stepwire.v1 import EventFilter, ExecuteRequest, ExecutionOptions, Plan, Retry
from stepwire_server import App, output_of
from stepwire_server.engine.acceptance import check_form, check_work, normalised, plan_problem
from stepwire_server.engine.operation import Catalog

from .rig import request, step


def catalog() -> Any:
    app = App("shop")

    @app.operation()
    async def charge(step, order: str, amount: float = 1): ...

    @app.operation(at_most_once=True)
    async def once(): ...

    @app.plan()
    def named(n: int) -> Plan: ...

    @app.planner
    async def planner(query: str) -> Plan: ...

    return app.catalog()


def accept(asked: ExecuteRequest, known: Catalog) -> None:
    """Makes both checks, in the order in which the engine makes them."""
    check_form(asked)
    check_work(asked, known)


def wrong(asked: ExecuteRequest, error: type[Exception]) -> dict[str, str]:
    """Returns what the refusal names, by field."""
    with pytest.raises(error) as refused:
        accept(asked, catalog())
    return {item.field: item.description for item in refused.value.violations}


GOOD = step("a", "charge", input={"order": "1"})
BAD_FORM = [
    (ExecuteRequest(), "work"),
    (ExecuteRequest(query=" \n"), "query"),
    (ExecuteRequest(query="x" * 10_001), "query"),
    (ExecuteRequest(query="a\0"), "query"),
    (request(GOOD, request_id="a b"), "request_id"),
    (request(GOOD, request_id="x" * 65), "request_id"),
    (request(GOOD, session_id="a/b"), "session_id"),
    (request(GOOD, labels={"a.b": ""}), "labels"),
    (request(GOOD, labels={"": ""}), "labels"),
    (request(GOOD, labels={"a": "x" * 257}), "labels['a']"),
    (request(GOOD, labels={"a": "\0"}), "labels['a']"),
    (request(GOOD, labels={f"l{i}": "" for i in range(33)}), "labels"),
    (request(GOOD, options=ExecutionOptions(max_parallel_steps=-1)), "options.max_parallel_steps"),
    (request(GOOD, options=ExecutionOptions(time_limit=Duration())), "options.time_limit"),
    (request(GOOD, options=ExecutionOptions(time_limit=Duration(seconds=10**12))), "options.time_limit"),
    (
        request(GOOD, options=ExecutionOptions(cancel_if_unwatched_for=Duration(seconds=-1))),
        "options.cancel_if_unwatched_for",
    ),
    (request(GOOD, options=ExecutionOptions(failure_policy=7)), "options.failure_policy"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("asked", "field"), BAD_FORM, ids=[field for _, field in BAD_FORM])
def test_a_wrong_form_is_named_with_its_field(asked, field):
    """Each field that is out of its bounds is named."""
    assert set(wrong(asked, RequestMalformed)) == {field}


def test_all_that_is_wrong_is_named_at_once():
    """A request with several faults is told of all of them, and its message of the first and their number."""
    with pytest.raises(RequestMalformed) as refused:
        accept(ExecuteRequest(request_id="/", session_id="/"), catalog())
    assert [item.field for item in refused.value.violations] == ["work", "request_id", "session_id"]
    assert (
        refused.value.message == "the request is malformed: work nothing to run: set query, plan or call (and 2 more)"
    )


def test_what_is_within_its_bounds_is_accepted():
    """Values at their bounds are accepted."""
    accept(ExecuteRequest(query="x" * 10_000), catalog())
    accept(
        request(
            GOOD,
            request_id="x" * 64,
            labels={f"l{i}": "x" * 256 for i in range(32)},
            options=ExecutionOptions(time_limit=Duration(seconds=366 * 86_400)),
        ),
        catalog(),
    )


def test_operations_and_inputs_are_checked():
    """Unknown operations are named before inputs are looked at; each input is named with step and parameter."""
    found = wrong(request(step("a", "charge"), step("b", "nobody")), OperationNotFound)
    assert found == {"plan.steps[1].operation": "there is no operation 'nobody'; this server has charge, once"}
    found = wrong(
        request(GOOD, step("b", "charge", input={"order": 3}), step("c", "charge", input={"other": 1})), InputInvalid
    )
    assert set(found) == {"plan.steps[1].input.order", "plan.steps[2].input.order", "plan.steps[2].input.other"}


def test_an_output_stands_for_its_parameter():
    """A parameter that is taken from another step is not missing; one that the operation lacks is named."""
    accept(request(GOOD, step("b", "charge", input={"order": output_of("a")})), catalog())
    found = wrong(request(GOOD, step("b", "charge", input={"order": "1", "x": output_of("a")})), InputInvalid)
    assert set(found) == {"plan.steps[1].input.x"}


def test_what_runs_at_most_once_is_not_tried_again():
    """A step of an at_most_once operation with more than one attempt is refused."""
    found = wrong(request(step("a", "once", retry=Retry(attempts=2))), InputInvalid)
    assert found == {"plan.steps[0].retry.attempts": "operation 'once' runs at most once"}
    accept(request(step("a", "once", retry=Retry(attempts=1))), catalog())


def test_calls_are_checked():
    """A call names a plan that there is, and its input fits the plan's function, within the bounds of values."""
    asked = ExecuteRequest()
    asked.call.plan = "nobody"
    with pytest.raises(PlanNotFound, match="this server has named"):
        accept(asked, catalog())
    asked.call.plan = "named"
    assert set(wrong(asked, InputInvalid)) == {"call.input.n"}
    asked.call.input["n"] = float("nan")
    assert set(wrong(asked, InputInvalid)) == {"call.input.n"}
    asked.call.input["n"] = 3
    accept(asked, catalog())


def test_an_empty_server_says_so():
    """The text of a refusal names what there is, also where that is nothing."""
    problem = plan_problem(Plan(steps=[GOOD]), App("empty").catalog())
    assert problem is not None
    assert "this server has none" in problem.message


def test_what_makes_two_requests_the_same():
    """Request id, filter and heartbeat interval do not count; the request itself is left as it is."""
    asked = request(GOOD, request_id="r", filter=EventFilter(kinds=["content"]), heartbeat_interval=Duration(seconds=1))
    assert normalised(asked) == request(GOOD)
    assert asked.request_id == "r"
