"""A row of the benchmark: what it is called, what it measures, and how."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .findings import Outcome

if TYPE_CHECKING:
    from .bench import Bench

__all__ = ["Row", "named"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of the table."""

    number: str
    """Such as "B1"."""
    title: str
    what: str
    """What runs, beside what, and what is measured: for readers who doubt the figures."""
    run: Callable[[Bench], Outcome]
    quick: bool = True
    """Whether `--quick` runs it."""


def named(rows: Sequence[Row], chosen: Sequence[str]) -> list[Row]:
    """Returns the rows of these numbers; all where none is named. Raises ValueError for one that there is not."""
    known = {row.number: row for row in rows}
    wrong = [number for number in chosen if number.upper() not in known]
    if wrong:
        raise ValueError(f"there is no row {', '.join(wrong)}; there are: {', '.join(known)}")
    return [row for row in rows if not chosen or row.number in {number.upper() for number in chosen}]
