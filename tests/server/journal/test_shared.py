"""Reads that are shared: each asks once for what many want, and gives nobody less than a read of its own would."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import ExitStack

from stepwire.errors import JournalUnavailable
from stepwire_server.journal import Chunk, Follower
from stepwire_server.journal.shared import _MOST_BYTES, _MOST_READS, SharedReads, Wanted

HANGS = 20.0
WANTED = Wanted("e1", 0, 512, 1 << 20)


class Storage:
    """Answers when it is told to, and counts how often it was asked."""

    def __init__(self, *answers: Sequence[Chunk] | Exception) -> None:
        self.asked = 0
        self.ready = asyncio.Event()
        self._answers = list(answers)

    async def load(self) -> Sequence[Chunk]:
        answer = self._answers[min(self.asked, len(self._answers) - 1)]
        self.asked += 1
        await self.ready.wait()
        if isinstance(answer, Exception):
            raise answer
        return answer


async def begun(shared: SharedReads, storage: Storage, count: int) -> list[asyncio.Task[Sequence[Chunk]]]:
    """Returns so many reads of the same that wait."""
    tasks = [asyncio.create_task(shared.read(WANTED, storage.load)) for _ in range(count)]
    await asyncio.sleep(0)  # A turn of the loop, no time.
    return tasks


async def test_what_many_want_is_read_once(new_chunk):
    """A hundred reads of the same at once, and each that comes later, are one read of the storage."""
    shared, storage = SharedReads(), Storage([new_chunk(1, 3)])
    async with asyncio.timeout(HANGS):
        tasks = await begun(shared, storage, 100)
        storage.ready.set()
        found = await asyncio.gather(*tasks)
        found.append(await shared.read(WANTED, storage.load))
        assert all(chunks == [new_chunk(1, 3)] for chunks in found)
        assert storage.asked == 1
        await shared.read(WANTED._replace(after=1), storage.load)
        assert storage.asked == 2


async def test_who_leaves_takes_nothing_from_the_others(new_chunk):
    """When the one that reads is cancelled, another one reads; when one that waits is, nobody notices."""
    shared, storage = SharedReads(), Storage([new_chunk(1, 3)])
    async with asyncio.timeout(HANGS):
        tasks = await begun(shared, storage, 10)
        tasks[0].cancel()
        tasks[5].cancel()
        await asyncio.wait({tasks[0], tasks[5]})
        storage.ready.set()
        rest = [task for task in tasks if not task.cancelled()]
        assert len(rest) == 8
        assert all(chunks == [new_chunk(1, 3)] for chunks in await asyncio.gather(*rest))
        assert storage.asked == 2


async def test_a_failure_is_its_own(new_chunk):
    """A read that fails tells whoever began it; the others read themselves, and nothing of it is kept."""
    shared, storage = SharedReads(), Storage(JournalUnavailable("not now"), [new_chunk(1, 3)])
    async with asyncio.timeout(HANGS):
        tasks = await begun(shared, storage, 10)
        storage.ready.set()
        first, *others = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(first, JournalUnavailable)
        assert others == [[new_chunk(1, 3)]] * 9


async def test_after_a_failure_nobody_waits_for_another(new_chunk):
    """When a read fails, all who waited for it read at once, not one after the other."""
    failing, others = Storage(JournalUnavailable("not now")), Storage([new_chunk(1, 3)])
    shared = SharedReads()
    async with asyncio.timeout(HANGS):
        [first] = await begun(shared, failing, 1)
        waiting = await begun(shared, others, 10)
        failing.ready.set()
        await asyncio.wait({first})
        for _ in range(3):
            await asyncio.sleep(0)  # A turn of the loop, no time.
        assert others.asked == 10
        others.ready.set()
        assert await asyncio.gather(*waiting) == [[new_chunk(1, 3)]] * 10
        assert first.exception() is not None


async def test_that_there_is_nothing_is_not_shared(new_chunk):
    """Who waited for a read that found nothing reads itself: what came since would else wake nobody."""
    shared, storage = SharedReads(), Storage([], [new_chunk(1, 3)])
    async with asyncio.timeout(HANGS):
        tasks = await begun(shared, storage, 3)
        storage.ready.set()
        assert await asyncio.gather(*tasks) == [[], [new_chunk(1, 3)], [new_chunk(1, 3)]]
        assert await shared.read(WANTED, storage.load) == [new_chunk(1, 3)]


async def test_what_is_dropped_is_read_anew(new_chunk):
    """Who asks after a drop gets nothing that was read, or was being read, before it."""
    for drop in (lambda shared: shared.drop("e1"), SharedReads.clear):
        shared, before, after = SharedReads(), Storage([new_chunk(1, 3)]), Storage([new_chunk(1, 5)])
        after.ready.set()
        async with asyncio.timeout(HANGS):
            [reading] = await begun(shared, before, 1)
            drop(shared)
            assert await shared.read(WANTED, after.load) == [new_chunk(1, 5)]
            before.ready.set()
            assert await reading == [new_chunk(1, 3)]
            assert await shared.read(WANTED, after.load) == [new_chunk(1, 5)]
            drop(shared)
            await shared.read(WANTED, after.load)
            assert after.asked == 2


async def test_what_is_kept_is_bounded(new_chunk):
    """Only so many bytes are kept, and so many reads, of what was asked for last."""
    shared, size = SharedReads(), _MOST_BYTES // 4
    storage = Storage([new_chunk(1, 1, size=size)])
    storage.ready.set()
    async with asyncio.timeout(HANGS):
        for after in range(6):
            await shared.read(WANTED._replace(after=after), storage.load)
            await shared.read(WANTED, storage.load)
        assert storage.asked == 6
        await shared.read(WANTED._replace(after=1), storage.load)
        assert storage.asked == 7
        shared, small = SharedReads(), Storage([new_chunk(1, 1)])
        small.ready.set()
        for after in range(_MOST_READS + 1):
            await shared.read(WANTED._replace(after=after), small.load)
        await shared.read(WANTED._replace(after=1), small.load)
        assert small.asked == _MOST_READS + 1
        await shared.read(WANTED, small.load)
        assert small.asked == _MOST_READS + 2


async def test_followers_that_fall_behind_read_together(new_journal, new_record, new_chunk, append, monkeypatch):
    """A hundred followers of what is no longer in memory ask the storage about as often as one."""
    journal = await new_journal(tail_bytes=0)
    await journal.create(new_record())
    for first in range(1, 200, 10):
        await append(journal, "e1", new_chunk(first, 10))
    asked = 0
    load = journal._load

    async def counted(*args, **kwargs):
        nonlocal asked
        asked += 1
        return await load(*args, **kwargs)

    monkeypatch.setattr(journal, "_load", counted)

    async def follow(follower: Follower) -> list[int]:
        seen: list[int] = []
        while follower.sequence < 200:
            for chunk in await follower.read(max_events=20, max_bytes=1 << 20):
                seen += range(chunk.first, chunk.last + 1)
        return seen

    with ExitStack() as stack:
        followers = [stack.enter_context(journal.follow("e1", after=0)) for _ in range(100)]
        async with asyncio.timeout(HANGS):
            seen = await asyncio.gather(*map(follow, followers))
    assert all(sequences == list(range(1, 201)) for sequences in seen)
    assert asked < 3 * 10
