"""What free text tells: the pieces of a section with a sum, a span of time or a condition, where no table has them."""

from __future__ import annotations

__all__ = ["mentions_money", "narrowed", "sentences", "spans_in"]

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any

from stepwire_server.assistant.concepts import concept_of
from stepwire_server.assistant.documents import Section, Table
from stepwire_server.assistant.lexicon import fold, tokenize

_MONEY = re.compile(r"(?:\d|\d,[-–])\s*(?:Euros?|EUR|€)|[€£$]\s?\d", re.IGNORECASE)
_DATE = re.compile(
    r"\b\d{1,2}\.\s?(?:\d{1,2}\.|Januar|Februar|März|April|Mai|Juni|Juli|August|September|Oktober|November|Dezember)"
)
_NUMBERS: Mapping[str, int] = {
    word: number
    for number, words in enumerate(
        (
            "ein eine einem einer eines one",
            "zwei zweier two",
            "drei dreier three",
            "vier four",
            "fünf five",
            "sechs six",
            "sieben seven",
            "acht eight",
            "neun nine",
            "zehn ten",
            "elf eleven",
            "zwölf twelve",
        ),
        1,
    )
    for word in words.split()
}
_UNITS: Mapping[str, str] = {
    "tag": "days",
    "arbeitstag": "working days",
    "werktag": "working days",
    "woche": "weeks",
    "monat": "months",
    "jahr": "years",
    "working day": "working days",
    "day": "days",
    "week": "weeks",
    "month": "months",
    "year": "years",
}
_SPAN = re.compile(rf"\b(\d+|{'|'.join(_NUMBERS)})\s+({'|'.join(_UNITS)})(?:en|e|s|n)?\b", re.IGNORECASE)
# German writes an article with a capital at the beginning of a sentence only, so a heading without a full stop ends
# there.
_SENTENCE_END = re.compile(
    r"(?<=[^\W\d_]{2}[.!?])\s+(?=[^a-zäöü])|(?<=[€\d)][.!?])\s+(?=[A-ZÄÖÜ])|\s+(?=(?:Der|Die|Das) )"
)
_LONG = 500
# A sentence that begins like this goes on about what the one before it names.
_GOES_ON = re.compile(
    r"(?:Sie|Er|Es|Dies\w*|It|They|This|(?:Die|The) (?:Gebühr|Kosten|Frist|Dauer|Bearbeitung|fee|cost))\b"
)


def mentions_money(text: str) -> bool:
    """Whether a text has a sum of money."""
    return _MONEY.search(text) is not None


def sentences(text: str) -> tuple[str, ...]:
    """Returns the sentences of a text. A month or an abbreviation behind a number ends none."""
    return tuple(filter(None, (part.strip() for part in _SENTENCE_END.split(text))))


def spans_in(text: str) -> list[dict[str, Any]]:
    """Returns the spans of time that a text names."""
    return [
        {"value": int(number) if number.isdigit() else _NUMBERS[number.lower()], "unit": _UNITS[unit.lower()]}
        for number, unit in _SPAN.findall(text)
    ]


def narrowed(section: Section, *, aspect: str, mentions: Callable[[str], bool] | None) -> Section | None:
    """Returns the section with those pieces alone that tell something on the aspect, or None where none does.

    `mentions`: whether a text names the subject; None where the whole section is about it. A piece that only goes on
    about what the one before it names counts as well.
    """
    tells = _TELLS.get(aspect, bool)
    heading = mentions is not None and mentions(section.title)

    def chosen(pieces: tuple[str, ...]) -> tuple[str, ...]:
        found, before = [], heading
        for piece in pieces:
            named = mentions is None or mentions(piece) or heading or (before and _GOES_ON.match(piece) is not None)
            before = named
            if named and tells(piece):
                found.append(_excerpt(piece, tells=tells))
        return tuple(found)

    tables = []
    for table in section.tables:
        rows = tuple(
            row
            for row in table.rows
            if tells(" ".join(row)) and (mentions is None or heading or mentions(" ".join(row)))
        )
        if rows:
            tables.append(Table(columns=table.columns, rows=rows))
    paragraphs, items = chosen(section.paragraphs), chosen(section.items)
    if not (paragraphs or items or tables):
        return None
    return dataclasses.replace(section, paragraphs=paragraphs, items=items, tables=tuple(tables))


def _excerpt(piece: str, *, tells: Callable[[str], bool]) -> str:
    """Returns the piece, or of a long one the stretch from the first sentence that tells something to the last."""
    if len(piece) <= _LONG:
        return piece
    found = [sentence for sentence in sentences(piece) if tells(sentence)]
    if not found:
        return piece
    return piece[piece.index(found[0]) : piece.rindex(found[-1]) + len(found[-1])]


def _means(text: str, concept: str) -> bool:
    return any(concept in concept_of(token.stem) for token in tokenize(text))


def _tells_time(text: str) -> bool:
    return bool(_SPAN.search(text) or _DATE.search(text)) or _means(text, "time")


def _tells_need(text: str) -> bool:
    return any(_means(text, name) for name in ("need", "act", "duty")) or " nur " in f" {fold(text)} "


_TELLS: Mapping[str, Callable[[str], bool]] = {
    "costs": mentions_money,
    "deadlines": _tells_time,
    "requirements": _tells_need,
    "forms": lambda text: "formular" in fold(text) or "vordruck" in fold(text),
}
