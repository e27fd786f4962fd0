"""What P1 says of people's answers: see `checkers`, which has all promises in one table."""

from __future__ import annotations

from collections.abc import Iterator

from stepwire.v1 import Event, Execution
from stepwire.values import to_python

from .history import History, Kept, events_of

__all__ = ["ASKS", "lost_answers", "questions"]

ASKS = "ask"
"""The operation that asks for numbers, one question after the other, and returns the answers in their order."""


def lost_answers(history: History) -> Iterator[str]:
    """P1: an answer that was accepted is in the journal, its question is not asked again, and its step goes on with it,
    whatever processes end in between.
    """
    for reply in history.replies:
        kept = history.journal.get(reply.execution_id)
        if reply.method != "ProvideInput" or reply.status != "OK" or kept is None:
            continue
        as_of = Execution.FromString(reply.execution).as_of_sequence
        if not any(_answer(event) == reply.answer for event in events_of(kept)[:as_of]):
            yield f"{reply.execution_id}: answer {reply.answer} was accepted, and as of {as_of} the journal has it not"
    for kept in history.journal.values():
        yield from _forgotten(kept)


def _forgotten(kept: Kept) -> Iterator[str]:
    answers: dict[str, dict[str, object]] = {}
    asking: set[str] = set()
    for event in events_of(kept):
        place = f"{kept.execution_id}: {event.step_id}"
        of_step = answers.setdefault(event.step_id, {})
        if event.HasField("plan_started"):
            asking = {step.id for step in event.plan_started.plan.steps if step.operation == ASKS}
        elif event.HasField("input_requested") and event.input_requested.input_id in of_step:
            yield f"{place} asks again at {event.sequence} what was answered"
        elif event.HasField("input_received"):
            if event.input_received.input_id in of_step:
                yield f"{place} was answered once more at {event.sequence}"
            of_step[event.input_received.input_id] = _answer(event)
        elif event.HasField("step_completed") and event.step_id in asking:
            output = to_python(event.step_completed.output)
            if output != list(of_step.values()):
                yield f"{place} went on with {output}, and was answered {list(of_step.values())}"


def _answer(event: Event) -> object:
    return to_python(event.input_received.value) if event.HasField("input_received") else None


def questions(history: History) -> tuple[int, int, int]:
    """Returns how many questions were asked, how many of them once more by another attempt, and how many answered."""
    events = [event for kept in history.journal.values() for event in events_of(kept)]
    asked = [(e.execution_id, e.input_requested.input_id) for e in events if e.HasField("input_requested")]
    return len(set(asked)), len(asked) - len(set(asked)), sum(event.HasField("input_received") for event in events)
