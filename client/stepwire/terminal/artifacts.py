"""Artifacts as files in one folder: each under its name, none elsewhere, and none in the place of what is there."""

from __future__ import annotations

import re
from pathlib import Path

import click

from stepwire.artifacts import Artifacts, Made
from stepwire.errors import StepwireError
from stepwire.terminal.screen import harmless, say
from stepwire.v1.event_pb2 import Event

__all__ = ["ArtifactFiles"]

_UNFIT = re.compile(r'[/\\:*?"<>|\x00-\x1f\x7f]|^[.\-]|[. ]$')
"""What would name a folder, another drive, an option, a hidden file, or nothing at all on some system."""

_NAME_BYTES = 200
"""Of a file's name, before a number is added: file systems take 255."""


class ArtifactFiles:
    """Saves each artifact of an execution, and says at its end where they are.

    What a later attempt gives under a name takes the place of what the earlier one gave. A name that several steps
    give, or that a file has which was there before, gets a number.
    """

    def __init__(self, folder: Path | None) -> None:
        """`folder`: where they go; it is made where it is missing. None: nothing is saved."""
        self._folder = folder
        self._whole = Artifacts()
        self._saved: dict[tuple[str, str], Path] = {}
        self._unsaved: list[str] = []
        if folder is not None:
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise click.BadParameter(f"{folder}: {error.strerror}", param_hint="--artifacts") from None

    def __enter__(self) -> ArtifactFiles:
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
        """Saves the artifact that is complete with an event, if one is."""
        if self._folder is None:
            return
        try:
            made = self._whole.add(event)
            if made is not None:
                self._keep(self._folder, made)
        except (OSError, StepwireError) as error:
            self._unsaved.append(f"{event.artifact.name}: {error}")

    def _keep(self, folder: Path, made: Made) -> None:
        key = made.step_id, made.name
        if key in self._saved:
            self._saved[key].unlink(missing_ok=True)
            _write(self._saved[key], made.data)
        else:
            self._saved[key] = _written(folder, made)


def _written(folder: Path, made: Made) -> Path:
    """Writes a new file, and returns where it is."""
    name = Path(_file_name(made.name))
    path, number = folder / name, 1
    while True:
        try:
            _write(path, made.data)
        except FileExistsError:
            number += 1
            path = folder / f"{name.stem}-{number}{name.suffix}"
        else:
            return path


def _write(path: Path, data: bytes) -> None:
    # What is there already is never opened, and so no link followed.
    with path.open("xb") as file:
        file.write(data)


def _file_name(name: str) -> str:
    """Returns a name of one file for that of an artifact."""
    text = harmless(name).encode("utf-8", "replace")[:_NAME_BYTES].decode("utf-8", "ignore")
    return _UNFIT.sub("_", text) or "artifact"
