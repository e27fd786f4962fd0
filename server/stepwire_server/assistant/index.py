"""Finds passages: an in-memory full-text index of all sections, by stems, and the rules of what is an answer.

A document is about a subject when its title or one of its topics names it; that it merely mentions the subject is
enough only where the caller says so. A document for one state is no answer for another; a town is in its state.
"""

from __future__ import annotations

__all__ = ["Hit", "Index", "Passage"]

import re
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from stepwire_server.assistant.concepts import concept_of
from stepwire_server.assistant.documents import Document, Section
from stepwire_server.assistant.entities import Vocabulary
from stepwire_server.assistant.glossary import german_for
from stepwire_server.assistant.lexicon import FUNCTION_WORDS, fold, is_function_word, stem, tokenize
from stepwire_server.assistant.places import Gazetteer

# bm25 weights of title, topics, places, heading, body.
_WEIGHTS = "8.0, 10.0, 4.0, 3.0, 1.0"
_WORD = re.compile(r"[^\W_]+")
_NAMED = 2
_CANDIDATES = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A document that has something on a subject."""

    document: Document
    """The document."""
    level: int
    """4: its title begins with the subject, which is a topic too. 3: a topic is the subject. 2: title and topics have
    its words. 1: a topic begins with it, or it with a topic. 0: it is mentioned."""
    scope: str
    """`town`, `state` or `general`: how the document's places fit the query's."""
    sections: tuple[Section, ...]
    """Sections in which the words stand, best first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """A section of a document, as a step's output carries it."""

    document: Document
    """Where it stands."""
    section: Section
    """The section."""
    scope: str
    """As Hit.scope."""
    told: bool = False
    """Whether it is free text that tells something on what was asked, with these of its pieces only."""

    def to_dict(self) -> dict[str, Any]:
        """Returns it as JSON-like values, with what it takes to name its document."""
        return {
            **self.document.reference(),
            "scope": self.scope,
            "told": self.told,
            "places": list(self.document.places),
            "section": self.section.title,
            "paragraphs": list(self.section.paragraphs),
            "items": list(self.section.items),
            "tables": [
                {"columns": list(table.columns), "rows": [list(row) for row in table.rows]}
                for table in self.section.tables
            ],
        }


class Index:
    """All documents, indexed once; lookups take far less than a millisecond a document found."""

    def __init__(self, documents: Sequence[Document], *, gazetteer: Gazetteer) -> None:
        self.documents = tuple(documents)
        self._gazetteer = gazetteer
        self._names = [_Names(document) for document in self.documents]
        self._words = [
            [frozenset(_stem_list(section.text)) for section in document.sections] for document in self.documents
        ]
        self._states = [frozenset(self._place_keys(document)) for document in self.documents]
        # One connection, used from the event loop's thread and from tests; lookups do not write.
        self._database = sqlite3.connect(":memory:", check_same_thread=False)
        self._database.execute(
            "CREATE VIRTUAL TABLE passages USING fts5(title, topics, places, heading, body, document UNINDEXED,"
            " section UNINDEXED)"
        )
        self._database.executemany("INSERT INTO passages VALUES (?, ?, ?, ?, ?, ?, ?)", self._rows())
        topics = [topic for names in self._names for topic in names.topics]
        self.vocabulary = Vocabulary(
            words=frozenset(word for topic in topics for word in topic if len(word) > 2),
            phrases=frozenset(topic for topic in topics if len(topic) > 1),
            names=frozenset(word for document in self.documents for word in _called(document)),
        )

    def _rows(self) -> Iterable[tuple[str, str, str, str, str, int, int]]:
        for number, document in enumerate(self.documents):
            title, topics = _stems(document.title), " ".join(_stems(topic) for topic in document.topics)
            places = _stems(" ".join(document.places))
            for position, section in enumerate(document.sections):
                yield title, topics, places, _stems(section.title), _stems(section.text), number, position
            if not document.sections:
                yield title, topics, places, "", "", number, -1

    def _place_keys(self, document: Document) -> Iterable[str]:
        for name in document.places:
            yield fold(name)

    def find(
        self,
        subject: str,
        *,
        terms: Sequence[str] = (),
        place: str = "",
        state: str = "",
        mentions: bool = False,
        elsewhere: bool = False,
        limit: int = 12,
    ) -> tuple[Hit, ...]:
        """Returns the documents on the subject, best first.

        `terms`: other words of the query, which only order. `place`, `state`: documents for another place are left out.
        `mentions`: whether documents that only mention the subject count, where none is about it. `elsewhere`: whether
        documents for some place stay beside general ones where the query names no place.
        """
        alternatives = [words for words in map(_stem_list, (subject, *german_for(subject))) if words]
        if not alternatives:
            return ()
        ranked: dict[int, tuple[float, list[int]]] = {}
        for number, position, score in self._match(alternatives, terms=terms):
            best, positions = ranked.setdefault(number, (score, []))
            positions.append(position)
            ranked[number] = (min(best, score), positions)
        extra = {word for term in terms for word in _stem_list(term)} - set(alternatives[0])
        hits: list[tuple[tuple[float, ...], Hit]] = []
        for number, (score, positions) in ranked.items():
            document, names = self.documents[number], self._names[number]
            scope = self._scope(number, place=place, state=state)
            level = max(names.level(words) for words in alternatives)
            if scope is None or (level == 0 and not (mentions and self._mentions(number, alternatives))):
                continue
            sections = tuple(document.sections[position] for position in positions if position >= 0)
            rank = {"town": 3, "state": 2, "general": 1, "other": 0}[scope]
            hit = Hit(document=document, level=level, scope=scope, sections=sections)
            order = min(names.order(words) for words in alternatives)
            hits.append(((-(level >= _NAMED), -rank, -level, order, -len(extra & names.words), score), hit))
        hits.sort(key=lambda pair: (pair[0], pair[1].document.file))
        found = [hit for _, hit in hits]
        if any(hit.level for hit in found):
            found = [hit for hit in found if hit.level or (mentions and hit.scope in ("town", "state"))]
        if not elsewhere and any(hit.scope == "general" for hit in found):
            found = [hit for hit in found if hit.scope != "other"]
        return tuple(found[:limit])

    def document(self, name: str) -> Document | None:
        """Returns the document of this file name or title, whatever its case, or None."""
        wanted = name.casefold().strip()
        for document in self.documents:
            if wanted in (
                document.file.casefold(),
                document.title.casefold(),
                document.file.casefold().rsplit(".", 1)[0],
            ):
                return document
        return None

    def has_state_documents(self, subject: str) -> bool:
        """Whether some document on the subject holds for certain places only."""
        words = _stem_list(subject)
        return any(
            document.places and names.level(words) >= _NAMED
            for document, names in zip(self.documents, self._names, strict=True)
        )

    def _match(
        self, alternatives: Sequence[Sequence[str]], *, terms: Sequence[str]
    ) -> Iterable[tuple[int, int, float]]:
        words = [word for words in alternatives for word in words]
        needed = " OR ".join(f'"{word}"*' if len(word) > 5 else f'"{word}"' for word in dict.fromkeys(words))
        # A compound may begin with a topic, which no full-text query finds: ask for its beginnings that are topics.
        fronts = {front for word in words for front in self._fronts(word)}
        needed = " OR ".join([needed, *(f'"{front}"' for front in sorted(fronts))])
        more = [word for term in terms for word in _stem_list(term) if word not in words]
        query = f"({needed})" + "".join(f' OR (({needed}) AND "{word}")' for word in dict.fromkeys(more[:8]))
        rows = self._database.execute(
            f"SELECT document, section, bm25(passages, {_WEIGHTS}) AS score FROM passages WHERE passages MATCH ?"
            " ORDER BY score LIMIT ?",
            (query, _CANDIDATES),
        )
        yield from rows.fetchall()

    def _fronts(self, word: str) -> Iterable[str]:
        for length in range(6, len(word)):
            if word[:length] in self.vocabulary.words:
                yield word[:length]

    def _scope(self, number: int, *, place: str, state: str) -> str | None:
        places = self._states[number]
        if not places:
            return "general"
        if place and fold(place) in places:
            return "town"
        if state and fold(state) in places:
            return "state"
        return None if place else "other"

    def _mentions(self, number: int, alternatives: Sequence[Sequence[str]]) -> bool:
        return any(words.issuperset(wanted) for words in self._words[number] for wanted in alternatives)


class _Names:
    """What a document calls itself: the stems of its title and of its topics."""

    def __init__(self, document: Document) -> None:
        self._title = tuple(_stem_list(document.title))
        self.title = frozenset(self._title)
        if not document.topics:
            # A text that says nothing of its topics is called by its file too.
            self.title |= frozenset(_stem_list(_file_words(document)))
        self.topics = tuple(tuple(_stem_list(topic)) for topic in document.topics)
        self.words = self.title.union(*self.topics)

    def order(self, subject: Sequence[str]) -> int:
        """Returns which of the topics the subject is, from 0: what a document is about most comes first in them."""
        wanted = tuple(subject)
        return self.topics.index(wanted) if wanted in self.topics else len(self.topics)

    def level(self, subject: Sequence[str]) -> int:
        wanted = tuple(subject)
        if not wanted:
            return 0
        is_topic = wanted in self.topics
        if (self._title[: len(wanted)] == wanted and is_topic) or (not self.topics and self.title.issuperset(wanted)):
            return 4
        if is_topic:
            return 3
        if self.words.issuperset(wanted):
            return 2
        if len(wanted) == 1:
            word = wanted[0]
            for topic in self.topics:
                if (
                    len(topic) == 1
                    and min(len(topic[0]), len(word)) >= 6
                    and (word.startswith(topic[0]) or topic[0].startswith(word))
                ):
                    return 1
        return 0


def _called(document: Document) -> Iterable[str]:
    """Yields the stems of the nouns in what a document without topics is called: title, file, a text's first line."""
    if document.topics:
        return
    first = document.sections[0].text.split("\n", 1)[0].strip() if document.sections else ""
    heading = first if len(first) <= _HEADING and first[-1:] not in tuple(".,;:!?") else ""
    for token in tokenize(f"{document.title} . {_file_words(document)} . {heading}"):
        general = is_function_word(token) or concept_of(token.stem)
        if token.word and len(token.text) > 3 and not general:
            yield token.stem


_HEADING = 80


def _file_words(document: Document) -> str:
    return re.sub(r"[\W_]+", " ", document.file.rsplit("/", 1)[-1].rsplit(".", 1)[0])


def _stem_list(text: str) -> list[str]:
    grammar = FUNCTION_WORDS["de"] | FUNCTION_WORDS["en"]
    words = [word for word in _WORD.findall(text) if fold(word) not in grammar]
    return [stem(word) for word in words]


def _stems(text: str) -> str:
    return " ".join(_stem_list(text))
