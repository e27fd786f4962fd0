"""Steps of a plan, as an app's author writes them.

Plan(
    steps=[
        plan_step("check", "check", input={"order_id": "o-1"}),
        plan_step("approve", "approve", conditions=[when("check", "/total").above(100)]),
        plan_step("ship", "ship", input={"items": output_of("check", "/items")}, depends_on=["approve"]),
    ]
)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

from google.protobuf import struct_pb2

from stepwire.v1 import Condition, OutputRef, Retry, Step
from stepwire.values import to_struct, to_value

__all__ = ["Tested", "output_of", "plan_step", "when"]


def plan_step(
    id: str,  # noqa: A002 - the step's own word for it
    operation: str,
    *,
    name: str = "",
    input: Mapping[str, Any] | None = None,  # noqa: A002 - likewise
    depends_on: Iterable[str] = (),
    weight: float | None = None,
    retry: Retry | None = None,
    timeout: float | None = None,
    conditions: Iterable[Condition] = (),
    for_each: Mapping[str, OutputRef | Iterable[Any]] | None = None,
    max_parallel: int = 0,
) -> Step:
    """Returns a Step. A parameter of `input` that is `output_of(...)` is taken from that step's output, and the step
    depends on it. Raises InputInvalid for an input that a Struct can't carry.

    `conditions`: made with `when(...)`; where one does not hold, the step is skipped and counts as done. The step
    depends on the steps that they test.

    `for_each`: one parameter with a list, or with `output_of(...)` one; the operation is called for each of its items,
    `max_parallel` at once (0: as many as the execution may), and the step's output is the list of their outputs. Raises
    ValueError where it is not one parameter, or max_parallel stands alone.
    """
    needed = list(dict.fromkeys(depends_on))
    step = Step(id=id, name=name, operation=operation)
    literal: dict[str, Any] = {}
    for key, value in (input or {}).items():
        if isinstance(value, OutputRef):
            step.input_from[key].CopyFrom(value)
            needed.append(value.step_id)
        else:
            literal[key] = value
    if literal:
        step.input.CopyFrom(to_struct(literal))
    step.conditions.extend(_conditions(id, conditions))
    needed += [condition.output.step_id for condition in step.conditions]
    if for_each is not None:
        _map(step, for_each, max_parallel)
        if step.for_each.HasField("output"):
            needed.append(step.for_each.output.step_id)
    elif max_parallel:
        raise ValueError("max_parallel is a bound of for_each, which is not given")
    step.depends_on.extend(dict.fromkeys(needed))
    if weight is not None:
        step.weight = weight
    if retry is not None:
        step.retry.CopyFrom(retry)
    if timeout is not None:
        step.timeout.FromTimedelta(timedelta(seconds=timeout))
    return step


def output_of(step_id: str, json_pointer: str = "") -> OutputRef:
    """Returns a reference to a step's output, or to the part that a JSON pointer (RFC 6901) names."""
    return OutputRef(step_id=step_id, json_pointer=json_pointer)


def when(step_id: str, json_pointer: str = "") -> Tested:
    """Returns what conditions are made of: a step's output, or the part of it that a JSON pointer (RFC 6901) names.

    when("check", "/total").above(100)
    """
    return Tested(output_of(step_id, json_pointer))


class Tested:
    """An output that is tested. Each method returns a Condition, which does not hold where nothing is at its place, but
    for `absent`, nor where it does not fit the value's type: a text is not above 1.
    """

    __slots__ = ("_output",)

    def __init__(self, output: OutputRef) -> None:
        self._output = output

    def equals(self, value: Any) -> Condition:
        """It is this value."""
        return Condition(output=self._output, equals=_value(value))

    def not_equals(self, value: Any) -> Condition:
        """It is another value than this."""
        return Condition(output=self._output, not_equals=_value(value))

    def one_of(self, *choices: Any) -> Condition:
        """It is one of these values."""
        listed = struct_pb2.ListValue(values=[_value(choice) for choice in choices])
        return Condition(output=self._output, one_of=listed)

    def above(self, bound: float) -> Condition:
        """It is a number above this one."""
        return Condition(output=self._output, above=bound)

    def below(self, bound: float) -> Condition:
        """It is a number below this one."""
        return Condition(output=self._output, below=bound)

    def present(self) -> Condition:
        """There is something, if only None."""
        return Condition(output=self._output, present=True)

    def absent(self) -> Condition:
        """There is nothing, also because its step was skipped by its own conditions."""
        return Condition(output=self._output, present=False)


def _conditions(step_id: str, conditions: Iterable[Condition]) -> list[Condition]:
    given: list[Any] = [conditions] if isinstance(conditions, Condition | Tested) else list(conditions)
    for condition in given:
        if not isinstance(condition, Condition):
            raise TypeError(
                f"conditions of step {step_id!r} have {type(condition).__name__}; each says what it tests, such as "
                'when("check", "/total").above(100)'
            )
    return given


def _map(step: Step, for_each: Mapping[str, OutputRef | Iterable[Any]], max_parallel: int) -> None:
    if len(for_each) != 1:
        raise ValueError(f"for_each has {len(for_each)} parameters; it takes one, with the list of its values")
    ((step.for_each.parameter, items),) = for_each.items()
    # A text and a dict can be gone over as well, and are never meant.
    listed = isinstance(items, Iterable) and not isinstance(items, str | bytes | Mapping)
    if not (listed or isinstance(items, OutputRef)):
        raise TypeError(
            f"for_each of step {step.id!r} has {type(items).__name__} for {step.for_each.parameter!r}; "
            "it takes a list, or output_of(...) one"
        )
    step.for_each.max_parallel = max_parallel
    if isinstance(items, OutputRef):
        step.for_each.output.CopyFrom(items)
    else:
        step.for_each.values.SetInParent()
        step.for_each.values.values.extend(to_value(item, field="for_each") for item in items)


def _value(value: Any) -> struct_pb2.Value:
    return to_value(value, field="conditions")
