"""A function is found from examples of it, and holds on those that were hidden."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stepwire_server.supervisor.examples import read_examples
from stepwire_server.supervisor.synthesis.search import Found, Search, Task
from stepwire_server.supervisor.synthesis.values import Unsupported
from stepwire_server.supervisor.writing import searched

NUMBERS = st.integers(-30, 30)
LISTS = st.lists(NUMBERS, max_size=6)
WORDS = st.lists(st.text("abcdeixyz", min_size=1, max_size=6), min_size=1, max_size=4).map(" ".join)

FUNCTIONS: dict[str, tuple[Callable[..., Any], tuple[st.SearchStrategy[Any], ...]]] = {
    "absolute difference": (lambda a, b: abs(a - b), (NUMBERS, NUMBERS)),
    "sum of squares": (lambda xs: sum(x * x for x in xs), (LISTS,)),
    "the even ones": (lambda xs: [x for x in xs if x % 2 == 0], (LISTS,)),
    "how many are positive": (lambda xs: sum(x > 0 for x in xs), (LISTS,)),
    "words turned round": (lambda s: " ".join(s.split()[::-1]), (WORDS,)),
    "greeting": (lambda s: f"Hello, {s}!", (WORDS,)),
    "palindrome": (lambda s: s == s[::-1], (st.text("ab", max_size=4),)),
    "clamp to a bound": (lambda x, top: min(x, top), (NUMBERS, NUMBERS)),
    "larger than the mean": (lambda xs: sum(xs) / len(xs), (st.lists(NUMBERS, min_size=1, max_size=5),)),
    "pairwise sums": (lambda a, b: [x + y for x, y in zip(a, b, strict=False)], (LISTS, LISTS)),
}


def _search(function: Callable[..., Any], inputs: list[tuple[Any, ...]], words: str = "") -> Found | None:
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    examples = tuple((arguments, function(*arguments)) for arguments in inputs)
    budget = itertools.count()
    search = Search(
        Task(name="wanted", parameters=names, examples=examples, words=words),
        room=60_000,
        expired=lambda: next(budget) > 3_000,
    )
    found = None
    for found in search.levels():
        pass
    return found


def _made(found: Found) -> Callable[..., Any]:
    names: dict[str, Any] = {}
    exec(found.source, names)
    made: Callable[..., Any] = names["wanted"]
    return made


@pytest.mark.parametrize("name", FUNCTIONS)
@settings(max_examples=3, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_what_is_found_holds_on_hidden_examples(name: str, data: st.DataObject) -> None:
    """From thirty random examples of a known function comes one that is right on thirty others."""
    function, strategies = FUNCTIONS[name]
    rows = data.draw(st.lists(st.tuples(*strategies), min_size=60, max_size=60))
    found = _search(function, rows[:30])
    assert found is not None, name
    made = _made(found)
    assert [made(*row) for row in rows[:30]] == [function(*row) for row in rows[:30]]
    wrong = [row for row in rows[30:] if made(*row) != function(*row)]
    # Random examples may all be alike: then nobody can tell, and the smallest function is right on most.
    distinct = len({repr(row) for row in rows[:30]})
    assert not wrong or distinct < 15, (found.source, wrong[:3])


def test_decisions_are_found() -> None:
    """A function with several ways is found where each way has examples."""
    found = _search(lambda n: "low" if n < 10 else "high", [(n,) for n in (1, 5, 9, 10, 11, 30, 0, 17)], "below 10")
    assert found is not None
    assert [_made(found)(n) for n in (-4, 9, 10, 99)] == ["low", "low", "high", "high"]
    assert found.leaves == 2


@settings(max_examples=4, deadline=None, derandomize=True)
@given(st.lists(st.integers(10_000, 99_999), min_size=6, max_size=6, unique=True))
def test_a_list_of_answers_is_no_solution(answers: list[int]) -> None:
    """Where results have nothing to do with arguments, what is found (if anything) has fewer ways than half the examples,
    and none of the answers stands in it.
    """
    table = dict(zip(range(6), answers, strict=True))
    found = _search(lambda n: table[n], [(n,) for n in range(6)])
    if found is not None:
        assert 2 * found.leaves <= 6
        constants = {node.value for node in ast.walk(ast.parse(found.source)) if isinstance(node, ast.Constant)}
        assert not constants & set(answers)


def test_an_answer_without_a_look_at_the_arguments_is_none() -> None:
    """A constant is not given as the function, even where it is right on all examples."""
    found = _search(lambda n: 7, [(1,), (2,), (3,), (4,)])
    assert found is None or "n" in {node.id for node in ast.walk(ast.parse(found.source)) if isinstance(node, ast.Name)}


def test_values_that_are_not_searched_for() -> None:
    """Values outside of the language are refused with their type."""
    with pytest.raises(Unsupported, match="dict"):
        Search(Task(name="f", parameters=("n",), examples=(((1,), {"a": 1}),)))


async def test_the_search_runs_in_a_process_of_its_own() -> None:
    """It tells how far it is, then gives the source; tuples and sets are said to be outside."""
    examples = read_examples(
        ast.parse("assert twice('ab') == 'abab'\nassert twice('x') == 'xx'\nassert twice('') == ''")
    )
    said = [line async for line in searched(examples, words="", seconds=20)]
    assert [line["size"] for line in said[:-1]] == list(range(1, len(said)))
    assert "return text + text" in said[-1]["source"]
    outside = read_examples(ast.parse("assert f(1) == (1, 2)\nassert f(2) == (2, 3)"))
    (only,) = [line async for line in searched(outside, words="", seconds=5)]
    assert "tuples" in only["problem"]


def _sources() -> Iterator[tuple[str, list[Any]]]:
    yield "assert f(1) == 2", [((1,), 2)]
    yield "assert 2 == f(1)\nassert f(-1) == -2", [((1,), 2), ((-1,), -2)]
    yield "assert f('a')\nassert not f('b')", [(("a",), True), (("b",), False)]
    yield "def test_a():\n    x = [1, 2]\n    assert f(x, 0) is None", [(([1, 2], 0), None)]
    yield "for a, b in [(1, 2), (3, 4)]:\n    assert f(a) == b", [((1,), 2), ((3,), 4)]
    yield "import solution\nassert solution.f([]) == []", [(([],), [])]


@pytest.mark.parametrize(("source", "known"), _sources())
def test_examples_are_read_from_asserts(source: str, known: list[Any]) -> None:
    """Comparisons, truth, names of literals and loops over literals are examples; nothing is run."""
    examples = read_examples(ast.parse(source))
    assert (examples.name, list(examples.known)) == ("f", known)
