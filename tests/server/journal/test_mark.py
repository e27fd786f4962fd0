"""What tells that a journal's end is missing, and that what a killed process left is made durable first."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing

import pytest
from click.testing import CliRunner

from stepwire_server.journal import JournalLocked, JournalRefused, SqliteJournal, place
from stepwire_server.journal.exporting import seal
from stepwire_server.journal.inspection import opened_to_read
from stepwire_server.journal.mark import missing
from stepwire_server.journal_commands import journal as journal_command


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal.db"


@pytest.fixture
def killed(path, tmp_path, new_record, new_chunk, append):
    """Makes a journal as a killed process leaves it, and returns the path of its copy."""

    async def make(*, durability="machine"):
        journal = SqliteJournal(path, durability=durability)
        await journal.open()
        await journal.create(new_record())
        await append(journal, "e1", new_chunk(1, 10))
        await append(journal, "e1", new_chunk(11, 10))
        there = tmp_path / "there"
        there.mkdir()
        for name in path.parent.glob("journal.db*"):
            shutil.copy(name, there)
        await journal.close()
        (there / "journal.db-shm").unlink()
        return there / "journal.db"

    return make


def log_of(path):
    return path.with_name(path.name + "-wal")


def mark_of(path):
    return path.with_name(path.name + ".mark")


async def opened(path, **settings):
    journal = SqliteJournal(path, **settings)
    await journal.open()
    return journal


async def test_a_killed_process_has_all(killed):
    """What a killed process leaves is whole: nothing is missing at its end."""
    path = await killed()
    journal = await opened(path)
    assert (await journal.get("e1")).last_sequence == 20
    await journal.close()


@pytest.mark.parametrize("left", [0, 1, 1000, -1, None])
async def test_the_end_of_the_log_is_missing(killed, left):
    """A journal whose log was cut, emptied or removed is refused, and says what is missing and how to go on."""
    path = await killed()
    log = log_of(path)
    if left is None:
        log.unlink()
    else:
        os.truncate(log, left if left >= 0 else log.stat().st_size + left)
    with pytest.raises(JournalRefused, match=r"the end of .* is missing: its chunks end at number .*remove .*mark"):
        await opened(path)
    mark_of(path).unlink()
    journal = await opened(path)
    record = await journal.get("e1")
    assert record is None or record.last_sequence < 20
    await journal.close()


async def test_a_file_that_was_emptied(killed):
    """An empty file where a journal was is not taken for a new journal."""
    path = await killed()
    os.truncate(path, 0)
    log_of(path).unlink()
    with pytest.raises(JournalRefused, match="is missing"):
        await opened(path)


@pytest.mark.parametrize("emptied", [False, True])
async def test_a_log_without_its_file(killed, emptied):
    """A log whose file is gone or empty is refused by all who could look, and kept: put back together, all is there."""
    path = await killed()
    away, log = path.read_bytes(), log_of(path).read_bytes()
    path.unlink()
    if emptied:
        path.touch()
        with pytest.raises(JournalRefused, match="is empty, and its write-ahead log"), opened_to_read(path):
            pass
    with pytest.raises(JournalRefused, match=r"write-ahead log .* is there.*move the log away"):
        await opened(path)
    assert log_of(path).read_bytes() == log
    path.write_bytes(away)
    journal = await opened(path)
    assert (await journal.get("e1")).last_sequence == 20
    await journal.close()


async def test_a_refused_start_changes_nothing(killed):
    """A log that is damaged in its middle is as it was after the start that is refused; mended, all is there."""
    path = await killed()
    log = log_of(path).read_bytes()
    middle = 32 + (24 + 4096) * (len(log) // (24 + 4096) // 2) + 500
    damaged = log[:middle] + bytes([log[middle] ^ 0xFF]) + log[middle + 1 :]
    log_of(path).write_bytes(damaged)
    file, note = path.read_bytes(), mark_of(path).read_bytes()
    for _ in range(2):
        with pytest.raises(JournalRefused, match="is missing"):
            await opened(path)
        assert (path.read_bytes(), log_of(path).read_bytes(), mark_of(path).read_bytes()) == (file, damaged, note)
    log_of(path).write_bytes(log)
    journal = await opened(path)
    assert (await journal.get("e1")).last_sequence == 20
    await journal.close()


async def test_a_new_journal_in_an_old_ones_place(killed):
    """Where the file is gone a new journal begins, whatever was noted of the old one."""
    path = await killed()
    path.unlink()
    log_of(path).unlink()
    journal = await opened(path)
    assert await journal.get("e1") is None
    await journal.close()
    await (await opened(path)).close()


@pytest.mark.parametrize("made", [False, True])
@pytest.mark.parametrize("opener", ["server", "import"])
async def test_a_kill_while_a_new_journal_takes_an_old_ones_place(killed, monkeypatch, made, opener):
    """A start that ends just before or after it makes the new journal's file keeps no later one from coming up."""
    path = await killed()
    path.unlink()
    log_of(path).unlink()
    sync = place.sync

    def end(folder):
        sync(folder)
        if path.exists() is made:
            raise OSError("ends here")

    monkeypatch.setattr(place, "sync", end)
    if opener == "server":
        with pytest.raises(OSError, match="ends here"):
            await opened(path)
    else:
        export = path.with_name("empty.jsonl")
        export.write_text(seal({"stepwire_journal": 1}) + seal({"end": {"executions": 0, "events": 0}}))
        done = CliRunner().invoke(journal_command, ["import", str(path), str(export)])
        assert "ends here" in done.output
    assert path.exists() is made
    monkeypatch.undo()
    journal = await opened(path)
    assert await journal.get("e1") is None
    await journal.close()


async def test_who_is_refused_removes_no_note(killed):
    """A second server leaves the note alone and makes no file, also where the first has yet to make its own."""
    path = await killed()
    path.unlink()
    log_of(path).unlink()
    note = mark_of(path).read_bytes()
    lock = place.Lock(path)
    with pytest.raises(JournalLocked):
        await opened(path)
    lock.release()
    assert mark_of(path).read_bytes() == note
    assert not path.exists()


async def test_an_older_note_is_no_reproach(killed, new_chunk, append):
    """A journal that has more than was noted is opened, and noted anew."""
    path = await killed()
    note = mark_of(path).read_bytes()
    journal = await opened(path)
    await append(journal, "e1", new_chunk(21, 5))
    await journal.close()
    newer = mark_of(path).read_bytes()
    mark_of(path).write_bytes(note)
    await (await opened(path)).close()
    assert mark_of(path).read_bytes() == newer != note


@pytest.mark.parametrize("note", [b"", b"garbage", bytes(20)])
async def test_a_note_that_cannot_be_read(killed, note):
    """A note that is not what was written says nothing."""
    path = await killed()
    os.truncate(log_of(path), 0)
    mark_of(path).write_bytes(note)
    await (await opened(path)).close()


async def test_no_note_where_a_power_cut_may_take_commits(killed):
    """A journal of durability "process" has no note, and removes one that it finds."""
    path = await killed()
    os.truncate(log_of(path), 0)
    journal = await opened(path, durability="process")
    assert not mark_of(path).exists()
    await journal.close()
    await (await opened(path)).close()


async def test_a_check_finds_it(killed):
    """Who looks into a journal is told what is missing at its end, and nothing where it is all there."""
    path = await killed()
    await (await opened(path)).close()
    with opened_to_read(path) as connection:
        assert missing(connection, path) == ""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE sqlite_sequence SET seq = 1 WHERE name = 'chunks'")
    with opened_to_read(path) as connection:
        assert missing(connection, path) == "its chunks end at number 1, and 2 had been stored"
    done = CliRunner().invoke(journal_command, ["check", str(path)])
    assert done.exit_code == 1
    assert "the file: its end is missing" in done.output


@pytest.mark.parametrize(("durability", "expected"), [("machine", True), ("process", False)])
async def test_a_log_that_is_found_is_synced_before_it_is_read(killed, monkeypatch, durability, expected):
    """Commits that a killed process had written and not synced are synced before anybody sees them."""
    path = await killed()
    wanted = log_of(path).stat().st_ino
    synced = []
    fsync = os.fsync

    def noted(fd):
        synced.append(os.fstat(fd).st_ino)
        fsync(fd)

    monkeypatch.setattr(os, "fsync", noted)
    journal = await opened(path, durability=durability)
    assert (wanted in synced) == expected
    await journal.close()
