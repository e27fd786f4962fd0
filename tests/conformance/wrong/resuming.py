"""Clients that resume, but not where, when or how they should."""

from __future__ import annotations

import dataclasses
import secrets
from datetime import timedelta
from typing import Any

from google.rpc import code_pb2

from stepwire import patience, resume
from stepwire.errors import CallFailed, Draining, StepwireError
from stepwire.patience import Budget
from stepwire.resume import Resumption
from stepwire.run import BaseRun
from stepwire.steps import Open, Step
from stepwire.v1 import EventBatch

from .fault import caught_by, instead_of


@caught_by("cut-within-a-message")
def resumes_one_too_far() -> None:
    """It takes the cursor for the next event, and so leaves one out."""

    @instead_of(Resumption, "step")
    def step(right: Any, run: Resumption, now: float) -> Step:
        asked = right(run, now)
        is_watch = isinstance(asked, Open) and not asked.execute
        return dataclasses.replace(asked, after_sequence=asked.after_sequence + 1) if is_watch else asked


@caught_by("cut-again-and-again")
def never_forgives() -> None:
    """It counts all failures that there ever were, not those in a row."""
    instead_of(Budget, "refill")(lambda right, budget: None)


@caught_by("cut-before-the-first-message")
def makes_new_request_ids() -> None:
    """It makes a request id for each call: the work is done twice."""

    asked: list[BaseRun] = []

    @instead_of(BaseRun, "_call_for")
    def call(right: Any, run: BaseRun, step: Any) -> Any:
        method, request = right(run, step)
        if run in asked and not run.execution_id:
            request.request_id = secrets.token_urlsafe(16)
        asked.append(run)
        return method, request


@caught_by("cut-after-the-first-message")
def begins_anew_without_events() -> None:
    """It sends Execute again as long as it has no event."""

    @instead_of(Resumption, "step")
    def step(right: Any, run: Resumption, now: float) -> Step:
        asked = right(run, now)
        return dataclasses.replace(asked, execute=not run._accepted) if isinstance(asked, Open) else asked


@caught_by("only-the-sequence-moves")
def has_events_for_its_cursor() -> None:
    """Its cursor moves with events alone."""

    @instead_of(Resumption, "_accept")
    def accept(right: Any, run: Resumption, batch: EventBatch) -> str:
        before = run._accepted
        batch.after_sequence = min(batch.after_sequence, before)
        hole = right(run, batch)
        run._accepted = max([before, *(event.sequence for event in batch.events)])
        return str(hole)


@caught_by("ok-without-a-terminal-event")
def takes_any_ok_for_the_end() -> None:
    """It ends where the call ends OK."""
    instead_of(Resumption, "_has_nothing_left")(lambda right, run: True)


@caught_by("draining-notice")
def takes_the_notice_for_a_failure() -> None:
    """It counts a notice that the server is going as a failure, and backs off."""

    @instead_of(Resumption, "_again")
    def again(right: Any, run: Resumption, error: StepwireError | None, now: float, **how: Any) -> None:
        right(run, error or Draining("The server is going."), now, **how)


@caught_by("draining-status")
def stays_on_its_connection() -> None:
    """It resumes over the connection to the server that is going."""
    _stay(lambda run, error: isinstance(error, Draining))


@caught_by("draining-at-the-start")
def takes_draining_for_final() -> None:
    """It gives up where the first server that it finds is going."""

    @instead_of(resume, "can_pass")
    def can_pass(right: Any, error: StepwireError) -> bool:
        return right(error) and not isinstance(error, Draining)


@caught_by("silence")
def stays_on_a_dead_connection() -> None:
    """It resumes over the connection that said nothing."""
    _stay(lambda run, error: run.welcomed)


@caught_by("silence-from-the-start")
def takes_silence_for_final() -> None:
    """It gives up where the first message does not come in time."""

    @instead_of(Resumption, "silent")
    def silent(right: Any, run: Resumption, now: float) -> None:
        if not run.welcomed:
            run._break(patience.silence())
        else:
            right(run, now)


@caught_by("heartbeats")
def does_not_hear_heartbeats() -> None:
    """It waits for events, and takes heartbeats for nothing."""

    @instead_of(Resumption, "received")
    def received(right: Any, run: Resumption, batch: EventBatch, now: float) -> None:
        if batch.notice != EventBatch.NOTICE_HEARTBEAT:
            right(run, batch, now)


@caught_by("unavailable-ten-times")
def gives_up_at_once() -> None:
    """It raises the first UNAVAILABLE."""

    @instead_of(resume, "can_pass")
    def can_pass(right: Any, error: StepwireError) -> bool:
        unavailable = isinstance(error, CallFailed) and error.status_code == code_pb2.UNAVAILABLE
        return right(error) and not unavailable


@caught_by("codes-that-pass")
def tries_again_after_unavailable_only() -> None:
    """It knows one code that passes."""
    patience._PASSING = frozenset({code_pb2.UNAVAILABLE})


@caught_by("retry-info")
def does_not_wait_as_asked() -> None:
    """It backs off as ever, whatever time the server asks for."""

    @instead_of(Resumption, "_again")
    def again(right: Any, run: Resumption, error: StepwireError | None, now: float, **how: Any) -> None:
        if error is not None and error.retry_after is not None:
            error.retry_after = timedelta(0)
        right(run, error, now, **how)


@caught_by("news-fills-the-budget")
def forgives_at_heartbeats_only() -> None:
    """It counts failures from heartbeat to heartbeat."""

    @instead_of(Resumption, "_accept")
    def accept(right: Any, run: Resumption, batch: EventBatch) -> str:
        failures = run._budget.failures
        hole = right(run, batch)
        run._budget.failures = failures
        return str(hole)


@caught_by("heartbeats-fill-the-budget")
def forgives_at_events_only() -> None:
    """It counts failures from event to event."""

    @instead_of(Resumption, "received")
    def received(right: Any, run: Resumption, batch: EventBatch, now: float) -> None:
        if batch.notice == EventBatch.NOTICE_HEARTBEAT:
            batch.notice = EventBatch.NOTICE_UNSPECIFIED
        right(run, batch, now)


def _stay(wrongly: Any) -> None:
    """Has the client keep its connection where it needs another."""

    @instead_of(Resumption, "_again")
    def again(right: Any, run: Resumption, error: StepwireError | None, now: float, **how: Any) -> None:
        right(run, error, now, **how)
        run._fresh = run._fresh and not wrongly(run, error)
