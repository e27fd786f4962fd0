"""Arithmetic in decimal numbers, from a text that is parsed and not run: only sums are followed."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Context, Decimal, DecimalException, localcontext

from stepwire_server import Refused

__all__ = ["evaluate"]

_LONGEST = 1_000
_CONTEXT = Context(prec=50, Emin=-999, Emax=999)
"""50 digits, and nothing beyond 10^1000: so that no sum takes long."""

_PAIRS: Mapping[type[ast.operator], Callable[[Decimal, Decimal], Decimal]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: lambda a, b: (a - _modulo(a, b)) // b,
    ast.Mod: lambda a, b: _modulo(a, b),
    ast.Pow: operator.pow,
}


def _modulo(a: Decimal, b: Decimal) -> Decimal:
    """Returns the remainder with the divisor's sign, as in Python. Raises where the digits do not suffice for it."""
    rest = a % b
    return rest + b if rest and (rest < 0) != (b < 0) else rest


_SIGNS: Mapping[type[ast.unaryop], Callable[[Decimal], Decimal]] = {ast.UAdd: operator.pos, ast.USub: operator.neg}

_FUNCTIONS: Mapping[str, Callable[..., Decimal]] = {
    "abs": abs,
    "ceil": lambda a: a.to_integral_value(ROUND_CEILING),
    "floor": lambda a: a.to_integral_value(ROUND_FLOOR),
    "max": lambda *given: max(given),
    "min": lambda *given: min(given),
    "round": lambda a, digits=Decimal(0): a.quantize(Decimal(1).scaleb(-int(digits)), ROUND_HALF_EVEN),
    "sqrt": Decimal.sqrt,
    "sum": lambda *given: sum(given, Decimal(0)),
}


def evaluate(expression: str) -> Decimal:
    """Returns what an expression comes to, to 50 digits. Raises Refused, which says what can't be followed.

    Numbers, `+ - * / // % **`, parentheses, and abs, ceil, floor, max, min, round, sqrt and sum.
    """
    if len(expression) > _LONGEST:
        raise Refused(f"the expression has {len(expression):,} characters; at most {_LONGEST:,} are followed")
    try:
        # The digits as they stand there: a float would have lost some.
        tree = ast.parse(expression.strip(), mode="eval")
        with localcontext(_CONTEXT):
            return _value(tree.body, expression.strip()).normalize()
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        raise Refused("the expression can't be read as arithmetic, such as (2 + 3) * 4.5") from None
    except DecimalException as error:
        raise Refused(f"the expression has no value that can be given: {type(error).__name__}") from None


def _value(node: ast.expr, text: str) -> Decimal:
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return _CONTEXT.create_decimal((ast.get_source_segment(text, node) or str(number)).replace("_", ""))
        case ast.UnaryOp(op=sign, operand=operand) if type(sign) in _SIGNS:
            return _SIGNS[type(sign)](_value(operand, text))
        case ast.BinOp(left=left, op=pair, right=right) if type(pair) in _PAIRS:
            return _PAIRS[type(pair)](_value(left, text), _value(right, text))
        case ast.Call(func=ast.Name(id=name), args=[_, *_] as given, keywords=[]) if name in _FUNCTIONS:
            try:
                return _FUNCTIONS[name](*(_value(each, text) for each in given))
            except TypeError:
                raise Refused(f"{name} does not take {len(given)} numbers") from None
        case _:
            found = (ast.get_source_segment(text, node) or "")[:50]
            raise Refused(f"{found!r} is no number, sum or function that is followed: {', '.join(_FUNCTIONS)}")
