"""System S as an app: a supervisor and its agents write or mend a function until its tests pass.

`stepwire_server.supervisor:app` is served; `create_app` makes another, with agents of one's own:

    crew = Crew()

    @crew.agent("translator", "Writes the docstring in German.", when=lambda state: "translator" not in state["turns"])
    async def translator(step: StepContext, state: dict[str, Any]) -> dict[str, Any]: ...

    app = create_app("mine", crew=crew)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stepwire_server import App
    from stepwire_server.supervisor.building import create_app
    from stepwire_server.supervisor.crew import Agent, Crew

    app: App

__all__ = ["Agent", "Crew", "app", "create_app"]

_HOMES = {"Agent": "crew", "Crew": "crew", "create_app": "building"}


def __getattr__(name: str) -> Any:
    # The search runs in a process of its own, which needs nothing of the server: importing it must load nothing.
    from importlib import import_module

    if name == "app":
        made = globals()["app"] = import_module(f"{__name__}.building").create_app()
        return made
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
