"""Small edits turn what is nearly right into what is right."""

from __future__ import annotations

import ast
import asyncio
import itertools
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from stepwire_server.supervisor.agents import reviewfix
from stepwire_server.supervisor.edits import Edit, edits, nearby
from stepwire_server.supervisor.trial import Trial

ORIGINALS = {
    "clamp": "def clamp(x, low, high):\n    if x < low:\n        return low\n    return min(x, high)",
    "total": "def total(items):\n    result = 0\n    for item in items:\n        result += item\n    return result",
    "window": "def window(items, size):\n    return [items[i:i + size] for i in range(len(items) - size + 1)]",
}

SLIPS = {
    "a comparison": ("if x < low", "if x > low", "clamp"),
    "a wrong variable": ("return low", "return high", "clamp"),
    "another function": ("min(x", "max(x", "clamp"),
    "an operator": ("result += item", "result -= item", "total"),
    "a constant": ("result = 0", "result = 1", "total"),
    "a return in its loop": ("    return result", "        return result", "total"),
    "a missing return": ("\n    return result", "", "total"),
    "off by one": ("size + 1)", "size)", "window"),
    "another sign": ("i + size", "i - size", "window"),
}


@pytest.mark.parametrize("what", SLIPS)
def test_each_slip_is_one_edit_away(what: str) -> None:
    """For every kind of slip the original is among the edits, each of which is Python and comes once."""
    right, wrong, name = SLIPS[what]
    source = ORIGINALS[name]
    assert right in source
    near = [ast.unparse(ast.parse(edit.source)) for edit in edits(source.replace(right, wrong))]
    assert ast.unparse(ast.parse(source)) in near
    assert len(near) == len(set(near))


def test_an_edit_changes_nothing_else() -> None:
    """Comments, blank lines and quotes are as they were, and what would be read otherwise gets its parentheses."""
    source = "def f(x):  # doubles\n\n    y = x + 1  # wrong\n    return y * 'a'  # done\n"
    near = {edit.source for edit in edits(source)}
    assert source.replace("x + 1", "x * 1") in near
    assert "def f(x):  # doubles\n\n    y = x + 1  # wrong\n    return x * 'a'  # done\n" in near
    turned = {edit.source for edit in edits("def f(a, b):\n    return 2 * -(a + b)  # why\n")}
    assert "def f(a, b):\n    return 2 * (a + b)  # why\n" in turned


def test_an_edit_that_changes_nothing_is_none() -> None:
    """Arguments that are the same are not swapped, and the same program does not come twice."""
    near = [edit.source for edit in edits("def f(x):\n    return max(x, x)\n")]
    assert "def f(x):\n    return max(x, x)\n" not in near
    assert len(near) == len(set(near))


CHECKS = {
    "clamp": "assert [clamp(x, 2, 5) for x in range(8)] == [2, 2, 2, 3, 4, 5, 5, 5]",
    "total": "assert total([1, 2, 3]) == 6\nassert total([]) == 0\nassert total([-4]) == -4",
    "window": "assert window([1, 2, 3], 2) == [[1, 2], [2, 3]]\nassert window([1], 1) == [[1]]",
}


def _took_nothing_away(slip: Edit) -> bool:
    """Whether all can be had back: no edit knows a statement that was removed, or a function that became a variable."""
    called = {part.func.id for part in ast.walk(ast.parse(slip.source)) if isinstance(part, ast.Call)}
    return "removed" not in slip.what and called <= {"len", "max", "min", "range"}


@settings(max_examples=3, deadline=None, derandomize=True, phases=[Phase.generate])
@given(st.sampled_from(sorted(ORIGINALS)), st.integers(0, 10_000))
def test_what_was_broken_is_mended(name: str, number: int) -> None:
    """A function with a random slip, which took nothing away, is right again after one or two edits."""
    near = [edit for edit in edits(ORIGINALS[name]) if _took_nothing_away(edit)]
    broken = near[number % len(near)].source
    trial = Trial(CHECKS[name])
    candidates = [broken, *(edit.source for edit in itertools.islice(nearby(broken), 300))]
    assert asyncio.run(trial.first(candidates, seconds=0.3)) is not None, broken


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(sorted(ORIGINALS)), st.data())
def test_an_edit_of_an_edit_leads_back(name: str, data: st.DataObject) -> None:
    """No edit gives the program itself, and each says what it did and where."""
    source = ast.unparse(ast.parse(ORIGINALS[name])) + "\n"
    all_edits = list(edits(source))
    edit = data.draw(st.sampled_from(all_edits))
    assert edit.source != source
    assert edit.what
    assert 1 <= edit.line <= source.count("\n")


def test_an_edit_is_made_when_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks for one edit does not wait for all that there are."""
    written = []
    unparse = ast.unparse
    monkeypatch.setattr(ast, "unparse", lambda node: written.append(node) or unparse(node))
    assert next(nearby("\n".join(ORIGINALS.values()))).source
    assert len([node for node in written if isinstance(node, ast.Module)]) == 2


async def test_edits_of_long_code_hold_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Edits are made in a thread, each when it is tried, and no more of them once the time is over."""
    code = "\n".join(ORIGINALS["clamp"].replace("clamp", f"clamp{number}") for number in range(20))
    threads = set()
    made = 0

    def noted(source: str) -> Iterator[Edit]:
        nonlocal made
        for edit in nearby(source):
            threads.add(threading.current_thread())
            made += 1
            yield edit

    async def say(*_: object, **__: object) -> None:
        pass

    monkeypatch.setattr(reviewfix, "nearby", noted)

    async def none(*_: object) -> None:
        while asyncio.get_running_loop().time() < end:  # noqa: ASYNC110 - it is the time that passes
            await asyncio.sleep(0)

    monkeypatch.setattr(Trial, "first", none)
    step: Any = SimpleNamespace(agent=say, progress=say)
    end = asyncio.get_running_loop().time() + 0.2
    assert await reviewfix._edited(step, {"code": code, "tests": "assert clamp0(1, 2, 3) == 0"}, 0.1) is None
    assert made == 40
    assert threading.current_thread() not in threads
