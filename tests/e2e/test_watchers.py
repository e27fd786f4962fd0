"""Every watcher of an execution sees the same."""

from __future__ import annotations

import random

import pytest

from stepwire.v1 import Event, EventBatch

from . import watchers
from .serving import ServerProcess


async def test_all_watchers_see_the_same_bytes(sample: ServerProcess) -> None:
    """A hundred watchers, joined at random moments with random cursors, get the same bytes, dense from their cursor."""
    seed = random.SystemRandom().randrange(1 << 31)
    print(f"seed {seed}")
    outcome = await watchers.run(sample, watchers=100, events=3000, seed=seed)
    assert {watch.joined for watch in outcome.watches} == {"before", "during", "after"}
    assert not outcome.violations(expected=3000)


@pytest.mark.parametrize("harm", ["drop", "swap", "repeat", "change"])
def test_the_check_finds(harm: str) -> None:
    """The check of the watchers finds an event that is dropped, swapped, repeated or changed."""
    good = [Event(sequence=number, message="as it was").SerializeToString() for number in range(1, 10)]
    bad = list(good)
    match harm:
        case "drop":
            del bad[4]
        case "swap":
            bad[4], bad[5] = bad[5], bad[4]
        case "repeat":
            bad.insert(4, bad[4])
        case "change":
            bad[4] = Event(sequence=5, message="otherwise").SerializeToString()
    watches = [watchers.Watch(joined="before", after=0, frames=found) for found in (good, bad)]
    assert not watchers.Outcome(watches=watches[:1]).violations(expected=9)
    assert watchers.Outcome(watches=watches).violations(expected=9)


def test_frames_are_the_events() -> None:
    """The bytes that are taken from a message are those of its events."""
    events = [Event(sequence=number, message="x" * number * 100) for number in (1, 2, 3)]
    message = EventBatch(events=events, after_sequence=300, sequence=301, notice=EventBatch.NOTICE_CAUGHT_UP)
    assert [Event.FromString(frame) for frame in watchers.frames(message.SerializeToString())] == events
