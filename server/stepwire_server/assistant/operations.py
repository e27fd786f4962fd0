"""The assistant's ten operations, each of one step type of System V.

Each reports exactly twice, when its agents start and when they end; what it found rides in its output.
"""

from __future__ import annotations

__all__ = ["Desk", "register", "reporting"]

import csv
import functools
import io
from collections.abc import Awaitable, Callable, Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from stepwire_server import App, StepContext
from stepwire_server.assistant import answers
from stepwire_server.assistant.answers import wording
from stepwire_server.assistant.composition import analyze_item, compose, notes_of, quotes_hold
from stepwire_server.assistant.costs import calculate
from stepwire_server.assistant.lexicon import Language
from stepwire_server.assistant.search import Aspect, Shelf, load_shelf

Operation = Callable[..., Awaitable[dict[str, Any]]]
Text = Annotated[str, Field(max_length=2000)]
Words = Annotated[list[Text], Field(max_length=500)]


class Desk:
    """Where an app keeps its shelf, from its start on."""

    def __init__(self) -> None:
        self._shelf: Shelf | None = None

    def open(self, settings: Mapping[str, str]) -> None:
        """Reads the documents of the folder `documents`, or the assistant's own. Raises DocumentError."""
        folder = settings.get("documents")
        self._shelf = load_shelf(Path(folder) if folder else None)

    @property
    def shelf(self) -> Shelf:
        """The documents. Raises RuntimeError before the start."""
        if self._shelf is None:
            raise RuntimeError("the assistant has no documents yet: its app was not started")
        return self._shelf


def reporting(operation: Operation) -> Operation:
    """Makes an operation report when its agents start and end, and nothing else."""

    @functools.wraps(operation)
    async def run(step: StepContext, **inputs: Any) -> dict[str, Any]:
        await step.progress(25, f"Using agents for {step.name}...")
        output = await operation(step, **inputs)
        await step.progress(90, "Agent execution completed")
        return output

    return run


def register(app: App, desk: Desk) -> None:
    """Gives the app the ten operations."""

    @app.operation("search")
    @reporting
    async def search(
        step: StepContext,
        subject: Text,
        aspect: Aspect = "facts",
        terms: Words | None = None,
        others: Words | None = None,
        also: Words | None = None,
        place: Text = "",
        state: Text = "",
    ) -> dict[str, Any]:
        """Finds the passages of the documents on one aspect of a subject.

        `terms`: other words of the question, which order what is found. `others`: what else it names; documents on
        these are taken where none is on the subject. `also`: what is asked for together with it.
        `place`, `state`: documents for another place are left out.
        Gives `found`, `notes` and `passages`.
        """
        return desk.shelf.search(
            subject,
            aspect=aspect,
            terms=terms or (),
            others=others or (),
            also=also or (),
            place=place,
            state=state,
        )

    @app.operation("retrieval")
    @reporting
    async def retrieval(step: StepContext, document: Text, section: Text = "") -> dict[str, Any]:
        """Gives one document, or one section of it, by its name: file name or title, and heading."""
        found = desk.shelf.index.document(document)
        if found is None:
            return {"found": False, "document": None, "sections": []}
        chosen = found.sections if not section else [part for part in (found.section(section),) if part is not None]
        sections = [{"title": part.title, "text": part.text} for part in chosen]
        return {"found": bool(sections), "document": found.reference(), "sections": sections}

    @app.operation("analysis")
    @reporting
    async def analysis(step: StepContext, subject: Text, language: Language = "de") -> dict[str, Any]:
        """Lists the features of one thing from what the searches found that this step depends on."""
        return analyze_item(subject, findings=_findings(step), words=wording(language))

    @app.operation("synthesis")
    @reporting
    async def synthesis(
        step: StepContext,
        subject: Text,
        kind: Literal["checklist", "definition", "answer"] = "answer",
        terms: Words | None = None,
        title: Text = "",
        place: Text = "",
        language: Language = "de",
    ) -> dict[str, Any]:
        """Writes a checklist, a definition or an answer from what the searches found that this step depends on."""
        return compose(
            kind,
            subject,
            title=title or subject,
            place=place,
            findings=_findings(step),
            terms=terms or (),
            words=wording(language),
        )

    @app.operation("aggregation")
    @reporting
    async def aggregation(
        step: StepContext,
        subject: Text,
        kind: Literal["location", "contact", "timeline"],
        title: Text = "",
        place: Text = "",
        language: Language = "de",
    ) -> dict[str, Any]:
        """Gathers offices, contacts or deadlines from what the searches found that this step depends on."""
        return compose(
            kind, subject, title=title or subject, place=place, findings=_findings(step), words=wording(language)
        )

    @app.operation("calculation")
    @reporting
    async def calculation(
        step: StepContext,
        subject: Text,
        terms: Words | None = None,
        amount: Annotated[str | None, Field(pattern=r"^\d{1,12}(\.\d{1,2})?$")] = None,
        title: Text = "",
        place: Text = "",
        language: Language = "de",
    ) -> dict[str, Any]:
        """Works out what something costs from what the searches found that this step depends on.

        `amount`: the value that a rate is a share of, in euros, as digits with a point ("300000" or "1250.50").
        """
        findings, words = _findings(step), wording(language)
        passages = [passage for finding in findings for passage in finding["passages"]]
        value = _decimal(amount)
        result = calculate(subject, passages=passages, terms=terms or (), amount=value, language=language, words=words)
        notes = notes_of(findings, words=words)
        return answers.cost(
            subject,
            title=title or subject,
            place=place,
            result=result,
            passages=passages,
            notes=notes,
            words=words,
            elsewhere=any(finding.get("elsewhere") for finding in findings),
        )

    @app.operation("comparison")
    @reporting
    async def comparison(
        step: StepContext, items: Annotated[list[Text], Field(min_length=2, max_length=50)], language: Language = "de"
    ) -> dict[str, Any]:
        """Sets things side by side in a table, from the analyses that this step depends on."""
        done = {
            result["item"]: result for result in step.results.values() if isinstance(result, dict) and "item" in result
        }
        words = wording(language)
        analyses = [done.get(item) or analyze_item(item, findings=(), words=words) for item in items]
        return answers.comparison(items, analyses=analyses, words=words)

    @app.operation("validation")
    @reporting
    async def validation(step: StepContext, answer: dict[str, Any] | None = None) -> dict[str, Any]:
        """Checks that what an answer quotes stands in the documents that it names.

        `answer`: the answer; without it, the outputs that this step depends on are checked. Gives `valid` and
        `missing`.
        """
        checked: list[Any] = [answer] if answer is not None else list(step.results.values())
        documents = {document.file: document for document in desk.shelf.index.documents}
        missing = [
            quote for entry in checked if isinstance(entry, dict) for quote in quotes_hold(entry, documents=documents)
        ]
        return {"valid": not missing, "missing": missing}

    @app.operation("transformation")
    @reporting
    async def transformation(
        step: StepContext,
        rows: Annotated[list[list[str]], Field(max_length=10_000)],
        columns: list[str] | None = None,
        format: Literal["markdown", "csv", "text"] = "markdown",  # noqa: A002 - the input's own word for it
    ) -> dict[str, Any]:
        """Writes a table, or a list as a table of one column, as Markdown, CSV or plain text."""
        return {"format": format, "text": _table_text(rows, columns=columns, form=format)}

    @app.operation("other")
    @reporting
    async def other(step: StepContext, value: Any = None, note: Text = "") -> dict[str, Any]:
        """Passes its input on, with a note."""
        return {"value": value, "note": note or "passed on unchanged"}


def _findings(step: StepContext) -> list[Mapping[str, Any]]:
    """Returns the outputs of searches among those that the step depends on."""
    return [
        result
        for result in step.results.values()
        if isinstance(result, dict) and "passages" in result and "notes" in result
    ]


def _decimal(text: str | None) -> Decimal | None:
    try:
        return None if text is None else Decimal(text)
    except InvalidOperation:  # The pattern lets no such text in.
        return None


def _table_text(rows: list[list[str]], *, columns: list[str] | None, form: Literal["markdown", "csv", "text"]) -> str:
    width = max([len(columns or ()), *(len(row) for row in rows)], default=0)
    filled = [[*row, *[""] * (width - len(row))] for row in rows]
    header = [*columns, *[""] * (width - len(columns))] if columns else None
    if form == "csv":
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([header, *filled] if header else filled)
        return text.getvalue()
    if form == "markdown":
        if header is None and width == 1:
            return "\n".join(f"- {row[0]}" for row in filled)
        return "\n".join(answers.table_markdown(header or [""] * width, filled))
    lines = [header, *filled] if header else filled
    widths = [max((len(line[column]) for line in lines), default=0) for column in range(width)]
    return "\n".join(
        "  ".join(cell.ljust(size) for cell, size in zip(line, widths, strict=True)).rstrip() for line in lines
    )
