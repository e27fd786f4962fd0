"""What a request is about: each of its references becomes a result of this request, or a value that was remembered."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from stepwire_server.planning.grammar import Part
from stepwire_server.planning.memory import Recollection
from stepwire_server.planning.references import escaped, substituted

__all__ = ["Unresolved", "is_number", "resolve"]

_NUMBER = re.compile(r"-?\d+(\.\d+)?(E[+-]?\d+)?", re.IGNORECASE)
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")

_NEEDS = {"calculate": "number", "add_to_date": "date", "days_between": "date"}
"""What a tool can take of a result."""

_GIVES = {
    ("calculate", ""): "number",
    ("days_between", "days"): "number",
    ("days_between", "weekdays"): "number",
    ("add_to_date", "date"): "date",
    ("add_to_date", "weekday"): "word",
    ("text_statistics", "*"): "set of figures",
    **{("text_statistics", figure): "number" for figure in ("words", "characters", "lines", "sentences", "bytes")},
}
"""What a result of theirs is. Nobody knows of other tools until they have run."""

_KNOWN_NAMES = 20


class Unresolved(ValueError):
    """A request refers to what is not there, or is of another kind than it takes. The text says what is there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """A result that can be referred to: of a call of this request, or a value."""

    text: str
    kind: str
    call: str = ""
    field: str = ""
    value: Any = None

    @property
    def origin(self) -> dict[str, Any]:
        return {"call": self.call, "field": self.field} if self.call else {"value": self.value}

    def stands_for(self, needed: str, words: str) -> Any:
        """Returns what is put in the reference's place."""
        if needed and self.kind not in {needed, "anything"}:
            shown = f"the {self.kind} of {self.text!r}" if self.call else f"{self.value!r} of {self.text!r}"
            raise Unresolved(f"{words!r} takes a {needed}, and is given {shown[:200]}")
        if self.call:
            return f"${{{self.call}{'/' + self.field if self.field else ''}}}"
        return escaped(self.value)


def resolve(parts: Sequence[Part], memory: Recollection, *, today: date) -> list[dict[str, Any]]:
    """Returns the parts of a request as JSON, with every reference followed. A call has `id`, `tool`, `input` and
    `field`, in which `${1}` is the result of the call 1; other parts have `is`, a value or a call's result. Raises
    Unresolved.
    """
    return _Scope(memory, today).all(parts)


def is_number(value: Any) -> bool:
    """Tells whether a value can be calculated with."""
    if isinstance(value, str):
        return _NUMBER.fullmatch(value) is not None
    return isinstance(value, int | float) and not isinstance(value, bool)


class _Scope:
    """What can be referred to at one place of a request."""

    def __init__(self, memory: Recollection, today: date) -> None:
        self._today = today.isoformat()
        self._results = [_remembered(result["text"], result["value"]) for result in memory.results]
        self._names = {name: _remembered(kept["text"], kept["value"]) for name, kept in memory.names.items()}

    def all(self, parts: Sequence[Part]) -> list[dict[str, Any]]:
        return [self._one(part, str(number)) for number, part in enumerate(parts, 1)]

    def _one(self, part: Part, number: str) -> dict[str, Any]:
        if part.act == "call":
            needed = _NEEDS.get(part.tool, "")
            given = substituted(part.input, lambda words: self._known(words).stands_for(needed, part.text), last=False)
            field = "" if part.field == "*" else part.field
            kind = _GIVES.get((part.tool, part.field), "anything")
            self._results.append(_Known(text=part.text, kind=kind, call=number, field=field))
            called = {"id": number, "tool": part.tool, "input": given, "field": field}
            return {"text": part.text, "act": "call", **called}
        known = self._known(part.of.removeprefix("${").removesuffix("}"))
        if part.act == "name":
            self._names[part.name] = known
            return {"text": part.text, "act": "name", "name": part.name, "of": known.text, "is": known.origin}
        self._results.append(known)
        return {"text": part.text, "act": "recall", "of": known.text, "is": known.origin}

    def _known(self, words: str) -> _Known:
        kind, _, name = words.partition(":")
        back = {"it": 1, "before": 2}.get(kind)
        if kind == "today":
            return _remembered("today", self._today)
        if back is None:
            if name not in self._names:
                known = ", ".join(list(self._names)[-_KNOWN_NAMES:])
                there = f"there are: {known}" if known else "no result has a name yet"
                raise Unresolved(f"nothing is called {name!r} in this session; {there}")
            return self._names[name]
        if len(self._results) < back:
            which = "an earlier result" if back == 1 else "a result before the newest one"
            there = "one alone" if self._results else "none"
            raise Unresolved(f"the request refers to {which}, and this session has {there}")
        return self._results[-back]


def _remembered(text: str, value: Any) -> _Known:
    if is_number(value):
        kind = "number"
    elif isinstance(value, str):
        kind = "date" if _DATE.fullmatch(value) else "word"
    else:
        kind = "value"
    return _Known(text=text, kind=kind, value=value)
