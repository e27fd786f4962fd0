"""Clients that give up too late or too early, or do not say why."""

from __future__ import annotations

import math
from typing import Any

from google.rpc import code_pb2, status_pb2

from stepwire import resume, transport
from stepwire.errors import CallFailed, CursorError, InternalError, LimitReached, StepwireError, reason_of
from stepwire.patience import Budget
from stepwire.resume import Resumption

from .fault import caught_by, instead_of


@caught_by("start-budget")
def never_gives_up() -> None:
    """It has no end to its patience."""
    instead_of(Budget, "is_spent")(lambda right, budget, at, *, resuming: False)


@caught_by("start-seconds")
def counts_failures_only() -> None:
    """It counts failures, and looks at no clock."""
    instead_of(Budget, "_seconds")(lambda right, budget, resuming: math.inf)


@caught_by("resume-budget")
def raises_the_last_status() -> None:
    """It raises the last status where its patience ends, as if the server had refused."""
    instead_of(Resumption, "_give_up")(lambda right, run, error: run._break(error))


@caught_by("details")
def tells_one_violation() -> None:
    """It tells the first thing that is wrong, and no other."""

    @instead_of(transport, "error_from_status")
    def error_from_status(right: Any, status: status_pb2.Status) -> StepwireError:
        error: StepwireError = right(status)
        error.violations = error.violations[:1]
        return error


@caught_by("cursor-expired")
def tries_an_old_cursor_again() -> None:
    """It hopes that events which are gone come back."""
    _try_again_after(lambda error: isinstance(error, CursorError))


@caught_by("refused-when-resuming")
def takes_nothing_for_final_once_begun() -> None:
    """Once a stream has begun, it tries again whatever the server says."""

    @instead_of(Resumption, "ended")
    def ended(right: Any, run: Resumption, error: StepwireError | None, now: float) -> None:
        if error is not None and run.welcomed:
            run._lose(error, now)
        else:
            right(run, error, now)


@caught_by("internal-error")
def tries_again_after_a_bug() -> None:
    """It looks at the code alone: INTERNAL passes."""
    _try_again_after(lambda error: isinstance(error, InternalError))


@caught_by("limit-without-a-time")
def tries_again_at_every_limit() -> None:
    """It takes every limit for one that passes."""
    _try_again_after(lambda error: isinstance(error, LimitReached))


@caught_by("code-of-the-transport")
def tries_again_after_any_code() -> None:
    """It takes all that is not Stepwire's for a fault of the line."""
    _try_again_after(lambda error: isinstance(error, CallFailed))


@caught_by("unknown-reason")
def is_lost_without_a_known_reason() -> None:
    """It makes UNKNOWN of a reason that its list lacks."""

    @instead_of(transport, "error_from_status")
    def error_from_status(right: Any, status: status_pb2.Status) -> StepwireError:
        error: StepwireError = right(status)
        if isinstance(error, CallFailed) and reason_of(status):
            error.status_code = code_pb2.UNKNOWN
        return error


def _try_again_after(unwise: Any) -> None:
    """Has the client try again after some errors that are final."""
    instead_of(resume, "can_pass")(lambda right, error: right(error) or unwise(error))
