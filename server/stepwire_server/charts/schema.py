"""What is known of the tables: their columns, of which kind these are, and some of the values that they have."""

from __future__ import annotations

__all__ = ["Column", "Dates", "Kind", "Table"]

from dataclasses import dataclass
from typing import Literal

Kind = Literal["number", "text", "date", "boolean"]
"""What can be done with a column: numbers are put together, the others name groups."""

Dates = Literal["native", "iso", "dotted"]
"""How dates are written: as the database's own type, as 2024-01-31, or as 31.01.2024."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of a table."""

    name: str
    type: str
    """The type's name in its database; empty where it has none."""
    kind: Kind
    dates: Dates = "native"
    values: tuple[str, ...] = ()
    """Some distinct values of a column of text."""
    span: tuple[str, str] | None = None
    """The first and the last day of a column of dates, as 2024-01-31; None where it has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One table, or one view."""

    name: str
    relation: str
    """What stands for it in SQL, quoted."""
    columns: tuple[Column, ...]
    rows: int

    def column(self, name: str) -> Column:
        """Returns a column by its exact name. Raises KeyError."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)

    def of_kind(self, *kinds: Kind) -> tuple[Column, ...]:
        """Returns its columns of these kinds, in their order."""
        return tuple(column for column in self.columns if column.kind in kinds)

    def listed(self) -> str:
        """Returns its name and its columns, for people."""
        return f"{self.name} ({', '.join(f'{column.name}: {column.kind}' for column in self.columns)})"
