"""The golden files: which there are, which are missing, and how they are read and written.

`messages` has every message of the contract, and every arm of its oneof; `future` has what a later release may send.
Of each there is NAME.binpb, the bytes, and NAME.json, what they say. A name begins with its message's: `Event.stage`.

What a file says is said for ever. A message that has got a field keeps its files, and gets another one: `Step.2`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import Message

import stepwire.v1

from .filling import choices, fill
from .future import future

__all__ = ["FOLDER", "FUTURE", "MESSAGES", "Golden", "kinds", "missing", "read", "write"]

FOLDER = Path(__file__).resolve().parent
MESSAGES = "messages"
FUTURE = "future"


@dataclass(frozen=True)
class Golden:
    """Bytes of a message, and the JSON that they must give."""

    folder: str
    """MESSAGES or FUTURE."""
    name: str
    data: bytes
    content: Any
    """The proto3 JSON, parsed."""

    @property
    def kind(self) -> type[Message]:
        """The message's class."""
        return getattr(stepwire.v1, self.name.partition(".")[0])  # type: ignore[no-any-return]

    def __str__(self) -> str:
        return f"{self.folder}/{self.name}"


def kinds() -> list[type[Message]]:
    """Returns all messages of the contract, by name."""
    members = [getattr(stepwire.v1, name) for name in sorted(stepwire.v1.__all__)]
    return [member for member in members if isinstance(member, type) and issubclass(member, Message)]


def read(folder: Path = FOLDER) -> list[Golden]:
    """Returns all goldens. Raises FileNotFoundError where one of the two files of a name is missing."""
    return [
        Golden(part, name, _path(folder, part, name, "binpb").read_bytes(), _content(folder, part, name))
        for part in (MESSAGES, FUTURE)
        for name in sorted({path.name.rpartition(".")[0] for path in (folder / part).glob("*.*")})
    ]


def missing(goldens: Sequence[Golden]) -> Iterator[Golden]:
    """Gives what the contract needs beside these."""
    have = {golden.name: golden for golden in goldens if golden.folder == MESSAGES}
    for kind in kinds():
        own = [golden for golden in have.values() if golden.kind is kind]
        seen = {field.name for golden in own for field, _ in kind.FromString(golden.data).ListFields()}
        arms = choices(kind.DESCRIPTOR)
        for arm in arms:
            name = f"{kind.__name__}.{arm}" if arm else kind.__name__
            if name not in have:
                yield _made(MESSAGES, name, kind, fill(kind, arm).SerializeToString(deterministic=True))
        unseen = {field.name for field in kind.DESCRIPTOR.fields} - seen - set(arms)
        if own and unseen:
            name = f"{kind.__name__}.{2 + sum(golden.name.rpartition('.')[2].isdigit() for golden in own)}"
            yield _made(MESSAGES, name, kind, fill(kind, arms[0]).SerializeToString(deterministic=True))
    names = {golden.name for golden in goldens if golden.folder == FUTURE}
    for name, kind, data in future(kinds()):
        if name not in names:
            yield _made(FUTURE, name, kind, data)


def write(golden: Golden, folder: Path = FOLDER) -> None:
    """Writes the two files of a new golden. Raises FileExistsError where one of them is there: none is ever changed."""
    (folder / golden.folder).mkdir(parents=True, exist_ok=True)
    with _path(folder, golden.folder, golden.name, "binpb").open("xb") as binary:
        binary.write(golden.data)
    with _path(folder, golden.folder, golden.name, "json").open("x", encoding="utf-8", newline="\n") as text:
        text.write(json.dumps(golden.content, ensure_ascii=False, indent=1, sort_keys=True) + "\n")


def _made(folder: str, name: str, kind: type[Message], data: bytes) -> Golden:
    return Golden(folder, name, data, json_format.MessageToDict(kind.FromString(data)))


def _path(folder: Path, part: str, name: str, ending: str) -> Path:
    return folder / part / f"{name}.{ending}"


def _content(folder: Path, part: str, name: str) -> Any:
    return json.loads(_path(folder, part, name, "json").read_text("utf-8"))
