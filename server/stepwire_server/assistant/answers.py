"""Answers for people: what steps found, as Markdown in the query's language with the structured fields beside it.

Text of documents stays as it is; headings and connecting words are German or English. Nothing is said that the
documents do not say.
"""

from __future__ import annotations

__all__ = [
    "Wording",
    "checklist",
    "comparison",
    "cost",
    "headline",
    "overview",
    "quoted",
    "references",
    "table_markdown",
    "wording",
]

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from stepwire_server.assistant.lexicon import Language, fold, tokenize
from stepwire_server.assistant.nouns import kind_of_noun

Kind = Literal["checklist", "comparison", "cost", "definition", "location", "contact", "timeline", "answer"]
Wording = Mapping[str, str]
JsonObject = dict[str, Any]

_GERMAN: Wording = {
    "checklist": "Checkliste: {subject}",
    "comparison": "Vergleich: {subject}",
    "cost": "Kosten: {subject}",
    "definition": "Begriff: {subject}",
    "location": "Zuständige Stelle: {subject}",
    "contact": "Kontakt: {subject}",
    "timeline": "Fristen: {subject}",
    "answer": "Auskunft: {subject}",
    "in": "{subject} in {place}",
    "nothing": "Zu „{subject}“ steht in den Dokumenten nichts.",
    "elsewhere": "Die Dokumente erwähnen „{subject}“, nennen hierzu aber nichts.",
    "not_found": "Zu „{subject}“ wurde nichts gefunden.",
    "no_fees": "Eine Gebührentabelle gibt es dazu nicht. Im Text steht:",
    "no_sum": "Ein Betrag lässt sich daraus nicht berechnen. Im Dokument steht:",
    "no_deadlines": "Eine Aufstellung der Fristen gibt es dazu nicht. Im Text steht:",
    "no_list": "Eine Aufstellung der Voraussetzungen gibt es dazu nicht. Im Text steht:",
    "no_summary": "Was das Dokument dazu nennt, steht in der Tabelle.",
    "not_counted": "Weitere Beträge des Textes sind nicht eingerechnet.",
    "mention": "Erwähnung",
    "no_part": "Die Dokumente zu „{subject}“ nennen hierzu nichts.",
    "place_unknown": "Zu welchem Land {place} gehört, ist nicht bekannt; die Angaben gelten allgemein.",
    "place_general": "Für {place} liegt kein eigenes Dokument vor; die Angaben gelten allgemein.",
    "holds_for": "Die Angaben gelten für {places}.",
    "lacks": "Zu {lacks} nennen die Dokumente keine Kosten; die Summe enthält sie nicht.",
    "no_detail": "Eine genaue Antwort auf die Frage nennen die Dokumente nicht. Zum Thema steht dort:",
    "mentioned": "Kein Dokument handelt eigens davon; erwähnt wird es hier:",
    "german": "",
    "sources": "Quellen",
    "as_of": "Stand {date}",
    "requirements": "Voraussetzungen",
    "papers": "Unterlagen",
    "forms": "Formulare",
    "steps": "Ablauf",
    "deadlines": "Fristen",
    "fees": "Gebühren",
    "office": "Zuständigkeit",
    "feature": "Merkmal",
    "no_value": "keine Angabe",
    "position": "Leistung",
    "rule": "Regel",
    "due": "Betrag",
    "case": "Fall",
    "total": "Summe",
    "total_alternatives": "Je nach Fall",
    "base_given": "Gerechnet mit {base} von {value} (aus der Anfrage).",
    "base_assumed": "Annahme: {base} von {value}, das Rechenbeispiel des Dokuments."
    " Mit einem eigenen Betrag in der Anfrage wird damit gerechnet.",
    "base_other": "Der Betrag in der Anfrage ist kein Wert für {base}; mit ihm ist nicht gerechnet.",
    "base_missing": "Der Betrag hängt von {base} ab; ein Wert dafür fehlt in der Anfrage.",
    "and": " und ",
    "to": "{low} bis {high}",
    "from": "ab {low}",
}
_ENGLISH: Wording = {
    "checklist": "Checklist: {subject}",
    "comparison": "Comparison: {subject}",
    "cost": "Cost: {subject}",
    "definition": "Definition: {subject}",
    "location": "Responsible office: {subject}",
    "contact": "Contact: {subject}",
    "timeline": "Deadlines: {subject}",
    "answer": "Answer: {subject}",
    "in": "{subject} in {place}",
    "nothing": "The documents have nothing on “{subject}”.",
    "elsewhere": "The documents mention “{subject}”, but say nothing about this.",
    "not_found": "Nothing was found on “{subject}”.",
    "no_fees": "There is no table of fees on this. The text says:",
    "no_sum": "No sum can be calculated from this. The document says:",
    "no_deadlines": "There is no list of deadlines on this. The text says:",
    "no_list": "There is no list of requirements on this. The text says:",
    "no_summary": "What the document says of it is in the table.",
    "not_counted": "Other sums in the text are not counted.",
    "mention": "Mentioned",
    "no_part": "The documents on “{subject}” say nothing about this.",
    "place_unknown": "The state that {place} belongs to is not known; what follows holds in general.",
    "place_general": "There is no document for {place} itself; what follows holds in general.",
    "holds_for": "What follows holds for {places}.",
    "lacks": "The documents name no costs of {lacks}; the total is without them.",
    "no_detail": "The documents do not answer exactly this. On the subject they say:",
    "mentioned": "No document is about this; it is mentioned here:",
    "german": "The documents are in German; what is quoted from them is left as it is.",
    "sources": "Sources",
    "as_of": "as of {date}",
    "requirements": "Requirements",
    "papers": "Documents to bring",
    "forms": "Forms",
    "steps": "Steps",
    "deadlines": "Deadlines",
    "fees": "Fees",
    "office": "Responsible",
    "feature": "Feature",
    "no_value": "not stated",
    "position": "Item",
    "rule": "Rule",
    "due": "Amount",
    "case": "Case",
    "total": "Total",
    "total_alternatives": "Depending on the case",
    "base_given": "Calculated with {base} of {value} (from the query).",
    "base_assumed": "Assumption: {base} of {value}, the document's own example. A sum in the query is used instead.",
    "base_other": "The sum in the query is no value of {base}; it was not calculated with.",
    "base_missing": "The amount depends on {base}; the query gives no value for it.",
    "and": " and ",
    "to": "{low} to {high}",
    "from": "from {low}",
}


def wording(language: Language) -> Wording:
    """Returns the headings and connecting words of a language."""
    return _GERMAN if language == "de" else _ENGLISH


def headline(kind: Kind, name: str, *, place: str, words: Wording) -> str:
    """Returns an answer's title."""
    name = words["in"].format(subject=name, place=place) if place else name
    return words[kind].format(subject=name)


def references(passages: Iterable[Mapping[str, Any]]) -> list[JsonObject]:
    """Returns the documents that the passages stand in, each once, in order."""
    found: dict[str, JsonObject] = {}
    for passage in passages:
        found.setdefault(passage["file"], {key: passage[key] for key in ("title", "file", "as_of", "sources")})
    return list(found.values())


def checklist(
    subject: str,
    *,
    title: str,
    place: str,
    passages: Sequence[Mapping[str, Any]],
    parts: Mapping[str, Sequence[Mapping[str, Any]]],
    notes: Sequence[str],
    words: Wording,
    elsewhere: bool = False,
) -> JsonObject:
    """Returns the checklist. `parts`: the passages of each part (`office`, `requirements`, `papers`, `forms`, ...)."""
    title = headline("checklist", title, place=place, words=words)
    lines = [f"# {title}", "", *_notes(notes)]
    items: list[JsonObject] = []
    told = [passage for passage in passages if passage.get("told")]
    if told:
        items = [
            {
                "part": passage["part"] or "requirements",
                "text": text,
                "file": passage["file"],
                "section": passage["section"],
            }
            for passage in told
            for text in (*passage["paragraphs"], *passage["items"], *_rows(passage))
        ]
        items = list({(item["file"], fold(item["text"])): item for item in items}.values())
        lines += [words["no_list"], "", *quoted(passages, items=items)]
    for part in ("office", "requirements", "papers", "forms", "steps", "deadlines", "fees"):
        pieces = list(_pieces(parts.get(part, ())))
        if not pieces:
            continue
        lines += [f"## {words[part]}", ""]
        for number, piece in enumerate(pieces, 1):
            items.append({"part": part, **piece})
            lines.append(_entry(part, piece["text"], number=number, alone=len(pieces) == 1))
        lines.append("")
    if not items:
        lines += [_none(subject, passages=passages, elsewhere=elsewhere, words=words), ""]
    return _answer("checklist", title, lines=lines, passages=passages, words=words, fields={"items": items})


def comparison(names: Sequence[str], *, analyses: Sequence[Mapping[str, Any]], words: Wording) -> JsonObject:
    """Returns the comparison as a table: one row a feature, one column an item; what is not stated says so."""
    title = headline("comparison", words["and"].join([", ".join(names[:-1]), names[-1]]), place="", words=words)
    features: dict[str, dict[int, str]] = {}
    for column, analysis in enumerate(analyses):
        for feature in analysis["features"]:
            features.setdefault(feature["name"], {})[column] = feature["value"]
    columns = [words["feature"], *names]
    rows = [
        [name, *(values.get(column, words["no_value"]) for column in range(len(names)))]
        for name, values in features.items()
    ]
    lines = [f"# {title}", ""]
    for name, analysis in zip(names, analyses, strict=True):
        lines += [f"**{name}:** {analysis['summary'] or _no_summary(name, analysis, words=words)}", ""]
    if rows:
        lines += [*table_markdown(columns, rows), ""]
    passages = [reference for analysis in analyses for reference in analysis["documents"]]
    fields = {
        "items": [
            {"name": name, "found": bool(a["documents"]), "summary": a["summary"]}
            for name, a in zip(names, analyses, strict=True)
        ],
        "columns": columns,
        "rows": rows,
    }
    return _answer("comparison", title, lines=lines, passages=passages, words=words, fields=fields)


def cost(
    subject: str,
    *,
    title: str,
    place: str,
    result: Mapping[str, Any],
    passages: Sequence[Mapping[str, Any]],
    notes: Sequence[str],
    words: Wording,
    elsewhere: bool = False,
) -> JsonObject:
    """Returns the costs: each position with its rule and sum, the base, and the total."""
    title = headline("cost", title, place=place, words=words)
    lines = [f"# {title}", "", *_notes(notes)]
    positions = result["positions"]
    if result["items"]:
        lines += [words["no_fees"], "", *quoted(passages, items=result["items"])]
    if positions:
        header = [words["position"], words["case"], words["rule"], words["due"]]
        rows = [[p["label"], p["case"], p["rule"], p["text"]] for p in positions]
        if not any(p["case"] for p in positions):
            header, rows = [header[0], *header[2:]], [[row[0], *row[2:]] for row in rows]
        lines += [*table_markdown(header, rows), ""]
        if result["total"]:
            label = words["total_alternatives" if result["alternatives"] else "total"]
            lines += [f"**{label}: {result['total']['text']}**", ""]
        lines += [*(f"{line}\n" for line in result["base_notes"])]
        lines += [f"> {remark}\n" for remark in result["remarks"]]
    elif not result["items"]:
        nothing = _none(subject, passages=passages, elsewhere=elsewhere, words=words)
        lines += [words["no_sum"] if result["remarks"] else nothing, ""]
        lines += [f"> {remark}\n" for remark in result["remarks"]]
    return _answer("cost", title, lines=lines, passages=passages, words=words, fields=dict(result))


def overview(
    kind: Kind,
    subject: str,
    *,
    title: str,
    place: str,
    passages: Sequence[Mapping[str, Any]],
    notes: Sequence[str],
    words: Wording,
    fields: Mapping[str, Any],
    body: Sequence[str],
    elsewhere: bool = False,
) -> JsonObject:
    """Returns an answer of any other kind; `body` are its lines, in Markdown."""
    title = headline(kind, title, place=place, words=words)
    lines = [f"# {title}", "", *_notes(notes), *body, ""]
    if not body:
        lines += [_none(subject, passages=passages, elsewhere=elsewhere, words=words), ""]
    return _answer(kind, title, lines=lines, passages=passages, words=words, fields=fields)


def quoted(passages: Sequence[Mapping[str, Any]], *, items: Iterable[Mapping[str, Any]]) -> list[str]:
    """Returns the lines of quotations, each with the title of its document."""
    titles = {passage["file"]: passage["title"] for passage in passages}
    lines = []
    for item in items:
        lines += [f"> {item['text']}", f"> ({titles[item['file']]})", ""]
    return lines


def table_markdown(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Returns the lines of a Markdown table; a bar in a cell is escaped."""
    cells = [[str(cell).replace("|", "\\|").replace("\n", " ") for cell in row] for row in (columns, *rows)]
    lines = ["| " + " | ".join(row) + " |" for row in cells]
    return [lines[0], "| " + " | ".join("---" for _ in columns) + " |", *lines[1:]]


def _pieces(passages: Sequence[Mapping[str, Any]]) -> Iterable[JsonObject]:
    """Yields each thing once that can be quoted from the passages, with the place it stands at."""
    seen: set[str] = set()
    for passage in passages:
        rows = _rows(passage)
        for text in (*passage["items"], *rows, *(() if passage["items"] or rows else passage["paragraphs"])):
            if fold(text) not in seen:
                seen.add(fold(text))
                yield {"text": text, "file": passage["file"], "section": passage["section"]}


def _rows(passage: Mapping[str, Any]) -> list[str]:
    return [": ".join(row[:2]) for table in passage["tables"] for row in table["rows"]]


def _entry(part: str, text: str, *, number: int, alone: bool) -> str:
    if part == "steps":
        return f"{number}. {text}"
    if part in ("requirements", "papers", "forms"):
        return f"- [ ] {text}"
    return text if alone else f"- {text}"


def _none(subject: str, *, passages: Sequence[Mapping[str, Any]], elsewhere: bool, words: Wording) -> str:
    """Returns that there is no answer: none in the documents on the subject, no word on it, or that it is no name of
    anything, so that nothing can be said of the documents."""
    if passages:
        return words["no_part"].format(subject=subject)
    if elsewhere:
        return words["elsewhere"].format(subject=subject)
    return words["nothing" if _is_name(subject) else "not_found"].format(subject=subject)


def _no_summary(name: str, analysis: Mapping[str, Any], *, words: Wording) -> str:
    if analysis["features"]:
        return words["no_summary"]
    return _none(name, passages=analysis["documents"], elsewhere=False, words=words)


def _is_name(subject: str) -> bool:
    """Whether a subject is a noun, as far as a capital or its head tells."""
    tokens = [token for token in tokenize(subject) if token.word]
    return any(
        token.capital or kind_of_noun(token.folded, language="de") or kind_of_noun(token.folded, language="en")
        for token in tokens
    )


def _notes(notes: Sequence[str]) -> list[str]:
    return [line for note in notes for line in (note, "")]


def _answer(
    kind: Kind,
    title: str,
    *,
    lines: list[str],
    passages: Iterable[Mapping[str, Any]],
    words: Wording,
    fields: Mapping[str, Any],
) -> JsonObject:
    documents = references(passages)
    if documents and words["german"]:
        lines += [f"*{words['german']}*", ""]
    if documents:
        lines += [f"## {words['sources']}", "", *(f"- {_source_line(document, words=words)}" for document in documents)]
    markdown = "\n".join(lines).strip() + "\n"
    while "\n\n\n" in markdown:
        markdown = markdown.replace("\n\n\n", "\n\n")
    return {"kind": kind, "title": title, "markdown": markdown, **fields, "documents": documents}


def _source_line(document: Mapping[str, Any], *, words: Wording) -> str:
    names = "; ".join(
        f"[{source['name']}]({source['url']})" if source.get("url") else source["name"]
        for source in document["sources"]
    )
    stand = f" ({words['as_of'].format(date=document['as_of'])})" if document["as_of"] else ""
    return f"{document['title']}{stand}" + (f": {names}" if names else "")
