"""Towns and the states that they belong to, read from `places.toml`."""

from __future__ import annotations

__all__ = ["Gazetteer", "Place", "load_gazetteer"]

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stepwire_server.assistant.documents import DocumentError
from stepwire_server.assistant.lexicon import Token, fold, tokenize, word_list, word_set

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
_HOMONYMS = word_set("hof mitte essen halle hagen hamm siegen wedding worms walle wesel lage landau unna homburg")
_HOME = frozenset({"deutschland", "germany", "bundesrepublik"})
_COUNTRIES = word_list(
    "Österreich Schweiz Frankreich Italien Spanien Portugal Polen Tschechien Slowakei Ungarn Rumänien Bulgarien"
    " Griechenland Türkei Niederlande Niederlanden Belgien Luxemburg Dänemark Schweden Norwegen Finnland Island"
    " Irland Großbritannien England Schottland Russland Ukraine Belarus Moldau Serbien Kroatien Slowenien Bosnien"
    " Kosovo Albanien Montenegro Nordmazedonien Estland Lettland Litauen Zypern Malta Georgien Armenien"
    " Aserbaidschan Syrien Irak Iran Israel Libanon Jordanien Ägypten Marokko Tunesien Algerien Libyen Nigeria"
    " Ghana Kenia Äthiopien Eritrea Somalia Südafrika Kamerun Senegal Indien Pakistan Afghanistan Bangladesch"
    " China Japan Korea Südkorea Vietnam Thailand Indonesien Philippinen Australien Neuseeland USA Kanada Mexiko"
    " Brasilien Argentinien Chile Kolumbien Peru Venezuela Kuba Europa Austria Switzerland France Italy Spain"
    " Poland Czechia Slovakia Hungary Romania Bulgaria Greece Turkey Netherlands Belgium Luxembourg Denmark Sweden"
    " Norway Finland Iceland Ireland Scotland Russia Serbia Croatia Slovenia Bosnia Albania Estonia Latvia"
    " Lithuania Cyprus Armenia Azerbaijan Syria Iraq Lebanon Jordan Egypt Morocco Tunisia Algeria Libya Kenya"
    " Ethiopia Cameroon India Bangladesh Indonesia Philippines Australia Canada Mexico Brazil Argentina Colombia"
    " Cuba Europe"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A town, a part of one, or a state."""

    name: str
    """Its German name."""
    state: str
    """The state that it belongs to; empty where it is not known."""
    abroad: bool = False
    """Whether it is another country."""


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
        for name in _HOME:
            self._add(name, Place(name="Deutschland", state=""))
        for name in _COUNTRIES:
            self._add(name, Place(name=name, state="", abroad=True))
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
