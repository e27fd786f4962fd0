"""Whatever an operation calls, starts or hands to a thread speaks for its step, at once."""

from __future__ import annotations

from pathlib import Path

from . import depths
from .serving import ServerProcess


def test_words_from_far_below_come_before_their_step_ends(tmp_path: Path) -> None:
    """What is said five calls deep, in threads, tasks and nodes of graphs reaches grpcurl while its step waits."""
    with ServerProcess(tmp_path, app="depths:app") as server:
        words = depths.run(server)
    print(depths.table(words))
    assert tuple(words) == depths.WAYS
    for way, word in words.items():
        assert word.emitted <= word.arrived <= word.ended, way
