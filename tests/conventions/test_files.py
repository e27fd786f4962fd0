"""What stands in no file: paths of a machine, registries' addresses, emoji; and what every test has."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from .tree import ROOT, TESTS, parse, tracked

# Put together here, so that this file has none of them.
_SLASH = "/"
MACHINE = re.compile(
    "|".join(
        [
            _SLASH + r"(?:work|root|mnt)" + _SLASH + r"\w",
            _SLASH + r"home" + _SLASH + r"\w+" + _SLASH,
            _SLASH + r"Users" + _SLASH + r"\w+" + _SLASH,
            r"\b[A-Z]:\\Users",
        ]
    )
)
REGISTRY = re.compile(r"index-" r"url|pypi\." r"org|python" r"hosted\.org|proxy\." r"golang\.org")
EMOJI = re.compile("[\U0001f000-\U0001faff\u2600-\u26ff\u2705\u2728\u274c\u2757\ufe0f]")


NOT_RUN = ROOT / "tests/e2e/serving.py"
"""Where a test is reported as not run, and as failed where everything is required."""


def _texts() -> list[tuple[Path, str]]:
    found = []
    for path in tracked():
        try:
            found.append((path, path.read_text(encoding="utf-8")))
        except UnicodeDecodeError:
            continue
    assert len(found) > 50
    return found


@pytest.mark.parametrize("pattern", [MACHINE, REGISTRY, EMOJI], ids=["machine", "registry", "emoji"])
def test_what_no_file_has(pattern: re.Pattern[str]) -> None:
    """No tracked file has a path of somebody's machine, a package registry's address, or an emoji."""
    found = [
        f"{path.relative_to(ROOT)}:{text.count(chr(10), 0, hit.start()) + 1}: {hit.group()!r}"
        for path, text in _texts()
        for hit in pattern.finditer(text)
    ]
    assert found == []


def test_files_end_with_one_line_feed() -> None:
    """Every text file that is not empty ends with exactly one line feed, and has no carriage return."""
    for path, text in _texts():
        if text and path.suffix in {".py", ".md", ".proto", ".toml", ".yaml"}:
            assert text.endswith("\n"), path
            assert not text.endswith("\n\n"), path
            assert "\r" not in text, path


def _tests() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Gives every test, with where it stands."""
    for path in TESTS:
        for node in ast.walk(parse(path)) if path.name.startswith("test_") else ():
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name.startswith("test_"):
                yield f"{path.relative_to(ROOT)}:{node.lineno} {node.name}", node


def test_a_test_says_its_rule() -> None:
    """Every test has a docstring of one sentence: the rule."""
    tests = list(_tests())
    assert len(tests) > 1_000
    assert [f"{where}: {wrong}" for where, node in tests if (wrong := _no_rule(ast.get_docstring(node) or ""))] == []


def _no_rule(text: str) -> str:
    if not text:
        return "no docstring"
    if "\n\n" in text:
        return "more than a paragraph"
    if not text.endswith((".", '."')):
        return "not a sentence"
    # A full stop, then a capital letter, would begin another one.
    return "more than one sentence" if re.search(r"[a-z0-9)]\.\s+[A-Z]", text) else ""


def test_tests_do_not_sleep() -> None:
    """No test sleeps for a fixed time: it waits for what it needs, or lets the clock be passed in."""
    asleep = []
    for path in TESTS:
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.Call) and _called(node.func) in {"time.sleep", "asyncio.sleep", "sleep"}:
                [argument, *_] = node.args or [ast.Constant(value=0)]
                if isinstance(argument, ast.Constant) and argument.value > 0:
                    asleep.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert asleep == []


def _called(function: ast.expr) -> str:
    match function:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=ast.Name(id=module), attr=name):
            return f"{module}.{name}"
        case _:
            return ""


def test_what_is_not_run_is_reported_in_one_way() -> None:
    """A test that lacks a tool is left out by `not_run` alone, so that it fails where everything is required."""
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in TESTS
        if path != NOT_RUN
        for node in ast.walk(parse(path))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in {"pytest.skip", "pytest.importorskip"}
        and not ast.unparse(node).startswith("pytest.skip('only in the long run")
    ]
    assert found == []
