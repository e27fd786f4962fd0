"""JSON schemas of answers, as the jsonschema library understands them: draft 2020-12, unless `$schema` says another.

Nothing is fetched: a schema refers to its own parts, and to no other.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError
from jsonschema.validators import validator_for
from referencing import Registry
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012, SchemaRegistry, SchemaResource, specification_with

from stepwire.errors import Violation

__all__ = ["check_schema", "mismatches"]

_NOTHING_ELSE: SchemaRegistry = Registry()
"""What other documents a schema may refer to. Left to itself, the library would fetch them over the network."""

_NO_KIND: Any = None
"""What stands for a draft that is not known. Some stubs of the library have it that there always is one."""

_SHOWN = 50
_TEXT = 300
"""Mismatches that are told, and characters of each: the value stands in them, and may be long."""


def check_schema(schema: Mapping[str, Any]) -> None:
    """Raises ValueError, which says where, for what is no JSON schema, and for one that refers to what is not in it."""
    kind = _kind(schema)
    if kind is None:
        raise ValueError(f"the schema is of a kind that is not known: $schema is {schema['$schema']!r}")
    _check_form(kind, schema, "schema")
    specification = specification_with(schema["$schema"]) if "$schema" in schema else DRAFT202012
    resource: SchemaResource = specification.create_resource(schema)
    registry = _NOTHING_ELSE.with_resource(resource.id() or "", resource).crawl()
    left: list[tuple[SchemaResource, Any]] = [(resource, registry.resolver_with_root(resource))]
    seen: set[int] = set()
    while left:
        part, resolver = left.pop()
        left += [(inner, resolver.in_subresource(inner)) for inner in part.subresources()]
        for target in _references(part):
            try:
                found = resolver.lookup(target)
            except Unresolvable:
                raise ValueError(f"the schema refers to {target!r}, which is not in it") from None
            if id(found.contents) not in seen:
                # A reference makes a schema of what stands where none was looked for.
                seen.add(id(found.contents))
                _check_form(kind, found.contents, target)
                left.append((specification.create_resource(found.contents), found.resolver))


def mismatches(schema: Mapping[str, Any], value: object, path: str) -> list[Violation]:
    """Returns where and how a value does not match a schema that `check_schema` let pass."""
    kind = _kind(schema)
    assert kind is not None
    try:
        found = list(islice(kind(schema, registry=_NOTHING_ELSE).iter_errors(value), _SHOWN))
    except RecursionError:
        return [Violation(path, "can't be checked: its schema refers to itself without an end")]
    return [Violation(_path(path, error), _shortened(error.message)) for error in found]


def _kind(schema: Mapping[str, Any]) -> Any:
    if "$schema" not in schema:
        return Draft202012Validator
    return validator_for(schema, default=_NO_KIND) if isinstance(schema["$schema"], str) else None


def _check_form(kind: Any, schema: Any, root: str) -> None:
    try:
        kind.check_schema(schema)
    except SchemaError as error:
        raise ValueError(f"the schema is no JSON schema: {_path(root, error)}: {error.message[:_TEXT]}") from None


def _shortened(text: str) -> str:
    """Returns the ends of a long text: the value stands before what is wrong with it."""
    return text if len(text) <= _TEXT else f"{text[: _TEXT // 2 - 3]}...{text[-_TEXT // 2 :]}"


def _references(part: SchemaResource) -> list[str]:
    if not isinstance(part.contents, Mapping):
        return []
    return [part.contents[word] for word in ("$ref", "$dynamicRef") if word in part.contents]


def _path(root: str, error: ValidationError | SchemaError) -> str:
    return root + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path)
