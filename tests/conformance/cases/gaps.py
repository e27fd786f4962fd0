"""What a client does with what comes twice, or not at all."""

from __future__ import annotations

from tests.conformance.case import Case, execute, watch
from tests.conformance.script import (
    HOLD,
    OK,
    batch,
    completed,
    executed,
    piece,
    pieces,
    status,
    watched,
    welcome,
)

from stepwire.v1 import Event

__all__ = ["GAPS"]

_BEAT = 1.0
_SOON = 2.0  # seconds within which a hole is noticed: before the silence that follows it is, after 2 * _BEAT + 1


def _foreign(sequence: int) -> Event:
    made = piece(sequence)
    made.execution_id = "e-2"
    return made


_FOREIGN_WELCOME = welcome(2)
_FOREIGN_WELCOME.execution.execution_id = "e-2"

_FILTER = {"kinds": ["content"]}

GAPS = (
    Case(
        name="duplicates",
        rule="An event at or below the last one is a duplicate, on the same stream or on the next, and is dropped.",
        command=execute(heartbeat_seconds=_BEAT),
        calls=[
            executed(welcome(), pieces(1, 2), pieces(1, 2), pieces(2, 3), OK),
            watched(3, welcome(3), pieces(1, 2, 3, 4), pieces(3, 4), batch(completed(5)), OK),
        ],
        sees=[1, 2, 3, 4, 5],
        outcome="completed",
    ),
    Case(
        name="hole",
        rule="Where the ranges of two messages do not join, the call is ended and another opened from the cursor.",
        command=execute(heartbeat_seconds=_BEAT),
        calls=[
            executed(welcome(), pieces(1, 2), pieces(4, 5), HOLD),
            watched(2, welcome(2), pieces(3, 4, 5), batch(completed(6)), OK, most=_SOON),
        ],
        sees=[1, 2, 3, 4, 5, 6],
        outcome="completed",
    ),
    Case(
        name="hole-at-the-start",
        rule="A stream that begins after the cursor has a hole.",
        command=watch(after=2, heartbeat_seconds=_BEAT),
        calls=[
            watched(2, welcome(4), pieces(5, 6), HOLD),
            watched(2, welcome(2), pieces(3, 4, 5, 6), batch(completed(7)), OK, most=_SOON),
        ],
        sees=[3, 4, 5, 6, 7],
        outcome="completed",
    ),
    Case(
        name="hole-within-a-message",
        rule="Without a filter, a message that leaves out a sequence has a hole: what came before it is given.",
        command=execute(heartbeat_seconds=_BEAT),
        calls=[
            executed(welcome(), batch(piece(1), piece(2), piece(4), after=0), HOLD),
            watched(2, welcome(2), pieces(3, 4), batch(completed(5)), OK, most=_SOON),
        ],
        sees=[1, 2, 3, 4, 5],
        outcome="completed",
    ),
    Case(
        name="hole-at-the-end-of-a-message",
        rule="Without a filter, a message that says it covers more than it has, has a hole.",
        command=execute(heartbeat_seconds=_BEAT),
        calls=[
            executed(welcome(), pieces(1, 2, to=3), HOLD),
            watched(2, welcome(2), pieces(3, 4), batch(completed(5)), OK, most=_SOON),
        ],
        sees=[1, 2, 3, 4, 5],
        outcome="completed",
    ),
    Case(
        name="filtered-hole",
        rule="With a filter sequences may be left out, but the ranges of messages must join all the same.",
        command=execute(filter=_FILTER, heartbeat_seconds=_BEAT),
        calls=[
            executed(welcome(), batch(piece(2), piece(5), after=0, to=6), batch(piece(9), after=7), HOLD),
            watched(6, welcome(6), batch(piece(7), piece(9), after=6), batch(completed(12), after=9), OK, most=_SOON),
        ],
        sees=[2, 5, 7, 9, 12],
        outcome="completed",
    ),
    Case(
        name="hole-for-ever",
        rule="A hole is a failure: one that comes again and again spends the budget, and the stream is broken.",
        command=execute(heartbeat_seconds=_BEAT, patience={"resume_failures": 3}),
        calls=[
            executed(welcome(), pieces(1, 2), pieces(4), HOLD),
            watched(2, welcome(2), pieces(4), HOLD),
            watched(2, welcome(2), pieces(4), HOLD),
        ],
        sees=[1, 2],
        error={"kind": "broken", "reason": ""},
    ),
    Case(
        name="another-execution",
        rule="A message with another execution's events breaks the contract: none of them is given.",
        command=execute(heartbeat_seconds=_BEAT),
        calls=[executed(welcome(), pieces(1, 2), batch(_foreign(3)), HOLD)],
        sees=[1, 2],
        error={"kind": "broken", "reason": ""},
    ),
    Case(
        name="another-execution-when-resuming",
        rule="A stream that is resumed and begins with another execution breaks the contract.",
        command=execute(heartbeat_seconds=_BEAT),
        calls=[
            executed(welcome(), pieces(1, 2), status("UNAVAILABLE")),
            watched(2, _FOREIGN_WELCOME, batch(_foreign(3)), HOLD),
        ],
        sees=[1, 2],
        error={"kind": "broken", "reason": ""},
    ),
)
