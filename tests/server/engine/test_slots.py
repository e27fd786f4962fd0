"""Slots of steps: a bound, and who has begun goes first."""

from __future__ import annotations

import asyncio

from stepwire_server.engine.slots import Slots

from .rig import turns


def slots_of(bound: int) -> tuple[Slots, list[str]]:
    told: list[str] = []
    return Slots(bound, lambda: told.append("free")), told


def test_slots_are_taken_and_left():
    """As many slots are free as were given, minus those taken; to take one, or to leave it, twice is once."""
    slots, told = slots_of(2)
    for index in (1, 1, 2):
        assert slots.free
        slots.take(index)
    assert not slots.free
    assert slots.taken(1)
    slots.leave(1)
    slots.leave(1)
    assert slots.free
    assert not slots.taken(1)
    slots.take(3)
    assert not slots.free
    assert told


async def test_who_comes_back_is_before_who_starts():
    """A slot that becomes free is given to those that wait to come back, in their order, and told to nobody else until
    none of them waits.
    """
    slots, told = slots_of(1)
    slots.take(1)
    coming = {index: asyncio.create_task(slots.back(index)) for index in (3, 2)}
    await turns(2)
    order = []
    for held, then in ((1, 3), (3, 2)):
        slots.leave(held)
        assert not slots.free
        await turns(2)
        order.append([index for index, task in coming.items() if task.done()])
        assert slots.taken(then)
    assert order == [[3], [3, 2]]
    assert told == []
    slots.leave(2)
    assert told == ["free"]


async def test_who_has_a_slot_or_finds_one_is_back_at_once():
    """To come back takes no time where a slot is free, or the step's own."""
    slots, _ = slots_of(1)
    await asyncio.wait_for(slots.back(1), 5)
    await asyncio.wait_for(slots.back(1), 5)
    assert not slots.free


async def test_who_waits_and_leaves_waits_no_more():
    """A step that ends while it waits to come back takes no slot with it."""
    slots, told = slots_of(1)
    slots.take(1)
    gone, other = asyncio.create_task(slots.back(2)), asyncio.create_task(slots.back(3))
    await turns(2)
    slots.leave(2)
    await asyncio.wait_for(gone, 5)
    assert not slots.taken(2)
    slots.leave(1)
    await asyncio.wait_for(other, 5)
    assert slots.taken(3)
    assert told == []


async def test_at_the_end_all_come_back():
    """Once the bound is lifted nobody waits."""
    slots, _ = slots_of(1)
    slots.take(1)
    coming = [asyncio.create_task(slots.back(index)) for index in (2, 3)]
    await turns(2)
    slots.lift()
    await asyncio.wait_for(asyncio.gather(*coming, slots.back(4)), 5)
