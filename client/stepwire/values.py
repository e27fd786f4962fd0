"""Plain Python values as google.protobuf.Struct and Value, and back.

Numbers travel as doubles. A whole number above 2**53 would change on the way and is refused, with its place named; a
double without a fraction comes back as an int.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from google.protobuf import json_format, struct_pb2
from google.protobuf.descriptor import Descriptor

from stepwire.errors import InputInvalid, PlanInvalid, Violation
from stepwire.v1.plan_pb2 import Plan

__all__ = ["MAX_DEPTH", "MAX_INTEGER", "to_plan", "to_python", "to_struct", "to_value"]

MAX_INTEGER = 2**53
"""The largest whole number that a double holds exactly."""

MAX_DEPTH = 16
"""The contract's bound. It also bounds the recursion here."""


def to_value(value: object, *, field: str = "value") -> struct_pb2.Value:
    """Returns a JSON-like value as a Value. Raises InputInvalid, with each place below `field` that can't be sent."""
    message = struct_pb2.Value()
    violations: list[Violation] = []
    _fill(message, value, field, 0, violations)
    _refuse(violations)
    return message


def to_struct(mapping: Mapping[str, object], *, field: str = "input") -> struct_pb2.Struct:
    """Returns a mapping as a Struct. Raises InputInvalid, with each place below `field` that can't be sent.

    >>> to_python(to_struct({"amount": 3.0}))
    {'amount': 3}
    """
    message = struct_pb2.Struct()
    violations: list[Violation] = []
    _fill_struct(message, mapping, field, 1, violations)
    _refuse(violations)
    return message


def to_python(message: struct_pb2.Value | struct_pb2.Struct | struct_pb2.ListValue) -> Any:
    """Returns what a Value, Struct or ListValue holds. A Value that holds nothing is None."""
    if isinstance(message, struct_pb2.Struct):
        # A map on the wire has no order; sorted, the same message gives the same text every time.
        return {key: to_python(message.fields[key]) for key in sorted(message.fields)}
    if isinstance(message, struct_pb2.ListValue):
        return [to_python(value) for value in message.values]
    match message.WhichOneof("kind"):
        case "number_value":
            number = message.number_value
            return int(number) if number.is_integer() and abs(number) <= MAX_INTEGER else number
        case "string_value":
            return message.string_value
        case "bool_value":
            return message.bool_value
        case "struct_value":
            return to_python(message.struct_value)
        case "list_value":
            return to_python(message.list_value)
        case _:
            return None


def to_plan(plan: Mapping[str, Any]) -> Plan:
    """Returns a plan that is written as JSON (protobuf's mapping: "dependsOn" or "depends_on", "30s").

    Raises PlanInvalid where the form is wrong, InputInvalid where an input can't be sent.
    """
    steps = plan.get("steps", [])
    if not isinstance(steps, list) or not all(isinstance(step, Mapping) for step in steps):
        raise PlanInvalid("The plan can't be read.", violations=[Violation("steps", "must be a list of objects")])
    bare = [{key: value for key, value in step.items() if key != "input"} for step in steps]
    violations: list[Violation] = []
    _find_unknown({**plan, "steps": bare}, Plan.DESCRIPTOR, "plan", violations)
    if violations:
        first = f": {violations[0].field} {violations[0].description}" if len(violations) == 1 else "."
        raise PlanInvalid(f"The plan can't be read{first}", violations=violations)
    try:
        message: Plan = json_format.ParseDict({**plan, "steps": bare}, Plan())
    except json_format.ParseError as error:
        raise PlanInvalid(f"The plan can't be read: {error}") from error
    for index, step in enumerate(steps):
        if step.get("input") is not None:
            _fill_struct(message.steps[index].input, step["input"], f"plan.steps[{index}].input", 1, violations)
    _refuse(violations)
    return message


def _find_unknown(value: object, kind: Descriptor, path: str, violations: list[Violation]) -> None:
    """Finds the keys that are no fields. Of what has another form than the message nothing is said here."""
    if not isinstance(value, Mapping):
        return
    fields = {name: field for field in kind.fields for name in (field.name, field.json_name)}
    for key, item in value.items():
        field = fields.get(key)
        if field is None:
            known = ", ".join(field.name for field in kind.fields)
            violations.append(Violation(path, f"has no field {key!r}; its fields are {known}"))
            continue
        below = field.message_type
        if below is None or below.file.package != kind.file.package:
            continue
        place = f"{path}.{field.name}"
        if below.GetOptions().map_entry:
            entry_kind = below.fields_by_name["value"].message_type
            if entry_kind is not None and isinstance(item, Mapping):
                for name, entry in item.items():
                    _find_unknown(entry, entry_kind, f"{place}.{name}", violations)
        elif isinstance(item, list):
            for index, entry in enumerate(item):
                _find_unknown(entry, below, f"{place}[{index}]", violations)
        else:
            _find_unknown(item, below, place, violations)


def _refuse(violations: list[Violation]) -> None:
    if violations:
        raise InputInvalid("The input can't be sent.", violations=violations)


def _fill(message: struct_pb2.Value, value: object, field: str, depth: int, violations: list[Violation]) -> None:
    match value:
        case None:
            message.null_value = struct_pb2.NULL_VALUE
        case bool():
            message.bool_value = value
        case int() if abs(value) > MAX_INTEGER:
            violations.append(Violation(field, "is above 2**53, which a double can't hold; send it as text"))
        case float() if not math.isfinite(value):
            violations.append(Violation(field, f"is {value}, which JSON does not have"))
        case int() | float():
            message.number_value = value
        case str():
            try:
                message.string_value = value
            except UnicodeEncodeError:
                violations.append(Violation(field, "has half a character, which no text in UTF-8 has"))
        case Mapping() | list() | tuple() if depth >= MAX_DEPTH:
            violations.append(Violation(field, f"is nested more than {MAX_DEPTH} deep"))
        case Mapping():
            message.struct_value.SetInParent()
            _fill_struct(message.struct_value, value, field, depth + 1, violations)
        case list() | tuple():
            message.list_value.SetInParent()
            for index, item in enumerate(value):
                _fill(message.list_value.values.add(), item, f"{field}[{index}]", depth + 1, violations)
        case _:
            violations.append(Violation(field, f"is of type {type(value).__name__}, which JSON does not have"))


def _fill_struct(
    message: struct_pb2.Struct, mapping: object, field: str, depth: int, violations: list[Violation]
) -> None:
    if not isinstance(mapping, Mapping):
        violations.append(Violation(field, "must be an object"))
        return
    for key, value in mapping.items():
        if not isinstance(key, str):
            violations.append(Violation(field, f"has a key of type {type(key).__name__}; keys are text"))
            continue
        try:
            item = message.fields[key]
        except UnicodeEncodeError:
            shown = key.encode("utf-8", "backslashreplace").decode()
            violations.append(Violation(f"{field}.{shown}", "has half a character in its name"))
            continue
        _fill(item, value, f"{field}.{key}", depth, violations)
