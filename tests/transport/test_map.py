"""The table of what gRPC does is complete, and names tests that there are."""

from __future__ import annotations

import ast
import re

from tests.conventions.tree import ROOT, parse

README = ROOT / "tests" / "transport" / "README.md"
HERE = README.parent


def rows() -> list[list[str]]:
    """Returns the table's rows, as cells."""
    lines = [line for line in README.read_text("utf-8").splitlines() if re.match(r"\| \d", line)]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def written_in(path: str) -> set[str]:
    """Returns the names of a file's tests."""
    return {
        node.name
        for node in ast.walk(parse(ROOT / path))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name.startswith("test_")
    }


def test_every_row_is_there() -> None:
    """The rows are numbered from 1 to 34, without a hole, and each has a fact, an answer and a test."""
    assert [int(row[0]) for row in rows()] == list(range(1, 35))
    for row in rows():
        assert len(row) == 4, row
        assert all(row), row


def test_every_test_that_is_named_exists() -> None:
    """Every test that the table names is in the file that it names."""
    named = [name.partition("::") for row in rows() for name in row[3].split()]
    assert len(named) > 60
    missing = [f"{path}::{name}" for path, _, name in named if name not in written_in(path)]
    assert missing == []


def test_every_fact_has_its_row() -> None:
    """Every test of this folder that is about grpc or our answer to it stands in the table."""
    named = {name for row in rows() for name in row[3].split()}
    for path in sorted(HERE.glob("test_*.py")):
        if path.name != "test_map.py":
            place = str(path.relative_to(ROOT))
            assert {f"{place}::{name}" for name in written_in(place)} <= named
