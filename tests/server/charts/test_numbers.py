"""The numbers: tables with random names and values, in every form, and each answer computed a second time in Python."""

from __future__ import annotations

import math
import os
import statistics
import tempfile
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from stepwire_server.charts.sources import open_source

from . import ten_questions
from .reckoning import AGGREGATES, UNITS, check, equal
from .tables import FORMS, ask, quoted, write

EXAMPLES = 300 if os.environ.get("FAULTS_LONG") else 6
"""Tables that are tried, in each form: some in `make test`, many with FAULTS_LONG=1."""

# Anything that SQL or the grammar might take for its own.
NAMES = st.one_of(
    st.sampled_from(
        [
            'a"b',
            "select",
            "order",
            "x; DROP TABLE things",
            "ß",
            "Größe (cm)",
            "count",
            "by",
            "'",
            "--",
            "100%",
            "%s",
            "?",
            "a.b",
            "[x",
            "`",
            "日本",
            "rowid",
            "1",
            "-1",
        ]
    ),
    # Neither SQLite nor DuckDB takes a name with the character 0.
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8),
)
TEXTS = st.one_of(
    st.none(),
    st.sampled_from(["north", "it's", 'a "b"', "x' OR '1'='1", "; DROP TABLE things; --", "Ünï", "null", "%", "_"]),
)
NUMBERS = st.one_of(
    st.none(),
    st.integers(-1000, 1000).map(float),
    st.floats(-1e6, 1e6, allow_nan=False).map(lambda value: round(value, 3)),
)
DATES = st.one_of(st.none(), st.dates(date(2019, 1, 1), date(2023, 12, 31)))


@pytest.mark.parametrize("form", ["sqlite", "duckdb"])
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
@given(
    names=st.lists(NAMES, min_size=4, max_size=4, unique_by=lambda name: name.casefold()),
    rows=st.lists(st.tuples(NUMBERS, NUMBERS, TEXTS, DATES), min_size=1, max_size=40),
    aggregate=st.sampled_from(sorted(AGGREGATES)),
    unit=st.sampled_from(sorted(UNITS)),
    limit=st.integers(-500, 500),
    wanted=TEXTS.filter(lambda text: text is not None),
)
def test_the_numbers_are_right(
    form: str,
    names: list[str],
    rows: list[tuple[Any, ...]],
    aggregate: str,
    unit: str,
    limit: int,
    wanted: str,
) -> None:
    """Whatever columns are called and have, each number is the one that Python computes from the same rows."""
    columns = dict(zip(names, ("number", "number", "text", "date"), strict=True))
    number, other, text, day = map(quoted, names)
    compute = AGGREGATES[aggregate]

    def expected(key: Callable[[tuple[Any, ...]], Any], chosen: list[tuple[Any, ...]]) -> dict[Any, Any]:
        labels = {key(row) for row in chosen}
        return {
            label: compute([row[0] for row in chosen if key(row) == label and row[0] is not None]) for label in labels
        }

    def compare(question: str, key: Callable[[tuple[Any, ...]], Any], chosen: list[tuple[Any, ...]]) -> None:
        numbers = expected(key, chosen)
        if all(value is None for value in numbers.values()):
            with pytest.raises(Exception, match=r"no row|no number"):
                ask(path, question)
        else:
            check(ask(path, question).numbers, numbers)

    with (
        tempfile.TemporaryDirectory() as folder,
        open_source(write(Path(folder), form, columns, rows), memory="200MB").open() as path,
    ):
        compare(f"{aggregate} {number} by {text}", lambda row: row[2], rows)
        above = [row for row in rows if row[1] is not None and row[1] > limit]
        compare(f"{aggregate} {number} by {text} where {other} > {limit}", lambda row: row[2], above)
        same = [row for row in rows if row[2] is not None and row[2].casefold() == wanted.casefold()]
        # Which quotes a value stands in is free.
        compare(f"{aggregate} {number} by {day} per {unit} where {text} is {quoted(wanted)}", _bucket(unit), same)
        late = [row for row in rows if row[3] is not None and row[3] >= date(2021, 1, 1)]
        compare(f"{aggregate} {number} by {text} since 2021", lambda row: row[2], late)
        counts: dict[Any, int] = {}
        for row in rows:
            counts[row[2]] = counts.get(row[2], 0) + 1
        check(ask(path, f"number of rows by {text}").numbers, counts)


def _bucket(unit: str) -> Callable[[tuple[Any, ...]], Any]:
    return lambda row: None if row[3] is None else UNITS[unit](row[3]).isoformat()


ROWS = [
    (
        date(2023, 1 + n % 12, 1 + n % 28),
        ["north", "south", None, "Öst"][n % 4],
        n % 3 == 0,
        round((n * 37 % 101) / 7, 3),
        n,
    )
    for n in range(240)
]


def _largest(found: list[Any]) -> float:
    return max(row[3] for row in found)


@pytest.mark.parametrize("form", FORMS)
def test_ten_questions(form: str, tmp_path: Path) -> None:
    """Ten questions in two languages have the same right answers in SQLite, DuckDB, CSV and Parquet."""
    columns = {"order_date": "date", "region": "text", "kind": "text", "price": "number", "units": "whole"}
    rows = [(day, region, "big" if big else "small", price, units) for day, region, big, price, units in ROWS]
    path = write(tmp_path, form, columns, rows, table="orders")

    def by(key: Callable[[Any], Any], value: Callable[[list[Any]], Any], where: Callable[[Any], bool] = bool) -> Any:
        chosen = [row for row in rows if where(row)]
        return {label: value([row for row in chosen if key(row) == label]) for label in {key(row) for row in chosen}}

    def mean(found: list[Any]) -> float:
        return math.fsum(row[3] for row in found) / len(found)

    def total(found: list[Any]) -> int:
        return sum(row[4] for row in found)

    def region(row: Any) -> Any:
        # A file of CSV has no other way to say that a value is missing.
        return row[1]

    def month(row: Any) -> str:
        return str(row[0].replace(day=1))

    expected = {
        "average price by region": by(region, mean),
        "Summe units pro Monat": by(month, total),
        "count of orders per kind": by(lambda row: row[2], len),
        "top 2 regions by units": dict(sorted(by(region, total).items(), key=lambda item: -item[1])[:2]),
        "average price by region where kind is big": by(region, mean, lambda row: row[2] == "big"),
        "Durchschnitt price je Monat in 2023 wo region Öst": by(month, mean, lambda row: row[1] == "Öst"),
        "maximum price by region and kind": by(
            lambda row: (row[1], row[2]), lambda found: max(row[3] for row in found)
        ),
        "number of orders by quarter since May 2023": by(
            lambda row: str(UNITS["quarter"](row[0])), len, lambda row: row[0] >= date(2023, 5, 1)
        ),
        "median units by kind where price between 2 and 9.5": by(
            lambda row: row[2], lambda found: statistics.median(row[4] for row in found), lambda row: 2 <= row[3] <= 9.5
        ),
        "sum of units by region where region is not south": by(region, total, lambda row: row[1] != "south"),
    }
    with open_source(path, memory="200MB").open() as session:
        for question, numbers in expected.items():
            check(ask(session, question).numbers, numbers)


@pytest.mark.parametrize("seed", range(1, 2 + EXAMPLES // 10))
def test_ten_questions_on_random_tables(seed: int, tmp_path: Path) -> None:
    """Ten questions on random tables have the answers that Python computes, in what is given and in what is drawn."""
    answers = ten_questions.answered(seed, tmp_path)
    assert [entry.question.text for entry in answers if not entry.right] == []
    assert len(answers) == 10
    assert {entry.drawing.chart for entry in answers} == {"bar", "line", "pie", "scatter"}


@pytest.mark.parametrize("form", ["sqlite", "duckdb"])
def test_a_scatter_has_the_rows_themselves(form: str, tmp_path: Path) -> None:
    """A scatter has each row that has both numbers, as x and y; of many it has some, evenly chosen."""
    rows = [(float(n), None if n % 7 == 0 else n / 2, "ab"[n % 2]) for n in range(500)]
    path = write(tmp_path, form, {"a": "number", "b": "number", "c": "text"}, rows)
    found = ask(path, '"b" against "a" by "c"')
    assert [(row.values, row.labels) for row in found.inquiry.rows] == [
        ((a, b), (c,)) for a, b, c in rows if b is not None
    ]
    assert "72 of 500 rows have no value" in found.drawing.notes[0]
    many = write(tmp_path, "sqlite", {"a": "number", "b": "number"}, [(n, n) for n in range(7001)], table="many")
    points = [row.values[0] for row in ask(many, '"a" against "b"').inquiry.rows]
    assert points == list(range(0, 7001, 4))


@pytest.mark.parametrize("form", ["sqlite", "duckdb"])
@pytest.mark.parametrize("aggregate", ["sum", "average", "median"])
def test_the_rest_is_computed_and_not_guessed(form: str, aggregate: str, tmp_path: Path) -> None:
    """Of too many names the rest is put together by a query of its own, so that an average is one of rows."""
    rows = [(f"name {n % 50:02}", (n * 7919) % 1000 + (n % 50)) for n in range(1000)] + [(None, 3), ("other", 5)]
    path = write(tmp_path, form, {"name": "text", "size": "whole"}, rows)
    found = ask(path, f"{aggregate} size by name")
    kept = found.numbers
    assert len(kept) == 19
    (rest,) = [row for row in found.inquiry.rows if row.others]
    assert equal(rest.values[0], AGGREGATES[aggregate]([size for name, size in rows if name not in kept]))
    assert rest.rows + sum(row.rows for row in found.inquiry.rows if not row.others) == len(rows)
    assert "33 values of 'name' are put together as one" in found.drawing.notes


@pytest.mark.parametrize("form", ["sqlite", "duckdb"])
def test_the_top_over_time_is_by_what_was_asked(form: str, tmp_path: Path) -> None:
    """The top of a number over time are those whose number is the largest as a whole, whatever its parts add up to."""
    # Many months of little, a few of much, and one month in which many rows are small.
    rows = [(date(2023, 1 + n % 12, 5), "often", 10 + n % 3) for n in range(36)]
    rows += [(date(2023, 5, 1 + n), "seldom", 50) for n in range(2)]
    rows += [(date(2023, 3, 1), "uneven", 120), *((date(2023, 4, 1 + n), "uneven", n % 5) for n in range(25))]
    rows += [(date(2023, 1 + n, 9), "middling", 20 + n) for n in range(6)]
    path = write(tmp_path, form, {"day": "date", "k": "text", "v": "whole"}, rows)
    with open_source(path, memory="200MB").open() as session:
        for aggregate in ("sum", "average", "median", "number of different"):
            compute = AGGREGATES[aggregate]
            whole = {kind: compute([v for _, k, v in rows if k == kind]) for kind in {k for _, k, _ in rows}}
            for order in ("top", "bottom"):
                expected = sorted(whole, key=lambda kind: whole[kind], reverse=order == "top")[:2]
                found = ask(session, f"{order} 2 k by {aggregate} v per month").numbers
                assert {labels[1] for labels in found} == set(expected), (aggregate, order)


def test_a_top_over_time_goes_along_time(tmp_path: Path) -> None:
    """The top of names over time is a line for each, in the order of time, with 0 where nothing is added up."""
    rows = [(date(2023, month, 3), kind, 10 * month + n) for month in (5, 2, 4) for n, kind in enumerate("abcd")]
    path = write(tmp_path, "sqlite", {"day": "date", "kind": "text", "size": "whole"}, rows)
    drawing = ask(path, "top 2 kinds by size per month").drawing
    assert drawing.chart == "line"
    assert [tuple(row.values()) for row in drawing.data] == [
        ("2023-02", "d", 23),
        ("2023-02", "c", 22),
        ("2023-03", "d", 0),
        ("2023-03", "c", 0),
        ("2023-04", "d", 43),
        ("2023-04", "c", 42),
        ("2023-05", "d", 53),
        ("2023-05", "c", 52),
    ]
    assert ask(path, "top 2 kinds by average size per month").drawing.data[-1]["day (month)"] == "2023-05"
    assert ask(path, "top 2 days by size").drawing.chart == "bar"


def test_the_rest_of_a_top_is_of_the_top(tmp_path: Path) -> None:
    """Where only some names are asked for, what is kept beside them, and what is put together, is theirs alone."""
    rows = [(f"name {n % 6}", f"kind {n % 35:02}", n % 6) for n in range(630)]
    rows += [("name 0", f"of its own {n}", 49) for n in range(8)]
    path = write(tmp_path, "sqlite", {"name": "text", "kind": "text", "size": "whole"}, rows)
    found = ask(path, "top 2 names by size by kind").inquiry.rows
    assert {row.labels[0] for row in found} == {"name 5", "name 4"}
    assert len({row.labels[1] for row in found if not row.others}) == 7
    assert sum(row.values[0] or 0 for row in found) == sum(
        size for name, _, size in rows if name in ("name 4", "name 5")
    )


def test_spans_of_time_without_rows_are_there(tmp_path: Path) -> None:
    """What is counted or added up is 0 in months without rows, and what is averaged has none of them."""
    rows = [(date(2023, month, 3), "a", 2) for month in (1, 2, 6)]
    path = write(tmp_path, "sqlite", {"day": "date", "kind": "text", "size": "whole"}, rows)
    counted = ask(path, "count by month").drawing
    assert [row["Number of things"] for row in counted.data] == [1, 1, 0, 0, 0, 1]
    assert counted.data[2]["day (month)"] == "2023-03"
    assert "3 spans of time without rows are shown as 0" in counted.notes
    assert len(ask(path, "average size by month").drawing.data) == 3


@pytest.mark.parametrize("form", ["sqlite", "duckdb"])
def test_different_values_are_counted_once(form: str, tmp_path: Path) -> None:
    """The number of different values counts each value once, and a missing one not at all."""
    rows = [("a", "x"), ("a", "x"), ("a", "y"), ("a", None), ("b", "x"), ("c", None)]
    path = write(tmp_path, form, {"k": "text", "v": "text"}, rows)
    assert ask(path, "number of different v by k").numbers == {"a": 2, "b": 1, "c": 0}
