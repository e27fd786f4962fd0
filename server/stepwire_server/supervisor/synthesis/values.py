"""The types of values, as words: int, float, str, bool, none, list[int] ..."""

from __future__ import annotations

from typing import Any

__all__ = ["ELEMENTS", "Unsupported", "element_of", "type_of", "type_of_all"]

ELEMENTS = ("int", "float", "str", "bool")
"""What lists may have."""


class Unsupported(Exception):
    """A value of a type that is not searched for."""


def type_of(value: Any) -> str:
    """Returns the type of a value; "list[]" of an empty list. Raises Unsupported."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int"
    if isinstance(value, float):
        return "float"
    if isinstance(value, str):
        return "str"
    if isinstance(value, list):
        return f"list[{type_of_all(value)}]" if value else "list[]"
    raise Unsupported(f"values of type {type(value).__name__} are not searched for")


def type_of_all(values: list[Any]) -> str:
    """Returns the one type that all values have; ints among floats are floats. Raises Unsupported for a mixture."""
    found = {type_of(value) for value in values} - {"none"}
    if "list[]" in found and len(found) > 1:
        found.discard("list[]")
    if found == {"int", "float"}:
        return "float"
    if found == {"list[int]", "list[float]"}:
        return "list[float]"
    if len(found) > 1:
        raise Unsupported(f"values of several types in one place are not searched for: {', '.join(sorted(found))}")
    return found.pop() if found else "none"


def element_of(kind: str) -> str:
    """Returns what the items of a list or a text are; nothing where there are none."""
    if kind == "str":
        return "str"
    return kind[5:-1] if kind.startswith("list[") else ""
