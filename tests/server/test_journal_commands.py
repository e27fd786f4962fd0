"""The commands `stepwire-server journal ...`, over journals that real executions have written."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import re
import sqlite3
import zlib
from contextlib import closing
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.server.journal.pages import crowd, spoil_page

from stepwire.errors import CursorExpired, ExecutionNotFound
from stepwire.v1 import EventBatch, ExecuteRequest, ExecutionFilter, ExecutionState, Plan
from stepwire_server import App, StepContext, plan_step
from stepwire_server.__main__ import main
from stepwire_server.engine.engine import Engine
from stepwire_server.journal import Chunk, ExecutionRecord, JournalRefused, Retention, SqliteJournal
from stepwire_server.journal.checking import check
from stepwire_server.journal.exporting import export, seal
from stepwire_server.journal.importing import ExportDamaged, verify
from stepwire_server.journal.inspection import opened_to_read

PLENTY = {"max_events": 1 << 30, "max_bytes": 1 << 40}
DAY_NS = 24 * 3600 * 1_000_000_000
PENDING = ExecutionState.EXECUTION_STATE_PENDING


def app() -> App:
    app = App("tests")

    @app.operation()
    async def write(step: StepContext, pieces: int) -> int:
        for number in range(pieces):
            await step.content(f"piece {number} ")
        return pieces

    return app


async def run(journal: SqliteJournal, name: str, *, pieces: int = 5, request_id: str = "") -> None:
    """Runs an execution to its end."""
    engine = Engine(app().catalog(), journal, new_id=lambda: name)
    plan = Plan(steps=[plan_step("one", "write", input={"pieces": pieces})])
    await engine.accept(ExecuteRequest(plan=plan, request_id=request_id, labels={"of": name}))
    with journal.follow(name, after=0) as follower:
        while not follower.ended:
            if not await follower.read(max_events=512, max_bytes=1 << 20):
                await follower.wait()
    await engine.drain(0)


async def fill(path: Path, *, now_ns: int | None = None, names: str = "abc", unfinished: bool = True) -> None:
    journal = SqliteJournal(path, **({} if now_ns is None else {"now_ns": lambda: now_ns}))
    await journal.open()
    for name in names:
        await run(journal, name, request_id=f"r-{name}", pieces=ord(name) - 90)
    if unfinished:
        await journal.create(ExecutionRecord(execution_id="waiting", request=b"", create_time_ns=1))
    await journal.close()


async def contents(path: Path) -> dict[str, tuple[ExecutionRecord, bytes, bytes]]:
    """Returns each execution with the bytes and the kinds of its events."""
    journal = SqliteJournal(path, tail_bytes=0)
    await journal.open()
    found = {}
    for listed in (await journal.list(ExecutionFilter(), tenant="", limit=1000)).records:
        record = await journal.get(listed.execution_id)
        chunks = await journal.read(record.execution_id, after=0, **PLENTY)
        data, kinds = b"".join(chunk.data for chunk in chunks), b"".join(chunk.kinds for chunk in chunks)
        found[record.execution_id] = (record, data, kinds)
    await journal.close()
    return found


def same(one: ExecutionRecord, other: ExecutionRecord) -> bool:
    """Says whether two records are the same but for their place in the journal."""
    names = set(ExecutionRecord.__slots__) - {"ordinal"}
    return all(getattr(one, name) == getattr(other, name) for name in names)


def invoke(*arguments: object, code: int = 0) -> Result:
    result = CliRunner().invoke(main, ["journal", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
def exported(path, tmp_path) -> Path:
    """An export of a journal with three executions and one that has not ended."""
    asyncio.run(fill(path))
    target = tmp_path / "executions.jsonl"
    invoke("export", path, "-o", target)
    return target


# -- stats and check


def test_stats(path):
    """stats prints executions by state, events, sizes and times."""
    asyncio.run(fill(path))
    output = invoke("stats", path).output
    for line in (
        r"executions +4",
        r"  completed +3",
        r"  pending +1",
        r"tombstones +0",
        r"oldest +1970-01-01",
        r"file ",
    ):
        assert re.search(rf"^{line}", output, re.MULTILINE), output


def test_stats_of_an_empty_journal(path):
    """stats of a journal without executions has zeros, and no times."""
    asyncio.run(fill(path, names="", unfinished=False))
    assert re.search(r"^oldest +none$", invoke("stats", path).output, re.MULTILINE)


def test_check(path):
    """check says what it looked at and that nothing is wrong, with the exit code 0."""
    asyncio.run(fill(path, unfinished=False))
    assert re.search(r"^3 executions, \d+ events in \d+ chunks, .*: nothing is wrong$", invoke("check", path).output)


def test_check_of_a_damaged_journal(path):
    """check names what is damaged, a line each, with the exit code 1."""
    asyncio.run(fill(path, unfinished=False))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE chunks SET checksum = checksum + 1 WHERE execution = 2 AND first = 1")
    output = invoke("check", path, code=1).output
    assert re.search(r"^execution b: the chunk at position \d+ is not what was written \(sequences 1\.\.", output, re.M)
    assert re.search(r": 1 finding$", output, re.MULTILINE)


def test_a_long_report_is_short(path):
    """check shows the first fifty findings and says how many more there are."""

    async def many() -> None:
        journal = SqliteJournal(path)
        await journal.open()
        for number in range(60):
            await journal.create(ExecutionRecord(execution_id=f"e{number}", request=b"", create_time_ns=1))
        await journal.close()

    asyncio.run(many())
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE executions SET last_sequence = 5")
    output = invoke("check", path, code=1).output
    assert len(output.splitlines()) == 50 + 2
    assert re.search(r"\.\.\. and \d+ more", output)


@pytest.mark.parametrize("command", ["stats", "check", "export"])
def test_beside_a_server(path, command):
    """What only reads works on a journal that a server has open, and sees what is only in its write-ahead log."""

    async def open_and_look() -> str:
        journal = SqliteJournal(path)
        await journal.open()
        try:
            await run(journal, "a")
            return (await asyncio.to_thread(invoke, command, path)).output
        finally:
            await journal.close()

    output = asyncio.run(open_and_look())
    assert {"stats": "completed", "check": "1 executions", "export": '"execution_id":"a"'}[command] in output


# -- purge


def test_purge_by_age(path):
    """purge --older-than removes what ended before, and says how much; what has not ended stays."""
    asyncio.run(fill(path, now_ns=1 * DAY_NS))
    asyncio.run(fill(path, names="xy", unfinished=False))
    assert "purged 3 executions" in invoke("purge", path, "--older-than", 7).output
    assert set(asyncio.run(contents(path))) == {"x", "y", "waiting"}


def test_purge_by_count(path):
    """purge --keep leaves those that ended last."""
    asyncio.run(fill(path))
    assert "purged 2 executions" in invoke("purge", path, "--keep", 1).output
    assert set(asyncio.run(contents(path))) == {"c", "waiting"}


def test_purge_leaves_tombstones(path):
    """After a purge by command a server refuses the request id and the cursor as after its own."""
    asyncio.run(fill(path))
    invoke("purge", path, "--keep", 1)

    async def ask() -> None:
        journal = SqliteJournal(path)
        await journal.open()
        try:
            engine = Engine(app().catalog(), journal)
            with pytest.raises(CursorExpired):
                await engine.accept(
                    ExecuteRequest(plan=Plan(steps=[plan_step("one", "write", input={"pieces": 1})]), request_id="r-a")
                )
            with pytest.raises(CursorExpired):
                await engine.get_to_read("a")
            with pytest.raises(ExecutionNotFound):
                await engine.get("a")
            with pytest.raises(ExecutionNotFound):
                await engine.get_to_read("never")
            await engine.drain(0)
        finally:
            await journal.close()

    asyncio.run(ask())


def test_a_dry_run_changes_nothing(path):
    """purge --dry-run says what it would remove, to the execution and event, and removes nothing."""
    asyncio.run(fill(path))
    before = asyncio.run(contents(path))
    output = invoke("purge", path, "--keep", 1, "--dry-run").output
    assert asyncio.run(contents(path)) == before
    assert invoke("purge", path, "--keep", 1).output == output.replace("would purge", "purged")


def test_shrink_gives_room_back(path):
    """purge --shrink makes the file smaller, and what is left in it is sound."""

    async def much() -> None:
        journal = SqliteJournal(path, durability="process")
        await journal.open()
        for number in range(4):
            await run(journal, f"e{number}", pieces=3000)
        await journal.close()

    asyncio.run(much())
    before = path.stat().st_size
    invoke("purge", path, "--keep", 1)
    assert path.stat().st_size == before
    invoke("purge", path, "--shrink")
    assert path.stat().st_size < before / 2
    invoke("check", path)


@pytest.mark.parametrize("arguments", [("purge", "--keep", 1), ("import",)])
def test_what_writes_is_refused_beside_a_server(path, exported, arguments):
    """purge and import are refused while a server has the journal open, and the message names its process."""
    command, *rest = arguments
    rest = rest or [exported]

    async def refused() -> Result:
        journal = SqliteJournal(path)
        await journal.open()
        try:
            return await asyncio.to_thread(invoke, command, path, *rest, code=1)
        finally:
            await journal.close()

    assert "is open in another server, process" in asyncio.run(refused()).output


def test_a_purge_goes_past_a_damaged_page(path):
    """A purge removes all that it can, says that damaged pages keep the rest, and its exit code is 1."""
    asyncio.run(crowd(path, 300))
    spoil_page(path, "requests")
    output = invoke("purge", path, "--keep", 1, code=1).output
    purged = int(re.search(r"purged (\d+) executions with", output)[1])
    kept = int(re.search(r"damaged pages keep (\d+) executions \(numbers \d+, .*\) from being purged", output)[1])
    assert purged > 200
    assert purged + kept == 299
    assert re.search(rf"executions +{kept + 1}\n", invoke("stats", path).output)


def test_purge_wants_to_know_what(path):
    """purge without a limit is refused: nobody purges all by accident; so is a limit of 0."""
    asyncio.run(fill(path))
    assert "say what to purge" in invoke("purge", path, code=2).output
    invoke("purge", path, "--keep", 0, code=2)
    invoke("purge", path, "--older-than", 0, code=2)


# -- export and import


def test_what_is_imported_is_the_same(path, exported, tmp_path):
    """An imported execution has the same record, the same bytes and kinds, and folds to the same snapshot."""
    other = tmp_path / "new" / "other.db"
    assert "imported 3 executions" in invoke("import", other, exported).output
    before, after = asyncio.run(contents(path)), asyncio.run(contents(other))
    assert set(after) == {"a", "b", "c"}
    for name, (record, data, kinds) in after.items():
        assert same(record, before[name][0])
        assert (data, kinds) == before[name][1:]
        assert EventBatch.FromString(data).events[-1].execution_state == record.state
    invoke("check", other)


def test_an_import_may_be_repeated(exported, tmp_path):
    """A second import of the same file changes nothing and says so."""
    other = tmp_path / "other.db"
    invoke("import", other, exported)
    before = asyncio.run(contents(other))
    assert "imported 0 executions with 0 events; 3 were there" in invoke("import", other, exported).output
    assert asyncio.run(contents(other)) == before


def test_what_has_not_ended_is_left_out(exported, tmp_path):
    """An execution that had not ended is imported only when that is asked for, since the next server runs it on."""
    other = tmp_path / "other.db"
    assert "left out 1 that had not ended" in invoke("import", other, exported).output
    assert "waiting" not in asyncio.run(contents(other))
    invoke("import", other, exported, "--with-unfinished")
    assert asyncio.run(contents(other))["waiting"][0].state == PENDING


def test_import_into_a_journal_with_others(exported, tmp_path):
    """Imported executions join those that are there, with numbers of their own."""
    other = tmp_path / "other.db"
    asyncio.run(fill(other, names="xy", unfinished=False))
    invoke("import", other, exported)
    found = asyncio.run(contents(other))
    assert sorted(found) == ["a", "b", "c", "x", "y"]
    assert sorted(record.ordinal for record, _, _ in found.values()) == [1, 2, 3, 4, 5]
    invoke("check", other)


def test_a_request_id_that_is_taken(exported, tmp_path):
    """An execution whose request id another one has is not imported, is named, and the exit code is 1."""
    other = tmp_path / "other.db"

    async def take() -> None:
        journal = SqliteJournal(other)
        await journal.open()
        await run(journal, "mine", request_id="r-b")
        await journal.close()

    asyncio.run(take())
    output = invoke("import", other, exported, code=1).output
    assert "not imported: b: its request id is that of execution mine" in output
    assert set(asyncio.run(contents(other))) == {"mine", "a", "c"}


def test_the_rescue_that_a_refusal_advises(path, exported, tmp_path):
    """An export can be imported where the journal was that is put away, whatever was noted of its end."""
    asyncio.run(fill(path, names="def", unfinished=False))
    assert path.with_name("journal.db.mark").exists()
    path.rename(tmp_path / "damaged.db")
    assert "imported 3 executions" in invoke("import", path, exported).output
    assert set(asyncio.run(contents(path))) == {"a", "b", "c"}


@pytest.mark.parametrize("command", ["import", "purge"])
def test_what_writes_is_refused_where_the_end_is_missing(path, exported, tmp_path, command):
    """Neither an import nor a purge hides that a journal's end is missing: the file stays as it is."""
    older = path.read_bytes()
    asyncio.run(fill(path, names="def", unfinished=False))
    path.write_bytes(older)
    arguments = {"import": [exported, "--with-unfinished"], "purge": ["--keep", 1]}[command]
    assert "is missing: its chunks end" in invoke(command, path, *arguments, code=1).output
    assert path.read_bytes() == older
    with pytest.raises(JournalRefused, match="is missing"):
        asyncio.run(contents(path))


def test_a_place_that_cannot_be_made(exported, tmp_path):
    """An import below what is no folder says so in a sentence."""
    result = invoke("import", exported / "journal.db", exported, code=1)
    assert "Error: the journal can't be used: " in result.output
    assert isinstance(result.exception, SystemExit)


def test_an_import_brings_back_what_was_purged(path, exported):
    """An import of a purged execution brings it back, and its request id finds it again."""
    before = asyncio.run(contents(path))
    invoke("purge", path, "--keep", 1)
    assert "imported 2 executions" in invoke("import", path, exported).output
    after = asyncio.run(contents(path))
    assert after["a"][1] == before["a"][1]

    async def find() -> str:
        journal = SqliteJournal(path)
        await journal.open()
        record = await journal.find(tenant="", request_id="r-a")
        assert await journal.tombstone("a") is None
        await journal.close()
        return record.execution_id

    assert asyncio.run(find()) == "a"


def test_export_of_some(path, tmp_path):
    """export takes the executions that are named; one that does not exist is named, with the exit code 1."""
    asyncio.run(fill(path))
    target = tmp_path / "some.jsonl"
    assert (
        "not exported: none: there is no such execution"
        in invoke("export", path, "b", "none", "-o", target, code=1).output
    )
    lines = [json.loads(line) for line in target.read_text().splitlines()]
    assert [line["execution"]["execution_id"] for line in lines if "execution" in line] == ["b"]
    assert lines[-1]["end"]["executions"] == 1


def test_an_export_overwrites_nothing(path, exported):
    """export to a file that exists is refused, and the file stays as it is."""
    before = exported.read_bytes()
    assert "exists" in invoke("export", path, "-o", exported, code=1).output
    assert exported.read_bytes() == before


def test_a_damaged_execution_is_not_exported(path, exported, tmp_path):
    """export leaves out what is damaged and says so, with the exit code 1; the rest can be imported."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE chunks SET checksum = checksum + 1 WHERE execution = 2 AND first > 1")
    target, other = tmp_path / "rest.jsonl", tmp_path / "other.db"
    assert "not exported: b" in invoke("export", path, "-o", target, code=1).output
    invoke("import", other, target)
    assert set(asyncio.run(contents(other))) == {"a", "c"}


@pytest.mark.parametrize(
    ("table", "share", "says"),
    [
        ("requests", 0.5, "not exported: {lost}: a page of the file is damaged"),
        ("labels_by_execution", 0.5, "not exported: {lost}: a page of the file is damaged"),
        ("executions", 0.5, "not exported: {lost}: a page of the file is damaged"),
        ("executions", 1.0, "not exported: {lost}: a page of the file is damaged"),
        ("chunks", 0.5, "not exported: {lost}: The journal is damaged"),
        ("sqlite_autoindex_executions_1", 0.5, "not exported: {lost}: a page of the file is damaged"),
    ],
)
def test_a_damaged_page_costs_what_is_on_it(path, tmp_path, table, share, says):
    """Where a page can't be read, whatever is on it, all other executions are exported, and those lost are named."""
    names = asyncio.run(crowd(path, 300))
    spoil_page(path, table, share=share)
    target = tmp_path / "saved.jsonl"
    output = invoke("export", path, "-o", target, code=1).output
    verify(target)
    lines = map(json.loads, target.read_text().splitlines())
    saved = {line["complete"]["execution_id"] for line in lines if "complete" in line}
    assert len(names) / 2 < len(saved) < len(names)
    for lost in names - saved:
        assert says.format(lost=lost) in output
    assert f"exported {len(saved)} executions" in output


def test_a_damaged_page_of_names(path, tmp_path):
    """Where not even the names can be read, an export says so, and saves those that it finds."""
    names = asyncio.run(crowd(path, 300))
    spoil_page(path, "executions")
    spoil_page(path, "sqlite_autoindex_executions_1")
    target = tmp_path / "saved.jsonl"
    output = invoke("export", path, "-o", target, code=1).output
    assert re.search(r"not exported: some executions after number \d+, and nobody knows which", output)
    verify(target)
    assert 0 < target.read_text().count('"complete"') < len(names)


def test_each_line_is_json_with_its_checksum(exported):
    """Every line is JSON with the CRC-32 of itself without it: another program can read and verify it."""
    for line in exported.read_bytes().splitlines():
        content = json.loads(line)
        body = line[: line.rindex(b',"crc32"')] + b"}"
        assert content["crc32"] == f"{zlib.crc32(body):08x}"


def test_data_is_an_event_batch(exported):
    """A chunk's data is an encoded EventBatch with the events from `first` on."""
    import base64

    for line in exported.read_text().splitlines():
        chunk = json.loads(line).get("chunk")
        if chunk:
            events = EventBatch.FromString(base64.b64decode(chunk["data"])).events
            assert [event.sequence for event in events] == list(range(chunk["first"], chunk["first"] + len(events)))


@pytest.mark.parametrize("keep", [0.0, 0.01, 0.3, 0.5, 0.9, 0.999])
def test_a_cut_file(exported, tmp_path, keep):
    """A file that was cut anywhere is refused with the place, and no journal is made."""
    whole = exported.read_bytes()
    exported.write_bytes(whole[: int(len(whole) * keep)])
    other = tmp_path / "other.db"
    output = invoke("import", other, exported, code=1).output
    assert re.search(r"line \d+, byte [\d,]+: .*cut", output)
    assert "Nothing was imported" in output
    assert not other.exists()


def test_every_cut_and_every_change_is_found(exported):
    """Whatever line is missing, twice, in another place or changed in one byte, the file is refused."""
    lines = exported.read_bytes().splitlines(keepends=True)
    assert verify(exported) > 0
    variants = [lines[:n] + lines[n + 1 :] for n in range(len(lines))]
    variants += [lines[: n + 1] + lines[n:] for n in range(len(lines))]
    variants += [
        [*lines[:n], lines[n + 1], lines[n], *lines[n + 2 :]] for n in range(len(lines) - 1) if lines[n] != lines[n + 1]
    ]
    for n, line in enumerate(lines):
        for place in (0, len(line) // 3, len(line) // 2, len(line) - 5, len(line) - 1):
            changed = bytearray(line)
            changed[place] ^= 1
            variants.append([*lines[:n], bytes(changed), *lines[n + 1 :]])
    for variant in variants:
        exported.write_bytes(b"".join(variant))
        with pytest.raises(ExportDamaged, match=r"^line \d+, byte [\d,]+: "):
            verify(exported)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    ),
    kind=st.sampled_from(["stepwire_journal", "execution", "chunk", "complete", "broken", "end", "x"]),
)
def test_strange_lines_are_refused(tmp_path, content, kind):
    """A line that is sealed but makes no sense is refused as damaged, never with another error."""
    strange = tmp_path / "strange.jsonl"
    strange.write_text(seal({"stepwire_journal": 1}) + seal({kind: content}))
    with pytest.raises(ExportDamaged):
        verify(strange)


def test_a_newer_format_is_refused(tmp_path):
    """A file of a newer format is refused, and the message names both versions."""
    newer = tmp_path / "newer.jsonl"
    newer.write_text(seal({"stepwire_journal": 2}))
    with pytest.raises(ExportDamaged, match="its format is 2, and this release knows 1"):
        verify(newer)


def test_a_symbolic_link_is_the_same_journal(path, tmp_path):
    """A journal that a server has open is refused also by a link, and what is missing at its end is found by it too."""
    asyncio.run(fill(path))
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "elsewhere" / "link.db"
    link.symlink_to(path)

    async def purge_open() -> Result:
        journal = SqliteJournal(path)
        await journal.open()
        try:
            return await asyncio.to_thread(invoke, "purge", link, "--keep", 1, code=1)
        finally:
            await journal.close()

    assert "is open in another server" in asyncio.run(purge_open()).output
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE sqlite_sequence SET seq = 0 WHERE name = 'chunks'")
    assert "its end is missing" in invoke("check", link, code=1).output
    assert [file.name for file in link.parent.iterdir()] == ["link.db"]


def test_an_export_holds_little(path):
    """An export reads a long execution in pieces, and holds no transaction while it writes."""

    async def long() -> None:
        journal = SqliteJournal(path, durability="process")
        await journal.open()
        await run(journal, "a", pieces=2000)
        await journal.close()

    asyncio.run(long())
    with opened_to_read(path) as connection:
        export(connection, lambda line: assert_idle(connection))


def assert_idle(connection: sqlite3.Connection) -> None:
    assert not connection.in_transaction


def test_an_export_while_it_is_purged(path, tmp_path):
    """An execution that is purged while it is exported is marked broken, and an import leaves it out."""
    asyncio.run(fill(path, unfinished=False))
    target, other = tmp_path / "e.jsonl", tmp_path / "other.db"

    async def purge() -> None:
        journal = SqliteJournal(path, now_ns=lambda: 1 << 62)
        await journal.open()
        await journal.purge(Retention(keep_days=1, keep_executions=0))
        await journal.close()

    lines: list[str] = []

    def write(line: str) -> None:
        lines.append(line)
        if line.startswith('{"execution":') and '"execution_id":"b"' in line:
            asyncio.run(purge())

    with opened_to_read(path) as connection:
        done = export(connection, write)
    assert (done.executions, list(done.broken)) == (1, ["b"])
    target.write_text("".join(lines))
    invoke("import", other, target)
    assert set(asyncio.run(contents(other))) == {"a"}


@pytest.mark.parametrize("joined", [False, True])
def test_an_export_ends_where_the_record_did(path, tmp_path, joined):
    """What is appended while an execution is exported, joined with the rest or not, is not in the file."""
    target = tmp_path / "e.jsonl"
    running = ExecutionState.EXECUTION_STATE_RUNNING

    async def add(first: int, state: ExecutionState.ValueType) -> None:
        journal = SqliteJournal(path)
        await journal.open()
        if first == 1:
            await journal.create(ExecutionRecord(execution_id="e1", request=b"", create_time_ns=1))
        chunk = Chunk(first=first, data=b"abc", ends=[1, 2, 3], kinds=b"\x05\x05\x1a")
        await journal.append("e1", epoch=1, chunk=chunk, state=state, snapshot=b"")
        if joined:
            await journal.compact()
        await journal.close()

    asyncio.run(add(1, running))
    lines: list[str] = []

    def write(line: str) -> None:
        lines.append(line)
        if line.startswith('{"execution":'):
            asyncio.run(add(4, ExecutionState.EXECUTION_STATE_COMPLETED))

    with opened_to_read(path) as connection:
        done = export(connection, write)
    assert (done.executions, done.events, done.broken) == (1, 3, {})
    target.write_text("".join(lines))
    assert verify(target) == 3


# -- the commands themselves


COMMANDS = ["stats", "check", "purge", "export", "import"]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_teaches_with_examples(command):
    """Each command's help has an example that begins with the command."""
    assert f"  stepwire-server journal {command} " in invoke(command, "--help").output


def test_the_group_lists_its_commands():
    """`journal --help` lists exactly these commands."""
    group = main.commands["journal"]
    assert isinstance(group, click.Group)
    assert sorted(group.commands) == sorted(COMMANDS)


@pytest.mark.parametrize("command", [["stats"], ["check"], ["purge", "--keep", 1], ["export"]])
def test_a_path_without_a_journal(tmp_path, command):
    """A path where there is no journal is refused, and nothing is made there."""
    name, *rest = command
    assert "there is no journal at" in invoke(name, tmp_path / "none.db", *rest, code=1).output
    assert not list(tmp_path.iterdir())


class Terminal(io.StringIO):
    """What a command takes for a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_bar_on_a_terminal(path, monkeypatch, capsys):
    """check shows a progress bar on a terminal, and none elsewhere."""
    asyncio.run(fill(path, unfinished=False))
    assert "checking" not in invoke("check", path).output
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with contextlib.suppress(SystemExit):
        main(["journal", "check", str(path)])
    assert "checking" in terminal.getvalue()
    assert "100%" in terminal.getvalue()


def test_a_migration_by_purge(path):
    """A journal of version 1 is refused by what only reads, with what to do, and led to this version by a purge."""
    sql = Path(__file__).parent / "journal" / "golden" / "version-1.sql"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(sql.read_text(encoding="utf-8"))
    assert "journal purge" in invoke("check", path, code=1).output
    invoke("purge", path, "--keep", 1000)
    with opened_to_read(path) as connection:
        assert not check(connection).findings
