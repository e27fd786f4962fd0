from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from stepwire.v1 import Plan
from stepwire_server import plan_step

Run = Callable[..., Awaitable[Any]]

_KINDS = {
    "Bauantrag für Einfamilienhaus in Stuttgart": (3, "checklist"),
    "Unterschied zwischen GmbH und AG gründen": (5, "comparison"),
    "Unterschied zwischen UG, KG und eG gründen": (7, "comparison"),
    "Wie viel kostet ein Bauantrag in München?": (2, "cost"),
    "Was ist eine Bauvoranfrage?": (2, "definition"),
    "Wo finde ich das Bürgerbüro?": (2, "location"),
    "Kontakt Bauamt München": (2, "contact"),
    "Wie lange dauert die Einbürgerung?": (2, "timeline"),
    "Was ist der Hauptsitz von BMW?": (2, "answer"),
    "Angelschein in Kleinkleckersdorf": (3, "checklist"),
}


@pytest.mark.parametrize("query", _KINDS)
async def test_events_of_a_plan(query: str, run: Run) -> None:
    """A plan of n steps has exactly 2 + 4n events, whatever is found, and its last step's output is the answer."""
    steps, kind = _KINDS[query]
    outcome = await run(query)
    assert Counter(outcome.kinds) == {
        "plan_started": 1,
        "step_started": steps,
        "step_progress": 2 * steps,
        "step_completed": steps,
        "plan_completed": 1,
    }
    assert outcome.output["kind"] == kind
    assert outcome.output["markdown"].startswith(f"# {outcome.output['title']}\n")
    for document in outcome.output["documents"]:
        assert document["title"] in outcome.output["markdown"]


@pytest.mark.parametrize(
    "query",
    [
        "Bau" * 600 + "antrag",
        "Bauantrag " + "wort " * 1500,
        "Unterschied zwischen " + " und ".join(f"Muster{number} GmbH" for number in range(200)),
        "Gebühr für Bauantrag bei 999999999999999999999 Euro",
        "Gebühr für Bauantrag bei 1.2345 Euro",
        'Bauantrag in "Stuttgart") OR (NEAR*',
    ],
)
async def test_any_understood_query_makes_a_plan_that_runs(query: str, run: Run) -> None:
    """However long or odd a query is, its plan is a valid one, and runs to its end."""
    assert (await run(query)).kinds[-1] == "plan_completed"


async def test_progress_of_a_step(run: Run) -> None:
    """A step reports 25 % when its agents start and 90 % when they end, in these words."""
    outcome = await run("Wie viel kostet ein Reisepass?")
    reports = [e for e in outcome.events if e.WhichOneof("kind") == "step_progress" and e.step_id == "search"]
    assert [(e.step_progress.percentage, e.message) for e in reports] == [
        (25, "Using agents for Search cost information..."),
        (90, "Agent execution completed"),
    ]


async def test_state_of_the_town_answers(run: Run) -> None:
    """A question about a town is answered from its state's document and from no other state's."""
    bavarian = await run("Bauantrag in Passau")
    assert [document["file"] for document in bavarian.output["documents"]] == ["baugenehmigung-bayern.md"]
    unknown = await run("Bauantrag in Kleinkleckersdorf")
    assert "Kleinkleckersdorf" in unknown.output["markdown"]
    assert all("bayern" not in document["file"] for document in unknown.output["documents"])


async def test_amount_of_the_query_is_reckoned_with(run: Run) -> None:
    """A sum in the query takes the place of the document's example, which is otherwise named as an assumption."""
    given = await run("Wie viel kostet ein Bauantrag in München bei 500.000 Euro Baukosten?")
    assert given.output["total"]["amount"] == "1000.00"
    assert given.output["base"] == {"name": "Baukosten", "amount": "500000.00", "assumed": False}
    assumed = await run("Wie viel kostet ein Bauantrag in München?")
    assert assumed.output["base"]["assumed"]
    assert "Annahme" in assumed.output["markdown"]


async def test_what_the_documents_do_not_have_is_said(run: Run) -> None:
    """Where the documents have nothing on the subject, the answer says so, names no document and does not fail."""
    for query in (
        "Was kostet ein Angelschein?",
        "Angelschein in Ulm",
        "Wo ist das Dackelamt?",
        "Was ist eine Fehlbelegung?",
    ):
        outcome = await run(query)
        assert "steht in den Dokumenten nichts" in outcome.output["markdown"]
        assert outcome.output["documents"] == []


async def test_unknown_item_of_a_comparison_has_its_column(run: Run) -> None:
    """An item on which the documents have nothing keeps its column, and each cell says that nothing is stated."""
    outcome = await run("Unterschied zwischen GmbH und Kolchosgenossenschaft")
    assert outcome.output["columns"] == ["Merkmal", "GmbH", "Kolchosgenossenschaft"]
    assert {row[2] for row in outcome.output["rows"]} == {"keine Angabe"}


async def test_english_query_has_english_headings(run: Run) -> None:
    """An English query is answered with English headings; what documents say stays as it is."""
    outcome = await run("How much is a passport?")
    assert outcome.output["title"] == "Cost: passport"
    assert "Reisepass" in outcome.output["markdown"]


async def test_answer_rests_on_its_documents(run: Run) -> None:
    """What an answer quotes stands in the documents that it names, and a forged quotation is found out."""
    answer = (await run("Bauantrag in Stuttgart")).output
    plan = Plan(steps=[plan_step("check", "validation", input={"answer": answer})])
    assert (await run(plan=plan)).output == {"valid": True, "missing": []}
    answer["items"][0]["text"] = "Es kostet einen Apfel."
    plan = Plan(steps=[plan_step("check", "validation", input={"answer": answer})])
    assert [quote["text"] for quote in (await run(plan=plan)).output["missing"]] == ["Es kostet einen Apfel."]


async def test_retrieval_gives_documents_and_sections(run: Run) -> None:
    """Retrieval gives a document by its name, or one section of it; what is missing is said to be."""
    whole = (await run(plan=Plan(steps=[plan_step("r", "retrieval", input={"document": "gmbh"})]))).output
    assert [section["title"] for section in whole["sections"]][:2] == ["", "Zuständigkeit"]
    section = {"document": "gmbh.md", "section": "fristen"}
    part = (await run(plan=Plan(steps=[plan_step("r", "retrieval", input=section)]))).output
    assert [section["title"] for section in part["sections"]] == ["Fristen"]
    none = (await run(plan=Plan(steps=[plan_step("r", "retrieval", input={"document": "nichts"})]))).output
    assert none == {"found": False, "document": None, "sections": []}


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("markdown", "| A | B |\n| --- | --- |\n| 1 | x\\|y |"),
        ("csv", "A,B\n1,x|y\n"),
        ("text", "A  B\n1  x|y"),
    ],
)
async def test_transformation(form: str, text: str, run: Run) -> None:
    """A table becomes Markdown, CSV or plain text."""
    given = {"columns": ["A", "B"], "rows": [["1", "x|y"]], "format": form}
    outcome = await run(plan=Plan(steps=[plan_step("t", "transformation", input=given)]))
    assert outcome.output == {"format": form, "text": text}


async def test_other_passes_on(run: Run) -> None:
    """The operation `other` gives back what it was given, with the note."""
    outcome = await run(plan=Plan(steps=[plan_step("o", "other", input={"value": [1, "a"], "note": "unverändert"})]))
    assert outcome.output == {"value": [1, "a"], "note": "unverändert"}


async def test_folder_of_plain_texts(tmp_path: Path, run: Run) -> None:
    """A folder of plain texts without headings and front matter answers too."""
    (tmp_path / "hundesteuer.txt").write_text(
        "Die Hundesteuer ist eine Steuer der Gemeinde auf das Halten von Hunden.\n\nSie kostet 120 Euro im Jahr.\n",
        encoding="utf-8",
    )
    (tmp_path / "parkausweis.md").write_text(
        "# Parkausweis\n\nFür Bewohner.\n\n## So geht es\n\n- Formular ausfüllen\n- Abgeben\n", encoding="utf-8"
    )
    tax = await run("Was ist die Hundesteuer?", documents=tmp_path)
    assert "Steuer der Gemeinde" in tax.output["markdown"]
    cost = await run("Wie viel kostet die Hundesteuer?", documents=tmp_path)
    assert "120 Euro" in cost.output["markdown"]
    parking = await run("Parkausweis beantragen", documents=tmp_path)
    assert "- [ ] Formular ausfüllen" in parking.output["markdown"]
    nothing = await run("Was kostet ein Reisepass?", documents=tmp_path)
    assert nothing.output["documents"] == []


async def test_papers_asked_for_together_are_added_up(run: Run) -> None:
    """The costs of papers joined by "und" are added up from the document of each, and one without costs is named."""
    both = (await run("Was kosten Personalausweis und Reisepass?")).output
    alone = [
        (await run(f"Was kostet ein {name}?")).output["total"]["amount"] for name in ("Personalausweis", "Reisepass")
    ]
    assert float(both["total"]["amount"]) == sum(map(float, alone))
    assert len(both["documents"]) == 2
    partly = await run("Was kosten Reisepass und Angelschein?")
    assert "Zu Angelschein nennen die Dokumente keine Kosten" in partly.output["markdown"]


async def test_child_has_the_fee_of_its_age(run: Run) -> None:
    """A case with an age is taken for a child and for an age below it, and for nobody else."""
    totals = [
        (await run(query)).output["total"]["amount"]
        for query in (
            "Was kostet ein Reisepass für mein Kind?",
            "Was kostet ein Reisepass mit 20 Jahren?",
            "Was kostet ein Reisepass mit 40 Jahren?",
        )
    ]
    assert totals == ["37.50", "37.50", "70.00"]


async def test_value_of_one_base_is_none_of_another(run: Run) -> None:
    """A sum of the query counts for the base that it names, and for the document's own where it names none."""
    query = "Was kostet eine Baugenehmigung in Dresden bei 200.000 Euro"
    assert (await run(f"{query}?")).output["base"]["amount"] == "200000.00"
    other = (await run(f"{query} Baukosten?")).output
    assert (other["base"]["name"], other["base"]["assumed"]) == ("Rohbausumme", True)
    assert "mit ihm ist nicht gerechnet" in other["markdown"]


async def test_office_without_a_contact_has_no_other_ones(run: Run) -> None:
    """An office that a town's document names without a contact does not get those of the town's other offices."""
    markdown = (await run("Wo ist das Standesamt in Köln?")).output["markdown"]
    assert "Standesamt Köln" in markdown
    assert "Bauaufsichtsamt der Stadt" not in markdown


async def test_town_may_call_an_office_by_another_name(run: Run) -> None:
    """A town's document is found by any name that the general document has for the office."""
    markdown = (await run("Öffnungszeiten Bürgeramt München")).output["markdown"]
    assert "Ruppertstraße" in markdown


async def test_general_document_defines(run: Run) -> None:
    """What holds everywhere is defined by a document without places."""
    outcome = await run("Was ist eine Baugenehmigung?")
    assert [document["file"] for document in outcome.output["documents"]] == ["baugenehmigung.md"]


async def test_definition_is_the_paragraph_on_the_subject(run: Run) -> None:
    """Of a document that introduces several things, the paragraph that begins with the subject defines it."""
    markdown = (await run("Was bedeutet Wohnungsgeberbestätigung?")).output["markdown"]
    assert "Die Wohnungsgeberbestätigung ist" in markdown
    assert "Anmeldung des Wohnsitzes ist" not in markdown
