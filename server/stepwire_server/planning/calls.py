"""Calls of tools as steps: what each came to is its step's output, whether it worked or not, so that the plan goes on.

{"state": "completed", "value": 84, "output": {"text": "84", "value": 84}, "seconds": 0.0003}
{"state": "failed", "error": "it took longer than 5 s", "seconds": 5.001}
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

from pydantic_core import to_jsonable_python

from stepwire.errors import InputInvalid
from stepwire.v1 import Step
from stepwire.values import to_value
from stepwire_server import App, Refused, Retry, StepContext, StepEnded, plan_step, when
from stepwire_server.planning.analysis import is_number
from stepwire_server.planning.plans import needs
from stepwire_server.planning.references import substituted
from stepwire_server.tools import Tool, ToolContext

__all__ = ["call_steps", "outcomes_of", "part_of", "register_tool"]

_PREFIX = "call-"
"""What the ids of steps begin with that are calls."""

_NAME = 80
_ERROR = 1_000
_KEPT_OUTPUT = 128 * 1024
"""Characters of a step's name, of an error, and of an output as JSON; a larger one goes as an artifact."""

_WORTH_ANOTHER = ("ToolFailed", "ConnectionError", "OSError", "TimeoutError")
"""What may be better the next time."""


def register_tool(app: App, tool: Tool, *, attempts: int) -> None:
    """Gives an app a tool as an operation. `attempts`: how often one that fails is called."""

    async def run(step: StepContext, /, **inputs: Any) -> dict[str, Any]:
        began = asyncio.get_running_loop().time()
        try:
            given = substituted(inputs, lambda name: _value(name, step.results, tool.name), last=True)
            _check(tool, given)
            output = to_jsonable_python(await tool.call(given, ToolContext(step)))
            placed = await _placed(step, output)
            state: dict[str, Any] = {"state": "completed", "value": _principal(tool.name, output), **placed}
        except StepEnded:
            raise
        except Exception as error:
            # Attempts that a crash cost count here, too: there is no harm in one less.
            if step.attempt < attempts and type(error).__name__ in _WORTH_ANOTHER:
                raise
            plain = isinstance(error, Refused | ValueError)
            text = (str(error) if plain else f"{type(error).__name__}: {error}")[:_ERROR]
            state = {"state": "failed", "error": text}
            await step.stage("error", f"{step.name}: {text}", details=text, data={"call": step.id, "tool": tool.name})
        return {**state, "seconds": round(asyncio.get_running_loop().time() - began, 6)}

    run.__doc__ = f"{tool.description}\n\nThe output has `state`, and `value` and `output`, or `error`."
    retry = Retry(attempts=attempts, errors=_WORTH_ANOTHER)
    retry.initial_delay.FromMilliseconds(200)
    app.operation(tool.name, retry=retry)(run)


def call_steps(calls: Sequence[Mapping[str, Any]], *, after: str) -> list[Step]:
    """Returns the steps of a plan's calls. One that needs another is skipped where that one did not complete."""
    return [
        plan_step(
            _PREFIX + call["id"],
            call["tool"],
            name=call["text"][:_NAME],
            input=call["input"],
            depends_on=[after],
            conditions=[when(_PREFIX + name, "/state").equals("completed") for name in needs(call)],
        )
        for call in calls
    ]


def outcomes_of(results: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Returns what the calls came to, by id, from the outputs of steps. Those that were skipped are not in it."""
    return {key.removeprefix(_PREFIX): output for key, output in results.items() if key.startswith(_PREFIX)}


def _value(name: str, results: Mapping[str, Any], tool: str) -> Any:
    """Returns what a reference stands for. Raises ValueError, also where a tool would take it for what it is not: a
    date reads as a difference.
    """
    call, _, field = name.partition("/")
    value = part_of(results[_PREFIX + call], field)
    if tool == "calculate" and not is_number(value):
        raise ValueError(f"call {call} gave {str(value)[:100]!r}, which is no number")
    return value


def part_of(outcome: Mapping[str, Any], field: str) -> Any:
    """Returns a part of what a call that completed came to; the usual one where none is named. Raises ValueError."""
    if not field:
        return outcome["value"]
    output = outcome.get("output")
    if not isinstance(output, dict) or field not in output:
        raise ValueError(f"the output has no {field!r}" if "output" in outcome else "the output is too large for that")
    return output[field]


def _check(tool: Tool, given: Mapping[str, Any]) -> None:
    """Raises ValueError for an input that does not fit, now that all of it is there."""
    wrong = tool.check(given)
    if wrong:
        raise ValueError("; ".join(f"{field}: {text}" for field, text in wrong))


async def _placed(step: StepContext, output: Any) -> dict[str, Any]:
    """Returns where an output stands: in the step's, or in an artifact. Raises ValueError where it can in neither."""
    try:
        to_value({"output": output})
    except InputInvalid as error:
        where, problem = error.violations[0]
        raise ValueError(f"its output can't be sent: {where.removeprefix('value.')} {problem}") from None
    if len(json.dumps(output)) <= _KEPT_OUTPUT:
        return {"output": output}
    await step.artifact(step.id, output)
    return {"artifact": step.id}


def _principal(tool: str, output: Any) -> Any:
    """Returns what is meant by "the result" where a tool gives several things."""
    match output:
        case {"text": str() as text, "value": value} if tool == "calculate":
            # The nearest number only where it is the exact one.
            return value if _is_exact(text, value) else text
        case {"date": found} if tool == "add_to_date":
            return found
        case {"days": found} if tool == "days_between":
            return found
        case {"exit_code": int(), "stdout": str() as text}:
            return text.rstrip("\n")
        case dict() if len(output) == 1:
            return next(iter(output.values()))
        case _:
            return output if len(json.dumps(output)) <= _ERROR * 4 else None


def _is_exact(text: str, value: Any) -> bool:
    try:
        return is_number(value) and Decimal(text) == Decimal(repr(value))
    except InvalidOperation:
        return False
