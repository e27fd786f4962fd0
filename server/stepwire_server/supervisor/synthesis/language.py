"""What programs are made of: each operation is a template of Python, which is executed as it will be written."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from stepwire_server.supervisor.synthesis.values import ELEMENTS

__all__ = ["NAMES", "Operation", "operations"]

_LONG = 200


def _few(count: int) -> int:
    """Returns a count that a text may be repeated, or a list have. Raises ValueError above."""
    if count > _LONG:
        raise ValueError("too many")
    return count


def _power(base: float, exponent: float) -> Any:
    if not 0 <= exponent <= 40 or abs(base) > 1_000_000:
        raise ValueError("too large, or no whole number")
    return base**exponent


NAMES: dict[str, Any] = {"math": math, "_few": _few, "_power": _power}
"""What templates may name beside builtins."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One way to make a term of others."""

    template: str
    """How it is written; its operands are _0, _1, ..."""
    takes: tuple[str, ...]
    gives: str
    cost: int = 1
    commutes: bool = False
    """Whether the order of two operands of one type makes no difference."""
    safe: str = ""
    """How it is executed while searching, where the template could take all memory."""

    def vectored(self) -> Callable[..., list[Any]]:
        """Returns a function of lists, one for each operand, that gives the results row by row."""
        return _compiled(self.safe or self.template, len(self.takes))


@cache
def _compiled(template: str, arity: int) -> Callable[..., list[Any]]:
    operands = [f"_{place}" for place in range(arity)]
    lists = [f"A{place}" for place in range(arity)]
    rows = f"for {operands[0]} in A0" if arity == 1 else f"for {', '.join(operands)} in zip({', '.join(lists)})"
    made: Callable[..., list[Any]] = eval(f"lambda {', '.join(lists)}: [{template} {rows}]", NAMES)
    return made


def operations(kinds: frozenset[str]) -> list[Operation]:
    """Returns the operations that make sense where values of these types occur."""
    has_text = any("str" in kind for kind in kinds)
    has_floats = any("float" in kind for kind in kinds)
    has_lists = any(kind.startswith("list") for kind in kinds)
    found = [*_numbers(has_floats), *_logic(has_text)]
    if has_text:
        found += _texts()
    if has_text or has_lists or "int" in kinds:
        for kind in ELEMENTS:
            if kind in {"int", "bool"} or (kind == "str" and has_text) or (kind == "float" and has_floats):
                found += _lists(kind)
        found.append(Operation("list(range(_0))", ("int",), "list[int]", 2, safe="list(range(_few(_0)))"))
        found.append(Operation("list(range(1, _0 + 1))", ("int",), "list[int]", 3, safe="list(range(1, _few(_0) + 1))"))
    if "list[list[int]]" in kinds:
        found += _lists("list[int]")
        found.append(Operation("[y for x in _0 for y in x]", ("list[list[int]]",), "list[int]", 2))
    return found


def _numbers(has_floats: bool) -> Iterator[Operation]:
    pairs = [("int", "int")]
    if has_floats:
        pairs += [("float", "float"), ("float", "int"), ("int", "float")]
    for one, two in pairs:
        both, same = (one, two), one == two
        gives = "int" if both == ("int", "int") else "float"
        # a + b and b + a are one term: of mixed types, one order is enough.
        if both != ("int", "float"):
            yield Operation("_0 + _1", both, gives, commutes=same)
            yield Operation("_0 * _1", both, gives, commutes=same)
            yield Operation("max(_0, _1)", both, gives, commutes=same)
            yield Operation("min(_0, _1)", both, gives, commutes=same)
        yield Operation("_0 - _1", both, gives)
        yield Operation("_0 // _1", both, gives)
        yield Operation("_0 % _1", both, gives)
        if has_floats:
            yield Operation("_0 / _1", both, "float")
    yield Operation("_0 ** _1", ("int", "int"), "int", 2, safe="_power(_0, _1)")
    for kind in ("int", "float") if has_floats else ("int",):
        yield Operation("-_0", (kind,), kind)
        yield Operation("abs(_0)", (kind,), kind)
    if has_floats:
        yield Operation("round(_0)", ("float",), "int")
        yield Operation("int(_0)", ("float",), "int")
        yield Operation("round(_0, _1)", ("float", "int"), "float", 2)


def _logic(has_text: bool) -> Iterator[Operation]:
    kinds = ("int", "float", "str") if has_text else ("int", "float")
    for kind in kinds:
        yield Operation("_0 == _1", (kind, kind), "bool", commutes=True)
        yield Operation("_0 < _1", (kind, kind), "bool")
        yield Operation("_0 <= _1", (kind, kind), "bool")
    yield Operation("_0 % _1 == 0", ("int", "int"), "bool")
    yield Operation("_0 and _1", ("bool", "bool"), "bool", commutes=True)
    yield Operation("_0 or _1", ("bool", "bool"), "bool", commutes=True)
    yield Operation("not _0", ("bool",), "bool")


def _texts() -> Iterator[Operation]:
    for method in ("upper", "lower", "strip"):
        yield Operation(f"_0.{method}()", ("str",), "str")
    for method in ("title", "capitalize", "swapcase"):
        yield Operation(f"_0.{method}()", ("str",), "str", 2)
    for method in ("isdigit", "isalpha", "isupper", "islower", "isalnum", "isspace"):
        yield Operation(f"_0.{method}()", ("str",), "bool", 2)
    yield Operation("_0 + _1", ("str", "str"), "str")
    yield Operation("_0 * _1", ("str", "int"), "str", safe="_0 * _few(_1)")
    yield Operation("_0[::-1]", ("str",), "str")
    yield Operation("len(_0)", ("str",), "int")
    yield Operation("_0[_1]", ("str", "int"), "str")
    yield Operation("_0[_1:]", ("str", "int"), "str")
    yield Operation("_0[:_1]", ("str", "int"), "str")
    yield Operation("_0[::_1]", ("str", "int"), "str", 2)
    yield Operation("_0.split()", ("str",), "list[str]")
    yield Operation("_0.split(_1)", ("str", "str"), "list[str]", 2)
    yield Operation("_1.join(_0)", ("list[str]", "str"), "str")
    yield Operation("''.join(sorted(_0))", ("str",), "str", 2)
    yield Operation("_0.replace(_1, _2)", ("str", "str", "str"), "str", 2)
    yield Operation("_0.count(_1)", ("str", "str"), "int")
    yield Operation("_1 in _0", ("str", "str"), "bool")
    yield Operation("_0.startswith(_1)", ("str", "str"), "bool")
    yield Operation("_0.endswith(_1)", ("str", "str"), "bool")
    yield Operation("_0.find(_1)", ("str", "str"), "int", 2)
    yield Operation("len(set(_0))", ("str",), "int", 2)
    yield Operation("str(_0)", ("int",), "str")
    yield Operation("int(_0)", ("str",), "int")
    yield Operation("ord(_0)", ("str",), "int")
    yield Operation("chr(_0)", ("int",), "str")


def _lists(kind: str) -> Iterator[Operation]:
    whole = f"list[{kind}]"
    yield Operation("len(_0)", (whole,), "int")
    yield Operation("_0[::-1]", (whole,), whole)
    yield Operation("_0[_1]", (whole, "int"), kind)
    yield Operation("_0[_1:]", (whole, "int"), whole)
    yield Operation("_0[:_1]", (whole, "int"), whole)
    yield Operation("_0 == _1", (whole, whole), "bool", commutes=True)
    yield Operation("_0 + _1", (whole, whole), whole)
    yield Operation("[_0]", (kind,), whole, 2)
    if kind == "bool":
        yield Operation("all(_0)", (whole,), "bool")
        yield Operation("any(_0)", (whole,), "bool")
        return
    yield Operation("sorted(_0)", (whole,), whole)
    yield Operation("max(_0)", (whole,), kind)
    yield Operation("min(_0)", (whole,), kind)
    yield Operation("_0.count(_1)", (whole, kind), "int", 2)
    yield Operation("_1 in _0", (whole, kind), "bool")
    if kind.startswith("list"):
        return
    yield Operation("_0[::_1]", (whole, "int"), whole, 2)
    yield Operation("_0.index(_1)", (whole, kind), "int", 2)
    yield Operation("list(dict.fromkeys(_0))", (whole,), whole, 2)
    yield Operation("sorted(set(_0))", (whole,), whole, 2)
    yield Operation("len(set(_0))", (whole,), "int", 2)
    if kind == "str":
        yield Operation("max(_0, key=len)", (whole,), kind, 2)
        yield Operation("min(_0, key=len)", (whole,), kind, 2)
        yield Operation("sorted(_0, key=len)", (whole,), whole, 2)
    else:
        yield Operation("sum(_0)", (whole,), kind)
        yield Operation("math.prod(_0)", (whole,), kind, 2)
