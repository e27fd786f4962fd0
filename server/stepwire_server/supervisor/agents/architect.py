"""The agent that says what is to be made: signature, types and cases."""

from __future__ import annotations

from typing import Any

from stepwire_server import StepContext
from stepwire_server.supervisor.crew import Crew
from stepwire_server.supervisor.desk import Desk
from stepwire_server.supervisor.examples import Examples, read_examples
from stepwire_server.supervisor.trial import check_source

__all__ = ["NAME", "add"]

NAME = "architect"


def add(crew: Crew, desk: Desk) -> None:
    """Adds the agent."""

    @crew.agent(NAME, "Gives the function's signature, the types of its values, and the cases that it must get right.")
    async def architect(step: StepContext, state: dict[str, Any]) -> dict[str, Any]:
        code = check_source(state["code"], "code") if state["code"] else None
        examples = read_examples(check_source(state["tests"], "tests"), code)
        await step.agent(NAME, "think", "Which types do arguments and results have, and which cases stand out?")
        design = {
            "signature": examples.signature(),
            "parameters": list(examples.parameters),
            "cases": _cases(examples),
        }
        await step.artifact("design", design)
        await step.agent(NAME, "decision", str(design["signature"]), details={"cases": design["cases"]})
        return {"design": design}


def _cases(examples: Examples) -> list[str]:
    """Returns what a function's author would look at first, in words."""
    found = []
    for arguments, wanted in examples.known:
        call = f"{examples.name}({', '.join(map(repr, arguments))})"
        if any(argument in ("", [], 0) or argument is None for argument in arguments):
            found.append(f"an edge: {call} gives {wanted!r}"[:300])
        elif any(isinstance(a, int | float) and a < 0 for a in arguments):
            found.append(f"a negative number: {call} gives {wanted!r}"[:300])
    kinds = {type(wanted).__name__ for _, wanted in examples.known}
    if "NoneType" in kinds and len(kinds) > 1:
        found.append("it may give None")
    return found[:10]
