"""System V as an app: queries on German public administration, answered from documents.

`stepwire_server.assistant:app` is the server's default app. `create_app` makes another, with documents of its own.
"""

from __future__ import annotations

__all__ = ["app", "create_app"]

from stepwire_server import App, Plan
from stepwire_server.assistant.language import analyze
from stepwire_server.assistant.operations import Desk, register
from stepwire_server.assistant.planner import build_plan


def create_app(name: str = "assistant") -> App:
    """Returns the assistant as an app. It reads its documents when it is started."""
    desk = Desk()
    made = App(
        name,
        description="Answers queries on German public administration from documents.",
        settings={"documents": "A folder of Markdown or text files to answer from."},
    )
    made.startup(desk.open)
    register(made, desk)

    @made.planner
    async def plan(query: str) -> Plan:
        """Plans a query on public administration, in German or English: how something is done, what it costs, what a
        word means, how things differ, where an office is and how to reach it, which deadlines hold, and facts.
        """
        shelf = desk.shelf
        return build_plan(analyze(query, gazetteer=shelf.gazetteer, vocabulary=shelf.index.vocabulary))

    return made


app = create_app()
