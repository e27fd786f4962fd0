"""The tools that come with the app."""

from __future__ import annotations

import ast
import contextlib
import math
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwire_server import Refused
from stepwire_server.tools.arithmetic import evaluate
from stepwire_server.tools.ready_made import add_to_date, calculate, days_between, ready_made, text_statistics

NUMBERS = st.integers(0, 10**6).map(str) | st.decimals(0, 1000, places=3).map(lambda number: format(number, "f"))
SUMS = st.recursive(
    NUMBERS,
    lambda inner: st.builds(
        lambda left, pair, right: f"({left} {pair} {right})", inner, st.sampled_from("+-*"), inner
    ) | inner.map(lambda value: f"-{value}"),
    max_leaves=8,
)  # fmt: skip


def exact(node: ast.expr, text: str) -> Fraction:
    """What an expression comes to, in fractions."""
    match node:
        case ast.UnaryOp(operand=operand):
            return -exact(operand, text)
        case ast.BinOp(left=left, op=op, right=right):
            a, b = exact(left, text), exact(right, text)
            return a + b if isinstance(op, ast.Add) else a - b if isinstance(op, ast.Sub) else a * b
        case _:
            return Fraction(ast.get_source_segment(text, node) or "")


@given(SUMS)
def test_sums_are_right(expression):
    """A sum, difference or product of decimals comes to what fractions say, to 50 digits."""
    expected = exact(ast.parse(expression, mode="eval").body, expression)
    found = Fraction(evaluate(expression))
    assert abs(found - expected) <= abs(expected) / 10**48


@given(st.integers(-(10**6), 10**6), st.integers(-1000, 1000).filter(bool))
def test_whole_quotients_are_python_s(a, b):
    """Whole quotients and remainders of negative numbers are those of Python."""
    assert evaluate(f"({a}) // ({b})") == a // b
    assert evaluate(f"({a}) % ({b})") == a % b


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("0.1 + 0.2", Decimal("0.3")),
        ("1_000 * 3", 3000),
        ("2 ** 10", 1024),
        ("sqrt(2) ** 2", Decimal(2)),
        ("round(2.675, 2)", Decimal("2.68")),
        ("round(2.5)", 2),
        ("max(1, 2.5, -3) + min(1, 2)", Decimal("3.5")),
        ("floor(-1.5) + ceil(1.2) + abs(-3) + sum(1, 2)", 6),
    ],
)
def test_what_can_be_worked_out(expression, value):
    """Operators and functions give what decimal arithmetic gives."""
    assert evaluate(expression) == pytest.approx(value, rel=Decimal("1e-40"), abs=0)


@pytest.mark.parametrize(
    "expression",
    [
        "", "1 +", "x", "'a' * 10**9", "True", "1j", "().__class__", "__import__('os')", "[1]", "1 if 1 else 2",
        "1 < 2", "0x10", "1e400 * 1e700",
        "9 ** 9 ** 9", "10 ** 10 ** 10", "1e999999999", "1 / 0", "0 / 0", "sqrt(-1)", "abs()", "abs(1, 2)",
        "round(1, 10**9)",
        "max(x=1)", "max(*[1])", "(" * 900, "-" * 999 + "1", "1+" * 499 + "1" + " " * 999, "lambda: 1", "\0", "1\n2",
        "1 << 99999", "~1", "10**60 % 7", "(2**200) % 10", "10**60 // 7",
    ],
)  # fmt: skip
def test_what_can_t_be_worked_out_says_so(expression):
    """Whatever is no arithmetic, or has no value that can be given, is refused with a text, at once."""
    with pytest.raises(Refused, match=r"expression|followed|numbers"):
        evaluate(expression)


@given(st.text(st.sampled_from("0123456789.+-*/%() eE_,sqrtmaxabround'\"[]{}:=\n\0\ud800"), max_size=60))
def test_any_text_has_a_value_or_a_reason(expression):
    """Any text at all has a finite value, or is refused with a reason."""
    with contextlib.suppress(Refused):
        assert evaluate(expression).is_finite()


@pytest.mark.parametrize(
    ("expression", "text", "value"),
    [
        ("1/3", "0." + "3" * 50, 1 / 3),
        ("2**53 + 1", "9007199254740993", None),
        ("4.50 * 2", "9", 9),
        ("10 ** 60", "1" + "0" * 60, None),
        ("0.5 + 2**52", "4503599627370496.5", 4503599627370496.5),
    ],
)
async def test_values_and_their_digits(expression, text, value):
    """A result has all its digits as text, and a number where one can be sent."""
    found = await calculate(expression)
    assert Decimal(found["text"]) == Decimal(text)
    assert found["value"] == value


DAYS = st.dates(date(1900, 1, 1), date(2100, 1, 1))


@given(DAYS, DAYS)
async def test_days_between_two_dates(start, end):
    """Days and weekdays between two dates are those that counting them one by one gives."""
    start, end = min(start, end), min(max(start, end), min(start, end) + timedelta(days=900))
    days = [start + timedelta(days=each) for each in range(1, (end - start).days + 1)]
    weekdays = sum(day.weekday() < 5 for day in days)
    assert await days_between(start, end) == {"days": len(days), "weekdays": weekdays}
    backwards = await days_between(end, start)
    assert backwards == {"days": -len(days), "weekdays": -weekdays}


@pytest.mark.parametrize(
    ("day", "span", "found"),
    [
        ("2024-01-31", {"months": 1}, "2024-02-29"),
        ("2024-02-29", {"years": 1}, "2025-02-28"),
        ("2024-03-31", {"months": -13}, "2023-02-28"),
        ("2024-12-31", {"days": 1}, "2025-01-01"),
        ("2024-01-01", {"weeks": -1, "days": 6}, "2023-12-31"),
    ],
)
async def test_spans_from_a_date(day, span, found):
    """Years and months come first, and a day that a month does not have is its last."""
    assert (await add_to_date(date.fromisoformat(day), **span))["date"] == found


async def test_a_date_that_does_not_exist():
    """A date outside of the calendar is refused with a text."""
    for span in ({"years": 9000}, {"days": -4_000_000}, {"months": -4_000_000}):
        with pytest.raises(Refused, match="outside of the years 1 to 9999"):
            await add_to_date(date(2024, 1, 1), **span)


def test_figures_of_a_text():
    """A text's figures count words across apostrophes and hyphens, and sentences by their ends."""
    found = text_statistics("It's a well-known tale. Is it?\nÄ tale… it IS")
    assert {key: found[key] for key in ("words", "lines", "sentences")} == {"words": 10, "lines": 2, "sentences": 3}
    assert found["bytes"] == found["characters"] + 3
    assert found["frequent"][:2] == [{"word": "tale", "count": 2}, {"word": "is", "count": 2}]


@given(st.text())
def test_any_text_has_figures(text):
    """Any text that can be sent has its figures."""
    found = text_statistics(text)
    assert found["characters"] == len(text)
    assert math.isfinite(found["words"])


def test_they_are_described():
    """Each of them has a description, and a description of each input by its type."""
    for tool in ready_made():
        assert tool.description, tool.name
        assert all("type" in value or "anyOf" in value for value in tool.schema["properties"].values()), tool.name
