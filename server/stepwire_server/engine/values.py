"""Values as they are received, returned and pointed into: what the server adds to `stepwire.values`.

Bounds: nested at most 16 deep (some runtimes refuse a Struct at about 30 levels), no NaN and no infinity (JSON has
none), no whole number beyond 2^53 (a Value carries a double).
"""

from __future__ import annotations

import math
import re
from collections.abc import Container
from typing import Any

from google.protobuf import struct_pb2
from pydantic_core import PydanticSerializationError, to_jsonable_python

from stepwire import values as shared
from stepwire.errors import InputInvalid, Violation
from stepwire.v1 import OutputRef
from stepwire.values import MAX_DEPTH, MAX_INTEGER

__all__ = ["check", "check_reference", "check_value", "point", "to_value"]

_INDEX = re.compile(r"0|[1-9][0-9]{0,8}")
"""A list's index in a JSON pointer."""


def check(struct: struct_pb2.Struct, path: str) -> list[Violation]:
    """Returns everything in a received Struct that is out of bounds. No recursion: the Struct may be hostile."""
    return _check([(f"{path}.{key}", value, 1) for key, value in struct.fields.items()])


def check_value(value: struct_pb2.Value, path: str) -> list[Violation]:
    """Returns everything in a received Value that is out of bounds, as `check` does."""
    return _check([(path, value, 0)])


def check_reference(source: OutputRef, path: str, needed: Container[str]) -> list[Violation]:
    """Returns what is wrong with a reference to an output, of a step that depends on the steps `needed`."""
    found: list[Violation] = []
    if source.step_id not in needed:
        found.append(Violation(f"{path}.step_id", f"{source.step_id[:80]!r} does not stand in depends_on"))
    if source.json_pointer and not source.json_pointer.startswith("/"):
        found.append(Violation(f"{path}.json_pointer", "must be empty or begin with '/' (RFC 6901)"))
    return found


def _check(left: list[tuple[str, struct_pb2.Value, int]]) -> list[Violation]:
    found: list[Violation] = []
    while left:
        where, value, depth = left.pop()
        kind = value.WhichOneof("kind")
        if kind == "number_value":
            problem = _number_problem(value.number_value)
            if problem:
                found.append(Violation(where, problem))
        elif kind in ("struct_value", "list_value"):
            if depth >= MAX_DEPTH:
                found.append(Violation(where, f"is nested more than {MAX_DEPTH} deep"))
            elif kind == "struct_value":
                left += [(f"{where}.{key}", item, depth + 1) for key, item in value.struct_value.fields.items()]
            else:
                left += [(f"{where}[{i}]", item, depth + 1) for i, item in enumerate(value.list_value.values)]
        elif kind is None:
            found.append(Violation(where, "has no value; send null_value for null"))
    return found


def to_value(value: Any, *, field: str) -> struct_pb2.Value:
    """Returns what an operation gave as a Value.

    JSON-like values stay as they are; dataclasses, pydantic models, dates, enums, sets and the like become what
    pydantic would write to JSON. Raises InputInvalid with each place below `field` that can't
    be sent.
    """
    try:
        plain = to_jsonable_python(value)
    except (PydanticSerializationError, ValueError, RecursionError) as error:
        raise InputInvalid(
            "it can't be sent", violations=[Violation(field, f"can't be written as JSON: {error}")]
        ) from None
    return shared.to_value(plain, field=field)


def point(value: struct_pb2.Value, pointer: str) -> struct_pb2.Value:
    """Returns what a JSON pointer (RFC 6901) names in a value. Raises KeyError with a text where nothing is there."""
    for token in pointer.split("/")[1:]:
        name = token.replace("~1", "/").replace("~0", "~")
        match value.WhichOneof("kind"):
            case "struct_value" if name in value.struct_value.fields:
                value = value.struct_value.fields[name]
            case "list_value" if _INDEX.fullmatch(name) and int(name) < len(value.list_value.values):
                value = value.list_value.values[int(name)]
            case _:
                raise KeyError(f"there is nothing at {pointer!r}")
    return value


def _number_problem(number: float) -> str:
    if not math.isfinite(number):
        return f"is {number}, which JSON does not have"
    if abs(number) > MAX_INTEGER and number.is_integer():
        return "is a whole number above 2^53, which a double can't hold; send it as text"
    return ""
