"""Towns and the states that they belong to, read from `places.toml`."""

from __future__ import annotations

__all__ = ["Gazetteer", "Place", "load_gazetteer"]

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .documents import DocumentError
from .lexicon import Token, fold, tokenize

_EXONYMS: Mapping[str, str] = {
    "munich": "München",
    "cologne": "Köln",
    "nuremberg": "Nürnberg",
    "hanover": "Hannover",
    "brunswick": "Braunschweig",
    "bavaria": "Bayern",
    "saxony": "Sachsen",
    "lower saxony": "Niedersachsen",
    "saxony-anhalt": "Sachsen-Anhalt",
    "hesse": "Hessen",
    "thuringia": "Thüringen",
    "north rhine-westphalia": "Nordrhein-Westfalen",
    "rhineland-palatinate": "Rheinland-Pfalz",
    "nrw": "Nordrhein-Westfalen",
    "frankfurt/main": "Frankfurt am Main",
    "frankfurt/oder": "Frankfurt (Oder)",
}
# Names that are common words too. They are places only where the grammar says so.
_HOMONYMS = frozenset("hof mitte essen halle hagen hamm siegen wedding worms walle wesel lage landau unna homburg".split())
_COUNTRIES = frozenset({"deutschland", "germany", "bundesrepublik"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A town, a part of one, or a state."""

    name: str
    """Its German name."""
    state: str
    """The state that it belongs to; empty where it is not known."""


class Gazetteer:
    """Knows places by name. Unknown towns are none of its business."""

    def __init__(self, states: Mapping[str, tuple[str, ...]]) -> None:
        self._places: dict[tuple[str, ...], Place] = {}
        for state, towns in states.items():
            self._add(state, Place(name=state, state=state))
            for town in towns:
                # A city that is a state has its own name among its parts.
                self._add(town, Place(name=town, state=state))
        for name, german in _EXONYMS.items():
            place = self.find(german)
            if place is not None:
                self._add(name, place)
        for name in _COUNTRIES:
            self._add(name, Place(name="Deutschland", state=""))
        self._longest = max((len(key) for key in self._places), default=0)

    def _add(self, name: str, place: Place) -> None:
        self._places.setdefault(_key(name), place)

    def find(self, name: str) -> Place | None:
        """Returns the place of this name, whatever its case and umlauts, or None."""
        return self._places.get(_key(name))

    def match(self, tokens: tuple[Token, ...], index: int) -> tuple[Place, int] | None:
        """Returns the place whose name begins at this token and how many tokens it has, the longest first."""
        for count in range(min(self._longest, len(tokens) - index), 0, -1):
            place = self._places.get(tuple(token.folded for token in tokens[index : index + count]))
            if place is not None:
                return place, count
        return None

    @staticmethod
    def is_homonym(name: str) -> bool:
        """Whether the name is a common word too."""
        return fold(name) in _HOMONYMS


def load_gazetteer(path: Path) -> Gazetteer:
    """Returns the places of a file that has a list of towns for each state. Raises DocumentError on a bad file."""
    try:
        states = tomllib.loads(path.read_text(encoding="utf-8")).get("places", {})
    except tomllib.TOMLDecodeError as error:
        raise DocumentError(f"{path.name}: {error}") from error
    if not isinstance(states, dict) or not all(isinstance(towns, list) for towns in states.values()):
        raise DocumentError(f"{path.name}: `places` must have a list of towns for each state")
    return Gazetteer({state: tuple(map(str, towns)) for state, towns in states.items()})


def _key(name: str) -> tuple[str, ...]:
    return tuple(token.folded for token in tokenize(name))
