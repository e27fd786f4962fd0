"""What every journal promises to those who follow many executions at once."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stepwire.errors import CursorAhead, CursorExpired, JournalDamaged, JournalUnavailable
from stepwire.v1 import ExecutionFilter, ExecutionState
from stepwire_server.journal import Chunk, ExecutionRecord, Journal, MemoryJournal, Retention, SqliteJournal
from stepwire_server.journal.wide import Entry, Piece, Ring, WideFollower

RUNNING = ExecutionState.EXECUTION_STATE_RUNNING
COMPLETED = ExecutionState.EXECUTION_STATE_COMPLETED
ALL = ExecutionFilter()
NOTHING_KEPT = Retention(keep_days=0, keep_executions=1)
HANGS = 20
"""Seconds after which a test says that something never came."""


def chunk_of(first: int, count: int, *, ends: bool = False, size: int = 10) -> Chunk:
    """Returns a chunk whose frames say which event is which."""
    frames = [f"{sequence}|".encode().ljust(size, b".") for sequence in range(first, first + count)]
    kinds = bytes([5] * (count - 1) + [26 if ends else 5])
    return Chunk(first=first, data=b"".join(frames), ends=[size * (i + 1) for i in range(count)], kinds=kinds)


def record_of(execution_id: str, **fields: object) -> ExecutionRecord:
    return replace(ExecutionRecord(execution_id=execution_id, request=b"r", create_time_ns=1), **fields)  # type: ignore[arg-type]


class Writer:
    """Appends to executions of a journal and knows what it appended."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.last: dict[str, int] = {}
        self.ended: set[str] = set()

    async def create(self, execution_id: str, **fields: object) -> None:
        await self.journal.create(record_of(execution_id, **fields))
        self.last[execution_id] = 0

    async def append(self, execution_id: str, count: int = 1, *, ends: bool = False, size: int = 10) -> int:
        chunk = chunk_of(self.last[execution_id] + 1, count, ends=ends, size=size)
        state = COMPLETED if ends else RUNNING
        self.last[execution_id] += count
        if ends:
            self.ended.add(execution_id)
        return await self.journal.append(execution_id, epoch=1, chunk=chunk, state=state, snapshot=b"s")


class Reader:
    """Takes what a follower reads, and holds it to this: each event once, in order, without a hole."""

    def __init__(self) -> None:
        self.got: dict[str, int] = defaultdict(int)
        self.frames: dict[str, list[bytes]] = defaultdict(list)
        self.repeats = 0

    def take(self, pieces: Sequence[Piece], *, resumed: bool = False) -> None:
        """`resumed`: events that came before may come again, as a caller who drops them by sequence sees it."""
        for name, chunk, _ in pieces:
            for index in range(len(chunk)):
                sequence = chunk.first + index
                if resumed and sequence <= self.got[name]:
                    self.repeats += 1
                    continue
                assert sequence == self.got[name] + 1, f"{name}: {sequence} came after {self.got[name]}"
                self.got[name] = sequence
                self.frames[name].append(chunk.frame(index))
                assert chunk.frame(index).startswith(f"{sequence}|".encode())


async def read_to_end(
    follower: WideFollower, reader: Reader, *, max_events: int = 512, max_bytes: int = 1 << 20, resumed: bool = False
) -> None:
    async with asyncio.timeout(HANGS):
        while True:
            pieces = await follower.read(max_events=max_events, max_bytes=max_bytes)
            assert sum(len(piece.chunk) for piece in pieces) <= max_events
            size = sum(len(piece.chunk.data) for piece in pieces)
            assert size <= max_bytes or sum(len(piece.chunk) for piece in pieces) == 1
            reader.take(pieces, resumed=resumed)
            if not pieces and follower.caught_up:
                return


async def read_all(journal: Journal, chosen: ExecutionFilter = ALL, *, after: int = 0, **bounds: int) -> Reader:
    reader = Reader()
    with journal.follow_many(chosen, tenant="") as follower:
        await follower.begin(after)
        await read_to_end(follower, reader, **bounds)
    return reader


# -- which executions


@pytest.mark.parametrize(
    ("chosen", "names"),
    [
        (ExecutionFilter(), {"a", "b", "c", "d"}),
        (ExecutionFilter(execution_ids=["b", "d", "nobody"]), {"b", "d"}),
        (ExecutionFilter(session_id="s1"), {"a", "b"}),
        (ExecutionFilter(labels={"team": "web"}), {"a", "c"}),
        (ExecutionFilter(labels={"team": "web", "x": "1"}), {"c"}),
        (ExecutionFilter(session_id="s1", labels={"team": "web"}), {"a"}),
        (ExecutionFilter(created_from={"seconds": 1}), {"c", "d"}),
        (ExecutionFilter(created_before={"seconds": 1}), {"a", "b"}),
    ],
)
async def test_only_what_matches_comes(journal: Journal, chosen: ExecutionFilter, names: set[str]) -> None:
    """A filter's fields each have to match, in what is stored as in what comes later, and never another tenant's."""
    writer = Writer(journal)

    async def create(suffix: str) -> None:
        await writer.create("a" + suffix, session_id="s1", labels={"team": "web"})
        await writer.create("b" + suffix, session_id="s1")
        await writer.create("c" + suffix, labels={"team": "web", "x": "1"}, create_time_ns=1_000_000_000)
        await writer.create("d" + suffix, labels={"team": "app"}, create_time_ns=2_000_000_000)
        await writer.create("e" + suffix, tenant="t", session_id="s1", labels={"team": "web", "x": "1"})
        for name in "abcde":
            await writer.append(name + suffix, 3)

    await create("")
    reader = Reader()
    with journal.follow_many(chosen, tenant="") as follower:
        await follower.begin(0)
        await read_to_end(follower, reader)
        assert dict(reader.got) == dict.fromkeys(names, 3)
        await create("2")
        for name in "abcde":
            await writer.append(name, 2)
        await read_to_end(follower, reader)
    later = set() if chosen.execution_ids else {name + "2" for name in names}
    assert dict(reader.got) == dict.fromkeys(names, 5) | dict.fromkeys(later, 3)


async def test_few_in_much(journal: Journal) -> None:
    """The events of a few executions are found among thousands of others', from any position on, page by page."""
    writer = Writer(journal)
    for name in ("a", "b", "noise"):
        await writer.create(name, session_id="s" if name != "noise" else "")
    positions = []
    for number in range(30):
        await asyncio.gather(*(writer.append("noise") for _ in range(300)))
        positions.append(await writer.append("ab"[number % 2], 2))
    chosen = ExecutionFilter(session_id="s")
    for after in (0, positions[0], positions[14], positions[-1]):
        reader = await read_all(journal, chosen, after=after, max_events=7) if after == 0 else Reader()
        if after:
            before = sum(position <= after for position in positions)
            reader.got |= {"a": 2 * ((before + 1) // 2), "b": 2 * (before // 2)}
            with journal.follow_many(chosen, tenant="") as follower:
                await follower.begin(after)
                await read_to_end(follower, reader, max_events=7)
        assert dict(reader.got) == {"a": 30, "b": 30}


# -- the standing


async def test_the_standing_and_what_follows_join(journal: Journal) -> None:
    """From now on: the standing has what is under way with its last event, and exactly what comes after it follows."""
    writer = Writer(journal)
    for name in ("ended", "quiet", "running"):
        await writer.create(name)
    await writer.append("ended", 3, ends=True)
    await writer.append("running", 5)
    with journal.follow_many(ALL, tenant="") as follower:
        standing = await follower.begin(None)
        assert standing.executions == {"quiet": (0, False), "running": (5, False)}
        assert standing.position == follower.position == 2
        reader = Reader()
        reader.got |= {"running": 5}
        await writer.append("running", 2, ends=True)
        await writer.append("quiet", 1)
        await read_to_end(follower, reader)
        assert dict(reader.got) == {"running": 7, "quiet": 1}
        assert follower.position == 4


async def test_the_standing_names_what_has_ended(journal: Journal) -> None:
    """A filter that names executions has the ended ones in its standing too, and leaves out who is not there."""
    writer = Writer(journal)
    await writer.create("a")
    await writer.create("b")
    await writer.append("a", 2, ends=True)
    standing = await journal.standing(ExecutionFilter(execution_ids=["b", "a", "nobody"]), tenant="")
    assert standing.executions == {"a": (2, True), "b": (0, False)}


# -- waking


async def test_a_match_wakes_and_a_miss_does_not(journal: Journal) -> None:
    """What matches wakes the follower; what does not moves its cursor, so that it never has to read over it."""
    writer = Writer(journal)
    await writer.create("mine", session_id="s")
    await writer.create("other")
    reader = Reader()
    with journal.follow_many(ExecutionFilter(session_id="s"), tenant="") as follower:
        await follower.begin(None)
        await read_to_end(follower, reader)
        await writer.append("mine")
        await read_to_end(follower, reader)
        waiting = asyncio.ensure_future(follower.wait())
        last = 0
        for _ in range(50):
            last = await writer.append("other")
        assert follower.position == last
        assert not waiting.done()
        await writer.append("mine", 2)
        async with asyncio.timeout(HANGS):
            await waiting
        await read_to_end(follower, reader)
    assert dict(reader.got) == {"mine": 3}


async def test_nothing_is_skipped_before_the_first_read(journal: Journal) -> None:
    """What does not match moves the cursor of one who has read all before it, and of nobody else."""
    writer = Writer(journal)
    await writer.create("mine", session_id="s")
    await writer.create("other")
    await writer.append("mine", 3)
    reader = Reader()
    with journal.follow_many(ExecutionFilter(session_id="s"), tenant="") as follower:
        await follower.begin(0)
        await writer.append("other")
        await read_to_end(follower, reader)
    assert dict(reader.got) == {"mine": 3}


async def test_a_cancelled_read_keeps_the_wake_up(new_journal) -> None:
    """A read that is cancelled has read nothing: the next wait returns at once."""
    journal = await new_journal()
    writer = Writer(journal)
    await writer.create("a")
    await writer.append("a")
    with journal.follow_many(ALL, tenant="") as follower:
        await follower.begin(0)
        reading = asyncio.create_task(follower.read(max_events=1, max_bytes=1))
        await asyncio.sleep(0)
        reading.cancel()
        await asyncio.wait([reading])
        async with asyncio.timeout(HANGS):
            await follower.wait()
        reader = Reader()
        if not reading.cancelled():  # In memory a read has no place to be cancelled at.
            reader.take(reading.result())
        await read_to_end(follower, reader)
    assert dict(reader.got) == {"a": 1}


async def test_a_closed_journal_wakes_whoever_follows_many(new_journal) -> None:
    """A journal that closes wakes the follower, whose read then says so."""
    journal = await new_journal()
    with journal.follow_many(ALL, tenant="") as follower:
        await follower.begin(None)
        await read_to_end(follower, Reader())
        waiting = asyncio.ensure_future(follower.wait())
        await asyncio.sleep(0)
        await journal.close()
        async with asyncio.timeout(HANGS):
            await waiting
        with pytest.raises(JournalUnavailable):
            await follower.read(max_events=1, max_bytes=1)


# -- positions


async def test_positions_that_can_not_be(journal: Journal) -> None:
    """A position beyond the last one is another journal's; the last one itself is a place to wait at."""
    writer = Writer(journal)
    await writer.create("a")
    last = await writer.append("a")
    with journal.follow_many(ALL, tenant="") as follower, pytest.raises(CursorAhead) as caught:
        await follower.begin(last + 1)
    assert caught.value.metadata == {"last_position": str(last)}
    assert (await read_all(journal, after=last)).got == {}


async def test_a_large_chunk_comes_in_pieces(journal: Journal) -> None:
    """A chunk above the bounds comes in pieces, and the position passes it with the last of them only."""
    writer = Writer(journal)
    await writer.create("a")
    await writer.append("a", 100)
    reader = Reader()
    with journal.follow_many(ALL, tenant="") as follower:
        await follower.begin(0)
        for number in range(1, 11):
            reader.take(await follower.read(max_events=10, max_bytes=1 << 20))
            assert reader.got == {"a": 10 * number}
            assert follower.position == (1 if number == 10 else 0)
            assert follower.caught_up == (number == 10) or not follower.caught_up


# -- compaction


async def test_compaction_between_two_reads(journal: Journal) -> None:
    """Events that compaction has moved behind the cursor of a stream come neither twice nor out of order."""
    writer = Writer(journal)
    for name in ("a", "b"):
        await writer.create(name)
    for number in range(20):
        await writer.append("a", 2, ends=number == 19)
        await writer.append("b", 1)
    reader = Reader()
    with journal.follow_many(ALL, tenant="") as follower:
        await follower.begin(0)
        reader.take(await follower.read(max_events=11, max_bytes=1 << 20))
        assert reader.got["a"] > 0
        assert await journal.compact() > 0
        await read_to_end(follower, reader, max_events=7)
    assert dict(reader.got) == {"a": 40, "b": 20}


async def test_compaction_between_two_connections(journal: Journal) -> None:
    """Whoever goes on at a position that lies inside of what was joined since gets some events again, and loses none:
    for each position that there was.
    """
    writer = Writer(journal)
    for name in ("a", "b"):
        await writer.create(name)
    at: list[dict[str, int]] = [{"a": 0, "b": 0}]
    for number in range(12):
        for name, ends in (("a", number == 11), ("b", False)):
            assert await writer.append(name, 2, ends=ends) == len(at)
            at.append(dict(writer.last))
    await journal.compact()
    repeats = 0
    for position, had in enumerate(at):
        reader = Reader()
        reader.got |= had
        with journal.follow_many(ALL, tenant="") as follower:
            await follower.begin(position)
            await read_to_end(follower, reader, max_events=5, resumed=True)
        assert dict(reader.got) == {"a": 24, "b": 24}
        repeats += reader.repeats
    assert repeats > 0


async def test_compaction_where_storage_and_ring_meet(new_journal) -> None:
    """What was joined in the storage, behind what a stream has read there, is not taken from the ring, which has only
    its last part at that place.
    """
    journal = await new_journal(tail_bytes=0)
    writer = Writer(journal)
    for name in ("e", "x"):
        await writer.create(name)
    with journal.follow_many(ALL, tenant="") as first:
        await first.begin(None)
        await writer.append("e", 6)
        await writer.append("x", 1)
        journal.recent = Ring()
        for _ in range(2):
            await writer.append("e", 2)
            await writer.append("x", 1)
        await writer.append("e", 2, ends=True)
        await journal.compact()
        reader = Reader()
        with journal.follow_many(ALL, tenant="") as follower:
            await follower.begin(0)
            await read_to_end(follower, reader, max_events=3)
    assert dict(reader.got) == {"e": 12, "x": 3}


async def test_a_replay_of_what_was_joined(new_journal) -> None:
    """A replay after compaction gives the same bytes in the same order as before it."""
    journal = await new_journal(tail_bytes=0)
    writer = Writer(journal)
    for name in "abc":
        await writer.create(name)
    for number in range(40):
        for name in "abc":
            await writer.append(name, 1 + number % 3, ends=number == 39)
    before = await read_all(journal, max_events=50)
    assert await journal.compact() > 0
    after = await read_all(journal, max_events=50)
    assert dict(before.frames) == dict(after.frames)


async def test_what_was_read_whole_is_passed_over(new_journal) -> None:
    """A chunk of which all was read already, wherever it stands now, moves the position and nothing else."""
    journal = await new_journal()
    writer = Writer(journal)
    await writer.create("a")
    await writer.append("a", 3)
    reader = Reader()
    with journal.follow_many(ALL, tenant="") as follower:
        await follower.begin(0)
        await read_to_end(follower, reader)
        follower.position = 0
        await read_to_end(follower, reader)
        assert (dict(reader.got), follower.position) == ({"a": 3}, 1)


# -- what was purged


async def purged_journal(journal: Journal) -> tuple[Writer, list[int]]:
    """Returns a journal in which `a` was purged and `b`, `c` are kept, and the positions of their chunks."""
    writer = Writer(journal)
    for name in "abc":
        await writer.create(name)
    positions = [await writer.append(name, 2, ends=name != "c") for name in "cabc"]
    assert (await journal.purge(NOTHING_KEPT)).executions == 1
    return writer, positions


async def test_a_position_before_what_was_purged_has_expired(journal: Journal) -> None:
    """Whoever goes on before what was purged is told so, and from where there is everything; one behind it is not."""
    _, (_, purged, _, last) = await purged_journal(journal)
    with journal.follow_many(ALL, tenant="") as follower, pytest.raises(CursorExpired) as caught:
        await follower.begin(purged - 1)
    assert caught.value.metadata == {"first_position": str(purged + 1), "last_position": str(last)}
    with journal.follow_many(ALL, tenant="") as follower:
        await follower.begin(purged)
        reader = Reader()
        reader.got |= {"c": 2}
        await read_to_end(follower, reader)
        assert dict(reader.got) == {"b": 2, "c": 4}


async def test_from_the_beginning_is_from_what_is_kept(journal: Journal) -> None:
    """Position 0 is the oldest event that is kept, whatever was purged."""
    await purged_journal(journal)
    assert dict((await read_all(journal)).got) == {"b": 2, "c": 4}


async def test_a_slow_reader_is_told_of_a_purge(new_journal) -> None:
    """One who has yet to read what is purged meanwhile is told, and never given the rest as if it were all."""
    journal = await new_journal(tail_bytes=0)
    writer = Writer(journal)
    for name in "abc":
        await writer.create(name)
    with journal.follow_many(ALL, tenant="") as follower:
        await follower.begin(None)
        journal.recent = Ring(most_entries=0)
        for name in "abc":
            await writer.append(name, 2, ends=name != "c")
        await journal.purge(NOTHING_KEPT)
        with pytest.raises(CursorExpired):
            await read_to_end(follower, Reader())


async def test_a_replay_is_told_of_what_it_has_begun(new_journal) -> None:
    """A replay from the beginning goes on when what it has not begun is purged, and not in the middle of it."""
    for begun in (False, True):
        journal = await new_journal(tail_bytes=0)
        writer = Writer(journal)
        for name in "xabc":
            await writer.create(name)
        await writer.append("x", 1)
        await writer.append("a", 4, ends=True)
        await writer.append("b", 2, ends=True)
        await writer.append("x", 1)
        reader = Reader()
        with journal.follow_many(ALL, tenant="") as follower:
            await follower.begin(0)
            reader.take(await follower.read(max_events=3 if begun else 1, max_bytes=1 << 20))
            await journal.purge(NOTHING_KEPT)
            if begun:
                with pytest.raises(CursorExpired):
                    await read_to_end(follower, reader)
            else:
                await read_to_end(follower, reader)
                assert dict(reader.got) == {"x": 2, "b": 2}


async def test_who_has_read_all_needs_not_be_told(journal: Journal) -> None:
    """A purge of what was read already is nobody's concern."""
    writer = Writer(journal)
    for name in "abc":
        await writer.create(name)
    reader = Reader()
    with journal.follow_many(ALL, tenant="") as follower:
        await follower.begin(None)
        for name in "abc":
            await writer.append(name, 2, ends=name != "c")
        await read_to_end(follower, reader)
        await journal.purge(NOTHING_KEPT)
        await writer.append("c")
        await read_to_end(follower, reader)
    assert dict(reader.got) == {"a": 2, "b": 2, "c": 3}


async def test_the_purged_position_outlives_the_process(tmp_path: Path) -> None:
    """What was purged has expired after a restart, too."""
    first = SqliteJournal(tmp_path / "j.db")
    await first.open()
    _, (_, purged, _, last) = await purged_journal(first)
    await first.close()
    second = SqliteJournal(tmp_path / "j.db")
    await second.open()
    try:
        standing = await second.standing(ALL, tenant="")
        assert (standing.position, standing.purged) == (last, purged)
        await second.compact()
        with second.follow_many(ALL, tenant="") as follower, pytest.raises(CursorExpired):
            await follower.begin(purged - 1)
    finally:
        await second.close()


# -- damage


async def test_a_missing_chunk_is_damage(tmp_path: Path) -> None:
    """A chunk that is lost from the middle of an execution is found, not passed over."""
    journal = SqliteJournal(tmp_path / "j.db", tail_bytes=0)
    await journal.open()
    try:
        writer = Writer(journal)
        await writer.create("a")
        for _ in range(3):
            await writer.append("a", 2)
        await journal._write.submit(
            lambda ledger: ledger.connection.execute("DELETE FROM chunks WHERE first = 3"), size=0
        )
        with pytest.raises(JournalDamaged) as caught:
            await read_all(journal)
        assert caught.value.metadata["execution_id"] == "a"
        assert caught.value.metadata["sequence"] == "3"
    finally:
        await journal.close()


async def test_a_damaged_chunk_is_named(tmp_path: Path) -> None:
    """What comes before a damaged chunk is given, and then the damage is told with its position."""
    journal = SqliteJournal(tmp_path / "j.db", tail_bytes=0)
    await journal.open()
    try:
        writer = Writer(journal)
        await writer.create("a")
        for _ in range(3):
            await writer.append("a", 2)
        await journal._write.submit(
            lambda ledger: ledger.connection.execute("UPDATE chunks SET checksum = 1 WHERE position = 2"), size=0
        )
        reader = Reader()
        with journal.follow_many(ALL, tenant="") as follower:
            await follower.begin(0)
            with pytest.raises(JournalDamaged) as caught:
                await read_to_end(follower, reader)
            assert follower.position == 1
        assert dict(reader.got) == {"a": 2}
        assert caught.value.metadata == {"execution_id": "a", "sequence": "3", "position": "2"}
    finally:
        await journal.close()


# -- the ring


def test_the_ring_is_bounded() -> None:
    """The ring keeps the newest, by bytes and by number, and says where it does not reach back."""
    ring = Ring(most_bytes=1_000, most_entries=50)
    for position in range(1, 2_001):
        ring.add(Entry("e", chunk_of(position, 1, size=100 if position > 1_000 else 10), position))
        found = ring.after(max(0, position - 5), most=100)
        assert found is not None
        assert [entry.position for entry in found] == list(range(max(1, position - 4), position + 1))
        assert len(ring._entries) < 600
    assert ring.after(1_989, most=100) is None
    assert [entry.position for entry in ring.after(1_990, most=3) or ()] == [1_991, 1_992, 1_993]
    ring.clear()
    assert ring.after(2_000, most=1) is None


# -- everything at once


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), kind=st.sampled_from(["memory", "sqlite"]), tiny=st.booleans())
def test_any_history(data: st.DataObject, kind: str, tiny: bool, tmp_path_factory: pytest.TempPathFactory) -> None:
    """However appends, ends, compaction, reads and lost connections follow each other: who goes on at the position
    of the last read and drops what repeats has every event once, in order, and within one connection nothing repeats.
    """

    async def run() -> None:
        path = tmp_path_factory.mktemp("wide") / "j.db"
        journal: Journal = MemoryJournal() if kind == "memory" else SqliteJournal(path, bite_seconds=0.0)
        await journal.open()
        if tiny:
            journal.recent = Ring(most_entries=2)
        writer, reader = Writer(journal), Reader()
        chosen = ExecutionFilter(session_id="s")
        position = 0
        try:
            for _ in range(data.draw(st.integers(1, 4))):
                within = Reader()
                with journal.follow_many(chosen, tenant="") as follower:
                    await follower.begin(position)
                    for _ in range(data.draw(st.integers(1, 12))):
                        match data.draw(
                            st.sampled_from(["new", "append", "append", "append", "compact", "read", "read"])
                        ):
                            case "new":
                                name = f"e{len(writer.last)}"
                                await writer.create(name, session_id="s" if len(writer.last) % 3 else "other")
                            case "append":
                                open_ones = sorted(set(writer.last) - writer.ended)
                                if open_ones:
                                    await writer.append(
                                        data.draw(st.sampled_from(open_ones)),
                                        data.draw(st.integers(1, 4)),
                                        ends=data.draw(st.booleans()),
                                    )
                            case "compact":
                                await journal.compact()
                            case "read":
                                pieces = await follower.read(max_events=data.draw(st.integers(1, 6)), max_bytes=1 << 20)
                                for piece in pieces:
                                    assert piece.chunk.first > within.got[piece.execution_id]
                                    within.got[piece.execution_id] = piece.chunk.last
                                reader.take(pieces, resumed=True)
                                position = follower.position
            with journal.follow_many(chosen, tenant="") as follower:
                await follower.begin(position)
                await read_to_end(follower, reader, max_events=3, resumed=True)
            wanted = {name: last for number, (name, last) in enumerate(writer.last.items()) if number % 3 and last}
            assert {name: last for name, last in reader.got.items() if last} == wanted
        finally:
            await journal.close()

    asyncio.run(run())
