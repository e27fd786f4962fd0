"""The agent that reads what there is: the tests, the code, a folder of documents; and runs the tests on the code."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

from stepwire_server import StepContext
from stepwire_server.supervisor.crew import Crew
from stepwire_server.supervisor.desk import Desk
from stepwire_server.supervisor.examples import read_examples
from stepwire_server.supervisor.trial import Trial, check_source

__all__ = ["NAME", "add", "passages"]

NAME = "research"

_FILES = 200
_BYTES = 1 << 20
_PASSAGES = 5
_KINDS = frozenset({".md", ".txt", ".rst", ".py"})


def add(crew: Crew, desk: Desk) -> None:
    """Adds the agent."""

    @crew.agent(NAME, "Reads tests, code and documents, and runs the tests on the code that there is.")
    async def research(step: StepContext, state: dict[str, Any]) -> dict[str, Any]:
        await step.agent(NAME, "think", "What do the tests call, and which examples do they give?")
        code = check_source(state["code"], "code") if state["code"] else None
        examples = read_examples(check_source(state["tests"], "tests"), code)
        known = [{"arguments": list(arguments), "gives": repr(wanted)} for arguments, wanted in examples.known[:200]]
        found: dict[str, Any] = {
            "function": examples.name,
            "examples": len(examples.known),
            "asserts_that_are_no_example": examples.unread,
        }
        await step.agent(
            NAME,
            "progress",
            f"The tests call {examples.name or 'no function'}, with {len(examples.known)} examples",
            details=found,
        )
        updates: dict[str, Any] = {}
        if state["code"]:
            report = await Trial(state["tests"]).run(state["code"])
            updates["report"] = report.to_state()
            await step.agent(
                NAME, "progress", f"The code that was given passes {report.passed} of {len(report.tests)} tests"
            )
        if desk.documents is not None:
            found["passages"] = await asyncio.to_thread(passages, desk.documents, f"{state['task']} {examples.name}")
            await step.agent(NAME, "progress", f"{len(found['passages'])} passages of the documents are about it")
        whole = {**found, "known": [{**each, "arguments": repr(each["arguments"])} for each in known]}
        await step.artifact("research", whole)
        await step.agent(NAME, "result", f"Read {len(examples.known)} examples of {examples.name or 'nothing'}")
        return {**updates, "research": found}


def passages(folder: Path, query: str) -> list[dict[str, str]]:
    """Returns the paragraphs of a folder's files that have most of a query's words, the best first."""
    words = set(re.findall(r"\w{3,}", query.lower().replace("_", " ")))
    scored: list[tuple[int, str, str]] = []
    for path in sorted(path for path in folder.rglob("*") if path.suffix in _KINDS)[:_FILES]:
        try:
            text = path.read_text("utf-8", "replace") if path.is_file() and path.stat().st_size <= _BYTES else ""
        except OSError:  # It may not be read, or has gone.
            continue
        for paragraph in re.split(r"\n\s*\n", text):
            hits = len(words & set(re.findall(r"\w{3,}", paragraph.lower())))
            if hits >= 2:
                scored.append((-hits, str(path.relative_to(folder)), paragraph.strip()[:1_000]))
    return [{"file": file, "text": text} for _, file, text in sorted(scored)[:_PASSAGES]]
