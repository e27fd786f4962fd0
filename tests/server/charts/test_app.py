"""The app on a server: its states, what it asks, what it gives, and how it ends where it can't go on."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.server.models.endpoint import Endpoint, says

from stepwire.aio import Client
from stepwire.aio import Run as Started
from stepwire.errors import ExecutionFailed
from stepwire.v1 import Event
from stepwire_server import App
from stepwire_server.api.server import Options, Server
from stepwire_server.charts import create_app
from stepwire_server.charts.charting import Desk
from stepwire_server.charts.sources import Session, Source
from stepwire_server.journal import MemoryJournal

from .tables import write

STATES = {
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


class Outcome(NamedTuple):
    """What an execution streamed, and what it gave; an error where it failed."""

    events: list[Event]
    output: Any

    @property
    def states(self) -> list[tuple[str, float]]:
        reports = [event.step_progress for event in self.events if event.HasField("step_progress")]
        return [(report.stage, report.percentage) for report in reports if report.stage]

    def artifacts(self) -> dict[str, Any]:
        return {event.artifact.name: event.artifact for event in self.events if event.HasField("artifact")}


Run = Callable[..., Awaitable[Outcome]]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rows = [(date(2023, 1 + n % 12, 3), "north" if n % 3 else "south", n, date(2024, 1, 1)) for n in range(60)]
    columns = {"sold": "date", "region": "text", "price": "whole", "paid": "date"}
    return write(tmp_path, "sqlite", columns, rows, table="orders")


@pytest.fixture
def run(data: Path) -> Run:
    """Asks a question of a server with the app; answers what it asks with the given answers, one after the other."""

    async def execute(question: str, *answers: str, settings: Mapping[str, str] | None = None, **more: Any) -> Outcome:
        desk = Desk()
        app = create_app(desk=desk)
        await app.start({"data": str(data), **(settings or {})})
        async with (
            Server(app.catalog(), MemoryJournal(), Options(drain_grace=0.0)) as server,
            Client(server.address) as client,
        ):
            work = more or {"call": "chart", "input": {"question": question}}
            started = await client.execute(**work)
            left, events = list(answers), []
            async for event in started:
                events.append(event)
                if event.HasField("input_requested"):
                    await started.answer(event.input_requested.input_id, left.pop(0))
            try:
                result: Any = await started.result()
            except ExecutionFailed as error:
                result = error
        await app.stop()
        assert (desk.source, desk.model) == (None, None)
        return Outcome(events, result)

    return execute


async def test_the_states(run: Run) -> None:
    """A question goes through the states with their percentages, and does not clarify what is clear."""
    outcome = await run("average price by region")
    assert outcome.states == [(name, percentage) for name, percentage in STATES.items() if name != "clarifying"]
    result = outcome.output
    assert (result["chart"], result["title"]) == ("bar", "Average of price by region")
    assert {row["region"]: row["Average of price"] for row in result["data"]} == {"north": 30, "south": 28.5}
    assert result["row_counts"] == {"table": 60, "matching": 60, "shown": 2}
    assert result["queries"][0]["sql"].startswith('SELECT CAST("region" AS TEXT), AVG(')
    assert result["queries"][0]["rows"] == 2
    assert "Largest: north (30.00); smallest: south (28.50)." in result["description"]


async def test_the_artifacts(run: Run) -> None:
    """The chart comes as a Vega-Lite specification with its data in it, as SVG, and as PNG."""
    artifacts = (await run("sum of price by sold per month")).artifacts()
    assert list(artifacts) == ["chart.vl.json", "chart.svg", "chart.png"]
    specification = artifacts["chart.vl.json"]
    assert specification.media_type == "application/vnd.vegalite.v5+json"
    fields = specification.value.struct_value.fields
    assert fields["$schema"].string_value.endswith("/vega-lite/v5.json")
    assert len(fields["data"].struct_value.fields["values"].list_value.values) == 12
    assert artifacts["chart.svg"].data.startswith(b"<svg")
    assert artifacts["chart.png"].data.startswith(b"\x89PNG")


async def test_what_is_ambiguous_is_asked(run: Run) -> None:
    """Where a question may mean several things the step says that it clarifies, asks with choices, and goes on."""
    outcome = await run("price per month", "sold", "average")
    assert [name for name, _ in outcome.states].count("clarifying") == 2
    assert [percentage for name, percentage in outcome.states if name == "clarifying"] == [40, 40]
    asked = [event.input_requested for event in outcome.events if event.HasField("input_requested")]
    assert [list(question.choices) for question in asked] == [
        ["sold", "paid"],
        ["sum", "average", "minimum", "maximum", "median"],
    ]
    assert outcome.output["title"] == "Average of price by sold (month)"


async def test_a_query_is_a_question(run: Run) -> None:
    """A query of plain text is planned as one step of the operation."""
    outcome = await run("", query="Anzahl orders pro region als Kreisdiagramm")
    assert outcome.output["chart"] == "pie"
    assert outcome.output["title"] == "Anzahl orders nach region"


async def test_what_is_not_understood_fails(run: Run) -> None:
    """A question that is not understood ends in the state failed, and its error says which columns there are."""
    outcome = await run("average colour by region")
    assert outcome.states[-1][0] == "failed"
    assert "region: text, price: number" in str(outcome.output)
    assert "'colour' is not understood" in str(outcome.output)


async def test_pictures_may_be_left_out(run: Run) -> None:
    """Who wants no pictures gets the specification alone."""
    step = {"id": "a", "operation": "chart", "input": {"question": "average price", "pictures": []}}
    outcome = await run("", plan={"steps": [step]})
    assert list(outcome.artifacts()) == ["chart.vl.json"]
    assert outcome.output["chart"] == "number"
    assert outcome.output["data"] == [{"Average of price": 29.5}]


def _endless(data: Path) -> None:
    """Makes a table of the data a view whose rows never end, beside one that says what it has."""
    connection = sqlite3.connect(data)
    connection.execute("CREATE TABLE seeds (price INTEGER, region TEXT)")
    connection.executemany("INSERT INTO seeds VALUES (?, ?)", [(n, str(n % 2)) for n in range(2000)])
    connection.execute("DROP TABLE orders")
    connection.execute(
        "CREATE VIEW orders AS SELECT a.price, a.region FROM seeds a, seeds b, seeds c, seeds d WHERE a.price >= 0"
    )
    connection.commit()
    connection.close()


@asynccontextmanager
async def _asked(app: App) -> AsyncIterator[Started]:
    """Asks a question of a server with an app that is started."""
    async with (
        Server(app.catalog(), MemoryJournal(), Options(drain_grace=0.0)) as server,
        Client(server.address) as client,
    ):
        yield await client.execute(call="chart", input={"question": "average price of orders by region"})
    await app.stop()


async def test_a_query_that_takes_too_long(data: Path) -> None:
    """A query that takes longer than its time is stopped, and the error says so; the server goes on."""
    app = create_app()
    await app.start({"data": str(data), "query-seconds": "0.3"})
    _endless(data)
    async with _asked(app) as started:
        with pytest.raises(ExecutionFailed, match=r"longer than 0.3 s and was stopped"):
            await started.result()


class _Crowded(Source):
    """Has the only thread taken once it is opened, until the gate is."""

    def __init__(self, source: Source, thread: ThreadPoolExecutor) -> None:
        self.name = source.name
        self.gate = threading.Event()
        self._source = source
        self._thread = thread

    def open(self) -> Session:
        self._thread.submit(self.gate.wait, 20)
        return self._source.open()


async def test_a_wait_for_a_thread_is_no_time_of_the_query(data: Path) -> None:
    """A query's time begins with its work, however long all threads are busy with other things."""
    desk = Desk()
    app = create_app(desk=desk)
    await app.start({"data": str(data), "query-seconds": "1"})
    with ThreadPoolExecutor(1) as thread:
        asyncio.get_running_loop().set_default_executor(thread)
        assert desk.source is not None
        desk.source = crowded = _Crowded(desk.source, thread)
        async with _asked(app) as started:
            result = asyncio.ensure_future(started.result())
            assert not (await asyncio.wait({result}, timeout=1.2))[0]
            crowded.gate.set()
            assert (await result)["chart"] == "bar"


async def test_a_cancel_stops_the_query(data: Path) -> None:
    """A cancel ends the query that runs, at once, and the step is cancelled and not abandoned."""
    app = create_app()
    await app.start({"data": str(data), "query-seconds": "3000"})
    _endless(data)
    async with _asked(app) as started:
        events = []
        async with asyncio.timeout(20):
            async for event in started:
                events.append(event)
                if event.step_progress.stage == "understanding_schema":
                    await started.cancel("enough")
        (cancelled,) = [event.step_cancelled for event in events if event.HasField("step_cancelled")]
        assert not cancelled.abandoned
        assert events[-1].HasField("plan_cancelled")


def _query(**changes: Any) -> str:
    plain = {
        "table": "orders",
        "measures": [{"aggregate": "average", "column": "price"}],
        "groups": [{"column": "region", "bucket": ""}],
        "conditions": [],
        "order": "",
        "limit": None,
        "chart": "",
        "ask": None,
    }
    return json.dumps(plain | changes)


async def test_a_model_reads_what_the_grammar_does_not(run: Run) -> None:
    """A question beyond the grammar is read by the model; what does not fit the tables is asked again."""
    wrong = _query(measures=[{"aggregate": "sum", "column": "region"}])
    with Endpoint([says(wrong), says(_query())]) as endpoint:
        settings = {"model": "tiny", "model-url": endpoint.url}
        outcome = await run("How do our regions fare, price-wise?", settings=settings)
        clear = await run("average price by region", settings=settings)
    assert len(endpoint.requests) == 2
    assert "'region' is no number" in endpoint.requests[1].prompt
    assert outcome.output["data"] == clear.output["data"]
    assert outcome.output["title"] == "Average of price by region"


async def test_a_model_may_ask(run: Run) -> None:
    """A model that finds a question ambiguous has a person asked, and is told the answer."""
    question = {"prompt": "Mean or median?", "choices": ["mean", "median"]}
    with Endpoint([says(_query(ask=question)), says(_query())]) as endpoint:
        settings = {"model": "tiny", "model-url": endpoint.url}
        outcome = await run("How do our regions fare?", "mean", settings=settings)
    assert ("clarifying", 40) in outcome.states
    assert "mean" in endpoint.requests[1].prompt
    assert outcome.output["chart"] == "bar"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "name the data: --set data=FILE_OR_FOLDER"),
        ({"data": "nowhere.db"}, "nowhere.db can't be read: No such file"),
        ({"data": "{data}", "query-seconds": "soon"}, "query-seconds is 'soon'"),
        ({"data": "{data}", "query-seconds": "nan"}, "query-seconds is 'nan'"),
    ],
)
async def test_a_wrong_setting_is_said_at_the_start(settings: dict[str, str], said: str, data: Path) -> None:
    """A setting that is missing or wrong ends the start, with a text that names it."""
    with pytest.raises(ValueError, match=said.replace(".", r"\.")):
        await create_app().start({key: value.format(data=data) for key, value in settings.items()})
