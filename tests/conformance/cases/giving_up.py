"""When a client stops trying, and what it says then."""

from __future__ import annotations

from tests.conformance.case import Case, execute, watch
from tests.conformance.script import (
    executed,
    info,
    pieces,
    refuse,
    status,
    watched,
    welcome,
)

__all__ = ["GIVING_UP"]

_VIOLATIONS = [
    {"field": "plan.steps[0].id", "description": "must match [A-Za-z0-9_-]{1,64}"},
    {"field": "plan.steps[3].depends_on[0]", "description": "\u201cb\u201d is no step of this plan"},
]

GIVING_UP = (
    Case(
        name="start-budget",
        rule="So many failures in a row before the first message, and the last one is raised.",
        command=execute(patience={"start_failures": 3}),
        calls=[
            executed(status("UNAVAILABLE", "first")),
            executed(status("UNAVAILABLE", "second")),
            executed(status("UNAVAILABLE", "third")),
        ],
        error={"kind": "refused", "code": "UNAVAILABLE", "reason": "", "message": "third"},
    ),
    Case(
        name="start-seconds",
        rule="So many seconds of failures before the first message spend the budget, too: the last one is raised.",
        command=execute(patience={"start_seconds": 1}),
        calls=[executed(refuse("LIMIT_EXECUTIONS", "Too many run.", retry_after=1.5))],
        error={"kind": "refused", "code": "RESOURCE_EXHAUSTED", "reason": "LIMIT_EXECUTIONS"},
    ),
    Case(
        name="resume-budget",
        rule="So many failures in a row after the first message: the stream is broken, and the cursor is told.",
        command=execute(patience={"resume_failures": 3}),
        calls=[
            executed(welcome(), pieces(1, 2), status("UNAVAILABLE")),
            watched(2, status("UNAVAILABLE")),
            watched(2, welcome(2), status("UNAVAILABLE")),
        ],
        sees=[1, 2],
        error={"kind": "broken", "reason": ""},
    ),
    Case(
        name="details",
        rule="A refusal has its reason, its message and every violation, and is not tried again.",
        command=execute(),
        calls=[
            executed(
                refuse(
                    "PLAN_INVALID",
                    "The plan is wrong in 2 places.",
                    violations=[(violation["field"], violation["description"]) for violation in _VIOLATIONS],
                )
            )
        ],
        error={
            "kind": "refused",
            "code": "INVALID_ARGUMENT",
            "reason": "PLAN_INVALID",
            "message": "The plan is wrong in 2 places.",
            "violations": _VIOLATIONS,
        },
    ),
    Case(
        name="cursor-expired",
        rule="A cursor whose events are gone is refused at once, with what is left.",
        command=watch(after=7),
        calls=[
            watched(
                7,
                refuse(
                    "CURSOR_EXPIRED",
                    "The events after 7 are gone.",
                    metadata={"first_sequence": "101", "last_sequence": "250"},
                ),
            )
        ],
        error={
            "kind": "refused",
            "code": "OUT_OF_RANGE",
            "reason": "CURSOR_EXPIRED",
            "metadata": {"first_sequence": "101", "last_sequence": "250"},
        },
    ),
    Case(
        name="refused-when-resuming",
        rule="What is final is final when resuming, too, and the cursor is told.",
        command=execute(),
        calls=[
            executed(welcome(), pieces(1, 2), status("UNAVAILABLE")),
            watched(2, refuse("EXECUTION_NOT_FOUND", "There is no such execution.")),
        ],
        sees=[1, 2],
        error={"kind": "refused", "code": "NOT_FOUND", "reason": "EXECUTION_NOT_FOUND"},
    ),
    Case(
        name="internal-error",
        rule="INTERNAL with a reason is the server's own, and final: only the transport's passes.",
        command=execute(),
        calls=[executed(refuse("INTERNAL_ERROR", "A bug: 4711."))],
        error={"kind": "refused", "code": "INTERNAL", "reason": "INTERNAL_ERROR", "message": "A bug: 4711."},
    ),
    Case(
        name="limit-without-a-time",
        rule="RESOURCE_EXHAUSTED without a time to wait is final.",
        command=execute(),
        calls=[executed(refuse("LIMIT_SIZE", "The request is too large."))],
        error={"kind": "refused", "code": "RESOURCE_EXHAUSTED", "reason": "LIMIT_SIZE"},
    ),
    Case(
        name="code-of-the-transport",
        rule="Other codes without a reason are final, and have none.",
        command=execute(),
        calls=[executed(status("PERMISSION_DENIED", "not for you"))],
        error={"kind": "refused", "code": "PERMISSION_DENIED", "reason": "", "message": "not for you"},
    ),
    Case(
        name="unknown-reason",
        rule="A reason that the client does not know leaves the code and the message true.",
        command=execute(),
        calls=[executed(status("FAILED_PRECONDITION", "Not on Sundays.", info("SUNDAY")))],
        error={"kind": "refused", "code": "FAILED_PRECONDITION", "message": "Not on Sundays."},
    ),
)
