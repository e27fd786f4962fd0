"""How a stream comes to its end."""

from __future__ import annotations

from tests.conformance.case import Case, execute, watch
from tests.conformance.script import (
    CUT,
    HOLD,
    OK,
    batch,
    completed,
    event,
    executed,
    piece,
    pieces,
    status,
    until_shown,
    watched,
    welcome,
)

__all__ = ["ENDS"]

_COMPLETED = 6  # ExecutionState

ENDS = (
    Case(
        name="failed",
        rule="An execution that failed ends its stream well: the outcome is in the terminal event.",
        command=execute(),
        calls=[executed(welcome(), pieces(1, 2), batch(event(3, "plan_failed", execution_state=7)), OK)],
        sees=[1, 2, 3],
        outcome="failed",
    ),
    Case(
        name="cancelled",
        rule="An execution that was cancelled ends its stream well.",
        command=execute(),
        calls=[executed(welcome(), pieces(1, 2), batch(event(3, "plan_cancelled", execution_state=8)), OK)],
        sees=[1, 2, 3],
        outcome="cancelled",
    ),
    Case(
        name="cut-after-the-terminal-event",
        rule="The terminal event ends the stream, also where the line goes before the status.",
        command=execute(),
        calls=[executed(welcome(), pieces(1, 2), batch(completed(3)), until_shown(3), CUT)],
        sees=[1, 2, 3],
        outcome="completed",
    ),
    Case(
        name="status-after-the-terminal-event",
        rule="The terminal event ends the stream, whatever status follows.",
        command=execute(),
        calls=[executed(welcome(), pieces(1, 2), batch(completed(3)), status("UNAVAILABLE"))],
        sees=[1, 2, 3],
        outcome="completed",
    ),
    Case(
        name="nothing-after-the-terminal-event",
        rule="The terminal event ends the stream, also where no status follows: the client ends the call.",
        command=execute(),
        calls=[executed(welcome(), pieces(1, 2), batch(completed(3)), HOLD)],
        sees=[1, 2, 3],
        outcome="completed",
    ),
    Case(
        name="event-after-the-terminal-event",
        rule="An event after the terminal one breaks the contract, where it comes before the status.",
        command=execute(),
        calls=[executed(welcome(), pieces(1, 2), batch(completed(3)), batch(piece(4)), OK)],
        sees=[1, 2, 3],
        error={"kind": "broken", "reason": ""},
    ),
    Case(
        name="event-behind-the-terminal-event",
        rule="An event after the terminal one breaks the contract, where it comes in the same message.",
        command=execute(heartbeat_seconds=0.5),
        calls=[executed(welcome(), batch(piece(1), piece(2), completed(3), piece(4)), HOLD)],
        sees=[1, 2, 3],
        error={"kind": "broken", "reason": ""},
    ),
    Case(
        name="nothing-left",
        rule="Where the execution ended at or before the cursor, nothing comes, and that is no failure.",
        command=watch(after=9),
        calls=[watched(9, welcome(9, state=_COMPLETED), OK)],
        outcome="over",
    ),
    Case(
        name="something-left",
        rule="An execution that has ended behind the cursor is not over: an OK means to watch again.",
        command=watch(after=2),
        calls=[
            watched(2, welcome(2, state=_COMPLETED, last=4), pieces(3), OK),
            watched(3, welcome(3, state=_COMPLETED, last=4), batch(completed(4)), OK),
        ],
        sees=[3, 4],
        outcome="completed",
    ),
    Case(
        name="leaving",
        rule="Whoever stops reading ends the call: the server learns of it.",
        command=execute(heartbeat_seconds=0.5, stop_after=2),
        calls=[executed(welcome(), pieces(1, 2, 3), HOLD, goodbye=True)],
        sees=[1, 2],
        outcome="stopped",
    ),
)
