"""Which passages serve an aspect of a subject: requirements, forms, costs, deadlines, a contact and so on."""

from __future__ import annotations

__all__ = ["PARTS", "Aspect", "Shelf", "head_of", "load_shelf", "part_of", "stems_of"]

import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from stepwire_server.assistant.concepts import TIME_WORDS, concept_of
from stepwire_server.assistant.documents import Document, Section, load_documents
from stepwire_server.assistant.glossary import german_for
from stepwire_server.assistant.index import Hit, Index, Passage
from stepwire_server.assistant.lexicon import is_function_word, stem, tokenize
from stepwire_server.assistant.places import Gazetteer, load_gazetteer
from stepwire_server.assistant.told import narrowed

Aspect = Literal[
    "requirements", "forms", "costs", "definition", "location", "contact", "deadlines", "information", "facts"
]

_HOME = Path(__file__).parent / "documents"
_PLACES = "places.toml"

PARTS: Mapping[str, frozenset[str]] = {
    part: frozenset(stem(word) for word in words.split())
    for part, words in {
        "office": "Zuständigkeit zuständig Behörde Stelle responsible authority office",
        "requirements": "Voraussetzungen Voraussetzung Bedingungen Anforderungen requirements conditions prerequisites",
        "papers": "Unterlagen Dokumente Nachweise documents papers",
        "forms": "Formulare Formular Vordrucke forms form",
        "steps": "Ablauf Schritte Vorgehen Anleitung steps procedure process",
        "deadlines": "Fristen Frist Dauer Termine Bearbeitungszeit deadlines deadline duration",
        "fees": "Gebühren Gebühr Kosten Preise Entgelte fees fee costs cost prices",
        "features": "Merkmale Eigenschaften Überblick features properties",
        "contact": "Kontakt Kontaktdaten Adresse Anschrift Öffnungszeiten Ansprechpartner contact address opening",
        "law": "Rechtsgrundlagen Rechtsgrundlage Gesetze legal law",
    }.items()
}
"""The parts of a document, by the stems of the words in its headings."""

_ASPECTS: Mapping[Aspect, tuple[str, ...]] = {
    "requirements": ("office", "requirements", "papers", "steps", "deadlines", "fees"),
    "forms": ("forms",),
    "costs": ("fees",),
    "definition": (),
    "location": ("contact", "office"),
    "contact": ("contact", "office"),
    "deadlines": ("deadlines",),
    "information": ("features", "fees"),
    "facts": (),
}
_MENTIONS_COUNT = frozenset({"definition", "location", "contact", "facts"})
_TOLD = frozenset({"costs", "deadlines"})
"""Aspects on which a text without parts is quoted by its pieces, not as a whole."""
_ITS_TOPIC = 3
_HEAD = 6
_MOST_PASSAGES = 12
_MOST_CHARACTERS = 40_000


def part_of(section: Section) -> str:
    """Returns which part a section is, by its heading, or an empty string."""
    words = {token.stem for token in tokenize(section.title)}
    return next((part for part, stems in PARTS.items() if words & stems), "")


@lru_cache(maxsize=20_000)
def stems_of(text: str) -> frozenset[str]:
    """Returns the stems of the words with content."""
    parts = (
        piece for token in tokenize(text) if not is_function_word(token) for piece in re.findall(r"[^\W_]+", token.text)
    )
    return frozenset(stem(piece) for piece in parts)


def head_of(text: str) -> frozenset[str]:
    """Returns the stems of a text's first words, which name what it is about."""
    return stems_of(" ".join(text.split()[:_HEAD]))


class Shelf:
    """The documents, their index and the places: what all operations work with. Never changes."""

    def __init__(self, documents: Sequence[Document], *, gazetteer: Gazetteer) -> None:
        self.gazetteer = gazetteer
        self.index = Index(documents, gazetteer=gazetteer)

    def search(
        self,
        subject: str,
        *,
        aspect: Aspect,
        terms: Sequence[str] = (),
        others: Sequence[str] = (),
        also: Sequence[str] = (),
        place: str = "",
        state: str = "",
    ) -> dict[str, Any]:
        """Returns the passages on an aspect of the subject, best first, as a step's output.

        `others`: what else the query names; a document on one of these is taken where none is on the subject itself, as
        with the founding (subject) of a company form (other).

        `also`: what is asked for together with the subject; of costs, the passages of each of these follow.

        `aliases` are other names of an office. `notes` has what is to be said first: `place_unknown`, `place_general`,
        `holds_for` and `lacks` (places and names are in the fields of these names), `mentioned` where no
        document is about the subject.
        """
        hits = self._hits(subject, aspect=aspect, terms=terms, others=others, place=place, state=state)
        passages = [(subject, found) for found in self._passages(hits, subject=subject, aspect=aspect, terms=terms)]
        lacks: list[str] = []
        for name in also if aspect == "costs" else ():
            more = self._hits(name, aspect=aspect, terms=terms, others=(), place=place, state=state)
            found_more = list(self._passages(more, subject=name, aspect=aspect, terms=terms))
            passages += [(name, found) for found in found_more]
            lacks += [] if found_more else [name]
        notes = []
        if passages and place:
            scopes = {passage.scope for _, passage in passages}
            if "town" not in scopes and "state" in scopes and place != state:
                notes.append("holds_for")
            elif scopes == {"general"} and self.index.has_state_documents(subject):
                notes.append("place_general" if state else "place_unknown")
        if passages and not place and passages[0][1].scope == "other":
            notes.append("holds_for")
        if passages and lacks:
            notes.append("lacks")
        if passages and not any(hit.level for hit in hits) and not any(passage.told for _, passage in passages):
            notes.append("mentioned")
        return {
            "subject": subject,
            "aspect": aspect,
            "place": place,
            "state": state,
            "found": bool(passages),
            "about": any(hit.level for hit in hits),
            "elsewhere": not passages
            and _names_something(subject)
            and bool(self.index.find(subject, mentions=True, elsewhere=True)),
            "aliases": self._aliases(hits) if aspect in ("location", "contact") else [],
            "notes": notes,
            "lacks": lacks,
            "holds_for": list(passages[0][1].document.places) if passages else [],
            "passages": [
                {**passage.to_dict(), "part": part_of(passage.section), "about": name}
                for name, passage in _bounded(passages)
            ],
        }

    def _passages(
        self, hits: Sequence[Hit], *, subject: str, aspect: Aspect, terms: Sequence[str]
    ) -> Iterable[Passage]:
        wanted = _ASPECTS[aspect]
        about = [hit for hit in hits if hit.level] or list(hits)
        if not about:
            return
        if not about[0].level and aspect not in _MENTIONS_COUNT:
            yield from self._told(about, subject=subject, aspect=aspect)
            return
        if not any(part_of(section) for hit in about for section in hit.document.sections):
            # A user's own text without headings that say what is what.
            yield from (
                self._told(about, subject="", aspect=aspect) if aspect in _TOLD else self._plain(about, aspect=aspect)
            )
            return
        match aspect:
            case "definition":
                yield from self._definition(about, subject=subject)
            case "facts":
                yield from self._facts(about, subject=subject, terms=terms)
            case "location" | "contact":
                yield from self._offices(hits, subject=subject, wanted=wanted)
            case "information":
                yield from self._information(about[0], wanted=wanted)
            case _:
                close = _fullest_first([hit for hit in about if hit.level >= min(_ITS_TOPIC, about[0].level)], wanted)
                found = [passage for part in wanted for passage in _first_of(close, part)]
                if not found and aspect != "forms":
                    found = list(self._told(close, subject="", aspect=aspect))
                yield from found

    def _hits(
        self, subject: str, *, aspect: Aspect, terms: Sequence[str], others: Sequence[str], place: str, state: str
    ) -> tuple[Hit, ...]:
        find = functools.partial(
            self.index.find, terms=terms, place=place, state=state, elsewhere=aspect == "definition"
        )
        hits = find(subject, mentions=aspect in _MENTIONS_COUNT)
        if place and aspect in ("location", "contact") and not any(hit.scope == "town" and hit.level for hit in hits):
            # The town's document may call the office by another of its names.
            for name in self._aliases(hits):
                town = tuple(hit for hit in find(name) if hit.scope == "town" and hit.level >= _ITS_TOPIC)
                if town:
                    return (*town, *(hit for hit in hits if hit.scope != "town"))
        if any(hit.level >= _ITS_TOPIC for hit in hits):
            return hits
        for other in others:
            better = tuple(hit for hit in find(other) if hit.level >= _ITS_TOPIC)
            if better:
                return better
        return hits or (find(subject, mentions=True) if _names_something(subject) else ())

    @staticmethod
    def _aliases(hits: Sequence[Hit]) -> list[str]:
        """Returns other names of an office: the topics of the general document whose topic or title it is."""
        return next(
            (list(hit.document.topics) for hit in hits if hit.scope == "general" and hit.level >= _ITS_TOPIC), []
        )

    @staticmethod
    def _plain(hits: Sequence[Hit], *, aspect: Aspect) -> Iterable[Passage]:
        for hit in hits[:2]:
            for section in hit.sections or hit.document.sections:
                # A list may be one of requirements; paragraphs are none.
                told = aspect in ("requirements", "forms") and not section.items
                yield Passage(document=hit.document, section=section, scope=hit.scope, told=told)

    @staticmethod
    def _told(hits: Sequence[Hit], *, subject: str, aspect: Aspect) -> Iterable[Passage]:
        """Yields what free text tells on the aspect; with a subject, only the pieces that name it."""
        names = [stems_of(name) for name in (subject, *german_for(subject))] if subject else []

        def mentions(text: str) -> bool:
            said = stems_of(text)
            return any(name and name <= said for name in names)

        for hit in hits[:3]:
            for section in hit.document.sections:
                part = narrowed(section, aspect=aspect, mentions=mentions if names else None)
                if part is not None:
                    yield Passage(document=hit.document, section=part, scope=hit.scope, told=True)

    @staticmethod
    def _definition(hits: Sequence[Hit], *, subject: str) -> Iterable[Passage]:
        """Yields the introduction that begins with the subject, else the sections that mention it."""
        wanted = [stems_of(name) for name in (subject, *german_for(subject))]
        for begins in (True, False):
            for hit in hits:
                introduction = hit.document.sections[0] if hit.document.sections else None
                if introduction is None or not introduction.paragraphs:
                    continue
                said = (
                    [head_of(text) for text in introduction.paragraphs]
                    if begins
                    else [stems_of(introduction.paragraphs[0])]
                )
                if any(stems >= words for stems in said for words in wanted):
                    yield Passage(document=hit.document, section=introduction, scope=hit.scope)
                    return
        for hit in hits[:3]:
            for section in hit.document.sections:
                if any(stems_of(section.text) >= words for words in wanted):
                    yield Passage(document=hit.document, section=section, scope=hit.scope)

    @staticmethod
    def _facts(hits: Sequence[Hit], *, subject: str, terms: Sequence[str]) -> Iterable[Passage]:
        about = frozenset().union(*(stems_of(name) for name in (subject, *german_for(subject))))
        german = (name for term in terms for name in german_for(term))
        asked = stems_of(" ".join((*terms, *german))) - about
        ranked = []
        for rank, hit in enumerate(hits[:3]):
            for position, section in enumerate(hit.document.sections):
                words = stems_of(f"{section.title} {section.text}")
                # What the whole document is about tells none of its sections from the others.
                overlap = len((asked - stems_of(hit.document.title)) & words)
                if hit.level == 0 and not words >= stems_of(subject):
                    continue
                if overlap or hit.level == 0 or (rank == 0 and position == 0):
                    ranked.append(
                        (-overlap, rank, position, Passage(document=hit.document, section=section, scope=hit.scope))
                    )
        ranked.sort(key=lambda entry: entry[:3])
        yield from (entry[3] for entry in ranked[:3])

    @staticmethod
    def _offices(hits: Sequence[Hit], *, subject: str, wanted: Sequence[str]) -> Iterable[Passage]:
        local = [hit for hit in hits if hit.scope == "town"]
        others = [hit for hit in hits if hit.scope != "town"]
        for hit in (*local, *others[: 1 if local else 2]):
            for section in hit.document.sections:
                if part_of(section) in wanted:
                    yield Passage(document=hit.document, section=section, scope=hit.scope)

    @staticmethod
    def _information(hit: Hit, *, wanted: Sequence[str]) -> Iterable[Passage]:
        parts = [part_of(section) for section in hit.document.sections]
        if "features" not in parts:
            wanted = (*wanted, "office", "requirements", "deadlines")
        for position, section in enumerate(hit.document.sections):
            if position == 0 or parts[position] in wanted:
                yield Passage(document=hit.document, section=section, scope=hit.scope)


def _names_something(subject: str) -> bool:
    """Whether a subject has a word that is no verb of procedures, no word of asking and no unit of time."""
    return any(not concept_of(word) and word not in TIME_WORDS for word in stems_of(subject))


def load_shelf(folder: Path | None = None) -> Shelf:
    """Returns the documents of a folder, or the assistant's own. A folder without `places.toml` uses the assistant's.

    Raises DocumentError, naming the file, for one that can't be read.
    """
    home = folder or _HOME
    places = home / _PLACES
    gazetteer = load_gazetteer(places if places.is_file() else _HOME / _PLACES)
    return Shelf(load_documents(home), gazetteer=gazetteer)


def _fullest_first(hits: Sequence[Hit], wanted: Sequence[str]) -> list[Hit]:
    """Returns the hits; of those as good as the first, the one with most of the wanted parts comes first."""
    equal = [hit for hit in hits if (hit.level, hit.scope) == (hits[0].level, hits[0].scope)]
    equal.sort(key=lambda hit: -len({part_of(section) for section in hit.document.sections} & set(wanted)))
    return [*equal, *(hit for hit in hits if hit not in equal)]


def _first_of(hits: Sequence[Hit], part: str) -> Iterable[Passage]:
    for hit in hits:
        for section in hit.document.sections:
            if part_of(section) == part and (section.items or section.tables or section.paragraphs):
                yield Passage(document=hit.document, section=section, scope=hit.scope)
                return


def _bounded(passages: Sequence[tuple[str, Passage]]) -> Iterable[tuple[str, Passage]]:
    """Yields as many passages as an output should carry; at least one."""
    size = 0
    for count, (name, passage) in enumerate(passages[:_MOST_PASSAGES]):
        size += len(passage.section.text)
        if count and size > _MOST_CHARACTERS:
            return
        yield name, passage
