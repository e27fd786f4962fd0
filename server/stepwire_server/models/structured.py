"""Answers as JSON that matches a schema: asked for, checked, and asked for again with what was wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from stepwire.errors import InputInvalid, Violation
from stepwire.values import to_value
from stepwire_server import StepContext, SubstepContext, check_schema, mismatches
from stepwire_server.models.errors import AnswerInvalid, ModelDeclined
from stepwire_server.models.telling import MAX_BYTES, Telling

if TYPE_CHECKING:
    from stepwire_server.models.model import Answer, Model

__all__ = ["Form", "structured"]

_FENCED = re.compile(r"```[a-zA-Z]*[^\S\n]*\n(.*?)```", re.DOTALL)

_SHOWN = 5
"""Mismatches that a model is told of at a time."""


class Form:
    """The form of an answer."""

    __slots__ = ("_foreign", "_schema")

    def __init__(self, schema: Mapping[str, Any], *, foreign: bool = False) -> None:
        """`foreign`: a caller's. Raises ValueError, which says where, for what is no JSON schema, or refers to what is
        not in it, and for a foreign one by which a check can take without end.
        """
        self._schema = dict(schema)
        self._foreign = foreign
        check_schema(self._schema, foreign=foreign)

    def asked(self, request: dict[str, Any]) -> dict[str, Any]:
        """Returns a request for an answer of this form: by the protocol where the endpoint has that, and in words, for
        the others.
        """
        words = f"Answer with JSON alone, which matches this JSON schema:\n{json.dumps(self._schema)}"
        first, *others = request["messages"]
        if first["role"] == "system":
            messages = [{**first, "content": f"{first['content']}\n\n{words}"}, *others]
        else:
            messages = [{"role": "system", "content": words}, first, *others]
        form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": self._schema}}
        return {**request, "messages": messages, "response_format": form}

    def read(self, text: str) -> tuple[Any, str]:
        """Returns the value that a text has, and what is wrong with it: nothing where that is empty."""
        fenced = _FENCED.findall(text)
        try:
            value = json.loads(fenced[-1] if fenced else text, parse_constant=_refuse)
        except (ValueError, RecursionError) as error:
            return None, f"answer: is no JSON: {error}"
        try:
            found = _unsendable(value) or mismatches(self._schema, value, "answer", foreign=self._foreign)
        except ValueError as error:
            return None, f"answer: {error}"
        more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        return value, "; ".join(f"{field}: {problem}" for field, problem in found[:_SHOWN]) + more


async def structured(
    model: Model,
    step: StepContext,
    request: dict[str, Any],
    *,
    form: Form,
    channel: str = "json",
    expected_length: int | None = None,
    part: SubstepContext | None = None,
    rounds: int = 3,
) -> tuple[Any, Answer]:
    """Returns the value, and the answer that it was read from, with the tokens of all rounds."""
    if rounds < 1:
        raise ValueError(f"rounds is {rounds}; it must be 1 or more")
    request = form.asked(request)
    wrong, prompt_tokens, completion_tokens = "", None, None
    for number in range(1, rounds + 1):
        of_its_own = channel if number == 1 else f"{channel}-{number}"
        telling = Telling(step, channel=of_its_own, expected_length=expected_length, part=part)
        answer = await model.answer(telling, request)
        _check_finish(answer)
        prompt_tokens = _sum(prompt_tokens, answer.prompt_tokens)
        completion_tokens = _sum(completion_tokens, answer.completion_tokens)
        value, wrong = form.read(answer.text)
        if not wrong:
            return value, replace(answer, prompt_tokens=prompt_tokens, completion_tokens=completion_tokens)
        if number < rounds:
            await step.error(f"the model's answer does not fit: {wrong}; it is asked again ({number + 1} of {rounds})")
            again = f"That does not fit: {wrong}. Answer again, with the whole JSON and nothing else."
            said = [{"role": "assistant", "content": answer.text}, {"role": "user", "content": again}]
            request = {**request, "messages": request["messages"] + said}
    raise AnswerInvalid(f"the model's answer does not fit, after {rounds} rounds: {wrong}")


def _unsendable(value: Any) -> Sequence[Violation]:
    """Returns what of a value no event can carry: Python reads more than JSON has."""
    try:
        size = to_value(value, field="answer").ByteSize()
    except InputInvalid as error:
        return error.violations
    if size <= MAX_BYTES:
        return ()
    return [Violation("answer", f"is too large: it would take {size:,} bytes, at most {MAX_BYTES:,} can be sent")]


def _check_finish(answer: Answer) -> None:
    match answer.finish_reason:
        case "refusal":
            raise ModelDeclined(f"the model declined to answer: {answer.text[:300]}")
        case "content_filter":
            raise ModelDeclined("the endpoint's content filter withheld the answer")
        case "length":
            raise AnswerInvalid("the answer was cut at its token limit: raise max_tokens, or ask for less")
        case _:
            return


def _sum(before: int | None, more: int | None) -> int | None:
    return more if before is None else before + (more or 0)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")
