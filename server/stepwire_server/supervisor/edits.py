"""Small edits of code, the likely ones first: what turns a slip into what was meant."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping

__all__ = ["Edit", "edits", "nearby"]

Change = Callable[[ast.AST], ast.AST | list[ast.stmt]]

_COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.Gt, ast.GtE),
    ast.LtE: (ast.Lt, ast.GtE, ast.Gt),
    ast.Gt: (ast.GtE, ast.Lt, ast.LtE),
    ast.GtE: (ast.Gt, ast.LtE, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
}
_OPERATORS: dict[type[ast.operator], tuple[type[ast.operator], ...]] = {
    ast.Add: (ast.Sub, ast.Mult),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Add, ast.Pow, ast.FloorDiv),
    ast.Div: (ast.FloorDiv, ast.Mult),
    ast.FloorDiv: (ast.Div, ast.Mod, ast.Mult),
    ast.Mod: (ast.FloorDiv,),
    ast.Pow: (ast.Mult,),
}
_NAMESAKES = {
    "max": "min",
    "min": "max",
    "all": "any",
    "any": "all",
    "upper": "lower",
    "lower": "upper",
    "append": "extend",
    "extend": "append",
    "lstrip": "rstrip",
    "rstrip": "lstrip",
    "startswith": "endswith",
    "endswith": "startswith",
}


class Edit:
    """One small edit of a program."""

    __slots__ = ("line", "source", "what")

    def __init__(self, source: str, what: str, line: int) -> None:
        self.source = source
        """The whole program after it."""
        self.what = what
        """What was done, in words."""
        self.line = line


def edits(source: str) -> Iterator[Edit]:
    """Gives all programs that are one edit away, each once, and makes each when it is asked for. Raises SyntaxError for
    what is no Python.
    """
    tree = ast.parse(source)
    seen = {ast.unparse(tree)}
    variables = _in_reach(tree)
    found = [
        (rank, place, what, change)
        for place, node in enumerate(ast.walk(tree))
        for rank, what, change in _of(node, variables)
    ]
    for _, place, what, change in sorted(found, key=lambda each: each[:2]):
        edited = ast.parse(source)  # Much quicker than a copy.
        node = next(node for number, node in enumerate(ast.walk(edited)) if number == place)
        line = getattr(node, "lineno", 0)
        replacement = change(node)
        if replacement is not node:
            _Replacing(node, replacement).visit(edited)
        try:
            text = ast.unparse(ast.fix_missing_locations(edited))
        except (ValueError, RecursionError):
            continue
        if text not in seen:
            seen.add(text)
            yield Edit(_in_place(source, node, replacement, edited) or text + "\n", what, line)


def nearby(source: str) -> Iterator[Edit]:
    """Gives what is one edit away, and then what is two away. Raises SyntaxError."""
    first = []
    for edit in edits(source):
        first.append(edit)
        yield edit
    seen = {edit.source for edit in first} | {source}
    for one in first:
        for two in edits(one.source):
            if two.source not in seen:
                seen.add(two.source)
                yield Edit(two.source, f"{one.what}; line {two.line}: {two.what}", one.line)


def _in_place(source: str, node: ast.AST, replacement: ast.AST | list[ast.stmt], edited: ast.Module) -> str:
    """Returns the source with this one place changed, comments and all else as it was; nothing where the edit is larger
    than one line, or what is written there would mean something else.
    """
    if isinstance(node, ast.If | ast.While) and isinstance(node.test, ast.UnaryOp):
        replacement = node.test
        node = replacement.operand
    if isinstance(replacement, list) or not isinstance(node, ast.expr | ast.stmt):
        return ""
    if node.lineno != node.end_lineno or node.end_col_offset is None:
        return ""
    lines = source.splitlines(keepends=True)
    line = lines[node.lineno - 1].encode()
    before, after = line[: node.col_offset].decode(), line[node.end_col_offset :].decode()
    wanted = ast.dump(edited)
    for written in (ast.unparse(replacement), f"({ast.unparse(replacement)})"):
        text = "".join([*lines[: node.lineno - 1], before, written, after, *lines[node.lineno :]])
        try:
            if ast.dump(ast.parse(text)) == wanted:
                return text
        except SyntaxError:
            continue
    return ""


class _Replacing(ast.NodeTransformer):
    """Puts something in the place of a node."""

    def __init__(self, node: ast.AST, replacement: ast.AST | list[ast.stmt]) -> None:
        self._node = node
        self._replacement = replacement

    def visit(self, node: ast.AST) -> ast.AST | list[ast.stmt]:
        return self._replacement if node is self._node else self.generic_visit(node)


def _of(node: ast.AST, variables: Mapping[ast.AST, list[str]]) -> Iterator[tuple[int, str, Change]]:
    """Gives a node's edits with their ranks: the lowest is the likeliest."""
    match node:
        case ast.Compare(ops=[operator]):
            for other in _COMPARISONS.get(type(operator), ()):
                yield 0, f"another comparison: {_sign(operator)} became {_sign(other())}", _set("ops", [other()])
        case ast.BinOp(op=operator):
            yield from _operators(operator)
            if isinstance(operator, ast.Sub | ast.Div | ast.FloorDiv | ast.Mod):
                yield 2, "operands swapped", lambda n: ast.BinOp(n.right, n.op, n.left)  # type: ignore[attr-defined]
        case ast.AugAssign(op=operator):
            yield from _operators(operator)
        case ast.BoolOp(op=ast.And()):
            yield 1, "and became or", _set("op", ast.Or())
        case ast.BoolOp(op=ast.Or()):
            yield 1, "or became and", _set("op", ast.And())
        case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=_):
            yield 1, "a sign or not removed", lambda n: n.operand  # type: ignore[attr-defined]
        case ast.Constant(value=bool() as value):
            yield 1, f"{value} became {not value}", _set("value", not value)
        case ast.Constant(value=int() as value):
            for other_value in dict.fromkeys((value + 1, value - 1, 0, 1, 2, -value)):
                if other_value != value:
                    yield 1, f"{value} became {other_value}", _set("value", other_value)
        case ast.Constant(value=str() as text):
            for other_text in ("", " ", text.strip(), text.lower()):
                if other_text != text:
                    yield 4, f"{text!r} became {other_text!r}", _set("value", other_text)
        case ast.Name(id=name, ctx=ast.Load()):
            yield from _names(name, variables.get(node, []))
        case ast.Attribute(attr=name) if name in _NAMESAKES:
            yield 1, f"{name} became {_NAMESAKES[name]}", _set("attr", _NAMESAKES[name])
        case ast.Call(args=arguments):
            for place in range(len(arguments) - 1):
                yield 2, "arguments swapped", lambda n, place=place: _swapped(n, place)  # type: ignore[misc]
            for place in range(len(arguments)):
                for sign in (1, -1):
                    yield 3, f"an argument {sign:+d}", lambda n, p=place, s=sign: _shifted(n, p, s)  # type: ignore[misc]
        case ast.If() | ast.While() | ast.IfExp():
            yield 2, "a condition turned round", lambda n: _turned(n)
        case ast.Return(value=ast.expr()):
            for sign in (1, -1):
                yield 3, f"the result {sign:+d}", lambda n, s=sign: ast.Return(_plus(n.value, s))  # type: ignore[misc]
        case ast.Expr(value=value) if not isinstance(value, ast.Constant):
            yield 0, "a missing return", lambda n: ast.Return(n.value)  # type: ignore[attr-defined]
        case ast.FunctionDef():
            yield from _of_function(node)
        case ast.For(body=body) | ast.While(body=body) if isinstance(body[-1], ast.Return) and len(body) > 1:
            yield 1, "a return moved out of its loop", _moved_out
    if isinstance(node, ast.Assign | ast.AugAssign | ast.Break):
        yield 5, "a statement removed", lambda n: ast.Pass()


def _operators(operator: ast.operator) -> Iterator[tuple[int, str, Change]]:
    for other in _OPERATORS.get(type(operator), ()):
        yield 0, f"another operator: {_sign(operator)} became {_sign(other())}", _set("op", other())


def _names(name: str, others: list[str]) -> Iterator[tuple[int, str, Change]]:
    if name in _NAMESAKES:
        yield 1, f"{name} became {_NAMESAKES[name]}", _set("id", _NAMESAKES[name])
    for other in others:
        if other != name:
            yield 2, f"{name} became {other}", _set("id", other)


def _of_function(node: ast.FunctionDef) -> Iterator[tuple[int, str, Change]]:
    if not isinstance(node.body[-1], ast.Return):
        for name in reversed(_variables(node)):
            yield 1, f"a missing return of {name}", lambda n, name=name: _returning(n, name)  # type: ignore[misc]


def _in_reach(tree: ast.Module) -> dict[ast.AST, list[str]]:
    """Returns the variables of the functions that each name stands in, those of the outermost first."""
    found: dict[ast.AST, list[str]] = {}
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef):
            variables = _variables(function)
            for part in ast.walk(function):
                if isinstance(part, ast.Name):
                    found.setdefault(part, []).extend(variables)
    return found


def _variables(function: ast.FunctionDef) -> list[str]:
    names = [argument.arg for argument in function.args.args]
    names += [part.id for part in ast.walk(function) if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)]
    return list(dict.fromkeys(names))


def _set(field: str, value: object) -> Change:
    def change(node: ast.AST) -> ast.AST:
        setattr(node, field, value)
        return node

    return change


def _swapped(node: ast.AST, place: int) -> ast.AST:
    assert isinstance(node, ast.Call)
    node.args[place], node.args[place + 1] = node.args[place + 1], node.args[place]
    return node


def _shifted(node: ast.AST, place: int, sign: int) -> ast.AST:
    assert isinstance(node, ast.Call)
    node.args[place] = _plus(node.args[place], sign)
    return node


def _plus(node: ast.expr, sign: int) -> ast.expr:
    return ast.BinOp(node, ast.Add() if sign > 0 else ast.Sub(), ast.Constant(1))


def _turned(node: ast.AST) -> ast.AST:
    assert isinstance(node, ast.If | ast.While | ast.IfExp)
    node.test = ast.UnaryOp(ast.Not(), node.test)
    return node


def _returning(node: ast.AST, name: str) -> ast.AST:
    assert isinstance(node, ast.FunctionDef)
    node.body.append(ast.Return(ast.Name(name, ast.Load())))
    return node


def _moved_out(node: ast.AST) -> list[ast.stmt]:
    assert isinstance(node, ast.For | ast.While)
    return [node, node.body.pop()]


def _sign(operator: ast.AST) -> str:
    if isinstance(operator, ast.cmpop):
        return ast.unparse(ast.Compare(ast.Name("a"), [operator], [ast.Name("b")]))[2:-2]
    assert isinstance(operator, ast.operator)
    return ast.unparse(ast.BinOp(ast.Name("a"), operator, ast.Name("b")))[2:-2]
