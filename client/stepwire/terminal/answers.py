"""Answers as people type them: what a text means as an answer to a question, and lines as they come."""

from __future__ import annotations

import json
import os
import select
import sys
from collections.abc import Callable
from typing import Any

from stepwire.v1.event_pb2 import InputRequested
from stepwire.values import to_python

__all__ = ["LineReader", "choice_of", "value_of"]

_LOOK = 0.2
"""Seconds between two looks whether a line is still wanted."""


def value_of(text: str, requested: InputRequested | None = None) -> Any:
    """Returns what a text means: what it is as JSON, else the text itself. Where the question wants a text, what is no
    text as JSON is taken as it stands: the choice 1 is "1".
    """
    try:
        value = json.loads(text, parse_constant=_refuse)
    except ValueError:
        return text
    return text if requested is not None and _wants_text(requested) and not isinstance(value, str) else value


def choice_of(text: str, requested: InputRequested) -> str | None:
    """Returns the choice that a text names, by its words or by its number, from 1. None where it names none."""
    if text in requested.choices:
        return text
    number = int(text) if text.isascii() and text.isdecimal() and len(text) < 9 else 0
    return requested.choices[number - 1] if 0 < number <= len(requested.choices) else None


class LineReader:
    """Lines of a terminal, each read only while it is wanted. What was typed before is dropped by `forget`."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._rest = b""

    def read(self, wanted: Callable[[], bool]) -> str | None:
        """Returns the next line without its end; None once it is not wanted any more. Raises EOFError at the end of the
        input.
        """
        while wanted():
            line, end, rest = self._rest.partition(b"\n")
            if end:
                self._rest = rest
                return line.decode("utf-8", "replace").rstrip("\r")
            if self._ready():
                piece = os.read(self._descriptor, 4096)
                if not piece:
                    raise EOFError
                self._rest += piece
        return None

    def forget(self) -> None:
        """Drops lines that came before they were asked for: they answer nothing."""
        self._rest = b""
        while self._ready(0) and os.read(self._descriptor, 4096):
            pass

    def _ready(self, seconds: float = _LOOK) -> bool:
        if sys.platform == "win32":
            return seconds > 0  # A console can't be waited for there: the read waits, until Enter.
        return bool(select.select([self._descriptor], [], [], seconds)[0])


def _wants_text(requested: InputRequested) -> bool:
    return bool(requested.choices) or to_python(requested.schema).get("type") == "string"


def _refuse(constant: str) -> None:
    raise ValueError(constant)
