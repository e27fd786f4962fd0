"""A journal whose bytes are not what was written: what is read, and what is said."""

from __future__ import annotations

import asyncio
import re
import shutil
import sqlite3
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

import grpc.aio
import pytest
from tests.e2e.watchers import frames

from stepwire.errors import JournalDamaged
from stepwire.transport import error_from_call
from stepwire.v1 import ExecuteRequest, ExecutionFilter, ExecutionState, WatchExecutionRequest
from stepwire_server.journal import ENDED, JournalRefused, SqliteJournal, Statistics
from stepwire_server.journal.checking import check
from stepwire_server.journal.inspection import opened_to_read
from stepwire_server.journal.mark import missing

from .history import History, Kept, dump
from .kill_loop import Clients, random_plan
from .noted import Noted
from .storage import Damage, Harmed, findings

PATIENCE = 60.0
DATA_LOSS = grpc.StatusCode.DATA_LOSS
WATCH = "/stepwire.v1.ExecutionService/WatchExecution"
WAYS = ("flip in the file", "flip in the log", "cut the log", "cut the file", "zero pages of the file", "zero the log")


@dataclass(kw_only=True)
class Original:
    """A journal of a server that was killed, with a log that is not in the file yet."""

    logged: Path
    """The folder of the journal as the kill left it."""
    settled: Path
    """The folder of the same journal, with all of it in the file."""
    kept: dict[str, Kept]
    statistics: Statistics

    def copied(self, folder: Path, way: str) -> Path:
        """Copies what is to be harmed in this way, and returns the new journal's path."""
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.logged if way.endswith("log") else self.settled, folder)
        return folder / "journal.db"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Original:
    return asyncio.run(_made(tmp_path_factory.mktemp("original")))


async def _made(folder: Path) -> Original:
    """Runs executions, half of which are in the file and half in the log, and kills the server."""
    with Harmed(folder) as server:
        clients = Clients(server.address, History(), Random(1))
        chance = Random(1)
        held = sqlite3.connect(f"{server.journal.as_uri()}?mode=ro", uri=True, isolation_level=None)
        async with asyncio.timeout(PATIENCE):
            for half in range(2):
                names = [
                    await clients.start(ExecuteRequest(plan=random_plan(chance), request_id=f"{half}-{number}"))
                    for number in range(6)
                ]
                await asyncio.gather(*(clients.poll(name, chance) for name in names))
                if not half:
                    # In between it stops, so that the file has the first half.
                    assert server.terminate() == 0
                    server.start()
                    # As long as somebody reads, the log is not taken over into the file.
                    held.execute("BEGIN")
                    held.execute("SELECT * FROM executions").fetchall()
            await clients.start(ExecuteRequest(plan=random_plan(chance), request_id="unfinished"))
        await clients.close()
        server.kill()
    held.close()
    there = folder / "there"
    there.mkdir()
    for name in ("journal.db", "journal.db-wal", "journal.db.mark"):
        shutil.copy(folder / name, there)
    settled = folder / "settled"
    shutil.copytree(there, settled)
    return Original(
        logged=there,
        settled=settled,
        kept=await dump(settled / "journal.db"),
        statistics=await _statistics(settled / "journal.db"),
    )


async def _statistics(path: Path) -> Statistics:
    journal = SqliteJournal(path)
    await journal.open()
    try:
        return await journal.statistics(tenant="")
    finally:
        await journal.close()


@dataclass(kw_only=True)
class Seen:
    """What a damaged journal gave."""

    refused: str = ""
    whole: int = 0
    refused_ids: set[str] = field(default_factory=set)
    """Whose events or record can't be read, and are said to be damaged."""
    hidden: set[str] = field(default_factory=set)
    """Which there are not, by the journal."""
    wrong: list[str] = field(default_factory=list)
    """What is another than it was, and is not said to be damaged."""


async def seen(path: Path, original: Original) -> Seen:
    """Opens a journal as a server does, and reads all of it."""
    found = Seen()
    journal = SqliteJournal(path, tail_bytes=0)
    try:
        await journal.open()
        await journal.unfinished()
    except (JournalRefused, JournalDamaged) as error:
        found.refused = str(error)
        await journal.close()
        return found
    try:
        for name, kept in original.kept.items():
            await _look(journal, name, kept, found)
        try:
            page = await journal.list(ExecutionFilter(), tenant="", limit=1000)
            found.wrong += [f"{r.execution_id} is new" for r in page.records if r.execution_id not in original.kept]
        except JournalDamaged:
            pass
        try:
            if await journal.statistics(tenant="") != original.statistics:
                found.hidden.add("some of the statistics")
        except JournalDamaged:
            found.refused_ids.add("the statistics")
    finally:
        await journal.close()
    return found


async def _look(journal: SqliteJournal, name: str, kept: Kept, found: Seen) -> None:
    try:
        record = await journal.get(name)
    except JournalDamaged:
        found.refused_ids.add(name)
        return
    if record is None:
        found.hidden.add(name)
        return
    request = ExecuteRequest.FromString(record.request).SerializeToString(deterministic=True)
    if kept.state not in ENDED and record.last_sequence <= kept.last_sequence:
        # The kill may have come between its last commit and the note of it: nobody was told of that commit.
        kept = replace(kept, epoch=record.epoch, state=record.state, snapshot=record.snapshot)
    same = (record.request_id, request, record.create_time_ns, record.epoch, record.state, record.snapshot)
    if same != (kept.request_id, kept.request, kept.create_time_ns, kept.epoch, kept.state, kept.snapshot):
        found.wrong.append(f"the record of {name}")
    data = b""
    after = 0
    try:
        while chunks := await journal.read(name, after=after, max_events=512, max_bytes=1 << 18):
            data += b"".join(chunk.data for chunk in chunks)
            after = chunks[-1].last
    except JournalDamaged:
        found.refused_ids.add(name)
    given = list(frames(data))
    if given != kept.frames[: len(given)]:
        found.wrong.append(f"the events of {name}")
    found.whole += after == kept.last_sequence


def harmed(damage: Damage, way: str, path: Path) -> str:
    """Harms a journal in one of the ways, and returns how."""
    log = path.with_name(path.name + "-wal")
    match way:
        case "flip in the file":
            return damage.flip(path)
        case "flip in the log":
            return damage.flip(log)
        case "cut the log":
            return damage.truncate(log)
        case "cut the file":
            return damage.truncate(path)
        case "zero pages of the file":
            return damage.blank(path)
        case "zero the log":
            return damage.blank(log, pages=2)
    raise AssertionError(way)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.fault("damage to the journal's file or its log", how="flipped bits, cut and zeroed, a seed")
async def test_what_is_damaged_is_not_shown(
    original: Original, tmp_path: Path, way: str, long: bool, random_seed: int, noted: Noted
) -> None:
    """Of a damaged journal everything reads as it was, or is said to be damaged, and a check finds it; nothing is read
    that was not written, and nothing is gone without a word.
    """
    outcomes: Counter[str] = Counter()
    noted.times = 100 if long else 2
    noted.figures["way"] = way
    for number in range(noted.times):
        path = original.copied(tmp_path / "copy", way)
        how = f"{harmed(Damage(f'{random_seed}/{way}/{number}'), way, path)}, seed {random_seed}"
        found = await seen(path, original)
        assert found.wrong == [], how
        lines = findings(path) if number == 0 else _checked(path)
        if found.refused:
            outcomes["refused at the start"] += 1
            assert path.name in found.refused or "damaged" in found.refused, how
            continue
        # An index that is damaged can hide a record. Only a check finds that.
        assert not (found.hidden or found.refused_ids) or lines, how
        outcomes["JOURNAL_DAMAGED"] += bool(found.refused_ids or found.hidden)
        outcomes["only a check finds it"] += bool(lines and not found.refused_ids)
        outcomes["no harm"] += not lines and not found.refused_ids
    noted.figures |= {name: str(count) for name, count in outcomes.items() if count}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.fault("damage to the journal's file or its log, and a server on it", how="flipped bits, cut and zeroed")
async def test_a_server_on_a_damaged_journal(
    original: Original, tmp_path: Path, way: str, long: bool, random_seed: int, noted: Noted
) -> None:
    """A server on a damaged journal refuses to start in one line, or serves what is whole and answers DATA_LOSS for the
    rest; it does not die of it, and its log has no traceback.
    """
    if not long:
        pytest.skip("only in the long run: make faults")
    outcomes: Counter[str] = Counter()
    noted.times = 8
    noted.figures["way"] = way
    for number in range(noted.times):
        folder = tmp_path / str(number)
        folder.mkdir()
        server = Harmed(folder, journal=original.copied(folder / "copy", way))
        how = f"{harmed(Damage(f'{random_seed}/{way}/{number}'), way, server.journal)}, seed {random_seed}"
        try:
            try:
                await asyncio.to_thread(server.start)
            except AssertionError:
                assert server.code == 1, how
                assert server.said.splitlines()[-1].startswith("Error: "), how
                outcomes["refused"] += 1
            else:
                lost = await _served(server.address, original)
                outcomes["served whole" if not lost else "served, with DATA_LOSS"] += 1
                assert len(lost) < len(original.kept), how
                assert server.process.poll() is None, how
            # The execution that goes on may have a step that fails, as its plan has it: that is logged with the cause.
            assert "Traceback" not in re.sub(r"step \S+ failed\nTraceback", "", server.said), how
        finally:
            server.kill()
    noted.figures |= {name: str(count) for name, count in outcomes.items()}


async def _served(address: str, original: Original) -> set[str]:
    """Watches all that had ended; returns what is damaged."""
    lost = set()
    codes: set[str | None] = set()
    async with asyncio.timeout(PATIENCE), grpc.aio.insecure_channel(address) as channel:
        for name, kept in original.kept.items():
            if kept.state == ExecutionState.EXECUTION_STATE_COMPLETED:
                given: list[bytes] = []
                request = WatchExecutionRequest(execution_id=name).SerializeToString()
                try:
                    async for message in channel.unary_stream(WATCH)(request):
                        given += frames(message)
                except grpc.aio.AioRpcError as error:
                    codes.add(error_from_call(error).reason if error.code() is DATA_LOSS else error.code().name)
                    lost.add(name)
                assert given == kept.frames[: len(given)]
                assert name in lost or len(given) == len(kept.frames)
    # NOT_FOUND: of an index that is damaged. A check says so.
    assert codes <= {"JOURNAL_DAMAGED", "NOT_FOUND"}
    return lost


def _checked(path: Path) -> list[str]:
    """Returns what a check finds, in this process."""
    try:
        with opened_to_read(path) as connection:
            return [finding.problem for finding in check(connection).findings] + [missing(connection, path)] * bool(
                missing(connection, path)
            )
    except (JournalRefused, sqlite3.DatabaseError) as error:
        return [str(error)]
