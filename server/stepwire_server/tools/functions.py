"""Python functions as tools. Their signature is the schema of their input, their docstring the description.

async def add(a: int, b: int) -> int          is awaited in the event loop
def add(tool, path: str) -> int               runs in a thread; `tool` is the call's context, `step` would be the step
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from stepwire_server import App, Signature, StepContext, current_step
from stepwire_server.tools.tool import Tool, ToolContext, ToolFailed

__all__ = ["FunctionTool"]

_CONTEXTS = ("ToolContext", "BlockingToolContext")

_AT_ONCE = 64
"""Calls of one function that are waited for in threads; others wait for their turn."""

_MOST = 256
"""Functions that may run on in threads although nobody waits for them any more."""


class FunctionTool(Tool):
    """A function as a tool. Raises TypeError for one whose parameters can't be checked or given by name."""

    def __init__(self, function: Callable[..., Any], *, name: str | None = None, timeout: float | None = None) -> None:
        called = name or str(getattr(function, "__name__", ""))
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(f"tool {called!r} is a generator; return its result, and stream with tool.content(...)")
        try:
            parameters = list(inspect.signature(function, eval_str=True).parameters.values())
        except NameError as error:
            raise TypeError(f"tool {called!r}: an annotation can't be resolved: {error}") from error
        self._wants_call = bool(parameters) and _is_call(parameters[0])
        self._parameters = parameters[self._wants_call :]
        signature = Signature(_stand_in(self._parameters), name=f"tool {called!r}")
        super().__init__(called, description=inspect.getdoc(function) or "", signature=signature, timeout=timeout)
        self._function = function
        self._threads = _Threads(called)

    def register(self, app: App) -> None:
        """As Tool.register, checked against the function's own signature: dates are dates before the step begins."""

        async def run(step: StepContext, /, **inputs: Any) -> Any:
            return await self.perform(inputs, ToolContext(step))

        first = inspect.Parameter("step", inspect.Parameter.POSITIONAL_ONLY, annotation=StepContext)
        rest = self._parameters[self.signature.wants_context :]
        run.__signature__ = inspect.Signature([first, *rest])  # type: ignore[attr-defined]
        run.__doc__ = self.description
        app.operation(self.name)(run)

    async def _work(self, arguments: Mapping[str, Any], context: ToolContext) -> Any:
        if inspect.iscoroutinefunction(inspect.unwrap(self._function)):
            first = (context,) if self._wants_call else (context.step,) if self.signature.wants_context else ()
            return await self._function(*first, **arguments)
        blocking = (context.blocking(),) if self._wants_call else ()
        return await self._threads.call(functools.partial(self._in_thread, blocking, arguments))

    def _in_thread(self, first: tuple[Any, ...], arguments: Mapping[str, Any]) -> Any:
        if self.signature.wants_context:
            first = (current_step(),)
        return self._function(*first, **arguments)


def _is_call(parameter: inspect.Parameter) -> bool:
    named = getattr(parameter.annotation, "__name__", "")
    return named in _CONTEXTS or (parameter.name == "tool" and parameter.annotation is parameter.empty)


def _stand_in(parameters: list[inspect.Parameter]) -> Callable[..., Any]:
    """Returns a function that is never called and has these parameters."""

    def stand_in() -> None: ...

    stand_in.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return stand_in


class _Threads:
    """Calls a tool's function, each time in a thread of its own. One that nobody waits for any more can't be ended: it
    runs on unheard, and keeps no process alive.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._left = 0
        self._free = asyncio.Semaphore(_AT_ONCE)

    async def call(self, function: Callable[[], Any]) -> Any:
        """Returns what the function returns."""
        async with self._free:
            return await self._call(function)

    async def _call(self, function: Callable[[], Any]) -> Any:
        if self._left >= _MOST:
            raise ToolFailed(f"{self._left} earlier calls still run although nobody waits for them; none is added")
        loop = asyncio.get_running_loop()
        result: asyncio.Future[Any] = loop.create_future()

        def settle(output: Any, error: BaseException | None) -> None:
            if result.cancelled():
                self._left -= 1
            elif error is None:
                result.set_result(output)
            else:
                result.set_exception(error)

        def work() -> None:
            output: Any = None
            failed: BaseException | None = None
            try:
                output = function()
            except StopIteration:
                failed = RuntimeError("the function raised StopIteration")  # No future can carry it.
            except (SystemExit, KeyboardInterrupt) as error:
                failed = ToolFailed(f"it raised {type(error).__name__}: {error}")
            except BaseException as error:
                failed = error
            with suppress(RuntimeError):  # The loop is closed: the process ends.
                loop.call_soon_threadsafe(settle, output, failed)

        inherited = contextvars.copy_context()
        threading.Thread(target=inherited.run, args=(work,), name=f"tool {self._name}", daemon=True).start()
        try:
            return await result
        except asyncio.CancelledError:
            if result.cancelled():
                self._left += 1
            raise
