"""What the SQLite journal promises beyond every journal: files, power cuts, full disks, damage, threads."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import subprocess
import sys
import textwrap
import threading
from contextlib import closing, contextmanager

import pytest

from stepwire.errors import JournalDamaged, JournalUnavailable, StorageFull
from stepwire.v1 import ExecutionFilter, ExecutionState
from stepwire_server.journal import Conflict, JournalBusy, JournalLocked, JournalRefused, SqliteJournal
from stepwire_server.journal.ledger import Ledger, Taken
from stepwire_server.journal.schema import APPLICATION_ID, UNFINISHED, VERSION, decode_ends, decode_row, encode_ends

PLENTY = {"max_events": 1 << 30, "max_bytes": 1 << 40}
HANGS = 20


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state" / "stepwire" / "journal.db"


@pytest.fixture
async def open_journal(path):
    opened = []

    async def make(**options) -> SqliteJournal:
        journal = SqliteJournal(path, tail_bytes=0, **options)
        opened.append(journal)
        await journal.open()
        return journal

    yield make
    for journal in opened:
        await journal.close()


@contextmanager
def stalled(journal):
    """Keeps the writer busy for as long as the block lasts, so that what is written inside waits together."""
    busy, go_on = threading.Event(), threading.Event()
    journal._writer.submit(lambda ledger: (busy.set(), go_on.wait(HANGS)), size=0)
    try:
        assert busy.wait(HANGS)
        yield
    finally:
        go_on.set()


async def turn():
    """Lets everything that is ready in the event loop run up to its first wait."""
    for _ in range(3):
        await asyncio.sleep(0)


def query(path, sql, *parameters):
    """Returns what another connection sees."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql, parameters).fetchall()


def change(path, sql, *parameters):
    """Changes the file of a journal that is closed."""
    with closing(sqlite3.connect(path)) as connection, connection:
        assert connection.execute(sql, parameters).rowcount


# -- files


async def test_reopen_gives_the_same(open_journal, new_record, new_chunk, append):
    """What was in the journal when it was closed is there when it is opened again, and it goes on from there."""
    journal = await open_journal()
    await journal.create(new_record("e1", request_id="r", labels={"a": "b"}))
    await append(journal, "e1", new_chunk(1, 20), snapshot=b"s")
    await journal.claim("e1", epoch=4)
    record, chunks = await journal.get("e1"), await journal.read("e1", after=0, **PLENTY)
    await journal.close()
    journal = await open_journal()
    assert await journal.get("e1") == record
    assert await journal.read("e1", after=0, **PLENTY) == chunks
    assert (await journal.create(new_record("e2", request_id="r")))[0] == record
    with pytest.raises(Conflict):
        await append(journal, "e1", new_chunk(21), epoch=1)
    assert await append(journal, "e1", new_chunk(21), epoch=4) == 2


async def test_ordinals_and_positions_are_never_given_again(open_journal, path, new_record, new_chunk, append):
    """A number that was given once is not given again, also when what had it is gone."""
    journal = await open_journal()
    for name in ("e1", "e2"):
        await journal.create(new_record(name))
        await append(journal, name, new_chunk(1))
    await journal.close()
    for table, column in (("chunks", "execution"), ("requests", "execution"), ("executions", "ordinal")):
        change(path, f"DELETE FROM {table} WHERE {column} = 2")
    journal = await open_journal()
    record, _ = await journal.create(new_record("e3"))
    assert record.ordinal == 3
    assert await append(journal, "e3", new_chunk(1)) == 3


async def test_permissions(open_journal, path, tmp_path, new_record):
    """The journal's files are the owner's alone, and so are the folders that it makes, whatever the umask."""
    before = os.umask(0)
    try:
        journal = await open_journal()
        await journal.create(new_record())
    finally:
        os.umask(before)
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    names = ("journal.db", "journal.db-wal", "journal.db-shm", "journal.db.lock", "journal.db.mark")
    assert modes == dict.fromkeys(names, 0o600)
    assert [stat.S_IMODE(folder.stat().st_mode) for folder in (path.parent, path.parent.parent)] == [0o700, 0o700]


async def test_a_second_opener_is_refused(open_journal, path):
    """Who opens a journal that is open is refused, and told by which process; afterwards it may."""
    journal = await open_journal()
    with pytest.raises(JournalLocked, match=rf"process {os.getpid()}\b"):
        await open_journal()
    await journal.close()
    await open_journal()


@pytest.mark.parametrize("there", [True, False])
async def test_a_symbolic_link_is_the_same_journal(open_journal, path, tmp_path, there, new_record):
    """Who names an open journal by a symbolic link is refused, and the files beside it lie beside the file itself."""
    link = tmp_path / "link.db"
    link.symlink_to(path)
    first, second = (path, link) if there else (link, path)
    journal = SqliteJournal(first)
    await journal.open()
    await journal.create(new_record())
    with pytest.raises(JournalLocked, match=rf"process {os.getpid()}\b"):
        await SqliteJournal(second).open()
    await journal.close()
    assert [name.name for name in tmp_path.iterdir() if name.name.startswith("link")] == ["link.db"]
    assert path.with_name("journal.db.mark").exists()


async def test_links_in_a_circle(tmp_path):
    """A journal whose link leads to itself can't be opened, and the error is one that a server puts into a line."""
    link = tmp_path / "link.db"
    link.symlink_to(link)
    with pytest.raises((OSError, JournalUnavailable)):
        await SqliteJournal(link).open()


async def test_another_process_is_refused(open_journal, path):
    """A second process on the same file is refused and names the first."""
    await open_journal()
    script = f"""
    import asyncio, pathlib
    from stepwire_server.journal import JournalLocked, SqliteJournal
    try:
        asyncio.run(SqliteJournal(pathlib.Path({str(path)!r})).open())
    except JournalLocked as error:
        print(error)
    """
    assert f"process {os.getpid()}." in (await asyncio.to_thread(run, script))[1]


async def test_a_newer_schema_is_refused(open_journal, path):
    """A journal of a newer release is refused with a message that says so, and stays as it is."""
    await (await open_journal()).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    for _ in range(2):
        with pytest.raises(JournalRefused, match=f"newer Stepwire: its version is {VERSION + 1}"):
            await open_journal()
    assert query(path, "PRAGMA user_version") == [(VERSION + 1,)]


async def test_a_foreign_file_is_refused(open_journal, path):
    """A database of something else, and a file that is no database, are refused and stay as they are."""
    path.parent.mkdir(parents=True)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    with pytest.raises(JournalRefused, match="not a Stepwire journal"):
        await open_journal()
    assert query(path, "SELECT name FROM sqlite_master") == [("theirs",)]
    path.write_bytes(b"Dear diary, " * 1000)
    with pytest.raises(JournalRefused, match="not a Stepwire journal"):
        await open_journal()
    assert path.read_bytes() == b"Dear diary, " * 1000


async def test_a_file_that_cannot_be_opened(path):
    """Where the file is a folder, open raises and leaves neither thread nor lock behind."""
    path.mkdir(parents=True)
    for _ in range(2):
        with pytest.raises(JournalUnavailable, match="can't be opened"):
            await SqliteJournal(path).open()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("stepwire-journal")]


async def test_the_file_says_what_it_is(open_journal, path):
    """The file has our application id and version, and a write-ahead log."""
    await open_journal()
    assert query(path, "PRAGMA application_id") == [(APPLICATION_ID,)]
    assert query(path, "PRAGMA user_version") == [(VERSION,)]
    assert query(path, "PRAGMA journal_mode") == [("wal",)]


@pytest.mark.parametrize(("durability", "synchronous"), [("machine", 2), ("process", 1)])
async def test_durability(open_journal, durability, synchronous):
    """ "machine" syncs each commit, "process" only each checkpoint; SQLite itself never checkpoints."""
    journal = await open_journal(durability=durability)

    def ask(pragma):
        return journal._writer.submit(lambda ledger: ledger._connection.execute(pragma).fetchone()[0], size=0)

    assert await ask("PRAGMA synchronous") == synchronous
    assert await ask("PRAGMA wal_autocheckpoint") == 0


async def test_close_leaves_nothing_running(open_journal, path, new_record, new_chunk, append):
    """After close there is no thread, no WAL, and nothing in the WAL that the file lacks."""
    journal = await open_journal()
    await journal.create(new_record())
    await append(journal, "e1", new_chunk(1, 100))
    await asyncio.gather(*(journal.get("e1") for _ in range(50)))
    await journal.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("stepwire-journal")]
    assert {file.name for file in path.parent.iterdir()} == {"journal.db", "journal.db.lock", "journal.db.mark"}


async def test_close_comes_after_what_waits(open_journal, path, new_record, new_chunk, append):
    """Appends that wait for the writer when the journal is closed are stored first, and their callers told."""
    journal = await open_journal()
    await journal.create(new_record())
    with stalled(journal):
        appending = [asyncio.ensure_future(append(journal, "e1", new_chunk(n))) for n in range(1, 6)]
        await turn()
        closing_ = asyncio.ensure_future(journal.close())
        await turn()
    async with asyncio.timeout(HANGS):
        assert await asyncio.gather(*appending) == [1, 2, 3, 4, 5]
        await closing_
    assert query(path, "SELECT last_sequence FROM executions") == [(5,)]


async def test_close_waits_for_reads(open_journal, new_record):
    """Reads that are under way when the journal is closed get their answer."""
    journal = await open_journal()
    await journal.create(new_record())
    reads = [asyncio.ensure_future(journal.get("e1")) for _ in range(50)]
    await turn()
    await journal.close()
    async with asyncio.timeout(HANGS):
        assert all(record.execution_id == "e1" for record in await asyncio.gather(*reads))


async def test_a_reader_that_cannot_connect(open_journal, path, new_record):
    """Where one more connection can't be opened, the read raises JournalUnavailable, and later ones succeed."""
    journal = await open_journal()
    await journal.create(new_record())
    begun, go_on = threading.Event(), threading.Event()
    held = asyncio.ensure_future(journal._read(lambda connection: (begun.set(), go_on.wait(HANGS))))
    try:
        await turn()
        assert begun.wait(HANGS)
        away = path.parent.rename(path.parent.with_name("away"))
        with pytest.raises(JournalUnavailable, match="can't be read now"):
            await journal.get("e1")
        away.rename(path.parent)
        assert (await journal.get("e1")).execution_id == "e1"
    finally:
        go_on.set()
        await held


async def test_readers_cannot_write(open_journal):
    """A reader's connection refuses to write."""
    journal = await open_journal()
    with pytest.raises(JournalUnavailable) as caught:
        await journal._read(lambda connection: connection.execute("DELETE FROM executions"))
    assert "readonly" in str(caught.value.__cause__)


# -- commits


async def test_what_is_acknowledged_is_visible_elsewhere(open_journal, path, new_record, new_chunk, append):
    """When create, append or claim has returned, a new connection sees what it did."""
    journal = await open_journal()
    for number in range(1, 20):
        await journal.create(new_record(f"e{number}"))
        assert query(path, "SELECT count(*) FROM executions") == [(number,)]
        await append(journal, f"e{number}", new_chunk(1, number))
        assert query(path, "SELECT last_sequence FROM executions WHERE ordinal = ?", number) == [(number,)]
        assert query(path, "SELECT last FROM chunks WHERE position = ?", number) == [(number,)]
        await journal.claim(f"e{number}", epoch=5)
        assert query(path, "SELECT epoch FROM executions WHERE ordinal = ?", number) == [(5,)]


async def test_what_waits_shares_a_commit(open_journal, new_record, new_chunk, append, monkeypatch):
    """Whatever waits when the writer is free goes into one transaction: creates, appends and claims alike."""
    journal = await open_journal()
    for number in range(50):
        await journal.create(new_record(f"e{number}"))
    commits = []
    commit = Ledger.commit
    monkeypatch.setattr(Ledger, "commit", lambda ledger: commits.append(commit(ledger)))
    with stalled(journal):
        pending = [asyncio.ensure_future(append(journal, f"e{number}", new_chunk(1, 3))) for number in range(50)]
        pending += [asyncio.ensure_future(journal.create(new_record(f"n{number}"))) for number in range(50)]
        pending += [asyncio.ensure_future(journal.claim(f"e{number}", epoch=2)) for number in range(50)]
        await turn()
    await asyncio.gather(*pending)
    assert len(commits) <= 2  # The one that stalled, and all the rest.


async def test_a_commit_writes_each_record_once(open_journal, path, new_record, new_chunk, append):
    """Appends to one execution in one commit change its record once, to what the last one says."""
    journal = await open_journal()
    await journal.create(new_record())
    before = await journal._writer.submit(lambda ledger: ledger._connection.total_changes, size=0)
    with stalled(journal):
        pending = [asyncio.ensure_future(append(journal, "e1", new_chunk(n), snapshot=b"%d" % n)) for n in range(1, 21)]
        await turn()
    await asyncio.gather(*pending)
    after = await journal._writer.submit(lambda ledger: ledger._connection.total_changes, size=0)
    assert after - before == 20 + 1
    assert (await journal.get("e1")).snapshot == b"20"


async def test_a_conflict_shares_a_commit_unharmed(open_journal, new_record, new_chunk, append):
    """In one and the same transaction a conflict, a taken id and a senseless entry fail alone."""
    journal = await open_journal()
    for name in ("e1", "e2", "e3"):
        await journal.create(new_record(name))
    with stalled(journal):
        pending = [
            asyncio.ensure_future(call)
            for call in (
                append(journal, "e1", new_chunk(1)),
                append(journal, "e2", new_chunk(2)),
                journal.create(new_record("e1")),
                journal.create(new_record("bad", labels={"a": "b", "c": "\ud800"})),
                append(journal, "e1", new_chunk(2)),
                append(journal, "e2", new_chunk(1), snapshot=[]),
                append(journal, "e3", new_chunk(1)),
                journal.create(new_record("good", labels={"a": "b"})),
            )
        ]
        await turn()
    results = await asyncio.gather(*pending, return_exceptions=True)
    kinds = [type(result) for result in results]
    assert kinds == [int, Conflict, Taken, UnicodeEncodeError, int, TypeError, int, tuple]
    assert await journal.get("bad") is None
    assert (await journal.get("e2")).last_sequence == 0
    assert (await journal.get("e1")).last_sequence == 2
    assert await append(journal, "e2", new_chunk(1)) > results[6]


async def test_a_killed_process_has_lost_nothing(path, open_journal, new_record):
    """Whatever was acknowledged before the process was killed is there afterwards, whole and dense."""
    script = f"""
    import asyncio, os, pathlib
    from stepwire_server.journal import Chunk, ExecutionRecord, SqliteJournal

    async def main():
        journal = SqliteJournal(pathlib.Path({str(path)!r}))
        await journal.open()
        for number in range(20):
            await journal.create(ExecutionRecord(execution_id=f"e{{number}}", request=b"", create_time_ns=1))

        async def run(number):
            for first in range(1, 10_000, 3):
                chunk = Chunk(first=first, data=b"abc" * 3, ends=[3, 6, 9], kinds=bytes(3))
                await journal.append(f"e{{number}}", epoch=1, chunk=chunk, state=3, snapshot=b"%d" % chunk.last)
                acknowledged[number] = chunk.last
                if sum(acknowledged) > 3000:
                    print(*acknowledged, flush=True)
                    os._exit(9)

        acknowledged = [0] * 20
        await asyncio.gather(*(run(number) for number in range(20)))

    asyncio.run(main())
    """
    code, output = await asyncio.to_thread(run, script)
    assert code == 9
    journal = await open_journal()
    for number, last in enumerate(map(int, output.split())):
        record = await journal.get(f"e{number}")
        assert record.last_sequence >= last
        assert record.snapshot == b"%d" % record.last_sequence
        chunks = await journal.read(f"e{number}", after=0, **PLENTY)
        assert [chunk.first for chunk in chunks] == list(range(1, record.last_sequence, 3))
        assert b"".join(chunk.data for chunk in chunks) == b"abc" * record.last_sequence


async def test_checkpoints(open_journal, path, new_record, new_chunk, append, monkeypatch):
    """Past a size the writer checkpoints without a quiet moment, so that the WAL does not grow for ever."""
    monkeypatch.setattr("stepwire_server.journal.writer._CHECKPOINT_BYTES", 200_000)
    monkeypatch.setattr("stepwire_server.journal.writer._IDLE_SECONDS", HANGS)
    journal = await open_journal(durability="process")
    await journal.create(new_record())
    for n in range(100):
        await append(journal, "e1", new_chunk(1 + 100 * n, 100, size=500))
    assert (path.parent / "journal.db-wal").stat().st_size < 1_000_000 < path.stat().st_size


# -- what goes wrong


async def test_a_full_disk(open_journal, new_record, new_chunk, append, frames):
    """On a full disk appends and creates fail with StorageFull and leave nothing; with room again they succeed."""
    journal = await open_journal()
    await journal.create(new_record("e1"))
    await append(journal, "e1", new_chunk(1))

    def limit(pages):
        pragma = f"PRAGMA max_page_count = {pages}"
        return journal._writer.submit(lambda ledger: ledger._connection.execute(pragma).fetchone(), size=0)

    await limit(1)  # SQLite makes it as many as there are.
    large = new_chunk(2, 100, size=1000)
    for _ in range(3):
        with stalled(journal):
            pending = [
                asyncio.ensure_future(append(journal, "e1", large, snapshot=b"large")),
                asyncio.ensure_future(append(journal, "e1", new_chunk(50))),
                asyncio.ensure_future(journal.create(new_record("e2"))),
            ]
            await turn()
        results = await asyncio.gather(*pending, return_exceptions=True)
        assert [type(result) for result in results] == [StorageFull] * 3
        assert len(await frames(journal, "e1")) == 1
        assert (await journal.get("e1")).snapshot == b""
        assert await journal.get("e2") is None
    await limit(1 << 20)
    assert await append(journal, "e1", large) == 2
    assert len(await frames(journal, "e1")) == 101


async def test_a_failed_commit_stops_the_journal(open_journal, path, new_record, new_chunk, append, monkeypatch):
    """When a sync fails nobody knows what is stored: all that waits and all that comes is refused, the server hears."""
    told = []
    journal = await open_journal(on_fatal=lambda: told.append(1))
    await journal.create(new_record())
    await append(journal, "e1", new_chunk(1, 3))

    def fail(ledger):
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
        raise error

    monkeypatch.setattr(Ledger, "commit", fail)
    with journal.follow("e1", after=3) as follower:
        await follower.read(max_events=1, max_bytes=1)
        pending = [asyncio.ensure_future(append(journal, "e1", new_chunk(n))) for n in range(4, 9)]
        async with asyncio.timeout(HANGS):
            results = await asyncio.gather(*pending, return_exceptions=True)
            await follower.wait()
        assert [type(result) for result in results] == [JournalUnavailable] * 5
        with pytest.raises(JournalUnavailable):
            await follower.read(max_events=1, max_bytes=1)
    assert told == [1]
    for call in (lambda: append(journal, "e1", new_chunk(4)), lambda: journal.get("e1")):
        with pytest.raises(JournalUnavailable, match="restarted"):
            await call()
    wal = path.with_name("journal.db-wal").stat().st_size
    await journal._writer.close()
    assert path.with_name("journal.db-wal").stat().st_size == wal  # Not checkpointed: what it holds is in doubt.
    await journal.close()
    monkeypatch.undo()
    journal = await open_journal()
    assert (await journal.get("e1")).last_sequence == 3


async def test_another_writer_is_waited_out(open_journal, path, new_record, new_chunk, append, monkeypatch):
    """While another process holds the file nothing is stored, and JournalBusy says so; the same write can follow."""
    monkeypatch.setattr("stepwire_server.journal.writer._BUSY_SECONDS", 0.0)
    journal = await open_journal()
    await journal.create(new_record("e1"))
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(JournalBusy, match="Another process"):
            await journal.create(new_record("e2"))
        with pytest.raises(JournalBusy, match="Another process"):
            await append(journal, "e1", new_chunk(1, 3))
        other.execute("ROLLBACK")
    assert (await journal.create(new_record("e2")))[1]
    assert await append(journal, "e1", new_chunk(1, 3)) == 1


async def test_a_damaged_record_is_left_out_of_lists(open_journal, path, new_record, caplog):
    """A list has every record but those that are damaged, on as many pages as it takes; the log names each once."""
    journal = await open_journal()
    for number in range(1, 11):
        await journal.create(new_record(f"e{number}"))
    await journal.close()
    for damaged in (1, 5, 6, 10):
        change(path, "UPDATE executions SET snapshot = x'00' WHERE ordinal = ?", damaged)
    journal = await open_journal()
    for _ in range(2):
        found, before, more = [], 0, True
        while more:
            page = await journal.list(ExecutionFilter(), tenant="", before=before, limit=2)
            assert page.total == 10
            found += [record.ordinal for record in page.records]
            before, more = found[-1], page.more
        assert found == [9, 8, 7, 4, 3, 2]
    for damaged in (1, 5, 6, 10):
        assert caplog.text.count(f"number {damaged} is damaged; lists go on without it") == 1


@pytest.mark.parametrize("column", ["position", "first", "last", "ends", "kinds", "checksum", "data"])
@pytest.mark.parametrize("damaged", [1, 2, 3])
async def test_a_damaged_row(open_journal, path, new_record, new_chunk, append, column, damaged):
    """A row that differs from what was written, in any column, is never read: JournalDamaged names it."""
    journal = await open_journal()
    await journal.create(new_record())
    for first in (1, 11, 21):
        await append(journal, "e1", new_chunk(first, 10))
    before = await journal.read("e1", after=0, **PLENTY)
    await journal.close()
    if column in ("ends", "kinds", "data"):
        change(path, f"UPDATE chunks SET {column} = x'00' || substr({column}, 2) WHERE position = {damaged}")
    else:
        change(path, f"UPDATE chunks SET {column} = {column} + 7 WHERE position = {damaged}")
    journal = await open_journal()
    wanted = 10 * (damaged - 1)
    if damaged > 1:
        assert await journal.read("e1", after=0, **PLENTY) == before[: damaged - 1]
    with pytest.raises(JournalDamaged, match=f"execution e1 can't be read from sequence {wanted + 1} on") as caught:
        await journal.read("e1", after=wanted, **PLENTY)
    assert caught.value.metadata == {"execution_id": "e1", "sequence": str(wanted + 1)}
    if damaged < 3 and column != "first":
        assert [chunk.first for chunk in await journal.read("e1", after=20, **PLENTY)] == [21]


@pytest.mark.parametrize("missing", [1, 2, 3])
async def test_a_missing_row(open_journal, path, new_record, new_chunk, append, missing):
    """A row that is gone is a damage too, at the beginning, in the middle and at the end."""
    journal = await open_journal()
    await journal.create(new_record())
    for first in (1, 11, 21):
        await append(journal, "e1", new_chunk(first, 10))
    await journal.close()
    change(path, f"DELETE FROM chunks WHERE position = {missing}")
    journal = await open_journal()
    wanted = 10 * (missing - 1)
    with pytest.raises(JournalDamaged):
        await journal.read("e1", after=wanted + 4, **PLENTY)
    if missing == 3:
        with pytest.raises(JournalDamaged):
            await append(journal, "e1", new_chunk(31))


async def test_a_row_of_other_types(open_journal, path, new_record, new_chunk, append):
    """A column of a type that was never written is a damage, not a crash."""
    journal = await open_journal()
    await journal.create(new_record())
    await append(journal, "e1", new_chunk(1))
    await journal.close()
    for column, value in (("data", "CAST(x'ff' AS TEXT)"), ("kinds", "'text'"), ("ends", "1.5"), ("first", "x'00'")):
        old = query(path, f"SELECT {column} FROM chunks")[0][0]
        change(path, f"UPDATE chunks SET {column} = {value}")
        journal = await open_journal()
        with pytest.raises(JournalDamaged):
            await journal.read("e1", after=0, **PLENTY)
        await journal.close()
        change(path, f"UPDATE chunks SET {column} = ?", old)


async def test_a_damaged_page(open_journal, path, new_record, new_chunk, append):
    """A page overwritten in the file is a damage, not a crash, and no invented event."""
    journal = await open_journal()
    await journal.create(new_record())
    for first in range(1, 2000, 50):
        await append(journal, "e1", new_chunk(first, 50, size=100))
    every = b"".join(chunk.data for chunk in await journal.read("e1", after=0, **PLENTY))
    await journal.close()
    whole = path.read_bytes()
    pages = len(whole) // 4096
    damaged = 0
    for page in range(10, pages, 5):
        path.write_bytes(whole[: page * 4096] + b"\x5a" * 4096 + whole[(page + 1) * 4096 :])
        journal = await open_journal()
        after, data = 0, b""
        try:
            while after < 2000:
                chunks = await journal.read("e1", after=after, max_events=512, max_bytes=1 << 20)
                data += b"".join(chunk.data for chunk in chunks)
                after = chunks[-1].last
        except JournalDamaged:
            damaged += 1
        assert every.startswith(data)
        await journal.close()
    assert damaged > 5


@pytest.mark.parametrize("opened", [False, True], ids=["at the start", "meanwhile"])
async def test_a_definition_that_is_no_text(open_journal, path, new_record, opened):
    """A table's definition with a byte that is no text is a damage, whether the server starts or runs: the sqlite3
    module raises UnicodeDecodeError for it.
    """
    journal = await open_journal(durability="process")
    await journal.create(new_record())
    if not opened:
        await journal.close()
    whole = path.read_bytes()
    place = whole.index(b"NULL", whole.index(b"CREATE TABLE executions"))
    with path.open("r+b") as file:
        file.seek(place)
        file.write(b"\xce")
    with closing(sqlite3.connect(path)) as connection, pytest.raises(UnicodeDecodeError):
        connection.execute("SELECT 1 FROM executions")
    if opened:
        journal._readers._idle.clear()
        with pytest.raises(JournalDamaged):
            await journal.get("e1")
    else:
        with pytest.raises(JournalRefused, match="is damaged: the definitions of its tables"):
            await open_journal()


async def test_another_definition(open_journal, path, new_record):
    """A definition of SQLite's own, in which one letter is another, is a damage, and the start says so."""
    journal = await open_journal()
    await journal.create(new_record())
    await journal.close()
    place = path.read_bytes().index(b"sqlite_sequence(name,seq)") + len(b"sqlite_sequence(name,")
    with path.open("r+b") as file:
        file.seek(place)
        file.write(b"r")
    with pytest.raises(JournalRefused, match="is damaged: sqlite_sequence is missing or is not as Stepwire made it"):
        await open_journal()


# -- reads


async def test_a_bounded_read_reads_little(open_journal, new_record, new_chunk, append):
    """A read takes from the file what its bounds ask for, and not the execution's whole history."""
    journal = await open_journal(durability="process")
    await journal.create(new_record())
    for first in range(1, 2000, 100):
        await append(journal, "e1", new_chunk(first, 100, size=100))
    steps = []

    def watch(connection):
        connection.set_progress_handler(lambda: steps.append(1) and None, 1)

    def count(max_events):
        async def run():
            await journal._readers.run(watch)
            steps.clear()
            await journal._load("e1", after=150, max_events=max_events, max_bytes=1 << 30)
            return len(steps)

        return run()

    few, more, every = await count(1), await count(100), await count(10_000)
    assert few < more < every / 3


@pytest.mark.parametrize(("count", "most"), [(100, 100), (100, 250), (100, 512), (1, 30)])
async def test_a_replay_reads_no_chunk_twice(open_journal, new_record, new_chunk, append, monkeypatch, count, most):
    """Whoever follows an execution from its beginning has each stored chunk read and verified once."""
    journal = await open_journal(durability="process")
    await journal.create(new_record())
    for first in range(1, 10 * count + 1, count):
        await append(journal, "e1", new_chunk(first, count))
    decoded = []

    def decode(row):
        decoded.append(row)
        return decode_row(row)

    monkeypatch.setattr("stepwire_server.journal.history.decode_row", decode)
    with journal.follow("e1", after=0) as follower:
        while await follower.read(max_events=most, max_bytes=1 << 20):
            pass
    assert follower.sequence == 10 * count
    assert len(decoded) == 10


@pytest.mark.parametrize(
    ("sql", "index"),
    [
        ("SELECT 1 FROM executions WHERE execution_id = 'x'", "sqlite_autoindex_executions_1"),
        (
            "SELECT 1 FROM executions WHERE tenant = '' AND request_id = ? AND request_id <> ''",
            "executions_by_request_id",
        ),
        ("SELECT 1 FROM executions WHERE tenant = '' AND session_id = ? AND session_id <> ''", "executions_by_session"),
        (f"SELECT ordinal FROM executions WHERE {UNFINISHED} ORDER BY ordinal", "executions_unfinished"),
        ("SELECT execution FROM labels WHERE name = ? AND value = ?", "PRIMARY KEY"),
        ("SELECT name FROM labels WHERE execution = ?", "labels_by_execution"),
        ("SELECT max(first) FROM chunks WHERE execution = ? AND first <= ?", "chunks_by_first"),
    ],
)
async def test_queries_use_their_index(open_journal, path, sql, index):
    """No query that is asked often reads a whole table."""
    await (await open_journal()).close()
    plan, *_ = query(path, f"EXPLAIN QUERY PLAN {sql}", *([""] * sql.count("?")))
    assert index in plan[-1]


async def test_reads_see_whole_commits(open_journal, new_record, new_chunk, append):
    """While appends go on, each read gives a dense run, and a record never knows of more than can be read."""
    journal = await open_journal(durability="process")
    await journal.create(new_record())
    done = False

    async def write():
        nonlocal done
        for first in range(1, 900, 3):
            await append(journal, "e1", new_chunk(first, 3))
        done = True

    writing = asyncio.ensure_future(write())
    async with asyncio.timeout(HANGS):
        while not done:
            last = (await journal.get("e1")).last_sequence
            chunks = await journal.read("e1", after=0, **PLENTY)
            sequences = [chunk.first + i for chunk in chunks for i in range(len(chunk))]
            assert sequences == list(range(1, len(sequences) + 1))
            assert len(sequences) >= last
    await writing
    assert (await journal.list(ExecutionFilter(), tenant="", limit=1)).records[0].last_sequence == 900
    assert (await journal.unfinished())[0].state == ExecutionState.EXECUTION_STATE_RUNNING


@pytest.mark.parametrize("ends", [[1], [200, 65_535], [200, 65_536], [1, 2, 1 << 31]])
def test_ends_are_kept(ends):
    """Where frames end is encoded in 2 bytes each as long as that is enough, else in 4, and comes back as it was."""
    stored = encode_ends(ends, ends[-1])
    assert list(decode_ends(stored, ends[-1])) == list(ends)
    assert len(stored) == len(ends) * (2 if ends[-1] <= 65_535 else 4)


def run(script: str) -> tuple[int, str]:
    """Runs Python code in a process of its own; returns its exit code and what it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=50
    )
    assert not done.stderr
    return done.returncode, done.stdout
