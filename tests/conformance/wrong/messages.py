"""Clients that misread what comes."""

from __future__ import annotations

from typing import Any

from tests.conformance.adapters.lines import Writer

from stepwire import client, requests
from stepwire.reader import Reader
from stepwire.resume import Resumption
from stepwire.run import BaseRun
from stepwire.v1 import Event, EventBatch

from .fault import caught_by, instead_of


@caught_by("plain")
def keeps_the_terminal_event() -> None:
    """It ends with the terminal event, and does not give it."""

    @instead_of(BaseRun, "_take")
    def take(right: Any, run: BaseRun) -> Event | None:
        event = right(run)
        return None if event is not None and event is run.terminal else event


@caught_by("plan")
def forgets_the_interval() -> None:
    """It leaves the interval of heartbeats to the server."""

    @instead_of(requests, "execute")
    def execute(right: Any, *work: Any, **options: Any) -> Any:
        return right(*work, **options | {"heartbeat_interval": None})


@caught_by("every-kind")
def has_an_old_list_of_kinds() -> None:
    """It drops events of a kind that its list lacks."""
    _drop(lambda event: event.HasField("supervisor"))


@caught_by("texts-and-bytes")
def takes_bytes_for_text() -> None:
    """It reads every content as text, and puts a question mark for what is none."""

    @instead_of(BaseRun, "_take")
    def take(right: Any, run: BaseRun) -> Event | None:
        event = right(run)
        if event is not None and event.content.data:
            event.content.text = event.content.data.decode(errors="replace")
        return event


@caught_by("one-mib")
def has_room_for_half_a_mib() -> None:
    """It bounds messages below what an event may have."""

    @instead_of(client, "channel_options")
    def options(right: Any, more: Any) -> Any:
        return right([*more, ("grpc.max_receive_message_length", 1 << 19)])


@caught_by("many")
def loses_the_rest_of_full_messages() -> None:
    """It has a bounded buffer, and throws away what does not fit."""

    @instead_of(Resumption, "_accept")
    def accept(right: Any, run: Resumption, batch: EventBatch) -> str:
        hole: str = right(run, batch)
        while len(run._pending) > 500:
            run._pending.pop()
        return hole


@caught_by("silent")
def is_never_silent() -> None:
    """Its adapter writes every event, so that its speed is that of writing."""

    @instead_of(Writer, "event")
    def event(right: Any, writer: Writer, event: Event) -> bool:
        writer._silent = False
        return bool(right(writer, event))


@caught_by("far")
def counts_in_32_bits() -> None:
    """It asks for a cursor of 32 bits."""
    _ask_after(lambda after: after & 0x7FFF_FFFF)


@caught_by("slow")
def collects_events() -> None:
    """It gives everything at the end."""

    @instead_of(Reader, "__iter__")
    def events(right: Any, run: Reader) -> Any:
        return iter(list(right(run)))


@caught_by("unknown-kind")
def drops_unknown_kinds() -> None:
    """It drops events whose kind it does not know."""
    _drop(lambda event: event.WhichOneof("kind") is None)


@caught_by("unknown-enum-value")
def refuses_unknown_notices() -> None:
    """It takes a notice that it does not know for a broken contract."""

    @instead_of(Resumption, "received")
    def received(right: Any, run: Resumption, batch: EventBatch, now: float) -> None:
        right(run, batch, now)
        if batch.notice not in EventBatch.Notice.values():
            run._break(run._broken(f"What is notice {batch.notice}?"))


@caught_by("notices")
def makes_events_of_notices() -> None:
    """It gives an event for every message, also for one without events."""

    @instead_of(Resumption, "_accept")
    def accept(right: Any, run: Resumption, batch: EventBatch) -> str:
        if batch.notice == EventBatch.NOTICE_HEARTBEAT:
            run._pending.append(Event(execution_id=run.execution_id, sequence=batch.sequence))
        return str(right(run, batch))


@caught_by("filter")
def forgets_the_filter() -> None:
    """It resumes without the filter."""

    @instead_of(BaseRun, "_call_for")
    def call(right: Any, run: BaseRun, step: Any) -> Any:
        method, request = right(run, step)
        if run.execution_id:
            request.ClearField("filter")
        return method, request


@caught_by("another-start")
def insists_on_its_cursor() -> None:
    """It takes a message that begins before its cursor for a hole."""

    @instead_of(Resumption, "_accept")
    def accept(right: Any, run: Resumption, batch: EventBatch) -> str:
        return "It must begin at the cursor" if batch.after_sequence < run._accepted else str(right(run, batch))


@caught_by("duplicates")
def gives_duplicates() -> None:
    """It gives whatever comes, as often as it comes."""

    @instead_of(Resumption, "_accept")
    def accept(right: Any, run: Resumption, batch: EventBatch) -> str:
        run._pending.extend(event for event in batch.events if event.sequence <= run._accepted)
        return str(right(run, batch))


@caught_by("hole")
def overlooks_what_is_missing() -> None:
    """It neither compares ranges nor counts sequences."""

    @instead_of(Resumption, "_accept")
    def accept(right: Any, run: Resumption, batch: EventBatch) -> str:
        run._filtered = True
        batch.after_sequence = min(batch.after_sequence, run._accepted)
        return str(right(run, batch))


@caught_by("hole-at-the-start")
def begins_where_the_stream_begins() -> None:
    """It moves its cursor to where the stream begins."""

    @instead_of(Resumption, "_accept")
    def accept(right: Any, run: Resumption, batch: EventBatch) -> str:
        if batch.HasField("execution"):
            run._accepted = batch.after_sequence
        return str(right(run, batch))


@caught_by("hole-within-a-message")
def looks_at_ranges_only() -> None:
    """It believes that a message has what its range says."""

    @instead_of(Resumption, "_accept")
    def accept(right: Any, run: Resumption, batch: EventBatch) -> str:
        run._filtered = True
        return str(right(run, batch))


@caught_by("hole-at-the-end-of-a-message")
def looks_at_events_only() -> None:
    """It takes the last event of a message for the end of its range."""

    @instead_of(Resumption, "_accept")
    def accept(right: Any, run: Resumption, batch: EventBatch) -> str:
        if batch.events:
            batch.sequence = batch.events[-1].sequence
        return str(right(run, batch))


@caught_by("filtered-hole")
def compares_no_ranges_with_a_filter() -> None:
    """It thinks that with a filter anything may be left out."""

    @instead_of(Resumption, "_accept")
    def accept(right: Any, run: Resumption, batch: EventBatch) -> str:
        if run._filtered:
            batch.after_sequence = min(batch.after_sequence, run._accepted)
        return str(right(run, batch))


@caught_by("hole-for-ever")
def counts_no_holes() -> None:
    """It takes no hole for a failure, and would watch again for ever."""

    @instead_of(Resumption, "_lose")
    def lose(right: Any, run: Resumption, *reason: Any, **how: Any) -> None:
        run._refill()
        right(run, *reason, **how)


@caught_by("another-execution")
def looks_at_no_events_execution() -> None:
    """It does not look whose events it gets."""

    @instead_of(Resumption, "_welcome")
    def welcome(right: Any, run: Resumption, batch: EventBatch, now: float) -> bool:
        return not batch.HasField("execution") or bool(right(run, batch, now))


@caught_by("another-execution-when-resuming")
def takes_any_execution() -> None:
    """It goes on with whatever execution a stream is about."""

    @instead_of(Resumption, "_welcome")
    def welcome(right: Any, run: Resumption, batch: EventBatch, now: float) -> bool:
        run.execution_id = ""
        return bool(right(run, batch, now))


def _drop(unwanted: Any) -> None:
    """Has the client drop some events when they are received: its cursor passes them."""

    @instead_of(BaseRun, "_take")
    def take(right: Any, run: BaseRun) -> Event | None:
        event = right(run)
        while event is not None and unwanted(event):
            event = right(run)
        return event


def _ask_after(change: Any) -> None:
    """Has the client ask for another cursor than its own."""

    @instead_of(BaseRun, "_call_for")
    def call(right: Any, run: BaseRun, step: Any) -> Any:
        method, request = right(run, step)
        if hasattr(request, "after_sequence"):
            request.after_sequence = change(request.after_sequence)
        return method, request
