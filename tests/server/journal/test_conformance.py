"""What every journal has to do, whatever it keeps its executions in."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stepwire.errors import JournalUnavailable
from stepwire.v1 import ExecutionFilter, ExecutionState
from stepwire_server.journal import Chunk, Conflict, Follower, Journal, MemoryJournal, SqliteJournal

PENDING = ExecutionState.EXECUTION_STATE_PENDING
RUNNING = ExecutionState.EXECUTION_STATE_RUNNING
COMPLETED = ExecutionState.EXECUTION_STATE_COMPLETED
PLENTY = {"max_events": 1 << 30, "max_bytes": 1 << 40}
HANGS = 20
"""Seconds after which a test says that something never came."""


def split(chunks: Sequence[Chunk]) -> list[tuple[int, int, bytes]]:
    """Returns each event's sequence, kind and frame."""
    return [(chunk.first + i, chunk.kinds[i], chunk.frame(i)) for chunk in chunks for i in range(len(chunk))]


async def follow_to(follower: Follower, last: int, *, max_events: int = 512) -> list[tuple[int, int, bytes]]:
    """Reads until the event `last` has come."""
    found: list[tuple[int, int, bytes]] = []
    async with asyncio.timeout(HANGS):
        while follower.sequence < last:
            chunks = await follower.read(max_events=max_events, max_bytes=1 << 20)
            found += split(chunks)
            if not chunks:
                await follower.wait()
    return found


# -- records


async def test_create_gives_ordinals_in_order(journal, new_record):
    """Records are counted from 1 in the order of their creation."""
    made = [await journal.create(new_record(f"e{number}")) for number in range(3)]
    assert [(record.ordinal, new) for record, new in made] == [(1, True), (2, True), (3, True)]


async def test_create_is_idempotent(journal, new_record):
    """A hundred concurrent calls with one request id give one record, and one of them is told that it made it."""
    made = await asyncio.gather(*(journal.create(new_record(f"e{number}", request_id="same")) for number in range(100)))
    assert len({record.execution_id for record, _ in made}) == 1
    assert [new for _, new in made].count(True) == 1
    assert (await journal.list(ExecutionFilter(), tenant="", limit=10)).total == 1


async def test_create_returns_what_became_of_the_record(journal, new_record, new_chunk, append):
    """A repeated create returns the record as it is now, with its request, not as it was asked for."""
    await journal.create(new_record("e1", request_id="r", labels={"a": "b"}))
    await append(journal, "e1", new_chunk(1, 3), snapshot=b"now")
    record, new = await journal.create(new_record("e2", request_id="r"))
    assert not new
    assert (record.execution_id, record.last_sequence, record.state, record.snapshot) == ("e1", 3, RUNNING, b"now")
    assert (record.request, record.labels) == (b"request of e1", {"a": "b"})


async def test_request_ids_belong_to_a_tenant(journal, new_record):
    """The same request id in another tenant, and an empty request id, name another execution."""
    made = [
        await journal.create(new_record("e1", tenant="a", request_id="r")),
        await journal.create(new_record("e2", tenant="b", request_id="r")),
        await journal.create(new_record("e3", tenant="a")),
        await journal.create(new_record("e4", tenant="a")),
    ]
    assert all(new for _, new in made)
    assert (await journal.find(tenant="b", request_id="r")).execution_id == "e2"
    assert await journal.find(tenant="c", request_id="r") is None
    assert await journal.find(tenant="a", request_id="") is None


async def test_an_execution_id_is_taken_once(journal, new_record):
    """A second record with an execution id is refused, in another tenant too, and leaves the first as it was."""
    first, _ = await journal.create(new_record("e1", labels={"a": "b"}))
    with pytest.raises(ValueError, match="e1 exists"):
        await journal.create(new_record("e1", tenant="other", request_id="r"))
    assert await journal.get("e1") == first
    assert await journal.find(tenant="other", request_id="r") is None


async def test_get_returns_what_was_created(journal, new_record):
    """Every field of a record is kept, and a mapping that the caller changes later does not change it."""
    labels = {"colour": "blau", "größe": "XL"}
    record, _ = await journal.create(
        new_record("e1", tenant="t", request_id="r", session_id="s", labels=labels, create_time_ns=1 << 60)
    )
    labels.clear()
    assert record.labels == {"colour": "blau", "größe": "XL"}
    assert await journal.get("e1") == record
    assert await journal.find(tenant="t", request_id="r") == record
    assert await journal.get("e2") is None


async def test_list_selects(journal, new_record, new_chunk, append):
    """Each field of the filter that is set must match, and nothing of another tenant ever does."""
    for number in range(6):
        await journal.create(
            new_record(
                f"e{number}",
                session_id=f"s{number % 2}",
                labels={"n": str(number % 3), "all": "yes"},
                create_time_ns=number * 1_000_000_000 + 5,
            )
        )
    await journal.create(new_record("other", tenant="t", session_id="s1", labels={"all": "yes"}))
    await append(journal, "e4", new_chunk(1))

    async def found(**chosen) -> list[str]:
        page = await journal.list(ExecutionFilter(**chosen), tenant="", limit=100)
        assert page.total == len(page.records)
        assert not page.more
        return [record.execution_id for record in page.records]

    def at(seconds: int, nanos: int = 0) -> Timestamp:
        return Timestamp(seconds=seconds, nanos=nanos)

    assert await found() == ["e5", "e4", "e3", "e2", "e1", "e0"]
    assert await found(execution_ids=["e1", "e3", "none", "other"]) == ["e3", "e1"]
    assert await found(execution_ids=[f"e{number}" for number in range(5, 50_000)]) == ["e5"]
    assert await found(session_id="s1") == ["e5", "e3", "e1"]
    assert await found(session_id="s") == []
    assert await found(labels={"n": "2"}) == ["e5", "e2"]
    assert await found(labels={"n": "2", "all": "no"}) == []
    assert await found(labels={"n": "2", "all": "yes"}, session_id="s1") == ["e5"]
    assert await found(labels={"n": ""}) == []
    assert await found(labels={f"l{number}": "v" for number in range(32)}, states=[RUNNING], session_id="s1") == []
    assert await found(states=[RUNNING]) == ["e4"]
    assert await found(states=[PENDING, RUNNING, RUNNING], session_id="s0") == ["e4", "e2", "e0"]
    assert await found(states=[COMPLETED]) == []
    assert await found(created_from=at(3, 5)) == ["e5", "e4", "e3"]
    assert await found(created_from=at(3, 6)) == ["e5", "e4"]
    assert await found(created_before=at(2, 5)) == ["e1", "e0"]
    assert await found(created_from=at(1), created_before=at(3)) == ["e2", "e1"]
    assert await found(created_from=at(253402300799), created_before=at(-62135596800)) == []
    assert await found(created_before=at(253402300799)) == ["e5", "e4", "e3", "e2", "e1", "e0"]


async def test_list_pages(journal, new_record):
    """Pages follow each other without a gap or a repetition, newest first; the total is the same on each."""
    for number in range(10):
        await journal.create(new_record(f"e{number}", session_id="s" if number % 5 else "", create_time_ns=-number))
    found: list[str] = []
    before = 0
    while True:
        page = await journal.list(ExecutionFilter(session_id="s"), tenant="", before=before, limit=3)
        assert page.total == 8
        assert len(page.records) <= 3
        found += [record.execution_id for record in page.records]
        if not page.more:
            break
        before = page.records[-1].ordinal
    assert found == ["e9", "e8", "e7", "e6", "e4", "e3", "e2", "e1"]


async def test_list_leaves_out_requests(journal, new_record):
    """A page has all of a record but its request, which may be large; what is to be taken up has that too."""
    record, _ = await journal.create(new_record("e1", labels={"a": "b"}))
    (listed,) = (await journal.list(ExecutionFilter(), tenant="", limit=5)).records
    (unfinished,) = await journal.unfinished()
    assert unfinished == record
    assert listed == replace(record, request=b"")


async def test_unfinished(journal, new_record, new_chunk):
    """What has not ended is returned oldest first, of all tenants, and what has ended is not."""
    for number, tenant in enumerate("abcd"):
        await journal.create(new_record(f"e{number}", tenant=tenant))
    for number, state in (
        (1, COMPLETED),
        (2, ExecutionState.EXECUTION_STATE_PAUSED),
        (3, ExecutionState.EXECUTION_STATE_CANCELLED),
    ):
        await journal.append(f"e{number}", epoch=1, chunk=new_chunk(1), state=state, snapshot=b"")
    assert [record.execution_id for record in await journal.unfinished()] == ["e0", "e2"]


# -- append and claim


async def test_append_moves_the_record_with_the_events(journal, new_record, new_chunk, frames):
    """State, snapshot and last sequence are those of the last chunk, which is there with them."""
    await journal.create(new_record())
    for first, state, snapshot in ((1, RUNNING, b"one"), (3, RUNNING, b"two"), (5, COMPLETED, b"three")):
        await journal.append("e1", epoch=1, chunk=new_chunk(first, 2), state=state, snapshot=snapshot)
        record = await journal.get("e1")
        assert (record.last_sequence, record.state, record.snapshot) == (first + 1, state, snapshot)
        assert len(await frames(journal, "e1")) == first + 1


async def test_positions_rise(journal, new_record, new_chunk, append):
    """Positions rise by one a chunk, across executions, in the order of the appends; a refused one takes none."""
    await journal.create(new_record("e1"))
    await journal.create(new_record("e2"))
    assert await append(journal, "e1", new_chunk(1, 5)) == 1
    assert await append(journal, "e2", new_chunk(1, 2)) == 2
    with pytest.raises(Conflict):
        await append(journal, "e2", new_chunk(2))
    assert await append(journal, "e1", new_chunk(6)) == 3
    (first, second) = await journal.read("e1", after=0, **PLENTY)
    assert (first.position, second.position) == (1, 3)


async def test_appends_that_do_not_wait_keep_their_order(journal, new_record, new_chunk, append):
    """Appends to one execution that are under way together are stored in the order of the calls."""
    await journal.create(new_record())
    positions = await asyncio.gather(*(append(journal, "e1", new_chunk(1 + 3 * n, 3)) for n in range(50)))
    assert positions == sorted(positions)
    assert [sequence for sequence, _, _ in split(await journal.read("e1", after=0, **PLENTY))] == list(range(1, 151))


@pytest.mark.parametrize("first", [1, 2, 4, 5, 100])
async def test_append_refuses_another_sequence(journal, new_record, new_chunk, append, frames, first):
    """A chunk that does not begin with the next sequence is refused, and nothing of it is stored."""
    await journal.create(new_record())
    await append(journal, "e1", new_chunk(1, 2), snapshot=b"before")
    before = await frames(journal, "e1")
    with pytest.raises(Conflict):
        await append(journal, "e1", new_chunk(first, 4), snapshot=b"after")
    assert await frames(journal, "e1") == before
    assert (await journal.get("e1")).snapshot == b"before"
    await append(journal, "e1", new_chunk(3))


async def test_append_to_nothing(journal, new_chunk, append):
    """An append to an execution that there is not is refused."""
    with pytest.raises(Conflict):
        await append(journal, "none", new_chunk(1))


async def test_claim_fences(journal, new_record, new_chunk, append, frames):
    """After a claim only the new epoch may append; before it, only the old one."""
    await journal.create(new_record())
    with pytest.raises(Conflict):
        await append(journal, "e1", new_chunk(1), epoch=2)
    await append(journal, "e1", new_chunk(1, 2), epoch=1, snapshot=b"old")
    record = await journal.claim("e1", epoch=2)
    assert (record.epoch, record.last_sequence, record.snapshot) == (2, 2, b"old")
    assert record.request == b"request of e1"
    with pytest.raises(Conflict):
        await append(journal, "e1", new_chunk(3), epoch=1)
    await append(journal, "e1", new_chunk(3), epoch=2)
    assert len(await frames(journal, "e1")) == 3
    assert (await journal.get("e1")).epoch == 2


@pytest.mark.parametrize("epoch", [0, 1, 3])
async def test_claim_needs_a_higher_epoch(journal, new_record, epoch):
    """A claim with an epoch that is not above the record's is refused and changes nothing."""
    await journal.create(new_record())
    await journal.claim("e1", epoch=3)
    with pytest.raises(Conflict):
        await journal.claim("e1", epoch=epoch)
    with pytest.raises(Conflict):
        await journal.claim("none", epoch=5)
    assert (await journal.get("e1")).epoch == 3


async def test_one_of_many_claims_wins(journal, new_record):
    """Of many claims of one epoch at once, one succeeds."""
    await journal.create(new_record())
    results = await asyncio.gather(*(journal.claim("e1", epoch=2) for _ in range(20)), return_exceptions=True)
    assert sum(isinstance(result, Conflict) for result in results) == 19


async def test_a_claim_between_appends_under_way(journal, new_record, new_chunk, append):
    """Of appends and a claim that are under way together, those before it count and those after it are refused."""
    await journal.create(new_record())
    first, record, second = await asyncio.gather(
        append(journal, "e1", new_chunk(1), snapshot=b"one"),
        journal.claim("e1", epoch=2),
        append(journal, "e1", new_chunk(2)),
        return_exceptions=True,
    )
    assert first == 1
    assert (record.epoch, record.last_sequence, record.snapshot) == (2, 1, b"one")
    assert isinstance(second, Conflict)


async def test_a_conflict_is_its_own(journal, new_record, new_chunk, append, frames):
    """Appends that do not fit fail alone: what shares their commit is stored."""
    for number in range(30):
        await journal.create(new_record(f"e{number}"))
    results = await asyncio.gather(
        *(append(journal, f"e{number}", new_chunk(1 if number % 3 else 2, 2)) for number in range(30)),
        return_exceptions=True,
    )
    for number, result in enumerate(results):
        assert isinstance(result, int if number % 3 else Conflict)
        assert len(await frames(journal, f"e{number}")) == (2 if number % 3 else 0)


async def test_a_cancelled_append_leaves_no_hole(journal, new_record, new_chunk, append, frames):
    """After an append whose caller went, it is stored whole or not at all, and the record says which."""
    await journal.create(new_record())
    task = asyncio.ensure_future(append(journal, "e1", new_chunk(1, 3)))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    await journal.create(new_record("e2"))  # Whatever was under way has taken effect before this.
    last = (await journal.get("e1")).last_sequence
    assert last in (0, 3)
    assert len(await frames(journal, "e1")) == last
    await append(journal, "e1", new_chunk(last + 1))


# -- read


async def test_read_at_every_offset(journal, new_record, new_chunk, append):
    """From every cursor and with every bound, a read returns the events that follow, up to the bound."""
    await journal.create(new_record())
    sizes = (1, 4, 2, 1, 3)
    for first, count in zip((1, *itertools.accumulate(sizes, initial=1))[1:], sizes, strict=False):
        await append(journal, "e1", new_chunk(first, count))
    every = split(await journal.read("e1", after=0, **PLENTY))
    assert [sequence for sequence, _, _ in every] == list(range(1, 12))
    for after in range(12):
        for most in range(1, 13):
            found = split(await journal.read("e1", after=after, max_events=most, max_bytes=1 << 20))
            assert found == every[after : after + most]
    assert list(await journal.read("e1", after=99, **PLENTY)) == []
    assert list(await journal.read("none", after=0, **PLENTY)) == []


async def test_read_is_bounded_by_bytes(journal, new_record, new_chunk, append):
    """A read returns as many events as fit into the bytes, and one where not even that fits."""
    await journal.create(new_record())
    for first in (1, 4, 5, 9):
        await append(journal, "e1", new_chunk(first, {1: 3, 4: 1, 5: 4, 9: 2}[first]))
    every = split(await journal.read("e1", after=0, **PLENTY))
    for after in range(10):
        for most in range(1, 140):
            size, count = 0, 0
            for _, _, data in every[after:]:
                size += len(data)
                if count and size > most:
                    break
                count += 1
            found = split(await journal.read("e1", after=after, max_events=100, max_bytes=most))
            assert found == every[after : after + count]


counter = itertools.count()


@settings(
    max_examples=40,
    deadline=None,
    # The journal is the same for all examples; each has an execution of its own.
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    counts=st.lists(st.tuples(st.integers(1, 40), st.integers(1, 3000)), min_size=1, max_size=12),
    seed=st.integers(0, 1 << 32),
)
async def test_what_is_read_is_what_was_appended(journal, new_record, new_chunk, append, counts, seed):
    """However events were cut into chunks, cursors and bounds give them back, each once and in order."""
    name = f"p{next(counter)}"
    await journal.create(new_record(name))
    first = 1
    written: list[tuple[int, int, bytes]] = []
    for count, size in counts:
        chunk = new_chunk(first, count, size=size, kind=first % 25 + 1)
        written += split([chunk])
        await append(journal, name, chunk)
        first += count
    random_ = random.Random(seed)
    after = random_.randrange(first)
    found: list[tuple[int, int, bytes]] = []
    start = after
    while after < first - 1:
        max_events, max_bytes = random_.randint(1, 60), random_.randint(1, 60_000)
        events = split(await journal.read(name, after=after, max_events=max_events, max_bytes=max_bytes))
        assert 1 <= len(events) <= max_events
        assert len(events) == 1 or sum(len(data) for _, _, data in events) <= max_bytes
        found += events
        after += len(events)
    assert found == written[start:]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    counts=st.lists(st.integers(1, 40), min_size=1, max_size=12),
    max_events=st.integers(1, 60),
    start=st.floats(0, 0.99),
)
async def test_whole_chunks_come_whole(journal, new_record, new_chunk, append, counts, max_events, start):
    """Read as whole chunks, none but the first is cut, and all events come all the same, in order and within bounds."""
    name = f"w{next(counter)}"
    await journal.create(new_record(name))
    first = 1
    for count in counts:
        await append(journal, name, new_chunk(first, count))
        first += count
    edges = {0, *itertools.accumulate(counts)}
    after = int(start * (first - 1))
    while after < first - 1:
        chunks = await journal._load(name, after=after, max_events=max_events, max_bytes=400, whole=True)
        found = split(chunks)
        assert [sequence for sequence, _, _ in found] == list(range(after + 1, after + 1 + len(found)))
        assert 1 <= len(found) <= max_events
        assert len(found) == 1 or sum(len(data) for _, _, data in found) <= 400
        assert len(chunks) == 1 or {chunk.last for chunk in chunks} <= edges
        after += len(found)


@pytest.mark.parametrize("tail_bytes", [0, 1, 40, 200])
async def test_the_tail_is_the_storage(new_journal, new_record, new_chunk, append, tail_bytes):
    """Whether an event comes from memory or from the storage can't be seen, for any cursor, bound and tail."""
    small = await new_journal(tail_bytes=tail_bytes)
    large = await new_journal()
    for journal in (small, large):
        await journal.create(new_record())
        for first, count in ((1, 1), (2, 3), (5, 1), (6, 4), (10, 2)):
            await append(journal, "e1", new_chunk(first, count))
    for after in range(13):
        for max_events, max_bytes in itertools.product((1, 2, 5, 100), (1, 25, 60, 1000)):
            bounds = {"after": after, "max_events": max_events, "max_bytes": max_bytes}
            from_storage = split(await small._load("e1", **bounds))
            assert split(await small.read("e1", **bounds)) == from_storage
            assert split(await large.read("e1", **bounds)) == from_storage


async def test_who_keeps_up_needs_no_storage(new_journal, new_record, new_chunk, append, monkeypatch):
    """A reader whose next event is in the tail, or who has read all, does not reach the storage."""
    journal = await new_journal()
    await journal.create(new_record())

    async def never(*args, **kwargs):
        pytest.fail("reached the storage")

    monkeypatch.setattr(journal, "_load", never)
    for first in (1, 4, 7):
        await append(journal, "e1", new_chunk(first, 3))
    for after in range(10):
        assert len(split(await journal.read("e1", after=after, **PLENTY))) == 9 - after


async def test_tails_are_bounded(new_journal, new_record, new_chunk, append):
    """All tails together have a bound, and what has fallen out of them is still read."""
    journal = await new_journal(tail_bytes=100, tails_bytes=300)
    for number in range(20):
        await journal.create(new_record(f"e{number}"))
        for first in range(1, 30):
            await append(journal, f"e{number}", new_chunk(first))
    held = sum(len(chunk.data) for tail in journal._tails.held.values() for chunk in tail.chunks)
    assert 0 < held <= 300
    assert held == journal._tails.size
    for number in range(20):
        events = split(await journal.read(f"e{number}", after=0, **PLENTY))
        assert [sequence for sequence, _, _ in events] == list(range(1, 30))


# -- follow


@pytest.mark.parametrize("points", list(itertools.product((False, True), repeat=5)))
async def test_follow_misses_nothing(journal, new_record, new_chunk, append, points, monkeypatch):
    """An append at any moment is seen: around the making of the cursor, around and inside a read, in a wait."""
    before_follow, before_read, before_load, after_load, before_wait = points
    await journal.create(new_record())
    # As of one that was begun long ago: what has no tail is read from the storage.
    journal._tails.clear()
    sequences = itertools.count(1)
    last = 0

    async def add(when: bool = True) -> None:
        nonlocal last
        if when:
            last = next(sequences)
            await append(journal, "e1", new_chunk(last))

    load = journal._load
    hooks = [True]

    async def load_between_appends(*args, **kwargs):
        hooked = bool(hooks and hooks.pop())
        await add(hooked and before_load)
        chunks = await load(*args, **kwargs)
        await add(hooked and after_load)
        return chunks

    monkeypatch.setattr(journal, "_load", load_between_appends)
    await add(before_follow)
    with journal.follow("e1", after=0) as follower:
        await add(before_read)
        first = split(await follower.read(max_events=512, max_bytes=1 << 20))
        await add(before_wait)
        rest = await follow_to(follower, last)
        assert [sequence for sequence, _, _ in first + rest] == list(range(1, last + 1))
        assert list(await follower.read(max_events=512, max_bytes=1 << 20)) == []
        waiting = asyncio.ensure_future(follower.wait())
        await add()
        async with asyncio.timeout(HANGS):
            await waiting
        assert [sequence for sequence, _, _ in await follow_to(follower, last)] == [last]


async def test_wait_waits(journal, new_record, new_chunk, append):
    """Where nothing is new the follower sleeps, and appends to other executions do not wake it."""
    await journal.create(new_record("e1"))
    await journal.create(new_record("e2"))
    with journal.follow("e1", after=0) as follower:
        assert list(await follower.read(max_events=1, max_bytes=1)) == []
        waiting = asyncio.ensure_future(follower.wait())
        await append(journal, "e2", new_chunk(1))
        await append(journal, "e2", new_chunk(2))
        assert not waiting.done()
        await append(journal, "e1", new_chunk(1))
        async with asyncio.timeout(HANGS):
            await waiting


async def test_a_woken_follower_finds_what_woke_it(journal, new_record, new_chunk, append):
    """What wakes a follower is in the storage already: committed, then shown."""
    await journal.create(new_record())
    with journal.follow("e1", after=0) as follower:
        for sequence in range(1, 30):
            await follower.read(max_events=512, max_bytes=1 << 20)
            await follower.read(max_events=512, max_bytes=1 << 20)  # Nothing more: the next wait is for the append.
            appending = asyncio.ensure_future(append(journal, "e1", new_chunk(sequence)))
            async with asyncio.timeout(HANGS):
                await follower.wait()
            (chunk,) = await journal._load("e1", after=sequence - 1, **PLENTY)
            assert chunk.last == sequence
            await appending


@pytest.mark.parametrize("tail_bytes", [0, 500, 1 << 20])
async def test_followers_agree(new_journal, new_record, new_chunk, append, tail_bytes):
    """A hundred followers that join at any moment and read in any steps read the same bytes."""
    journal = await new_journal(tail_bytes=tail_bytes)
    await journal.create(new_record())
    random_ = random.Random(7)
    counts = [random_.randint(1, 9) for _ in range(60)]
    last = sum(counts)

    async def watch(turns: int, max_events: int) -> list[tuple[int, int, bytes]]:
        for _ in range(turns):
            await asyncio.sleep(0)  # A turn of the loop, no time.
        with journal.follow("e1", after=0) as follower:
            return await follow_to(follower, last, max_events=max_events)

    watching = [asyncio.ensure_future(watch(random_.randrange(200), random_.randint(1, 50))) for _ in range(100)]
    first = 1
    for count in counts:
        await append(journal, "e1", new_chunk(first, count))
        first += count
    seen = await asyncio.gather(*watching)
    assert [sequence for sequence, _, _ in seen[0]] == list(range(1, last + 1))
    assert all(events == seen[0] for events in seen)
    assert not journal._followers


async def test_a_follower_knows_the_end(journal, new_record, new_chunk, append):
    """The terminal event ends a follower when it was read, not before."""
    await journal.create(new_record())
    await append(journal, "e1", new_chunk(1, 3))
    await append(journal, "e1", new_chunk(4, 1, kind=26))
    with journal.follow("e1", after=1) as follower:
        await follower.read(max_events=2, max_bytes=1 << 20)
        assert (follower.sequence, follower.ended) == (3, False)
        await follower.read(max_events=2, max_bytes=1 << 20)
        assert (follower.sequence, follower.ended) == (4, True)


async def test_a_cancelled_read_keeps_the_wake_up(journal, new_record, new_chunk, append, monkeypatch):
    """A read that was cancelled has taken nothing: the next wait returns at once."""
    await journal.create(new_record())
    await append(journal, "e1", new_chunk(1))
    never = asyncio.Event()

    async def stuck(*args, **kwargs):
        await never.wait()

    with journal.follow("e1", after=0) as follower:
        monkeypatch.setattr(journal, "_load", stuck)
        reading = asyncio.ensure_future(follower.read(max_events=1, max_bytes=1))
        await asyncio.sleep(0)
        reading.cancel()
        await asyncio.wait({reading})
        monkeypatch.undo()
        async with asyncio.timeout(HANGS):
            await follower.wait()
        assert [sequence for sequence, _, _ in await follow_to(follower, 1)] == [1]


async def test_follow_leaves_nothing_behind(journal):
    """When the last follower of an execution has gone, nothing of them is kept, also after an exception."""
    with journal.follow("e1", after=0), journal.follow("e1", after=5), journal.follow("e2", after=0):
        assert set(journal._followers) == {"e1", "e2"}
    assert not journal._followers
    with pytest.raises(KeyError), journal.follow("e1", after=0):
        raise KeyError
    assert not journal._followers


# -- open and close


async def test_close_wakes_and_refuses(new_journal, new_record, new_chunk, append):
    """After close everything is refused, and a follower that waited learns of it, though memory has its events."""
    journal = await new_journal()
    await journal.create(new_record())
    await append(journal, "e1", new_chunk(1))
    with journal.follow("e1", after=1) as follower:
        assert list(await follower.read(max_events=1, max_bytes=1)) == []
        waiting = asyncio.ensure_future(follower.wait())
        await asyncio.sleep(0)
        await journal.close()
        async with asyncio.timeout(HANGS):
            await waiting
        with pytest.raises(JournalUnavailable):
            await follower.read(max_events=1, max_bytes=1)
    for call in (
        lambda: journal.create(new_record("e2")),
        lambda: journal.get("e1"),
        lambda: journal.find(tenant="", request_id="r"),
        lambda: journal.list(ExecutionFilter(), tenant="", limit=1),
        lambda: journal.unfinished(),
        lambda: journal.claim("e1", epoch=2),
        lambda: append(journal, "e1", new_chunk(2)),
        lambda: journal.read("e1", after=0, **PLENTY),
    ):
        with pytest.raises(JournalUnavailable):
            await call()


async def test_close_twice(new_journal):
    """close may be called again, and twice at once."""
    journal = await new_journal()
    await asyncio.gather(journal.close(), journal.close())
    await journal.close()


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_close_without_open(kind, tmp_path):
    """close without open does nothing; a call without open is refused."""
    journal: Journal = MemoryJournal() if kind == "memory" else SqliteJournal(tmp_path / "a" / "j.db")
    with pytest.raises(JournalUnavailable):
        await journal.get("e1")
    await journal.close()
    assert not list(tmp_path.iterdir())


async def test_close_finishes_what_was_appended(journal, new_record, new_chunk, append):
    """Appends that are under way when the journal is closed succeed or are refused; none is left waiting."""
    await journal.create(new_record())
    appending = [asyncio.ensure_future(append(journal, "e1", new_chunk(n))) for n in range(1, 30)]
    await asyncio.sleep(0)
    await journal.close()
    async with asyncio.timeout(HANGS):
        results = await asyncio.gather(*appending, return_exceptions=True)
    assert all(isinstance(result, int | JournalUnavailable) for result in results)
