"""Several calls of tools in one step: side by side, each a part of the step, each with its events and its outcome.

executing_add -> completed_add      it returned; data: call, tool, seconds, output
              -> failed_add         it ran and failed; data: call, tool, seconds, error
              -> error_add          there is no such tool, or the input does not fit it; data: call, tool, error
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import to_jsonable_python

from stepwire.errors import InputInvalid
from stepwire.values import to_value
from stepwire_server import Refused, StepContext, StepEnded
from stepwire_server.tools.tool import Tool, ToolContext, ToolFailed

__all__ = ["BadCall", "Call", "Calls", "NotCalled", "Outcome", "Run"]

_log = logging.getLogger(__name__)

_SHOWN_INPUT = 4 * 1024
_KEPT_OUTPUT = 128 * 1024
_KEPT_OUTPUTS = 512 * 1024
"""Bytes of an input that events show, of one output, and of all outputs together, that stand in the step's output. What
is larger goes as an artifact.
"""

_ERROR_TEXT = 500
"""Characters of an error in the step's output. Its event has more."""

_TOLD_ERROR = 10_000
"""Characters of an error in its event."""


class Call(BaseModel):
    """One call of a tool."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    tool: Annotated[str, Field(min_length=1, max_length=200)]
    """The tool's name."""
    input: dict[str, Any] = {}
    """What it is given."""
    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:-]{1,64}$")] | None = None
    """What events and outcomes call it by; the tool's name where it is not said, and a number after it from the second
    one on.
    """


class BadCall(Call):
    """A call that was asked for in a way that can't be understood."""

    problem: str
    """Why."""


def _distinct(calls: list[Call]) -> list[Call]:
    ids = [call.id for call in calls if call.id is not None]
    twice = sorted({each for each in ids if ids.count(each) > 1})
    if twice:
        raise ValueError(f"two calls have the id {twice[0]!r}")
    return calls


Calls = Annotated[list[Call], Field(min_length=1, max_length=200), AfterValidator(_distinct)]
"""The calls of one step."""


class Outcome(BaseModel):
    """What became of a call."""

    model_config = ConfigDict(frozen=True)

    id: str
    tool: str
    state: Literal["completed", "failed", "error"]
    seconds: float
    output: Any = None
    artifact: str | None = None
    """The name of the artifact that has the output, where it is too large to stand here."""
    error: str | None = None

    def shown(self) -> dict[str, Any]:
        """Returns it without what does not apply."""
        left_out = {"output"} if self.state != "completed" or self.artifact else set()
        return {
            key: value
            for key, value in self.model_dump().items()
            if key not in left_out and (value is not None or key == "output")
        }


class NotCalled(Exception):
    """The tool was not called: there is none, or its input does not fit."""


class Run:
    """Calls of tools for one step."""

    def __init__(self, tools: Mapping[str, Tool], step: StepContext) -> None:
        self._tools = tools
        self._step = step
        self._room = _KEPT_OUTPUTS

    async def all(self, calls: Sequence[Call], *, max_parallel: int) -> list[Outcome]:
        """Makes the calls, so many at once, and returns what became of each, in their order. No call's failure touches
        another.
        """
        names = _names(calls)
        await self._step.substeps(names)
        free = asyncio.Semaphore(max_parallel)
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._in_turn(free, call, name)) for call, name in zip(calls, names, strict=True)
            ]
        return [task.result() for task in tasks]

    async def _in_turn(self, free: asyncio.Semaphore, call: Call, name: str) -> Outcome:
        async with free:
            await self._step.pausepoint()
            return await self._one(call, name)

    async def _one(self, call: Call, name: str) -> Outcome:
        now = asyncio.get_running_loop().time
        began = now()
        data: dict[str, Any] = {"call": name, "tool": _sendable(call.tool)}
        await self._say("executing", call, data | _shown_input(call.input))
        state: Literal["completed", "failed", "error"]
        told: dict[str, Any]
        try:
            async with self._step.substep(name) as part:
                output, size = await self._call(call, ToolContext(self._step, call_id=name, part=part, channel=name))
                told = await self._place(output, size, name)
            state = "completed"
        except NotCalled as error:
            state, told = "error", {"error": str(error)}
        except StepEnded:
            raise
        except Refused as error:
            state, told = "failed", {"error": str(error)}
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            state, told = "failed", {"error": "the tool cancelled its own call"}
        except Exception as error:
            _log.warning(
                "step %s/%s: tool %s failed", self._step.execution_id, self._step.id, call.tool, exc_info=error
            )
            state, told = "failed", {"error": _text(error)}
        seconds = round(now() - began, 6)
        if "error" in told:
            told["error"] = _sendable(told["error"])[:_TOLD_ERROR]
        await self._say(state, call, data | {"seconds": seconds} | told)
        if "error" in told:
            told["error"] = told["error"][:_ERROR_TEXT]
        return Outcome(id=name, tool=data["tool"][:64], state=state, seconds=seconds, **told)

    async def _call(self, call: Call, context: ToolContext) -> tuple[Any, int]:
        """Returns a tool's output as it can be sent, and its size."""
        if isinstance(call, BadCall):
            raise NotCalled(call.problem)
        tool = self._tools.get(call.tool)
        if tool is None:
            known = ", ".join(sorted(self._tools)) or "none"
            raise NotCalled(f"there is no tool {call.tool!r}; there are: {known[:2_000]}")
        try:
            wrong = tool.check(call.input)
        except ValueError as error:
            raise NotCalled(f"the input can't be checked: {error}") from None
        if wrong:
            raise NotCalled("; ".join(f"{field}: {text}" for field, text in wrong))
        output = await tool.call(call.input, context)
        try:
            plain = to_jsonable_python(output)
            # As deep as it will stand in the step's output.
            return plain, to_value({"results": [{"output": plain}]}, field="output").ByteSize()
        except InputInvalid as error:
            problems = "; ".join(f"{field} {problem}" for field, problem in error.violations)
            raise ToolFailed(f"its output can't be sent: {problems}") from None
        except (ValueError, RecursionError) as error:
            raise ToolFailed(f"its output can't be sent: {error}") from None

    async def _place(self, output: Any, size: int, name: str) -> dict[str, Any]:
        """Returns where an output stands: in the outcome, or in an artifact."""
        if size <= min(_KEPT_OUTPUT, self._room):
            self._room -= size
            return {"output": output}
        await self._step.artifact(name, output)
        return {"artifact": name}

    async def _say(self, what: str, call: Call, data: Mapping[str, Any]) -> None:
        called = re.sub(r"[^A-Za-z0-9_-]", "_", call.tool)[:64]
        why = f": {' '.join(data['error'][:_ERROR_TEXT].split())}" if "error" in data else ""
        await self._step.stage(f"{what}_{called}", f"{what.capitalize()} {called}{why}", data=data)


def _names(calls: Sequence[Call]) -> list[str]:
    """Returns what each call is named by: its id, or its tool's name and a number."""
    taken = {call.id for call in calls}
    names = []
    for call in calls:
        name = plain = call.id or re.sub(r"[^A-Za-z0-9_-]", "_", call.tool)[:64]
        number = 1
        while call.id is None and name in taken:
            number += 1
            name = f"{plain}-{number}"
        taken.add(name)
        names.append(name)
    return names


def _shown_input(given: Mapping[str, Any]) -> dict[str, Any]:
    try:
        size = to_value(given, field="input").ByteSize()
    except InputInvalid:
        return {}  # A model's: callers' inputs have come over the wire.
    return {"input": dict(given)} if size <= _SHOWN_INPUT else {"input_bytes": size}


def _text(error: Exception) -> str:
    """Returns an exception's class and text, whatever its own __str__ does."""
    try:
        text = str(error)
    except Exception:
        text = "(its text can't be had)"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _sendable(text: str) -> str:
    """Returns a text with half characters, which nothing can send, spelt out."""
    return text.encode("utf-8", "backslashreplace").decode()
