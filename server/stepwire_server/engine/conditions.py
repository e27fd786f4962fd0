"""The conditions of steps: tests of what other steps gave, which decide whether a step runs.

A test looks at one value of one output. It holds or it does not, for every value that there can be: nothing about it
fails while a plan runs.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Container

from google.protobuf import struct_pb2

from stepwire.errors import Violation
from stepwire.v1 import Condition, Step
from stepwire.values import to_python
from stepwire_server.engine import values

__all__ = ["condition_violations", "unmet"]

_TESTS = tuple(field.name for field in Condition.DESCRIPTOR.oneofs_by_name["test"].fields)

_SHOWN = 60
"""Characters of a value in the line for people."""


def condition_violations(step: Step, path: str, needed: Container[str]) -> list[Violation]:
    """Returns what is wrong with the form of a step's conditions, where it depends on the steps `needed`."""
    found: list[Violation] = []
    for i, condition in enumerate(step.conditions):
        where = f"{path}.conditions[{i}]"
        found += values.check_reference(condition.output, f"{where}.output", needed)
        match condition.WhichOneof("test"):
            case "equals":
                found += values.check_value(condition.equals, f"{where}.equals")
            case "not_equals":
                found += values.check_value(condition.not_equals, f"{where}.not_equals")
            case "one_of":
                if not condition.one_of.values:
                    found.append(Violation(f"{where}.one_of", "is empty; nothing could be one of it"))
                for j, value in enumerate(condition.one_of.values):
                    found += values.check_value(value, f"{where}.one_of[{j}]")
            case "above" | "below" as name:
                bound = getattr(condition, name)
                if not math.isfinite(bound):
                    found.append(Violation(f"{where}.{name}", f"is {bound}, which JSON does not have"))
            case None:
                found.append(Violation(where, f"has no test; set one of {', '.join(_TESTS)}"))
    return found


def unmet(step: Step, output: Callable[[str], struct_pb2.Value | None]) -> str:
    """Returns why a step does not run: the first of its conditions that does not hold, in words. Empty where all hold.
    `output` gives the output of a step by its id, and None where it has none.
    """
    for condition in step.conditions:
        value = _value(condition, output)
        if not _holds(condition, value):
            return _words(condition, value)
    return ""


def _value(condition: Condition, output: Callable[[str], struct_pb2.Value | None]) -> struct_pb2.Value | None:
    whole = output(condition.output.step_id)
    if whole is None:
        return None
    try:
        return values.point(whole, condition.output.json_pointer)
    except KeyError:
        return None


def _holds(condition: Condition, value: struct_pb2.Value | None) -> bool:
    test = condition.WhichOneof("test")
    if test == "present":
        return (value is not None) == condition.present
    if value is None:
        return False
    match test:
        case "equals":
            return _same(value, condition.equals)
        case "not_equals":
            return not _same(value, condition.not_equals)
        case "one_of":
            return any(_same(value, one) for one in condition.one_of.values)
        case "above":
            return value.HasField("number_value") and value.number_value > condition.above
        case "below":
            return value.HasField("number_value") and value.number_value < condition.below
        case _:
            # A test of a newer server, in a plan that this one took over: what it says is not known, so it can't hold.
            return False


def _same(one: struct_pb2.Value, other: struct_pb2.Value) -> bool:
    """Returns whether two values are equal in every language: messages compare the bits of doubles, and -0 is 0."""
    kind = one.WhichOneof("kind")
    if kind != other.WhichOneof("kind"):
        return False
    match kind:
        case "number_value":
            return one.number_value == other.number_value
        case "list_value":
            items, others = one.list_value.values, other.list_value.values
            return len(items) == len(others) and all(map(_same, items, others))
        case "struct_value":
            fields, theirs = one.struct_value.fields, other.struct_value.fields
            return fields.keys() == theirs.keys() and all(_same(fields[key], theirs[key]) for key in fields)
        case _:
            return one == other


def _words(condition: Condition, value: struct_pb2.Value | None) -> str:
    source = condition.output
    place = f"{source.json_pointer} of {source.step_id}" if source.json_pointer else f"the output of {source.step_id}"
    found = "is missing" if value is None else f"is {_shown(value)}"
    match condition.WhichOneof("test"):
        case "present":
            return f"{place} {found}"
        case "equals":
            return f"{place} {found}, not {_shown(condition.equals)}"
        case "one_of":
            return f"{place} {found}, not one of {_shown(struct_pb2.Value(list_value=condition.one_of))}"
        case "above":
            return f"{place} {found}, not above {condition.above:g}"
        case "below":
            return f"{place} {found}, not below {condition.below:g}"
        case _:
            return f"{place} {found}"


def _shown(value: struct_pb2.Value) -> str:
    text = json.dumps(to_python(value), ensure_ascii=False)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
