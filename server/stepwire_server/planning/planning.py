"""System P as an app: what an author puts together."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from stepwire_server import App, Plan
from stepwire_server.models import MODEL_SETTINGS, model_from
from stepwire_server.planning.calls import register_tool
from stepwire_server.planning.grammar import parse
from stepwire_server.planning.memory import Memory
from stepwire_server.planning.stages import Request, Stage, Work, order, register_stage, stage_steps
from stepwire_server.planning.work import Desk, Works
from stepwire_server.tools import McpServer, Toolbox, load_commands, load_servers, ready_made

__all__ = ["Planning"]

_log = logging.getLogger(__name__)

F = TypeVar("F", bound=Work)

_SETTINGS = {
    **MODEL_SETTINGS,
    "memory": "A folder for what sessions remember; else one beside the journal.",
    "commands": "A TOML file that says which commands may be called, and how.",
    "mcp": "An MCP server: a command line, an http(s) address, or a TOML file that names several.",
    "attempts": "How often a tool that fails is called (2). It may be called again after a crash in any case.",
}


class Planning:
    """An app that serves requests in stages: it plans which tools to call, checks that, calls them, and remembers.

    planning = Planning("desk")

    @planning.tool()
    def vat(net: float) -> float:
        \"\"\"Work out the value added tax.\"\"\"
        return round(net * 0.19, 2)

    @planning.stage("review", after="validation")
    async def review(step: StepContext, turn: Turn) -> str:
        \"\"\"Asks somebody where many calls are planned.\"\"\"
        if len(turn.plan["calls"]) > 10:
            return await step.ask("That are many calls. Go on?", choices=["yes", "no"])
        return "not needed"

    app = planning.app
    """

    def __init__(self, name: str = "planning", *, toolbox: Toolbox | None = None) -> None:
        """`toolbox`: the tools to plan with; by default the ready-made ones. What settings name comes to them."""
        self.toolbox = Toolbox(ready_made()) if toolbox is None else toolbox
        """The tools to plan with."""
        self.app = App(name, description="Plans which tools serve a request, and calls them.", settings=_SETTINGS)
        """The app, to be served."""
        self.tool = self.toolbox.tool
        """Registers a function as a tool, as Toolbox.tool."""
        self._desk = Desk(self.toolbox)
        self._own: list[Stage] = []
        for stage in Works(self._desk, self._order).stages():
            register_stage(self.app, stage)
        self.app.startup(self._open)
        self.app.shutdown(self._close)
        self._register_plans()

    def stage(self, name: str, *, after: str) -> Callable[[F], F]:
        """Registers a coroutine function as a stage of its own, which runs after another one: a built-in one but
        `completion`, or one that was added before. It is given the step and the Turn so far; what it returns stands in
        the response, under `own_stages`. What it raises fails the request. Its name is an operation's.

        Raises ValueError where there is no stage to come after, and TypeError for what is no coroutine function.
        """

        def register(function: F) -> F:
            names = self._order()
            if after not in names or after == "completion":
                raise ValueError(f"stage {name!r} can't come after {after!r}; it can after: {', '.join(names[:-1])}")
            says = (function.__doc__ or name).strip().splitlines()[0]
            stage = Stage(name=name, says=says, work=function, after=after)
            register_stage(self.app, stage)
            self._own.append(stage)
            return function

        return register

    def _order(self) -> list[str]:
        return order(self._own)

    def _register_plans(self) -> None:
        @self.app.plan("answer")
        def answer(request: Request) -> Plan:
            """Serve a request in stages: plan which tools to call, check the plan, call them, remember, respond."""
            if self._desk.model is None:
                parse(request, [tool.name for tool in self.toolbox])
            names = self._order()
            return Plan(steps=stage_steps(names[: names.index("execution") + 1], request))

        @self.app.planner
        def plan(query: str) -> Plan:
            """Takes a request in English or German: arithmetic, dates, figures of a text, tools by name, results of
            before ("add 5 to it", "call it total", "was war total?"); several parts are joined with "and then".
            With a model, whatever the tools can do.
            """
            return answer(query)

    async def _open(self, settings: Mapping[str, str]) -> None:
        self._desk.model = model_from(settings)
        for command in load_commands(Path(settings["commands"])) if "commands" in settings else ():
            self.toolbox.add(command)
        given = settings.get("mcp", "")
        for server in load_servers(Path(given)) if given.endswith(".toml") else [McpServer.of(given)] if given else ():
            self.toolbox.connect(server)
        await self.toolbox.open()
        for tool in self.toolbox:
            register_tool(self.app, tool, attempts=_attempts(settings))
        self._remember(settings)

    def _remember(self, settings: Mapping[str, str]) -> None:
        folder = Path(settings["memory"]).expanduser().absolute() if settings.get("memory") else self.app.folder
        if folder is None:
            self._desk.nothing_kept = "the journal is in memory, and `memory` names no folder: nothing is kept"
            _log.warning("app %s: %s of what sessions ask", self.app.name, self._desk.nothing_kept)
        else:
            self._desk.memory = Memory(folder)

    async def _close(self) -> None:
        await self.toolbox.close()
        if self._desk.model is not None:
            await self._desk.model.close()


def _attempts(settings: Mapping[str, str]) -> int:
    text = settings.get("attempts", "2")
    if not (text.isascii() and text.isdecimal() and 1 <= int(text) <= 20):
        raise ValueError(f"attempts is {text!r}; it must be 1 to 20")
    return int(text)
