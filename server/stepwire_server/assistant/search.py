"""Which passages serve an aspect of a subject: requirements, forms, costs, deadlines, a contact and so on."""

from __future__ import annotations

__all__ = ["PARTS", "Aspect", "Shelf", "load_shelf", "part_of", "stems_of"]

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from .documents import Document, Section, load_documents
from .glossary import german_for
from .index import Hit, Index, Passage
from .lexicon import is_function_word, stem, tokenize
from .places import Gazetteer, load_gazetteer

Aspect = Literal["requirements", "forms", "costs", "definition", "location", "contact", "deadlines", "information", "facts"]

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
_MONEY = re.compile(r"\d\s*(?:Euro|EUR|€)")
_MOST_PASSAGES = 12
_MOST_CHARACTERS = 40_000


def part_of(section: Section) -> str:
    """Returns which part a section is, by its heading, or an empty string."""
    words = {token.stem for token in tokenize(section.title)}
    return next((part for part, stems in PARTS.items() if words & stems), "")


def stems_of(text: str) -> frozenset[str]:
    """Returns the stems of the words with content."""
    parts = (piece for token in tokenize(text) if not is_function_word(token) for piece in re.findall(r"[^\W_]+", token.text))
    return frozenset(stem(piece) for piece in parts)


class Shelf:
    """The documents, their index and the places: what all operations work with. Never changes."""

    def __init__(self, documents: Sequence[Document], *, gazetteer: Gazetteer) -> None:
        self.gazetteer = gazetteer
        self.index = Index(documents, gazetteer=gazetteer)

    def search(self, subject: str, *, aspect: Aspect, terms: Sequence[str] = (), place: str = "", state: str = "") -> dict[str, Any]:
        """Returns the passages on an aspect of the subject, best first, as a step's output.

        `notes` has what is to be said of the place: `place_unknown`, `place_general`, `place_from_state`, or
        `mentioned` where no document is about the subject.
        """
        hits = self.index.find(subject, terms=terms, place=place, state=state, mentions=aspect in _MENTIONS_COUNT)
        passages = list(self._passages(hits, subject=subject, aspect=aspect, terms=terms))
        notes = []
        if passages and place:
            scopes = {passage.scope for passage in passages}
            if "town" not in scopes and "state" in scopes and place != state:
                notes.append("place_from_state")
            elif scopes == {"general"} and self.index.has_state_documents(subject):
                notes.append("place_general" if state else "place_unknown")
        if passages and not any(hit.level for hit in hits):
            notes.append("mentioned")
        return {
            "subject": subject,
            "aspect": aspect,
            "place": place,
            "state": state,
            "found": bool(passages),
            "about": any(hit.level for hit in hits),
            "notes": notes,
            "passages": [{**passage.to_dict(), "part": part_of(passage.section)} for passage in _bounded(passages)],
        }

    def _passages(self, hits: Sequence[Hit], *, subject: str, aspect: Aspect, terms: Sequence[str]) -> Iterable[Passage]:
        wanted = _ASPECTS[aspect]
        about = [hit for hit in hits if hit.level] or list(hits)
        if not about:
            return
        if not any(part_of(section) for hit in about for section in hit.document.sections):
            # A user's own text without headings that say what is what.
            yield from self._plain(about, aspect=aspect)
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
                close = [hit for hit in about if hit.level >= min(3, about[0].level)]
                for part in wanted:
                    yield from _first_of(close, part)

    @staticmethod
    def _plain(hits: Sequence[Hit], *, aspect: Aspect) -> Iterable[Passage]:
        for hit in hits[:2]:
            for section in hit.sections or hit.document.sections:
                if aspect != "costs" or _MONEY.search(section.text):
                    yield Passage(document=hit.document, section=section, scope=hit.scope)

    @staticmethod
    def _definition(hits: Sequence[Hit], *, subject: str) -> Iterable[Passage]:
        wanted = [stems_of(name) for name in (subject, *german_for(subject))]
        for hit in hits[:3]:
            introduction = hit.document.sections[0] if hit.document.sections else None
            says = [section for section in hit.document.sections if any(stems_of(section.text) >= words for words in wanted)]
            if introduction is not None and introduction.paragraphs and (hit.level == 4 or introduction in says or not says):
                yield Passage(document=hit.document, section=introduction, scope=hit.scope)
            else:
                yield from (Passage(document=hit.document, section=section, scope=hit.scope) for section in says[:2])
            if hit.level >= 3:
                return

    @staticmethod
    def _facts(hits: Sequence[Hit], *, subject: str, terms: Sequence[str]) -> Iterable[Passage]:
        about = frozenset().union(*(stems_of(name) for name in (subject, *german_for(subject))))
        asked = stems_of(" ".join(terms)) - about
        ranked = []
        for rank, hit in enumerate(hits[:3]):
            for position, section in enumerate(hit.document.sections):
                words = stems_of(f"{section.title} {section.text}")
                overlap = len(asked & words)
                if hit.level == 0 and not words >= stems_of(subject):
                    continue
                if overlap or hit.level == 0 or (rank == 0 and position == 0):
                    ranked.append((-overlap, rank, position, Passage(document=hit.document, section=section, scope=hit.scope)))
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
        for position, section in enumerate(hit.document.sections):
            if position == 0 or part_of(section) in wanted:
                yield Passage(document=hit.document, section=section, scope=hit.scope)


def load_shelf(folder: Path | None = None) -> Shelf:
    """Returns the documents of a folder, or the assistant's own. A folder without `places.toml` uses the assistant's.

    Raises DocumentError, naming the file, for one that can't be read.
    """
    home = folder or _HOME
    places = home / _PLACES
    gazetteer = load_gazetteer(places if places.is_file() else _HOME / _PLACES)
    return Shelf(load_documents(home), gazetteer=gazetteer)


def _first_of(hits: Sequence[Hit], part: str) -> Iterable[Passage]:
    for hit in hits:
        for section in hit.document.sections:
            if part_of(section) == part and (section.items or section.tables or section.paragraphs):
                yield Passage(document=hit.document, section=section, scope=hit.scope)
                return


def _bounded(passages: Sequence[Passage]) -> Iterable[Passage]:
    """Yields as many passages as an output should carry; at least one."""
    size = 0
    for count, passage in enumerate(passages[:_MOST_PASSAGES]):
        size += len(passage.section.text)
        if count and size > _MOST_CHARACTERS:
            return
        yield passage
