"""Executions that come from an export are counted where they are new."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.server.journal.scan import scan

from stepwire.v1 import ExecuteRequest, Plan
from stepwire_server import App, StepContext, plan_step
from stepwire_server.__main__ import main
from stepwire_server.engine.engine import Engine
from stepwire_server.journal import Chunk, ExecutionRecord, SqliteJournal, Statistics


def app() -> App:
    app = App("tests")

    @app.operation()
    async def write(step: StepContext, pieces: int) -> int:
        for number in range(pieces):
            await step.content(f"piece {number} ")
        if pieces == 3:
            raise ValueError("three")
        return pieces

    return app


async def fill(path: Path) -> None:
    """Runs four executions, one of which fails."""
    journal = SqliteJournal(path)
    await journal.open()
    names = iter(["a", "b", "c", "d"])
    engine = Engine(app().catalog(), journal, new_id=lambda: next(names))
    for pieces, name in enumerate("abcd"):
        plan = Plan(name="writing", steps=[plan_step("one", "write", input={"pieces": pieces})])
        await engine.accept(ExecuteRequest(plan=plan))
        with journal.follow(name, after=0) as follower:
            while not follower.ended:
                if not await follower.read(max_events=512, max_bytes=1 << 20):
                    await follower.wait()
    await engine.drain(0)
    await journal.close()


async def statistics(path: Path, *, scanned: bool = True) -> Statistics:
    """Returns a journal's statistics, held to a full scan of what it has."""
    journal = SqliteJournal(path)
    await journal.open()
    found = await journal.statistics(tenant="")
    if scanned:
        by_scan = await scan(journal)
        assert (found.operations, found.plans) == (by_scan.operations, by_scan.plans)
    await journal.close()
    return found


def invoke(*arguments: object) -> str:
    result = CliRunner().invoke(main, ["journal", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "journal.db"
    asyncio.run(fill(path))
    return path


@pytest.fixture
def exported(path: Path, tmp_path: Path) -> Path:
    target = tmp_path / "executions.jsonl"
    invoke("export", path, "-o", target)
    return target


def test_what_is_imported_is_counted_once(path, exported, tmp_path):
    """An import counts what is new, at the time at which it ended, and nothing when it is repeated."""
    other = tmp_path / "other.db"
    for _ in range(2):
        invoke("import", other, exported)
        found = asyncio.run(statistics(other))
        assert found == asyncio.run(statistics(path))
    assert (found.plans["writing"].completed, found.plans["writing"].failed) == (3, 1)
    assert "nothing is wrong" in invoke("check", other)


def test_what_comes_back_is_not_counted_again(path, exported):
    """What was purged is still counted, and is not counted again when an import brings it back."""
    before = asyncio.run(statistics(path))
    invoke("purge", path, "--keep", 1)
    assert asyncio.run(statistics(path, scanned=False)) == before
    invoke("import", path, exported)
    assert asyncio.run(statistics(path)) == before


def test_what_is_no_event_is_imported_uncounted(tmp_path):
    """An execution whose events nobody can read is imported as it is, and is not counted."""

    async def make(path: Path) -> None:
        journal = SqliteJournal(path)
        await journal.open()
        await journal.create(ExecutionRecord(execution_id="e", request=b"\xff", create_time_ns=1))
        await journal.append(
            "e", epoch=1, chunk=Chunk(first=1, data=b"abc", ends=[3], kinds=b"\x1a"), state=6, snapshot=b""
        )
        await journal.close()

    asyncio.run(make(tmp_path / "strange.db"))
    invoke("export", tmp_path / "strange.db", "-o", tmp_path / "strange.jsonl")
    assert "imported 1 executions" in invoke("import", tmp_path / "other.db", tmp_path / "strange.jsonl")
    assert asyncio.run(statistics(tmp_path / "other.db", scanned=False)).plans == {}


def test_help_tells_the_two_apart():
    """The help of `journal stats` says where durations and failures are."""
    assert "stepwire stats" in invoke("stats", "--help")
