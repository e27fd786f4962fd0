"""Values as they are received, returned and pointed into."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from datetime import date
from typing import Any

import pytest
from google.protobuf import struct_pb2
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from stepwire.errors import InputInvalid
from stepwire.values import MAX_DEPTH, MAX_INTEGER, to_python, to_struct
from stepwire_server.engine.values import check, point, to_value

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-MAX_INTEGER, MAX_INTEGER)
    | st.floats(allow_nan=False, allow_infinity=False).filter(lambda x: abs(x) <= MAX_INTEGER or not x.is_integer())
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(JSON)
def test_json_comes_back_as_it_went(value):
    """What is JSON-like survives the way into a Value and back, and what was sent passes the check on receipt."""
    message = to_value(value, field="output")
    assert to_python(message) == value
    if isinstance(value, dict):
        assert check(message.struct_value, "input") == []


@dataclass
class Point:
    x: int


class Model(BaseModel):
    when: date


class Colour(enum.Enum):
    RED = "red"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Point(1), {"x": 1}),
        (Model(when=date(2024, 1, 2)), {"when": "2024-01-02"}),
        (Colour.RED, "red"),
        ((1, 2), [1, 2]),
        ({1: 2}, {"1": 2}),
        (frozenset({3}), [3]),
        (3.0, 3),
        (True, True),
    ],
    ids=repr,
)
def test_what_pydantic_would_write_is_taken(value, expected):
    """Dataclasses, models, enums, dates, sets and tuples become what JSON has."""
    found = to_python(to_value(value, field="output"))
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("value", "field"),
    [
        (2**53 + 1, "output"),
        ({"a": [1, {"b": math.nan}]}, "output.a[1].b"),
        (-(2**60), "output"),
        ({"a": ["half \ud800"]}, "output.a[0]"),
        pytest.param(object(), "output", id="an object"),
    ],
    ids=ascii,
)
def test_what_can_t_be_sent_is_named_with_its_place(value, field):
    """A value out of bounds is refused with the place below the field."""
    with pytest.raises(InputInvalid) as refused:
        to_value(value, field="output")
    assert refused.value.violations[0].field == field


def deep(levels: int) -> struct_pb2.Struct:
    struct = struct_pb2.Struct()
    inner = struct.fields["x"]
    for _ in range(levels - 1):
        inner = inner.list_value.values.add()
    inner.number_value = 1
    return struct


def test_depth_is_bounded_without_recursion():
    """16 levels pass, 17 are refused, and thousands, which a parser may let through, raise nothing."""
    assert check(deep(MAX_DEPTH), "input") == []
    assert "nested more than 16 deep" in check(deep(MAX_DEPTH + 1), "input")[0].description
    assert len(check(deep(5_000), "input")) == 1


def test_what_is_sent_may_be_received():
    """The bounds for what is sent and for what is received are the same."""
    value: Any = 1
    for _ in range(MAX_DEPTH - 1):
        value = [value]
    assert check(to_struct({"x": value}), "input") == []
    with pytest.raises(InputInvalid):
        to_struct({"x": [value]})
    assert check(to_value({"x": value}, field="o").struct_value, "input") == []


POINTED = {"a": [1, {"b/c": 2, "d~e": 3}], "": 4, "~1": 5}


@pytest.mark.parametrize(
    ("pointer", "expected"),
    [("", POINTED), ("/a", POINTED["a"]), ("/a/0", 1), ("/a/1/b~1c", 2), ("/a/1/d~0e", 3), ("/", 4), ("/~01", 5)],
)
def test_a_pointer_leads_to_its_place(pointer, expected):
    """A JSON pointer (RFC 6901) leads through objects and lists; ~1 is a slash and ~0 a tilde."""
    value = to_value(POINTED, field="output")
    assert to_python(point(value, pointer)) == expected


@pytest.mark.parametrize(
    "pointer", ["/b", "/a/2", "/a/-", "/a/-1", "/a/x", "/a/0/b", "/a/01", "/a/²", "/a/١", "/a/" + "9" * 5_000, "/a/"]
)
def test_a_pointer_that_leads_nowhere_says_so(pointer):
    """Where nothing is, KeyError names the pointer; an index is digits without a leading zero."""
    with pytest.raises(KeyError, match="there is nothing at"):
        point(to_value({"a": [1, 2]}, field="output"), pointer)
