"""What graphs and callbacks hand over becomes JSON-like: whole, or cut to a size."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import Enum
from typing import Any

import hypothesis.strategies as st
from hypothesis import given
from langchain_core.messages import AIMessage, ToolMessage
from pydantic import BaseModel

from stepwire.values import to_value
from stepwire_server.bridges.plain import bounded, whole


class Colour(Enum):
    RED = "red"


@dataclass
class Point:
    x: float
    note: Any = None


class Order(BaseModel):
    number: int
    by: Any = None


def test_what_is_json_stays():
    """What is JSON-like comes out as it is, of both."""
    value = {"a": [1, 2.5, True, None, "text"], "b": {"c": []}}
    assert whole(value) == value
    assert bounded(value) == value


def test_messages_wherever_they_stand():
    """Chat messages become role and content in lists, dataclasses and models; a call of a tool keeps its name and
    arguments.
    """
    call = {"name": "search", "args": {"q": "x"}, "id": "c1", "type": "tool_call"}
    told = {"role": "assistant", "content": "", "tool_calls": [call]}
    value = [Point(1, AIMessage("", tool_calls=[call])), Order(number=1, by=(ToolMessage("found", tool_call_id="c1"),))]
    answered = {"role": "tool", "content": "found", "tool_call_id": "c1"}
    expected = [{"x": 1, "note": told}, {"number": 1, "by": [answered]}]
    assert whole(value) == expected
    assert bounded(value) == expected


def test_what_an_event_can_not_carry():
    """Numbers beyond JSON become text, bytes their count, and objects the name of their type, never their repr."""

    class Client:
        def __repr__(self) -> str:
            return "Client(key='secret')"

    value = [2**60, float("nan"), b"abc", Colour.RED, date(2024, 2, 1), Decimal("1.50"), Client(), {3: "three"}]
    assert bounded(value) == [str(2**60), "nan", "(3 bytes)", "red", "2024-02-01", "1.50", "(Client)", {"3": "three"}]
    assert bounded("half \ud800") == "half \\ud800"


def test_numbers_without_end():
    """A whole number that no double holds becomes text, and one of thousands of digits says how large it is."""
    assert bounded({"n": 10**400}) == {"n": str(10**400)}
    assert bounded(-(10**5000)) == f"(a number of {(10**5000).bit_length():,} bits)"


def test_what_is_cut_says_so():
    """Where something is left out stands how much, in texts, lists and dicts, and below ten levels."""
    assert bounded("x" * 100, 40) == "x" * 40 + "(cut: 60 more characters)"
    assert bounded(list(range(100)), 60) == [*range(5), "(cut: 95 more)"]
    assert bounded({f"k{number}": number for number in range(100)}, 50) == {
        **{f"k{number}": number for number in range(4)},
        "(cut)": "96 more",
    }
    deep: Any = "bottom"
    for _ in range(30):
        deep = [deep]
    assert "(cut: nested deeper)" in json.dumps(bounded(deep))


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.builds(object)
    | st.sampled_from(list(Colour)),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.text() | st.integers(), inner)
        | st.builds(Point, st.just(1.0), inner)
        | st.tuples(inner)
    ),
    max_leaves=40,
)


@given(value=ANYTHING, most=st.integers(0, 300))
def test_an_event_can_always_carry_it(value: Any, most: int):
    """Whatever it is, what is cut to a size can be sent, and is about of that size."""
    cut = bounded(value, most)
    to_value({"state_update": cut}, field="data")
    assert len(json.dumps(cut, ensure_ascii=False)) < 8 * most + 2_000
