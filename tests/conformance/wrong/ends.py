"""Clients that do not know when it is over."""

from __future__ import annotations

import os
from typing import Any

from stepwire import resume
from stepwire.client import Client
from stepwire.errors import StepwireError
from stepwire.events import TERMINAL, has_ended
from stepwire.reader import Reader
from stepwire.resume import Resumption, _State
from stepwire.v1 import EventBatch

from .fault import caught_by, instead_of


@caught_by("failed")
def waits_for_success() -> None:
    """It takes plan_completed alone for the end."""
    resume.TERMINAL = frozenset({"plan_completed"})


@caught_by("cancelled")
def waits_for_an_outcome() -> None:
    """It does not take plan_cancelled for an end."""
    resume.TERMINAL = TERMINAL - {"plan_cancelled"}


@caught_by("cut-after-the-terminal-event")
def resumes_what_has_ended() -> None:
    """It watches again where the line goes, although nothing is left."""

    @instead_of(Resumption, "ended")
    def ended(right: Any, run: Resumption, error: StepwireError | None, now: float) -> None:
        if error is not None:
            run._state = _State.READING
        right(run, error, now)


@caught_by("status-after-the-terminal-event")
def raises_a_status_that_means_nothing() -> None:
    """It raises the call's status, although the execution has ended."""

    @instead_of(Resumption, "ended")
    def ended(right: Any, run: Resumption, error: StepwireError | None, now: float) -> None:
        if error is not None and run.terminal is not None:
            run._break(error)
        else:
            right(run, error, now)


@caught_by("nothing-after-the-terminal-event")
def insists_on_a_status() -> None:
    """It watches again where no status follows the terminal event."""

    @instead_of(Resumption, "silent")
    def silent(right: Any, run: Resumption, now: float) -> None:
        if run._state is _State.ENDING:
            run._state = _State.READING
        right(run, now)


@caught_by("event-after-the-terminal-event")
def hears_nothing_after_the_end() -> None:
    """It does not look at what comes after the terminal event."""

    @instead_of(Resumption, "received")
    def received(right: Any, run: Resumption, batch: EventBatch, now: float) -> None:
        if run.terminal is None:
            right(run, batch, now)


@caught_by("event-behind-the-terminal-event")
def reads_messages_up_to_the_end() -> None:
    """It does not look at what stands behind the terminal event in a message."""

    @instead_of(Resumption, "_accept")
    def accept(right: Any, run: Resumption, batch: EventBatch) -> str:
        kinds = [event.WhichOneof("kind") in TERMINAL for event in batch.events]
        if True in kinds:
            del batch.events[kinds.index(True) + 1 :]
            batch.sequence = batch.events[-1].sequence
        return str(right(run, batch))


@caught_by("nothing-left")
def does_not_read_snapshots() -> None:
    """It waits for an event that was before its cursor."""
    instead_of(Resumption, "_has_nothing_left")(lambda right, run: False)


@caught_by("something-left")
def takes_an_ended_snapshot_for_the_end() -> None:
    """It ends where the execution has ended, wherever its cursor stands."""
    instead_of(Resumption, "_has_nothing_left")(
        lambda right, run: run.execution is not None and has_ended(run.execution)
    )


@caught_by("leaving")
def leaves_calls_open() -> None:
    """It stops reading, and leaves it to the end of the process to end the call."""
    instead_of(Reader, "_leave_call")(lambda right, run: None)
    instead_of(Client, "close")(lambda right, client: os._exit(0))
