"""What a client gives its user of what the server sends, whatever the messages look like."""

from __future__ import annotations

from tests.conformance.case import Case, execute
from tests.conformance.script import (
    HOLD,
    OK,
    batch,
    completed,
    cut_within,
    event,
    executed,
    numbers,
    until_shown,
    watched,
    welcome,
)

__all__ = ["READING"]

READING = (
    Case(
        name="plain",
        rule="Every event is given once, in order, and the stream ends with the terminal one.",
        command=execute(request_id="r-1"),
        calls=[
            executed(
                welcome(),
                batch(event(1, "plan_started"), event(2, "step_started")),
                numbers(3, 4),
                batch(event(5, "step_completed"), completed(6)),
                OK,
            )
        ],
        sees=[1, 2, 3, 4, 5, 6],
        outcome="completed",
    ),
    Case(
        name="cut-within-a-message",
        rule="A line that is cut within a message costs nothing: the client goes on after the last whole message.",
        command=execute(),
        calls=[
            executed(welcome(), numbers(1, 2), until_shown(2), cut_within(numbers(3, 4))),
            watched(2, welcome(2), numbers(3, 4), batch(completed(5)), OK, fresh=True),
        ],
        sees=[1, 2, 3, 4, 5],
        outcome="completed",
    ),
    Case(
        name="hole",
        rule="Where the ranges of two messages do not join, the call is ended and another opened from the cursor.",
        command=execute(),
        calls=[
            executed(welcome(), numbers(1, 2), numbers(4, 5), HOLD),
            watched(2, welcome(2), numbers(3, 4, 5), batch(completed(6)), OK),
        ],
        sees=[1, 2, 3, 4, 5, 6],
        outcome="completed",
    ),
)
