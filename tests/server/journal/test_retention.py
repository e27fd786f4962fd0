"""What every journal does with executions that have ended: keep, purge, remember, join."""

from __future__ import annotations

import asyncio
import itertools
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stepwire.errors import CursorExpired, JournalUnavailable
from stepwire.v1 import ExecutionFilter, ExecutionState
from stepwire_server.journal import Chunk, Conflict, Retention, Tombstone
from stepwire_server.journal.chunk import MOST_BYTES, MOST_EVENTS, join, joined
from stepwire_server.journal.retention import DAY_NS

RUNNING = ExecutionState.EXECUTION_STATE_RUNNING
COMPLETED = ExecutionState.EXECUTION_STATE_COMPLETED
FAILED = ExecutionState.EXECUTION_STATE_FAILED
CANCELLED = ExecutionState.EXECUTION_STATE_CANCELLED
LIVE = [
    state
    for state in ExecutionState.values()
    if state not in (ExecutionState.EXECUTION_STATE_UNSPECIFIED, COMPLETED, FAILED, CANCELLED)
]
PLENTY = {"max_events": 1 << 30, "max_bytes": 1 << 40}
ALL = Retention(keep_days=1e-9, keep_executions=0)
"""Keeps nothing that has ended before now."""
HANGS = 20


class Wall:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.ns = 1_000 * DAY_NS

    def __call__(self) -> int:
        return self.ns

    def pass_days(self, days: float) -> None:
        self.ns += int(days * DAY_NS)


@pytest.fixture(autouse=True)
def no_rest(monkeypatch):
    """Appends need no rest from purging here."""
    monkeypatch.setattr("stepwire_server.journal.writer._REST", 0)


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture
async def journal(new_journal, wall):
    """A journal whose readers always reach the storage, and whose clock is `wall`."""
    return await new_journal(tail_bytes=0, now_ns=wall)


@pytest.fixture
def run(new_record, new_chunk):
    """Runs an execution of some events to its end, or to another state."""

    async def run(journal, name, *, events=1, state=COMPLETED, step=1, request_id="", tenant="", size=10):
        await journal.create(new_record(name, request_id=request_id, tenant=tenant, labels={"of": name}))
        first = 1
        while first <= events:
            count = min(step, events - first + 1)
            last = first + count - 1 == events
            chunk = new_chunk(first, count, size=size, kind=5)
            if last and state not in LIVE:
                chunk = Chunk(first=first, data=chunk.data, ends=chunk.ends, kinds=chunk.kinds[:-1] + b"\x1a")
            await journal.append(name, epoch=1, chunk=chunk, state=state if last else RUNNING, snapshot=b"s")
            first += count

    return run


async def names(journal) -> list[str]:
    page = await journal.list(ExecutionFilter(), tenant="", limit=1000)
    return [record.execution_id for record in reversed(page.records)]


async def data_of(journal, name, *, after=0, max_events=512) -> bytes:
    """Reads an execution from a cursor to its terminal event."""
    data = b""
    with journal.follow(name, after=after) as follower:
        while not follower.ended:
            chunks = await follower.read(max_events=max_events, max_bytes=1 << 20)
            assert chunks, "an execution that has ended has a terminal event"
            assert chunks[0].first == after + 1
            after = chunks[-1].last
            data += b"".join(chunk.data for chunk in chunks)
    return data


# -- what goes


@pytest.mark.parametrize("state", [COMPLETED, FAILED, CANCELLED])
async def test_age(journal, wall, run, state):
    """An ended execution is kept for so many days since its end, to the nanosecond, however long ago it was created."""
    await run(journal, "live", state=RUNNING)
    wall.pass_days(100)
    await run(journal, "old", state=state, events=3)
    wall.pass_days(1)
    await run(journal, "new", state=state)
    retention = Retention(keep_days=30, keep_executions=0)
    wall.pass_days(29)
    assert (await journal.purge(retention)).executions == 0
    wall.ns += 1
    purged = await journal.purge(retention)
    assert (purged.executions, purged.events, purged.tombstones) == (1, 3, 0)
    assert await names(journal) == ["live", "new"]
    assert (await journal.purge(retention)).executions == 0


async def test_count(journal, wall, run):
    """Of the ended executions so many are kept, those that ended last; what has not ended does not count."""
    for number in range(6):
        await journal_create(journal, run, f"e{number}")
    for number in (3, 0, 5, 1, 4):
        wall.pass_days(0.1)
        await finish(journal, f"e{number}")
    purged = await journal.purge(Retention(keep_days=0, keep_executions=2))
    assert purged.executions == 3
    assert await names(journal) == ["e1", "e2", "e4"]


async def journal_create(journal, run, name):
    await run(journal, name, state=RUNNING)


async def finish(journal, name):
    chunk = Chunk(first=2, data=b"end", ends=[3], kinds=b"\x1a")
    await journal.append(name, epoch=1, chunk=chunk, state=COMPLETED, snapshot=b"")


async def test_no_limits(journal, wall, run):
    """With both limits 0 nothing is ever purged."""
    await run(journal, "e1")
    wall.pass_days(100_000)
    assert (await journal.purge(Retention(keep_days=0, keep_executions=0))).executions == 0
    assert await names(journal) == ["e1"]


async def test_a_default_keeps_thirty_days_and_a_hundred_thousand():
    """Without a word from the operator an execution is kept 30 days, and 100,000 of them."""
    assert Retention() == Retention(keep_days=30, keep_executions=100_000, tombstone_days=30)


@pytest.mark.parametrize("state", LIVE)
async def test_what_has_not_ended_stays(journal, wall, run, frames, state):
    """No retention takes an execution that has not ended, in whatever state, and its owner goes on."""
    await run(journal, "e1", state=state, events=3)
    await run(journal, "e2")
    wall.pass_days(100_000)
    purged = await journal.purge(Retention(keep_days=1, keep_executions=1))
    assert purged.executions == 1
    assert len(await frames(journal, "e1")) == 3
    await journal.append(
        "e1", epoch=1, chunk=Chunk(first=4, data=b"x", ends=[1], kinds=b"\x05"), state=RUNNING, snapshot=b""
    )
    assert [record.execution_id for record in await journal.unfinished()] == ["e1"]


counter = itertools.count()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    ends=st.lists(st.one_of(st.none(), st.integers(0, 60)), max_size=12),
    keep_days=st.sampled_from([0, 1, 10, 45]),
    keep=st.sampled_from([0, 1, 3, 100]),
)
async def test_what_is_purged(new_journal, run, ends, keep_days, keep):
    """Whatever ended when, a purge leaves what both limits keep and what has not ended, and nothing else."""
    wall = Wall()
    journal = await new_journal(tail_bytes=0, now_ns=wall)
    present = wall.ns + 61 * DAY_NS
    ended = []
    for number, day in enumerate(ends):
        if day is not None:
            wall.ns = present - (60 - day) * DAY_NS - 1
            ended.append((wall.ns, number, f"e{number}"))
        await run(journal, f"e{number}", state=RUNNING if day is None else COMPLETED, events=2)
    wall.ns = present
    kept = sorted(ended)[-keep:] if keep else sorted(ended)
    kept = [end for end in kept if not keep_days or end[0] >= present - keep_days * DAY_NS]
    await journal.purge(Retention(keep_days=keep_days, keep_executions=keep))
    live = [f"e{number}" for number, day in enumerate(ends) if day is None]
    assert sorted(await names(journal)) == sorted([name for _, _, name in kept] + live)
    for name in await names(journal):
        assert sum(len(chunk) for chunk in await journal.read(name, after=0, **PLENTY)) == 2
    await journal.close()


async def test_the_time_of_the_end(journal, wall, run, new_record):
    """A record says when its end became known to the journal, and 0 before."""
    await run(journal, "e1", state=RUNNING)
    assert (await journal.get("e1")).end_time_ns == 0
    wall.pass_days(3)
    await finish(journal, "e1")
    assert (await journal.get("e1")).end_time_ns == wall.ns
    wall.pass_days(3)
    assert (await journal.claim("e1", epoch=2)).end_time_ns == wall.ns - 3 * DAY_NS
    record, _ = await journal.create(new_record("e2", state=FAILED))
    assert record.end_time_ns == wall.ns
    assert await journal.get("e2") == record


async def test_what_goes_on_after_an_end_stays(journal, wall, run):
    """An execution that was taken up again after its end has no end, until the next one."""
    await run(journal, "e1")
    chunk = Chunk(first=2, data=b"x", ends=[1], kinds=b"\x05")
    await journal.append("e1", epoch=1, chunk=chunk, state=RUNNING, snapshot=b"")
    wall.pass_days(100)
    assert (await journal.get("e1")).end_time_ns == 0
    assert (await journal.purge(ALL)).executions == 0
    assert await journal.compact() == 0


# -- what is left


async def test_a_tombstone(journal, wall, run):
    """Of a purged execution a tombstone is left: whose it was, its request id, its state, how far it came, when."""
    await run(journal, "e1", state=CANCELLED, events=7, request_id="r", tenant="t")
    await run(journal, "e2")
    assert await journal.tombstone("e1") is None
    wall.pass_days(1)
    await journal.purge(ALL)
    assert await journal.tombstone("e1") == Tombstone(
        execution_id="e1", tenant="t", request_id="r", state=CANCELLED, last_sequence=7, purge_time_ns=wall.ns
    )
    assert (await journal.tombstone("e2")).request_id == ""
    assert await journal.tombstone("e3") is None


async def test_a_purged_execution_is_gone(journal, wall, run):
    """No get, find, list or label finds a purged execution; nobody appends to it or claims it."""
    await run(journal, "e1", events=5, request_id="r")
    wall.pass_days(1)
    await journal.purge(ALL)
    assert await journal.get("e1") is None
    assert await journal.find(tenant="", request_id="r") is None
    assert (await journal.list(ExecutionFilter(labels={"of": "e1"}), tenant="", limit=5)).total == 0
    assert await journal.unfinished() == []
    with pytest.raises(Conflict):
        await journal.claim("e1", epoch=9)
    with pytest.raises(Conflict):
        await journal.append(
            "e1", epoch=1, chunk=Chunk(first=6, data=b"x", ends=[1], kinds=b"\x05"), state=RUNNING, snapshot=b""
        )


@pytest.mark.parametrize("after", [0, 2, 4, 5, 99])
async def test_a_cursor_into_what_was_purged(journal, wall, run, after):
    """A read of a purged execution, from whatever cursor, raises CursorExpired with what there is: nothing."""
    await run(journal, "e1", events=5, step=2)
    wall.pass_days(1)
    await journal.purge(ALL)
    with pytest.raises(CursorExpired, match="e1 was purged") as caught:
        await journal.read("e1", after=after, **PLENTY)
    assert caught.value.metadata == {"execution_id": "e1", "first_sequence": "6", "last_sequence": "5"}


async def test_a_purge_between_two_reads(new_journal, wall, run):
    """A follower in the middle of an execution that is purged learns so from its next read, from memory too."""
    journal = await new_journal(now_ns=wall)
    await run(journal, "e1", events=9, step=3)
    with journal.follow("e1", after=0) as follower:
        chunks = await follower.read(max_events=4, max_bytes=1 << 20)
        assert chunks[-1].last == 4
        wall.pass_days(1)
        await journal.purge(ALL)
        with pytest.raises(CursorExpired):
            await follower.read(max_events=4, max_bytes=1 << 20)
    assert journal._tails.size == 0


async def test_a_purge_between_two_shared_reads(new_journal, wall, run):
    """Of two that follow a purged execution none gets what the other one has read before."""
    journal = await new_journal(now_ns=wall, tail_bytes=0)
    await run(journal, "e1", events=9, step=3)
    with journal.follow("e1", after=0) as one, journal.follow("e1", after=0) as other:
        await one.read(max_events=4, max_bytes=1 << 20)
        await one.read(max_events=4, max_bytes=1 << 20)
        await other.read(max_events=4, max_bytes=1 << 20)
        wall.pass_days(1)
        await journal.purge(ALL)
        for follower in (one, other):
            with pytest.raises(CursorExpired):
                await follower.read(max_events=4, max_bytes=1 << 20)


async def test_a_request_id_never_runs_again(journal, wall, run, new_record):
    """The request id of a purged execution is refused, in its tenant only; its execution id is taken."""
    await run(journal, "e1", request_id="r", tenant="t")
    wall.pass_days(1)
    await journal.purge(ALL)
    with pytest.raises(CursorExpired):
        await journal.create(new_record("e2", request_id="r", tenant="t"))
    assert await journal.get("e2") is None
    with pytest.raises(ValueError, match="e1 exists"):
        await journal.create(new_record("e1"))
    assert (await journal.create(new_record("e3", request_id="r")))[1]
    assert (await journal.create(new_record("e4", tenant="t")))[1]


async def test_a_tombstone_is_forgotten(journal, wall, run, new_record):
    """A tombstone stays for 30 days after the purge; then its ids are free, and its events are of nothing."""
    await run(journal, "e1", request_id="r")
    wall.pass_days(400)
    await journal.purge(Retention())
    wall.pass_days(30)
    assert (await journal.purge(Retention())).tombstones == 0
    wall.ns += 1
    assert (await journal.purge(Retention())).tombstones == 1
    assert await journal.tombstone("e1") is None
    assert list(await journal.read("e1", after=0, **PLENTY)) == []
    assert (await journal.create(new_record("e1", request_id="r")))[1]


async def test_numbers_go_on_after_a_purge(journal, wall, run, new_record):
    """Ordinals and positions of what was purged are not given again."""
    await run(journal, "e1", events=3)
    wall.pass_days(1)
    await journal.purge(ALL)
    record, _ = await journal.create(new_record("e2"))
    assert record.ordinal == 2
    chunk = Chunk(first=1, data=b"x", ends=[1], kinds=b"\x05")
    assert await journal.append("e2", epoch=1, chunk=chunk, state=RUNNING, snapshot=b"") == 4


async def test_two_purges_at_once(journal, wall, run):
    """Purges and compactions that are under way together remove each execution once."""
    for number in range(8):
        await run(journal, f"e{number}", events=4)
    wall.pass_days(1)
    purges = await asyncio.gather(*(journal.purge(ALL) for _ in range(3)), journal.compact(), journal.compact())
    assert sum(purged.executions for purged in purges[:3]) == 8
    assert await names(journal) == []


async def test_a_cancelled_purge(journal, wall, run):
    """A purge whose caller went leaves each execution whole or gone, and the next one does the rest."""
    for number in range(30):
        await run(journal, f"e{number}", events=4)
    wall.pass_days(1)
    task = asyncio.ensure_future(journal.purge(ALL))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    for number in range(30):
        try:
            assert sum(len(chunk) for chunk in await journal.read(f"e{number}", after=0, **PLENTY)) == 4
        except CursorExpired:
            assert await journal.tombstone(f"e{number}") is not None
    await journal.purge(ALL)
    assert await names(journal) == []


async def test_a_closed_journal_is_not_kept_up(new_journal):
    """After close, purge, compact and tombstone are refused."""
    journal = await new_journal()
    await journal.close()
    for call in (lambda: journal.purge(ALL), journal.compact, lambda: journal.tombstone("e1")):
        with pytest.raises(JournalUnavailable):
            await call()


# -- joining


async def test_compaction_joins(journal, run):
    """Chunks of an ended execution become few: as many events in each as a message carries; the last position stays."""
    await run(journal, "e1", events=1100)
    before = await journal.read("e1", after=0, **PLENTY)
    assert len(before) == 1100
    assert await journal.compact() == 1100 - 3
    after = await journal.read("e1", after=0, **PLENTY)
    assert [(chunk.first, chunk.last) for chunk in after] == [(1, 512), (513, 1024), (1025, 1100)]
    assert [chunk.position for chunk in after] == [512, 1024, 1100]
    assert b"".join(chunk.data for chunk in after) == b"".join(chunk.data for chunk in before)
    assert b"".join(chunk.kinds for chunk in after) == b"".join(chunk.kinds for chunk in before)
    assert await journal.compact() == 0


async def test_compaction_leaves_live_ones(journal, run, new_chunk, append):
    """What has not ended keeps its chunks, and its owner appends on."""
    await run(journal, "live", events=10, state=RUNNING)
    await run(journal, "ended", events=10)
    assert await journal.compact() == 9
    assert len(await journal.read("live", after=0, **PLENTY)) == 10
    assert await append(journal, "live", new_chunk(11)) == 21


async def test_a_single_chunk_needs_no_compaction(journal, run):
    """An execution that is in one chunk stays as it is."""
    await run(journal, "e1", events=10, step=10)
    before = await journal.read("e1", after=0, **PLENTY)
    assert await journal.compact() == 0
    assert await journal.read("e1", after=0, **PLENTY) == before


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    counts=st.lists(st.tuples(st.integers(1, 300), st.sampled_from([10, 200, 3000])), min_size=1, max_size=25),
    seed=st.integers(0, 1 << 32),
)
async def test_compaction_keeps_bytes(journal, new_record, new_chunk, counts, seed):
    """However events were cut into chunks, after compaction every cursor and bound reads the same events as before."""
    name = f"c{next(counter)}"
    await journal.create(new_record(name))
    first = 1
    for index, (count, size) in enumerate(counts):
        last = index == len(counts) - 1
        chunk = new_chunk(first, count, size=size, kind=first % 19 + 1)
        await journal.append(name, epoch=1, chunk=chunk, state=COMPLETED if last else RUNNING, snapshot=b"")
        first += count
    before = await journal.read(name, after=0, **PLENTY)
    await journal.compact()
    after = await journal.read(name, after=0, **PLENTY)
    assert len(after) <= len(before)
    assert all(len(chunk) <= MOST_EVENTS and len(chunk.data) <= MOST_BYTES for chunk in after if chunk not in before)
    assert after[-1].position == before[-1].position
    assert {chunk.position for chunk in after} <= {chunk.position for chunk in before}
    assert split(after) == split(before)
    random_ = random.Random(seed)
    for _ in range(5):
        cursor = random_.randrange(first - 1)
        events = split(await journal.read(name, after=cursor, max_events=random_.randint(1, 700), max_bytes=1 << 20))
        assert events == split(before)[cursor : cursor + len(events)]
        assert events


def split(chunks) -> list[tuple[int, int, bytes]]:
    return [(chunk.first + i, chunk.kinds[i], chunk.frame(i)) for chunk in chunks for i in range(len(chunk))]


@given(counts=st.lists(st.integers(1, 600), min_size=1, max_size=20), cut=st.integers(0, 20))
def test_joining_is_the_same_however_often(new_chunk_of, counts, cut):
    """Chunks that are joined in parts, or twice, are the same as those that are joined once."""
    chunks, first = [], 1
    for count in counts:
        chunks.append(new_chunk_of(first, count))
        first += count
    once = joined(chunks)
    assert joined(once) == once
    stop = sum(len(run) for run in once[:cut])
    done = [chunk for chunk in once if chunk.last <= stop]
    assert joined(done + [chunk for chunk in chunks if chunk.first > stop]) == once


@pytest.fixture(scope="module")
def new_chunk_of():
    def make(first, count):
        return Chunk(first=first, data=b"ab" * count, ends=range(2, 2 * count + 1, 2), kinds=b"\x05" * count)

    return make


def test_only_neighbours_are_joined(new_chunk_of):
    """Chunks with a hole or an overlap between them are not joined."""
    for second in (2, 3, 5):
        with pytest.raises(ValueError, match="no run of chunks"):
            join([new_chunk_of(1, 3), new_chunk_of(second, 2)])


# -- all at once


@pytest.mark.parametrize("tail_bytes", [0, 200, 1 << 20])
async def test_readers_during_purge_and_compaction(new_journal, wall, run, tail_bytes):
    """A hundred readers at any cursor, while executions are joined and purged, read the same bytes or CursorExpired."""
    journal = await new_journal(tail_bytes=tail_bytes, now_ns=wall)
    every = {}
    for number in range(5):
        await run(journal, f"e{number}", events=700, step=7 + number, size=20)
        every[f"e{number}"] = await journal.read(f"e{number}", after=0, **PLENTY)
        wall.pass_days(1)
    random_ = random.Random(11)
    outcomes = {"whole": 0, "expired": 0}
    going = True

    async def watch(name: str, after: int, max_events: int) -> None:
        wanted = b"".join(chunk.data for chunk in join_all(every[name], after))
        try:
            data = await data_of(journal, name, after=after, max_events=max_events)
        except CursorExpired:
            outcomes["expired"] += 1
            return
        assert data == wanted
        outcomes["whole"] += 1

    async def keep_up() -> None:
        nonlocal going
        await journal.compact()
        for keep in (4, 3, 2, 1):
            await journal.purge(Retention(keep_days=0, keep_executions=keep))
        going = False

    async def watchers() -> None:
        while going:
            await asyncio.gather(
                *(
                    watch(f"e{random_.randrange(5)}", random_.randrange(700), random_.choice([1, 5, 60, 512]))
                    for _ in range(100)
                )
            )

    async with asyncio.timeout(HANGS):
        await asyncio.gather(keep_up(), watchers())
        await asyncio.gather(*(watch(f"e{number}", 0, 512) for number in range(5)))
    assert outcomes["whole"] > 0
    assert outcomes["expired"] >= 4
    assert await names(journal) == ["e4"]


def join_all(chunks, after) -> list[Chunk]:
    return [chunk.after(after) for chunk in chunks if chunk.last > after]


# -- fencing


async def test_a_purged_execution_has_no_owner(journal, run, new_chunk, append):
    """Who owned an execution that was purged can neither append to it nor claim it, and leaves no trace."""
    await run(journal, "e1")
    await run(journal, "e2")
    await journal.purge(Retention(keep_days=0, keep_executions=1))
    for first in (1, 2):
        with pytest.raises(Conflict):
            await append(journal, "e1", new_chunk(first))
    with pytest.raises(Conflict):
        await journal.claim("e1", epoch=2)
    assert await journal.get("e1") is None
    assert (await journal.tombstone("e1")).last_sequence == 1
    with pytest.raises(CursorExpired):
        await journal.read("e1", after=0, max_events=1, max_bytes=1)


async def test_compaction_leaves_epochs(journal, run, new_chunk, append):
    """An owner whose epoch is old is refused after a compaction as before it, and the new one goes on."""
    await run(journal, "e1", events=5)
    await journal.claim("e1", epoch=4)
    assert await journal.compact() == 4
    assert (await journal.get("e1")).epoch == 4
    for epoch in (1, 3, 5):
        with pytest.raises(Conflict):
            await append(journal, "e1", new_chunk(6), epoch=epoch)
    await append(journal, "e1", new_chunk(6), epoch=4)
    assert (await journal.get("e1")).last_sequence == 6


async def test_a_claim_beside_a_purge(journal, run):
    """A claim and a purge that are under way together: either the claim wins before the end, or it is refused."""
    await run(journal, "e1")
    await run(journal, "e2")
    purge = Retention(keep_days=0, keep_executions=1)
    done, claimed = await asyncio.gather(journal.purge(purge), journal.claim("e1", epoch=2), return_exceptions=True)
    assert done.executions == 1
    assert isinstance(claimed, Conflict) or claimed.epoch == 2
    assert await journal.get("e1") is None
