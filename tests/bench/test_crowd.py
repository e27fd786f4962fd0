"""How the crowd's watchers check what they get, by the ranges of messages or event by event."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable

import pytest

from stepwire.v1 import Event, EventBatch

from .crowd import count, decode
from .subject import Disorder

EVENTS = 6


def batch(first: int, last: int, *, after: int | None = None) -> bytes:
    """Returns a message with these events, which says that it goes on after `after`."""
    message = EventBatch(after_sequence=first - 1 if after is None else after, sequence=last)
    for number in range(first, last + 1):
        event = message.events.add(sequence=number, event_time={"seconds": number})
        if number == EVENTS:
            event.plan_completed.SetInParent()
        else:
            event.content.text = "m"
    return message.SerializeToString()


async def stream(messages: Iterable[bytes]) -> AsyncIterator[bytes]:
    for message in messages:
        yield message


WHOLE = [batch(1, 2), EventBatch(after_sequence=2, sequence=2).SerializeToString(), batch(3, 5), batch(6, 6)]


async def test_a_whole_stream_is_accepted() -> None:
    """Messages that follow each other to the end are accepted, also where one has no event."""
    begun = asyncio.Event()
    await count(stream(WHOLE), begun, EVENTS)
    assert begun.is_set()
    assert await decode(stream(WHOLE), begun, EVENTS) == 5.0


@pytest.mark.parametrize(
    "messages",
    [[batch(1, 2), batch(4, 6)], [batch(1, 2), batch(3, 5)], [], [batch(1, 3), batch(3, 6)]],
    ids=["a gap", "no end", "nothing", "twice"],
)
async def test_a_stream_with_a_gap_is_refused(messages: list[bytes]) -> None:
    """Messages that leave something out, bring something twice, or end too soon, are refused either way."""
    with pytest.raises(Disorder):
        await count(stream(messages), asyncio.Event(), EVENTS)
    with pytest.raises(Disorder):
        await decode(stream(messages), asyncio.Event(), EVENTS)


async def test_a_range_that_promises_too_much_is_found_by_decoding() -> None:
    """Who decodes counts events, and not what the message says of them."""
    with pytest.raises(Disorder, match="event 4 came where 3 should"):
        await decode(stream([batch(1, 2), batch(4, EVENTS, after=2)]), asyncio.Event(), EVENTS)


async def test_an_end_that_is_none_is_refused() -> None:
    """The last event must be the one that ends the execution."""
    unfinished = [EventBatch(sequence=1, events=[Event(sequence=1, content={"text": "m"})]).SerializeToString()]
    with pytest.raises(Disorder, match="not the end"):
        await decode(stream(unfinished), asyncio.Event(), 1)
