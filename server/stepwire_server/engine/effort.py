"""What checking a value by a JSON schema takes: counted, and ended where it is too much.

A schema from elsewhere can make a check take without end: by regular expressions that go back over a text, by parts
that refer twice to a part that refers twice to another one, and by comparing everything with everything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from functools import cache
from typing import Any

from jsonschema import validators
from jsonschema.exceptions import ValidationError

__all__ = ["ENDLESS", "OPPOSITE", "Effort", "TooMuch", "counted"]

ENDLESS = frozenset({"pattern", "patternProperties", "unevaluatedItems", "unevaluatedProperties"})
"""Keywords that one step can take without end for: regular expressions, and what the library follows by itself."""

OPPOSITE = frozenset({"contains", "disallow", "if", "not", "oneOf"})
"""Keywords by which a value may be refused because a part fits it: where parts are left out, too much would."""

_STEPS = 50_000
"""Steps of one check. A step is one keyword for one value: some ten microseconds."""

_ENTRIES = 8
_CHARACTERS = 256
"""Entries of a list or an object, and characters of a value as JSON, that take as long as a step."""

_ERROR = 2
"""Steps to make an error."""


class TooMuch(ValueError):
    """A check takes more than is allowed."""


class Effort:
    """What one check may take, and what it leaves out.

    It stands in the place of a format checker (formats are not checked): that is what a validator hands on to those
    of its parts.
    """

    __slots__ = ("_anywhere", "_at_top", "_left", "_schema", "_sizes")

    def __init__(
        self,
        schema: Mapping[str, Any],
        value: object,
        *,
        bounded: bool,
        at_top: Set[str] = frozenset(),
        anywhere: Set[str] = frozenset(),
    ) -> None:
        """`at_top`, `anywhere`: the keywords that are left out, in the schema's top alone and in all of it."""
        self._schema = schema
        self._at_top = at_top
        self._anywhere = anywhere
        self._left = _STEPS
        self._sizes: dict[int, int] | None = {} if bounded else None
        if self._sizes is not None:
            _measure(value, self._sizes)

    def leaves_out(self, word: str, schema: Mapping[str, Any]) -> bool:
        """Returns whether a keyword of this part of the schema is not looked at."""
        if word in self._anywhere or (schema is self._schema and word in self._at_top):
            return True
        # That is about the properties which no pattern fits.
        return word == "additionalProperties" and "patternProperties" in self._anywhere & schema.keys()

    def step(self, word: str, wanted: Any, value: Any) -> None:
        """Counts a keyword. Raises TooMuch."""
        if self._sizes is None:
            return
        entries = sum(len(each) for each in (wanted, value) if isinstance(each, list | dict))
        size = self._sizes.get(id(value), 0) if isinstance(value, list | dict) else _length(value)
        times = len(wanted) if word == "enum" else 1
        self.take(1 + entries // _ENTRIES + times * size // _CHARACTERS)

    def told(self, error: ValidationError) -> None:
        """Counts what was found: the value stands in its text. Raises TooMuch."""
        if self._sizes is not None:
            self.take(_ERROR + len(error.message) // _CHARACTERS)

    def take(self, steps: int) -> None:
        """Counts steps. Raises TooMuch."""
        self._left -= steps
        if self._left < 0:
            raise TooMuch(f"it can't be checked: by its schema that takes more than {_STEPS:,} steps")


@cache
def counted(kind: Any) -> Any:
    """Returns a class of validators which looks at what its Effort lets it, and counts that."""
    functions = dict(kind.VALIDATORS) | {"uniqueItems": _unique_items, "format": _nothing}
    extend: Any = validators.extend
    return extend(kind, {word: _counted(word, function) for word, function in functions.items()})


def _counted(word: str, function: Callable[..., Iterable[ValidationError] | None]) -> Callable[..., Any]:
    def check(validator: Any, wanted: Any, value: Any, schema: Mapping[str, Any]) -> Iterator[ValidationError]:
        effort: Effort = validator.format_checker
        if effort.leaves_out(word, schema):
            return
        effort.step(word, wanted, value)
        if word in ("anyOf", "oneOf"):
            # Each has a text, with the value in it, before anything is counted.
            wanted = [part for part in wanted if part is not False]
        for error in function(validator, wanted, value, schema) or ():
            effort.told(error)
            yield error

    return check


def _nothing(validator: Any, wanted: Any, value: Any, schema: Any) -> None:
    pass


def _unique_items(validator: Any, wanted: Any, value: Any, schema: Any) -> Iterator[ValidationError]:
    """As the library's, which compares each with each."""
    if wanted and isinstance(value, list) and len({_identity(item) for item in value}) < len(value):
        yield ValidationError(f"{value!r} has non-unique elements")


def _identity(value: Any) -> Any:
    """Returns what equal values have in common: 1 is 1.0, and not true."""
    match value:
        case bool():
            return bool, value
        case Mapping():
            return frozenset((key, _identity(item)) for key, item in value.items())
        case list() | tuple():
            return tuple(_identity(item) for item in value)
        case _:
            return value


def _measure(value: Any, sizes: dict[int, int]) -> int:
    """Returns about how long a value is as JSON, and notes it of each of its parts."""
    match value:
        case Mapping():
            size = 2 + sum(len(str(key)) + 4 + _measure(item, sizes) for key, item in value.items())
        case list() | tuple():
            size = 2 + sum(2 + _measure(item, sizes) for item in value)
        case _:
            return _length(value)
    sizes[id(value)] = size
    return size


def _length(value: Any) -> int:
    return len(value) + 2 if isinstance(value, str) else 8
