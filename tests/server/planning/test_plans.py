"""Plans of calls: what is checked before anything runs, and how references stand in them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwire_server.planning.plans import violations, waves
from stepwire_server.planning.references import escaped, mentioned, substituted
from stepwire_server.tools import Toolbox, ready_made

TOOLBOX = Toolbox(ready_made())


def call(name: str, tool: str = "calculate", *, after: list[str] | None = None, **given_: Any) -> dict[str, Any]:
    """Returns a planned call."""
    return {"id": name, "text": name, "tool": tool, "input": given_ or {"expression": "1"}, "after": after or []}


def plan(*calls: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Returns a plan."""
    return {"calls": list(calls), "answers": [], "names": {}, "answer": "", **more}


@pytest.mark.parametrize(
    ("wrong", "field", "text"),
    [
        (plan(), "calls", "is empty"),
        (plan(call("a"), call("a")), "calls[1].id", "another call is 'a', too"),
        (plan(call("a b")), "calls[0].id", "'a b' does not match"),
        (plan(call("a", "tea")), "calls[0].tool", "there is no tool 'tea'; there are: add_to_date, calculate"),
        (plan(call("a", formula="1")), "calls[0].input.expression", "is missing"),
        (plan(call("a", formula="1")), "calls[0].input.formula", "is not a parameter"),
        (plan(call("a", expression=1)), "calls[0].input.expression", "string"),
        (plan(call("a", "days_between", start="2026-01-01", end="soon")), "calls[0].input.end", "date"),
        (plan(call("a", "days_between", start="${b}")), "calls[0].input", "refers to ${b}, and there is no such call"),
        (plan(call("a", "days_between", start="${a}", end="${a}")), "calls[0]", "waits for itself"),
        (plan(call("a", after=["b"])), "calls[0].after", "there is no call 'b'"),
        (plan(call("a", after=["b"]), call("b", after=["a"])), "calls", "in a circle: a, b"),
        (plan(*(call(str(number)) for number in range(51))), "calls", "at most 50"),
        (plan(call("a", "text_statistics", text="x" * 70_000)), "calls[0].input", "at most 65,536"),
        (
            plan(call("a"), names={"b": {"text": "", "is": {"call": "c", "field": ""}}}),
            "names.b",
            "there is no call 'c'",
        ),
        (plan(call("a"), names={"b c": {"text": "", "is": {"value": 1}}}), "names.b c", "is no name"),
        (plan(call("a"), answer="It is ${b}."), "answer", "refers to ${b}"),
    ],
)
def test_what_is_wrong_is_named(wrong: dict[str, Any], field: str, text: str) -> None:
    """Everything that is wrong with a plan is told by its field, before anything runs."""
    found = violations(wrong, TOOLBOX)
    assert [problem for where, problem in found if where == field and text in problem], found


def test_what_is_right() -> None:
    """A plan whose inputs fit has no problems; what a reference gives is not judged before it is there."""
    right = plan(
        call("a", expression="2 * (${c/days})"),
        call("b", "days_between", start="${d}", end="2026-01-01"),
        call("c", "days_between", start="2026-01-01", end="2026-03-01"),
        call("d", "add_to_date", day="2026-01-01", after=["c"]),
        answer="${a} and $${b}",
    )
    assert violations(right, TOOLBOX) == []
    assert waves(right["calls"]) == [["c"], ["a", "d"], ["b"]]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(alphabet="${}a1/ ", max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
)


@given(st.text(alphabet="${}a1/ ", max_size=20))
def test_an_escaped_text_is_itself(text: str) -> None:
    """Whatever a text has, escaped it refers to nothing, and is itself again at last."""
    assert mentioned(escaped(text)) == []
    kept = substituted(escaped(text), lambda name: f"<{name}>", last=False)
    assert substituted(kept, lambda name: f"<{name}>", last=True) == text


@given(JSON)
def test_what_is_mentioned_is_asked_for(value: Any) -> None:
    """Exactly what a value mentions is looked up in it."""
    asked: list[str] = []
    substituted(value, lambda name: asked.append(name) or name, last=True)  # type: ignore[func-returns-value]
    assert list(dict.fromkeys(asked)) == mentioned(value)


def test_a_reference_alone_keeps_its_kind() -> None:
    """A text that is one reference becomes the value, whatever it is; within a text it is written out."""
    given_ = {"a": "${1}", "b": ["x ${1} y", {"c": "${2}"}], "d": 3}
    values = {"1": 84, "2": [1, None]}
    assert substituted(given_, values.__getitem__, last=True) == {"a": 84, "b": ["x 84 y", {"c": [1, None]}], "d": 3}
