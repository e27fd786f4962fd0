"""What a check by a schema from elsewhere may take, and what it says nevertheless."""

from __future__ import annotations

from typing import Any

import pytest

from stepwire_server.engine import effort
from stepwire_server.engine.effort import TooMuch
from stepwire_server.engine.schemas import check_schema, check_theirs, differences, mismatches

SLOW = "(a+)+$"
TEXT = "a" * 40 + "b"


DRAFT_2020 = "https://json-schema.org/draft/2020-12/schema"
DRAFT_3 = "http://json-schema.org/draft-03/schema#"


def nested(levels: int) -> Any:
    """Returns a list in a list, so many times."""
    value: list[Any] = []
    for _ in range(levels - 1):
        value = [value]
    return value


def doubling(word: str, levels: int = 40) -> dict[str, Any]:
    """Returns a schema whose parts refer twice to the next one each."""
    parts = {str(level): {word: [{"$ref": f"#/$defs/{level + 1}"}] * 2} for level in range(levels)}
    return {"$ref": "#/$defs/0", "$defs": {**parts, str(levels): {"type": "string"}}}


@pytest.mark.parametrize(
    ("schema", "place"),
    [
        ({"properties": {"a": {"items": {"pattern": SLOW}}}}, "schema.properties.a.items.pattern"),
        ({"allOf": [{}, {"patternProperties": {SLOW: {}}}]}, r"schema.allOf\[1\].patternProperties"),
        ({"propertyNames": {"pattern": SLOW}}, "schema.propertyNames.pattern"),
        ({"$defs": {"a": {"pattern": SLOW}}, "$ref": "#/$defs/a"}, r"schema\.\$defs\.a\.pattern"),
        ({"$ref": "#/mine/0", "mine": [{"pattern": SLOW}]}, r"schema\.mine\[0\]\.pattern"),
        ({"unevaluatedProperties": False}, "schema.unevaluatedProperties"),
        ({"unevaluatedItems": False}, "schema.unevaluatedItems"),
    ],
    ids=lambda case: None,
)
def test_what_can_take_without_end(schema, place):
    """A keyword that can take without end is refused in a foreign schema, with its place, and taken in one's own."""
    check_schema(schema)
    with pytest.raises(ValueError, match=f"^{place} is not taken"):
        check_schema(schema, foreign=True)


def test_what_is_not_found_is_not_run():
    """No regular expression of a foreign schema is run, also where the library alone knows that it is one."""
    schema = {"$schema": DRAFT_3, "type": [{"pattern": SLOW}]}
    check_schema(schema, foreign=True)
    assert mismatches(schema, TEXT, "value", foreign=True) == []


def test_a_property_may_have_the_name_of_a_keyword():
    """What only has the name of such a keyword is none."""
    schema = {"properties": {"pattern": {"type": "string"}, "not": {"const": {"pattern": SLOW}}}}
    check_schema(schema, foreign=True)
    assert "is not of type" in mismatches(schema, {"pattern": 1}, "value", foreign=True)[0].description


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        (doubling("allOf"), "x"),
        (doubling("anyOf"), 5),
        (doubling("oneOf"), 5),
        ({"$schema": DRAFT_2020, "items": {"allOf": [{"$ref": "#"}] * 2}}, nested(15)),
        ({"items": {"properties": {str(n): {} for n in range(1_000)}}}, [{}] * 100),
        ({"allOf": [{"items": {}}] * 200}, [1] * 1_000),
        ({"allOf": [{"not": {"contains": False}}] * 200}, ["x" * 100] * 1_000),
        ({"items": {"enum": [[0] * 300 + [1]]}}, [[0] * 301] * 300),
        ({"anyOf": [{"const": n} for n in range(200)]}, "x" * 40_000),
    ],
    ids=["all", "any", "one", "kind", "names", "items", "contains", "enum", "long"],
)
def test_no_foreign_schema_takes_long(schema, value, monkeypatch):
    """A check by a foreign schema ends after so many steps, also where its parts refer twice to the next one, forty
    times.
    """
    check_schema(schema, foreign=True)
    monkeypatch.setattr(effort, "_STEPS", 5_000)
    with pytest.raises(TooMuch, match="takes more than 5,000 steps"):
        mismatches(schema, value, "value", foreign=True)


class Told(str):
    """A text that counts how often it is told."""

    __slots__ = ("times",)

    def __repr__(self) -> str:
        self.times = getattr(self, "times", 0) + 1
        return super().__repr__()


def test_texts_are_made_of_what_can_fit():
    """What fits nothing is told in one text, however many parts there are that nothing fits."""
    value = Told("x")
    assert len(mismatches({"anyOf": [False] * 100}, value, "value", foreign=True)) == 1
    assert value.times == 1


def test_a_large_value_is_checked():
    """A table of many rows is checked by an ordinary schema, and not each of twenty thousand against each."""
    row = {"type": "object", "required": ["a"], "additionalProperties": False, "properties": {"a": {"type": "integer"}}}
    schema = {"type": "array", "uniqueItems": True, "items": row}
    rows: list[Any] = [{"a": n} for n in range(1_500)]
    assert mismatches(schema, rows, "value", foreign=True) == []
    assert mismatches({"uniqueItems": True}, [{"a": n} for n in range(20_000)], "value", foreign=True) == []
    rows[1_499] = {"a": 0}
    assert "has non-unique elements" in mismatches(schema, rows, "value", foreign=True)[0].description


@pytest.mark.parametrize(
    ("value", "is_unique"),
    [
        ([1, True, 0, False, "1", None, [1], [True], {"a": 1}, {"a": True}, {}, []], True),
        ([1, 1.0], False),
        ([{"a": [1], "b": 2}, {"b": 2, "a": [1.0]}], False),
        ([None, None], False),
    ],
)
def test_what_is_the_same(value, is_unique):
    """Items are unique as JSON has it: 1 is 1.0 and not true, and the order of an object's fields means nothing."""
    assert (mismatches({"uniqueItems": True}, value, "value") == []) == is_unique


def test_a_large_schema():
    """A foreign schema has a size, since its form is checked, too, and each part as often as it is referred to."""
    with pytest.raises(ValueError, match="too large: at most 5,000 values"):
        check_schema({"properties": {str(n): {} for n in range(5_000)}}, foreign=True)
    nested: dict[str, Any] = {"enum": list(range(2_000))}
    for _ in range(9):
        nested = {"mine": nested}
    refers = [{"$ref": "#" + "/mine" * n} for n in range(1, 9)]
    with pytest.raises(ValueError, match="too large"):
        check_schema({"anyOf": refers, **nested}, foreign=True)


def test_the_kind_is_said_once():
    """A part of a schema does not say its kind: what is counted would not be its own check then."""
    schema = {"$defs": {"a": {"$schema": DRAFT_2020}}}
    with pytest.raises(ValueError, match=r"^schema\.\$defs\.a\.\$schema is not taken"):
        check_schema(schema)


WORD = {"pattern": SLOW}


@pytest.mark.parametrize(
    ("schema", "fits"),
    [
        ({"items": WORD}, [TEXT]),
        ({"patternProperties": {"^x": {"type": "integer"}}, "additionalProperties": False}, {"x1": 1}),
        ({"not": WORD}, TEXT),
        ({"oneOf": [{"pattern": "^a"}, {"pattern": "^b"}]}, "b"),
        ({"if": {"pattern": "^a"}, "then": {"maxLength": 1}}, "bbb"),
        ({"contains": {"pattern": "^a"}, "maxContains": 1}, ["a", "b", "b"]),
        ({"patternProperties": {"^x": {}}, "unevaluatedProperties": False}, {"x": 1}),
        ({"not": {"$ref": "#/$defs/word"}, "$defs": {"word": WORD}}, TEXT),
    ],
    ids=lambda case: None,
)
def test_what_others_check(schema, fits):
    """Of a schema whose author checks it, too, nothing is left out because of which a value that fits is refused."""
    assert differences(schema, fits, "value", bounded=True, anywhere=check_theirs(schema)) == []


def test_what_others_do_not_have_to_check():
    """Of such a schema the rest is checked, and all of one in which nothing can take without end."""
    schema = {"properties": {"day": WORD, "n": {"type": "integer"}}, "required": ["day"]}
    found = differences(schema, {"n": "x"}, "value", bounded=True, anywhere=check_theirs(schema))
    assert sorted(problem.field for problem in found) == ["value", "value.n"]
    schema = {"patternProperties": {SLOW: {}}, "additionalProperties": False}
    assert differences(schema, {TEXT: 1}, "value", bounded=True, anywhere=check_theirs(schema)) == []
    schema = {"oneOf": [{"const": 1}, {"const": 2}]}
    assert differences(schema, 3, "value", bounded=True, anywhere=check_theirs(schema))
