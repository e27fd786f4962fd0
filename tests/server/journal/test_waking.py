"""A follower's wake-up: it ends a wait, and stands where nobody waits."""

from __future__ import annotations

import asyncio

import pytest

from stepwire_server.journal.waking import Waking

HANGS = 20.0


class Asleep(Waking):
    """One that has looked, and found nothing."""

    __slots__ = ()

    def look(self) -> None:
        self._woken = False


async def test_a_wake_up_stands_until_the_next_look() -> None:
    """A wake-up that comes between a look and a wait ends that wait, and each further one until the next look."""
    asleep = Asleep()
    asleep.look()
    asleep.wake()
    async with asyncio.timeout(HANGS):
        assert await asleep.wait()
        assert await asleep.wait()
    asleep.look()
    assert not asleep.wait().done()


async def test_a_reminder_does_not_stand() -> None:
    """A reminder ends the wait that goes on and no other one, and takes no wake-up away that comes right after it."""
    asleep = Asleep()
    asleep.look()
    assert not asleep.remind()
    waiting = asleep.wait()
    assert not waiting.done()
    assert asleep.remind()
    asleep.wake()
    async with asyncio.timeout(HANGS):
        assert not await waiting
        assert await asleep.wait()


async def test_a_wait_can_be_cancelled() -> None:
    """A wait that was cancelled stands in nobody's way: the next one is woken."""
    asleep = Asleep()
    asleep.look()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await asleep.wait()
    asleep.wake()
    asleep.look()
    waiting = asleep.wait()
    asleep.wake()
    async with asyncio.timeout(HANGS):
        assert await waiting
