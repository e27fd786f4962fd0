"""What the SQLite journal promises of its upkeep: bites, crashes, versions, damage; and the server's passes."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
import re
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest
from tests.server.journal.pages import crowd, spoil_page

from stepwire.errors import CursorExpired, JournalDamaged, JournalUnavailable
from stepwire.v1 import EventBatch, ExecutionFilter, ExecutionState
from stepwire_server.engine.fold import Fold
from stepwire_server.engine.snapshot import snapshot_of
from stepwire_server.journal import Chunk, JournalRefused, MemoryJournal, Purged, Retention, SqliteJournal
from stepwire_server.journal.compaction import START, compact_bite
from stepwire_server.journal.ledger import Ledger
from stepwire_server.journal.purging import Cutoff, purge_bite
from stepwire_server.journal.schema import VERSION
from stepwire_server.journal.upkeep import keep_up

GOLDEN = Path(__file__).parent / "golden"
RUNNING = ExecutionState.EXECUTION_STATE_RUNNING
COMPLETED = ExecutionState.EXECUTION_STATE_COMPLETED
PLENTY = {"max_events": 1 << 30, "max_bytes": 1 << 40}
ALL = Retention(keep_days=1e-9, keep_executions=0)
EVERYTHING = Cutoff(end_time_ns=1 << 62, ordinal=1 << 62, purged_before_ns=0, now_ns=1 << 61)
HANGS = 20
DAY_NS = 24 * 3600 * 1_000_000_000


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal.db"


@pytest.fixture
async def open_journal(path, monkeypatch):
    monkeypatch.setattr("stepwire_server.journal.writer._REST", 0)
    opened = []

    async def make(**options) -> SqliteJournal:
        journal = SqliteJournal(path, **{"tail_bytes": 0, "bite_seconds": 0.0} | options)
        opened.append(journal)
        await journal.open()
        return journal

    yield make
    for journal in opened:
        await journal.close()


@pytest.fixture
def run(new_record, new_chunk):
    async def run(journal, name, *, events=1, state=COMPLETED, size=10, request_id=""):
        await journal.create(new_record(name, request_id=request_id, labels={"of": name}))
        for first in range(1, events + 1):
            last = first == events
            chunk = new_chunk(first, kind=26 if last and state != RUNNING else 5, size=size)
            await journal.append(name, epoch=1, chunk=chunk, state=state if last else RUNNING, snapshot=b"")

    return run


def query(path, sql, *parameters):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql, parameters).fetchall()


def change(path, sql):
    with closing(sqlite3.connect(path)) as connection, connection:
        assert connection.execute(sql).rowcount


def tables(path) -> dict[str, int]:
    names = ("executions", "requests", "labels", "chunks", "tombstones", "remains")
    return {name: query(path, f"SELECT count(*) FROM {name}")[0][0] for name in names}


# -- bites


async def test_a_purge_leaves_nothing_but_tombstones(open_journal, path, run):
    """After a purge no table has anything of the execution but the tombstones, and the pages are used again."""
    journal = await open_journal()
    for number in range(5):
        await run(journal, f"e{number}", events=200, size=1000)
    await journal.purge(ALL)
    assert tables(path) == dict.fromkeys(("executions", "requests", "labels", "chunks", "remains"), 0) | {
        "tombstones": 5
    }
    await journal.close()
    size = path.stat().st_size
    journal = await open_journal()
    for number in range(5):
        await run(journal, f"n{number}", events=200, size=1000)
    await journal.close()
    assert path.stat().st_size <= size * 1.05


async def test_a_bite_is_small(open_journal, run):
    """A long execution goes in many bites: with the first its record, then at most 64 chunks each."""
    journal = await open_journal()
    await run(journal, "e1", events=1000)
    sizes = []

    def bite(ledger):
        before = ledger.connection.total_changes
        done = purge_bite(ledger.connection, EVERYTHING, seconds=0.0)
        sizes.append(ledger.connection.total_changes - before)
        return done

    while (await journal._writer.submit_bite(bite, size=0)).more:
        pass
    assert len(sizes) >= 1000 // 64
    assert max(sizes) <= 66


async def test_bites_wait_for_appends(open_journal, run, new_record, new_chunk, append):
    """What waits to be appended goes before every bite."""
    journal = await open_journal()
    await run(journal, "old", events=50)
    await journal.create(new_record("new"))
    order = []
    busy, go_on = threading.Event(), threading.Event()
    journal._writer.submit(lambda ledger: (busy.set(), go_on.wait(HANGS)), size=0)
    assert busy.wait(HANGS)
    journal._writer.submit_bite(lambda ledger: order.append("bite"), size=0)
    pending = [
        asyncio.ensure_future(journal._writer.submit(lambda ledger, n=n: order.append(n), size=0)) for n in range(5)
    ]
    bite = journal._writer.submit_bite(lambda ledger: order.append("bite"), size=0)
    go_on.set()
    await asyncio.gather(*pending)
    await bite
    assert order == [0, 1, 2, 3, 4, "bite", "bite"]


async def test_a_rest_after_each_bite(open_journal, monkeypatch):
    """After a bite the writer leaves so many times its length to appends before it takes the next one."""
    monkeypatch.setattr("stepwire_server.journal.writer._REST", 1_000_000)
    journal = await open_journal()
    await journal._writer.submit_bite(lambda ledger: None, size=0)
    second = journal._writer.submit_bite(lambda ledger: pytest.fail("took a second bite"), size=0)
    for number in range(20):
        await journal._writer.submit(lambda ledger, number=number: number, size=0)
    assert not second.done()
    await journal.close()
    with pytest.raises(JournalUnavailable, match="being closed"):
        await second


async def test_a_failed_bite_leaves_nothing(open_journal, path, run):
    """A bite that raises is undone as a whole, and what is appended before and after it is stored."""
    journal = await open_journal()
    await run(journal, "e1", events=3)

    def fail(ledger):
        purge_bite(ledger.connection, EVERYTHING, seconds=1.0)
        raise JournalDamaged("found in the middle")

    before = tables(path)
    with pytest.raises(JournalDamaged):
        await journal._writer.submit_bite(fail, size=0)
    assert tables(path) == before
    await run(journal, "e2")


@pytest.mark.parametrize("bites", [1, 2, 3, 5])
async def test_a_crash_between_bites(open_journal, path, run, bites):
    """After a crash in the middle of a purge no part of an execution is seen, and the next purge removes the rest."""
    journal = await open_journal()
    await run(journal, "e1", events=300, request_id="r")
    await run(journal, "e2", events=300)
    for _ in range(bites):
        await journal._writer.submit_bite(lambda ledger: purge_bite(ledger.connection, EVERYTHING, seconds=0.0), size=0)
    await journal.close()
    assert tables(path)["chunks"] > 0
    journal = await open_journal()
    with pytest.raises(CursorExpired):
        await journal.read("e1", after=0, **PLENTY)
    assert sum(len(chunk) for chunk in await journal.read("e2", after=0, **PLENTY)) == 300
    await journal.purge(Retention(keep_days=0, keep_executions=0))
    assert tables(path)["chunks"] == 300
    await journal.purge(ALL)
    assert tables(path)["chunks"] == tables(path)["remains"] == 0


async def test_a_crash_in_the_middle_of_a_compaction(open_journal, path, run):
    """After a crash between two bites of a compaction every event is there, and the next compaction does the rest."""
    journal = await open_journal()
    await run(journal, "e1", events=1200)
    every = b"".join(chunk.data for chunk in await journal.read("e1", after=0, **PLENTY))
    await journal._writer.submit_bite(lambda ledger: compact_bite(ledger.connection, START, seconds=0.0), size=0)
    assert tables(path)["chunks"] == 1 + 1200 - 64
    await journal.close()
    journal = await open_journal()
    assert b"".join(chunk.data for chunk in await journal.read("e1", after=0, **PLENTY)) == every
    await journal.compact()
    assert tables(path)["chunks"] == 3
    assert b"".join(chunk.data for chunk in await journal.read("e1", after=0, **PLENTY)) == every


async def test_compaction_leaves_damage_as_it_is(open_journal, path, run, caplog):
    """A damaged chunk is never given a new checksum: its execution stays, the log names it, the others are joined."""
    journal = await open_journal()
    await run(journal, "e1", events=600)
    await run(journal, "e2", events=5)
    await journal.close()
    change(path, "UPDATE chunks SET data = x'00' || substr(data, 2) WHERE execution = 1 AND first = 550")
    journal = await open_journal()
    with caplog.at_level(logging.ERROR):
        assert await journal.compact() == 8 * 63 + 4
    assert "execution e1 has a damaged chunk" in caplog.text
    assert (await journal.read("e1", after=0, **PLENTY))[-1].last == 549
    with pytest.raises(JournalDamaged):
        await journal.read("e1", after=549, **PLENTY)
    caplog.clear()
    assert await journal.compact() == 0
    assert not caplog.text


async def test_a_damaged_file_stops_the_purge_and_not_the_journal(open_journal, path, run, monkeypatch):
    """Where a bite meets a damaged page, the purge raises JournalDamaged, and appends go on."""
    journal = await open_journal()
    await run(journal, "e1", events=3)

    def meet(*args, **kwargs):
        error = sqlite3.DatabaseError("database disk image is malformed")
        error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise error

    monkeypatch.setattr("stepwire_server.journal.sqlite.purge_bite", meet)
    with pytest.raises(JournalDamaged):
        await journal.purge(ALL)
    await run(journal, "e2", events=3)


@pytest.mark.parametrize("table", ["chunks", "requests", "labels_by_execution", "executions"])
async def test_a_purge_goes_past_a_damaged_page(open_journal, path, caplog, table):
    """What needs a damaged page is laid aside, as the log says; all others are purged, and the next pass goes on."""
    names = await crowd(path, 500)
    spoil_page(path, table, share=0.25)
    journal = await open_journal(bite_seconds=0.01)
    purged = await journal.purge(ALL)
    assert len(names) * 0.7 < purged.executions
    assert "damaged pages keep" in caplog.text
    assert query(path, "SELECT count(*) FROM tombstones") == [(purged.executions,)]
    assert await journal.purge(ALL) == Purged()


async def test_tombstones_on_a_damaged_page(open_journal, path, caplog):
    """Where old tombstones can't be forgotten, executions are purged all the same."""
    await crowd(path, 300)
    journal = await open_journal(bite_seconds=0.01, now_ns=lambda: DAY_NS)
    await journal.purge(Retention(keep_days=0, keep_executions=50))
    await journal.close()
    spoil_page(path, "tombstones_by_time", share=0.0)
    journal = await open_journal(bite_seconds=0.01, now_ns=lambda: 100 * DAY_NS)
    assert await journal.purge(Retention(keep_days=0, keep_executions=30)) == Purged(executions=20, events=20)
    assert "damaged pages keep old tombstones from being purged" in caplog.text


async def test_compaction_goes_past_a_damaged_page(open_journal, path, caplog):
    """Where a page can't be read, its executions stay as they are, and all others are joined."""
    await crowd(path, 100, chunks=3)
    spoil_page(path, "chunks")
    journal = await open_journal(bite_seconds=0.01)
    assert 2 * 50 < await journal.compact() < 2 * 100
    assert re.search(r"damaged pages keep \d+ executions \(numbers \d+, .*\) from being compacted", caplog.text)
    assert await journal.compact() == 0


async def test_a_failed_commit_of_a_bite_stops_the_journal(open_journal, run, monkeypatch):
    """When a bite's commit fails nobody knows what is stored: the journal stops, and the purge is told."""
    told = []
    journal = await open_journal(on_fatal=lambda: told.append(1))
    await run(journal, "e1", events=3)

    def fail(ledger):
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
        raise error

    monkeypatch.setattr(Ledger, "commit", fail)
    async with asyncio.timeout(HANGS):
        with pytest.raises(JournalUnavailable, match="restarted"):
            await journal.purge(ALL)
    assert told == [1]


async def test_a_reader_sees_one_state(open_journal, path, run):
    """What a read sees does not change between its statements, whatever is purged meanwhile."""
    journal = await open_journal()
    await run(journal, "e1", events=5)
    seen, go_on = threading.Event(), threading.Event()

    def read(connection):
        first = connection.execute("SELECT count(*) FROM executions").fetchone()
        seen.set()
        assert go_on.wait(HANGS)
        return first, connection.execute("SELECT count(*) FROM chunks").fetchone()

    reading = asyncio.ensure_future(journal._read(read))
    await asyncio.to_thread(seen.wait, HANGS)
    await journal.purge(ALL)
    assert tables(path)["chunks"] == 0
    go_on.set()
    assert await reading == ((1,), (5,))


@pytest.mark.parametrize(
    ("sql", "index"),
    [
        (
            "SELECT ordinal FROM executions WHERE end_time_ns > 0 AND (end_time_ns, ordinal) <= (1, 1) "
            "ORDER BY end_time_ns, ordinal LIMIT 1",
            "executions_ended",
        ),
        (
            "SELECT end_time_ns, ordinal FROM executions WHERE end_time_ns > 0 "
            "ORDER BY end_time_ns DESC, ordinal DESC LIMIT 1 OFFSET 5",
            "COVERING INDEX executions_ended",
        ),
        ("SELECT ordinal FROM executions WHERE scattered = 1 ORDER BY ordinal LIMIT 1", "executions_scattered"),
        (
            "SELECT 1 FROM tombstones WHERE tenant = '' AND request_id = ? AND request_id <> ''",
            "tombstones_by_request_id",
        ),
        ("SELECT execution_id FROM tombstones WHERE purge_time_ns < 5 LIMIT 5", "tombstones_by_time"),
    ],
)
async def test_upkeep_uses_indexes(open_journal, path, sql, index):
    """No bite reads a whole table, nor sorts one."""
    await (await open_journal()).close()
    plan = query(path, f"EXPLAIN QUERY PLAN {sql}", *([""] * sql.count("?")))
    assert index in plan[0][-1]
    assert not any("TEMP B-TREE" in row[-1] for row in plan)


async def test_what_is_in_one_chunk_is_not_on_the_list(open_journal, path, new_record, new_chunk):
    """An execution whose events are all in one chunk at its end is not looked at again; one with two chunks is."""
    journal = await open_journal()
    for name, chunks in (("one", [new_chunk(1, 5)]), ("two", [new_chunk(1, 2), new_chunk(3)])):
        await journal.create(new_record(name))
        await asyncio.gather(
            *(journal.append(name, epoch=1, chunk=chunk, state=COMPLETED, snapshot=b"") for chunk in chunks)
        )
    assert query(path, "SELECT execution_id FROM executions WHERE scattered = 1") == [("two",)]
    await journal.compact()
    assert query(path, "SELECT execution_id FROM executions WHERE scattered = 1") == []


# -- versions


@pytest.fixture
def golden(path):
    """Puts a journal of an earlier release where the journal is; returns what it holds."""

    def put(version: int):
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript((GOLDEN / f"version-{version}.sql").read_text(encoding="utf-8"))
        assert query(path, "PRAGMA user_version") == [(version,)]
        return json.loads((GOLDEN / f"version-{version}.json").read_text(encoding="utf-8"))

    return put


@pytest.mark.parametrize("version", range(1, VERSION))
async def test_an_earlier_journal_reads_the_same(golden, open_journal, version):
    """Records and events of a journal of each earlier release are what they were, before and after a compaction."""
    expected = golden(version)
    journal = await open_journal()
    for compacted in (False, True):
        for wanted in expected:
            record = await journal.get(wanted["execution_id"])
            for name in set(wanted) - {"frames", "kinds", "positions", "request", "snapshot"}:
                assert getattr(record, name) == wanted[name]
            assert record.request == base64.b64decode(wanted["request"])
            assert record.snapshot == base64.b64decode(wanted["snapshot"])
            chunks = await journal.read(record.execution_id, after=0, **PLENTY)
            frames = [chunk.frame(i) for chunk in chunks for i in range(len(chunk))]
            assert frames == [base64.b64decode(frame) for frame in wanted["frames"]]
            assert [kind for chunk in chunks for kind in chunk.kinds] == wanted["kinds"]
            positions = [chunk.position for chunk in chunks]
            assert positions == wanted["positions"] or (compacted and positions == wanted["positions"][-1:])
        await journal.compact()


@pytest.mark.parametrize("version", range(1, VERSION))
async def test_an_earlier_journal_folds_the_same(golden, open_journal, version):
    """Folding the events of a journal of each earlier release gives the state that its record says."""
    expected = golden(version)
    journal = await open_journal()
    for wanted in expected:
        record = await journal.get(wanted["execution_id"])
        fold = Fold(create_ns=record.create_time_ns, planning=False)
        for chunk in await journal.read(record.execution_id, after=0, **PLENTY):
            for event in EventBatch.FromString(chunk.data).events:
                fold.apply(event, event.WhichOneof("kind"), event.event_time.ToNanoseconds())
        assert (fold.sequence, fold.state) == (record.last_sequence, record.state)
        shown = snapshot_of(record)
        folded = fold.snapshot()
        assert (shown.progress, shown.output, shown.error) == (folded.progress, folded.output, folded.error)


async def test_an_earlier_journal_is_led_to_this_version(golden, open_journal, path, tmp_path):
    """A migrated file has the tables of a new one, and its executions the time of their end from their snapshots."""
    golden(1)
    journal = await open_journal()
    for record in (await journal.list(ExecutionFilter(), tenant="", limit=10)).records:
        assert record.end_time_ns == snapshot_of(record).end_time.ToNanoseconds()
    assert (await journal.get("running")).end_time_ns == 0
    assert (await journal.get("completed")).end_time_ns > 1_700_000_000_000_000_000
    await journal.close()
    fresh = SqliteJournal(tmp_path / "fresh.db")
    await fresh.open()
    await fresh.close()
    schema = "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY name"
    assert query(path, schema) == query(tmp_path / "fresh.db", schema)
    assert query(path, "PRAGMA user_version") == [(VERSION,)]


async def test_a_migration_that_fails_changes_nothing(golden, open_journal, path, monkeypatch):
    """Where a migration can't be finished the file stays of its version, whole, and the next start tries again."""
    golden(1)
    before = query(path, "SELECT sql FROM sqlite_master")
    with monkeypatch.context() as patch:
        patch.setattr(
            "stepwire_server.journal.schema.MIGRATIONS", ("ALTER TABLE executions ADD COLUMN x; SELECT nonsense;",)
        )
        with pytest.raises(JournalUnavailable, match="nonsense"):
            await open_journal()
    assert query(path, "SELECT sql FROM sqlite_master") == before
    assert query(path, "PRAGMA user_version") == [(1,)]
    journal = await open_journal()
    assert (await journal.get("completed")).last_sequence == 8


@pytest.mark.parametrize(
    "damage",
    [
        "DROP INDEX chunks_by_first",
        "DROP TABLE tombstones",
        "DROP INDEX executions_unfinished",
        "ALTER TABLE chunks RENAME COLUMN kinds TO kind",
    ],
)
async def test_a_journal_without_all_its_tables_is_refused(open_journal, path, damage):
    """A file in which a table, a column or an index is missing is refused, and the message names it."""
    await (await open_journal()).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(damage)
    name = damage.split()[2]
    with pytest.raises(JournalRefused, match=rf"damaged: {name}\b.* is missing"):
        await open_journal()


async def test_an_operators_own_index_is_no_damage(open_journal, path):
    """What an operator added to the file keeps no server from starting."""
    await (await open_journal()).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE INDEX mine ON executions (state)")
    await open_journal()


# -- passes


class Sleeps:
    """A sleep that waits until the test lets it end."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self.asleep = asyncio.Event()
        self._wake = asyncio.Event()

    async def __call__(self, seconds: float) -> None:
        self.asked.append(seconds)
        self.asleep.set()
        await self._wake.wait()
        self._wake.clear()

    async def next_pass(self) -> None:
        self.asleep.clear()
        self._wake.set()
        async with asyncio.timeout(HANGS):
            await self.asleep.wait()


class Counting(MemoryJournal):
    """Counts its passes, and fails where it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[object] = []
        self.fails: list[Exception] = []

    async def purge(self, retention):
        self.calls.append(retention)
        if self.fails:
            raise self.fails.pop()
        return Purged()

    async def compact(self):
        self.calls.append("compact")
        return 0


async def test_a_pass_at_start_and_then_every_few_minutes(caplog):
    """A pass comes at once and after each sleep, purge before compaction; what fails is logged, comes again, and keeps
    nothing else.
    """
    journal, sleeps = Counting(), Sleeps()
    task = asyncio.ensure_future(keep_up(journal, ALL, sleep=sleeps, every=300.0))
    async with asyncio.timeout(HANGS):
        await sleeps.asleep.wait()
    assert journal.calls == [ALL, "compact"]
    for error in (JournalDamaged("a damaged page"), KeyError("a bug")):
        journal.fails = [error]
        journal.calls.clear()
        await sleeps.next_pass()
        assert journal.calls == [ALL, "compact"]
    assert "a damaged page" in caplog.text
    assert "a bug in the upkeep" in caplog.text
    await sleeps.next_pass()
    assert journal.calls == [ALL, "compact"] * 2
    assert sleeps.asked == [300.0] * 4
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()


def test_golden_files_are_small():
    """The golden journals stay small enough to be read by people."""
    assert sum(os.path.getsize(file) for file in GOLDEN.iterdir()) < 100_000


async def test_a_chunk_at_its_bounds(open_journal, new_record):
    """An event as large as an event may be is joined with nothing, and those around it are."""
    journal = await open_journal()
    await journal.create(new_record("e1"))
    sizes = [10, 10, 1 << 20, 10, 10]
    for index, size in enumerate(sizes):
        state = COMPLETED if index == len(sizes) - 1 else RUNNING
        chunk = Chunk(first=index + 1, data=bytes(size), ends=[size], kinds=b"\x05")
        await journal.append("e1", epoch=1, chunk=chunk, state=state, snapshot=b"")
    assert await journal.compact() == 2
    chunks = await journal.read("e1", after=0, **PLENTY)
    assert [(chunk.first, chunk.last, chunk.position) for chunk in chunks] == [(1, 2, 2), (3, 3, 3), (4, 5, 5)]
