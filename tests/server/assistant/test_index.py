from __future__ import annotations

from collections.abc import Sequence

from stepwire_server.assistant.documents import Document, parse_document
from stepwire_server.assistant.index import Index
from stepwire_server.assistant.places import Gazetteer

_GAZETTEER = Gazetteer({"Bayern": ("München", "Passau"), "Hessen": ("Kassel",)})


def _document(file: str, *, topics: str = "", places: str = "", text: str = "Text.") -> Document:
    return parse_document(f"---\ntopics: [{topics}]\nplaces: [{places}]\n---\n# {file}\n\n{text}\n", file=file)


def _files(
    documents: Sequence[Document], subject: str, *, place: str = "", state: str = "", mentions: bool = False
) -> list[str]:
    hits = Index(documents, gazetteer=_GAZETTEER).find(subject, place=place, state=state, mentions=mentions)
    return [hit.document.file for hit in hits]


def test_inflected_words_are_found() -> None:
    """A subject is found in another case and number, with or without umlauts."""
    documents = [_document("a", topics="Bauantrag"), _document("b", topics="Gebühr")]
    assert _files(documents, "Bauanträge") == ["a"]
    assert _files(documents, "gebuehren") == ["b"]


def test_verb_finds_its_noun() -> None:
    """A verb finds the document on its noun in -ung."""
    assert _files([_document("a", topics="Ummeldung")], "ummelden") == ["a"]


def test_unknown_subject_finds_nothing() -> None:
    """A subject that shares only the end of a compound with a topic finds nothing."""
    assert _files([_document("a", topics="Führerschein, Personalausweis")], "Angelschein") == []


def test_compound_that_begins_with_a_topic_is_found() -> None:
    """A compound finds the document on its first part."""
    assert _files([_document("a", topics="Personalausweis")], "Personalausweisverlängerung") == ["a"]


def test_other_states_are_left_out() -> None:
    """A document for another state is no answer; the town's comes before the state's, that before the general one."""
    documents = [
        _document("allgemein", topics="Bauantrag"),
        _document("bayern", topics="Bauantrag", places="Bayern"),
        _document("hessen", topics="Bauantrag", places="Hessen"),
        _document("muenchen", topics="Bauantrag", places="München"),
    ]
    assert _files(documents, "Bauantrag", place="München", state="Bayern") == ["muenchen", "bayern", "allgemein"]
    assert _files(documents, "Bauantrag", place="Nirgendwo") == ["allgemein"]
    assert _files(documents, "Bauantrag") == ["allgemein"]


def test_mentions_count_only_where_asked_for() -> None:
    """A document that only mentions the subject is found where mentions count, and not beside one about it."""
    about, mentions = _document("a", topics="Hund"), _document("b", text="Auch ein Hund.")
    assert _files([mentions], "Hund") == []
    assert _files([mentions], "Hund", mentions=True) == ["b"]
    assert _files([about, mentions], "Hund", mentions=True) == ["a"]


def test_signs_in_a_subject_are_harmless() -> None:
    """Quotation marks, brackets and operators of the full-text language are no syntax."""
    for subject in ('"', "a OR b", "NEAR(x)", "*", "§ 34", "x AND", "(", "col:a", ""):
        _files([_document("a", topics="Hund")], subject)


def test_documents_by_name() -> None:
    """A document is found by its file, with or without the ending, and by its title."""
    index = Index([_document("hund.md", topics="Hund")], gazetteer=_GAZETTEER)
    assert all(index.document(name) is not None for name in ("hund.md", "HUND", "hund"))
    assert index.document("katze") is None
