"""The agent that answers: what was made, how far it is right, and what was tried where it is not."""

from __future__ import annotations

from typing import Any

from stepwire_server import StepContext
from stepwire_server.supervisor.checking import report_of
from stepwire_server.supervisor.crew import Crew
from stepwire_server.supervisor.desk import Desk

__all__ = ["NAME", "add"]

NAME = "responder"


def add(crew: Crew, desk: Desk) -> None:
    """Adds the agent."""

    @crew.agent(NAME, "Ends the work: gives the code, and says what was tried.", last=True)
    async def responder(step: StepContext, state: dict[str, Any]) -> dict[str, Any]:
        report = await report_of(state)
        solved = bool(report["total"]) and report["passed"] == report["total"]
        if solved:
            answer = f"All {report['total']} tests pass: {state.get('how') or 'the code that was given'}."
        else:
            tried = "; ".join(state["tried"]) or "nothing"
            answer = f"Not solved: {report['passed']} of {report['total']} tests pass. Tried: {tried}."
        output = {
            "solved": solved,
            "answer": answer,
            "code": state["code"],
            "passed": report["passed"],
            "tests": report["total"],
            "failing": [test for test in report["tests"] if not test["passed"]][:20],
            "turns": [*state["turns"], NAME],
            "tried": state["tried"],
        }
        await step.artifact("answer", output)
        await step.agent(NAME, "result", answer)
        return {"output": output}
