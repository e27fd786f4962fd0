"""The key of an endpoint, kept out of every text."""

from __future__ import annotations

import re

__all__ = ["Secret"]

_SHARED = 8
"""So many characters in a row that a text shares with the key are taken for a part of it."""

_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[^\s\"',;<>}\]]+")

_REDACTED = "[redacted]"


class Secret:
    """A key. It shows itself in no repr; `in_clear` is for the request's header alone."""

    __slots__ = ("_key", "_parts")

    def __init__(self, key: str) -> None:
        """Raises ValueError, without the key in it, for what can't be sent as one."""
        if not all("!" <= character <= "~" for character in key):
            raise ValueError("the key has a character that no key has, such as a space, a line break or an umlaut")
        self._key = key
        size = min(_SHARED, len(key))
        self._parts = (
            frozenset(key[start : start + size] for start in range(len(key) - size + 1)) if key else frozenset()
        )

    def __bool__(self) -> bool:
        return bool(self._key)

    def __repr__(self) -> str:
        return "Secret(...)" if self._key else "Secret()"

    def in_clear(self) -> str:
        """Returns the key."""
        return self._key

    def redacted(self, text: str) -> str:
        """Returns a text without the key, without any longer part of it (whoever echoes it may have cut it), and
        without what is marked as credentials.
        """
        text = _BEARER.sub(rf"\1 {_REDACTED}", text)
        if not self._parts:
            return text
        size = min(_SHARED, len(self._key))
        hidden = bytearray(len(text))
        for start in range(len(text) - size + 1):
            if text[start : start + size] in self._parts:
                hidden[start : start + size] = b"\1" * size
        pieces = []
        for place, character in enumerate(text):
            if not hidden[place]:
                pieces.append(character)
            elif not place or not hidden[place - 1]:
                pieces.append(_REDACTED)
        return "".join(pieces)
