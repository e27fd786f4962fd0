"""Whether what a client did is what a case says. Every failure is a line: what was expected, and what was seen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from google.protobuf import json_format

from stepwire.progress import ProgressTracker
from stepwire.v1 import Event

from .adapters.lines import describe
from .case import Case
from .script import EXECUTION, Call, CutWithin, Hold, Send
from .server import Recorded

__all__ = ["Seen", "check_calls", "check_seen"]

_SLACK = 0.02
"""Seconds by which two clocks, or two processes, may differ."""


@dataclass
class Seen:
    """What an adapter wrote."""

    events: list[dict[str, Any]] = field(default_factory=list)
    progress: dict[str, Any] | None = None
    execution: dict[str, Any] | None = None
    decoded: dict[str, Any] | None = None
    end: dict[str, Any] | None = None
    strange: list[str] = field(default_factory=list)
    """Lines that are none of these."""

    def take(self, name: str, value: Any) -> None:
        """Takes a line."""
        if name == "event":
            self.events.append(value)
        elif name in ("progress", "execution", "decoded", "end") and getattr(self, name) is None:
            setattr(self, name, value)
        else:
            self.strange.append(f"{name}: {value}")


def check_seen(case: Case, seen: Seen) -> Iterator[str]:
    """Gives what is wrong with what the adapter wrote."""
    yield from (f"the adapter wrote a line that must not be there: {line}" for line in seen.strange)
    yield from _check_events([] if case.command.get("silent") else _events(case), seen.events)
    if case.execution is not None:
        yield from _differ("execution", case.execution, seen.execution or {})
    if case.decoded is not None and case.decoded != seen.decoded:
        yield f"decoded: expected {case.decoded}, seen {seen.decoded}"
    if seen.end is None:
        yield "the adapter wrote no end"
        return
    error = seen.end.get("error", {})
    if case.error:
        yield from _differ("error", case.error, {"reason": "", **error} if error else seen.end)
    else:
        yield from _differ("end", {"outcome": case.outcome}, seen.end)
    if case.command["do"] in ("execute", "watch"):
        yield from _check_cursor(case, seen.end)
        yield from _check_progress(case, seen)


def check_calls(case: Case, calls: Sequence[Recorded]) -> Iterator[str]:
    """Gives what is wrong with the calls that came.

    Of every call: its method and its place. Of every Execute: the work, and the same request id, which is not empty. Of
    every WatchExecution: the execution and the cursor. Of both: the filter and the heartbeat interval of the command.
    """
    expected, came = [_name(call) for call in case.calls], [_came(call) for call in calls]
    if expected != came:
        yield f"calls: expected {_list(expected)}; came {_list(came)}"
    for number, (call, recorded) in enumerate(zip(case.calls, calls, strict=False), 1):
        if call.method == recorded.method:
            before = calls[number - 2] if number > 1 else None
            for wrong in _check_call(case, call, recorded, before=before, first=calls[0]):
                yield f"call {number}, {call.method}: {wrong}"


def _check_events(expected: Sequence[Event], events: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    wanted, given = [event.sequence for event in expected], [event.get("sequence") for event in events]
    if given != wanted:
        yield f"events: expected {_list(wanted)}; seen {_list(given)}"
        return
    for described, event in zip(map(describe, expected), events, strict=True):
        if {"step_id": "", **event} != described:
            yield f"event {described['sequence']}: expected {described}; seen {event}"


def _check_cursor(case: Case, end: Mapping[str, Any]) -> Iterator[str]:
    cursor = case.cursor
    if cursor is None:
        cursor = case.sees[-1] if case.sees else case.command.get("after_sequence", 0)
    if end.get("sequence") != cursor:
        yield f"cursor at the end: expected {cursor}; seen {end.get('sequence')}"
    if case.command.get("silent"):
        yield from _differ("end", {"events": len(case.sees)}, end)
        if not end.get("seconds"):
            yield f"end.seconds: expected more than 0; seen {end.get('seconds')}"


def _check_progress(case: Case, seen: Seen) -> Iterator[str]:
    tracker = ProgressTracker()
    for event in _events(case):
        tracker.add_event(event)
    progress = {
        "percentage": tracker.percentage,
        "completed_steps": tracker.completed_steps,
        "total_steps": tracker.total_steps,
        "events": tracker.event_count,
    }
    yield from _differ("progress", progress, seen.progress or {})


def _check_call(
    case: Case, call: Call, recorded: Recorded, *, before: Recorded | None, first: Recorded
) -> Iterator[str]:
    request = json_format.MessageToDict(recorded.request, preserving_proto_field_name=True)
    yield from _differ("request", dict(_expected_request(case, call)), request)
    if call.method == "Execute":
        request_id = recorded.request.request_id
        if not request_id:
            yield "it has no request_id, so that it can't be sent again"
        elif first.method == "Execute" and request_id != first.request.request_id:
            yield f"another request_id ({request_id}) than the first Execute's ({first.request.request_id})"
    if call.fresh and not recorded.fresh:
        yield "it came over an old connection, where a new one is needed"
    if isinstance(call.acts[-1], Hold) and recorded.ended != "by the client":
        yield "the client did not end it"
    elif call.goodbye and not recorded.told:
        yield "the client did not say that it ends it: the connection went with the process"
    if before is not None:
        gap = recorded.came - before.spoke
        if gap < call.least - _SLACK:
            yield f"it came {gap:.2f} s after the server's last word, and must not before {call.least:g} s"
        if call.most is not None and gap > call.most:
            yield f"it came {gap:.2f} s after the server's last word, and must within {call.most:g} s"


def _expected_request(case: Case, call: Call) -> Iterator[tuple[str, Any]]:
    command = case.command
    if call.method == "Execute":
        for name in ("query", "plan", "request_id"):
            if name in command:
                yield name, command[name]
    else:
        yield "execution_id", EXECUTION
    if call.method == "WatchExecution":
        # proto3 JSON leaves out a zero, and writes 64 bits as text.
        yield "after_sequence", str(call.after) if call.after else None
    if call.method in ("Execute", "WatchExecution"):
        yield "filter", command.get("filter")
        heartbeat = command.get("heartbeat_seconds")
        yield "heartbeat_interval", None if heartbeat is None else _duration(heartbeat)
    yield from call.request.items()


def _duration(seconds: float) -> str:
    milliseconds = f"{seconds:.3f}"
    return f"{milliseconds.removesuffix('.000')}s"


def _events(case: Case) -> list[Event]:
    """Returns the events that must be seen, as the script first has them."""
    sent: dict[int, Event] = {}
    for call in case.calls:
        for act in call.acts:
            if isinstance(act, Send | CutWithin):
                for event in act.message.events:
                    sent.setdefault(event.sequence, event)
    return [sent[sequence] for sequence in case.sees]


def _differ(what: str, expected: Mapping[str, Any], seen: Mapping[str, Any]) -> Iterator[str]:
    for name, value in expected.items():
        if seen.get(name) != value:
            yield f"{what}.{name}: expected {value!r}; seen {seen.get(name)!r}" + _rest(seen, name)


def _rest(seen: Mapping[str, Any], name: str) -> str:
    """Says what else is there, where that may explain what is missing."""
    return f" in {dict(seen)}" if seen and name not in seen else ""


def _name(call: Call) -> str:
    return f"{call.method} after {call.after}" if call.method == "WatchExecution" else call.method


def _came(recorded: Recorded) -> str:
    if recorded.method == "WatchExecution":
        return f"WatchExecution after {recorded.request.after_sequence}"
    return recorded.method


def _list(items: Sequence[Any]) -> str:
    if len(items) > 40:
        return f"{_list(items[:20])}, ... {len(items)} in all"
    return ", ".join(map(str, items)) or "none"
