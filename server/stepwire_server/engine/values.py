"""Between Python values and protobuf's Struct and Value, within the bounds that every peer can read.

Bounds: nested at most 16 deep (some runtimes refuse a Struct at about 30 levels), no NaN and no infinity (JSON has
none), no whole number beyond 2^53 (a Value carries a double). Walks are loops, never recursion: the input may be
hostile.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from google.protobuf import struct_pb2
from pydantic_core import PydanticSerializationError, to_jsonable_python

from stepwire.errors import Violation

__all__ = [
    "MAX_DEPTH",
    "MAX_INTEGER",
    "ValueRefused",
    "check",
    "from_struct",
    "from_value",
    "point",
    "to_struct",
    "to_value",
]

MAX_DEPTH = 16
"""The deepest nesting of objects and lists. A plain value has depth 0."""

MAX_INTEGER = 2**53
"""The largest whole number that a double carries exactly."""


class ValueRefused(Exception):
    """A value is outside the bounds. `path` says where, `problem` what."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}" if path else problem)
        self.path = path
        self.problem = problem


def check(struct: struct_pb2.Struct, path: str) -> list[Violation]:
    """Returns everything in a received Struct that is out of bounds."""
    found: list[Violation] = []
    left: list[tuple[str, struct_pb2.Value, int]] = [
        (f"{path}.{key}", value, 1) for key, value in struct.fields.items()
    ]
    while left:
        where, value, depth = left.pop()
        kind = value.WhichOneof("kind")
        if kind == "number_value":
            problem = _number_problem(value.number_value)
            if problem:
                found.append(Violation(where, problem))
        elif kind in ("struct_value", "list_value"):
            if depth >= MAX_DEPTH:
                found.append(Violation(where, f"nested deeper than {MAX_DEPTH}"))
            elif kind == "struct_value":
                left += [(f"{where}.{key}", item, depth + 1) for key, item in value.struct_value.fields.items()]
            else:
                left += [(f"{where}[{i}]", item, depth + 1) for i, item in enumerate(value.list_value.values)]
        elif kind is None:
            found.append(Violation(where, "has no value; send null_value for null"))
    return found


def _number_problem(number: float) -> str:
    if not math.isfinite(number):
        return "is not a finite number"
    if abs(number) > MAX_INTEGER and number.is_integer():
        return "is a whole number beyond 2^53, which a double can't carry exactly; send it as a string"
    return ""


def from_struct(struct: struct_pb2.Struct) -> dict[str, Any]:
    """Returns the Struct as a dict. Integral doubles become int."""
    return {key: from_value(value) for key, value in struct.fields.items()}


def from_value(value: struct_pb2.Value) -> Any:
    """Returns the Value as dict, list, str, int, float, bool or None. Its depth must have been checked."""
    match value.WhichOneof("kind"):
        case "number_value":
            number = value.number_value
            return int(number) if number.is_integer() else number
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
        case "struct_value":
            return from_struct(value.struct_value)
        case "list_value":
            return [from_value(item) for item in value.list_value.values]
        case _:
            return None


def to_struct(values: Mapping[str, Any]) -> struct_pb2.Struct:
    """Returns a mapping as a Struct. Raises ValueRefused."""
    return to_value(dict(values)).struct_value


def to_value(value: Any) -> struct_pb2.Value:
    """Returns a Python value as a Value: JSON-like ones as they are; dataclasses, pydantic models, dates, enums, sets and
    the like as pydantic would write them to JSON. Raises ValueRefused.
    """
    result = struct_pb2.Value()
    left: list[tuple[str, Any, struct_pb2.Value, int]] = [("", value, result, 0)]
    while left:
        path, item, target, depth = left.pop()
        if item is None:
            target.null_value = struct_pb2.NULL_VALUE
        elif isinstance(item, bool):
            target.bool_value = item
        elif isinstance(item, str):
            try:
                target.string_value = item
            except (UnicodeEncodeError, ValueError) as error:
                raise ValueRefused(path, "is not valid Unicode") from error
        elif isinstance(item, int | float):
            _set_number(target, item, path)
        elif isinstance(item, Mapping):
            _check_depth(depth, path)
            fields = target.struct_value.fields
            target.struct_value.SetInParent()
            for key, child in item.items():
                if not isinstance(key, str):
                    raise ValueRefused(path, f"has a key that is {type(key).__name__}, not str")
                left.append((f"{path}.{key}" if path else key, child, fields[key], depth + 1))
        elif isinstance(item, list | tuple):
            _check_depth(depth, path)
            values = target.list_value.values
            target.list_value.SetInParent()
            for index, child in enumerate(item):
                left.append((f"{path}[{index}]", child, values.add(), depth + 1))
        else:
            left.append((path, _jsonable(item, path), target, depth))
    return result


def _set_number(target: struct_pb2.Value, number: float, path: str) -> None:
    if isinstance(number, int) and abs(number) > MAX_INTEGER:
        raise ValueRefused(path, "is a whole number beyond 2^53; return it as a string")
    problem = _number_problem(float(number))
    if problem:
        raise ValueRefused(path, problem)
    target.number_value = float(number)


def _check_depth(depth: int, path: str) -> None:
    if depth >= MAX_DEPTH:
        raise ValueRefused(path, f"nested deeper than {MAX_DEPTH}")


def _jsonable(item: Any, path: str) -> Any:
    try:
        plain = to_jsonable_python(item)
    except (PydanticSerializationError, ValueError, RecursionError) as error:
        raise ValueRefused(path, f"of type {type(item).__name__} can't be written as JSON") from error
    if not isinstance(plain, dict | list | str | int | float | bool | None):
        raise ValueRefused(path, f"of type {type(item).__name__} can't be written as JSON")
    return plain


def point(value: struct_pb2.Value, pointer: str) -> struct_pb2.Value:
    """Returns what a JSON pointer (RFC 6901) names in a value. Raises KeyError with a text where nothing is there."""
    for token in pointer.split("/")[1:]:
        name = token.replace("~1", "/").replace("~0", "~")
        match value.WhichOneof("kind"):
            case "struct_value" if name in value.struct_value.fields:
                value = value.struct_value.fields[name]
            case "list_value" if name.isdecimal() and int(name) < len(value.list_value.values):
                value = value.list_value.values[int(name)]
            case _:
                raise KeyError(f"there is nothing at {pointer!r}")
    return value
