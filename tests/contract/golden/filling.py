"""Fills messages: every field has a value that is not its default, the same one each time.

Texts have letters beyond ASCII, 64-bit numbers are above 2^53, times have nanoseconds, lists and maps two entries.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from typing import Any

from google.protobuf import duration_pb2, message_factory, struct_pb2, timestamp_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor, OneofDescriptor
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2

__all__ = ["choices", "fill"]

_NANOS = (120_000_000, 123_456_000, 123_456_789, 1)
"""Printers write 3, 6 or 9 digits."""


def fill(kind: type[Message], arm: str = "") -> Message:
    """Returns a message with everything set. `arm` is the field of its oneof that is chosen, where it has one."""
    # Each message begins elsewhere, so that all of them together have every arm and every value of an enum. No message
    # depends on another one: what is added to the contract changes none of these.
    return _Filling(zlib.crc32(f"{kind.DESCRIPTOR.full_name}.{arm}".encode()) % 1_000).message(kind.DESCRIPTOR, arm)


def choices(kind: Descriptor) -> list[str]:
    """Returns the arms that a message can have, one of which `fill` takes; an empty one alone where it has no oneof."""
    arms = [field.name for oneof in _oneofs(kind) for field in oneof.fields]
    return arms or [""]


def _oneofs(kind: Descriptor) -> list[OneofDescriptor]:
    # `optional` makes a oneof too, of one field and with an underscore.
    return [oneof for oneof in kind.oneofs if not oneof.name.startswith("_")]


class _Filling:
    """Counts, so that no two values are alike."""

    def __init__(self, start: int) -> None:
        self._count = start

    def message(self, kind: Descriptor, arm: str = "") -> Message:
        if kind.full_name in _WELL_KNOWN:
            return _WELL_KNOWN[kind.full_name](self._next())
        made = message_factory.GetMessageClass(kind)()
        for field in self._chosen(kind, arm):
            if field.message_type is not None and field.message_type.GetOptions().map_entry:
                self._fill_map(getattr(made, field.name), field.message_type.fields_by_name)
            elif field.is_repeated:
                getattr(made, field.name).extend([self._value(field), self._value(field)])
            elif field.message_type is not None:
                getattr(made, field.name).CopyFrom(self._value(field))
            else:
                setattr(made, field.name, self._value(field))
        return made

    def _chosen(self, kind: Descriptor, arm: str) -> Iterator[FieldDescriptor]:
        """Gives the fields, of each oneof one."""
        left_out = set()
        for oneof in _oneofs(kind):
            names = [field.name for field in oneof.fields]
            left_out.update(names)
            left_out.remove(arm if arm in names else names[self._next() % len(names)])
        yield from (field for field in kind.fields if field.name not in left_out)

    def _fill_map(self, entries: Any, fields: Mapping[str, FieldDescriptor]) -> None:
        for _ in range(2):
            key = self._value(fields["key"])
            if fields["value"].message_type is not None:
                entries[key].CopyFrom(self._value(fields["value"]))
            else:
                entries[key] = self._value(fields["value"])

    def _value(self, field: FieldDescriptor) -> Any:
        if field.message_type is not None:
            return self.message(field.message_type)
        count = self._next()
        match field.type:
            case FieldDescriptor.TYPE_STRING:
                return f"{field.name} {count} äß漢𝔘"
            case FieldDescriptor.TYPE_BYTES:
                return bytes([0, 255, 128, count % 256])
            case FieldDescriptor.TYPE_BOOL:
                return True
            case FieldDescriptor.TYPE_INT32:
                return 2**31 - 1 - count
            case FieldDescriptor.TYPE_INT64:
                return 2**53 + 1 + 2 * count
            case FieldDescriptor.TYPE_DOUBLE:
                return count + 0.1
            case FieldDescriptor.TYPE_ENUM:
                values = [value.number for value in field.enum_type.values if value.number]
                return values[count % len(values)]
        raise NotImplementedError(f"{field.full_name} is of a type that no field had so far: say here how it is filled")

    def _next(self) -> int:
        self._count += 1
        return self._count


def _timestamp(count: int) -> Message:
    return timestamp_pb2.Timestamp(seconds=1_700_000_000 + count, nanos=_NANOS[count % 4])


def _duration(count: int) -> Message:
    return duration_pb2.Duration(seconds=count, nanos=_NANOS[count % 4])


def _value(count: int) -> Message:
    shapes = (
        struct_pb2.Value(struct_value=_struct(count)),
        struct_pb2.Value(list_value=_list(count)),
        struct_pb2.Value(string_value=f"Straße {count}"),
        struct_pb2.Value(number_value=count + 0.5),
        struct_pb2.Value(bool_value=True),
        struct_pb2.Value(null_value=struct_pb2.NULL_VALUE),
    )
    return shapes[count % len(shapes)]


def _struct(count: int) -> struct_pb2.Struct:
    made = struct_pb2.Struct()
    made.update({"größe": count + 0.25, "ja": True, "nichts": None, "tiefer": {"liste": ["漢字", -1.5e-7, False, []]}})
    return made


def _list(count: int) -> struct_pb2.ListValue:
    made = struct_pb2.ListValue()
    made.extend([count, "zwei", {"drei": 3}, None])
    return made


def _status(count: int) -> Message:
    made = status_pb2.Status(code=code_pb2.INVALID_ARGUMENT, message=f"Das geht nicht: {count} äß漢𝔘")
    # One entry: who reads JSON packs an Any with the entries of its maps in any order.
    info = error_details_pb2.ErrorInfo(reason="PLAN_INVALID", domain="stepwire", metadata={"schlüssel": f"{count}"})
    violations = [
        error_details_pb2.BadRequest.FieldViolation(field=f"plan.steps[{i}]", description="Zu groß") for i in (0, 1)
    ]
    retry = error_details_pb2.RetryInfo(retry_delay=_duration(count))
    for detail in (info, error_details_pb2.BadRequest(field_violations=violations), retry):
        made.details.add().Pack(detail, deterministic=True)
    return made


_WELL_KNOWN = {
    "google.protobuf.Timestamp": _timestamp,
    "google.protobuf.Duration": _duration,
    "google.protobuf.Value": _value,
    "google.protobuf.Struct": _struct,
    "google.protobuf.ListValue": _list,
    "google.rpc.Status": _status,
}
