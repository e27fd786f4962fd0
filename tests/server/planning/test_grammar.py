"""What is understood without a model: random requests against evaluators of the tests' own, and phrasings by hand."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import date, timedelta
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepwire.errors import QueryNotUnderstood
from stepwire_server.planning import grammar
from stepwire_server.planning.analysis import Unresolved, resolve
from stepwire_server.planning.grammar import _WEAK, _joints, parse
from stepwire_server.planning.memory import Recollection
from stepwire_server.planning.references import mentioned, substituted
from stepwire_server.tools.arithmetic import evaluate

TOOLS = ["add_to_date", "calculate", "days_between", "text_statistics", "hold"]
TODAY = date(2026, 1, 1)

OPERATORS = {
    "+": ["+", "plus"],
    "-": ["-", "minus", "\N{MINUS SIGN}"],
    "*": ["*", "times", "mal", "\N{MULTIPLICATION SIGN}", "multiplied by"],
    "/": ["/", "divided by", "geteilt durch", "\N{DIVISION SIGN}"],
}
RANK = {"+": 1, "-": 1, "*": 2, "/": 2}


@dataclass(frozen=True)
class Sum:
    """Arithmetic as a text, and its exact value."""

    text: str
    value: Fraction
    rank: int = 3


def _leaf(number: int, places: int) -> Sum:
    digits = str(number).rjust(places + 1, "0")
    text = f"{digits[:-places]}.{digits[-places:]}" if places else digits
    return Sum(text, Fraction(number, 10**places))


def _joined(sign: str, word: str, left: Sum, right: Sum) -> Sum:
    rank = RANK[sign]
    # Only parentheses that are needed: what binds how strongly is looked at, too.
    a = left.text if left.rank >= rank else f"({left.text})"
    b = right.text if right.rank > rank else f"({right.text})"
    match sign:
        case "+":
            value = left.value + right.value
        case "-":
            value = left.value - right.value
        case "*":
            value = left.value * right.value
        case _:
            value = left.value / right.value if right.value else Fraction(0)
    # What can't be divided is left as it is.
    return left if sign == "/" and not right.value else Sum(f"{a} {word} {b}", value, rank)


LEAVES = st.builds(_leaf, st.integers(0, 99_999), st.integers(0, 3))
SIGNS = st.sampled_from([(sign, word) for sign, words in OPERATORS.items() for word in words])
SUMS = st.recursive(
    LEAVES, lambda inner: st.builds(lambda sign, a, b: _joined(*sign, a, b), SIGNS, inner, inner), max_leaves=8
)


@given(SUMS, st.sampled_from(["", "what is ", "Berechne ", "wie viel ist ", "please calculate "]))
@settings(max_examples=100)
def test_arithmetic(asked: Sum, lead: str) -> None:
    """Random arithmetic in words and signs comes to what exact fractions come to."""
    [part] = parse(f"{lead}{asked.text}?", TOOLS)
    found = Fraction(evaluate(part.input["expression"]))
    assert part.tool == "calculate"
    assert abs(found - asked.value) <= Fraction(1, 10**25) * max(1, abs(asked.value))


DATES = st.dates(date(1583, 1, 1), date(9000, 12, 31))
FORMS = ["{d:%Y-%m-%d}", "{d.day}.{d.month}.{d.year}", "{d:%d.%m.%Y}"]


def _written(day: date, form: str) -> str:
    return form.format(d=day) if day.year >= 1000 else day.isoformat()


@given(DATES, DATES, st.sampled_from(FORMS), st.sampled_from(FORMS))
@settings(max_examples=60)
def test_days_between(start: date, end: date, one: str, other: str) -> None:
    """Random dates in English and German forms reach the tool as the calendar has them."""
    for words in (
        "days from {} to {}",
        "wie viele Tage sind es von {} bis {}?",
        "the number of days between {} and {}",
    ):
        [part] = parse(words.format(_written(start, one), _written(end, other)), TOOLS)
        assert (part.tool, part.field) == ("days_between", "days")
        assert part.input == {"start": start.isoformat(), "end": end.isoformat()}


@given(DATES, st.integers(1, 999_999), st.booleans())
@settings(max_examples=60)
def test_shifted_dates(day: date, days: int, back: bool) -> None:
    """Random spans before and after random dates reach the tool as they are meant."""
    forms = ["{n} days before {d}", "{n} Tage vor {d}", "{d} - {n} days", "subtract {n} days from {d}"]
    if not back:
        forms = [
            "{n} days after {d}",
            "{n} Tage nach {d}",
            "{d} + {n} days",
            "add {n} days to {d}",
            "addiere {n} Tage zu {d}",
        ]
    for form in forms:
        [part] = parse(form.format(n=days, d=day.isoformat()), TOOLS)
        assert part.input == {"day": day.isoformat(), "days": -days if back else days}, form


WORDS = [*"add 5 to it , and then call days from ( ' ? ${it} 1,5 times".split(), '"']  # noqa: SIM905 - it is a sentence


@given(st.text(max_size=60) | st.lists(st.sampled_from(WORDS)).map(" ".join))
@settings(max_examples=100)
def test_any_text(text: str) -> None:
    """Whatever is asked is understood or refused, and nothing else happens."""
    with suppress(QueryNotUnderstood):
        assert parse(text, TOOLS)


@pytest.mark.parametrize("text", ["1 +" + " " * 5_000 + "1", "„" * 9_999, "“" * 9_999, "1 ," + "\t" * 5_000 + "and 2"])
def test_no_text_takes_long(text: str) -> None:
    """Spaces and quotation marks without end are read at once: a pattern that goes back over them takes hours."""
    with suppress(QueryNotUnderstood):
        assert parse(text, TOOLS)


SIZE = 30_000


@pytest.mark.parametrize("text", ["(1), " * SIZE, "“" * SIZE * 10, "“a" * SIZE, '"' + "„a" * SIZE, "1; " * SIZE])
def test_no_size_takes_long(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is read grows as the request does: a hundred thousand characters would else take minutes."""
    monkeypatch.setattr(grammar, "_LONGEST", 1_000_000)
    with pytest.raises(QueryNotUnderstood):
        parse(text, TOOLS)


def test_joints_outside_of_parentheses() -> None:
    """Words that join two parts do so outside of parentheses alone, nested or not, and after one that is not closed."""
    pieces = ["a", "(b, (c, d), e)", "f (x) (y) (z, z)", "((g), h)", "i", "(j", "k"]
    text = ", ".join(pieces)
    begins = [0, *(match.end() for match in _joints(_WEAK, text))]
    assert begins == [len("".join(f"{piece}, " for piece in pieces[:place])) for place in range(len(pieces))]


MEMORY = Recollection(
    turns=({"results": [{"text": "7", "value": 7}]}, {"results": [{"text": "12 * 7", "value": 84}]}),
    names={"total": {"text": "1 + 2", "value": 3}, "start": {"text": "a day", "value": "2026-03-01"}},
)


@pytest.mark.parametrize(
    ("request_", "tool", "given_"),
    [
        ("add 5 to it", "calculate", {"expression": "((84)) + (5)"}),
        ("addiere 5 zum Ergebnis", "calculate", {"expression": "((84)) + (5)"}),
        ("addiere 5 dazu", "calculate", {"expression": "((84)) + (5)"}),
        ("ziehe 5 von total ab", "calculate", {"expression": "((3)) - (5)"}),
        ("double the result before that", "calculate", {"expression": "((7)) * 2"}),
        ("multipliziere das Ergebnis mit total", "calculate", {"expression": "((84)) * ((3))"}),
        ("total * 2 - it", "calculate", {"expression": "(3) * 2 - (84)"}),
        ("20% of total", "calculate", {"expression": "( 20 / 100 ) * (3)"}),
        ("max(it, total,5)", "calculate", {"expression": "max ( (84) , (3) , 5 )"}),
        ("3 weeks before start", "add_to_date", {"day": "2026-03-01", "weeks": -3}),
        ("a month after today", "add_to_date", {"day": "2026-01-01", "months": 1}),
        ("days from today to start", "days_between", {"start": "2026-01-01", "end": "2026-03-01"}),
        ("which weekday is start?", "add_to_date", {"day": "2026-03-01"}),
        ('count the words of "it and then ${it}"', "text_statistics", {"text": "it and then $${it}"}),
        ("zähle die Zeichen in „a; b?“", "text_statistics", {"text": "a; b?"}),
        ('run hold gate=5 text="a = b" now=true', "hold", {"gate": 5, "text": "a = b", "now": True}),
        ("use hold with gate=$total text=$5", "hold", {"gate": 3, "text": "$5"}),
    ],
)
def test_phrasings(request_: str, tool: str, given_: dict[str, object]) -> None:
    """What people write in English and German becomes the call that they mean."""
    [part] = resolve(parse(request_, TOOLS), MEMORY, today=TODAY)
    assert (part["tool"], part["input"]) == (tool, given_)


def test_a_remembered_text_is_no_reference() -> None:
    """What is remembered is given to a tool as it is, whatever stands in the texts of it."""
    said = {"a": ["${it}", {"b": "$${1} ${1}"}], "n": 1}
    memory = Recollection(turns=({"results": [{"text": "a list", "value": said}]},))
    [part] = resolve(parse("run hold text=$it", TOOLS), memory, today=TODAY)
    assert mentioned(part["input"]) == []
    assert substituted(part["input"], {}.__getitem__, last=True) == {"text": said}


def test_references_within_a_request() -> None:
    """In a request, "it" and names mean what stands before them there."""
    parts = resolve(
        parse("2 * 3 and then add 1 to it, call it six. days from 2026-01-01 to 2026-01-09; six * it", TOOLS),
        MEMORY,
        today=TODAY,
    )
    assert [part["act"] for part in parts] == ["call", "call", "name", "call", "call"]
    assert parts[1]["input"] == {"expression": "((${1})) + (1)"}
    assert parts[2]["is"] == {"call": "2", "field": ""}
    assert parts[4]["input"] == {"expression": "(${2}) * (${4/days})"}


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        ("make me tea", "'make me tea' is not understood. What is: arithmetic"),
        ("2 + 2 and then make me tea", "'make me tea' is not understood"),
        ("", "nothing is asked"),
        ("hello", "'hello' is not understood"),
        ("3,5 * 2", "write 3.5"),
        ("2026-02-30 + 1 day", "'2026-02-30' is no date of the calendar"),
        ("2026-12-24 + 5", "2026-12-24 is a date"),
        ("call it sum", "can't be called 'sum'"),
        ("run rm file=x", "there is no tool 'rm'"),
        ("run hold gate", "write parameter=value"),
        ("1 and then " * 40 + "1", "at most 30"),
        ("9" * 10_001, "at most 10,000"),
        ("__import__('os').system('x')", "is not understood"),
        ("(1).real", "is not understood"),
    ],
)
def test_what_is_refused(request_: str, text: str) -> None:
    """What is not understood is refused, with the words that are not, or with how to write it."""
    with pytest.raises(QueryNotUnderstood) as error:
        parse(request_, TOOLS)
    assert text in str(error.value)


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        ("what was tea?", "nothing is called 'tea' in this session; there are: total, start"),
        ("add 5 to start", "takes a number, and is given '2026-03-01' of 'a day'"),
        ("5 days after it", "takes a date, and is given 84 of '12 * 7'"),
        ("2026-01-01 + 1 day and then add 5 to it", "takes a number, and is given the date of '2026-01-01 + 1 day'"),
    ],
)
def test_what_does_not_resolve(request_: str, text: str) -> None:
    """A reference to nothing, or to a result of another kind, is refused with what is there."""
    with pytest.raises(Unresolved) as error:
        resolve(parse(request_, TOOLS), MEMORY, today=TODAY)
    assert text in str(error.value)


def test_a_new_session_has_no_results() -> None:
    """What refers to an earlier result in a session without one is refused."""
    with pytest.raises(Unresolved, match="this session has none"):
        resolve(parse("add 5 to it", TOOLS), Recollection(), today=TODAY + timedelta(days=1))
