"""What a graph wants to know when it interrupts itself, as questions to people."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from stepwire_server import StepContext
from stepwire_server.bridges.plain import bounded, whole

__all__ = ["Questions", "question_of"]

_PROMPTS = ("prompt", "question", "message", "description", "query")
_CHOICES = ("choices", "options")
_MOST = 10_000
"""Characters of a question, as `ask` has it."""


class Questions:
    """Asks what the interrupts of a graph's thread want to know.

    An answer belongs to what was asked: the same value by the same node, asked as often before on this thread. (The id
    of an interrupt would not do: in some releases of LangGraph all questions of a task have the same, and a graph that
    begins again has others.) How often it was asked is saved with the step, since the checkpoint of the graph, with
    which another attempt goes on, does not tell.
    """

    def __init__(self, step: StepContext, *, goes_on: bool) -> None:
        """`goes_on`: whether the graph goes on where an earlier attempt left it."""
        self._step = step
        self._asked: Counter[str] = Counter(_counts(step.saved) if goes_on else {})

    async def answer(self, interrupts: Iterable[Any], nodes: Mapping[str, str]) -> dict[str, Any]:
        """Returns an answer for each interrupt, by its id, asked one after the other. `nodes`: who asks, by id."""
        answers = {}
        asked = self._asked.copy()
        for interrupt in interrupts:
            node = nodes.get(interrupt.id, "")
            question = question_of(interrupt.value, getattr(interrupt, "response_schema", None))
            if not isinstance(interrupt.value, str):
                await self._step.stage(
                    "interrupt", question["prompt"][:1_000], details=node, data={"value": bounded(interrupt.value)}
                )
            subject = hashlib.sha256(f"{node} {_written(interrupt.value)}".encode()).hexdigest()[:32]
            answers[interrupt.id] = await self._step.ask(**question, key=f"{subject}-{asked[subject]}")
            asked[subject] += 1
        self._asked = asked
        # A node may save something, too: what it saved stays, where it is a dict.
        saved = self._step.saved
        await self._step.save({**(saved if isinstance(saved, dict) else {}), "asked": dict(asked)})
        return answers


def _counts(saved: Any) -> dict[str, int]:
    counts = saved.get("asked") if isinstance(saved, dict) else None
    return {key: int(count) for key, count in counts.items()} if isinstance(counts, dict) else {}


def question_of(value: Any, schema: Any = None) -> dict[str, Any]:
    """Returns the arguments of `ask` for the value of an interrupt.

    A text is the question. In a dict it stands at "prompt", "question", "message", "description" or "query"; "choices"
    or "options", a list of texts, are the answers to choose from, and "schema" is the JSON schema of the answer. What
    has no such text is asked as the JSON that it is.
    """
    given = value if isinstance(value, Mapping) else {}
    text = value if isinstance(value, str) else next((given[key] for key in _PROMPTS if _is_text(given.get(key))), "")
    choices = next((list(dict.fromkeys(given[key])) for key in _CHOICES if _are_choices(given.get(key))), [])
    stated = given.get("schema") if isinstance(given.get("schema"), Mapping) else None
    wanted = schema if isinstance(schema, Mapping) else stated
    return {
        "prompt": (text.strip() or _written(bounded(value, _MOST // 2)))[:_MOST],
        "choices": choices,
        "schema": None if choices else wanted,
    }


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _are_choices(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(_is_text(item) for item in value)


def _written(value: Any) -> str:
    return json.dumps(whole(value), sort_keys=True, ensure_ascii=False, default=str)
