"""What each of the eight stages does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from stepwire.errors import PlanInvalid, QueryNotUnderstood, Violation
from stepwire_server import Refused, StepContext
from stepwire_server.models import MODEL_RETRY, Model
from stepwire_server.planning.analysis import resolve
from stepwire_server.planning.asking import ask_for_plan
from stepwire_server.planning.calls import call_steps
from stepwire_server.planning.grammar import parse
from stepwire_server.planning.memory import Memory, Recollection
from stepwire_server.planning.plans import plan_by_rules, violations, waves
from stepwire_server.planning.references import can_stand
from stepwire_server.planning.response import answers_of, named, response_of, state_of
from stepwire_server.planning.stages import Stage, Turn, stage_steps
from stepwire_server.tools import Toolbox

__all__ = ["Desk", "RequestFailed", "Works"]

_SHOWN = 20
"""Problems and remembered results that events show."""

_KEPT_VALUE = 4_000
"""Characters of a remembered result, written as JSON would be."""

_PLACE = ("given", "plan", "calls", "0", "input", "value")
"""Where it stands deepest in what a stage gives: in the input of a planned call."""


class RequestFailed(Refused):
    """Nothing that was asked for could be done. The artifact `response` says what became of each part."""


class Desk:
    """What the stages work with, once the app was started."""

    def __init__(self, toolbox: Toolbox) -> None:
        self.toolbox = toolbox
        self.model: Model | None = None
        self.memory: Memory | None = None
        self.nothing_kept = ""
        """Why nothing is remembered; empty where it is."""


class Works:
    """The built-in stages."""

    def __init__(self, desk: Desk, order: Callable[[], Sequence[str]], now: Callable[[], float] = time.time) -> None:
        """`order` gives the names of all stages. `now`: seconds since 1970."""
        self._desk = desk
        self._order = order
        self._now = now

    def stages(self) -> list[Stage]:
        """Returns them, in order."""
        return [
            Stage(name="start", says="The request is taken", work=self._start),
            Stage(name="context", says="Reading what the session remembers", work=self._context),
            Stage(name="analyzing", says="Finding what is asked", work=self._analyzing),
            Stage(name="planning", says="Making a plan", work=self._planning, retry=MODEL_RETRY),
            Stage(name="validation", says="Checking the plan", work=self._validation, retry=MODEL_RETRY),
            Stage(name="execution", says="Running the plan", work=self._execution),
            Stage(name="memory", says="Keeping what came of it", work=self._memory),
            Stage(name="completion", says="Giving the response", work=self._completion),
        ]

    async def _start(self, step: StepContext, turn: Turn) -> dict[str, Any]:
        """Takes a request."""
        model = self._desk.model
        return {"characters": len(turn.request), "planned_by": "rules" if model is None else f"model {model.name}"}

    async def _context(self, step: StepContext, turn: Turn) -> dict[str, Any]:
        """Reads what the session remembers: earlier requests, their results, and names."""
        memory, problem = Recollection(), self._unkept(turn)
        if not problem and self._desk.memory is not None:
            try:
                memory = await asyncio.to_thread(self._desk.memory.read, turn.session_id)
                problem = memory.problem
            except OSError as error:
                problem = (
                    f"the memory of session {turn.session_id} can't be read, and counts as empty: {error.strerror}"
                )
            if problem:
                await step.error(problem)
                await step.stage("error", problem, details=problem, data={"stage": "context"})
        # An earlier release has kept values that no event can carry.
        results = [{**result, "value": _short(result["value"])} for result in memory.results[-_SHOWN * 2 :]]
        names = {name: {**kept, "value": _short(kept["value"])} for name, kept in memory.names.items()}
        given = {"results": results, "names": names, "problem": problem}
        count = len(memory.turns)
        shown = {"turns": count, "results": len(memory.results), "names": list(memory.names)[-_SHOWN:]}
        await step.progress(100, problem or f"Earlier turns: {count}", stage="context", data=shown)
        return {"turns": count, **given}

    async def _analyzing(self, step: StepContext, turn: Turn) -> dict[str, Any]:
        """Finds the parts of the request, the tools that fit them, and the earlier results that they refer to."""
        tools = [tool.name for tool in self._desk.toolbox]
        try:
            found = parse(turn.request, tools)
            today = datetime.fromtimestamp(self._now()).astimezone().date()
            parts = resolve(found, _memory_of(turn), today=today)
            understood = ""
        except (QueryNotUnderstood, ValueError) as error:
            if self._desk.model is None:
                raise
            # A model may understand what the rules do not.
            understood = str(error)
            parts = [{"text": turn.request, "act": "model"}]
        fitting = list(dict.fromkeys(part["tool"] for part in parts if "tool" in part)) or tools
        shown = {"parts": [part["text"][:200] for part in parts][:_SHOWN], "tools": fitting[:_SHOWN]}
        await step.progress(100, f"Parts: {len(parts)}", stage="analyzing", data=shown)
        return {"parts": parts, "tools": fitting, "left_to_the_model": understood[:500]}

    async def _planning(self, step: StepContext, turn: Turn) -> dict[str, Any]:
        """Makes a plan: which calls of which tools, and which of them wait for others."""
        model = self._desk.model
        if model is None:
            plan = plan_by_rules(turn.given["analyzing"]["parts"])
        else:
            toolbox, memory = self._desk.toolbox, _memory_of(turn)
            plan = await ask_for_plan(model, step, turn.request, toolbox=toolbox, memory=memory)
        calls = [{"id": call["id"], "tool": call["tool"], "text": call["text"][:200]} for call in plan["calls"]]
        await step.progress(100, f"Calls planned: {len(calls)}", stage="planning", data={"calls": calls[:_SHOWN]})
        return {"plan": plan}

    async def _validation(self, step: StepContext, turn: Turn) -> dict[str, Any]:
        """Checks the plan before anything of it runs. A model's is repaired once."""
        plan = dict(turn.given["planning"]["plan"])
        found = violations(plan, self._desk.toolbox)
        first = found
        if found and self._desk.model is not None:
            await _tell(step, found)
            await step.progress(50, "The plan can't run; the model is asked for another", stage="validation")
            toolbox, memory = self._desk.toolbox, _memory_of(turn)
            plan = await ask_for_plan(
                self._desk.model, step, turn.request, toolbox=toolbox, memory=memory, refused=plan, wrong=found[:_SHOWN]
            )
            found = violations(plan, toolbox)
        if found:
            await _tell(step, found)
            problems = "; ".join(f"{field} {text}" for field, text in found[:5])
            repaired = ", also after it was repaired once" if self._desk.model is not None else ""
            raise PlanInvalid(f"the plan can't run{repaired}: {problems}", violations=found)
        together = waves(plan["calls"])
        await step.progress(100, "The plan can run", stage="validation", data={"side_by_side": together})
        problems_found = [{"field": field, "problem": text} for field, text in first]
        return {"plan": plan, "side_by_side": together, "repaired": problems_found}

    async def _execution(self, step: StepContext, turn: Turn) -> dict[str, Any]:
        """Adds the plan's calls as steps, and what comes after them."""
        calls = turn.plan["calls"]
        steps = call_steps(calls, after="execution")
        names = list(self._order())
        place = names.index("execution") + 1
        ids = [each.id for each in steps]
        await step.add_steps([*steps, *stage_steps(names[place:], turn.request, before=names[:place], calls=ids)])
        await step.progress(100, f"Calls added: {len(calls)}", stage="execution", data={"steps": ids})
        return {"steps": ids}

    async def _memory(self, step: StepContext, turn: Turn) -> dict[str, Any]:
        """Keeps the request, its plan and its results for the session. Another attempt keeps nothing twice."""
        unkept = self._unkept(turn)
        if unkept or self._desk.memory is None:
            await step.progress(100, unkept, stage="memory")
            return {"kept": False, "why": unkept, "turns": 0}
        answers = answers_of(turn)
        record = {
            "execution_id": turn.execution_id,
            "request": turn.request,
            "state": state_of(answers),
            "plan": [{key: call[key] for key in ("id", "tool", "input")} for call in turn.plan["calls"]],
            "results": [
                {"text": answer["text"], "value": _short(answer["value"])}
                for answer in answers
                if answer["state"] == "completed"
            ],
        }
        names = {name: {**given, "value": _short(given["value"])} for name, given in named(turn).items()}
        try:
            turns = await asyncio.to_thread(self._desk.memory.add, turn.session_id, record, names)
        except OSError as error:
            # What was worked out is worth more than its memory.
            why = f"the turn can't be kept: {error.strerror or error}"
            await step.error(why)
            await step.stage("error", why, details=why, data={"stage": "memory"})
            return {"kept": False, "why": why, "turns": 0}
        await step.progress(100, f"Turns kept: {turns}", stage="memory", data={"turns": turns, "names": list(names)})
        return {"kept": True, "why": "", "turns": turns}

    async def _completion(self, step: StepContext, turn: Turn) -> dict[str, Any]:
        """Gives the whole response. Fails where nothing of it could be done."""
        kept = turn.given["memory"]
        response = response_of(turn, stages=self._order(), kept=kept, began=self._now())
        if response["state"] == "failed":
            await step.artifact("response", response)
            raise RequestFailed(f"nothing of it could be done: {response['text'][:1_000]}")
        return response

    def _unkept(self, turn: Turn) -> str:
        return self._desk.nothing_kept or ("" if turn.session_id else "the request has no session_id: nothing is kept")


def _memory_of(turn: Turn) -> Recollection:
    """Returns what `context` read, as far as it was handed on."""
    given = turn.given["context"]
    return Recollection(turns=({"results": given["results"]},), names=given["names"])


async def _tell(step: StepContext, found: Sequence[Violation]) -> None:
    problems = [{"field": field, "problem": text} for field, text in found[:_SHOWN]]
    text = "; ".join(f"{field} {problem}" for field, problem in found[:_SHOWN])
    await step.error(f"the plan can't run: {text}")
    await step.progress(None, "The plan can't run", stage="validation", data={"problems": problems})


def _short(value: Any) -> Any:
    """Returns a value to remember; None for one that is too large, or nested too deep to stand in a plan."""
    return value if len(repr(value)) <= _KEPT_VALUE and can_stand(value, *_PLACE) else None
