"""An entity, and the entities of one query: none overlaps another."""

from __future__ import annotations

__all__ = ["Claims", "Entity", "EntityType"]

from dataclasses import dataclass
from typing import Literal

EntityType = Literal["location", "organisation", "document", "procedure", "law", "amount", "date"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entity:
    """One thing that a query names."""

    type: EntityType
    """What it is."""
    text: str
    """As it stands in the query, without its article."""
    start: int
    """Where it begins in the query, in characters."""
    value: str = ""
    """Of an amount of money: its sum in euros. Of a location: the name under which it is known."""

    @property
    def end(self) -> int:
        """Where it ends, exclusive."""
        return self.start + len(self.text)


class Claims:
    """Entities found so far; what came first stays."""

    def __init__(self, query: str) -> None:
        self.query = query
        self.found: list[Entity] = []

    def free(self, start: int, end: int) -> bool:
        """Whether nothing found so far stands there."""
        return all(end <= entity.start or start >= entity.end for entity in self.found)

    def add(self, kind: EntityType, start: int, end: int, *, value: str = "") -> None:
        """Adds what stands there, unless something found before does."""
        text = self.query[start:end]
        start += len(text) - len(text.lstrip())
        text = text.strip()
        if text and self.free(start, start + len(text)):
            self.found.append(Entity(type=kind, text=text, start=start, value=value))
