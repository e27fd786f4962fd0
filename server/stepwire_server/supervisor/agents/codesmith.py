"""The agent that writes the function: by the model, or by a search over programs for one that fits the examples."""

from __future__ import annotations

import re
from contextlib import aclosing
from typing import Any

from stepwire_server import StepContext
from stepwire_server.models import ModelError, ModelInterrupted
from stepwire_server.supervisor.checking import report_of
from stepwire_server.supervisor.crew import Crew
from stepwire_server.supervisor.desk import Desk
from stepwire_server.supervisor.examples import read_examples
from stepwire_server.supervisor.trial import Report, Trial, check_source
from stepwire_server.supervisor.writing import searched

__all__ = ["NAME", "add", "code_of", "failures_of"]

NAME = "codesmith"


def add(crew: Crew, desk: Desk) -> None:
    """Adds the agent."""

    @crew.agent(NAME, "Writes the function anew, from the task and the tests, and tests it.")
    async def codesmith(step: StepContext, state: dict[str, Any]) -> dict[str, Any]:
        written, how = "", ""
        if desk.model is not None:
            try:
                answer = await desk.model.text(step, _prompt(state), system=_SYSTEM, channel="code", temperature=0)
                written, how = code_of(answer.text), f"written by {desk.model.name}"
                if not written:
                    await step.error("the model's answer has no Python in it, a program is searched for")
            except ModelInterrupted:
                raise
            except ModelError as error:
                await step.error(f"the model writes nothing, a program is searched for: {error}")
        if not written:
            written, how = await _search(step, state, desk.search_seconds)
        if not written:
            await step.agent(NAME, "result", f"No program was found: {how}")
            return {"tried": [*state["tried"], f"codesmith: {how}"]}
        await step.artifact("code", written, media_type="text/x-python")
        report = await Trial(state["tests"]).run(written)
        await step.artifact("tests", report.to_state())
        await step.agent(
            NAME,
            "result",
            f"The code passes {report.passed} of {len(report.tests)} tests",
            details={"how": how, "lines": written.count("\n"), "passed": report.passed, "tests": len(report.tests)},
        )
        before = await report_of(state)
        better = report.all_passed or not state["code"] or report.passed > before["passed"]
        kept = {"code": written, "report": report.to_state(), "how": how} if better else {}
        return {
            **kept,
            "tried": [*state["tried"], f"codesmith: {how}; {report.passed} of {len(report.tests)} tests pass"],
        }


async def _search(step: StepContext, state: dict[str, Any], seconds: float) -> tuple[str, str]:
    """Returns a program and how it was found; an empty one and why, where there is none."""
    code = check_source(state["code"], "code") if state["code"] else None
    examples = read_examples(check_source(state["tests"], "tests"), code)
    if not examples.known:
        return "", "the tests have no example that can be read: assert f(arguments) == result"
    await step.agent(
        NAME,
        "think",
        f"I search programs of {', '.join(examples.parameters) or 'no parameter'} for one that gives "
        f"{len(examples.known)} results, the smallest first",
    )
    looked = 0
    async with aclosing(searched(examples, words=state["task"], seconds=seconds)) as search:
        async for said in search:
            if "source" in said:
                return said["source"], f"searched: {said['tried']:,} terms, size {said['size']}"
            if "problem" in said:
                return "", f"{said['problem']}; {looked:,} terms were looked at in up to {seconds:g} s"
            looked = said["tried"]
            await step.agent(
                NAME,
                "progress",
                f"No program of size {said['size']}{', texts and lists included' if said['widely'] else ''}; "
                f"{looked:,} terms looked at",
                details=said,
            )
            await step.progress(min(95.0, 100 * said["seconds"] / seconds), f"Programs of size {said['size']}")
    return "", "the search ended without a result"


_SYSTEM = (
    "You write Python. Answer with one code block that has the whole module: the function that the tests call, with "
    "only the standard library. No tests, no examples of use."
)


def _prompt(state: dict[str, Any]) -> str:
    parts = [f"Task: {state['task']}", f"Tests:\n```python\n{state['tests']}\n```"]
    if state.get("design"):
        parts.append(f"Signature: {state['design']['signature']}")
    for passage in state.get("research", {}).get("passages", ()):
        parts.append(f"From {passage['file']}:\n{passage['text']}")
    if state["instructions"]:
        parts.append(f"Instructions: {state['instructions']}")
    return "\n\n".join(parts)


def code_of(text: str) -> str:
    """Returns the longest code block of an answer; all of it where it has none. Empty where that is no Python."""
    blocks = re.findall(r"```[A-Za-z]*\n(.*?)```", text, re.DOTALL) or [text]
    code: str = max(blocks, key=len).strip("\n") + "\n"
    try:
        check_source(code, "code")
    except ValueError:
        return ""
    return code


def failures_of(report: Report | dict[str, Any]) -> str:
    """Returns what failed, as a model is told."""
    state = report.to_state() if isinstance(report, Report) else report
    lines = [f"- {test['name']}: {test['message']}" for test in state["tests"] if not test["passed"]]
    return "\n".join(lines[:30])
