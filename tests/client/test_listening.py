"""When silence is the server's, and when nobody has listened."""

from __future__ import annotations

import threading

import pytest

from stepwire import aio
from stepwire.listening import Listening
from stepwire.patience import Patience

from .scripted import ScriptedServer, batch, completed, numbers, welcome


def listening(within: float = 5.0) -> Listening:
    """One that expects a message since 0 s."""
    made = Listening()
    made.expect(0.0, within=within)
    return made


def test_listened_all_the_while() -> None:
    """Who has listened since the last message notices silence at its time."""
    made = listening()
    assert made.left(0) == 5
    assert made.left(4) == 1
    assert made.is_over(5)


@pytest.mark.parametrize(("at", "left"), [(0, 5), (3.5, 1.5), (4.5, 1), (40, 1)])
def test_begins_late(at: float, left: float) -> None:
    """Who comes late listens for a moment at least."""
    assert listening().left(at) == left


def test_a_short_time_stays_short() -> None:
    """The moment is no longer than the time in which the message was due."""
    assert listening(0.25).left(1) == 0.25


def test_noticed_late() -> None:
    """A silence that is noticed late gets a moment more, once."""
    made = listening()
    made.left(0)
    assert not made.is_over(9)
    assert made.left(9) == 1
    assert made.is_over(20)


def test_again_and_again() -> None:
    """A reader that leaves each half second and comes back notices silence, too."""
    made = listening()
    times = [half / 2 for half in range(20) if made.left(half / 2) > 0]
    assert times[-1] == 4.5


def test_after_a_message() -> None:
    """After the next message both are given again."""
    made = listening()
    made.left(0)
    made.is_over(9)
    made.expect(9, within=5)
    assert made.left(20) == 1
    assert not made.is_over(30)


async def test_a_body_that_blocks_the_loop(server: ScriptedServer, hasty: Patience) -> None:
    """A loop body that lets nothing else run for longer than silence lasts loses no connection by it."""
    let_on = threading.Event()
    server.plays([welcome(), numbers(1), let_on, numbers(2), batch(completed(3))])
    seen: list[int] = []
    async with aio.Client(server.target, patience=hasty) as client:
        async for event in await client.watch("e-1", heartbeat_interval=0.1):
            seen.append(event.sequence)
            if event.sequence == 1:
                let_on.set()
                threading.Event().wait(1.5)  # silence is 1.2 s
    assert seen == [1, 2, 3]
    assert server.names() == ["WatchExecution"]
