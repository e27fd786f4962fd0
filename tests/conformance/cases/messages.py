"""What a client gives its user of what a healthy server sends, whatever the messages look like."""

from __future__ import annotations

from tests.conformance.case import Case, execute, watch
from tests.conformance.script import (
    OK,
    batch,
    beats,
    completed,
    event,
    executed,
    piece,
    pieces,
    until_shown,
    watched,
    welcome,
    with_unknown_kind,
)

from stepwire.v1 import Event, EventBatch

__all__ = ["MESSAGES"]

_KINDS = [field.name for field in Event.DESCRIPTOR.oneofs_by_name["kind"].fields]
_NOT_TERMINAL = [kind for kind in _KINDS if kind not in ("plan_completed", "plan_failed", "plan_cancelled")]

_MIB = 1 << 20
_ENVELOPE = 200  # bytes that an event has beside its content, at most

_FAR = 5_000_000_000  # beyond 32 bits

_PLAN = {
    "name": "house",
    "steps": [{"id": "a", "operation": "dig"}, {"id": "b", "operation": "lay", "depends_on": ["a"]}],
}

MESSAGES = (
    Case(
        name="plain",
        rule="Every event is given once, in order, and the stream ends with the terminal one.",
        command=execute(request_id="r-1"),
        calls=[
            executed(
                welcome(),
                batch(event(1, "plan_started"), event(2, "step_started")),
                pieces(3, 4),
                batch(event(5, "step_completed"), completed(6)),
                OK,
            )
        ],
        sees=[1, 2, 3, 4, 5, 6],
        outcome="completed",
    ),
    Case(
        name="plan",
        rule="A plan is sent as it was given, and so is the interval of heartbeats.",
        command=execute(plan=_PLAN, heartbeat_seconds=2.5),
        calls=[executed(welcome(), batch(event(1, "plan_started"), completed(2)), OK)],
        sees=[1, 2],
        outcome="completed",
    ),
    Case(
        name="every-kind",
        rule="Events of every kind are given under the names that the contract has for them.",
        command=watch(),
        calls=[
            watched(
                0,
                welcome(),
                batch(*(event(number, kind) for number, kind in enumerate(_NOT_TERMINAL, 1))),
                batch(completed(len(_NOT_TERMINAL) + 1)),
                OK,
            )
        ],
        sees=range(1, len(_NOT_TERMINAL) + 2),
        outcome="completed",
    ),
    Case(
        name="texts-and-bytes",
        rule="Content comes byte for byte: text as UTF-8, of any script, and bytes that are no text.",
        command=watch(),
        calls=[
            watched(
                0,
                welcome(),
                batch(
                    piece(1, "Größe ≥ 3 €"),
                    piece(2, "\u6771\u4eac \U00010348 a\u0301\u0000\r\n"),
                    piece(3, ""),
                    piece(4, bytes(range(256))),
                    piece(5, b""),
                ),
                batch(completed(6)),
                OK,
            )
        ],
        sees=[1, 2, 3, 4, 5, 6],
        outcome="completed",
    ),
    Case(
        name="one-mib",
        rule="An event may have 1 MiB: it comes whole, and so does what follows it.",
        command=watch(),
        calls=[
            watched(
                0,
                welcome(),
                pieces(1),
                batch(piece(2, "\u00e4" * ((_MIB - _ENVELOPE) // 2))),
                batch(piece(3, bytes(_MIB - _ENVELOPE))),
                batch(completed(4)),
                OK,
            )
        ],
        sees=[1, 2, 3, 4],
        outcome="completed",
    ),
    Case(
        name="many",
        rule="Full messages, one after another, lose nothing.",
        command=watch(),
        calls=[
            watched(
                0,
                welcome(),
                *(pieces(*range(first, first + 512)) for first in range(1, 8 * 512, 512)),
                batch(completed(8 * 512 + 1)),
                OK,
            )
        ],
        sees=range(1, 8 * 512 + 2),
        outcome="completed",
    ),
    Case(
        name="silent",
        rule="An adapter that is asked to be silent counts the events, and says how long they took.",
        command=watch(silent=True),
        calls=[watched(0, welcome(), pieces(1, 2), pieces(3), batch(completed(4)), OK)],
        sees=[1, 2, 3, 4],
        outcome="completed",
    ),
    Case(
        name="far",
        rule="Sequences have 64 bits.",
        command=watch(after=_FAR),
        calls=[watched(_FAR, welcome(_FAR), pieces(_FAR + 1), batch(completed(_FAR + 2)), OK)],
        sees=[_FAR + 1, _FAR + 2],
        outcome="completed",
    ),
    Case(
        name="slow",
        rule="An event is given when it comes, and does not wait for another one, or for the end.",
        command=execute(heartbeat_seconds=0.5),
        calls=[
            executed(
                welcome(),
                pieces(1),
                until_shown(1),
                pieces(2),
                until_shown(2),
                pieces(3),
                until_shown(3),
                batch(completed(4)),
                OK,
            )
        ],
        sees=[1, 2, 3, 4],
        outcome="completed",
    ),
    Case(
        name="unknown-kind",
        rule="An event of a kind that the client does not know is an event: its envelope is true.",
        command=execute(),
        calls=[
            executed(
                welcome(),
                batch(piece(1), with_unknown_kind(event(2)), piece(3)),
                batch(with_unknown_kind(event(4))),
                batch(completed(5)),
                OK,
            )
        ],
        sees=[1, 2, 3, 4, 5],
        outcome="completed",
    ),
    Case(
        name="unknown-enum-value",
        rule="An event with an enum value that the client does not know is an event; so is a notice no reason to end.",
        command=execute(),
        calls=[
            executed(
                welcome(state=77),
                batch(piece(1), event(2, "step_progress", step_state=77, execution_state=78)),
                EventBatch(after_sequence=2, sequence=2, notice=79),
                batch(completed(3)),
                OK,
            )
        ],
        sees=[1, 2, 3],
        outcome="completed",
    ),
    Case(
        name="notices",
        rule="A message without events gives none: neither NOTICE_CAUGHT_UP nor a heartbeat, which fill the gaps.",
        command=watch(heartbeat_seconds=0.2),
        calls=[
            watched(
                0,
                welcome(),
                pieces(1, 2),
                EventBatch(after_sequence=2, sequence=2, notice=EventBatch.NOTICE_CAUGHT_UP),
                beats(2, every=0.05, times=3),
                pieces(3),
                batch(completed(4)),
                OK,
            )
        ],
        sees=[1, 2, 3, 4],
        outcome="completed",
    ),
    Case(
        name="filter",
        rule="The filter reaches the server, also when the stream is resumed; what it leaves out is no hole.",
        command=execute(filter={"kinds": ["content", "stage"], "step_ids": ["s1"]}, heartbeat_seconds=3),
        calls=[
            executed(welcome(), batch(piece(2), piece(5), after=0, to=5), until_shown(5), OK),
            watched(5, welcome(5), batch(piece(9), completed(11), after=5), OK),
        ],
        sees=[2, 5, 9, 11],
        outcome="completed",
    ),
    Case(
        name="another-start",
        rule="A stream may begin with what the cursor has behind it: the first message's range says where it begins.",
        command=watch(after=3),
        calls=[watched(3, welcome(3), pieces(2, 3, 4), batch(completed(5)), OK)],
        sees=[4, 5],
        outcome="completed",
    ),
)
