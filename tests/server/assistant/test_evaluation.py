"""The 50 questions that were written before the code, and what share of them is understood.

`pytest tests/server/assistant/test_evaluation.py -s` prints the shares and lists the wrong ones.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from stepwire.errors import QueryNotUnderstood
from stepwire_server.assistant.language import Analysis
from stepwire_server.assistant.planner import build_plan

_QUESTIONS = Path(__file__).with_name("questions.toml")

FLOOR = {"intent": 47, "entities": 49, "plan": 47, "all": 47}
"""Right ones of 50. Raise it when the analysis gets better; it never falls."""


def test_share_of_questions_that_are_understood(understand: Callable[[str], Analysis]) -> None:
    """No fewer questions are understood than were once."""
    questions = tomllib.loads(_QUESTIONS.read_text(encoding="utf-8"))["question"]
    right = dict.fromkeys(FLOOR, 0)
    wrong = []
    for question in questions:
        found = _found(understand(question["query"]))
        verdict = {aspect: found[aspect] == _expected(question)[aspect] for aspect in ("intent", "entities", "plan")}
        verdict["all"] = all(verdict.values())
        for aspect, holds in verdict.items():
            right[aspect] += holds
        if not verdict["all"]:
            differences = {
                a: (found[a], _expected(question)[a]) for a in ("intent", "entities", "plan") if not verdict[a]
            }
            wrong.append((question["query"], differences))
    _report(right, wrong, total=len(questions))
    assert {aspect: count for aspect, count in right.items() if count < FLOOR[aspect]} == {}


def _found(analysis: Analysis) -> dict[str, Any]:
    try:
        steps = list(build_plan(analysis).steps)
    except QueryNotUnderstood:
        steps = []
    numbers = {step.id: number for number, step in enumerate(steps, 1)}
    return {
        "intent": analysis.intent,
        "entities": [(entity.type, entity.text) for entity in analysis.entities],
        "plan": [(step.name, step.operation, [numbers[other] for other in step.depends_on]) for step in steps],
    }


def _expected(question: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "intent": question["intent"],
        "entities": [(entity["type"], entity["text"]) for entity in question["entities"]],
        "plan": [(step["name"], step["type"], step["after"]) for step in question["steps"]],
    }


def _report(right: Mapping[str, int], wrong: list[tuple[str, dict[str, Any]]], *, total: int) -> None:
    print("\n" + ", ".join(f"{aspect} {count}/{total}" for aspect, count in right.items()))
    for query, differences in wrong:
        print(f"- {query}")
        for aspect, (found, expected) in differences.items():
            print(f"    {aspect}: {found}\n      expected {expected}")
