"""Ten questions on tables of random names, forms and rows, each answer beside one that Python computes from the rows.

    python -m tests.server.charts.ten_questions --seed 7 --folder build/charts

A table goes to standard output; the tables and the ten pictures go into the folder. Fails where a number differs, in
what a caller gets or in what is drawn.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from stepwire_server.charts.drawing import Drawing
from stepwire_server.charts.pictures import pictures

from .reckoning import AGGREGATES, UNITS, equal
from .tables import FORMS, ask, write

__all__ = ["Answered", "answered", "table"]

Labels = tuple[str, ...]
Rows = Sequence["Row"]

_TABLES = ["orders", "deliveries", "Messwerte", "bookings", "repairs", "visits"]
_DATES = ["sold on", "shipped", "Stichtag", "created", "due date"]
_FEW = [
    ("region", ["North", "South", "East", "West"]),
    ("status", ["open", "paid", "overdue", "cancelled", "sent back"]),
    ("Abteilung", ["Einkauf", "Vertrieb", "Lager", "Büro"]),
    ("carrier", ["ship", "rail", "road"]),
    ("payment kind", ["card", "cash", "invoice", "Überweisung"]),
]
_MANY = ["customer", "product name", "Lieferant", "machine", "city"]
_REAL = ["price", "weight", "Umsatz", "unit cost", "distance"]
_WHOLE = ["units", "minutes", "Anrufe", "page views", "age"]
_SYLLABLES = [consonant + vowel for consonant in "bdfghjklmnprstv" for vowel in "aeiou"]
_STYLES: Sequence[Callable[[str], str]] = (
    lambda name: name.replace(" ", "_"),
    lambda name: name.title(),
    lambda name: name[0].lower() + name.title().replace(" ", "")[1:],
    lambda name: name.upper().replace(" ", "_"),
)
"""How databases write names that people write with spaces."""


class Row(NamedTuple):
    """One row of a table."""

    day: date | None
    few: str | None
    many: str
    real: float | None
    whole: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """One table. Its names are as people write them."""

    name: str
    day: str
    few: str
    many: str
    real: str
    whole: str
    values: Sequence[str]
    """Of `few`."""
    rows: Rows
    path: Path


class Question(NamedTuple):
    """One question, and its answer by the labels that are shown; of a scatter its points are what is compared."""

    text: str
    made: Made
    expected: Mapping[Labels, float | None] | list[tuple[Any, ...]]


class Answered(NamedTuple):
    """One question with both answers."""

    question: Question
    drawing: Drawing
    found: Mapping[Labels, float | None] | list[tuple[Any, ...]]
    right: bool


def answered(seed: int, folder: Path) -> list[Answered]:
    """Makes four tables, one of each form, and asks ten questions of them."""
    chance = Random(seed)
    made = [_made(chance, folder, form) for form in FORMS]
    chance.shuffle(made)
    found = []
    for number, compose in enumerate(_QUESTIONS):
        question = compose(made[number % len(made)], chance)
        drawing = ask(question.made.path, question.text).drawing
        answer = _answer(drawing)
        found.append(Answered(question, drawing, answer, _same(answer, question.expected) and _drawn(drawing)))
    return found


def table(answers: Iterable[Answered], *, most: int = 4) -> str:
    """Returns questions, answers and the independent answers as a Markdown table, some numbers of each."""
    rows = [["question", "of", "chart", "label", "answer", "independent", "right"], ["---"] * 7]
    for entry in answers:
        found = dict(enumerate(entry.found)) if isinstance(entry.found, list) else dict(entry.found)
        expected = entry.question.expected
        other = dict(enumerate(expected)) if isinstance(expected, list) else dict(expected)
        keys: list[Any] = list(dict.fromkeys([*found, *other]))
        told = [entry.question.text, entry.question.made.path.suffix[1:], entry.drawing.chart]
        for key in keys[:most]:
            label = " / ".join(key) if isinstance(key, tuple) else f"point {key + 1}"
            rows.append([*told, label, _written(found.get(key)), _written(other.get(key)), ""])
            told = [""] * 3
        more = f"{len(keys) - most} more" if len(keys) > most else ""
        rows.append(["", "", "", more, f"{len(found)} in all", f"{len(other)} in all", "yes" if entry.right else "NO"])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


# -- tables


def _made(chance: Random, folder: Path, form: str) -> Made:
    few, values = chance.choice(_FEW)
    taken = {"day": chance.choice(_DATES), "few": few, "many": chance.choice(_MANY)}
    taken |= {"real": chance.choice(_REAL), "whole": chance.choice(_WHOLE)}
    names = ["".join(chance.choices(_SYLLABLES, k=3)).title() for _ in range(40)]
    first, days = date(2022, 1, 1) + timedelta(days=chance.randrange(300)), chance.randrange(300, 700)
    rows = [
        Row(
            day=None if chance.random() < 0.02 else first + timedelta(days=chance.randrange(days)),
            few=None if chance.random() < 0.05 else chance.choice(values),
            many=names[min(int(chance.expovariate(0.08)), 39)],
            real=None if chance.random() < 0.05 else round(chance.lognormvariate(3, 1.2), 2),
            whole=None if chance.random() < 0.05 else chance.randrange(-20, 500),
        )
        for _ in range(chance.randrange(150, 400))
    ]
    kinds = {"day": "date", "few": "text", "many": "text", "real": "number", "whole": "whole"}
    order = list(kinds)
    chance.shuffle(order)
    style = chance.choice(_STYLES)
    columns = {style(taken[field]): kinds[field] for field in order}
    name = chance.choice(_TABLES)
    path = folder / form
    path.mkdir(parents=True, exist_ok=True)
    for old in path.iterdir():
        old.unlink()
    file = write(path, form, columns, [[getattr(row, field) for field in order] for row in rows], table=name)
    return Made(name=name, **taken, values=values, rows=rows, path=file)


# -- questions


def _average(made: Made, chance: Random) -> Question:
    text = f"average {made.real} by {made.few}"
    return Question(text, made, _grouped(made.rows, "average", "real", lambda row: (row.few or "(none)",)))


def _sum_by_month(made: Made, chance: Random) -> Question:
    rows = [row for row in made.rows if row.day]
    found = _grouped(rows, "sum", "whole", lambda row: (f"{row.day:%Y-%m}",))
    return Question(f"Summe {made.whole} pro Monat", made, _with_zeros(found, rows))


def _top(made: Made, chance: Random) -> Question:
    number = chance.randrange(3, 8)
    found = _grouped(made.rows, "sum", "real", lambda row: (row.many,))
    kept = sorted(found, key=lambda label: found[label] or 0.0, reverse=True)[:number]
    return Question(f"top {number} {made.many} by {made.real}", made, {label: found[label] for label in kept})


def _count(made: Made, chance: Random) -> Question:
    found: dict[Labels, float | None] = {}
    for row in made.rows:
        label = (row.few or "(none)",)
        found[label] = (found.get(label) or 0) + 1
    return Question(f"pie chart of the number of {made.name} per {made.few}", made, found)


def _by_two(made: Made, chance: Random) -> Question:
    aggregate = chance.choice(["minimum", "maximum", "median"])
    rows = [row for row in made.rows if row.day]
    text = f"{aggregate} {made.whole} by {made.few} and quarter"
    return Question(text, made, _grouped(rows, aggregate, "whole", lambda row: (_quarter(row), row.few or "(none)")))


def _where(made: Made, chance: Random) -> Question:
    value, least = chance.choice(made.values), chance.randrange(5, 20)
    rows = [row for row in made.rows if row.day and row.few == value and row.real is not None and row.real >= least]
    text = f"median {made.real} per quarter where {made.few} is {value} and {made.real} at least {least}"
    return Question(text, made, _grouped(rows, "median", "real", lambda row: (_quarter(row),)))


def _scatter(made: Made, chance: Random) -> Question:
    points = [
        (row.real, row.whole, row.few or "(none)")
        for row in made.rows
        if row.real is not None and row.whole is not None
    ]
    return Question(f"{made.whole} against {made.real} by {made.few}", made, points)


def _top_over_time(made: Made, chance: Random) -> Question:
    whole = _grouped(made.rows, "average", "real", lambda row: (row.many,))
    kept = sorted((label for label in whole if whole[label] is not None), key=lambda label: -(whole[label] or 0.0))[:3]
    rows = [row for row in made.rows if row.day and (row.many,) in kept]
    found = _grouped(rows, "average", "real", lambda row: (f"{row.day:%Y-%m}", row.many))
    return Question(f"top 3 {made.many} by average {made.real} per month", made, found)


def _different(made: Made, chance: Random) -> Question:
    low, high = sorted(chance.sample(range(400), 2))
    rows = [row for row in made.rows if row.whole is not None and low <= row.whole <= high]
    text = f"Anzahl verschiedene {made.many} nach {made.few} wo {made.whole} zwischen {low} und {high}"
    return Question(text, made, _grouped(rows, "number of different", "many", lambda row: (row.few or "(ohne)",)))


def _the_rest(made: Made, chance: Random) -> Question:
    whole = _grouped(made.rows, "average", "whole", lambda row: (row.many,))
    kept = sorted((label for label in whole if whole[label] is not None), key=lambda label: -(whole[label] or 0.0))[:19]
    found = _grouped(
        made.rows,
        "average",
        "whole",
        lambda row: (row.many,) if len(whole) <= 20 or (row.many,) in kept else ("other",),
    )
    return Question(f"average {made.whole} by {made.many}", made, found)


_QUESTIONS: Sequence[Callable[[Made, Random], Question]] = (
    _average,
    _sum_by_month,
    _top,
    _count,
    _by_two,
    _where,
    _scatter,
    _top_over_time,
    _different,
    _the_rest,
)


# -- answers


def _grouped(
    rows: Iterable[Row], aggregate: str, field: str, label: Callable[[Row], Labels]
) -> dict[Labels, float | None]:
    values: dict[Labels, list[Any]] = {}
    for row in rows:
        values.setdefault(label(row), []).append(getattr(row, field))
    return {key: AGGREGATES[aggregate]([one for one in found if one is not None]) for key, found in values.items()}


def _with_zeros(found: dict[Labels, float | None], rows: Rows) -> dict[Labels, float | None]:
    """Months without rows are shown as 0."""
    days = sorted(row.day for row in rows if row.day)
    months = {UNITS["month"](days[0] + timedelta(days=n)) for n in range((days[-1] - days[0]).days + 1)}
    return {**{(f"{month:%Y-%m}",): 0.0 for month in months}, **found}


def _quarter(row: Row) -> str:
    assert row.day is not None
    return f"{row.day.year} Q{(row.day.month + 2) // 3}"


def _answer(drawing: Drawing) -> dict[Labels, float | None] | list[tuple[Any, ...]]:
    if drawing.chart == "scatter":
        return [tuple(row.values()) for row in drawing.data]
    return {tuple(map(str, list(row.values())[:-1])): list(row.values())[-1] for row in drawing.data}


def _same(found: Any, expected: Any) -> bool:
    if isinstance(found, list):
        return len(found) == len(expected) and all(
            one[2] == other[2] and equal(one[0], other[0]) and equal(one[1], other[1])
            for one, other in zip(sorted(found), sorted(expected), strict=True)
        )
    return set(found) == set(expected) and all(equal(found[label], expected[label]) for label in expected)


def _drawn(drawing: Drawing) -> bool:
    """Returns whether the picture has the numbers of the data, in their order."""
    drawn = [value["y"] for value in drawing.specification["data"]["values"]]
    place = 1 if drawing.chart == "scatter" else -1
    return drawn == [list(row.values())[place] for row in drawing.data]


def _written(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(_written, value))
    return "-" if value is None else value if isinstance(value, str) else f"{value:.10g}"


def main() -> None:
    """Asks, prints the table and draws the pictures; its status says whether all numbers are right."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where the tables and the pictures go (a new one)")
    given = parser.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="ten-questions-"))
    answers = answered(given.seed, folder)
    print(table(answers))
    for number, entry in enumerate(answers, 1):
        (picture,) = pictures(entry.drawing.specification, ["png"])
        (folder / f"{number:02}-{entry.drawing.chart}.png").write_bytes(picture.data)
    right = sum(entry.right for entry in answers)
    print(f"\n{right} of {len(answers)} answers are right; the pictures are in {folder}")
    sys.exit(right < len(answers))


if __name__ == "__main__":
    main()
