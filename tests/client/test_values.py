"""Plain Python values on their way into messages and back."""

from __future__ import annotations

import re
from typing import Any

import pytest
from google.protobuf import struct_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from stepwire.errors import InputInvalid, PlanInvalid
from stepwire.values import to_plan, to_python, to_struct, to_value

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(deadline=None)  # the machine that runs this may be busy
@given(JSON)
def test_there_and_back(value: Any) -> None:
    """What JSON has comes back equal."""
    assert to_python(to_value(value)) == value


def test_integral_numbers() -> None:
    """A number without a fraction comes back as an int, one with a fraction as a float."""
    back = to_python(to_struct({"a": 3, "b": 3.0, "c": 3.5, "d": True, "e": 1e300}))
    assert [type(back[key]) for key in "abcde"] == [int, int, float, bool, float]


def test_tuple_is_a_list() -> None:
    """A tuple comes back as a list."""
    assert to_python(to_value((1, 2))) == [1, 2]


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ({"a": {"b": [1, 2**53 + 1]}}, "input.a.b[1]"),
        ({"a": float("nan")}, "input.a"),
        ({"a": float("inf")}, "input.a"),
        ({"a": {1: 2}}, "input.a"),
        ({"a": {1, 2}}, "input.a"),
        ({"a": b"bytes"}, "input.a"),
        ({"a": ["whole", "half \ud800"]}, "input.a[1]"),
        ({"a": {"half \ud800": 1}}, "input.a.half \\ud800"),
    ],
)
def test_what_cannot_be_sent(value: dict[str, Any], field: str) -> None:
    """What a double, a text in UTF-8 or JSON can't hold is refused, with its place."""
    with pytest.raises(InputInvalid) as caught:
        to_struct(value)
    assert [violation.field for violation in caught.value.violations] == [field]


def test_all_violations() -> None:
    """All places are named at once."""
    with pytest.raises(InputInvalid) as caught:
        to_struct({"a": 2**60, "b": -(2**60)})
    assert len(caught.value.violations) == 2


def test_depth() -> None:
    """Values may be nested as deep as the contract says, and no deeper, however deep they are."""
    value: Any = 1
    for _ in range(16):
        value = {"x": value}
    assert to_python(to_struct(value)) == value
    for _ in range(5000):
        value = [value]
    with pytest.raises(InputInvalid, match="deep"):
        to_struct({"x": value})


def test_order() -> None:
    """Objects come back in the order of their keys, the same every time."""
    assert list(to_python(to_struct(dict.fromkeys("zebra", 1)))) == sorted("zebra")


def test_nothing() -> None:
    """A Value that holds nothing is None."""
    assert to_python(struct_pb2.Value()) is None


def test_plan() -> None:
    """A plan may be written by the contract's names or in JSON's way."""
    plan = to_plan({"steps": [{"id": "a", "operation": "o", "input": {"n": 1}}, {"id": "b", "dependsOn": ["a"]}]})
    assert to_python(plan.steps[0].input) == {"n": 1}
    assert list(plan.steps[1].depends_on) == ["a"]


@pytest.mark.parametrize("plan", [{"steps": "a"}, {"steps": [1]}, {"steps": [{"id": 1}]}, {"stops": []}])
def test_plan_form(plan: dict[str, Any]) -> None:
    """A plan of the wrong form is refused."""
    with pytest.raises(PlanInvalid):
        to_plan(plan)


@pytest.mark.parametrize(
    ("plan", "place", "key"),
    [
        ({"stepz": []}, "plan", "stepz"),
        ({"steps": [{"id": "a"}, {"id": "b", "depend_on": ["a"]}]}, "plan.steps[1]", "depend_on"),
        ({"steps": [{"id": "a", "retry": {"tries": 2}}]}, "plan.steps[0].retry", "tries"),
        ({"steps": [{"inputFrom": {"x": {"step": "a"}}}]}, "plan.steps[0].input_from.x", "step"),
    ],
)
def test_unknown_field(plan: dict[str, Any], place: str, key: str) -> None:
    """A field that does not exist is named with its place and those that do, on one line, in snake_case."""
    with pytest.raises(PlanInvalid) as caught:
        to_plan(plan)
    text = str(caught.value)
    assert text.startswith(f"The plan can't be read: {place} has no field {key!r}; its fields are ")
    assert "\n" not in text
    assert not re.search("[a-z][A-Z]", text.split("its fields are ")[1])


def test_unknown_fields() -> None:
    """Each of several fields that do not exist is named."""
    with pytest.raises(PlanInvalid) as caught:
        to_plan({"stepz": [], "steps": [{"inputs": {}}], "analysis": {"anything": 1}})
    assert [field for field, _ in caught.value.violations] == ["plan", "plan.steps[0]"]


def test_plan_input() -> None:
    """An input that can't be sent is named with its step."""
    with pytest.raises(InputInvalid) as caught:
        to_plan({"steps": [{"id": "a"}, {"id": "b", "input": {"n": 2**60}}]})
    assert caught.value.violations[0].field == "plan.steps[1].input.n"
