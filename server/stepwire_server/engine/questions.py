"""Questions to people: their form, what fits them as an answer, and which of an execution's are open or answered."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from google.protobuf import struct_pb2

from stepwire.errors import InputInvalid, Violation
from stepwire.v1 import InputReceived, InputRequested
from stepwire.values import to_python
from stepwire_server.engine import schemas, values

__all__ = ["MAX_PROMPT", "Nothing", "OpenQuestion", "Questions", "answer_violations", "input_id_of", "question"]

MAX_PROMPT = 10_000
"""Characters of a question."""


class Nothing:
    """Stands where no default is given: None is one, too."""


class OpenQuestion(NamedTuple):
    """A question that waits for its answer."""

    step_index: int
    """The step that asks, by its place in the plan's order."""
    requested: InputRequested


class Questions:
    """The questions of one execution, as its events tell of them. A part of the fold.

    A step has at most one open question: where it asks another, nobody waits for the first one any more.
    """

    __slots__ = ("_of_step", "answers", "open")

    def __init__(self) -> None:
        self._of_step: dict[int, str] = {}
        self.open: dict[str, OpenQuestion] = {}
        """By input id."""
        self.answers: dict[str, InputReceived] = {}
        """By input id: what was answered, or taken as the answer when the time was up."""

    def asked(self, index: int, requested: InputRequested) -> None:
        """Takes note of a question."""
        self.dropped(index)
        self.answers.pop(requested.input_id, None)
        self.open[requested.input_id] = OpenQuestion(index, requested)
        self._of_step[index] = requested.input_id

    def received(self, received: InputReceived) -> None:
        """Takes note of an answer, or of an end without one."""
        del self._of_step[self.open.pop(received.input_id).step_index]
        if received.HasField("value"):
            self.answers[received.input_id] = received

    def dropped(self, index: int) -> None:
        """Takes note that a step asks no more."""
        input_id = self._of_step.pop(index, None)
        if input_id is not None:
            del self.open[input_id]


def input_id_of(step_id: str, *, key: str, prompt: str, number: int) -> str:
    """Returns the id of a step's question: the same in every attempt. Without a `key` the prompt stands for it, and
    `number` says how often the attempt has asked that before.
    """
    source = [step_id, key] if key else [step_id, prompt, number]
    return hashlib.sha256(json.dumps(source).encode()).hexdigest()[:16]


def question(
    prompt: str,
    *,
    choices: Iterable[str] = (),
    schema: Mapping[str, Any] | None = None,
    default: Any = Nothing,
) -> InputRequested:
    """Returns a question without its id and its time. Raises ValueError and TypeError for what is none."""
    if not isinstance(prompt, str):
        raise TypeError(f"prompt is of type {type(prompt).__name__}; it must be text")
    if not prompt.strip():
        raise ValueError("prompt is empty; say what is to be answered")
    if len(prompt) > MAX_PROMPT:
        raise ValueError(f"prompt has {len(prompt):,} characters; at most {MAX_PROMPT:,} are allowed")
    requested = InputRequested(prompt=prompt, choices=_choices(choices))
    if schema is not None:
        if requested.choices:
            raise ValueError("a question has choices or a schema, not both")
        if not isinstance(schema, Mapping):
            raise TypeError(f"schema is of type {type(schema).__name__}; it must be a JSON schema as a dict")
        try:
            value = values.to_value(dict(schema), field="schema")
        except InputInvalid as error:
            raise ValueError(str(error)) from None
        schemas.check_schema(to_python(value))
        requested.schema.CopyFrom(value.struct_value)
    if default is not Nothing:
        try:
            requested.default_value.CopyFrom(values.to_value(default, field="default"))
        except InputInvalid as error:
            raise ValueError(str(error)) from None
        for field, problem in answer_violations(requested, requested.default_value, path="default"):
            raise ValueError(f"{field} {problem}")
    return requested


def answer_violations(requested: InputRequested, value: struct_pb2.Value, *, path: str = "value") -> list[Violation]:
    """Returns everything in a value because of which it is no answer to a question."""
    if requested.choices and value.string_value not in requested.choices:
        some = ", ".join(repr(choice[:80]) for choice in requested.choices[:20])
        more = f" and {len(requested.choices) - 20} more" if len(requested.choices) > 20 else ""
        return [Violation(path, f"is none of the choices; they are {some}{more}")]
    if requested.HasField("schema"):
        return schemas.mismatches(to_python(requested.schema), to_python(value), path)
    return []


def _choices(choices: Iterable[str]) -> list[str]:
    if isinstance(choices, str):
        raise TypeError("choices is a text; it must be several")
    taken = list(choices)
    for choice in taken:
        if not isinstance(choice, str):
            raise TypeError(f"choices: {choice!r} is of type {type(choice).__name__}; it must be text")
        if not choice.strip():
            raise ValueError("choices: one is empty")
    if len(set(taken)) < len(taken):
        raise ValueError("choices: one stands there twice")
    return taken
