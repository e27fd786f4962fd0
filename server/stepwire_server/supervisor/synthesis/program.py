"""Writes a term down as the Python that a person would write."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from contextlib import suppress

from stepwire_server.supervisor.synthesis.bank import Loop, Term
from stepwire_server.supervisor.synthesis.branching import Branch

__all__ = ["expression", "function"]


def function(name: str, parameters: Sequence[str], body: Branch | Term, *, summary: str = "") -> str:
    """Returns the source of a function: a line, or a chain of ifs."""
    lines = [f"def {name}({', '.join(parameters)}):"]
    if summary:
        lines.append(f"    {_docstring(summary)}")
    lines += _decided(body, "    ")
    source = "\n".join(lines) + "\n"
    return f"import math\n\n\n{source}" if re.search(r"\bmath\.", source) else source


def _decided(body: Branch | Term, indent: str) -> list[str]:
    """Returns the lines of a decision: what is short comes first, and the rest needs no `else`."""
    if isinstance(body, Term):
        return [f"{indent}return {expression(body)}"]
    first, rest = body.then, body.otherwise
    test = _tree(body.test)
    if isinstance(first, Branch) and isinstance(rest, Term):
        first, rest, test = rest, first, _negated(test)
    return [f"{indent}if {_written(test)}:", *_decided(first, f"{indent}    "), *_decided(rest, indent)]


def expression(body: Term) -> str:
    """Returns the source of an expression."""
    return _written(_tree(body))


def _written(tree: ast.expr) -> str:
    return _lean(ast.unparse(ast.fix_missing_locations(_Tidied().visit(tree))))


def _lean(text: str) -> str:
    """Leaves out the parentheses that change nothing, such as the second ones of `sum((x for x in items))`."""
    wanted = ast.dump(ast.parse(text, mode="eval"))
    place = text.find("((")
    while place >= 0:
        for end in range(text.find("))", place), len(text) - 1):
            if text[end : end + 2] == "))":
                leaner = f"{text[: place + 1]}{text[place + 2 : end]}{text[end + 1 :]}"
                with suppress(SyntaxError):
                    if ast.dump(ast.parse(leaner, mode="eval")) == wanted:
                        text = leaner
                        break
        place = text.find("((", place + 1)
    return text


def _docstring(text: str) -> str:
    words = " ".join(text.split()).replace("\\", "\\\\").replace('"', "'")
    return f'"""{words[:100]}"""'


def _tree(body: Term) -> ast.expr:
    if isinstance(body.made, str):
        return ast.parse(body.made, mode="eval").body
    if isinstance(body.made, Loop):
        return _comprehension(body.made)
    operands = {f"_{place}": _tree(operand) for place, operand in enumerate(body.operands)}
    return _Filled(operands).visit(_parsed(body.made.template))  # type: ignore[no-any-return]


def _parsed(template: str) -> ast.expr:
    return ast.parse(template, mode="eval").body


def _comprehension(loop: Loop) -> ast.expr:
    names: list[ast.expr] = [ast.Name(name, ast.Store()) for name in loop.names]
    if len(names) == 1:
        target, source = names[0], _tree(loop.sources[0])
    else:
        target = ast.Tuple(names, ast.Store())
        source = ast.Call(ast.Name("zip", ast.Load()), [_tree(source) for source in loop.sources], [])
    item = ast.Name(loop.names[0], ast.Load()) if loop.body is None else _tree(loop.body)
    conditions = [] if loop.condition is None else [_tree(loop.condition)]
    return ast.ListComp(item, [ast.comprehension(target, source, conditions, 0)])


def _negated(test: ast.expr) -> ast.expr:
    return ast.UnaryOp(ast.Not(), test)


class _Filled(ast.NodeTransformer):
    """Puts operands into a template."""

    def __init__(self, operands: dict[str, ast.expr]) -> None:
        self._operands = operands

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self._operands.get(node.id, node)


_OPPOSITE: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq,
    ast.Lt: ast.GtE,
    ast.LtE: ast.Gt,
    ast.In: ast.NotIn,
}
_TAKES_ALL = frozenset({"sum", "all", "any", "max", "min", "sorted", "set", "join", "prod", "fromkeys"})


class _Tidied(ast.NodeTransformer):
    """Says the same as a person would: `x > 0` for `0 < x`, `a != b` for `not a == b`, no list where none is needed."""

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.expr:
        self.generic_visit(node)
        inner = node.operand
        if isinstance(node.op, ast.Not) and isinstance(inner, ast.Compare) and type(inner.ops[0]) in _OPPOSITE:
            return self.visit_Compare(ast.Compare(inner.left, [_OPPOSITE[type(inner.ops[0])]()], inner.comparators))
        return node

    def visit_Compare(self, node: ast.Compare) -> ast.expr:
        self.generic_visit(node)
        turned = {ast.Lt: ast.Gt, ast.LtE: ast.GtE, ast.Eq: ast.Eq}.get(type(node.ops[0]))
        if turned and isinstance(node.left, ast.Constant) and not isinstance(node.comparators[0], ast.Constant):
            return ast.Compare(node.comparators[0], [turned()], [node.left])
        return node

    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name in _TAKES_ALL and len(node.args) == 1 and isinstance(node.args[0], ast.ListComp):
            node.args = [ast.GeneratorExp(node.args[0].elt, node.args[0].generators)]
        elif name in _TAKES_ALL and node.args and _is_list_call(node.args[0]):
            node.args[0] = node.args[0].args[0]  # type: ignore[attr-defined]
        return node

    def visit_comprehension(self, node: ast.comprehension) -> ast.comprehension:
        self.generic_visit(node)
        if _is_list_call(node.iter):
            node.iter = node.iter.args[0]  # type: ignore[attr-defined]
        return node


def _is_list_call(node: ast.expr) -> bool:
    """Returns whether it is list(...) of something that can be gone over itself."""
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "list" and bool(node.args)
