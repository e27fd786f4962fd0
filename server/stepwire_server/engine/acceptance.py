"""Whether a request may become an execution: its form, and nothing that would need work.

Everything that is wrong is found before anything is stored, and named with its field.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from stepwire.errors import (
    InputInvalid,
    NoPlanner,
    OperationNotFound,
    PlanInvalid,
    PlanNotFound,
    RequestMalformed,
    StepwireError,
    Violation,
)
from stepwire.v1 import ExecuteRequest, ExecutionOptions, Plan, Step
from stepwire.values import to_python
from stepwire_server.engine import values
from stepwire_server.engine.graph import ID, MAX_SPAN_NS, violations
from stepwire_server.engine.operation import Catalog, Operation

__all__ = [
    "LARGE_PLAN",
    "MAX_LABELS",
    "MAX_QUERY",
    "aside",
    "check_form",
    "check_work",
    "in_thread",
    "is_large",
    "normalised",
    "plan_problem",
    "query_violations",
    "steps_problem",
    "summary",
]

MAX_QUERY = 10_000
"""Characters of a query."""

MAX_LABELS = 32
"""Labels of an execution."""

_MAX_LABEL = 256

LARGE_PLAN = 200
"""Steps above which a plan is checked in a thread."""

_checking = ThreadPoolExecutor(2, thread_name_prefix="stepwire-check")
"""For checks alone, of all engines: each ends by itself, so that none can keep the others waiting, nor a process."""

Found = TypeVar("Found")


def normalised(request: ExecuteRequest) -> ExecuteRequest:
    """Returns what makes two requests the same: all but request id, filter and heartbeat interval."""
    same = ExecuteRequest()
    same.CopyFrom(request)
    for name in ("request_id", "filter", "heartbeat_interval"):
        same.ClearField(name)
    # Options that are absent, empty or spelled out say the same; languages differ in which they send.
    if same.options.failure_policy == ExecutionOptions.FAILURE_POLICY_CONTINUE:
        same.options.ClearField("failure_policy")
    if not same.options.ByteSize():
        same.ClearField("options")
    return same


def check_form(request: ExecuteRequest) -> None:
    """Raises RequestMalformed, which names everything that is wrong with a request whatever the app can do."""
    found = _form(request)
    if found:
        raise RequestMalformed(summary("the request is malformed", found), violations=found)


def check_work(request: ExecuteRequest, catalog: Catalog) -> None:
    """Raises the error that names everything in a request that the app can't do, of the first kind that there is."""
    match request.WhichOneof("work"):
        case "query":
            if catalog.planner is None:
                raise NoPlanner(f"the app {catalog.app!r} has no planner; send a plan or a call")
        case "plan":
            problem = plan_problem(request.plan, catalog)
            if problem is not None:
                raise problem
        case "call":
            _check_call(request, catalog)


async def aside(plan: Plan, check: Callable[[], Found]) -> Found:
    """Returns what the check of a plan returns. One of 10,000 steps takes a while: not in the event loop, where all
    streams would wait; nor where operations wait, in asyncio's own threads or the engine's.
    """
    return await in_thread(check) if is_large(plan.steps) else check()


def is_large(steps: Sequence[Step]) -> bool:
    """Returns whether there is so much to check of steps that it takes a while: they, their items, their conditions."""
    return len(steps) > LARGE_PLAN or sum(map(_parts, steps)) > LARGE_PLAN


def _parts(step: Step) -> int:
    return 1 + len(step.conditions) + len(step.for_each.values.values)


async def in_thread(check: Callable[[], Found]) -> Found:
    """Returns what a check returns, which takes a while, as `aside` does."""
    return await asyncio.get_running_loop().run_in_executor(_checking, check)


def plan_problem(plan: Plan, catalog: Catalog) -> StepwireError | None:
    """Returns what is wrong with a plan: its form, then its operations, then its inputs."""
    found = violations(plan)
    if found:
        return PlanInvalid(summary("the plan is invalid", found), violations=found)
    return steps_problem(list(enumerate(plan.steps)), catalog)


def steps_problem(
    steps: Sequence[tuple[int, Step]], catalog: Catalog, *, path: str = "plan.steps"
) -> StepwireError | None:
    """Returns what is wrong with steps of a plan, given with their places in it: operations, then inputs."""
    found = [
        Violation(
            f"{path}[{i}].operation", f"there is no operation {step.operation[:80]!r}; {_known(catalog.operations)}"
        )
        for i, step in steps
        if step.operation not in catalog.operations
    ]
    if found:
        return OperationNotFound(summary("the plan names operations that are not there", found), violations=found)
    for i, step in steps:
        operation = catalog.operations[step.operation]
        given = to_python(step.input)
        later: dict[str, object] = dict(step.input_from)
        if step.HasField("for_each"):
            later[step.for_each.parameter] = step.for_each
        wrong = operation.signature.check(given, path=f"{path}[{i}].input", given_later=later)
        found += wrong or _item_violations(step, operation, f"{path}[{i}].for_each")
        if operation.at_most_once and step.retry.attempts > 1:
            found.append(Violation(f"{path}[{i}].retry.attempts", f"operation {step.operation!r} runs at most once"))
    if found:
        return InputInvalid(summary("an input does not fit its operation", found), violations=found)
    return None


def _item_violations(step: Step, operation: Operation, path: str) -> list[Violation]:
    """Returns what is wrong with items that are given with their step, each as the parameter that it will be."""
    name = step.for_each.parameter
    found: list[Violation] = []
    for i, item in enumerate(step.for_each.values.values):
        place = f"{path}.values[{i}]"
        # Alone: what is given beside it may be large, and is checked once.
        wrong = operation.signature.check({name: to_python(item)}, path="")
        found += [
            Violation(place + field.removeprefix(f".{name}"), text)
            for field, text in wrong
            if field == f".{name}" or field.startswith((f".{name}.", f".{name}["))
        ]
    return found


def query_violations(query: str) -> list[Violation]:
    """Returns what is wrong with a query's form."""
    if not query.strip():
        return [Violation("query", "is empty; say what shall be done")]
    if len(query) > MAX_QUERY:
        return [Violation("query", f"has {len(query):,} characters; at most {MAX_QUERY:,} are allowed")]
    if "\0" in query:
        return [Violation("query", "has a NUL character")]
    return []


def _check_call(request: ExecuteRequest, catalog: Catalog) -> None:
    named = catalog.plans.get(request.call.plan)
    if named is None:
        raise PlanNotFound(f"there is no plan {request.call.plan[:80]!r}; {_known(catalog.plans)}")
    found = values.check(request.call.input, "call.input")
    found = found or named.signature.check(to_python(request.call.input), path="call.input")
    if found:
        raise InputInvalid(summary("the input does not fit the plan", found), violations=found)


def _form(request: ExecuteRequest) -> list[Violation]:
    found: list[Violation] = []
    match request.WhichOneof("work"):
        case None:
            found.append(Violation("work", "nothing to run: set query, plan or call"))
        case "query":
            found += query_violations(request.query)
    for name in ("request_id", "session_id"):
        value = getattr(request, name)
        if value and not ID.fullmatch(value):
            found.append(Violation(name, f"{value[:80]!r} does not match [A-Za-z0-9_-]{{1,64}}"))
    found += _label_violations(request.labels)
    options = request.options
    if options.max_parallel_steps < 0:
        found.append(Violation("options.max_parallel_steps", f"is {options.max_parallel_steps}; 0 or more is allowed"))
    for name in ("time_limit", "cancel_if_unwatched_for"):
        if options.HasField(name) and not 0 < getattr(options, name).ToNanoseconds() <= MAX_SPAN_NS:  # type: ignore[arg-type]
            found.append(Violation(f"options.{name}", "must be above 0 and at most 366 days"))
    if options.failure_policy not in options.FailurePolicy.values():
        found.append(Violation("options.failure_policy", f"{options.failure_policy} is not known"))
    return found


def _label_violations(labels: Mapping[str, str]) -> list[Violation]:
    if len(labels) > MAX_LABELS:
        return [Violation("labels", f"has {len(labels):,} labels; at most {MAX_LABELS} are allowed")]
    found: list[Violation] = []
    for key, value in labels.items():
        if not ID.fullmatch(key):
            found.append(Violation("labels", f"the key {key[:80]!r} does not match [A-Za-z0-9_-]{{1,64}}"))
        if len(value) > _MAX_LABEL or "\0" in value:
            found.append(Violation(f"labels[{key[:80]!r}]", f"a value has at most {_MAX_LABEL} characters and no NUL"))
    return found


def summary(text: str, found: list[Violation]) -> str:
    """Returns a text with the first of what was found, and how many more there are."""
    first = found[0]
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return f"{text}: {first.field} {first.description}{more}"


def _known(names: Mapping[str, object]) -> str:
    shown = sorted(names)[:20]
    if not shown:
        return "this server has none"
    return "this server has " + ", ".join(shown) + (" and more" if len(names) > len(shown) else "")
