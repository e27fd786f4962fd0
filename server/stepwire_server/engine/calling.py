"""Calls an operation with a step's input, in the way its function wants to be called."""

from __future__ import annotations

import asyncio
import contextvars
import functools
from collections.abc import Callable, Mapping
from concurrent.futures import Executor as ThreadPool
from typing import Any

from google.protobuf import struct_pb2
from google.rpc import status_pb2

from stepwire.errors import InputInvalid, failure
from stepwire.v1 import Step
from stepwire.values import to_python
from stepwire_server.engine import values
from stepwire_server.engine.blocking import BlockingStepContext
from stepwire_server.engine.context import Result, StepContext, running_step
from stepwire_server.engine.fold import Fold
from stepwire_server.engine.operation import Operation, Style, for_thread
from stepwire_server.engine.step_events import describe
from stepwire_server.engine.time_limit import TimeLimit

__all__ = ["AttemptFailed", "absent_of", "call", "describe", "input_of", "results_of", "simulate"]


class AttemptFailed(Exception):
    """An attempt failed. `status` is for its event; `kind` the exception's class, where it may be worth another."""

    def __init__(self, status: status_pb2.Status, *, kind: type[BaseException] | None = None) -> None:
        super().__init__(status.message)
        self.status = status
        self.kind = kind


async def call(
    operation: Operation,
    context: StepContext,
    given: Mapping[str, Any],
    threads: ThreadPool,
    *,
    limit: TimeLimit | None,
    absent: Callable[[], str] = str,
) -> struct_pb2.Value:
    """Returns the operation's output. Raises AttemptFailed where the input does not fit it (its text ends with
    what `absent` returns) or the output can't be sent, and whatever the operation raises, NoThread too. `limit` stands
    still while the operation waits for a free thread: there is one again when one of those ends that are waited for.
    """
    try:
        arguments = operation.signature.bind(given)
    except ValueError as error:
        raise AttemptFailed(failure("INPUT_INVALID", f"{error}{absent()}")) from error
    match operation.style:
        case Style.THREAD:
            output = await _in_thread(operation, context, arguments, threads, limit)
        case Style.GENERATOR:
            output = await _stream(operation, context, arguments)
        case _:
            running_step.set(context)
            output = await operation.function(*_first(operation, context), **arguments)
    try:
        return values.to_value(output, field="output")
    except InputInvalid as error:
        raise AttemptFailed(failure("OUTPUT_INVALID", f"the output can't be sent: {_places(error)}")) from error


async def simulate(context: StepContext) -> struct_pb2.Value:
    """Reports as an operation might, and returns null."""
    for percentage in (10, 50, 90):
        await context.progress(percentage, f"Simulating {context.name}")
    return struct_pb2.Value(null_value=struct_pb2.NULL_VALUE)


def input_of(step: Step, fold: Fold) -> dict[str, Any]:
    """Returns a step's input with its references followed; those to steps that their own conditions skipped are left
    out. Raises AttemptFailed where one leads nowhere.
    """
    taken: dict[str, Any] = to_python(step.input)
    for name, source in step.input_from.items():
        output = fold.output(source.step_id)
        if output is None:
            # Its step was skipped by its own conditions: what the operation does without it, its signature says.
            continue
        try:
            taken[name] = to_python(values.point(output, source.json_pointer))
        except KeyError as error:
            text = f"input.{name}: {error.args[0]} in the output of step {source.step_id!r}"
            raise AttemptFailed(failure("INPUT_INVALID", text)) from error
    return taken


def absent_of(step: Step, fold: Fold) -> str:
    """Returns what is not given to a step because its source was skipped, as the end of a text; empty where nothing."""
    sources = {name: source.step_id for name, source in step.input_from.items()}
    return "".join(
        f"; step {step_id!r}, which gives {name!r}, was skipped by its condition"
        for name, step_id in sources.items()
        if fold.output(step_id) is None
    )


def results_of(step: Step, fold: Fold) -> Mapping[str, Any]:
    """Returns the outputs of the steps that one depends on directly, by step id."""
    outputs = {name: fold.output(name) for name in step.depends_on}
    return {name: to_python(output) for name, output in outputs.items() if output is not None}


def _places(error: InputInvalid) -> str:
    return "; ".join(f"{field} {problem}" for field, problem in error.violations)


def _first(operation: Operation, context: StepContext | BlockingStepContext) -> tuple[Any, ...]:
    return (context,) if operation.signature.wants_context else ()


async def _stream(operation: Operation, context: StepContext, arguments: Mapping[str, Any]) -> Any:
    running_step.set(context)
    stream = operation.function(*_first(operation, context), **arguments)
    try:
        async for item in stream:
            if isinstance(item, Result):
                return item.output
            await _report(context, item)
    finally:
        await stream.aclose()
    return None


async def _report(context: StepContext, item: Any) -> None:
    match item:
        case str() | bytes():
            await context.content(item)
        case bool():
            raise TypeError("the operation yielded bool; see App.operation for what it may yield")
        case int() | float():
            await context.progress(item)
        case (int() | float() as percentage, str() as message):
            await context.progress(percentage, message)
        case _:
            raise TypeError(f"the operation yielded {type(item).__name__}; see App.operation for what it may yield")


async def _in_thread(
    operation: Operation,
    context: StepContext,
    arguments: Mapping[str, Any],
    threads: ThreadPool,
    limit: TimeLimit | None,
) -> Any:
    loop = asyncio.get_running_loop()
    blocking = context.blocking()
    inherited = contextvars.copy_context()
    inherited.run(running_step.set, blocking)
    function = functools.partial(for_thread(operation.function), *_first(operation, blocking), **arguments)

    def begin() -> Any:
        context.enter_thread()
        if limit is not None:
            loop.call_soon_threadsafe(limit.release)
        return function()

    if limit is not None:
        limit.hold()
    job = threads.submit(inherited.run, begin)
    work = asyncio.wrap_future(job)
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        # A thread can't be cancelled: its next word to the step raises, and the attempt has ended when the thread has.
        # Where none was free yet, the operation is not called any more.
        context.close("the step was cancelled")
        if not job.cancel():
            await asyncio.wait({work})
            if not work.cancelled():
                work.exception()
        raise
