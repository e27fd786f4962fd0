"""Puts together what searches found: checklists, definitions, contacts, deadlines, answers, analyses of one thing."""

from __future__ import annotations

__all__ = ["analyze_item", "compose", "notes_of", "quotes_hold"]

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from stepwire_server.assistant import answers
from stepwire_server.assistant.answers import JsonObject, Wording
from stepwire_server.assistant.documents import Document
from stepwire_server.assistant.glossary import german_for
from stepwire_server.assistant.lexicon import fold
from stepwire_server.assistant.search import head_of, stems_of
from stepwire_server.assistant.told import spans_in

Passages = Sequence[Mapping[str, Any]]
Kind = Literal["checklist", "definition", "location", "contact", "timeline", "answer"]

_CONTACT_FIELDS: Mapping[str, str] = {
    "stelle": "name",
    "behorde": "name",
    "amt": "name",
    "office": "name",
    "name": "name",
    "anschrift": "address",
    "adresse": "address",
    "address": "address",
    "telefon": "phone",
    "phone": "phone",
    "e-mail": "email",
    "email": "email",
    "internet": "web",
    "website": "web",
    "web": "web",
    "offnungszeiten": "hours",
    "hours": "hours",
}
_FIELD = re.compile(r"^(?P<key>[A-ZÄÖÜa-zäöü-]{2,20}):\s+(?P<value>.+)$")


def compose(
    kind: Kind,
    subject: str,
    *,
    title: str,
    place: str,
    findings: Sequence[Mapping[str, Any]],
    terms: Sequence[str] = (),
    words: Wording,
) -> JsonObject:
    """Returns the answer of a kind from the outputs of searches."""
    passages = [passage for finding in findings for passage in finding["passages"]]
    notes = notes_of(findings, words=words)
    elsewhere = any(finding.get("elsewhere") for finding in findings)
    if kind == "checklist":
        parts: dict[str, list[Mapping[str, Any]]] = {}
        for passage in passages:
            if passage.get("told"):
                continue
            parts.setdefault(passage["part"] or "requirements", []).append(passage)
        return answers.checklist(
            subject,
            title=title,
            place=place,
            passages=passages,
            parts=parts,
            notes=notes,
            words=words,
            elsewhere=elsewhere,
        )
    build = {
        "definition": _definition,
        "location": _office,
        "contact": _office,
        "timeline": _timeline,
        "answer": _facts,
    }[kind]
    if kind == "answer":
        # What it says of the subject is quoted; that nothing is about it, the answer says by itself.
        notes = [note for note in notes if note != words["mentioned"]]
    # What it is about and where it holds is no part of what is asked.
    given = stems_of(f"{title} {place}")
    terms = [term for term in terms if not stems_of(term) <= given]
    aliases = [alias for finding in findings for alias in finding.get("aliases", ())]
    body, fields, used = build(passages, subject=subject, terms=aliases if build is _office else terms, words=words)
    if not any(passage["places"] for passage in used):
        # What is quoted holds everywhere.
        notes = [note for note in notes if note not in notes_of(findings, words=words, only="holds_for")]
    return answers.overview(
        kind,
        subject,
        title=title,
        place=place,
        passages=used,
        notes=notes if body else [],
        words=words,
        fields=fields,
        body=body,
        elsewhere=elsewhere,
    )


def notes_of(findings: Iterable[Mapping[str, Any]], *, words: Wording, only: str = "") -> list[str]:
    """Returns what is to be said first, each once. `only`: the key of the note that is wanted alone."""
    notes = [
        words[note].format(
            place=finding["place"], places=", ".join(finding["holds_for"]), lacks=", ".join(finding.get("lacks", ()))
        )
        for finding in findings
        for note in finding["notes"]
        if only in ("", note)
    ]
    return list(dict.fromkeys(notes))


def analyze_item(subject: str, *, findings: Sequence[Mapping[str, Any]], words: Wording) -> JsonObject:
    """Returns one thing's features, a summary and its documents. Empty lists where nothing was found."""
    passages = [passage for finding in findings for passage in finding["passages"]]
    features: dict[str, str] = {}
    for passage in passages:
        for table in passage["tables"]:
            if passage["part"] != "fees":
                features.update(
                    {row[0]: "; ".join(row[1:]) for row in table["rows"] if len(row) > 1 and row[0] not in features}
                )
        if passage["part"] == "features":
            pairs = (text.partition(":") for text in passage["items"])
            features.update({name.strip(): value.strip() for name, _, value in pairs if value})
        elif (
            passage["section"]
            and not passage.get("told")
            and not passage["tables"]
            and (text := "; ".join(passage["items"] or passage["paragraphs"]))
        ):
            features.setdefault(passage["section"], text)
    fees = [
        ": ".join(row[:2])
        for passage in passages
        if passage["part"] == "fees"
        for table in passage["tables"]
        for row in table["rows"]
    ]
    if fees:
        features[words["fees"]] = "; ".join(fees)
    summary = next(
        (
            passage["paragraphs"][0]
            for passage in passages
            if passage["paragraphs"] and passage["part"] != "fees" and not passage.get("told")
        ),
        "",
    )
    told = [passage for passage in passages if passage.get("told")]
    if told and (text := "; ".join(text for passage in told for text in (*passage["paragraphs"], *passage["items"]))):
        features.setdefault(words["mention"], text)
    return {
        "item": subject,
        "found": bool(passages),
        "summary": summary,
        "features": [{"name": name, "value": value} for name, value in features.items()],
        "documents": answers.references(passages),
    }


def quotes_hold(answer: Mapping[str, Any], *, documents: Mapping[str, Document]) -> list[JsonObject]:
    """Returns the quotations of an answer that do not stand in the document they name; none where all hold.

    A quotation is any object in the answer with a `text` and a `file`.
    """
    return [quote for quote in _quotes(answer) if not _stands(quote["text"], documents.get(quote["file"]))]


def _quotes(value: Any) -> Iterable[JsonObject]:
    if isinstance(value, Mapping):
        if isinstance(value.get("text"), str) and isinstance(value.get("file"), str):
            yield {"text": value["text"], "file": value["file"]}
        for entry in value.values():
            yield from _quotes(entry)
    elif isinstance(value, list):
        for entry in value:
            yield from _quotes(entry)


def _stands(text: str, document: Document | None) -> bool:
    if document is None:
        return False
    wanted = fold(" ".join(text.split()))
    for section in document.sections:
        rows = [": ".join(row[:2]) for table in section.tables for row in table.rows]
        if any(wanted in fold(" ".join(piece.split())) for piece in (*section.items, *section.paragraphs, *rows)):
            return True
    return False


def _names(subject: str) -> list[frozenset[str]]:
    return [stems_of(name) for name in (subject, *german_for(subject))]


def _pieces(passage: Mapping[str, Any]) -> list[str]:
    rows = [": ".join(row[:2]) for table in passage["tables"] for row in table["rows"]]
    return [*passage["paragraphs"], *passage["items"], *rows]


def _quote(text: str, passage: Mapping[str, Any]) -> JsonObject:
    return {"text": text, "file": passage["file"], "section": passage["section"]}


_TELLS = 4
"""Words that a piece has beside the name, at least, to tell something of it."""


def _definition(
    passages: Passages, *, subject: str, terms: Sequence[str], words: Wording
) -> tuple[list[str], JsonObject, list[Mapping[str, Any]]]:
    names = _names(subject)
    for passage in passages:
        if not passage["section"] and passage["paragraphs"]:
            begin = (text for text in passage["paragraphs"] if any(head_of(text) >= wanted for wanted in names))
            text = next(begin, passage["paragraphs"][0])
            return [text], {"items": [_quote(text, passage)]}, [passage]
    items, used = [], []
    for passage in passages:
        for text in _pieces(passage):
            # A piece that has little but the name tells nothing of it.
            if any(said >= wanted and len(said - wanted) >= _TELLS for wanted in names for said in (stems_of(text),)):
                items.append(_quote(text, passage))
                used.append(passage)
    items = items[:5]
    return [f"- {item['text']}" for item in items], {"items": items}, used[:5]


def _timeline(
    passages: Passages, *, subject: str, terms: Sequence[str], words: Wording
) -> tuple[list[str], JsonObject, list[Mapping[str, Any]]]:
    items = [
        {**_quote(text, passage), "spans": spans_in(text)}
        for passage in passages
        for text in (passage["items"] or _pieces(passage))
    ]
    lines = [f"- {item['text']}" for item in items]
    if items and all(passage.get("told") for passage in passages):
        lines = [words["no_deadlines"], "", *answers.quoted(passages, items=items)]
    return lines, {"items": items}, list(passages)


def _facts(
    passages: Passages, *, subject: str, terms: Sequence[str], words: Wording
) -> tuple[list[str], JsonObject, list[Mapping[str, Any]]]:
    """Returns the pieces that say most of what is asked, six at most; where none does, three and that none does."""
    names = _names(subject)
    german = (name for term in terms for name in german_for(term))
    asked = stems_of(" ".join((*terms, *german))) - frozenset().union(*names)
    ranked = []
    for order, passage in enumerate(passages):
        for text in filter(None, map(_whole, _pieces(passage))):
            overlap = len(asked & stems_of(f"{passage['section']} {text}"))
            says = _says(text, names) or _says(passage["title"], names)
            ranked.append((-overlap, not says, order, text, passage))
    ranked.sort(key=lambda entry: entry[:3])
    if not ranked:
        return [], {"items": []}, []
    exact = ranked[0][0] < 0 or not asked
    best = [entry for entry in ranked if entry[:2] == ranked[0][:2]][: 6 if exact else 3]
    items = [_quote(text, passage) for *_, text, passage in best]
    lead = [] if exact else [words["no_detail"], ""]
    return [*lead, *(f"- {item['text']}" for item in items)], {"items": items}, [entry[4] for entry in best]


def _office(
    passages: Passages, *, subject: str, terms: Sequence[str], words: Wording
) -> tuple[list[str], JsonObject, list[Mapping[str, Any]]]:
    """Returns the contacts of the office; `terms` are other names of it.

    Where several documents have contacts, the first one's are taken: that is the town's.
    """
    names = _names(subject)
    aliases = [*names, *map(stems_of, terms)]
    contacts: list[JsonObject] = []
    items: list[JsonObject] = []
    used: list[Mapping[str, Any]] = []
    for file in dict.fromkeys(passage["file"] for passage in passages):
        own = [passage for passage in passages if passage["file"] == file]
        lines = [(text, p) for p in own if p["part"] != "contact" for text in (*p["paragraphs"], *p["items"])]
        fitting = [(text, p) for text, p in lines if _says(text, names)] or [
            (text, p) for text, p in lines if _says(text, aliases)
        ]
        # A town's name stands in the names of all its offices.
        towns = stems_of(" ".join(place for p in own for place in p["places"]))
        responsible = stems_of(" ".join(text.rpartition(":")[2] for text, p in fitting if text in p["items"])) - towns
        general = [text for text in lines if text[0] in text[1]["paragraphs"]]
        entries = [contact for p in own if p["part"] == "contact" for contact in _contacts(p)]
        called = [contact.get("name", "") for contact in entries]
        for matches in (
            [_says(name, names) for name in called],
            _most([len(stems_of(name) & responsible) for name in called]),
            [_says(name, aliases) for name in called],
        ):
            if any(matches):
                entries = [contact for contact, holds in zip(entries, matches, strict=True) if holds]
                break
        else:
            # Where the document names an office that has no contact in it, the contacts of others are none of it.
            entries = [] if responsible else entries
        quotes = [(_whole(text), p) for text, p in fitting or general[:1]]
        if not contacts and entries:
            quotes += [(text, p) for p in own if p["part"] == "contact" for text in p["paragraphs"]]
            contacts = entries
        items += [_quote(text, p) for text, p in quotes if text]
        used += own
    body: list[str] = []
    for contact in contacts:
        body += [f"- **{contact.get('name', subject)}**", *(f"  - {line}" for line in contact["lines"])]
    if body and items:
        body.append("")
    body += [line for item in items for line in (item["text"], "")]
    return body, {"contacts": contacts, "items": items}, used


def _most(counts: Sequence[int]) -> list[bool]:
    """Returns which of the counts are the highest and above 0."""
    highest = max(counts, default=0)
    return [count == highest > 0 for count in counts]


def _says(text: str, names: Iterable[frozenset[str]]) -> bool:
    said = stems_of(text)
    return any(name and name <= said for name in names)


def _whole(text: str) -> str:
    """Returns a text without a last sentence that only announces a list."""
    return re.sub(r"(?:(?<=[.!?])\s+|^)[^.!?]*:$", "", text)


def _contacts(passage: Mapping[str, Any]) -> Iterable[JsonObject]:
    """Yields the contacts of a list of `Key: value` entries; a key that comes again begins the next one."""
    contact: JsonObject = {}
    for text in passage["items"]:
        found = _FIELD.match(text)
        key = _CONTACT_FIELDS.get(fold(found["key"]), "") if found else ""
        if contact and key and (key == "name" or key in contact):
            yield contact
            contact = {}
        contact.setdefault("file", passage["file"])
        contact.setdefault("lines", [])
        if key and found:
            contact[key] = found["value"]
        if key != "name":
            contact["lines"].append(text)
    if contact:
        yield contact
