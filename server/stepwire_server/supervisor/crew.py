"""Who works for a supervisor: agents under names."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from stepwire_server import StepContext

__all__ = ["Agent", "Crew", "Work"]

Work = Callable[[StepContext, dict[str, Any]], Awaitable[Mapping[str, Any] | None]]
"""An agent's function: it is given its step and the state, and returns what it changes of the state."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """One who can be given a turn."""

    name: str
    description: str
    """What it is for, in a sentence: the supervisor decides by it."""
    work: Work
    when: Callable[[Mapping[str, Any]], bool] | None
    """Where no model decides: whether it is its turn."""
    last: bool
    """Whether the work is done after its turn. What it then gives as `output` of the state is the whole's output."""


class Crew:
    """Agents, in the order in which they are asked whether it is their turn.

    crew = Crew()

    @crew.agent("translator", "Writes the docstring in German.", when=lambda state: bool(state["code"]))
    async def translator(step: StepContext, state: dict[str, Any]) -> dict[str, Any]:
        await step.agent("translator", "think", "It has no docstring yet")
        return {"code": ...}

    app = create_app("mine", crew=crew)
    """

    def __init__(self) -> None:
        self._agents: dict[str, Agent] = {}

    def agent(
        self,
        name: str,
        description: str,
        *,
        when: Callable[[Mapping[str, Any]], bool] | None = None,
        last: bool = False,
    ) -> Callable[[Work], Work]:
        """Registers a coroutine function as an agent.

        `when`: where no model decides, whether it is this agent's turn, by the state; `state["turns"]` has who had
        one. Without it, only a model chooses the agent. `last`: nobody has a turn after it. Raises ValueError for a
        name that is taken or does not fit.
        """
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,40}", name) or name == "supervise":
            raise ValueError(f"agent name {name!r} must match [A-Za-z0-9_-]{{1,40}}, and not be 'supervise'")
        if name in self._agents:
            raise ValueError(f"the crew has its agent {name!r} already")

        def register(work: Work) -> Work:
            self._agents[name] = Agent(name=name, description=description, work=work, when=when, last=last)
            return work

        return register

    def __iter__(self) -> Iterator[Agent]:
        return iter(self._agents.values())

    def __contains__(self, name: object) -> bool:
        return name in self._agents

    def __getitem__(self, name: str) -> Agent:
        return self._agents[name]
