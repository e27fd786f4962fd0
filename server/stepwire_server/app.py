"""What an author writes: an app with operations, named plans and a planner.

    app = App("orders")

    @app.operation("charge", timeout=30, retry=Retry(attempts=3))
    async def charge(step: StepContext, order_id: str, amount: float) -> dict:
        \"\"\"Charge an order.\"\"\"
        await step.progress(25, "Contacting the bank")
        return {"receipt": "r-1"}

`stepwire-server serve orders:app` serves it.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from stepwire.v1 import Retry
from stepwire_server.engine.graph import ID, MAX_SPAN_NS, retry_violations
from stepwire_server.engine.operation import (
    Catalog,
    NamedPlan,
    Operation,
    Planner,
    SchemaSignature,
    Signature,
    Style,
    for_thread,
)
from stepwire_server.engine.reckoning import Rule

__all__ = ["App"]

_log = logging.getLogger(__name__)

_SHUTDOWN = 10.0
"""Seconds that one shutdown function may take."""

F = TypeVar("F", bound=Callable[..., Any])


class App:
    """Operations under names, and what makes plans of them.

    `settings` names what a server's operator can set with `--set NAME=VALUE`, each with a line of explanation; the
    startup functions are given those that were set.
    """

    def __init__(self, name: str, *, description: str = "", settings: Mapping[str, str] | None = None) -> None:
        if not ID.fullmatch(name):
            raise ValueError(f"app name {name!r} does not match [A-Za-z0-9_-]{{1,64}}")
        self.name = name
        self.description = description
        self.settings = dict(settings or {})
        self._operations: dict[str, Operation] = {}
        self._plans: dict[str, NamedPlan] = {}
        self._planner: Planner | None = None
        self._planner_description = ""
        self._startup: list[Callable[[Mapping[str, str]], Any]] = []
        self._shutdown: list[Callable[[], Any]] = []
        self.folder: Path | None = None
        """A folder for what the app keeps beside its journal, such as `orders.db-app` beside `orders.db`; None where
        the journal is in memory. Known from the first startup function on. Whoever keeps something makes it.
        """

    def operation(
        self,
        name: str | None = None,
        *,
        timeout: float | None = None,
        retry: Retry | None = None,
        at_most_once: bool = False,
        progress: Rule | None = None,
        schema: Mapping[str, Any] | SchemaSignature | None = None,
    ) -> Callable[[F], F]:
        """Registers a function as an operation, under its own name or another.

        An `async def` runs in the event loop and must not block it; a plain `def` runs in a thread, where the same
        methods of `step` block; an async generator may yield its progress (a percentage, (percentage, message), a piece
        of text) and at last `Result(output)`. A first parameter named `step` or annotated `StepContext` gets the
        context; the others are the input, checked against their annotations. The docstring becomes the description.

        `timeout`: seconds one attempt may take. `retry`: how often to try; a step may say otherwise. `at_most_once`:
        the step is on disk as started before the function is called, and is never tried again; Raises ValueError where
        retry says otherwise. Raises TypeError for a function whose parameters can't be checked or given by name.

        `progress`: a rule of the operation's own for how far a step is. It is a plain, quick function that is called at
        each report of the step or of one of its parts, with a `Report`, and returns 0 to 100, or None where there is
        nothing to change. One that raises is logged, and counts as None.

            def by_the_slowest(report: Report) -> float | None:
                return min((part.percentage for part in report.parts), default=None)

        `schema`: a JSON schema of the whole input, in place of one made from annotations, or a SchemaSignature; for a
        function that is written as `async def f(step: StepContext, /, **inputs)`.
        """

        _refuse_function(name, "operation")

        def register(function: F) -> F:
            called = _name(name, function)
            self._check_name("operation", called, self._operations)
            if timeout is not None and not 0 < timeout <= MAX_SPAN_NS / 1e9:
                raise ValueError(f"operation {called!r}: timeout is {timeout}; it must be above 0 and at most 366 days")
            if retry is not None:
                for field, problem in retry_violations(retry, "retry"):
                    raise ValueError(f"operation {called!r}: {field} {problem}")
                if at_most_once and retry.attempts > 1:
                    raise ValueError(f"operation {called!r} runs at most once; retry.attempts must be 1")
            if progress is not None and Style.of(progress) != Style.THREAD:
                raise TypeError(f"operation {called!r}: progress must be a plain function")
            named = f"operation {called!r}"
            self._operations[called] = Operation(
                name=called,
                function=function,
                description=inspect.getdoc(function) or "",
                signature=_signature(function, named, schema),
                style=_style(named, function),
                retry=retry,
                timeout=None if timeout is None else timedelta(seconds=timeout),
                at_most_once=at_most_once,
                progress=progress,
            )
            return function

        return register

    def plan(self, name: str | None = None) -> Callable[[F], F]:
        """Registers a function that returns a Plan, under its own name or another.

        Its parameters are the plan's input.
        """

        _refuse_function(name, "plan")

        def register(function: F) -> F:
            called = _name(name, function)
            self._check_name("plan", called, self._plans)
            if _style(f"plan {called!r}", function) == Style.GENERATOR:
                raise TypeError(f"plan {called!r}: a generator can't make a plan; return it")
            self._plans[called] = NamedPlan(
                name=called,
                function=function,
                description=inspect.getdoc(function) or "",
                signature=Signature(function, name=f"plan {called!r}"),
            )
            return function

        return register

    def planner(self, function: F) -> F:
        """Registers the function that makes a plan from a query. Its docstring tells people what can be asked.

        It raises `stepwire.errors.QueryNotUnderstood` for a query that it can't serve. A plain `def` runs in a thread.
        """
        if self._planner is not None:
            raise ValueError(f"app {self.name!r} has a planner already")
        self._planner = function
        self._planner_description = inspect.getdoc(function) or ""
        return function

    def startup(self, function: F) -> F:
        """Registers a function that is called once before the first request, with the settings that were given. A plain
        `def` runs in a thread. What it raises ends the start, with its text.
        """
        self._startup.append(function)
        return function

    def shutdown(self, function: F) -> F:
        """Registers a function that is called, without arguments, after the last request and the last step: it lets go
        of what a startup function opened. They are called in the opposite order of their registration, also where the
        start failed. A plain `def` runs in a thread. What it raises is logged.
        """
        self._shutdown.append(function)
        return function

    async def start(self, settings: Mapping[str, str] | None = None, *, folder: Path | None = None) -> None:
        """Calls the startup functions. `folder`: what the attribute is to be from now on. Raises ValueError for a
        setting that the app does not have.
        """
        self.folder = folder
        given = dict(settings or {})
        for key in given:
            if key not in self.settings:
                known = ", ".join(sorted(self.settings)) or "none"
                raise ValueError(f"app {self.name!r} has no setting {key!r}; it has: {known}")
        for function in self._startup:
            if inspect.iscoroutinefunction(function):
                await function(given)
            else:
                await asyncio.to_thread(for_thread(function), given)

    async def stop(self) -> None:
        """Calls the shutdown functions, all of them whatever one raises, and however long one takes."""
        for function in reversed(self._shutdown):
            try:
                async with asyncio.timeout(_SHUTDOWN):
                    if inspect.iscoroutinefunction(function):
                        await function()
                    else:
                        await asyncio.to_thread(for_thread(function))
            except TimeoutError:
                _log.warning("app %s: a shutdown function took longer than %g s", self.name, _SHUTDOWN)
            except Exception:
                _log.exception("app %s: a shutdown function failed", self.name)

    def catalog(self) -> Catalog:
        """Returns all that the app can do now."""
        return Catalog(
            app=self.name,
            operations=dict(self._operations),
            plans=dict(self._plans),
            planner=self._planner,
            planner_description=self._planner_description,
        )

    def _check_name(self, noun: str, name: str, taken: Mapping[str, object]) -> None:
        if not ID.fullmatch(name):
            raise ValueError(f"{noun} name {name!r} does not match [A-Za-z0-9_-]{{1,64}}")
        if name in taken:
            raise ValueError(f"app {self.name!r} has its {noun} {name!r} already")


def _signature(
    function: Callable[..., Any], named: str, schema: Mapping[str, Any] | SchemaSignature | None
) -> Signature:
    made = Signature(function, name=named)
    if schema is None:
        return made
    if not made.takes_anything:
        raise TypeError(f"{named}: with a schema, it is written as `async def f(step: StepContext, /, **inputs)`")
    return schema if isinstance(schema, SchemaSignature) else SchemaSignature(schema, name=named)


def _refuse_function(name: object, noun: str) -> None:
    if callable(name):
        raise TypeError(f"write @app.{noun}() with parentheses: what stands in them is the {noun}'s name")


def _name(name: str | None, function: Callable[..., Any]) -> str:
    called = name or getattr(function, "__name__", "")
    if not called:
        raise TypeError(f"{function!r} has no name of its own; give it one")
    return called


def _style(called: str, function: Callable[..., Any]) -> str:
    try:
        return Style.of(function)
    except TypeError as error:
        raise TypeError(f"{called}: {error}") from None
