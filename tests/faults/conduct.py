"""The promises about how a server behaves, besides what it gives: see `checkers`, which has them all in one table.

P5  durable before visible   a probe saw what was committed when a client had the message in its hands
P10 one writer               epochs rise, and whoever lost an execution says nothing more of it
P13 cancels                  no step starts after one, the end comes in time, and nobody is cancelled unasked
P14 every call ends          with a status, or because its caller left
P15 bounded                  memory, descriptors and tasks, while it is harmed and after
P18 secrets                  canaries that were put in are found nowhere
"""

from __future__ import annotations

from collections.abc import Iterator

from stepwire.errors import reason_of
from stepwire.v1 import ExecuteRequest, Execution, ExecutionState

from .history import Canary, History, Kept, events_of, kind_of

__all__ = ["bounded", "cancels", "durable_before_visible", "every_call_ends", "one_writer", "secrets"]

_TERMINAL = ("plan_completed", "plan_failed", "plan_cancelled")
_ENDED = {
    ExecutionState.EXECUTION_STATE_COMPLETED,
    ExecutionState.EXECUTION_STATE_FAILED,
    ExecutionState.EXECUTION_STATE_CANCELLED,
}
_ATTEMPT_ENDS = {"step_retrying", "step_completed", "step_failed", "step_cancelled"}


def durable_before_visible(history: History) -> Iterator[str]:
    """P5: whatever a client has in its hands was committed before, events and snapshots, in streams and in replies."""
    for stream in history.streams:
        for message in stream.messages:
            told = message.sequence
            if message.execution:
                told = max(told, Execution.FromString(message.execution).as_of_sequence)
            if message.committed is not None and message.committed < told:
                yield f"{stream.watcher}: was shown {stream.execution_id}/{told} when {message.committed} was committed"
    for reply in history.replies:
        if reply.committed is not None and reply.status == "OK":
            told = Execution.FromString(reply.execution).as_of_sequence if reply.execution else 0
            if reply.committed < told:
                yield f"{reply.method} spoke of {reply.execution_id}/{told} when {reply.committed} was committed"


def one_writer(history: History) -> Iterator[str]:
    """P10: epochs never go back, the record has the highest one, and nothing of an old owner follows a takeover."""
    for kept in history.journal.values():
        yield from _takeovers(kept)
    newest: dict[str, int] = {}
    next_one: dict[str, int] = {}
    for append in history.appends:
        name = f"{append.execution_id}: an append of {append.first} to {append.last} with epoch {append.epoch}"
        if append.epoch < newest.get(append.execution_id, 1):
            yield f"{name} after one with epoch {newest[append.execution_id]}"
        if append.first != next_one.get(append.execution_id, 1):
            yield f"{name}, where {next_one.get(append.execution_id, 1)} was due"
        newest[append.execution_id], next_one[append.execution_id] = append.epoch, append.last + 1
    for execution_id, epoch in newest.items():
        if execution_id in history.journal and history.journal[execution_id].epoch < epoch:
            yield f"{execution_id}: the record has a lower epoch than the owner that appended, {epoch}"


def _takeovers(kept: Kept) -> Iterator[str]:
    """Judges the events alone: the first word of a step that was running at a takeover is the new owner's verdict. A
    mapped step is not running in its process, and goes on without a word.
    """
    epoch = 1
    running: set[str] = set()
    lost: set[str] = set()
    mapped: set[str] = set()
    for event in events_of(kept):
        kind, name = kind_of(event), f"{kept.execution_id}: event {event.sequence}"
        steps = (*event.plan_started.plan.steps, *event.plan_revised.steps)
        mapped |= {step.id for step in steps if step.HasField("for_each")}
        if kind == "plan_recovered":
            if event.plan_recovered.epoch <= epoch:
                yield f"{name} recovers with epoch {event.plan_recovered.epoch}, after {epoch}"
            epoch = event.plan_recovered.epoch
            lost = set(running)
        elif event.step_id in lost:
            # In the same process it could have been retried for any reason; here it can for one only.
            ours = kind in ("step_failed", "step_cancelled") or (
                kind == "step_retrying" and reason_of(event.step_retrying.error) == "RECOVERED"
            )
            if not ours:
                yield f"{name} ({kind}) is of an attempt of step {event.step_id} that ended with its process"
            lost.discard(event.step_id)
        elif lost and kind in ("step_started", *_TERMINAL):
            yield f"{name} ({kind}) comes before it is known what became of {sorted(lost)}"
        if kind == "step_started" and event.step_id not in mapped:
            running.add(event.step_id)
        elif kind in _ATTEMPT_ENDS:
            running.discard(event.step_id)
    if kept.epoch < epoch:
        yield f"{kept.execution_id}: the record has epoch {kept.epoch}, its events {epoch}"


def cancels(history: History) -> Iterator[str]:
    """P13: after an accepted cancel no step starts, the end comes within the grace period and a margin, and nothing is
    cancelled that nobody asked to.

    The time in which the server was dead or stood still does not count, as far as `outages` tells of it. What begins
    anew with each takeover (a new process owes its own grace from there) needs no time of its own: the steps that ran
    are over with their process.
    """
    asked = {reply.execution_id for reply in history.replies if reply.method == "CancelExecution"}
    for kept in history.journal.values():
        cancelling = ended = None
        for event in events_of(kept):
            kind = kind_of(event)
            at = event.event_time.ToNanoseconds() / 1e9 - history.wall
            if kind == "plan_cancelling":
                cancelling = at
            elif kind in _TERMINAL:
                ended = at
            elif kind == "step_started" and cancelling is not None:
                yield f"{kept.execution_id}: step {event.step_id} started at {event.sequence}, after the cancel"
        if cancelling is None:
            continue
        options = ExecuteRequest.FromString(kept.request).options
        if kept.execution_id not in asked and not options.HasField("cancel_if_unwatched_for"):
            yield f"{kept.execution_id}: was cancelled, and nobody had asked for that"
        if history.cancel_grace is None:
            continue
        if ended is not None and (late := _late(history, cancelling, ended)) > 0:
            yield f"{kept.execution_id}: ended {late:.2f} s too late after the cancel, by the times of its events"
    if history.cancel_grace is not None:
        yield from _seen_late(history)


def _seen_late(history: History) -> Iterator[str]:
    """Judges by the callers' times: whoever asks when the grace is over is told of the end."""
    accepted: dict[str, float] = {}
    for reply in history.replies:
        if reply.method == "CancelExecution" and reply.status == "OK":
            accepted[reply.execution_id] = min(reply.at, accepted.get(reply.execution_id, reply.at))
    for reply in history.replies:
        if reply.execution_id in accepted and reply.status == "OK" and reply.execution:
            late = _late(history, accepted[reply.execution_id], reply.sent)
            if late > 0 and Execution.FromString(reply.execution).state not in _ENDED:
                yield f"{reply.execution_id}: had not ended {late:.2f} s after the time that the cancel gave it"


def _late(history: History, begin: float, end: float) -> float:
    """Returns by how much the span is longer than a cancel may take."""
    assert history.cancel_grace is not None
    still = sum(max(0.0, min(end, until) - max(begin, since)) for since, until in history.outages)
    return end - begin - still - history.cancel_grace - history.cancel_margin


def every_call_ends(history: History) -> Iterator[str]:
    """P14: every call ended with a status, unless its caller left it."""
    for stream in history.streams:
        if not stream.left and not (stream.ended and stream.status):
            yield f"{stream.watcher}: a stream of {stream.execution_id or stream.request_id} never ended"
    for reply in history.replies:
        if not reply.left and not reply.status:
            yield f"{reply.method} of {reply.execution_id or reply.request_id} was never answered"


def bounded(history: History) -> Iterator[str]:
    """P15: while the server is harmed, and after that, it holds no more than before and what the bounds allow."""
    bounds = history.bounds
    before = [holding for holding in history.holdings if holding.phase == "before"]
    if bounds is None or not before:
        if bounds is not None:
            yield "there are bounds, and nobody looked at the server before"
        return
    resident = max(holding.resident for holding in before)
    descriptors = max(holding.descriptors for holding in before)
    tasks = max(holding.tasks for holding in before)
    for holding in history.holdings:
        if holding.phase == "during":
            room, files = bounds.resident_during, bounds.descriptors_during
        elif holding.phase == "after":
            room, files = bounds.resident_after, bounds.descriptors_after
            if holding.tasks > tasks + bounds.tasks_after:
                yield f"after: {holding.tasks} tasks, {tasks} before"
        else:
            continue
        if holding.resident > resident + room:
            yield f"{holding.phase}: {holding.resident >> 20} MiB of memory, {resident >> 20} before"
        if holding.descriptors > descriptors + files:
            yield f"{holding.phase}: {holding.descriptors} descriptors, {descriptors} before"


def secrets(history: History) -> Iterator[str]:
    """P18: no canary stands where it may not: in the journal (events, snapshots, requests), in the server's log, in a
    status' text and metadata.

    The canaries are what callers send as `authorization`, and what an operation has in local variables and in the
    causes of its exception. Nothing in a plan's input can be marked as secret yet, so there is no canary in one.
    """
    for canary in history.canaries:
        for place, kind, text in _texts(history, canary):
            if canary.text.encode() in text:
                yield f"{place}: has a text that must not be in a {kind}, {canary.text[:12]!r}..."


def _texts(history: History, canary: Canary) -> Iterator[tuple[str, str, bytes]]:
    if "journal" not in canary.allowed:
        for kept in history.journal.values():
            yield f"the request of {kept.execution_id}", "journal", kept.request
            yield f"the snapshot of {kept.execution_id}", "journal", kept.snapshot
            yield f"the events of {kept.execution_id}", "journal", b"".join(kept.frames)
    if "log" not in canary.allowed:
        yield "the log", "log", history.log.encode()
    if "status" not in canary.allowed:
        for stream in history.streams:
            text = f"{stream.status} {stream.reason} {stream.metadata} {stream.said}"
            yield f"the status of a stream of {stream.watcher}", "status", text.encode()
        for reply in history.replies:
            yield f"the status of a {reply.method}", "status", f"{reply.status} {reply.said}".encode()
