"""The agent that mends code: by the model, which is told what failed, or by small edits that are tested."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

from stepwire_server import StepContext
from stepwire_server.models import Model, ModelError, ModelInterrupted
from stepwire_server.supervisor.agents.codesmith import code_of, failures_of
from stepwire_server.supervisor.checking import report_of
from stepwire_server.supervisor.crew import Crew
from stepwire_server.supervisor.desk import Desk
from stepwire_server.supervisor.edits import nearby
from stepwire_server.supervisor.trial import Report, Trial

__all__ = ["NAME", "add"]

NAME = "reviewfix"

_MOST = 600
_BATCH = 40
"""Edits that are tested, at most; and how many in one process."""


def add(crew: Crew, desk: Desk) -> None:
    """Adds the agent."""

    @crew.agent(NAME, "Mends the code that there is, so that the failing tests pass, and changes nothing else.")
    async def reviewfix(step: StepContext, state: dict[str, Any]) -> dict[str, Any]:
        if not state["code"]:
            await step.agent(NAME, "result", "There is no code to mend")
            return {"tried": [*state["tried"], "reviewfix: there was no code to mend"]}
        state = {**state, "report": await report_of(state)}
        failing = [test["name"] for test in state["report"]["tests"] if not test["passed"]]
        await step.agent(NAME, "think", f"{len(failing)} tests fail, the first is: {failing[0] if failing else 'none'}")
        mended, how, report = "", "", None
        if desk.model is not None:
            mended, how = await _asked(step, desk.model, state)
            report = await Trial(state["tests"]).run(mended) if mended else None
        if report is None or not report.all_passed:
            edited = await _edited(step, state, desk.search_seconds)
            if edited is not None:
                mended, how, report = edited
        if report is None:
            tried = f"reviewfix: {how or 'no small edit'} makes all tests pass"
            await step.agent(NAME, "result", "Nothing that was tried makes the tests pass", details={"tried": tried})
            return {"tried": [*state["tried"], tried]}
        await step.artifact("code", mended, media_type="text/x-python")
        await step.artifact("tests", report.to_state())
        await step.agent(
            NAME,
            "result",
            f"The code passes {report.passed} of {len(report.tests)} tests: {how}",
            details={"passed": report.passed, "tests": len(report.tests), "how": how},
        )
        better = report.all_passed or report.passed > state["report"]["passed"]
        kept = {"code": mended, "report": report.to_state(), "how": how} if better else {}
        return {
            **kept,
            "tried": [*state["tried"], f"reviewfix: {how}; {report.passed} of {len(report.tests)} tests pass"],
        }


async def _asked(step: StepContext, model: Model, state: dict[str, Any]) -> tuple[str, str]:
    prompt = (
        f"Task: {state['task']}\n\nCode:\n```python\n{state['code']}\n```\n\n"
        f"Tests:\n```python\n{state['tests']}\n```\n\n"
        f"These fail:\n{failures_of(state['report'])}\n\nMend the code, and change as little as you can."
    )
    system = "You mend Python. Answer with one code block that has the whole module."
    try:
        answer = await model.text(step, prompt, system=system, channel="code", temperature=0)
    except ModelInterrupted:
        raise
    except ModelError as error:
        await step.error(f"the model mends nothing, small edits are tried: {error}")
        return "", ""
    code = code_of(answer.text)
    if not code:
        await step.error("the model's answer has no Python in it, small edits are tried")
    return code, f"mended by {model.name}" if code else ""


async def _edited(step: StepContext, state: dict[str, Any], seconds: float) -> tuple[str, str, Report] | None:
    """Returns the first program one or two small edits away that passes all tests. Looks for so many seconds."""
    trial = Trial(state["tests"])
    tested = 0
    now = asyncio.get_running_loop().time
    end = now() + seconds
    try:
        one_and_two = itertools.islice(nearby(state["code"]), _MOST)
        # In a thread: of long code, edits take long to make.
        while now() < end and (batch := await asyncio.to_thread(lambda: list(itertools.islice(one_and_two, _BATCH)))):
            await step.agent(NAME, "progress", f"{tested} small edits do not help; {len(batch)} more are tested")
            await step.progress(min(95.0, 100 * tested / _MOST), f"{tested} edits")
            place = await trial.first([edit.source for edit in batch])
            tested += len(batch)
            if place is None:
                continue
            edit = batch[place]
            report = await trial.run(edit.source)
            if report.all_passed:
                await step.agent(NAME, "decision", f"Line {edit.line}: {edit.what}", details={"line": edit.line})
                return edit.source, f"line {edit.line}: {edit.what}", report
    except SyntaxError as error:
        await step.agent(NAME, "progress", f"The code is no Python, line {error.lineno}: {error.msg}")
    return None
