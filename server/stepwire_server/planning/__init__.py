"""System P as an app: a request goes through eight stages, is planned before anything runs, and is remembered.

`stepwire_server.planning:app` serves it. `Planning` makes another one, with tools and stages of your own:

    planning = Planning("desk")

    @planning.stage("review", after="validation")
    async def review(step: StepContext, turn: Turn) -> str: ...

    app = planning.app
"""

from __future__ import annotations

__all__ = ["BUILT_IN", "Memory", "MemoryLimits", "Planning", "Recollection", "RequestFailed", "Turn", "app"]

from stepwire_server.planning.memory import Memory, MemoryLimits, Recollection
from stepwire_server.planning.planning import Planning
from stepwire_server.planning.stages import BUILT_IN, Turn
from stepwire_server.planning.work import RequestFailed

app = Planning().app
