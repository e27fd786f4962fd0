"""The items of mapped steps (Step.for_each): their form, their ids, and the steps that they become.

The items of a step "resize" are the steps "resize-1", "resize-2" and so on. No other step may have such an id, so that
the ids alone tell what is an item of what, also in a plan that is retried.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Container, Sequence

from google.protobuf import struct_pb2

from stepwire.errors import Violation
from stepwire.v1 import Step
from stepwire_server.engine import values

__all__ = ["clash", "for_each_violations", "item_steps", "stem_of"]

_NUMBERED = re.compile(r"(.+)-[1-9][0-9]*")

_MAX_ID = 58
"""Characters in a mapped step's id: those of its last item, -10000, are 64."""

_MAX_NAME = 190
"""Characters of a mapped step's name that its items' names have, beside their number."""


def stem_of(step_id: str) -> str:
    """Returns the id of the step that this would be an item of, if that is mapped; empty where it could be no item."""
    found = _NUMBERED.fullmatch(step_id)
    return found[1] if found else ""


def clash(step_id: str, path: str) -> Violation:
    """Returns what is wrong with an id that only an item may have."""
    text = f"{step_id!r} would be the id of an item of {stem_of(step_id)!r}, which has for_each"
    return Violation(f"{path}.id", text)


def for_each_violations(step: Step, path: str, needed: Container[str], *, room: int) -> list[Violation]:
    """Returns what is wrong with the form of a step's for_each, in a plan that has room for so many more steps."""
    if not step.HasField("for_each"):
        return []
    found: list[Violation] = []
    mapped, where = step.for_each, f"{path}.for_each"
    match mapped.WhichOneof("items"):
        case "output":
            found += values.check_reference(mapped.output, f"{where}.output", needed)
        case "values":
            count = len(mapped.values.values)
            if count > room:
                text = f"has {count:,} items; the plan has room for {max(room, 0):,} more steps"
                return [Violation(f"{where}.values", text)]
            for i, value in enumerate(mapped.values.values):
                found += values.check_value(value, f"{where}.values[{i}]")
        case None:
            found.append(Violation(where, "has no items; set output or values"))
    if not mapped.parameter:
        found.append(Violation(f"{where}.parameter", "is empty; it names what the operation is given each item as"))
    elif mapped.parameter in step.input.fields or mapped.parameter in step.input_from:
        text = f"{mapped.parameter!r} is given by input or input_from too; give it once"
        found.append(Violation(f"{where}.parameter", text))
    if mapped.max_parallel < 0:
        found.append(Violation(f"{where}.max_parallel", f"is {mapped.max_parallel}; 0 or more is allowed"))
    if len(step.id) > _MAX_ID:
        text = f"has {len(step.id)} characters; at most {_MAX_ID} are allowed with for_each, its items have longer ones"
        found.append(Violation(f"{path}.id", text))
    return found


def item_steps(step: Step, items: Sequence[struct_pb2.Value], *, most: int) -> list[Step]:
    """Returns the steps that a mapped step's items become, in their order; none where they would have more than `most`
    bytes together.
    """
    like = Step()
    like.CopyFrom(step)
    like.ClearField("for_each")
    like.ClearField("conditions")
    if len(items) * like.ByteSize() > most:
        return []
    # Above 0, as every weight: a very small one has no share.
    like.weight = max((step.weight if step.HasField("weight") else 1.0) / len(items), sys.float_info.min)
    name = (step.name or step.id)[:_MAX_NAME]
    made: list[Step] = []
    for number, item in enumerate(items, 1):
        one = Step()
        one.CopyFrom(like)
        one.id = f"{step.id}-{number}"
        one.name = f"{name} {number}"
        one.input.fields[step.for_each.parameter].CopyFrom(item)
        made.append(one)
    return made
