"""What of an execution stays in memory."""

from __future__ import annotations

import pytest

from stepwire_server.journal import tail
from stepwire_server.journal.chunk import Chunk

CHUNKS = 20_000


def test_a_read_looks_at_no_more_than_it_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many small chunks are kept, a read from anywhere looks at what it gives, and at few others."""
    tails = tail.Tails(each_bytes=1 << 20, all_bytes=1 << 20)
    for sequence in range(1, CHUNKS + 1):
        tails.add("e", Chunk(first=sequence, data=b"x" * 10, ends=[10], kinds=b"\x05"))
    looked: list[int] = []
    last = Chunk.last.fget
    assert last is not None
    monkeypatch.setattr(Chunk, "last", property(lambda chunk: looked.append(chunk.first) or last(chunk)))
    for after in (0, 1, CHUNKS // 2, CHUNKS - 512, CHUNKS - 1):
        looked.clear()
        found = tails.read("e", after=after, max_events=512, max_bytes=1 << 20)
        assert found is not None
        assert [chunk.first for chunk in found] == list(range(after + 1, min(after + 512, CHUNKS) + 1))
        assert len(looked) < 100
