"""The app: each turn is a step, and each of the supervisor's turns adds the steps that come next.

    supervise-1 -> turn-1-research -> supervise-2 -> turn-2-architect -> ... -> turn-5-responder

The state goes from step to step as output and input, so that a restart goes on in the middle.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from stepwire.errors import QueryNotUnderstood
from stepwire_server import App, Plan, StepContext, check_programs, output_of, plan_step
from stepwire_server.models import MODEL_RETRY
from stepwire_server.supervisor.agents import add_agents
from stepwire_server.supervisor.checking import report_of
from stepwire_server.supervisor.crew import Agent, Crew
from stepwire_server.supervisor.deciding import Decision, analysis, by_model, by_rules
from stepwire_server.supervisor.desk import SETTINGS, Desk
from stepwire_server.supervisor.trial import check_source

__all__ = ["create_app"]

Task = Annotated[str, Field(max_length=20_000, description="What the function shall do, in words.")]
Source = Annotated[str, Field(max_length=100_000)]
Tests = Annotated[Source, AfterValidator(lambda text: _checked_tests(text))]
State = Annotated[dict[str, Any], AfterValidator(lambda state: _checked_state(state))]

_MAX_STATE = 700_000
"""Bytes of the state as JSON: it must fit into the event that a step ends with."""


def create_app(name: str = "supervisor", *, crew: Crew | None = None) -> App:
    """Returns an app whose supervisor chooses among the agents of a crew: those that are registered in it before, and
    of the five that come with it those whose names are not taken. Raises ValueError where none of them ends the work.
    """
    crew = crew or Crew()
    desk = Desk()
    add_agents(crew, desk)
    if not any(agent.last for agent in crew):
        raise ValueError("no agent of the crew ends the work; register one with last=True")
    app = App(name, description="Agents write and mend a function until its tests pass.", settings=dict(SETTINGS))

    @app.startup
    async def look_at_the_loop(_: Mapping[str, str]) -> None:
        check_programs("the processes that run tests")

    app.startup(desk.open)
    for agent in crew:
        _register(app, agent)

    @app.operation("supervise", retry=MODEL_RETRY)
    async def supervise(step: StepContext, turn: Annotated[int, Field(ge=1)], state: State) -> State:
        """Decides whose turn it is, by the model or by rules, and adds its steps. Gives `state` and `decision`."""
        decision = await _decide(step, turn, state, crew, desk)
        await step.supervisor(
            "decision",
            f"{decision.next_agent}: {decision.reasoning}",
            reasoning=decision.reasoning,
            confidence=decision.confidence,
            next_agent=decision.next_agent,
            instructions=decision.instructions,
            details={"decided_by": decision.decided_by, "turn": turn},
        )
        agent = crew[decision.next_agent]
        of_agent = f"turn-{turn}-{agent.name}"
        added = [
            plan_step(
                of_agent,
                agent.name,
                name=f"Turn {turn}: {agent.name}",
                input={"instructions": decision.instructions, "state": output_of(step.id, "/state")},
            )
        ]
        if not agent.last:
            after = {"turn": turn + 1, "state": output_of(of_agent)}
            added.append(
                plan_step(f"supervise-{turn + 1}", "supervise", name=f"Decide on turn {turn + 1}", input=after)
            )
        await step.supervisor("routing", f"To {agent.name}", next_agent=agent.name, details={"step": of_agent})
        await step.add_steps(added)
        return {"state": state, "decision": decision.to_state()}

    @app.plan("build")
    def build(task: Task, tests: Tests, code: Source = "") -> Plan:
        """Write the function that the tests call, or mend the code that is given, until the tests pass.

        `tests`: Python source with plain asserts or functions `test_...`; it may import the standard library, and
        `solution`, which is the code.
        """
        state = {"task": task, "tests": tests, "code": code, "turns": [], "tried": [], "instructions": ""}
        given = {"turn": 1, "state": state}
        return Plan(steps=[plan_step("supervise-1", "supervise", name="Decide on turn 1", input=given)])

    @app.planner
    async def plan(query: str) -> Plan:
        """A task in words, with its tests as lines that begin with `assert`, or in a ```python block; code to be mended
        in a second block.
        """
        blocks = re.findall(r"```(?:python)?\n(.*?)```", query, re.DOTALL)
        rest = re.sub(r"```.*?```", "", query, flags=re.DOTALL)
        lines = re.findall(r"^[ \t]*(assert\b.*)$", rest, re.MULTILINE)
        tests = "\n".join(lines) or next((block for block in blocks if "assert" in block), "")
        code = next((block for block in blocks if "assert" not in block), "")
        if not tests:
            raise QueryNotUnderstood("the query has no tests; add lines such as: assert double(2) == 4")
        task = re.sub(r"^[ \t]*assert\b.*$", "", rest, flags=re.MULTILINE).strip()
        try:
            return build(task[:20_000], _checked_tests(tests), code)
        except ValueError as error:
            raise QueryNotUnderstood(str(error)) from None

    return app


_KINDS = {"task": str, "tests": str, "code": str, "instructions": str, "turns": list, "tried": list}


def _checked_state(state: dict[str, Any]) -> dict[str, Any]:
    """Returns a state that has what all agents look at: whoever writes a plan can give any."""
    for key, kind in _KINDS.items():
        if not isinstance(state.get(key), kind):
            raise ValueError(f"{key!r} must be a {'text' if kind is str else 'list'}")
    return state


def _checked_tests(text: str) -> str:
    if not check_source(text, "tests").body:
        raise ValueError("there are no tests; write at least: assert f(1) == 2")
    return text


async def _decide(step: StepContext, turn: int, state: State, crew: Crew, desk: Desk) -> Decision:
    """Returns the decision of an earlier attempt, where it was made: steps may have been added by it."""
    saved = step.saved
    text = analysis(state)
    await step.supervisor("analysis", text, details={"turn": turn, "turns": state["turns"]})
    if saved is not None and saved["next_agent"] in crew:
        return Decision(**saved)
    decision = None
    if turn >= desk.max_turns:
        last = next(agent.name for agent in crew if agent.last)
        decision = Decision(
            next_agent=last,
            reasoning=f"{desk.max_turns} turns are all there are (max-turns)",
            confidence=1.0,
            instructions="Say what there is.",
            decided_by="limit",
        )
    elif desk.model is not None:
        decision = await by_model(step, desk.model, state, crew)
    decision = decision or by_rules(state, crew, has_model=desk.model is not None)
    await step.save(decision.to_state())
    return decision


def _register(app: App, agent: Agent) -> None:
    """Makes an agent's turn an operation."""

    async def turn(step: StepContext, instructions: str, state: State) -> Any:
        updates = await agent.work(step, {**state, "instructions": instructions})
        if updates is not None and not isinstance(updates, Mapping):
            raise TypeError(f"the agent {agent.name} returned {type(updates).__name__}; it must return a dict, or None")
        new = {**state, **(updates or {}), "turns": [*state["turns"], agent.name]}
        if new["code"] != state["code"] and "report" not in (updates or {}):
            # Whoever changes the code: the tests say what it is worth.
            new["report"] = await report_of({**new, "report": None})
        if agent.last:
            return new.get("output", new)
        size = len(json.dumps(new, ensure_ascii=False).encode("utf-8", "replace"))
        if size > _MAX_STATE:
            raise ValueError(
                f"the state would have {size:,} bytes after {agent.name}; at most {_MAX_STATE:,} are allowed"
            )
        return new

    turn.__doc__ = agent.description
    app.operation(agent.name, retry=MODEL_RETRY)(turn)
