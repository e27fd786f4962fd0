"""Operations: functions with a name, their inputs checked against their signatures; and the catalog of an app."""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from pydantic import ConfigDict, PydanticUserError, ValidationError, create_model

from stepwire.errors import InputInvalid, Violation
from stepwire.v1 import Retry
from stepwire.values import to_struct
from stepwire_server.engine.reckoning import Rule

__all__ = ["Catalog", "NamedPlan", "Operation", "Planner", "SchemaSignature", "Signature", "Style", "for_thread"]

_PREFIX = "input_"

_OF_ONE_PARAMETER = frozenset({"type", "properties", "patternProperties", "additionalProperties", "required"})
"""What a schema says of parameters each for itself, so that it can be checked before all of them are there."""

Planner = Callable[[str], Any]
"""Makes a Plan from a query. Plain or async. Raises `stepwire.errors.QueryNotUnderstood` where it can't."""


class Style:
    """How an operation is called."""

    COROUTINE = "coroutine"
    GENERATOR = "generator"
    THREAD = "thread"

    @staticmethod
    def of(function: Callable[..., Any]) -> str:
        """Returns the style of a function: async def, async generator, or plain. Of decorated ones, the outermost that
        is not plain says it. Raises TypeError for a plain generator.
        """
        inner: Any = function
        while True:
            if inspect.isasyncgenfunction(inner):
                return Style.GENERATOR
            if inspect.iscoroutinefunction(inner):
                return Style.COROUTINE
            if inspect.isgeneratorfunction(inner):
                raise TypeError("a plain generator can't be called here; make it `async def`")
            if isinstance(inner, functools.partial):
                inner = inner.func
            elif hasattr(inner, "__wrapped__"):
                inner = inner.__wrapped__
            elif not inspect.isroutine(inner) and not inspect.isclass(inner):
                inner = type(inner).__call__  # An object that can be called.
            else:
                return Style.THREAD


def for_thread(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a function as it can run in a thread: a future can't carry StopIteration, and would never be done."""

    def call(*positional: Any, **named: Any) -> Any:
        try:
            return function(*positional, **named)
        except StopIteration as error:
            raise RuntimeError("the function raised StopIteration") from error

    return call


class Signature:
    """The parameters of a function, as a JSON schema, and a strict check against it.

    A first parameter that is named `step`, or annotated as a step context, gets the context and is no input. Strict
    means: a text is no number, a number is no text; a whole number is also a fraction; dates and the like are texts in
    their ISO form.
    """

    def __init__(self, function: Callable[..., Any], *, name: str) -> None:
        try:
            parameters = list(inspect.signature(function, eval_str=True).parameters.values())
        except NameError as error:
            raise TypeError(f"{name}: an annotation can't be resolved: {error}") from error
        self.wants_context = bool(parameters) and _is_context(parameters[0])
        by_name = self.wants_context and parameters[0].kind is not inspect.Parameter.POSITIONAL_ONLY
        self._reserved = parameters[0].name if by_name else None
        fields: dict[str, Any] = {}
        extra = False
        for parameter in parameters[self.wants_context :]:
            if parameter.kind is inspect.Parameter.VAR_KEYWORD:
                extra = True
                continue
            if _is_context(parameter):
                raise TypeError(f"{name}: the step's context, {parameter.name!r}, must be the first parameter")
            if parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.POSITIONAL_ONLY):
                raise TypeError(f"{name}: parameter {parameter.name!r} can't be given by name")
            annotation = Any if parameter.annotation is parameter.empty else parameter.annotation
            default = ... if parameter.default is parameter.empty else parameter.default
            fields[_PREFIX + parameter.name] = (annotation, default)
        # A model's own attributes ("json", "copy") must not get in the way of an author's names, so each gets a prefix,
        # which callers never see.
        config = ConfigDict(
            strict=True,
            extra="allow" if extra else "forbid",
            alias_generator=lambda prefixed: prefixed.removeprefix(_PREFIX),
            protected_namespaces=(),
        )
        self._names = {prefixed: prefixed.removeprefix(_PREFIX) for prefixed in fields}
        try:
            self._model = create_model("Input", __config__=config, **fields)
            schema = self._model.model_json_schema()
        except PydanticUserError as error:
            raise TypeError(f"{name}: the input can't be checked: {error.message}") from error
        self.schema: Mapping[str, Any] = {key: value for key, value in schema.items() if key != "title"}
        """The JSON schema of the input."""
        try:
            to_struct(self.schema, field="the JSON schema of the input")
        except InputInvalid as error:
            where, problem = error.violations[0]
            raise TypeError(f"{name}: callers could not be shown {where}, because it {problem}") from None

    @property
    def takes_anything(self) -> bool:
        """Whether the function takes the context by its place alone, and then any input."""
        extra = self._model.model_config.get("extra") == "allow"
        return self.wants_context and self._reserved is None and extra and not self._names

    def check(
        self, values: Mapping[str, Any], *, path: str, given_later: Mapping[str, Any] | None = None
    ) -> list[Violation]:
        """Returns everything in the values that does not fit, each with its field beneath `path`. Parameters in
        `given_later` may be missing.
        """
        later = given_later or {}
        found = self._unknown(values, later, path)
        try:
            self._model.model_validate_json(json.dumps(values), strict=True)
        except ValidationError as error:
            return [
                Violation(_field(path, item["loc"]), _problem(item["type"], item["msg"], self.schema))
                for item in error.errors(include_url=False, include_context=False, include_input=False)
                if not (item["type"] == "missing" and item["loc"] and item["loc"][0] in later)
            ] + found
        return found

    def bind(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the arguments to call the function with: the values as the annotations' types. Raises ValueError with
        every violation in its text.
        """
        if not (values or self._names):
            return {}
        try:
            model = self._model.model_validate_json(json.dumps(values), strict=True)
        except ValidationError:
            problems = "; ".join(f"{field}: {text}" for field, text in self.check(values, path="input"))
            raise ValueError(problems) from None
        bound = {self._names[key]: value for key, value in model.__dict__.items()}
        return bound | (model.__pydantic_extra__ or {})

    def _unknown(self, values: Mapping[str, Any], later: Mapping[str, Any], path: str) -> list[Violation]:
        if self._model.model_config.get("extra") == "allow":
            if self._reserved in values or self._reserved in later:
                return [Violation(f"{path}.{self._reserved}", "is the step's own context, and no parameter")]
            return []
        known = self._names.values()
        return [
            Violation(f"{path}.{key}", _problem("extra_forbidden", "", self.schema))
            for key in later
            if key not in known
        ]


class SchemaSignature(Signature):
    """The input of a function `f(step, /, **inputs)`, checked against a JSON schema that was not made from it: that of
    a tool elsewhere, or one that a configuration says. A subclass may check more.

    A `foreign` schema is one of somebody else, who checks inputs, too: what could take without end is not checked here.

    Raises TypeError for what is no schema, and for one of no object.
    """

    def __init__(self, schema: Mapping[str, Any], *, name: str, foreign: bool = False) -> None:
        # Loaded where it is used: every app imports this module, and few have schemas of their own.
        from stepwire_server.engine import schemas

        super().__init__(_takes_anything, name=name)
        self._schemas = schemas
        self._foreign = foreign
        if schema.get("type") != "object":
            raise TypeError(f'{name}: the schema is of {schema.get("type")!r}; an input is of "type": "object"')
        self._left_out: frozenset[str] = frozenset()
        try:
            to_struct(schema, field="the schema")
            if foreign:
                self._left_out = schemas.check_theirs(schema)
            else:
                schemas.check_schema(schema)
        except (ValueError, InputInvalid) as error:
            raise TypeError(f"{name}: {error}") from None
        self.schema = schema

    def check(
        self, values: Mapping[str, Any], *, path: str, given_later: Mapping[str, Any] | None = None
    ) -> list[Violation]:
        """As Signature's. What the schema says of several parameters together is checked when all are there."""
        later = given_later or {}
        found = self._unknown(values, later, path)
        if not later:
            return found + self._mismatches(self.schema, values, path)
        # All of it stays there, since any part of it may be referred to.
        schema = {**self.schema, "required": [name for name in self.schema.get("required", ()) if name not in later]}
        if schema.get("additionalProperties") is False and "patternProperties" not in schema:
            known = schema.get("properties", {})
            found += [
                Violation(f"{path}.{key}", _problem("extra_forbidden", "", schema)) for key in later if key not in known
            ]
        return found + self._mismatches(schema, values, path, of_several=schema.keys() - _OF_ONE_PARAMETER)

    def _mismatches(
        self, schema: Mapping[str, Any], values: Mapping[str, Any], path: str, of_several: Set[str] = frozenset()
    ) -> list[Violation]:
        try:
            return self._schemas.differences(
                schema, values, path, bounded=self._foreign, at_top=of_several, anywhere=self._left_out
            )
        except self._schemas.TooMuch:
            return []  # Whoever has the schema checks it.

    def bind(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """As Signature's, with the values as they are."""
        found = self.check(values, path="input")
        if found:
            raise ValueError("; ".join(f"{field}: {text}" for field, text in found))
        return dict(values)


def _takes_anything(step, /, **inputs):  # type: ignore[no-untyped-def]
    """What a function with a schema of its own takes."""


def _is_context(parameter: inspect.Parameter) -> bool:
    named = getattr(parameter.annotation, "__name__", "")
    return named in ("StepContext", "BlockingStepContext") or (
        parameter.name == "step" and parameter.annotation is parameter.empty
    )


def _field(path: str, loc: tuple[int | str, ...]) -> str:
    return path + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc)


def _problem(kind: str, text: str, schema: Mapping[str, Any]) -> str:
    if kind == "missing":
        return "is missing"
    if kind == "extra_forbidden":
        known = ", ".join(schema.get("properties", {})) or "none"
        return f"is not a parameter of the operation; it has: {known}"
    return text[:1].lower() + text[1:]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """A named function that does one kind of step's work."""

    name: str
    """What a step calls it by."""
    function: Callable[..., Any]
    """What is called."""
    description: str = ""
    """The function's docstring."""
    signature: Signature = field(repr=False)
    """Its parameters."""
    style: str
    """How it is called: one of Style's."""
    retry: Retry | None = None
    """Unless a step says otherwise."""
    timeout: timedelta | None = None
    """Unless a step says otherwise."""
    at_most_once: bool = False
    """Whether a step of it runs at most once."""
    progress: Rule | None = None
    """Its own rule of how far a step of it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedPlan:
    """A plan that an app keeps under a name."""

    name: str
    """What a caller calls it by."""
    function: Callable[..., Any]
    """Returns the Plan, given the input. Plain or async."""
    description: str = ""
    """The function's docstring."""
    signature: Signature = field(repr=False)
    """Its parameters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    """All that an app can do. Does not change while it is served."""

    app: str
    """The app's name."""
    operations: Mapping[str, Operation]
    """By name."""
    plans: Mapping[str, NamedPlan]
    """By name."""
    planner: Planner | None = None
    """Serves queries. None: a query is refused."""
    planner_description: str = ""
    """What the planner can serve, for people."""
