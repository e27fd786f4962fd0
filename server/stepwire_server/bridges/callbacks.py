"""Code that reports to a callback, as operations: it runs as it was written, and what it reports becomes events.

    app.operation("plan")(planning_operation(handle))      # await progress_callback(step, message, details, metadata)
    app.operation("chart")(streaming_operation(Chart))     # Chart(...).execute(callback)
    app.operation("query")(reporting_operation(run))       # callback.emit(event), of a plan of its own

Coroutine functions and plain ones are adapted; a callback may be called from threads, too. One that fails never breaks
its step: the log says why. What the function returns is the operation's output, and its other parameters are its input.
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from enum import Enum
from typing import Any

from stepwire_server import BlockingStepContext, StepContext
from stepwire_server.bridges.plain import bounded, whole
from stepwire_server.bridges.telling import Teller

__all__ = [
    "PlanCallback",
    "StreamCallback",
    "planning_operation",
    "reporting_operation",
    "streaming_operation",
]

_log = logging.getLogger(__name__)


def planning_operation(function: Callable[..., Any], *, parameter: str = "progress_callback") -> Callable[..., Any]:
    """Returns an operation of a function that takes an async `progress_callback(step, message, details="",
    metadata=None)`. Each call becomes a `stage` event, of the eight stages or of another name; "error" an `error`.
    """

    def callback(teller: Teller) -> Callable[..., Awaitable[None]]:
        async def progress_callback(
            step: str, message: str, details: str = "", metadata: Mapping[str, Any] | None = None
        ) -> None:
            if _word(step) == "error":
                await teller.tell("error", f"{message}: {details}" if details else str(message))
            else:
                data = _data(metadata)
                await teller.tell("stage", _word(step), str(message), details=str(details or ""), data=data)

        return progress_callback

    return _adapted(function, parameter, callback)


def streaming_operation(operation: Any) -> Callable[..., Any]:
    """Returns an operation of an object that has `execute(callback)`, or of its class: the class's parameters are then
    the input, and each attempt has an object of its own. See StreamCallback for what it may call.

    The output is what `execute` returns; where that is None, what `callback.done` was called with.
    """
    made = inspect.isclass(operation)
    execute = getattr(operation, "execute", None)
    if not callable(execute):
        raise TypeError(f"{operation!r} has no execute(callback)")

    def begin(callback: StreamCallback, given: Mapping[str, Any]) -> Any:
        return (operation(**given) if made else operation).execute(callback)

    async def wait(callback: StreamCallback, **given: Any) -> Any:
        returned = await begin(callback, given)
        return callback.result if returned is None else returned

    def call(callback: StreamCallback, **given: Any) -> Any:
        returned = begin(callback, given)
        return callback.result if returned is None else returned

    function: Any = wait if inspect.iscoroutinefunction(execute) else call
    parameters = list(inspect.signature(operation, eval_str=True).parameters.values()) if made else []
    first = inspect.Parameter("callback", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    function.__signature__ = inspect.Signature([first, *parameters])
    kind = operation if made else type(operation)
    name = getattr(operation, "name", None)
    function.__name__ = name if isinstance(name, str) else kind.__name__
    function.__doc__ = inspect.getdoc(kind)
    return _adapted(function, "callback", StreamCallback)


def reporting_operation(function: Callable[..., Any], *, parameter: str = "callback") -> Callable[..., Any]:
    """Returns an operation of a function that runs a plan of its own, and says so to a `callback`: see PlanCallback."""
    return _adapted(function, parameter, PlanCallback)


class StreamCallback:
    """What `execute(callback)` calls. Each method may be awaited, and need not be."""

    def __init__(self, teller: Teller) -> None:
        self.result: Any = None
        """What `done` was called with."""
        self._teller = teller

    def progress(
        self,
        operation: str,
        state: str,
        percentage: float | None = None,
        message: str = "",
        metadata: Mapping[str, Any] | None = None,
    ) -> Awaitable[None]:
        """A report: `state` becomes the stage, `operation` and `metadata` the data."""
        data = {"operation": str(operation), **(_data(metadata) or {})}
        return self._teller.tell("progress", _percentage(percentage), str(message or ""), stage=_word(state), data=data)

    def content(self, piece: str) -> Awaitable[None]:
        """A piece of text."""
        return self._teller.tell("content", piece)

    def done(self, result: Any = None) -> Awaitable[None]:
        """The end. The step ends with `execute`."""
        self.result = result
        return self._teller.tell("progress", 100)

    def error(self, message: object, context: Mapping[str, Any] | None = None) -> Awaitable[None]:
        """Something went wrong, and the operation goes on; where it does not, it raises."""
        return self._teller.tell("error", f"{message} {_data(context)}" if context else str(message))


class PlanCallback:
    """Takes the events of a plan that an operation runs by itself, and tells handlers of them.

    An event is a dict or an object with `type` (or `event_type`), and any of `step_id`, `step_name`, `current_step`,
    `total_steps`, `percentage` (of its step), `message`, `error`, `data` and others. It becomes one step_progress: its
    percentage is that of the whole, for steps of equal weight in a row; its stage is the type, and all of the event is
    its data. What failed becomes an `error`.
    """

    def __init__(self, teller: Teller) -> None:
        self._teller = teller
        self._handlers: list[tuple[Callable[[Any], Any], frozenset[str]]] = []

    def add(self, handler: Callable[[Any], Any], types: Iterable[str] = ()) -> None:
        """Adds a plain function that is called with each event of these types; without types, with all."""
        self._handlers.append((handler, frozenset([types] if isinstance(types, str) else types)))

    def emit(self, event: Any, **fields: Any) -> Awaitable[None]:
        """Takes an event, or its type and its fields: `emit("step_progress", step_id="a", percentage=50)`. May be
        awaited.
        """
        told = {"type": event, **fields} if isinstance(event, str) else event
        kind = _word(_field(told, "type") or _field(told, "event_type"))
        for handler, types in self._handlers:
            if not types or kind in types:
                try:
                    handler(told)
                except Exception:
                    _log.exception("a handler failed at an event of type %s", kind)
        message = str(_field(told, "message") or "")
        if kind in ("step_failed", "plan_failed", "error"):
            who = _field(told, "step_name") or _field(told, "step_id")
            text = str(_field(told, "error") or message or kind)
            return self._teller.tell("error", f"{who}: {text}" if who else text)
        return self._teller.tell(
            "progress",
            _overall(kind, told),
            message,
            stage=kind,
            current=_number(_field(told, "current_step")),
            total=_number(_field(told, "total_steps")),
            unit="steps",
            data=_data(told),
        )

    __call__ = emit


def _adapted(function: Callable[..., Any], parameter: str, make: Callable[[Teller], Any]) -> Callable[..., Any]:
    """Returns the function as an operation that is given its callback."""
    given_by_name = inspect.signature(function, eval_str=True).parameters
    if parameter not in given_by_name:
        raise TypeError(
            f"{function!r} has no parameter {parameter!r}; name the one that takes its callback: parameter=..."
        )
    if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
        raise TypeError(f"{function!r} is a generator; what reports to a callback returns its result")

    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def operation(step: StepContext, /, **given: Any) -> Any:
            teller = Teller(step)
            try:
                return whole(await function(**{parameter: make(teller)}, **given))
            finally:
                await teller.close()

    else:

        @functools.wraps(function)
        def operation(step: BlockingStepContext, /, **given: Any) -> Any:
            return whole(function(**{parameter: make(Teller(step))}, **given))

    others = [one for name, one in given_by_name.items() if name != parameter]
    first = inspect.Parameter("its_step", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=StepContext)
    keyword = inspect.Parameter.KEYWORD_ONLY
    by_name = [one if one.kind is inspect.Parameter.VAR_KEYWORD else one.replace(kind=keyword) for one in others]
    operation.__signature__ = inspect.Signature([first, *by_name])  # type: ignore[attr-defined]
    return operation


def _field(event: Any, name: str) -> Any:
    return event.get(name) if isinstance(event, Mapping) else getattr(event, name, None)


def _word(value: Any) -> str:
    return str(value.value if isinstance(value, Enum) else value or "")


def _data(value: Any) -> dict[str, Any] | None:
    """Returns what can be sent of a dict or an object, as a dict."""
    if value is None:
        return None
    plain = bounded(value if isinstance(value, Mapping) or not hasattr(value, "__dict__") else vars(value))
    return plain if isinstance(plain, dict) else {"value": plain}


def _number(value: Any) -> float | None:
    # What is no number at all is not below this, either.
    return value if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= 2**53 else None


def _percentage(value: Any) -> float | None:
    number = _number(value)
    return None if number is None else min(100.0, max(0.0, number))


def _overall(kind: str, event: Any) -> float | None:
    """Returns how far a plan is, of steps of equal weight in a row."""
    if kind in ("plan_started", "plan_completed"):
        return 0.0 if kind == "plan_started" else 100.0
    of_step = {"step_started": 0.0, "step_completed": 100.0}.get(kind, _percentage(_field(event, "percentage")))
    current, total = _number(_field(event, "current_step")), _number(_field(event, "total_steps"))
    if of_step is None or not current or not total:
        return of_step
    return _percentage(((current - 1) + of_step / 100) / total * 100)
