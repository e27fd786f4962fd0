"""What steps made, as bytes, whichever way it travelled: within its event, or as content before it.

artifacts = Artifacts()
for event in run:
    if made := artifacts.add(event):
        Path(made.name).write_bytes(made.data)
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container
from dataclasses import dataclass, field

from google.protobuf import struct_pb2

from stepwire.errors import StepwireError
from stepwire.v1.event_pb2 import Event
from stepwire.values import to_python

__all__ = ["Artifacts", "Made", "as_text", "channel_of", "is_piece"]

_CHANNEL = "artifact:"
"""What the name of a channel begins with that carries an artifact, and no other's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """One artifact."""

    step_id: str
    attempt: int
    name: str
    """What the operation called it: no file's name, unless the operation means it as one."""
    media_type: str
    data: bytes = field(repr=False)


class Artifacts:
    """Puts artifacts together from an execution's events, which come in their order.

    Holds the pieces of those that are under way, and nothing of those that were given out.
    """

    def __init__(self) -> None:
        self._pieces: dict[str, dict[str, list[bytes]]] = {}
        """By step and channel, of the step's attempt that runs."""

    def add(self, event: Event) -> Made | None:
        """Returns the artifact that is complete with this event, if one is.

        Raises StepwireError where pieces are missing, as for a reader who began after them or did not ask for content.
        """
        kind = event.WhichOneof("kind")
        if is_piece(event):
            content = event.content
            piece = content.data if content.HasField("data") else content.text.encode()
            self._pieces.setdefault(event.step_id, {}).setdefault(content.channel, []).append(piece)
        elif kind == "artifact":
            return self._made(event)
        elif kind is not None and kind.startswith("step_") and kind not in _WITHIN:
            self._pieces.pop(event.step_id, None)
        return None

    def _made(self, event: Event) -> Made:
        artifact = event.artifact
        match artifact.WhichOneof("body"):
            case "channel":
                pieces = self._pieces.get(event.step_id, {}).pop(artifact.channel, [])
                data = b"".join(pieces)
                if len(data) != artifact.size or hashlib.sha256(data).digest() != artifact.sha256:
                    raise StepwireError(
                        f"artifact {artifact.name!r} of step {event.step_id!r} is incomplete: {len(data):,} of "
                        f"{artifact.size:,} bytes came; watch the execution from its beginning, content included"
                    )
            case "data":
                data = artifact.data
            case _:
                data = as_text(artifact.value, media_type=artifact.media_type).encode()
        return Made(
            step_id=event.step_id,
            attempt=event.attempt,
            name=artifact.name,
            media_type=artifact.media_type,
            data=data,
        )


def is_piece(event: Event) -> bool:
    """Returns whether an event is a piece of an artifact, which is content for nobody else."""
    return event.content.channel.startswith(_CHANNEL)


def as_text(value: struct_pb2.Value, *, media_type: str) -> str:
    """Returns an artifact's value as what it is as a file: a text of another media type than JSON is itself, any other
    value is JSON. The server sends it so where it is too large for one event.
    """
    python = to_python(value)
    kind = media_type.partition(";")[0].strip().lower()
    if isinstance(python, str) and kind != "application/json" and not kind.endswith("+json"):
        return python
    return json.dumps(python, ensure_ascii=False, separators=(",", ":"))


def channel_of(name: str, *, taken: Container[str]) -> str:
    """Returns the channel that carries an artifact of that name: one that its attempt has not used."""
    channel = _CHANNEL + name
    number = 2
    while channel in taken:
        channel = f"{_CHANNEL}{name}#{number}"
        number += 1
    return channel


_WITHIN = frozenset({"step_progress", "step_saved"})
"""Events about a step with which its attempt does not end."""
