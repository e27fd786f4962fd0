"""Makes a golden journal of the version that this checkout writes: run once a version, before the next one is begun.

    python tests/server/journal/golden/make.py

`version-N.sql` is the file as SQL text, `version-N.json` what has to be read from it: records, events, states. The
executions are real ones: one completed, one failed, one cancelled, one that a server left in the middle.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import tempfile
from base64 import b64encode
from contextlib import closing
from pathlib import Path

from stepwire.errors import OperationNotFound
from stepwire.v1 import ExecuteRequest, ExecutionFilter, Plan
from stepwire_server import App, StepContext, output_of, plan_step
from stepwire_server.engine.engine import Engine
from stepwire_server.journal import Journal, SqliteJournal

HERE = Path(__file__).parent


def shop() -> App:
    """Returns the app whose executions the golden journal has."""
    app = App("golden")

    @app.operation()
    async def greet(step: StepContext, name: str) -> dict[str, str]:
        await step.progress(50, "Grüße werden geschrieben")
        await step.content(f"Hallo {name}")
        return {"greeting": f"Hallo {name}"}

    @app.operation()
    async def shout(text: str) -> str:
        return text.upper()

    @app.operation()
    async def fail() -> None:
        raise OperationNotFound("nobody is there")

    @app.operation()
    async def wait(step: StepContext) -> None:
        await step.progress(10, "waiting")
        await asyncio.Event().wait()

    return app


async def fill(journal: Journal) -> None:
    """Runs the executions."""
    ids = iter(["completed", "failed", "cancelled", "running"])
    engine = Engine(shop().catalog(), journal, new_id=lambda: next(ids))
    greeting = Plan(
        steps=[
            plan_step("greet", "greet", input={"name": "Ada"}),
            plan_step("shout", "shout", input={"text": output_of("greet", "/greeting")}),
        ]
    )
    labels = {"colour": "grün", "size": "XL"}
    await engine.accept(ExecuteRequest(plan=greeting, request_id="r-1", session_id="s-1", labels=labels))
    await settle(journal, "completed", 1)
    await engine.accept(ExecuteRequest(plan=Plan(steps=[plan_step("fail", "fail")]), session_id="s-1"))
    await settle(journal, "failed", 1)
    waiting = Plan(steps=[plan_step("wait", "wait")])
    await engine.accept(ExecuteRequest(plan=waiting, request_id="r-3"))
    await settle(journal, "cancelled", 3)
    await engine.cancel("cancelled", actor="tester", reason="enough")
    await settle(journal, "cancelled", 1 << 30)
    await engine.accept(ExecuteRequest(plan=waiting, request_id="r-4"))
    await settle(journal, "running", 3)
    await engine.drain(0)


async def settle(journal: Journal, execution_id: str, events: int) -> None:
    """Returns when the execution has ended, or has so many events where that comes first and is above 1."""
    with journal.follow(execution_id, after=0) as follower:
        while not follower.ended and not (1 < events <= follower.sequence):
            if not await follower.read(max_events=512, max_bytes=1 << 20):
                await follower.wait()


async def expected(journal: Journal) -> list[dict[str, object]]:
    """Returns what is in the journal, as JSON has it."""
    found: list[dict[str, object]] = []
    page = await journal.list(ExecutionFilter(), tenant="", limit=100)
    for listed in reversed(page.records):
        record = await journal.get(listed.execution_id)
        assert record is not None
        chunks = await journal.read(record.execution_id, after=0, max_events=1 << 30, max_bytes=1 << 30)
        found.append(
            {
                "execution_id": record.execution_id,
                "request": b64encode(record.request).decode(),
                "create_time_ns": record.create_time_ns,
                "tenant": record.tenant,
                "request_id": record.request_id,
                "session_id": record.session_id,
                "labels": dict(record.labels),
                "epoch": record.epoch,
                "state": int(record.state),
                "last_sequence": record.last_sequence,
                "snapshot": b64encode(record.snapshot).decode(),
                "ordinal": record.ordinal,
                "end_time_ns": record.end_time_ns,
                "frames": [b64encode(chunk.frame(i)).decode() for chunk in chunks for i in range(len(chunk))],
                "kinds": [kind for chunk in chunks for kind in chunk.kinds],
                "positions": [chunk.position for chunk in chunks],
            }
        )
    return found


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal.db"
        journal = SqliteJournal(path)
        await journal.open()
        await fill(journal)
        rows = await expected(journal)
        await journal.close()
        with closing(sqlite3.connect(path)) as connection:
            pragmas = {
                name: connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
            }
            lines = [f"PRAGMA {name} = {value};" for name, value in pragmas.items()] + list(connection.iterdump())
    stem = HERE / f"version-{pragmas['user_version']}"
    stem.with_suffix(".sql").write_text("\n".join(lines) + "\n", encoding="utf-8")
    stem.with_suffix(".json").write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    asyncio.run(main())
