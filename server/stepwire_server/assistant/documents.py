"""A folder of Markdown or plain text as documents with sections: what every answer is taken from.

A Markdown file may begin with YAML front matter (`title`, `topics`, `places`, `as_of`, `sources`); none of it is
needed. Headings make sections; text before the first heading below the title is the introduction. A plain text file
is one introduction, unless its lines are Markdown.
"""

from __future__ import annotations

__all__ = ["SECTIONS", "Document", "DocumentError", "Section", "Source", "Table", "load_documents", "parse_document"]

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from markdown_it import MarkdownIt
from markdown_it.token import Token

SECTIONS = (
    "Zuständigkeit",
    "Voraussetzungen",
    "Unterlagen",
    "Formulare",
    "Ablauf",
    "Fristen",
    "Gebühren",
    "Merkmale",
    "Kontakt",
    "Rechtsgrundlagen",
)
"""The headings that the assistant's own documents use. A user's documents may have any."""

_SUFFIXES = frozenset({".md", ".markdown", ".txt"})
_MAX_BYTES = 2 * 1024 * 1024


class DocumentError(ValueError):
    """A folder or a file of it can't be read as a document. The message names it and says what to mend."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a document has its content from."""

    name: str
    """A law, an authority, a publication."""
    url: str = ""
    """Its address, or empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table: its header cells and its rows, all as plain text."""

    columns: tuple[str, ...]
    """The header's cells."""
    rows: tuple[tuple[str, ...], ...]
    """The rows' cells, each row as long as the header."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """The text under one heading, up to the next."""

    title: str
    """The heading; empty for the introduction."""
    text: str = ""
    """The Markdown under the heading, as it stands in the file."""
    paragraphs: tuple[str, ...] = ()
    """Paragraphs outside of lists and tables."""
    items: tuple[str, ...] = ()
    """Entries of all lists, in order."""
    tables: tuple[Table, ...] = ()
    """Tables, in order."""

    @property
    def pieces(self) -> tuple[str, ...]:
        """Whatever can be quoted: list entries and paragraphs, else the rows of tables."""
        rows = tuple(
            ": ".join(row[:2]) if len(row) == 2 else ", ".join(row) for table in self.tables for row in table.rows
        )
        return (*self.items, *self.paragraphs) or rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One file."""

    file: str
    """Its path below the folder, with slashes."""
    title: str
    """From the front matter, else the first heading, else the file's name."""
    topics: tuple[str, ...] = ()
    """What it is about: the words by which people ask for it."""
    places: tuple[str, ...] = ()
    """The states or towns that it holds for. Empty: everywhere."""
    as_of: str = ""
    """The day, month or year that its content was true."""
    sources: tuple[Source, ...] = ()
    """Where its content is from."""
    sections: tuple[Section, ...] = field(default=())
    """The introduction first, where there is one."""

    @property
    def summary(self) -> str:
        """The introduction's first paragraph, else the first paragraph there is, else empty."""
        return next((text for section in self.sections for text in section.paragraphs), "")

    def section(self, title: str) -> Section | None:
        """Returns the section of this heading, whatever its case, or None."""
        wanted = title.casefold()
        return next((section for section in self.sections if section.title.casefold() == wanted), None)

    def reference(self) -> dict[str, Any]:
        """Returns how an answer names this document."""
        sources = [
            {"name": source.name, "url": source.url} if source.url else {"name": source.name} for source in self.sources
        ]
        return {"title": self.title, "file": self.file, "as_of": self.as_of, "sources": sources}


def load_documents(folder: Path) -> tuple[Document, ...]:
    """Returns every Markdown and text file below the folder as a document, in the order of their paths.

    Hidden files and folders are left out, and so is a file named README. Raises DocumentError where the folder does
    not exist, or a file is not UTF-8, is above 2 MiB or has front matter that is not what it should be.
    """
    if not folder.is_dir():
        raise DocumentError(f"{folder}: there is no such folder of documents")
    return tuple(_load(folder, path) for path in sorted(_files(folder)))


def parse_document(text: str, *, file: str) -> Document:
    """Returns the document that a file's text is. Raises DocumentError on bad front matter."""
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    matter, body = _front_matter(text, file=file)
    sections, heading = _sections(body)
    title = _text(matter, "title", file=file) or heading or Path(file).stem.replace("_", " ").replace("-", " ")
    return Document(
        file=file,
        title=title,
        topics=_texts(matter, "topics", file=file),
        places=_texts(matter, "places", file=file),
        as_of=_text(matter, "as_of", file=file),
        sources=tuple(_sources(matter, file=file)),
        sections=sections,
    )


def _files(folder: Path) -> Iterable[Path]:
    for path in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.suffix.lower() in _SUFFIXES and path.is_file() and not hidden and path.stem.upper() != "README":
            yield path


def _load(folder: Path, path: Path) -> Document:
    file = path.relative_to(folder).as_posix()
    if path.stat().st_size > _MAX_BYTES:
        raise DocumentError(f"{file}: is above 2 MiB; split it")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DocumentError(f"{file}: is not UTF-8 (byte {error.start}); save it as UTF-8") from error
    return parse_document(text, file=file)


def _front_matter(text: str, *, file: str) -> tuple[Mapping[str, Any], str]:
    if not text.startswith("---\n"):
        return {}, text
    head, mark, body = text[4:].partition("\n---")
    first = body.split("\n", 1)[0]
    if not mark or first.strip():
        # A rule at the top of a text without front matter.
        return {}, text
    try:
        matter = yaml.safe_load(head)
    except yaml.YAMLError as error:
        line = getattr(getattr(error, "problem_mark", None), "line", 0) + 2
        problem = getattr(error, "problem", None) or "cannot be read"
        raise DocumentError(f"{file}: the front matter is not YAML, line {line}: {problem}") from error
    if matter is None:
        matter = {}
    if not isinstance(matter, dict):
        raise DocumentError(f"{file}: the front matter must be pairs of key and value")
    return matter, body.partition("\n")[2]


def _text(matter: Mapping[str, Any], key: str, *, file: str) -> str:
    value = matter.get(key)
    if value is None:
        return ""
    if isinstance(value, (str, int, float, dt.date)) and not isinstance(value, bool):
        return str(value).strip()
    raise DocumentError(f"{file}: `{key}` in the front matter must be a text")


def _texts(matter: Mapping[str, Any], key: str, *, file: str) -> tuple[str, ...]:
    value = matter.get(key)
    if value is None:
        return ()
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(isinstance(entry, (str, int, float)) for entry in values):
        raise DocumentError(f"{file}: `{key}` in the front matter must be a list of texts")
    return tuple(str(entry).strip() for entry in values if str(entry).strip())


def _sources(matter: Mapping[str, Any], *, file: str) -> Iterable[Source]:
    value = matter.get("sources")
    if value is None:
        return
    for entry in value if isinstance(value, list) else [value]:
        if isinstance(entry, str):
            yield Source(name=entry)
        elif isinstance(entry, dict) and isinstance(entry.get("name"), str):
            yield Source(name=entry["name"], url=str(entry.get("url") or ""))
        else:
            raise DocumentError(f"{file}: each of `sources` in the front matter must be a text or have a `name`")


def _sections(body: str) -> tuple[tuple[Section, ...], str]:
    """Returns the sections and the first heading of the first level, which is no section but the title."""
    lines = body.split("\n")
    tokens = MarkdownIt("commonmark").enable("table").parse(body)
    title = ""
    # Each: heading, index of the first token, first line; the ends are where the next one begins.
    starts: list[tuple[str, int, int, int]] = [("", 0, 0, 0)]
    for index, token in enumerate(tokens):
        if token.type != "heading_open" or token.level or token.map is None:
            continue
        heading = _plain(tokens[index + 1])
        is_title = not title and token.tag == "h1"
        if is_title:
            title = heading
        starts.append(("" if is_title else heading, index + 3, token.map[1], token.map[0]))
    sections = []
    for number, (heading, first, line, _) in enumerate(starts):
        following = starts[number + 1] if number + 1 < len(starts) else None
        end = following[1] - 3 if following else len(tokens)
        text = "\n".join(lines[line : following[3] if following else len(lines)]).strip()
        if text or heading:
            sections.append(_section(heading, tokens[first:end], text=text))
    return tuple(sections), title


def _section(heading: str, tokens: list[Token], *, text: str) -> Section:
    paragraphs: list[str] = []
    items: list[str] = []
    tables: list[Table] = []
    rows: list[list[str]] = []
    depth = 0
    for index, token in enumerate(tokens):
        match token.type:
            case "bullet_list_open" | "ordered_list_open":
                depth += 1
            case "bullet_list_close" | "ordered_list_close":
                depth -= 1
            case "paragraph_open":
                (items if depth else paragraphs).append(_plain(tokens[index + 1]))
            case "fence" | "code_block":
                paragraphs.append(token.content.strip())
            case "table_open":
                rows = []
            case "tr_open":
                rows.append([])
            case "th_open" | "td_open":
                rows[-1].append(_plain(tokens[index + 1]))
            case "table_close":
                tables.append(Table(columns=tuple(rows[0]), rows=tuple(tuple(row) for row in rows[1:])))
    return Section(title=heading, text=text, paragraphs=tuple(paragraphs), items=tuple(items), tables=tuple(tables))


def _plain(inline: Token) -> str:
    """Returns an inline token's text without its marks; a link keeps its text."""
    parts = []
    for child in inline.children or ():
        if child.type in ("softbreak", "hardbreak"):
            parts.append(" ")
        elif child.type in ("text", "code_inline", "image", "html_inline"):
            parts.append(child.content)
    return " ".join("".join(parts).split())
