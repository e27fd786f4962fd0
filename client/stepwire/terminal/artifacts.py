"""Artifacts as files in one folder: each under its name, none elsewhere, and none in the place of what is there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import click

from stepwire.terminal.screen import harmless, say
from stepwire.v1.event_pb2 import Artifact, Event
from stepwire.values import to_python

__all__ = ["Artifacts"]

_UNFIT = re.compile(r'[/\\:*?"<>|\x00-\x1f\x7f]|^[.\-]|[. ]$')
"""What would name a folder, another drive, an option, a hidden file, or nothing at all on some system."""

_NAME_BYTES = 200
"""Of a file's name, before a number is added: file systems take 255."""


class Artifacts:
    """Saves each artifact of an execution, and says at its end where they are.

    What a later attempt gives under a name takes the place of what the earlier one gave. A name that several steps
    give, or that a file has which was there before, gets a number.
    """

    def __init__(self, folder: Path | None) -> None:
        """`folder`: where they go; it is made where it is missing. None: nothing is saved."""
        self._folder = folder
        self._saved: dict[tuple[str, str], Path] = {}
        self._unsaved: list[str] = []
        if folder is not None:
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise click.BadParameter(f"{folder}: {error.strerror}", param_hint="--artifacts") from None

    def __enter__(self) -> Artifacts:
        return self

    def __exit__(self, *error: object) -> None:
        for path in self._saved.values():
            say(f"stepwire: saved {path}", err=True)
        for problem in self._unsaved:
            say(f"stepwire: not saved: {problem}", err=True)

    @property
    def are_complete(self) -> bool:
        """Whether all that came could be saved."""
        return not self._unsaved

    def save(self, event: Event) -> None:
        """Saves what an event brings, if that is an artifact."""
        if self._folder is None or not event.HasField("artifact"):
            return
        artifact = event.artifact
        if artifact.WhichOneof("body") not in ("value", "data"):
            self._unsaved.append(f"{artifact.name}: it came as content in the channel {artifact.channel}")
            return
        key = event.step_id, artifact.name
        try:
            if key in self._saved:
                self._saved[key].unlink(missing_ok=True)
                self._write(self._saved[key], artifact)
            else:
                self._saved[key] = self._written(artifact)
        except OSError as error:
            self._unsaved.append(f"{artifact.name}: {error.strerror}")

    def _written(self, artifact: Artifact) -> Path:
        assert self._folder is not None
        name = Path(_file_name(artifact.name))
        path, number = self._folder / name, 1
        while True:
            try:
                self._write(path, artifact)
            except FileExistsError:
                number += 1
                path = self._folder / f"{name.stem}-{number}{name.suffix}"
            else:
                return path

    @staticmethod
    def _write(path: Path, artifact: Artifact) -> None:
        # What is there already is never opened, and so no link followed.
        with path.open("xb") as file:
            file.write(_content(artifact))


def _file_name(name: str) -> str:
    """Returns a name of one file for that of an artifact."""
    text = harmless(name).encode("utf-8", "replace")[:_NAME_BYTES].decode("utf-8", "ignore")
    return _UNFIT.sub("_", text) or "artifact"


def _content(artifact: Artifact) -> bytes:
    """Returns what the file has: bytes and texts as they are, everything else as JSON."""
    if artifact.HasField("data"):
        return artifact.data
    value = to_python(artifact.value)
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2) + "\n"
    return text.encode()
