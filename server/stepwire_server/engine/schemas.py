"""JSON schemas of answers, as the jsonschema library understands them: draft 2020-12, unless `$schema` says another.

Nothing is fetched: a schema refers to its own parts, and to no other. A `foreign` one comes from elsewhere than the
app's own code, and whoever wrote it can't have it hold up the server: `effort.py` says how.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from itertools import islice
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError
from jsonschema.validators import validator_for
from referencing import Registry
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012, SchemaRegistry, SchemaResource, specification_with

from stepwire.errors import Violation
from stepwire_server.engine.effort import ENDLESS, OPPOSITE, Effort, TooMuch, counted

__all__ = ["TooMuch", "check_schema", "check_theirs", "differences", "mismatches"]

_NOTHING_ELSE: SchemaRegistry = Registry()
"""What other documents a schema may refer to. Left to itself, the library would fetch them over the network."""

_NO_KIND: Any = None
"""What stands for a draft that is not known. Some stubs of the library have it that there always is one."""

_MOST = 5_000
"""Values in a foreign schema, each part as often as it is looked at: its form is checked, too."""

_IN_WORDS = "say it in a description, or with enum, minLength and maxLength"
_OF_PARTS = "say it with additionalProperties or items"
_INSTEAD = {
    "pattern": _IN_WORDS,
    "patternProperties": _IN_WORDS,
    "unevaluatedItems": _OF_PARTS,
    "unevaluatedProperties": _OF_PARTS,
}
"""What may stand in place of what can take without end."""

_SHOWN = 50
_TEXT = 300
"""Mismatches that are told, and characters of each: the value stands in them, and may be long."""


def check_schema(schema: Mapping[str, Any], *, foreign: bool = False) -> None:
    """Raises ValueError, which says where, for what is no JSON schema, for one that refers to what is not in it, and
    for a foreign one that is too large, or by which a check can take without end: one with a regular expression, say.
    """
    parts = _parts(schema, foreign)
    for part in parts if foreign else ():
        for word in sorted(ENDLESS & part.keys()):
            place = _place(schema, part)
            raise ValueError(f"{place}.{word} is not taken: to check that can take without end; {_INSTEAD[word]}")


def check_theirs(schema: Mapping[str, Any]) -> frozenset[str]:
    """Returns the keywords of a foreign schema that are left out when values are checked by it, since whoever wrote it
    checks them, too. Raises ValueError as `check_schema` does, but for keywords that can take without end: those, and
    what they would turn around, are left out.
    """
    return ENDLESS | OPPOSITE if any(ENDLESS & part.keys() for part in _parts(schema, True)) else ENDLESS


def mismatches(schema: Mapping[str, Any], value: object, path: str, *, foreign: bool = False) -> list[Violation]:
    """Returns where and how a value does not match a schema that `check_schema` let pass. Raises ValueError where that
    takes too long by a foreign one.
    """
    return differences(schema, value, path, bounded=foreign, anywhere=ENDLESS if foreign else frozenset())


def differences(
    schema: Mapping[str, Any],
    value: object,
    path: str,
    *,
    bounded: bool,
    at_top: Set[str] = frozenset(),
    anywhere: Set[str] = frozenset(),
) -> list[Violation]:
    """As `mismatches`, without the keywords `at_top` of the schema, and `anywhere` in it. Raises TooMuch."""
    kind = _kind(schema)
    assert kind is not None
    # Where a part says its kind again, the library takes its own class for it.
    schema = {word: wanted for word, wanted in schema.items() if word != "$schema"}
    try:
        effort = Effort(schema, value, bounded=bounded, at_top=at_top, anywhere=anywhere)
        validator = counted(kind)(schema, registry=_NOTHING_ELSE, format_checker=effort)
        errors = list(islice(validator.iter_errors(value), _SHOWN))
    except RecursionError:
        return [Violation(path, "can't be checked: its schema refers to itself without an end")]
    return [Violation(_path(path, error), _shortened(error.message)) for error in errors]


def _parts(schema: Mapping[str, Any], foreign: bool) -> list[Mapping[str, Any]]:
    """Returns all that is a schema in a schema. Raises ValueError for what is none, or refers to what is not in it."""
    kind = _kind(schema)
    if kind is None:
        raise ValueError(f"the schema is of a kind that is not known: $schema is {schema['$schema']!r}")
    room = _MOST if foreign else None
    room = _check_form(kind, schema, "schema", room)
    specification = specification_with(schema["$schema"]) if "$schema" in schema else DRAFT202012
    resource: SchemaResource = specification.create_resource(schema)
    registry = _NOTHING_ELSE.with_resource(resource.id() or "", resource).crawl()
    left: list[tuple[SchemaResource, Any]] = [(resource, registry.resolver_with_root(resource))]
    seen: set[int] = set()
    parts: list[Mapping[str, Any]] = []
    while left:
        part, resolver = left.pop()
        left += [(inner, resolver.in_subresource(inner)) for inner in part.subresources()]
        if not isinstance(part.contents, Mapping):
            continue
        if "$schema" in part.contents and part.contents is not schema:
            raise ValueError(f"{_place(schema, part.contents)}.$schema is not taken: it stands at a schema's top alone")
        parts.append(part.contents)
        for target in [part.contents[word] for word in ("$ref", "$dynamicRef") if word in part.contents]:
            try:
                found = resolver.lookup(target)
            except Unresolvable:
                raise ValueError(f"the schema refers to {target!r}, which is not in it") from None
            if id(found.contents) not in seen:
                # A reference makes a schema of what stands where none was looked for.
                seen.add(id(found.contents))
                room = _check_form(kind, found.contents, target, room)
                left.append((specification.create_resource(found.contents), found.resolver))
    return parts


def _kind(schema: Mapping[str, Any]) -> Any:
    if "$schema" not in schema:
        return Draft202012Validator
    return validator_for(schema, default=_NO_KIND) if isinstance(schema["$schema"], str) else None


def _check_form(kind: Any, schema: Any, root: str, room: int | None) -> int | None:
    """Returns what room there is left for more parts; None where there is no end of it."""
    if room is not None:
        room -= _count(schema)
        if room < 0:
            raise ValueError(f"the schema is too large: at most {_MOST:,} values may stand in it")
    try:
        # What is foreign in it is never compiled.
        kind.check_schema(schema, **({} if room is None else {"format_checker": None}))
    except SchemaError as error:
        raise ValueError(f"the schema is no JSON schema: {_path(root, error)}: {error.message[:_TEXT]}") from None
    except RecursionError:
        raise ValueError("the schema is nested too deep") from None
    return room


def _count(value: Any) -> int:
    """Returns how many values a JSON-like value consists of."""
    count, left = 0, [value]
    while left:
        each = left.pop()
        count += 1
        if isinstance(each, Mapping | list):
            left += each.values() if isinstance(each, Mapping) else each
    return count


def _place(schema: Any, part: Any) -> str:
    """Returns where in a schema a part of it stands."""
    left = [("schema", schema)]
    while left:
        place, each = left.pop()
        if each is part:
            return place
        if isinstance(each, Mapping):
            left += [(f"{place}.{name}", item) for name, item in each.items()]
        elif isinstance(each, list):
            left += [(f"{place}[{index}]", item) for index, item in enumerate(each)]
    return "schema"


def _shortened(text: str) -> str:
    """Returns the ends of a long text: the value stands before what is wrong with it."""
    return text if len(text) <= _TEXT else f"{text[: _TEXT // 2 - 3]}...{text[-_TEXT // 2 :]}"


def _path(root: str, error: ValidationError | SchemaError) -> str:
    return root + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path)
