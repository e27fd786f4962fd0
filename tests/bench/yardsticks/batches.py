"""Messages of 128 events: how the ceiling's server and the raw socket's make them, and how their clients check them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from tests.bench.event import build, is_end
from tests.bench.subject import Order

from stepwire.v1 import EventBatch

from .program import numbers

__all__ = ["PER_MESSAGE", "encoded", "see"]

PER_MESSAGE = 128
"""Events in one message."""


def encoded(events: int, *, skip: int = 0) -> Iterator[bytes]:
    """Yields an execution's messages, each event built when its message is: encoded, framed and joined."""
    rest = iter(numbers(events, skip=skip))
    while run := list(islice(rest, PER_MESSAGE)):
        frames = [_frame(build(number, end=number == events).SerializeToString()) for number in run]
        scalars = EventBatch(after_sequence=run[0] - 1, sequence=run[-1])
        yield b"".join(frames) + scalars.SerializeToString()


def _frame(event: bytes) -> bytes:
    """Returns an encoded event as it stands in EventBatch.events: field 2, length, bytes."""
    size = len(event)
    head = bytes((0x12, size)) if size < 0x80 else bytes((0x12, size & 0x7F | 0x80, size >> 7))
    return head + event


def see(batch: EventBatch, order: Order) -> None:
    """Checks each number of a message, and whether its last event, and no other message's, is the end.

    As far as all is well this costs a tenth of a microsecond an event: here the check must not be what is measured.
    """
    found = [event.sequence for event in batch.events]
    count = len(found)
    if count > 1 and found == list(range(order.seen + 1, order.seen + count + 1)):
        order.seen += count - 1
    else:
        for number in found[:-1]:
            order.see(number)
    last = batch.events[-1]
    order.see(last.sequence, is_end(last))
