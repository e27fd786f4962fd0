"""The operation: from a question to a chart, through the states that callers know, each with its percentage."""

from __future__ import annotations

__all__ = ["Desk", "Question", "register"]

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field

from stepwire_server import App, StepContext, StepEnded
from stepwire_server.charts.drawing import Drawing, draw
from stepwire_server.charts.failures import Ambiguous, ChartError, DataError, NotUnderstood, QueryStopped
from stepwire_server.charts.grammar import is_german, read_question
from stepwire_server.charts.interpreter import interpret
from stepwire_server.charts.pictures import pictures
from stepwire_server.charts.results import Inquiry, resolved
from stepwire_server.charts.schema import Table
from stepwire_server.charts.sources import Session, Source, open_source
from stepwire_server.charts.specification import Query
from stepwire_server.charts.vega import MEDIA_TYPE
from stepwire_server.charts.wording import wording
from stepwire_server.models import MODEL_RETRY, Model, model_from

_log = logging.getLogger(__name__)
T = TypeVar("T")
Question = Annotated[str, Field(min_length=1, max_length=2000)]
Pictures = Annotated[list[Literal["svg", "png"]], Field(max_length=2)]

_STATES: Mapping[str, int] = {
    "routing": 5,
    "planning": 10,
    "understanding_schema": 20,
    "generating_query": 30,
    "clarifying": 40,
    "executing_query": 50,
    "validating_results": 70,
    "transforming_data": 90,
    "completed": 100,
}
_SECONDS = 30.0
_MEMORY = "1GB"
_ASKED = 8
"""Questions that one question may lead to."""


class Desk:
    """Where an app keeps what it was started with."""

    def __init__(self) -> None:
        self.source: Source | None = None
        self.model: Model | None = None
        self.seconds = _SECONDS

    def open(self, settings: Mapping[str, str]) -> None:
        """Opens the data, and reads its tables once. Raises ValueError where something is missing or wrong."""
        missing = [
            name
            for module, name in (("duckdb", "duckdb"), ("vl_convert", "vl-convert-python"))
            if not find_spec(module)
        ]
        if missing:
            raise DataError(f"charts need {' and '.join(missing)}: pip install 'stepwire[server,charts]'")
        if not settings.get("data"):
            raise DataError("name the data: --set data=FILE_OR_FOLDER, a SQLite or DuckDB database, or CSV or Parquet")
        self.seconds = _seconds(settings.get("query-seconds"))
        self.model = model_from(settings)
        memory = settings.get("query-memory") or _MEMORY
        self.source = open_source(Path(settings["data"]).expanduser(), memory=memory)
        try:
            with self.source.open() as session:
                tables, left_out = session.schema(), session.left_out
        except ChartError as error:
            raise DataError(f"{self.source.name} can't be read: {error}") from None
        for name, reason in left_out.items():
            _log.warning("%s: left out is table %s, which can't be read: %s", self.source.name, name, reason)
        if not tables:
            raise DataError(f"{self.source.name} has no tables{' that can be read' if left_out else ''}")

    async def close(self) -> None:
        """Lets go of the data and of the model."""
        source, model, self.source, self.model = self.source, self.model, None, None
        if source is not None:
            source.close()
        if model is not None:
            await model.close()


def register(app: App, desk: Desk) -> None:
    """Gives the app its operation."""

    @app.operation("chart", retry=MODEL_RETRY)
    async def chart(step: StepContext, question: Question, pictures: Pictures | None = None) -> dict[str, Any]:
        """Makes a chart of a question about the tables, in English or German.

        "average price by region", "Summe umsatz pro Monat", "top 5 customers by revenue", "price against weight". Asks
        where it may mean several things. `pictures`: "svg", "png", both (the default), or none; they come as artifacts,
        with the Vega-Lite specification. Gives `chart`, `title`, `description`, `columns`, `data`, `query`, `queries`
        with their SQL, parameters and row counts, `row_counts`, `notes` and `artifacts`.
        """
        if desk.source is None:
            raise RuntimeError("the charts have no data yet: their app was not started")
        course = _Course(step, question, source=desk.source, model=desk.model, seconds=desk.seconds)
        try:
            return await course.run(("svg", "png") if pictures is None else tuple(pictures))
        except StepEnded:
            raise
        except Exception as error:
            text = str(error) if isinstance(error, ChartError | DataError) else type(error).__name__
            await step.progress(message=text[:1000], stage="failed")
            raise


class _Course:
    """One question on its way."""

    def __init__(
        self, step: StepContext, question: str, *, source: Source, model: Model | None, seconds: float
    ) -> None:
        self._step = step
        self._question = question
        self._source = source
        self._model = model
        self._seconds = seconds
        self._german = is_german(question)
        self._session: Session | None = None

    async def run(self, forms: tuple[str, ...]) -> dict[str, Any]:
        """Returns the result, and has said all that leads to it."""
        model = f", with {self._model.name} where its words do not say it" if self._model else ""
        await self._state(
            "routing", f"A question in {'German' if self._german else 'English'} about {self._source.name}"
        )
        await self._state("planning", f"Tables, query, chart{model}")
        try:
            await self._state("understanding_schema", f"Reading the tables of {self._source.name}")
            session = self._session = await asyncio.to_thread(self._source.open)
            tables = await self._within(session.schema)
            columns = sum(len(table.columns) for table in tables)
            await self._state("generating_query", f"tables: {len(tables)}, columns: {columns}", tables=_names(tables))
            query, table = await self._understood(tables, session.left_out)
            inquiry = Inquiry(resolved(query, table), table, session)
            await self._state("executing_query", f"Asking table {table.name}", query=_plain(inquiry.query))
            await self._within(inquiry.ask)
            count = len(inquiry.rows)
            await self._state("validating_results", f"{count:,} rows", sql=[entry.sql for entry, _ in inquiry.asked])
            await self._within(inquiry.complete)
            await self._state("transforming_data", f"{len(inquiry.rows):,} rows become a chart")
            drawing = draw(inquiry, wording(self._german), german=self._german)
            artifacts, notes = await self._shown(drawing, forms)
        finally:
            if self._session is not None:
                self._session.close()
        await self._state("completed", drawing.title)
        return _result(inquiry, drawing, artifacts, notes)

    async def _state(self, name: str, message: str, **data: Any) -> None:
        await self._step.progress(_STATES[name], message, stage=name, data=data)

    async def _understood(self, tables: list[Table], left_out: Mapping[str, str]) -> tuple[Query, Table]:
        """Reads the question, and asks where it may mean several things: by the grammar, or else with the model."""
        answers: dict[str, str] = {}
        with_model = False
        for _ in range(_ASKED):
            try:
                if with_model and self._model is not None:
                    return await interpret(self._model, self._step, self._question, tables, answers)
                return await asyncio.to_thread(read_question, self._question, tables, answers, left_out=left_out)
            except Ambiguous as ambiguous:
                await self._state("clarifying", ambiguous.prompt)
                answers[ambiguous.key] = await self._step.ask(
                    ambiguous.prompt, choices=ambiguous.choices, key=ambiguous.key[:200]
                )
            except NotUnderstood:
                if self._model is None or with_model:
                    raise
                with_model = True
        raise NotUnderstood("the question leaves too much open: name the table, its columns, and what to compute")

    async def _shown(self, drawing: Drawing, forms: tuple[str, ...]) -> tuple[list[dict[str, Any]], list[str]]:
        """Gives the artifacts, and returns what they are called, and what is to be said of those that are missing."""
        await self._step.artifact("chart.vl.json", drawing.specification, media_type=MEDIA_TYPE)
        artifacts: list[dict[str, Any]] = [{"name": "chart.vl.json", "media_type": MEDIA_TYPE}]
        notes = []
        for picture in await asyncio.to_thread(lambda: list(pictures(drawing.specification, forms))):
            if picture.data:
                await self._step.artifact(picture.name, picture.data, media_type=picture.media_type)
                artifacts.append({"name": picture.name, "media_type": picture.media_type, "size": picture.size})
            else:
                notes.append(
                    f"{picture.name} would have {picture.size:,} bytes, which is too large; draw chart.vl.json"
                )
        return artifacts, notes

    async def _within(self, call: Callable[[], T]) -> T:
        """Runs what asks the database in a thread, for so many seconds at most. A cancel stops it, too."""
        loop, begun = asyncio.get_running_loop(), asyncio.Event()

        def timed() -> T:
            loop.call_soon_threadsafe(begun.set)
            return call()

        work = asyncio.ensure_future(asyncio.to_thread(timed))
        # Also where it never begins.
        work.add_done_callback(lambda _: begun.set())
        try:
            # What other work the threads have first is no time of the query.
            await begun.wait()
            done, _ = await asyncio.wait({work}, timeout=self._seconds)
        except asyncio.CancelledError:
            await self._stopped(work)
            raise
        if done:
            return work.result()
        await self._stopped(work)
        raise QueryStopped(
            f"the query took longer than {self._seconds:g} s and was stopped: ask for less, or serve with a larger "
            "query-seconds"
        )

    async def _stopped(self, work: asyncio.Future[Any]) -> None:
        while not work.done():
            if self._session is not None:
                self._session.stop()
            await asyncio.wait({work}, timeout=0.02)
        if not work.cancelled():
            work.exception()


def _result(inquiry: Inquiry, drawing: Drawing, artifacts: list[dict[str, Any]], notes: list[str]) -> dict[str, Any]:
    return {
        "chart": drawing.chart,
        "title": drawing.title,
        "description": drawing.description,
        "columns": list(drawing.columns),
        "data": drawing.data,
        "query": _plain(inquiry.query),
        "queries": [
            {"sql": statement.sql, "parameters": list(map(_sent, statement.parameters)), "rows": rows}
            for statement, rows in inquiry.asked
        ],
        "row_counts": {"table": inquiry.table.rows, "matching": inquiry.matching, "shown": len(drawing.data)},
        "notes": [*drawing.notes, *notes],
        "artifacts": artifacts,
    }


def _plain(query: Query) -> dict[str, Any]:
    """Returns a query as it can be sent."""
    plain = asdict(query)
    for condition in plain["conditions"]:
        condition["values"] = list(map(_sent, condition["values"]))
    return plain


def _sent(value: Any) -> Any:
    return str(value) if isinstance(value, int) and abs(value) > 2**53 else value


def _names(tables: list[Table]) -> list[str]:
    return [table.name for table in tables[:50]]


def _seconds(text: str | None) -> float:
    try:
        seconds = float(text) if text else _SECONDS
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 3600:
        raise ValueError(f"query-seconds is {text!r}; it must be above 0 and at most 3600")
    return seconds
