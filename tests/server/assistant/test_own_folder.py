"""A folder of someone's own texts, without tables, topics and front matter."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from stepwire.errors import QueryNotUnderstood
from stepwire_server.assistant.fees import parse_sentence
from stepwire_server.assistant.language import Analysis, analyze
from stepwire_server.assistant.planner import build_plan
from stepwire_server.assistant.search import Shelf, load_shelf

Run = Callable[..., Awaitable[Any]]
Understand = Callable[[str], Analysis]

_TEXTS: Mapping[str, str] = {
    "tiere.txt": "Zweitwohnungsteuer in Oberstetten\n\nDie Zweitwohnungsteuer kostet 240 Euro im Jahr und wird im März"
    " fällig.\n\nDie Jagdsteuer kostet 75,50 Euro im Jahr. Die Jagdsteuer für Vereine kostet 20 Euro. Die Jagdsteuer"
    " ist innerhalb von sechs Wochen anzumelden.\n",
    "marktstand.txt": "Ein Platz auf dem Wochenmarkt.\n\nDie Gebühr beträgt 12,00 Euro. Dazu kommen 3 Euro für Strom."
    "\n\nDie Zusage dauert zehn Tage.\n",
    "sammelkarte.md": "# Sammelkarte\n\n## Gebühren\n\nDie Sammelkarte kostet 1.250 Euro im Jahr.\n",
    "tageskarte.md": "# Tageskarte\n\nFür einen Tag.\n\n## Gebühren\n\n| Leistung | Gebühr |\n|---|---|\n"
    "| Tageskarte | 8 Euro |\n",
    "sondernutzung_erlaubnis.txt": "Tische vor dem Lokal brauchen eine Erlaubnis.\n",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in _TEXTS.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


@pytest.fixture
def own(folder: Path) -> Shelf:
    return load_shelf(folder)


def _analyze(query: str, shelf: Shelf) -> Analysis:
    return analyze(query, gazetteer=shelf.gazetteer, vocabulary=shelf.index.vocabulary)


async def test_price_in_a_sentence_is_found_and_reckoned(folder: Path, run: Run) -> None:
    """A document of another name that says what the subject costs is quoted, and the sentence is the rule."""
    output = (await run("Was kostet die Jagdsteuer in Oberstetten?", documents=folder)).output
    assert "Eine Gebührentabelle gibt es dazu nicht" in output["markdown"]
    assert "nichts" not in output["markdown"]
    assert "> (tiere)" in output["markdown"]
    assert output["total"]["amount"] == "75.50"
    assert output["positions"][0]["rule"] == "Die Jagdsteuer kostet 75,50 Euro im Jahr."
    assert [item["file"] for item in output["items"]] == ["tiere.txt"]
    assert "Zweitwohnung" not in output["markdown"]


async def test_case_in_a_sentence_counts_where_it_is_named(folder: Path, run: Run) -> None:
    """A sentence on a case of the subject counts only for a query that names the case."""
    output = (await run("Was kostet die Jagdsteuer für Vereine?", documents=folder)).output
    assert output["total"]["amount"] == "20.00"


async def test_sentence_of_uncertain_form_is_quoted_only(folder: Path, run: Run) -> None:
    """A sum in a sentence that goes on is quoted, and not reckoned with."""
    output = (await run("Was kostet die Zweitwohnungsteuer?", documents=folder)).output
    assert "240 Euro im Jahr und wird im März fällig" in output["markdown"]
    assert (output["positions"], output["total"]) == ([], None)


async def test_other_sums_are_said_not_to_count(folder: Path, run: Run) -> None:
    """Where a text has more sums than are understood, the answer says that they are not in the total."""
    output = (await run("Was kostet ein Marktstand?", documents=folder)).output
    assert output["total"]["amount"] == "12.00"
    assert "Weitere Beträge des Textes sind nicht eingerechnet" in output["markdown"]


async def test_two_prices_of_the_same_make_no_total(tmp_path: Path, run: Run) -> None:
    """Texts that contradict each other are quoted side by side."""
    for name, value in (("alt.txt", 10), ("neu.txt", 15)):
        (tmp_path / name).write_text(f"Die Strandkarte kostet {value} Euro.\n", encoding="utf-8")
    output = (await run("Was kostet die Strandkarte?", documents=tmp_path)).output
    assert (len(output["items"]), output["total"]) == (2, None)


async def test_section_of_fees_without_a_table(folder: Path, run: Run) -> None:
    """A section of fees with a sentence in it does not say nothing."""
    output = (await run("Was kostet eine Sammelkarte?", documents=folder)).output
    assert output["total"]["amount"] == "1250.00"
    assert "nennen hierzu nichts" not in output["markdown"]


async def test_table_that_is_not_understood_is_quoted(tmp_path: Path, run: Run) -> None:
    """A table whose cells are no sums is quoted, and nothing is said to be missing."""
    text = "# Strandfest\n\n## Gebühren\n\n| Leistung | Gebühr |\n|---|---|\n| Zelt | nach Aufwand |\n"
    (tmp_path / "fest.md").write_text(text, encoding="utf-8")
    output = (await run("Was kostet das Strandfest?", documents=tmp_path)).output
    assert "> Zelt: nach Aufwand" in output["markdown"]
    assert "nichts" not in output["markdown"]


async def test_deadlines_and_requirements_in_text(folder: Path, run: Run) -> None:
    """Spans of time and conditions in free text are quoted with their document."""
    deadline = (await run("Frist für die Jagdsteuer", documents=folder)).output
    assert "Eine Aufstellung der Fristen gibt es dazu nicht" in deadline["markdown"]
    assert {"value": 6, "unit": "weeks"} in deadline["items"][0]["spans"]
    assert "(marktstand)" in (await run("Wie lange dauert ein Marktstand?", documents=folder)).output["markdown"]
    needs = (await run("Welche Unterlagen brauche ich für die Jagdsteuer?", documents=folder)).output
    assert "innerhalb von sechs Wochen anzumelden" in needs["markdown"]
    assert "- [ ]" not in needs["markdown"]


async def test_what_is_quoted_stands_in_the_text(folder: Path, run: Run, own: Shelf) -> None:
    """A quotation of free text is found in its document."""
    texts = {document.file: " ".join(section.text for section in document.sections) for document in own.index.documents}
    for query in ("Was kostet die Jagdsteuer?", "Frist für die Jagdsteuer", "Jagdsteuer anmelden"):
        for item in (await run(query, documents=folder)).output["items"]:
            assert item["text"] in texts[item["file"]]


async def test_comparison_does_not_contradict_itself(folder: Path, run: Run) -> None:
    """A document without an introduction is not said to be missing above a table of what it says."""
    output = (await run("Unterschied zwischen Sammelkarte und Tageskarte", documents=folder)).output
    assert "1.250 Euro" in output["markdown"]
    assert "nichts" not in output["markdown"]


async def test_nothing_is_said_of_the_documents_only_for_a_name(folder: Path, run: Run) -> None:
    """That documents have nothing is said of a name; a name that they only mention is said to be mentioned."""
    absent = (await run("Was kostet ein Tauchschein?", documents=folder)).output["markdown"]
    assert "Zu „Tauchschein“ steht in den Dokumenten nichts" in absent
    mentioned = (await run("Was kostet ein Lokal?", documents=folder)).output["markdown"]
    assert "Die Dokumente erwähnen „Lokal“" in mentioned
    verb = (await run("Wie kann ich etwas verlängern?", documents=folder)).output["markdown"]
    assert "wurde nichts gefunden" in verb


@pytest.mark.parametrize(
    ("query", "subject"),
    [
        ("Sammelkarte Oberstetten", "Sammelkarte"),
        ("Marktstand in Oberstetten", "Marktstand"),
        ("Zweitwohnungsteuer Oberstetten", "Zweitwohnungsteuer"),
        ("sondernutzung Oberstetten", "sondernutzung"),
    ],
)
def test_bare_names_of_documents_are_procedures(query: str, subject: str, own: Shelf) -> None:
    """A title, a file's name or a text's heading with a town is a question for the procedure, as a topic is."""
    found = _analyze(query, own)
    assert (found.intent, found.subject) == ("procedure", subject)
    assert found.parameters["location"] == "Oberstetten"


@pytest.mark.parametrize(
    ("text", "label", "low", "high"),
    [
        ("Die Badekarte kostet 120 Euro.", "Badekarte", "120", "120"),
        ("Die Gebühr beträgt 37,00 Euro.", "", "37", "37"),
        ("Die Gebühr für die Badekarte beträgt 1.200 Euro im Jahr.", "für die Badekarte", "1200", "1200"),
        ("Die Badekarte kostet 15 bis 65 Euro", "Badekarte", "15", "65"),
        ("Eine Badekarte kostet ab 9,50 € pro Person.", "Badekarte", "9.50", None),
        ("The swimming card costs 12.50 euros.", "swimming card", "12.50", "12.50"),
        ("The fee is €40 per year.", "", "40", "40"),
    ],
)
def test_sentences_that_are_fees(text: str, label: str, low: str, high: str | None) -> None:
    """A sentence that says what something costs and nothing else is a fee."""
    found = parse_sentence(text)
    assert found is not None
    assert (found[0], found[1].low, found[1].high) == (label, Decimal(low), None if high is None else Decimal(high))


@pytest.mark.parametrize(
    "text",
    [
        "Nicht jede Badekarte kostet 120 Euro.",
        "Die Badekarte kostet nicht 120 Euro.",
        "Die Badekarte kostet etwa 120 Euro.",
        "Fast die ganze Anlage kostet 9 Euro.",
        "Früher kostete die Badekarte 90 Euro.",
        "Die Badekarte kostet 120 Euro, für Kinder die Hälfte.",
        "Badekarte und Saunakarte kosten 30 Euro.",
        "Das Stammkapital beträgt 25.000 Euro.",
        "Das Bußgeld beträgt 50 Euro.",
        "Sie kostet 120 Euro.",
        "Die Badekarte kostet 37.50 Euro.",
    ],
)
def test_sentences_that_are_no_certain_fees(text: str) -> None:
    """Whatever else a sentence says makes its sum uncertain."""
    assert parse_sentence(text) is None


@pytest.mark.parametrize(
    ("query", "file"),
    [
        ("Wir wechseln im Mai die Wohnung, was haben wir zu tun?", "wohnsitz-anmelden-ummelden-abmelden.md"),
        ("Ich zog letzte Woche nach Ulm, was muss ich machen?", "wohnsitz-anmelden-ummelden-abmelden.md"),
        ("We relocated to Leipzig, what do we have to do?", "wohnsitz-anmelden-ummelden-abmelden.md"),
        ("How can I start my own shop?", "gewerbeanmeldung.md"),
        ("Wie eröffne ich einen Laden?", "gewerbeanmeldung.md"),
        ("How do we get wed?", "eheschliessung.md"),
        ("Wie kann ich mich trauen lassen?", "eheschliessung.md"),
        ("How do I become a citizen?", "einbuergerung.md"),
        ("How do I register my motorbike?", "kfz-zulassung.md"),
        ("Ich wandere aus, was muss ich beachten?", "wohnsitz-anmelden-ummelden-abmelden.md"),
    ],
)
async def test_what_people_do_leads_to_its_procedure(query: str, file: str, run: Run) -> None:
    """Everyday verbs and phrases lead to the document on their procedure."""
    output = (await run(query)).output
    assert output["kind"] == "checklist"
    assert file in [document["file"] for document in output["documents"]]


async def test_what_people_do_leads_to_own_documents(tmp_path: Path, run: Run) -> None:
    """A folder's own document is found by what people do, where its title is another word for the procedure."""
    (tmp_path / "a.md").write_text("# Gewerbe anmelden\n\nDas Formular liegt im Rathaus aus.\n", encoding="utf-8")
    (tmp_path / "b.md").write_text("# Umzug\n\nWer einzieht, muss sich melden.\n", encoding="utf-8")
    shop = (await run("How do I open a shop?", documents=tmp_path)).output
    assert [document["file"] for document in shop["documents"]] == ["a.md"]
    home = (await run("Wir wechseln die Wohnung, was müssen wir tun?", documents=tmp_path)).output
    assert [document["file"] for document in home["documents"]] == ["b.md"]


def test_a_name_is_not_replaced_by_what_is_done(understand: Understand) -> None:
    """Where the query asks for something by its name, what else the person does is no subject."""
    assert understand("Ich ziehe nach Ulm, was kostet die Jagdsteuer?").act is None


@pytest.mark.parametrize(
    ("query", "german", "english"),
    [
        ("erzähl Märchen", True, False),
        ("sing mir bitte was vor", True, False),
        ("please tell me a story", False, True),
        ("lorem ipsum", True, True),
    ],
)
def test_help_is_in_the_language_of_the_query(query: str, german: bool, english: bool, understand: Understand) -> None:
    """What can be asked is said in the query's language, in both where nothing tells it."""
    with pytest.raises(QueryNotUnderstood) as raised:
        build_plan(understand(query))
    assert ("Was gefragt werden kann" in str(raised.value), "What can be asked" in str(raised.value)) == (
        german,
        english,
    )
