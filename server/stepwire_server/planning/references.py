"""References to results, as they stand in the inputs of planned calls; and where results can stand.

${1}          what the call 1 came to
${1/days}     the part `days` of its output
$${           ${ itself

A text that is one reference becomes the value, whatever it is; within a text it is written out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from stepwire.errors import InputInvalid
from stepwire.values import to_value

__all__ = ["can_stand", "escaped", "mentioned", "substituted", "written_out"]

_REFERENCE = re.compile(r"\$\$\{|\$\{([^{}]{1,100})\}")


def escaped(value: Any) -> Any:
    """Returns a JSON-like value in whose texts nothing is a reference."""
    match value:
        case str():
            return value.replace("${", "$${")
        case Mapping():
            return {key: escaped(item) for key, item in value.items()}
        case list() | tuple():
            return [escaped(item) for item in value]
        case _:
            return value


def mentioned(value: Any) -> list[str]:
    """Returns what is referred to anywhere in a JSON-like value, each once, in order."""
    names = (match[1] for text in _texts(value) for match in _REFERENCE.finditer(text) if match[1])
    return list(dict.fromkeys(names))


def substituted(value: Any, lookup: Callable[[str], Any], *, last: bool) -> Any:
    """Returns a JSON-like value with its references replaced by what `lookup` gives for them. `last`: nothing is
    replaced after this, and `$${` becomes `${`.
    """
    match value:
        case str():
            whole = _REFERENCE.fullmatch(value)
            if whole is not None and whole[1]:
                return lookup(whole[1])

            def replace(match: re.Match[str]) -> str:
                if match[1]:
                    return written_out(lookup(match[1]))
                return "${" if last else match[0]

            return _REFERENCE.sub(replace, value)
        case Mapping():
            return {key: substituted(item, lookup, last=last) for key, item in value.items()}
        case list() | tuple():
            return [substituted(item, lookup, last=last) for item in value]
        case _:
            return value


def written_out(value: Any) -> str:
    """Returns a value as it stands in a text."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: ""}[value]
    return value if isinstance(value, str) else repr(value)


def can_stand(value: Any, *place: str) -> bool:
    """Tells whether an event can carry a value that stands at a place in it, such as "answers", "0", "value"."""
    for name in reversed(place):
        value = {name: value}
    try:
        to_value(value)
    except InputInvalid:
        return False
    return True


def _texts(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case Mapping():
            for item in value.values():
                yield from _texts(item)
        case list() | tuple():
            for item in value:
                yield from _texts(item)
