from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepwire_server.assistant.language import Analysis, analyze
from stepwire_server.assistant.search import load_shelf

Understand = Callable[[str], Analysis]

_SHELF = load_shelf()

TOWNS = [
    "Stuttgart",
    "München",
    "Bad Homburg",
    "Frankfurt am Main",
    "Castrop-Rauxel",
    "Kleinkleckersdorf",
    "Unterzwurbach",
    "Ulm",
]
DOCUMENTS = [
    "Bauantrag",
    "Reisepass",
    "Personalausweis",
    "Angelschein",
    "Waffenbesitzschein",
    "Führungszeugnis",
    "Parkausweis",
]
FORMS = ["GmbH", "UG", "AG", "KG", "OHG", "GbR", "eG", "e.K.", "PartG", "GmbH & Co. KG", "Einzelunternehmen"]
TEMPLATES = [
    ("{document} in {town}", "procedure"),
    ("Wie beantrage ich einen {document} in {town}?", "procedure"),
    ("Welche Unterlagen brauche ich für den {document} in {town}?", "procedure"),
    ("Wie viel kostet ein {document} in {town}?", "calculation"),
    ("Welche Gebühren fallen für den {document} in {town} an?", "calculation"),
    ("Wie lange dauert ein {document} in {town}?", "timeline"),
    ("Frist für {document} in {town}", "timeline"),
    ("Wo bekomme ich in {town} einen {document}?", "location"),
    ("Telefonnummer für {document} in {town}", "contact"),
    ("Darf ich ohne {document} in {town} sein?", "fact"),
]


def _analyze(query: str) -> Analysis:
    return analyze(query, gazetteer=_SHELF.gazetteer, vocabulary=_SHELF.index.vocabulary)


@given(st.sampled_from(TEMPLATES), st.sampled_from(DOCUMENTS), st.sampled_from(TOWNS), st.booleans())
@settings(deadline=None)
def test_town_and_document_fill_their_slots(template: tuple[str, str], document: str, town: str, lower: bool) -> None:
    """Any town and any document, also unknown ones, and also in lower case, leave the intent and fill their slots."""
    query = template[0].format(document=document, town=town)
    if lower:
        query, document, town = query.lower(), document.lower(), town.lower()
    analysis = _analyze(query)
    assert analysis.intent == template[1]
    assert analysis.subject == document
    assert {(entity.type, entity.text) for entity in analysis.entities} == {("document", document), ("location", town)}
    assert analysis.parameters["location"].lower() == town.lower()


@given(st.lists(st.sampled_from(FORMS), min_size=2, max_size=3, unique=True), st.booleans())
@settings(deadline=None)
def test_company_forms_are_compared(forms: list[str], founding: bool) -> None:
    """Any two or three company forms are the items of a comparison, in the query's order."""
    names = ", ".join(forms[:-1]) + " und " + forms[-1]
    analysis = _analyze(f"Unterschied zwischen {names}{' gründen' if founding else ''}")
    assert analysis.intent == "comparison"
    assert analysis.items == tuple(forms)


@given(st.text(max_size=200))
@settings(deadline=None)
def test_no_text_raises(query: str) -> None:
    """Whatever the text, it is analysed, and every entity stands in it where it says."""
    analysis = _analyze(query)
    for entity in analysis.entities:
        assert analysis.query[entity.start : entity.end] == entity.text


@pytest.mark.parametrize(
    "query", ["", "?", "123", "Hallo!", "Guten Morgen", "blubb blubb", "Danke und tschüss", "Sing mir ein Lied"]
)
def test_small_talk_is_unknown(query: str, understand: Understand) -> None:
    """What asks for nothing is of intent unknown."""
    assert understand(query).intent == "unknown"


@pytest.mark.parametrize(
    ("query", "intent"),
    [
        ("Kontakt Bauamt München", "contact"),
        ("Was ist der Hauptsitz von BMW?", "fact"),
        ("Wo finde ich das Bürgerbüro?", "location"),
        ("Bauantrag für Einfamilienhaus in Stuttgart", "procedure"),
        ("Unterschied zwischen GmbH und AG gründen", "comparison"),
        ("Wie viel kostet ein Bauantrag in München?", "calculation"),
        ("Was bedeutet Vorbescheid?", "definition"),
        ("Bis wann muss ich mich ummelden?", "timeline"),
        ("Wie hoch ist das Stammkapital einer GmbH?", "fact"),
        ("What's the fee for a passport?", "calculation"),
        ("How do I get a driving licence in Cologne?", "procedure"),
        ("steps to found a GmbH", "procedure"),
        ("Who do I call about my residence permit?", "contact"),
        ("When do I have to register?", "timeline"),
        ("What is a Bauvoranfrage?", "definition"),
        ("compare OHG and KG", "comparison"),
    ],
)
def test_intents(query: str, intent: str, understand: Understand) -> None:
    """Each kind of question has its intent, in German and in English."""
    assert understand(query).intent == intent


@pytest.mark.parametrize(
    ("query", "kind"),
    [
        ("Was ist ein Pass?", "what"),
        ("Wie melde ich mich um?", "how"),
        ("Wie viel kostet das?", "how_much"),
        ("Wie lange dauert das?", "how_long"),
        ("Wo ist das?", "where"),
        ("Wann ist es fertig?", "when"),
        ("Wer hilft mir?", "who"),
        ("Welche Frist gilt?", "which"),
        ("Brauche ich einen Pass?", "yes_no"),
        ("Bauantrag", "statement"),
        ("Können Sie mir sagen, wo das Amt ist?", "where"),
    ],
)
def test_question_types(query: str, kind: str, understand: Understand) -> None:
    """The question word tells the type, also after a polite beginning; a verb in front asks for yes or no."""
    assert understand(query).question_type == kind


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("§ 34 BauGB", "law"),
        ("§ 36 Abs. 2 BauGB", "law"),
        ("Art. 6 Abs. 1 DSGVO", "law"),
        ("GewO", "law"),
        ("300.000 Euro", "amount"),
        ("1,5 Millionen Euro", "amount"),
        ("120 m²", "amount"),
        ("1. Januar 2026", "date"),
        ("01.02.2026", "date"),
        ("März 2027", "date"),
        ("Gewerbeummeldung", "procedure"),
        ("Eheschließung", "procedure"),
        ("Kfz-Zulassung", "procedure"),
        ("Ordnungsamt", "organisation"),
        ("Muster Dach GmbH", "organisation"),
        ("Zulassungsstelle", "organisation"),
        ("Meldebescheinigung", "document"),
    ],
)
def test_entity_types(text: str, kind: str, understand: Understand) -> None:
    """Patterns and the heads of compounds tell what a name is, also of names that no list has."""
    found = [(entity.type, entity.text) for entity in understand(f"Was gilt wegen {text} hier?").entities]
    assert (kind, text) in found


@pytest.mark.parametrize(
    "query", ["Wo ist das Büro des Architekten?", "Wir möchten bauen", "Darf mein Nachbar die Garage streichen?"]
)
def test_verbs_buildings_and_jobs_are_no_entities(query: str, understand: Understand) -> None:
    """Verbs, buildings and jobs are no entities."""
    assert understand(query).entities == ()


@pytest.mark.parametrize(
    ("query", "amount"),
    [
        ("Baugenehmigung bei 250.000 Euro", "250000"),
        ("fee for a building permit at 1,250.50 euros", "1250.50"),
        ("Gebühr bei 2 Mio. €", "2000000"),
    ],
)
def test_amounts_are_numbers_of_euros(query: str, amount: str, understand: Understand) -> None:
    """A sum is read in German and English format, with its scale."""
    assert str(understand(query).parameters["amount"]) == amount


def test_town_gives_its_state(understand: Understand) -> None:
    """A known town brings its state; where one moves from does not count when one says where to."""
    parameters = understand("Umzug von Kassel nach Leipzig").parameters
    assert (parameters["location"], parameters["state"]) == ("Leipzig", "Sachsen")


def test_homonym_is_a_place_only_where_grammar_says_so(understand: Understand) -> None:
    """A town that is a common word too is a place only behind a preposition or at the end."""
    assert [entity.text for entity in understand("Bauantrag für eine Halle auf dem Hof der Firma").entities] == [
        "Bauantrag"
    ]
    assert understand("Bauantrag in Essen").parameters["state"] == "Nordrhein-Westfalen"


def test_split_verb_is_put_together(understand: Understand) -> None:
    """The subject of a question with a split verb and no noun is the whole verb."""
    assert understand("Wie melde ich mich um?").subject == "ummelden"
