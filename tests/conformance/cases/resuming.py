"""How a stream goes on when its line, its call or its server is gone."""

from __future__ import annotations

from tests.conformance.case import Case, execute, watch
from tests.conformance.script import (
    CUT,
    HOLD,
    OK,
    batch,
    beats,
    completed,
    cut_within,
    draining,
    executed,
    info,
    pause,
    pieces,
    refuse,
    retry_in,
    status,
    until_shown,
    watched,
    welcome,
)

__all__ = ["RESUMING"]

_BEAT = 0.2
_SILENCE = 2 * _BEAT + 1  # seconds after which a call that says nothing is dead
_OPENING = 3  # seconds for a stream to begin: enough for a process that has just begun, on a busy machine
_SOON = 2.0  # seconds within which comes what comes at once, on a busy machine

_END = (pieces(3), batch(completed(4)), OK)

RESUMING = (
    Case(
        name="cut-within-a-message",
        rule="A line that is cut within a message costs nothing: the client goes on after the last whole message.",
        command=execute(),
        calls=[
            executed(welcome(), pieces(1, 2), until_shown(2), cut_within(pieces(3, 4))),
            watched(2, welcome(2), pieces(3, 4), batch(completed(5)), OK, fresh=True),
        ],
        sees=[1, 2, 3, 4, 5],
        outcome="completed",
    ),
    Case(
        name="cut-again-and-again",
        rule="A stream outlives any number of cuts, as long as each call brings something.",
        command=execute(patience={"resume_failures": 2}),
        calls=[
            executed(welcome(), pieces(1), until_shown(1), CUT),
            *(watched(n, welcome(n), pieces(n + 1), until_shown(n + 1), CUT, fresh=True) for n in range(1, 6)),
            watched(6, welcome(6), batch(completed(7)), OK, fresh=True),
        ],
        sees=range(1, 8),
        outcome="completed",
    ),
    Case(
        name="cut-before-the-first-message",
        rule="Execute is sent again with the request id that the client made, as long as no message has come.",
        command=execute(),
        calls=[executed(CUT), executed(CUT, fresh=True), executed(welcome(), pieces(1, 2), *_END, fresh=True)],
        sees=[1, 2, 3, 4],
        outcome="completed",
    ),
    Case(
        name="cut-after-the-first-message",
        rule="Once a message has come, Execute is never sent again, even where it had no event.",
        command=execute(request_id="r-2"),
        calls=[
            # What has come when the line goes may be lost: it needs a moment to be read.
            executed(welcome(), pause(0.5), CUT),
            watched(0, welcome(), pieces(1, 2), *_END, fresh=True),
        ],
        sees=[1, 2, 3, 4],
        outcome="completed",
    ),
    Case(
        name="only-the-sequence-moves",
        rule="The cursor passes what a filter left out, so that it is not read again after a cut.",
        command=execute(filter={"kinds": ["stage"]}),
        calls=[
            executed(welcome(), batch(after=0, to=20), batch(after=20, to=50), status("UNAVAILABLE")),
            watched(50, welcome(50), batch(completed(60), after=50), OK),
        ],
        sees=[60],
        outcome="completed",
    ),
    Case(
        name="ok-without-a-terminal-event",
        rule="An OK without a terminal event means: watch again from the cursor.",
        command=execute(),
        calls=[executed(welcome(), pieces(1, 2), OK), watched(2, welcome(2), *_END)],
        sees=[1, 2, 3, 4],
        outcome="completed",
    ),
    Case(
        name="draining-notice",
        rule="NOTICE_DRAINING: on a new connection, at once, and it is no failure.",
        command=execute(heartbeat_seconds=0.5, patience={"initial_delay": 10, "max_delay": 10, "resume_failures": 1}),
        calls=[
            executed(welcome(), pieces(1, 2), draining(2), HOLD),
            watched(2, welcome(2), *_END, fresh=True, most=_SOON),
        ],
        sees=[1, 2, 3, 4],
        outcome="completed",
    ),
    Case(
        name="draining-status",
        rule="The status DRAINING: from the cursor, on a new connection.",
        command=execute(),
        calls=[
            executed(welcome(), pieces(1, 2), refuse("DRAINING", "The server is going.", retry_after=0.1)),
            watched(2, welcome(2), *_END, fresh=True, least=0.1),
        ],
        sees=[1, 2, 3, 4],
        outcome="completed",
    ),
    Case(
        name="draining-at-the-start",
        rule="The status DRAINING in place of the first message: Execute again, on a new connection.",
        command=execute(),
        calls=[
            executed(refuse("DRAINING", "The server is going.")),
            executed(welcome(), pieces(1, 2), *_END, fresh=True),
        ],
        sees=[1, 2, 3, 4],
        outcome="completed",
    ),
    Case(
        name="silence",
        rule="A call that says nothing for two heartbeat intervals and a second is dead: another, on a new connection.",
        command=execute(heartbeat_seconds=_BEAT),
        calls=[
            executed(welcome(), pieces(1, 2), HOLD),
            watched(2, welcome(2), *_END, fresh=True, least=_SILENCE, most=_SILENCE + _SOON),
        ],
        sees=[1, 2, 3, 4],
        outcome="completed",
    ),
    Case(
        name="silence-from-the-start",
        rule="A call whose first message does not come in time is dead: Execute again, on a new connection.",
        command=execute(opening_seconds=_OPENING),
        calls=[
            executed(HOLD),
            executed(welcome(), pieces(1, 2), *_END, fresh=True, most=_OPENING + _SOON),
        ],
        sees=[1, 2, 3, 4],
        outcome="completed",
    ),
    Case(
        name="heartbeats",
        rule="Heartbeats keep a quiet stream alive, for as long as it is quiet.",
        command=execute(heartbeat_seconds=_BEAT),
        calls=[executed(welcome(), pieces(1, 2), beats(2, every=_BEAT, times=12), *_END)],
        sees=[1, 2, 3, 4],
        outcome="completed",
    ),
    Case(
        name="unavailable-ten-times",
        rule="A server that is unavailable is asked again, after the waits that the caller's patience has.",
        command=execute(request_id="r-3", patience={"start_failures": 12}),
        calls=[
            executed(status("UNAVAILABLE")),
            *(executed(status("UNAVAILABLE"), most=_SOON) for _ in range(9)),
            executed(welcome(), pieces(1, 2), *_END, most=_SOON),
        ],
        sees=[1, 2, 3, 4],
        outcome="completed",
    ),
    Case(
        name="codes-that-pass",
        rule="UNKNOWN, INTERNAL, CANCELLED and DEADLINE_EXCEEDED of the transport pass; UNAVAILABLE always does.",
        command=execute(),
        calls=[
            executed(status("UNKNOWN")),
            executed(status("INTERNAL")),
            executed(welcome(), pieces(1, 2), status("CANCELLED")),
            watched(2, status("DEADLINE_EXCEEDED")),
            watched(2, status("UNAVAILABLE", "no upstream", info("NO_UPSTREAM", domain="proxy.example"))),
            watched(2, refuse("JOURNAL_UNAVAILABLE", "The journal can't be reached.")),
            watched(2, welcome(2), *_END),
        ],
        sees=[1, 2, 3, 4],
        outcome="completed",
    ),
    Case(
        name="retry-info",
        rule="A status with RetryInfo is heeded: the call comes again, and not before that time.",
        command=execute(),
        calls=[
            executed(refuse("LIMIT_EXECUTIONS", "Too many run.", retry_after=0.6)),
            executed(status("RESOURCE_EXHAUSTED", "too fast", retry_in(0.4)), least=0.6, most=0.6 + _SOON),
            executed(welcome(), pieces(1, 2), *_END, least=0.4, most=0.4 + _SOON),
        ],
        sees=[1, 2, 3, 4],
        outcome="completed",
    ),
    Case(
        name="news-fills-the-budget",
        rule="A new event fills the budget for resuming again.",
        command=execute(patience={"resume_failures": 2}),
        calls=[
            executed(welcome(), pieces(1), status("UNAVAILABLE")),
            watched(1, welcome(1), pieces(2), status("UNAVAILABLE")),
            watched(2, welcome(2), pieces(3), status("UNAVAILABLE")),
            watched(3, welcome(3), batch(completed(4)), OK),
        ],
        sees=[1, 2, 3, 4],
        outcome="completed",
    ),
    Case(
        name="heartbeats-fill-the-budget",
        rule="A heartbeat fills the budget for resuming again: a quiet execution may be quiet for days.",
        command=watch(heartbeat_seconds=_BEAT, patience={"resume_failures": 2}),
        calls=[
            *(watched(0, welcome(), beats(0, every=_BEAT, times=1), status("UNAVAILABLE")) for _ in range(4)),
            watched(0, welcome(), pieces(1, 2), *_END),
        ],
        sees=[1, 2, 3, 4],
        outcome="completed",
    ),
)
