"""What a model is asked: a plan for a request, and a better one where that can't run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from stepwire.errors import Violation
from stepwire_server import StepContext
from stepwire_server.models import Model
from stepwire_server.planning.memory import Recollection
from stepwire_server.planning.plans import MAX_CALLS
from stepwire_server.tools import Toolbox

__all__ = ["ask_for_plan"]

_TEXT = {"type": "string", "maxLength": 10_000}
_WORDS = {"type": "string", "maxLength": 200}

_FORM: Mapping[str, Any] = {
    "type": "object",
    "required": ["calls"],
    "additionalProperties": False,
    "properties": {
        "calls": {
            "type": "array",
            "maxItems": MAX_CALLS,
            "items": {
                "type": "object",
                "required": ["id", "tool", "input"],
                "additionalProperties": False,
                "properties": {
                    "id": {**_WORDS, "minLength": 1},
                    "tool": _WORDS,
                    "input": {"type": "object"},
                    "after": {"type": "array", "items": _WORDS, "maxItems": MAX_CALLS},
                    "text": _WORDS,
                },
            },
        },
        "names": {"type": "object", "additionalProperties": _WORDS},
        "answer": _TEXT,
    },
}

_SYSTEM = """You plan which tools are called to serve a request, and in which order. Give `calls`: each has an `id` of
your own, the `tool`, its `input`, and in `text` what it is for, in a few words. In an input the text "${ID}" stands for
the result of the call ID, and "${ID/FIELD}" for a field of its output; calls that refer to no other one run side by
side; `after` names calls to wait for besides. `names`: a name that the request gives to a result, with the id of its
call. `answer`: what the person is told, in the language of the request, with ${ID} where a result is to stand. Without
calls `answer` alone is given. Use earlier results as they stand below. Call nothing that is not needed."""

_REMEMBERED = 20
"""Earlier results that a model is told of."""


async def ask_for_plan(
    model: Model,
    step: StepContext,
    request: str,
    *,
    toolbox: Toolbox,
    memory: Recollection,
    refused: Mapping[str, Any] | None = None,
    wrong: Sequence[Violation] = (),
) -> dict[str, Any]:
    """Returns the plan that a model makes, in the form of `plans.py`. `refused`, `wrong`: the plan that it made before,
    and what is wrong with it. Raises what `Model.structured` raises.
    """
    tools = [{"name": tool.name, "does": tool.description, "input": tool.schema} for tool in toolbox]
    known = [{"request": result["text"], "result": result["value"]} for result in memory.results[-_REMEMBERED:]]
    names = {name: kept["value"] for name, kept in memory.names.items()}
    told = {"tools": tools, "earlier results, the newest last": known, "named results": names}
    prompt = f"{json.dumps(told, ensure_ascii=False)}\n\nThe request: {request}"
    messages = [{"role": "user", "content": prompt}]
    if refused is not None:
        said = {key: refused[key] for key in ("calls", "answer")}
        problems = "\n".join(f"{field}: {text}" for field, text in wrong)
        messages += [
            {"role": "assistant", "content": json.dumps(said, ensure_ascii=False)},
            {"role": "user", "content": f"That plan can't run:\n{problems}\nGive a whole plan that can."},
        ]
    channel = "plan" if refused is None else "repaired-plan"
    made = await model.structured(step, messages, schema=_FORM, system=_SYSTEM, channel=channel, rounds=2)
    return _completed(made)


def _completed(made: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a model's plan with what it may leave out."""
    calls = [{"after": [], "text": f"{call['tool']} ({call['id']})", **call} for call in made["calls"]]
    texts = {call["id"]: call["text"] for call in calls}
    return {
        "calls": calls,
        "answers": [{"text": call["text"], "is": {"call": call["id"], "field": ""}} for call in calls],
        "names": {
            name.casefold(): {"text": texts.get(call, name), "is": {"call": call, "field": ""}}
            for name, call in made.get("names", {}).items()
        },
        "answer": made.get("answer", ""),
    }
