"""Whose turn it is: by rules over the state, or by a model that is told the same."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from stepwire_server import StepContext
from stepwire_server.models import Model, ModelError, ModelInterrupted
from stepwire_server.supervisor.checking import NO_REPORT
from stepwire_server.supervisor.crew import Crew

__all__ = ["Decision", "analysis", "by_model", "by_rules"]

_REVIEWS = 3
"""So often a model may mend what it wrote."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What a supervisor decides in one of its turns."""

    next_agent: str
    reasoning: str
    confidence: float
    instructions: str
    decided_by: str

    def to_state(self) -> dict[str, Any]:
        """Returns it as a step keeps it."""
        return asdict(self)


def analysis(state: Mapping[str, Any]) -> str:
    """Returns what the state comes to, in a sentence."""
    report = state.get("report")
    if not state.get("research"):
        return "Nothing is known of the task yet"
    if report is None:
        return "There is no code that was tested"
    if report["total"] and report["passed"] == report["total"]:
        return f"All {report['total']} tests pass"
    return f"{report['passed']} of {report['total']} tests pass"


def by_rules(state: Mapping[str, Any], crew: Crew, *, has_model: bool) -> Decision:
    """Decides without a model. The first rule that holds counts."""
    turns: list[str] = state["turns"]

    def decide(agent: str, reasoning: str, confidence: float, instructions: str) -> Decision:
        return Decision(
            next_agent=agent,
            reasoning=reasoning,
            confidence=confidence,
            instructions=instructions,
            decided_by="rules",
        )

    if "research" not in turns:
        return decide(
            "research", "Nobody has read the tests yet", 1.0, "Read tests, code and documents; run the tests."
        )
    for agent in crew:
        if agent.when is not None and agent.when(state):
            return decide(agent.name, f"Its own rule says that it is the turn of {agent.name}", 0.9, agent.description)
    report = state.get("report") or NO_REPORT
    if report["total"] and report["passed"] == report["total"]:
        return decide("responder", "All tests pass", 1.0, "Give the code, and say how it was found.")
    if "architect" not in turns:
        return decide("architect", "There is no design yet", 1.0, "Give signature, types and cases.")
    reviews = turns.count("reviewfix")
    if state["code"] and reviews < (_REVIEWS if has_model else 1):
        failed = report["total"] - report["passed"]
        return decide("reviewfix", f"There is code, and {failed} of its tests fail", 0.8, "Mend the code.")
    if "codesmith" not in turns:
        why = "The code could not be mended" if state["code"] else "There is a design, and no code"
        return decide("codesmith", why, 0.7 if state["code"] else 0.9, "Write the function from the tests.")
    if state["code"] and turns[-1] == "codesmith" and reviews < _REVIEWS and has_model:
        return decide("reviewfix", "What was written anew fails too", 0.5, "Mend the code.")
    return decide(
        "responder", "Everybody had a turn, and not all tests pass", 0.9, "Say what was tried, and what fails."
    )


async def by_model(step: StepContext, model: Model, state: Mapping[str, Any], crew: Crew) -> Decision | None:
    """Lets a model decide. None where it gives no decision that can be used: that is said as an error."""
    schema = {
        "type": "object",
        "properties": {
            "reasoning": {"type": "string"},
            "confidence": {"type": "number", "minimum": 0, "maximum": 1},
            "next_agent": {"type": "string", "enum": [agent.name for agent in crew]},
            "instructions": {"type": "string"},
        },
        "required": ["reasoning", "confidence", "next_agent", "instructions"],
        "additionalProperties": False,
    }
    agents = "\n".join(f"- {agent.name}: {agent.description}" for agent in crew)
    system = f"You supervise agents that write and mend a Python function until its tests pass. The agents:\n{agents}"
    shown = {key: value for key, value in state.items() if value not in (None, "", [], {})}
    prompt = f"The state of the work:\n{json.dumps(shown, indent=1, default=str)[:60_000]}\n\nWhose turn is it?"
    try:
        answer = await model.structured(step, prompt, schema=schema, system=system, channel="decision", rounds=2)
    except ModelInterrupted:
        raise
    except ModelError as error:
        await step.error(f"the model gives no decision, the rules decide: {error}")
        return None
    return Decision(**answer, decided_by=f"model {model.name}")
