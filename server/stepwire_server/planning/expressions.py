"""Arithmetic as people write it, in English and German, rewritten for the tool `calculate`.

20 mal (it + total)   ->   20 * ((${it}) + (${name:total}))
"""

from __future__ import annotations

import ast
import re

__all__ = ["NAME", "Unclear", "expression", "reference"]

NAME = r"[^\W\d]\w{0,39}"
"""What a result may be called."""

_FUNCTIONS = frozenset({"abs", "ceil", "floor", "max", "min", "round", "sqrt", "sum"})
"""What `calculate` knows by name."""

_IT = (
    r"(?:the )?(?:last |previous )?result(?: before)?|the last one|it|that|this|"
    r"(?:(?:das|dem) )?(?:letzten? |letztes |vorigen? )?ergebnis(?: davor| zuvor)?|es|das|ihm|ihn|ihr"
)
_BEFORE = r"the result before (?:that|it|this)|the one before|(?:das|dem) vorletzten? ergebnis"

_RESERVED = frozenset(
    [
        *("and", "und", "or", "oder", "to", "zu", "from", "von", "by", "durch", "of", "with", "mit", "then", "dann"),
        *("is", "ist", "was", "war", "what", "the", "a", "an", "please", "bitte", "not", "in", "if", "else", "for"),
        *(
            "days",
            "tage",
            "weeks",
            "wochen",
            "months",
            "monate",
            "years",
            "jahre",
            "lambda",
            "today",
            "heute",
            "result",
        ),
    ]
)
"""What no result is called: a request could not be told apart."""

_OPERATORS = {
    "**": r"\bto the power of\b|\bhoch\b|\^|\*\*",
    "/": r"\bdivided by\b|\bgeteilt durch\b|÷",
    "+": r"\bplus\b",
    "-": r"\bminus\b|−|–",  # noqa: RUF001 - people write these
    "*": r"\btimes\b|\bmultiplied by\b|\bmal\b|×|·",  # noqa: RUF001 - likewise
    "%": r"\bmodulo\b|\bmod\b",
}
"""What stands for an operator."""

_TOKEN = re.compile(
    rf"""(?P<space>\s+)
    |(?P<comma>\d+,\d)
    |(?P<number>(?:\d+(?:\.\d+)?|\.\d+)(?:e[+-]?\d+)?(?![\w.]))
    |(?P<before>\b(?:{_BEFORE.replace(" ", chr(92) + " ")})\b)
    |(?P<it>\b(?:{_IT.replace(" ", chr(92) + " ")})\b)
    |(?P<operator>{"|".join(_OPERATORS.values()).replace(" ", chr(92) + " ")})
    |(?P<sign>//|[-+*/%(),])
    |(?P<name>{NAME})""",
    re.VERBOSE | re.IGNORECASE,
)


class Unclear(ValueError):
    """It can be guessed what is meant, which would not do. The text says how to write it."""


def reference(text: str) -> str:
    """Returns what stands for a result that a text refers to, such as `${it}` for "the result before"; nothing where it
    refers to none.
    """
    if re.fullmatch(_BEFORE, text, re.IGNORECASE):
        return "${before}"
    if re.fullmatch(_IT, text, re.IGNORECASE):
        return "${it}"
    name = text.casefold()
    if re.fullmatch(NAME, text) and name not in _FUNCTIONS | _RESERVED:
        return f"${{name:{name}}}"
    return ""


def expression(text: str) -> str:
    """Returns arithmetic as `calculate` reads it, results that it refers to as `reference` gives them; nothing where it
    is none. Raises Unclear.
    """
    dated = re.search(r"\b\d{4}-\d{2}-\d{2}\b", text)
    if dated:
        # It would read as a difference.
        raise Unclear(
            f"{dated.group()} is a date: {dated.group()} + 5 days, or days from {dated.group()} to 2030-01-01"
        )
    text = re.sub(r"(\d+(?:\.\d+)?)\s*%\s*(?:of|von)\s+", r"(\1 / 100) * ", text, flags=re.IGNORECASE)
    written: list[str] = []
    checked: list[str] = []
    place = depth = 0
    while place < len(text):
        found = _TOKEN.match(text, place)
        if found is None:
            return ""
        kind, token = str(found.lastgroup), found.group()
        place = found.end()
        match kind:
            case "space":
                continue
            case "comma" if not depth:
                raise Unclear(f"{token!r} may be a decimal or thousands: write 3.5 and 1000")
            case "comma":
                # In a function's parentheses it stands between two numbers.
                place = found.start() + token.index(",")
                written.append(token[: token.index(",")])
                checked.append("1")
                continue
            case "operator":
                token = next(sign for sign, words in _OPERATORS.items() if re.fullmatch(words, token, re.IGNORECASE))
            case "before" | "it":
                token = f"(${{{kind}}})"
            case "name" if token.casefold() in _FUNCTIONS and text[place:].lstrip().startswith("("):
                token = token.casefold()
            case "name":
                token = reference(token)
                if not token:
                    return ""
                token = f"({token})"
            case _:
                depth += (token == "(") - (token == ")")
        written.append(token)
        checked.append("(1)" if token.startswith("(${") else token)
    return " ".join(written) if _is_arithmetic(" ".join(checked)) else ""


def _is_arithmetic(text: str) -> bool:
    """Tells whether a text can be read as sums of numbers. What they come to is the tool's business."""
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    allowed = (ast.Expression, ast.BinOp, ast.UnaryOp, ast.operator, ast.unaryop, ast.Constant, ast.Name, ast.Load)
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            if not node.args or node.keywords:
                return False
        elif not isinstance(node, allowed):
            return False
        if isinstance(node, ast.Name) and id(node) not in called:
            return False
        if isinstance(node, ast.Call) and not isinstance(node.func, ast.Name):
            return False
    return True
