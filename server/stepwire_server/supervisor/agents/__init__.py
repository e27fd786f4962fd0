"""The agents that come with the supervisor."""

from __future__ import annotations

from stepwire_server.supervisor.agents import architect, codesmith, research, responder, reviewfix
from stepwire_server.supervisor.crew import Crew
from stepwire_server.supervisor.desk import Desk

__all__ = ["add_agents"]


def add_agents(crew: Crew, desk: Desk) -> None:
    """Adds those of the five whose names the crew does not have yet: so an author can replace each."""
    for module in (research, architect, codesmith, reviewfix, responder):
        if module.NAME not in crew:
            module.add(crew, desk)
