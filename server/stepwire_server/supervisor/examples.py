"""What tests say of the function that is wanted: its name, its parameters, and examples of what it gives."""

from __future__ import annotations

import ast
import builtins
import keyword
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

__all__ = ["Examples", "read_examples"]

_ROUNDS = 2_000
"""Rounds of all the tests' loops that are read."""

_ROOM = 400_000
"""Characters of all examples together. Source has 100,000, of which names can make more."""

_NAMES = {"int": "n", "float": "x", "str": "text", "list": "items", "bool": "flag"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Examples:
    """What could be read without running anything."""

    name: str
    """The function that the tests call most; empty where they call none that they don't have."""
    parameters: tuple[str, ...]
    known: tuple[tuple[tuple[Any, ...], Any], ...]
    """Arguments, and what the function gives for them."""
    unread: int
    """Asserts that are no plain example of this function."""

    def signature(self) -> str:
        """Returns the function's head, with the types that the examples show."""
        if not self.known:
            return f"def {self.name}({', '.join(self.parameters)})"
        columns = zip(*(arguments for arguments, _ in self.known), strict=True)
        given = [f"{name}: {_hint(column)}" for name, column in zip(self.parameters, columns, strict=True)]
        return f"def {self.name}({', '.join(given)}) -> {_hint(wanted for _, wanted in self.known)}"


def read_examples(tree: ast.Module, code: ast.Module | None = None) -> Examples:
    """Reads the asserts of tests. `code`: what there is already; its parameters' names are taken."""
    own = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    asserts = list(_asserts(tree.body, {}, iter(range(_ROUNDS))))
    called = Counter(
        name
        for node, _ in asserts
        for call in ast.walk(node.test)
        if isinstance(call, ast.Call) and (name := _called(call)) and name not in own and not hasattr(builtins, name)
    )
    name = called.most_common(1)[0][0] if called else ""
    found = list(_small(example for node, names in asserts if (example := _example(node.test, name, names))))
    arities = Counter(len(arguments) for arguments, _ in found)
    arity = arities.most_common(1)[0][0] if arities else 0
    known = [example for example in found if len(example[0]) == arity]
    return Examples(
        name=name,
        parameters=_parameters(name, arity, known, code),
        known=tuple(known),
        unread=len(asserts) - len(known),
    )


def _asserts(
    body: list[ast.stmt], names: dict[str, Any], rounds: Iterator[int]
) -> Iterator[tuple[ast.Assert, dict[str, Any]]]:
    """Gives asserts with the values of plain names there; those of loops over literal lists once for each item, for as
    many rounds of all loops as there are.
    """
    names = dict(names)
    for node in body:
        match node:
            case ast.Assert():
                yield node, names
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                try:
                    names[name] = _literal(value, names)
                except ValueError:
                    names.pop(name, None)
            case ast.For(target=target, iter=rows, body=inner):
                try:
                    items = list(_literal(rows, names))
                    bound = [_bound(target, item) for item in items]
                except (ValueError, TypeError):
                    bound = [{}]
                for more, _ in zip(bound, rounds, strict=False):
                    yield from _asserts(inner, {**names, **more}, rounds)
            case ast.FunctionDef(body=inner):
                yield from _asserts(inner, names, rounds)


def _small(examples: Iterable[tuple[tuple[Any, ...], Any]]) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Gives examples until they are too large together: a list may have another a thousand times, and that a third."""
    room = _ROOM
    for example in examples:
        room = _room_after(example, room)
        if room < 0:
            return
        yield example


def _room_after(value: Any, room: int) -> int:
    """Returns what a value leaves of so many characters; as soon as that is nothing, it looks no further."""
    if isinstance(value, str | bytes):
        return room - len(value)
    room -= 1
    for item in value if isinstance(value, list | tuple) else ():
        if room < 0:
            break
        room = _room_after(item, room)
    return room


def _bound(target: ast.expr, value: Any) -> dict[str, Any]:
    match target:
        case ast.Name(id=name):
            return {name: value}
        case ast.Tuple(elts=parts) | ast.List(elts=parts):
            if len(parts) != len(value):
                raise ValueError("another number of values")
            return {
                key: item for part, each in zip(parts, value, strict=True) for key, item in _bound(part, each).items()
            }
    raise ValueError("no plain name")


def _example(test: ast.expr, name: str, names: dict[str, Any]) -> tuple[tuple[Any, ...], Any] | None:
    """Returns arguments and result where an assert is an example."""
    match test:
        case ast.Compare(left=left, ops=[ast.Eq() | ast.Is()], comparators=[right]):
            sides = [(left, right), (right, left)]
        case ast.UnaryOp(op=ast.Not(), operand=call):
            sides = [(call, ast.Constant(False))]
        case _:
            sides = [(test, ast.Constant(True))]
    for call, wanted in sides:
        if isinstance(call, ast.Call) and _called(call) == name and not call.keywords:
            try:
                return tuple(_literal(argument, names) for argument in call.args), _literal(wanted, names)
            except ValueError:
                return None
    return None


def _called(call: ast.Call) -> str:
    match call.func:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=ast.Name(id="solution"), attr=name):
            return name
    return ""


def _literal(node: ast.expr, names: dict[str, Any]) -> Any:
    """Returns the value of literals, names of such, and + - * of them. Raises ValueError for all else."""
    match node:
        case ast.Name(id=name) if name in names:
            return names[name]
        case ast.List(elts=items):
            return [_literal(item, names) for item in items]
        case ast.Tuple(elts=items):
            return tuple(_literal(item, names) for item in items)
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        raise ValueError("no literal") from None


def _parameters(
    name: str, arity: int, known: list[tuple[tuple[Any, ...], Any]], code: ast.Module | None
) -> tuple[str, ...]:
    for node in ast.walk(code) if code is not None else ():
        if isinstance(node, ast.FunctionDef) and node.name == name and len(node.args.args) == arity:
            return tuple(argument.arg for argument in node.args.args)
    made: list[str] = []
    for place in range(arity):
        kinds = {type(arguments[place]).__name__ for arguments, _ in known}
        wish = _NAMES.get(kinds.pop(), "value") if len(kinds) == 1 else "value"
        number = sum(part.rstrip("0123456789") == wish for part in made)
        made.append(f"{wish}{number + 1}" if number else wish)
    return tuple(f"{part}_" if part == name or keyword.iskeyword(part) else part for part in made)


def _hint(values: Any) -> str:
    kinds = {_kind(value) for value in values}
    if "list" in kinds and any(kind.startswith("list[") for kind in kinds):
        kinds.discard("list")
    return " | ".join(sorted(kinds, key=lambda kind: (kind == "None", kind)))


def _kind(value: Any) -> str:
    if value is None:
        return "None"
    if isinstance(value, list) and value:
        return f"list[{_hint(value)}]"
    return type(value).__name__
