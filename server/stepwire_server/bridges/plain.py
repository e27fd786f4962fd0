"""Whatever a graph or a callback hands over, JSON-like: whole for an output, cut to a size for an event."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Set
from datetime import date, time
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any
from uuid import UUID

__all__ = ["MOST", "bounded", "whole"]

MOST = 32 * 1024
"""Characters of an event's data. A state grows with each turn of a graph, and every one of its events is kept."""

_DEEPEST = 10
"""Events may be nested 16 deep, of which their own form takes some."""

_ROLES = {"ai": "assistant", "human": "user", "AIMessageChunk": "assistant", "HumanMessageChunk": "user"}

_TEXTS = (date, time, Decimal, PurePath, UUID)


def whole(value: Any) -> Any:
    """Returns a value with chat messages as dicts (role, content, ...), wherever they stand in it. What is JSON-like
    neither then nor for pydantic is left as it is: whoever sends it says what is wrong with it.
    """
    return _opened(value, whole, lambda other: other)


def bounded(value: Any, most: int = MOST) -> Any:
    """Returns the same, of at most about so many characters, and always JSON-like. Where something is left out stands
    how much, in parentheses: "(cut: 12,000 more characters)".
    """
    return _Cutter(most).cut(value, 0)


class _Cutter:
    """Gives what there is room for."""

    def __init__(self, most: int) -> None:
        self._left = most

    def cut(self, value: Any, depth: int) -> Any:
        match value:
            case None | bool():
                return value
            case Enum():
                return self.cut(value.value, depth)
            case int() | float():
                self._left -= 8
                return value if abs(value) <= 2**53 and math.isfinite(value) else self._text(_number(value))
            case str():
                return self._text(value)
            case bytes() | bytearray():
                return f"({len(value):,} bytes)"
            case _ if isinstance(value, _TEXTS):
                return self._text(str(value))
            case _:
                if depth >= _DEEPEST:
                    return "(cut: nested deeper)"
                return _opened(value, lambda item: self.cut(item, depth + 1), _named, room=self._has_room)

    def _text(self, text: str) -> str:
        room = max(0, self._left)
        self._left -= len(text)
        sendable = text[:room].encode("utf-8", "backslashreplace").decode()
        return sendable if len(text) <= room else f"{sendable}(cut: {len(text) - room:,} more characters)"

    def _has_room(self, key: str) -> bool:
        self._left -= len(key) + 4
        return self._left > 0


def _opened(
    value: Any,
    inner: Callable[[Any], Any],
    other: Callable[[Any], Any],
    *,
    room: Callable[[str], bool] = lambda key: True,
) -> Any:
    """Returns a container with `inner` of all that is in it, as far as there is `room`; `other` of what is none."""
    if isinstance(value, Mapping):
        return _pairs(value, inner, room)
    if isinstance(value, list | tuple | Set):
        return _items(value, inner, room)
    if hasattr(value, "content") and isinstance(getattr(value, "type", None), str):
        return _pairs(_message(value), inner, room)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _pairs({field.name: getattr(value, field.name) for field in dataclasses.fields(value)}, inner, room)
    if hasattr(type(value), "model_fields"):  # A pydantic model.
        return _pairs({name: getattr(value, name) for name in type(value).model_fields}, inner, room)
    return other(value)


def _pairs(given: Mapping[Any, Any], inner: Callable[[Any], Any], room: Callable[[str], bool]) -> dict[str, Any]:
    opened: dict[str, Any] = {}
    for key, value in given.items():
        name = str(key)[:1_000].encode("utf-8", "backslashreplace").decode()
        if not room(name):
            opened["(cut)"] = f"{len(given) - len(opened):,} more"
            break
        opened[name] = inner(value)
    return opened


def _items(given: Iterable[Any], inner: Callable[[Any], Any], room: Callable[[str], bool]) -> list[Any]:
    items = list(given)
    opened: list[Any] = []
    for value in items:
        if not room(""):
            opened.append(f"(cut: {len(items) - len(opened):,} more)")
            break
        opened.append(inner(value))
    return opened


def _message(message: Any) -> dict[str, Any]:
    """Returns a chat message as most interfaces have it."""
    told = {"role": _ROLES.get(message.type, message.type), "content": message.content}
    more = {name: getattr(message, name, None) for name in ("name", "tool_calls", "tool_call_id")}
    return told | {name: value for name, value in more.items() if value}


def _named(value: Any) -> str:
    # Not its repr: that may be long, and have in it what nobody should see.
    return f"({type(value).__name__})"


def _number(value: float) -> str:
    try:
        return str(value)
    except ValueError:  # Python refuses to write whole numbers of thousands of digits.
        return f"(a number of {int(value).bit_length():,} bits)"
