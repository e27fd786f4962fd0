"""What a later release may send: kinds, enum values and fields that this one does not have."""

from __future__ import annotations

from collections.abc import Iterator

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from stepwire.v1 import (
    AgentUpdate,
    Event,
    EventBatch,
    Execution,
    Plan,
    PlanStarted,
    Progress,
    Step,
    StepSkipped,
)

from .filling import choices, fill

__all__ = ["UNKNOWN_FIELDS", "future"]

UNKNOWN_VALUE = 99
"""A value that no enum has."""

# Fields 1000 to 1003, of each wire type one: the varint 300, eight bytes, a text, four bytes.
UNKNOWN_FIELDS = b"\xc0\x3e\xac\x02" + b"\xc9\x3e12345678" + b"\xd2\x3e\x06future" + b"\xdd\x3e1234"

# Field 999 as a message, {1: "hi", 2: 7}: an arm of Event.kind that is not known.
UNKNOWN_KIND = b"\xba\x3e\x06" + b"\x0a\x02hi" + b"\x10\x07"

_ENVELOPES = (EventBatch, Event, Execution, Progress, Plan, Step, PlanStarted)


def future(kinds: list[type[Message]]) -> Iterator[tuple[str, type[Message], bytes]]:
    """Gives the name, the kind and the bytes of what may come. `kinds`: all messages of the contract."""
    yield "Event.unknown_kind", Event, _unknown_kind(3)
    yield "EventBatch.unknown_kind_in_the_middle", EventBatch, _batch()
    for kind in kinds:
        if kind in _ENVELOPES or kind.__name__.endswith("Response"):
            known = fill(kind, choices(kind.DESCRIPTOR)[-1])
            yield f"{kind.__name__}.unknown_fields", kind, _encoded(known) + UNKNOWN_FIELDS
        if any(field.enum_type for field in kind.DESCRIPTOR.fields):
            yield f"{kind.__name__}.unknown_enum_values", kind, _encoded(_with_unknown_values(kind))
    agent = Event(execution_id="e", sequence=4, agent=AgentUpdate(agent="writer", kind=UNKNOWN_VALUE))  # type: ignore[arg-type]
    yield "Event.agent_of_unknown_kind", Event, _encoded(agent)
    skipped = Event(execution_id="e", sequence=5, step_skipped=StepSkipped(cause=UNKNOWN_VALUE))  # type: ignore[arg-type]
    yield "Event.skipped_for_unknown_cause", Event, _encoded(skipped)


def _unknown_kind(sequence: int) -> bytes:
    event = fill(Event, "stage")
    assert isinstance(event, Event)
    event.ClearField("stage")
    event.sequence = sequence
    return _encoded(event) + UNKNOWN_KIND


def _batch() -> bytes:
    """A message whose second event is of an unknown kind, and whose notice is unknown too."""
    events = [_encoded(Event(sequence=2, message="vorher")), _unknown_kind(3), _encoded(Event(sequence=4))]
    # An embedded message is field 2: its tag, its length as a varint, its bytes.
    framed = b"".join(b"\x12" + _varint(len(event)) + event for event in events)
    return framed + _encoded(EventBatch(after_sequence=1, sequence=4, notice=UNKNOWN_VALUE))  # type: ignore[arg-type]


def _varint(number: int) -> bytes:
    low, rest = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + _varint(rest) if rest else bytes([low])


def _with_unknown_values(kind: type[Message]) -> Message:
    made = fill(kind)
    for field in kind.DESCRIPTOR.fields:
        if field.type == FieldDescriptor.TYPE_ENUM:
            if field.is_repeated:
                getattr(made, field.name).append(UNKNOWN_VALUE)
            else:
                setattr(made, field.name, UNKNOWN_VALUE)
    return made


def _encoded(message: Message) -> bytes:
    return message.SerializeToString(deterministic=True)
