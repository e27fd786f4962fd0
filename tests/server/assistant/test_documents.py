from __future__ import annotations

from pathlib import Path

import pytest

from stepwire_server.assistant.documents import SECTIONS, Document, DocumentError, load_documents, parse_document
from stepwire_server.assistant.fees import parse_base, parse_fee
from stepwire_server.assistant.search import Shelf, part_of


def _all(shelf: Shelf) -> tuple[Document, ...]:
    return shelf.index.documents


def test_own_documents_are_whole(shelf: Shelf) -> None:
    """Each of the assistant's documents has a title, topics, a date, sources and an introduction."""
    assert len(_all(shelf)) >= 40
    for document in _all(shelf):
        assert document.title, document.file
        assert document.topics, document.file
        assert document.as_of, document.file
        assert document.sources, document.file
        assert document.summary, document.file


def test_own_headings_are_known(shelf: Shelf) -> None:
    """Each heading of the assistant's documents is one of the ten, and is known to be a part of an answer."""
    for document in _all(shelf):
        for section in document.sections[1:]:
            assert section.title in SECTIONS, document.file
            assert part_of(section), document.file


def test_own_fees_are_understood(shelf: Shelf) -> None:
    """Each fee of the assistant's documents is understood, and each rate has an example for its base."""
    for document in _all(shelf):
        section = document.section("Gebühren")
        for table in section.tables if section else ():
            fees = [parse_fee(row[0], row[1]) for row in table.rows]
            if any(fee.kind == "rate" for fee in fees):
                assert section is not None
                assert any(parse_base(text) for text in section.paragraphs), document.file


def test_own_places_are_known(shelf: Shelf) -> None:
    """Each place of the assistant's documents is in the list of places."""
    for document in _all(shelf):
        for place in document.places:
            assert shelf.gazetteer.find(place) is not None, document.file


def test_markdown_becomes_sections() -> None:
    """Headings make sections; lists, tables and paragraphs are told apart; marks are taken off."""
    text = (
        "# Titel\n\nEin **Satz** mit [Wort](https://a.example).\n\n## Unterlagen\n\n- eins\n- zwei\n\n"
        "| A | B |\n|---|---|\n| 1 | 2 |\n\n### Tiefer\n\nmehr\n"
    )
    document = parse_document(text, file="a.md")
    assert document.title == "Titel"
    assert [section.title for section in document.sections] == ["", "Unterlagen", "Tiefer"]
    assert document.summary == "Ein Satz mit Wort."
    assert document.sections[1].items == ("eins", "zwei")
    assert document.sections[1].tables[0].rows == (("1", "2"),)


def test_plain_text_is_a_document() -> None:
    """A text without headings and front matter has its file's name as title and its paragraphs as introduction."""
    document = parse_document("Erster Absatz.\n\nZweiter Absatz.\n", file="haus/meine-notizen.txt")
    assert document.title == "meine notizen"
    assert document.sections[0].paragraphs == ("Erster Absatz.", "Zweiter Absatz.")


def test_dates_and_single_texts_in_front_matter() -> None:
    """A date may be a year, a month or a day; a single topic may stand without a list; a source may be a text."""
    document = parse_document("---\nas_of: 2025-06-01\ntopics: Hund\nsources: [Satzung]\n---\nText\n", file="a.md")
    assert (document.as_of, document.topics, document.sources[0].name) == ("2025-06-01", ("Hund",), "Satzung")


@pytest.mark.parametrize(
    "matter",
    ["title: [a", "- eins", "title: {a: 1}", "topics: 5", "topics: [{a: 1}]", "sources: [5]", "places: {a: b}"],
)
def test_bad_front_matter_names_the_file(matter: str) -> None:
    """Front matter that is not what it should be is an error that names the file."""
    with pytest.raises(DocumentError, match=r"^schlecht\.md: "):
        parse_document(f"---\n{matter}\n---\nText\n", file="schlecht.md")


def test_bad_files_are_named(tmp_path: Path) -> None:
    """A file that is not UTF-8 and a folder that is missing are errors that name them."""
    (tmp_path / "alt.txt").write_bytes("Gebühr".encode("latin-1"))
    with pytest.raises(DocumentError, match=r"^alt\.txt: is not UTF-8"):
        load_documents(tmp_path)
    with pytest.raises(DocumentError, match="no such folder"):
        load_documents(tmp_path / "fehlt")


def test_what_is_left_out(tmp_path: Path) -> None:
    """Hidden files, a README and other kinds of files are no documents; folders within are read."""
    for name in ("a.md", "tief/b.txt", ".versteckt.md", ".git/c.md", "README.md", "bild.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("Text", encoding="utf-8")
    assert [document.file for document in load_documents(tmp_path)] == ["a.md", "tief/b.txt"]
