"""What an author writes."""

from __future__ import annotations

import asyncio
import functools
import threading
from pathlib import Path
from typing import Any

import pytest

from stepwire.errors import InputInvalid
from stepwire.v1 import OutputRef, Plan, Retry, Step
from stepwire.values import to_python
from stepwire_server import App, SchemaSignature, StepContext, output_of, plan_step
from stepwire_server import app as app_module
from stepwire_server.engine.planning import served
from stepwire_server.engine.threads import Threads


def op(step, x: int) -> int:
    """Does it."""
    return x


async def planner(query: str) -> Plan:
    """Plans."""
    return Plan()


def generator():
    yield 1


def positional(a, /):
    raise AssertionError


def test_an_operation_is_registered_as_it_is():
    """The decorator returns the function; name, description, retry, timeout and mark are in the catalog."""
    app = App("shop", description="sells")
    retry = Retry(attempts=3)
    assert app.operation("charge", timeout=2.5, retry=retry)(op) is op
    app.operation(at_most_once=True)(op)
    catalog = app.catalog()
    charge = catalog.operations["charge"]
    assert (charge.name, charge.description, charge.retry) == ("charge", "Does it.", retry)
    assert charge.timeout.total_seconds() == 2.5
    assert catalog.operations["op"].at_most_once
    assert catalog.app == "shop"
    assert catalog.planner is None


def test_a_catalog_does_not_change():
    """What is registered later is not in a catalog that was made before."""
    app = App("shop")
    catalog = app.catalog()
    app.operation()(op)
    assert not catalog.operations


REFUSED = [
    (lambda app: App("a b"), ValueError, "app name 'a b' does not match"),
    (lambda app: app.operation("a/b")(op), ValueError, "operation name 'a/b' does not match"),
    (lambda app: app.operation("taken")(op), ValueError, "has its operation 'taken' already"),
    (lambda app: app.plan("p")(op), ValueError, "has its plan 'p' already"),
    (lambda app: app.planner(planner), ValueError, "has a planner already"),
    (lambda app: app.operation(timeout=0)(op), ValueError, "'op': timeout is 0; it must be above 0"),
    (lambda app: app.operation(timeout=float("nan"))(op), ValueError, "'op': timeout is nan; it must be above 0"),
    (lambda app: app.operation(timeout=float("inf"))(op), ValueError, "'op': timeout is inf; it must be above 0"),
    (lambda app: app.operation(retry=Retry(attempts=101))(op), ValueError, r"'op': retry.attempts is 101"),
    (lambda app: app.operation(retry=Retry(jitter=2))(op), ValueError, r"'op': retry.jitter is 2"),
    (
        lambda app: app.operation(at_most_once=True, retry=Retry(attempts=2))(op),
        ValueError,
        "'op' runs at most once; retry.attempts must be 1",
    ),
    (lambda app: app.operation(op), TypeError, r"write @app\.operation\(\) with parentheses"),
    (lambda app: app.plan(op), TypeError, r"write @app\.plan\(\) with parentheses"),
    (lambda app: app.operation()(generator), TypeError, "operation 'generator': a plain generator"),
    (lambda app: app.plan()(generator), TypeError, "plan 'generator': a plain generator"),
    (lambda app: app.operation()(positional), TypeError, "operation 'positional': parameter 'a'"),
    (lambda app: app.operation()(functools.partial(op, None)), TypeError, "has no name of its own; give it one"),
]


@pytest.mark.parametrize(("register", "error", "text"), REFUSED, ids=[text for _, _, text in REFUSED])
def test_wrong_registrations_are_refused(register, error, text):
    """What can't work is refused when it is registered, with the name and what would be right."""
    app = App("shop")
    app.operation("taken")(op)
    app.plan("p")(op)
    app.planner(planner)
    with pytest.raises(error, match=text):
        register(app)
    assert set(app.catalog().operations) == {"taken"}


# -- plan_step


def test_a_step_is_what_it_was_given():
    """plan_step sets what it is given and leaves the rest absent."""
    bare = plan_step("a", "op")
    assert bare == Step(id="a", operation="op")
    full = plan_step(
        "a",
        "op",
        name="A",
        input={"x": 1, "y": [None]},
        depends_on=["b", "b"],
        weight=2,
        retry=Retry(attempts=2),
        timeout=1.5,
    )
    assert to_python(full.input) == {"x": 1, "y": [None]}
    assert (list(full.depends_on), full.weight, full.retry.attempts) == (["b"], 2, 2)
    assert full.timeout.ToNanoseconds() == 1_500_000_000


def test_an_output_makes_a_dependency():
    """A parameter that is an output is taken from its step, on which the step depends then, once."""
    step = plan_step(
        "c", "op", input={"x": output_of("a", "/y"), "z": output_of("b"), "w": output_of("a"), "n": 1}, depends_on=["b"]
    )
    assert list(step.depends_on) == ["b", "a"]
    assert {name: (ref.step_id, ref.json_pointer) for name, ref in step.input_from.items()} == {
        "x": ("a", "/y"), "z": ("b", ""), "w": ("a", ""),
    }  # fmt: skip
    assert to_python(step.input) == {"n": 1}
    assert output_of("a", "/y") == OutputRef(step_id="a", json_pointer="/y")


@pytest.mark.parametrize("value", [pytest.param(object(), id="an object"), 2**60, float("nan")], ids=repr)
def test_an_input_that_can_t_be_sent_is_refused(value):
    """What a Struct can't carry is refused with its place."""
    with pytest.raises(InputInvalid) as refused:
        plan_step("a", "op", input={"x": [value]})
    assert refused.value.violations[0].field == "input.x[0]"


# -- startup


async def test_startup_functions_get_the_settings():
    """Startup functions are called in their order with the settings that were given, plain ones in a thread."""
    app = App("shop", settings={"folder": "Where it is."})
    seen: list[Any] = []

    @app.startup
    def first(settings):
        seen.append((dict(settings), threading.current_thread() is threading.main_thread()))

    @app.startup
    async def second(settings):
        seen.append(dict(settings))

    await app.start({"folder": "x"})
    assert seen == [({"folder": "x"}, False), {"folder": "x"}]
    with pytest.raises(ValueError, match="has no setting 'other'; it has: folder"):
        await app.start({"other": "x"})


@pytest.mark.parametrize("error", [OSError("no folder"), StopIteration()], ids=repr)
async def test_what_a_startup_function_raises_ends_the_start(error):
    """What a startup function raises reaches the caller; nothing hangs."""
    app = App("shop")

    @app.startup
    def fail(settings):
        raise error

    async with asyncio.timeout(10):
        with pytest.raises((OSError, RuntimeError)):
            await app.start()


async def test_an_app_knows_the_folder_for_what_it_keeps():
    """Startup functions find the folder beside the journal in the app; there is none where nobody names one."""
    app = App("shop")
    seen: list[Path | None] = [app.folder]

    @app.startup
    def look(settings):
        seen.append(app.folder)

    await app.start(folder=Path("shop.db-app"))
    await app.start()
    assert seen == [None, Path("shop.db-app"), None]


async def test_shutdown_functions_are_called_in_the_opposite_order(caplog):
    """Shutdown functions are called last first, plain ones in a thread, and all of them whatever one raises."""
    app = App("shop")
    seen: list[Any] = []

    @app.shutdown
    def first():
        seen.append(threading.current_thread() is threading.main_thread())

    @app.shutdown
    async def second():
        raise OSError("it is gone")

    @app.shutdown
    async def third():
        seen.append("third")

    await app.stop()
    assert seen == ["third", False]
    assert "OSError: it is gone" in caplog.text


async def test_a_shutdown_function_that_hangs(caplog, monkeypatch):
    """A shutdown function that does not end is left, with a line in the log, and the others are called."""
    monkeypatch.setattr(app_module, "_SHUTDOWN", 0.05)
    app = App("shop")
    seen: list[str] = []

    @app.shutdown
    def first():
        seen.append("first")

    @app.shutdown
    async def second():
        await asyncio.Event().wait()

    await app.stop()
    assert seen == ["first"]
    assert "took longer than 0.05 s" in caplog.text


def test_an_operation_may_have_a_schema_of_its_own():
    """An operation that takes any input may be registered with a JSON schema, which callers are shown."""
    app = App("shop")
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}

    @app.operation("weather", schema=schema)
    async def weather(step: StepContext, /, **inputs: Any) -> Any:
        return inputs

    @app.operation("again", schema=SchemaSignature(schema, name="again"))
    async def again(step: StepContext, /, **inputs: Any) -> Any:
        return inputs

    for name in ("weather", "again"):
        signature = app.catalog().operations[name].signature
        assert signature.schema == schema
        assert [item.field for item in signature.check({"city": 3}, path="input")] == ["input.city"]


def with_parameters(step, /, city: str, **inputs):
    raise AssertionError


def by_name(step, **inputs):
    raise AssertionError


def without_step(**inputs):
    raise AssertionError


@pytest.mark.parametrize("function", [with_parameters, by_name, without_step, op])
def test_a_schema_wants_a_function_that_takes_anything(function):
    """A function that could not take what a schema of its own lets pass is refused, with how to write it."""
    with pytest.raises(TypeError, match=r"is written as `async def f\(step: StepContext, /, \*\*inputs\)`"):
        App("shop").operation("weather", schema={"type": "object"})(function)


# -- planner


async def test_a_plain_planner_runs_in_a_thread():
    """A planner may be a plain function; its docstring tells people what can be asked."""
    app = App("shop")

    @app.planner
    def plain(query: str) -> Plan:
        """Ask for anything."""
        return Plan(name=f"{query} {threading.current_thread() is threading.main_thread()}")

    threads = Threads(1, name="planner", now=lambda: 0.0)
    catalog = served(app.catalog(), threads)
    assert (await catalog.planner("q")).name == "q False"
    threads.shutdown()
    assert catalog.planner_description == "Ask for anything."
