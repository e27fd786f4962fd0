"""What a check finds in a journal's file, and what it lets pass."""

from __future__ import annotations

import asyncio
import sqlite3
import zlib
from contextlib import closing
from pathlib import Path

import pytest

from stepwire.errors import JournalDamaged
from stepwire.v1 import Event, EventBatch, Execution, ExecutionState
from stepwire_server.journal import Chunk, ExecutionRecord, JournalRefused, Retention, SqliteJournal
from stepwire_server.journal.checking import check
from stepwire_server.journal.inspection import opened_to_read, statistics
from stepwire_server.journal.schema import decode_row, encode_row

RUNNING = ExecutionState.EXECUTION_STATE_RUNNING
COMPLETED = ExecutionState.EXECUTION_STATE_COMPLETED
PLENTY = {"max_events": 1 << 30, "max_bytes": 1 << 40}
HANGS = 20


def events_of(name: str, first: int, count: int, *, end: int = 0) -> Chunk:
    """Returns real events; the one with the sequence `end` is terminal."""
    ends, data, kinds = [], b"", b""
    for sequence in range(first, first + count):
        event = Event(execution_id=name, sequence=sequence, execution_state=COMPLETED if sequence == end else RUNNING)
        if sequence == end:
            event.plan_completed.SetInParent()
        else:
            event.stage.name = "s"
        data += EventBatch(events=[event]).SerializeToString()
        ends.append(len(data))
        kinds += bytes([Event.DESCRIPTOR.fields_by_name[event.WhichOneof("kind")].number])
    return Chunk(first=first, data=data, ends=ends, kinds=kinds)


async def fill(journal, name: str, *, chunks: int = 4, each: int = 3, ended: bool = True) -> None:
    """Runs an execution."""
    snapshot = Execution(execution_id=name, state=RUNNING)
    await journal.create(
        ExecutionRecord(
            execution_id=name, request=b"", create_time_ns=1, state=RUNNING, snapshot=snapshot.SerializeToString()
        )
    )
    for index in range(chunks):
        last = (index + 1) * each
        over = ended and index == chunks - 1
        state = COMPLETED if over else RUNNING
        snapshot = Execution(execution_id=name, state=state, as_of_sequence=last)
        await journal.append(
            name,
            epoch=1,
            chunk=events_of(name, index * each + 1, each, end=last if over else 0),
            state=state,
            snapshot=snapshot.SerializeToString(),
        )


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
async def made(path) -> Path:
    """A sound journal: two that have ended, one that runs, one without events. Nobody has it open."""
    journal = SqliteJournal(path)
    await journal.open()
    await fill(journal, "a")
    await fill(journal, "b")
    await fill(journal, "c", ended=False)
    await fill(journal, "d", chunks=0)
    await journal.close()
    return path


def findings(path) -> list[tuple[str, str]]:
    with opened_to_read(path) as connection:
        return [(finding.execution_id, finding.problem) for finding in check(connection).findings]


def change(path, sql, *parameters) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        assert connection.execute(sql, parameters).rowcount


def rewrite(path, first: int, chunk) -> None:
    """Gives a row of execution "b" other events, with the right checksum: what only a bug would write."""
    with closing(sqlite3.connect(path)) as connection, connection:
        row = connection.execute(
            "SELECT position, execution, first, last, ends, kinds, checksum, data FROM chunks "
            "WHERE execution = 2 AND first = ?",
            (first,),
        ).fetchone()
        connection.execute("DELETE FROM chunks WHERE position = ?", (row[0],))
        new = encode_row(chunk(decode_row(row)).at(row[0]), 2)
        connection.execute("INSERT INTO chunks VALUES (?, ?, ?, ?, ?, ?, ?, ?)", new)


async def test_a_sound_journal(made):
    """In a sound journal nothing is found, and everything was looked at."""
    told = []
    with opened_to_read(made) as connection:
        report = check(connection, progress=told.append)
    assert not report.findings
    assert (report.executions, report.events, report.chunks) == (4, 36, 12)
    assert sum(told) == 36


@pytest.mark.parametrize("column", ["ends", "kinds", "data", "checksum", "last", "position"])
async def test_a_changed_row(made, column):
    """A row that differs from what was written, in any column, is found."""
    value = f"CAST(x'00' || substr({column}, 2) AS BLOB)" if column in ("ends", "kinds", "data") else f"{column} + 100"
    change(made, f"UPDATE chunks SET {column} = {value} WHERE execution = 2 AND first = 4")
    found = findings(made)
    assert found[0][0] == "b"
    assert "is not what was written" in found[0][1]
    assert {name for name, _ in found} == {"b"}


@pytest.mark.parametrize("first", [1, 4, 7, 10])
async def test_a_missing_row(made, first):
    """A row that is missing is found, at the beginning, in the middle and at the end."""
    change(made, "DELETE FROM chunks WHERE execution = 2 AND first = ?", first)
    found = findings(made)
    assert found
    assert {name for name, _ in found} == {"b"}


@pytest.mark.parametrize(
    ("sql", "problem"),
    [
        ("UPDATE executions SET last_sequence = 11 WHERE ordinal = 2", "record ends at sequence 11, its chunks at 12"),
        ("UPDATE executions SET last_sequence = 13 WHERE ordinal = 2", "record ends at sequence 13, its chunks at 12"),
        ("UPDATE executions SET state = 7 WHERE ordinal = 2", "record is FAILED, its last event COMPLETED"),
        ("UPDATE executions SET state = 3 WHERE ordinal = 2", "is RUNNING after the terminal event 12"),
        ("UPDATE executions SET end_time_ns = 0 WHERE ordinal = 2", "COMPLETED, and has no time of the end"),
        ("UPDATE executions SET snapshot = x'' WHERE ordinal = 2", "its snapshot UNSPECIFIED at 0"),
        ("UPDATE executions SET snapshot = x'ff' WHERE ordinal = 2", "can't be decoded"),
        ("UPDATE executions SET snapshot = 'text' WHERE ordinal = 2", "can't be decoded"),
        ("DELETE FROM requests WHERE execution = 2", "its request is missing"),
    ],
)
async def test_a_record_that_does_not_agree(made, sql, problem):
    """A record that says something else than its events is found: sequence, state, end, snapshot, request."""
    change(made, sql)
    found = findings(made)
    assert {name for name, _ in found} == {"b"}
    assert any(problem in text for _, text in found), found


async def test_a_live_execution_with_an_end(made):
    """An end where the execution runs is found."""
    change(made, "UPDATE executions SET end_time_ns = 5 WHERE ordinal = 3")
    assert findings(made) == [
        ("c", "its record is RUNNING, and has a time of the end"),
        ("c", "its record or its request is not what was written"),
    ]


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE executions SET epoch = 2 WHERE ordinal = 2",
        "UPDATE executions SET session_id = 'another' WHERE ordinal = 2",
        "UPDATE executions SET create_time_ns = 5 WHERE ordinal = 2",
        "UPDATE executions SET snapshot = CAST(snapshot || x'0a0162' AS BLOB) WHERE ordinal = 2",
        "UPDATE requests SET request = x'00' WHERE execution = 2",
        "INSERT INTO labels VALUES ('a', 'b', 2)",
    ],
)
async def test_a_changed_record(made, sql):
    """A record that is not what was written is found, and is not given to anybody, whatever was changed in it."""
    change(made, sql)
    assert findings(made) == [("b", "its record or its request is not what was written")]
    journal = SqliteJournal(made)
    await journal.open()
    with pytest.raises(JournalDamaged) as raised:
        await journal.get("b")
    assert raised.value.metadata["execution_id"] == "b"
    with pytest.raises(JournalDamaged):
        await journal.claim("b", epoch=3)
    assert await journal.get("a") is not None
    assert [record.execution_id for record in await journal.unfinished()] == ["c", "d"]
    await journal.close()


async def test_a_terminal_event_in_the_middle(made):
    """A terminal event that is not the last is found, also where all checksums are right."""
    rewrite(made, 4, lambda chunk: events_of("b", 4, 3, end=5))
    assert findings(made) == [("b", "sequence 6 follows the terminal event 5")]


async def test_an_end_without_a_terminal_event(made):
    """An execution that has ended without a terminal event is found."""
    rewrite(made, 10, lambda chunk: events_of("b", 10, 3))
    assert any("last event is not a terminal one" in text for _, text in findings(made))


async def test_events_of_another_execution(made):
    """Events that belong to another execution are found, also where all checksums are right."""
    rewrite(made, 10, lambda chunk: events_of("a", 10, 3, end=12))
    assert findings(made) == [("b", "its last event says that it is a/12")]


async def test_an_overlap(made):
    """A chunk that has a sequence twice is found."""
    rewrite(made, 7, lambda chunk: events_of("b", 6, 4))
    assert ("b", "sequence 7 is expected, and 6 follows") in findings(made)


async def test_chunks_without_an_execution(made):
    """Chunks whose execution is gone are found, unless they are what is left of one that is being purged."""
    change(made, "DELETE FROM executions WHERE ordinal = 2")
    assert findings(made) == [("", "4 chunks belong to number 2, which is no execution")]
    change(made, "INSERT INTO remains VALUES (2)")
    assert findings(made) == []


async def test_overwritten_pages(made):
    """Whatever page of the file is overwritten, the check finds it or it was free, and does not crash."""
    whole = made.read_bytes()
    missed = []
    for page in range(1, len(whole) // 4096):
        made.write_bytes(whole[: page * 4096] + b"\x5a" * 4096 + whole[(page + 1) * 4096 :])
        if not findings(made):
            missed.append(page)
    assert not missed


async def test_an_entry_of_an_index_that_is_not_its_rows(made):
    """An entry of an index that does not say what its row says is found: by the index the execution would be gone."""
    # Found by tests/faults/test_damage.py, seed 850627984: what PRAGMA quick_check does not look at.
    with closing(sqlite3.connect(made)) as connection:
        roots = dict(connection.execute("SELECT name, rootpage FROM sqlite_master WHERE type = 'index'").fetchall())
    whole = made.read_bytes()
    found = {}
    for name, page in roots.items():
        entries = int.from_bytes(whole[(page - 1) * 4096 + 3 : (page - 1) * 4096 + 5], "big")
        # The entry that was written first ends where the page ends.
        harmed = bytearray(whole)
        harmed[page * 4096 - 1] ^= 2
        made.write_bytes(harmed)
        found[name] = bool(entries), bool(findings(made))
    assert found["sqlite_autoindex_executions_1"] == (True, True)
    assert {name for name, (filled, seen) in found.items() if filled != seen} == set()


async def test_a_check_beside_a_server(path, monkeypatch):
    """While executions are appended, joined and purged, a check that is renewed at every chunk finds nothing."""
    monkeypatch.setattr("stepwire_server.journal.checking._SECONDS", 0.0)
    monkeypatch.setattr("stepwire_server.journal.writer._REST", 0)
    journal = SqliteJournal(path, bite_seconds=0.0)
    await journal.open()
    for number in range(6):
        await fill(journal, f"e{number}", chunks=150, each=4)

    def looked() -> list[str]:
        with opened_to_read(path) as connection:
            return [finding.problem for finding in check(connection).findings]

    try:
        async with asyncio.timeout(HANGS):
            checking = [asyncio.ensure_future(asyncio.to_thread(looked)) for _ in range(2)]
            await fill(journal, "new", chunks=100)
            await journal.compact()
            checking.append(asyncio.ensure_future(asyncio.to_thread(looked)))
            await journal.purge(Retention(keep_days=0, keep_executions=2))
            assert await asyncio.gather(*checking) == [[], [], []]
            assert await asyncio.to_thread(looked) == []
    finally:
        await journal.close()


async def test_a_chunk_that_grows_between_two_looks(path, monkeypatch):
    """A run that is joined after the check has read a part of it is no finding, and no event of it is missed."""
    monkeypatch.setattr("stepwire_server.journal.checking._SECONDS", 0.0)
    journal = SqliteJournal(path, tail_bytes=0)
    await journal.open()
    await fill(journal, "e1", chunks=50, each=2)
    loop = asyncio.get_running_loop()
    seen = 0

    def look() -> tuple[list[str], int]:
        def progress(count: int) -> None:
            nonlocal seen
            seen += count
            if seen == 20:
                asyncio.run_coroutine_threadsafe(journal.compact(), loop).result(HANGS)

        with opened_to_read(path) as connection:
            report = check(connection, progress=progress)
        return [finding.problem for finding in report.findings], report.events

    try:
        assert await asyncio.to_thread(look) == ([], 100)
        assert len(await journal.read("e1", after=0, **PLENTY)) <= 2
    finally:
        await journal.close()


async def test_a_check_moves_on(path, monkeypatch):
    """A check of one long execution does not stay with the file as it was at first: what comes meanwhile is checked."""
    monkeypatch.setattr("stepwire_server.journal.checking._SECONDS", 0.0)
    journal = SqliteJournal(path)
    await journal.open()
    await fill(journal, "e1", chunks=20, each=2, ended=False)
    loop = asyncio.get_running_loop()
    seen = 0

    async def more() -> None:
        snapshot = Execution(execution_id="e1", state=RUNNING, as_of_sequence=43).SerializeToString()
        await journal.append("e1", epoch=1, chunk=events_of("e1", 41, 3), state=RUNNING, snapshot=snapshot)

    def look() -> tuple[list[str], int]:
        def progress(count: int) -> None:
            nonlocal seen
            seen += count
            if seen == 20:
                asyncio.run_coroutine_threadsafe(more(), loop).result(HANGS)

        with opened_to_read(path) as connection:
            report = check(connection, progress=progress)
        return [finding.problem for finding in report.findings], report.events

    try:
        assert await asyncio.to_thread(look) == ([], 43)
    finally:
        await journal.close()


async def test_positions_out_of_order(made):
    """A chunk whose position is not above the one before is found, also where all checksums are right."""
    with closing(sqlite3.connect(made)) as connection, connection:
        rows = connection.execute(
            "SELECT position, execution, first, last, ends, kinds, checksum, data FROM chunks "
            "WHERE execution = 2 ORDER BY first"
        ).fetchall()
        connection.execute("DELETE FROM chunks WHERE execution = 2")
        for row, other in zip(rows, reversed(rows), strict=True):
            new = encode_row(decode_row(row).at(other[0]), 2)
            connection.execute("INSERT INTO chunks VALUES (?, ?, ?, ?, ?, ?, ?, ?)", new)
    found = findings(made)
    assert len(found) == 3
    assert all("a position that is not above the one before" in text for _, text in found)


# -- looking


async def test_nothing_can_be_written_by_who_looks(made):
    """What is opened to be read can't be changed."""
    with opened_to_read(made) as connection, pytest.raises(sqlite3.OperationalError, match="readonly"):
        connection.execute("DELETE FROM executions")


async def test_what_is_no_journal(tmp_path):
    """A file that is missing, empty, no database, of something else or of another version is refused."""
    missing, empty, text, other = (tmp_path / name for name in ("missing", "empty", "text", "other"))
    empty.touch()
    text.write_bytes(b"Dear diary, " * 1000)
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    for path, problem in (
        (missing, "there is no journal"),
        (empty, "not a Stepwire journal"),
        (text, "not a Stepwire journal"),
        (other, "not a Stepwire journal"),
    ):
        with pytest.raises(JournalRefused, match=problem), opened_to_read(path):
            pass
    assert not missing.exists()


async def test_a_journal_without_its_beginning(made):
    """A file that is no database, beside which a journal's mark lies, is called a damaged journal."""
    whole = made.read_bytes()
    made.write_bytes(b"\x5a" * 100 + whole[100:])
    with pytest.raises(JournalRefused, match="is damaged: a journal it was"), opened_to_read(made):
        pass


@pytest.mark.parametrize(("version", "problem"), [(1, "of version 1"), (99, "newer Stepwire")])
async def test_another_version(made, version, problem):
    """A journal of another version is refused, and the message says what to do."""
    change_pragma(made, f"user_version = {version}")
    with pytest.raises(JournalRefused, match=problem), opened_to_read(made):
        pass


def change_pragma(path, pragma) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA {pragma}")


async def test_statistics(made):
    """The numbers are those of what the journal holds."""
    with opened_to_read(made) as connection:
        found = statistics(connection, made)
    assert found.executions == {RUNNING: 2, COMPLETED: 2}
    assert (found.events, found.chunks, found.scattered, found.tombstones) == (36, 12, 2, 0)
    assert (found.oldest_ns, found.newest_ns) == (1, 1)
    assert found.file_bytes == made.stat().st_size
    assert (found.free_bytes, found.wal_bytes) == (0, 0)


def test_checksums_are_crc32():
    """A checksum is the CRC-32 that everyone has, so that another program can verify a row."""
    assert zlib.crc32(b"123456789") == 0xCBF43926
