"""Operations' signatures: their schema, and the strict check of inputs."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any, Literal, Optional

import pytest
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from stepwire_server import BlockingStepContext, StepContext
from stepwire_server.engine import effort
from stepwire_server.engine.operation import SchemaSignature, Signature, Style, for_thread


class Typed(TypedDict):
    x: int


@dataclass
class Data:
    x: int
    y: str = "z"


class Model(BaseModel):
    when: date
    many: Annotated[int, Field(ge=1, le=9)] = 3


def signature(function: Any) -> Signature:
    return Signature(function, name="operation 'f'")


def takes(annotation: Any, default: Any = ...) -> Signature:
    """Returns the signature of a function with one parameter, `x`, of this type."""

    def function(x):
        raise AssertionError

    function.__annotations__["x"] = annotation
    if default is not ...:
        function.__defaults__ = (default,)
    return signature(function)


INT = {"type": "integer"}
SCHEMAS = [
    (int, INT),
    (float, {"type": "number"}),
    (str, {"type": "string"}),
    (bool, {"type": "boolean"}),
    (list[int], {"type": "array", "items": INT}),
    (dict[str, int], {"type": "object", "additionalProperties": INT}),
    (Literal["a", "b"], {"type": "string", "enum": ["a", "b"]}),
    (Optional[int], {"anyOf": [INT, {"type": "null"}]}),  # noqa: UP045 - authors write it
    (Annotated[int, Field(ge=1, lt=9)], {"type": "integer", "minimum": 1, "exclusiveMaximum": 9}),
    (Any, {}),
]


@pytest.mark.parametrize(("annotation", "schema"), SCHEMAS, ids=str)
def test_annotations_become_a_schema(annotation, schema):
    """Each annotation is its JSON schema; what has no default is required, and nothing else may be given."""
    found = takes(annotation).schema
    (shown,) = found["properties"].values()
    assert {key: value for key, value in shown.items() if key != "title"} == schema
    assert found["required"] == ["x"]
    assert found["additionalProperties"] is False
    assert "title" not in found


@pytest.mark.parametrize("annotation", [Typed, Data, Model])
def test_structures_become_definitions(annotation):
    """Typed dictionaries, dataclasses and models are described with their fields."""
    schema = takes(annotation).schema
    assert schema["properties"]["x"] == {"$ref": f"#/$defs/{annotation.__name__}"}
    assert schema["$defs"][annotation.__name__]["type"] == "object"


STRICT = [
    (int, 3, 3), (int, "3", None), (int, 3.5, None), (int, True, None), (int, None, None),
    (float, 3, 3.0), (float, 3.5, 3.5), (float, "3.5", None), (float, True, None),
    (str, "x", "x"), (str, 3, None), (str, None, None),
    (bool, True, True), (bool, 1, None), (bool, "true", None),
    (list[int], [1, 2], [1, 2]), (list[int], [1, "2"], None), (list[int], "12", None), (list[int], {}, None),
    (tuple[int, str], [1, "a"], (1, "a")), (set[int], [1, 1], {1}),
    (dict[str, int], {"a": 1}, {"a": 1}), (dict[str, int], {"a": "1"}, None), (dict[str, int], [], None),
    (Literal["a", "b"], "a", "a"), (Literal["a", "b"], "c", None), (Literal[1], 1, 1),
    (int | None, None, None), (int | None, 3, 3), (int | None, "3", None),
    (int | str, "3", "3"), (int | str, 3, 3), (int | str, 3.5, None),
    (Typed, {"x": 1}, {"x": 1}), (Typed, {"x": "1"}, None), (Typed, {}, None),
    (Data, {"x": 1}, Data(1)), (Data, {"x": 1, "y": 2}, None), (Data, {"x": 1, "q": 2}, None),
    (Model, {"when": "2024-01-02"}, Model(when=date(2024, 1, 2))), (Model, {"when": "x"}, None),
    (Model, {"when": "2024-01-02", "many": 10}, None),
    (date, "2024-01-02", date(2024, 1, 2)), (date, 3, None),
    (bytes, "abc", b"abc"),
    (Any, [1, None], [1, None]),
]  # fmt: skip


@pytest.mark.parametrize(("annotation", "given", "taken"), STRICT, ids=str)
def test_the_check_is_strict(annotation, given, taken):
    """A text is no number and a number no text; a whole number is a fraction too; what fits arrives in its type."""
    subject = takes(annotation)
    if taken is None and given is not None:
        (found, *_) = subject.check({"x": given}, path="input")
        assert found.field.startswith("input.x")
        assert found.description
        with pytest.raises(ValueError, match=r"input\.x"):
            subject.bind({"x": given})
    elif taken is None and annotation in (int, str):
        assert subject.check({"x": given}, path="input")
    else:
        assert subject.check({"x": given}, path="input") == []
        bound = subject.bind({"x": given})["x"]
        assert bound == taken
        assert type(bound) is type(taken)


def test_each_violation_is_named():
    """Missing, unknown and wrong parameters are all named, the unknown ones with those that there are."""

    def function(step, a: int, b: list[int], c: str = "c"):
        raise AssertionError

    found = {item.field: item.description for item in signature(function).check({"b": [1, "x"], "d": 1}, path="p")}
    assert set(found) == {"p.a", "p.b[1]", "p.d"}
    assert found["p.a"] == "is missing"
    assert found["p.d"] == "is not a parameter of the operation; it has: a, b, c"


def test_what_comes_later_may_be_missing():
    """A parameter that another step's output gives may be missing; one that there is not is named."""

    def function(a: int, b: int):
        raise AssertionError

    assert signature(function).check({"a": 1}, path="p", given_later={"b": None}) == []
    found = signature(function).check({"a": "x"}, path="p", given_later={"b": None, "c": None})
    assert [item.field for item in found] == ["p.a", "p.c"]


def test_names_that_a_model_has_are_free():
    """A parameter may have any name, also one that pydantic's models use."""

    def function(json: int, copy: int, model_config: int, schema: int, self: int, input_x: int, model_fields: int = 7):
        raise AssertionError

    subject = signature(function)
    given = {"json": 1, "copy": 2, "model_config": 3, "schema": 4, "self": 5, "input_x": 6}
    assert set(subject.schema["properties"]) == {*given, "model_fields"}
    assert subject.check(given, path="p") == []
    assert subject.bind(given) == {**given, "model_fields": 7}
    assert [item.field for item in subject.check({**given, "json": "1"}, path="p")] == ["p.json"]
    assert [item.field for item in subject.check({**given, "input_json": 1}, path="p")] == ["p.input_json"]


def test_defaults_are_the_function_s():
    """What is not given is the default, and each call has its own."""

    def function(a: int = 3, b: list[int] = []):  # noqa: B006 - that is what is tested
        raise AssertionError

    subject = signature(function)
    first = subject.bind({})
    first["b"].append(1)
    assert subject.bind({}) == {"a": 3, "b": []}
    assert subject.schema["properties"]["a"]["default"] == 3
    assert "required" not in subject.schema


def test_more_may_be_given_where_the_function_takes_it():
    """With **kwargs everything else is passed on as it is."""

    def function(step, a: int, **rest: Any):
        raise AssertionError

    subject = signature(function)
    assert subject.bind({"a": 1, "b": [2], "input_a": 3}) == {"a": 1, "b": [2], "input_a": 3}
    assert subject.check({"a": 1}, path="p", given_later={"z": None}) == []
    assert subject.schema["additionalProperties"] is True


def test_a_rest_may_not_hold_the_step_s_own_name():
    """An input can't take the place of the context, also where anything may be given."""

    def function(step, **rest: Any):
        raise AssertionError

    (found,) = signature(function).check({"step": 1}, path="p")
    assert found.field == "p.step"
    (found,) = signature(function).check({}, path="p", given_later={"step": None})
    assert found.field == "p.step"


@pytest.mark.parametrize("annotation", [StepContext, BlockingStepContext, "StepContext"])
def test_the_context_is_no_input(annotation):
    """A first parameter that is called step, or annotated as a context, is no input."""

    def named(step, a: int):
        raise AssertionError

    def annotated(whatever, a: int):
        raise AssertionError

    annotated.__annotations__["whatever"] = annotation
    for function in (named, annotated):
        subject = signature(function)
        assert subject.wants_context
        assert set(subject.schema["properties"]) == {"a"}

    def input_(a: int, step: int):
        raise AssertionError

    assert not signature(input_).wants_context
    assert not takes(int).wants_context


def positional_only(a, /):
    raise AssertionError


def rest(*a):
    raise AssertionError


def unresolved(a: Nowhere):  # noqa: F821 - that is what is tested
    raise AssertionError


def uncheckable(a: object.__init__):
    raise AssertionError


def no_json(a: Callable_):  # noqa: F821
    raise AssertionError


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (positional_only, "operation 'f': parameter 'a' can't be given by name"),
        (rest, "operation 'f': parameter 'a' can't be given by name"),
        (unresolved, "operation 'f': an annotation can't be resolved: name 'Nowhere'"),
        (uncheckable, "operation 'f': the input can't be checked"),
    ],
)
def test_signatures_that_can_t_be_checked_are_refused(function, text):
    """What can't be given by name or checked is refused at registration, with the operation named."""
    with pytest.raises(TypeError, match=text):
        signature(function)


# -- styles


def test_the_style_is_that_of_the_outermost_that_is_not_plain():
    """A coroutine function, a generator, a plain one; through decorators, partials and objects that can be called."""

    async def coroutine():
        raise AssertionError

    async def generator():
        yield 1

    def plain():
        raise AssertionError

    @functools.wraps(plain)
    async def made_async():
        return plain()

    @functools.wraps(coroutine)
    def passed_on():
        return coroutine()

    class Callable_:
        async def __call__(self):
            raise AssertionError

    assert Style.of(coroutine) == Style.COROUTINE
    assert Style.of(generator) == Style.GENERATOR
    assert Style.of(plain) == Style.THREAD
    assert Style.of(made_async) == Style.COROUTINE
    assert Style.of(passed_on) == Style.COROUTINE
    assert Style.of(functools.partial(functools.partial(coroutine))) == Style.COROUTINE
    assert Style.of(Callable_()) == Style.COROUTINE
    assert Style.of(len) == Style.THREAD


def test_a_plain_generator_is_refused():
    """A plain generator would run in the event loop, and is no operation."""

    def generator():
        yield 1

    with pytest.raises(TypeError, match="make it `async def`"):
        Style.of(generator)


def test_stop_iteration_does_not_get_out_of_a_thread():
    """A future can't carry StopIteration: it comes out as a RuntimeError."""
    with pytest.raises(RuntimeError, match="StopIteration"):
        for_thread(lambda: next(iter(())))()
    assert for_thread(lambda x, y: x + y)(1, y=2) == 3


def test_a_schema_that_could_not_be_listed_is_refused():
    """An input whose JSON schema is nested deeper than a Struct may be is refused when the operation is registered."""
    deep: Any = int
    for _ in range(20):
        deep = list[deep]

    async def operation(values: deep) -> None: ...  # type: ignore[valid-type]

    operation.__annotations__["values"] = deep
    with pytest.raises(TypeError, match="nested more than 16 deep"):
        Signature(operation, name="operation 'deep'")


# -- a schema that is given

WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string", "minLength": 1}, "days": {"$ref": "#/$defs/days"}},
    "required": ["city", "days"],
    "additionalProperties": False,
    "anyOf": [{"required": ["city"]}],
    "$defs": {"days": {"type": "integer", "maximum": 9}},
}


def weather(schema: Any = None) -> SchemaSignature:
    return SchemaSignature(schema or WEATHER, name="operation 'f'")


def test_a_given_schema_is_the_check():
    """With a schema given, callers are shown that one, and each value is checked against it and arrives as it is."""
    subject = weather()
    assert subject.schema == WEATHER
    assert subject.wants_context
    assert subject.bind({"city": "Ulm", "days": 3}) == {"city": "Ulm", "days": 3}
    found = subject.check({"city": "", "days": 10, "hours": 1}, path="p")
    assert sorted(item.field for item in found) == ["p", "p.city", "p.days"]
    with pytest.raises(ValueError, match=r"input\.days: '3' is not of type 'integer'"):
        subject.bind({"city": "Ulm", "days": "3"})


def test_a_given_schema_waits_for_what_comes_later():
    """What another step gives may be missing from a given schema, and what there is no room for is named."""
    subject = weather()
    assert subject.check({"city": "Ulm"}, path="p", given_later={"days": None}) == []
    assert subject.check({}, path="p", given_later={"days": None, "city": None}) == []
    (missing,) = subject.check({}, path="p", given_later={"days": None})
    assert missing.description == "'city' is a required property"
    (unknown,) = subject.check({"city": "Ulm"}, path="p", given_later={"days": None, "hours": None})
    assert unknown.field == "p.hours"
    assert unknown.description == "is not a parameter of the operation; it has: city, days"


def test_a_given_schema_refers_to_all_of_it_early():
    """What a schema says of one parameter may stand anywhere in it, also before all parameters are there."""
    subject = weather(
        {
            "type": "object",
            "properties": {"city": {"$ref": "#/allOf/0/properties/place"}},
            "allOf": [{"properties": {"place": {"type": "string"}}, "required": ["days"]}],
        }
    )
    assert subject.check({"city": "Ulm"}, path="p", given_later={"days": None}) == []
    (wrong,) = subject.check({"city": 5}, path="p", given_later={"days": None})
    assert wrong == ("p.city", "5 is not of type 'string'")
    (missing,) = subject.check({"city": "Ulm"}, path="p")
    assert missing.description == "'days' is a required property"


def test_a_foreign_schema_is_checked_as_far_as_that_ends(monkeypatch):
    """Of a foreign schema what could take without end is left to whoever wrote it, and callers are shown all of it."""
    day = {"type": "string", "pattern": "(a+)+$"}
    schema = {"type": "object", "properties": {"day": day, "n": {"type": "integer"}}, "required": ["day"]}
    subject = SchemaSignature(schema, name="tool 'f'", foreign=True)
    assert subject.schema == schema
    assert subject.bind({"day": "a" * 60 + "b", "n": 1})
    assert subject.check({"day": "a" * 60 + "b"}, path="p", given_later={"n": None}) == []
    assert sorted(item.field for item in subject.check({"n": "x"}, path="p")) == ["p", "p.n"]
    monkeypatch.setattr(effort, "_STEPS", 2)
    assert subject.check({"n": "x"}, path="p") == []


def test_an_input_may_be_named_as_the_context():
    """With a schema given, an input may be named `step`: the function takes the context by its place alone."""
    subject = weather({"type": "object"})
    assert subject.takes_anything
    assert subject.bind({"step": 1}) == {"step": 1}


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ({"type": "array"}, 'an input is of "type": "object"'),
        ({"type": "object", "required": 3}, "is no JSON schema"),
        ({"type": "object", "properties": {"x": {"pattern": "("}}}, "is no JSON schema"),
        ({"type": "object", "$ref": "http://127.0.0.1:1/x"}, "is not in it"),
        ({"type": "object", "default": {"x": 2**60}}, "can't be sent|whole number"),
    ],
)
def test_what_is_no_schema_of_an_input_is_refused(schema, says):
    """What is no JSON schema, or none of an input, is refused at registration."""
    with pytest.raises(TypeError, match=says):
        weather(schema)
