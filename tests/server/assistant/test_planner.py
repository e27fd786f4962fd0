from __future__ import annotations

from collections.abc import Callable

import pytest
from google.protobuf.json_format import MessageToDict

from stepwire.errors import QueryNotUnderstood
from stepwire_server.assistant.language import Analysis
from stepwire_server.assistant.planner import build_plan

Understand = Callable[[str], Analysis]


@pytest.mark.parametrize(
    ("query", "names"),
    [
        (
            "Bauantrag für Einfamilienhaus in Stuttgart",
            ["Search requirements for Bauantrag", "Search required forms", "Compile procedure checklist"],
        ),
        (
            "Unterschied zwischen GmbH und AG gründen",
            ["Search GmbH information", "Search AG information", "Analyze GmbH", "Analyze AG", "Compare GmbH vs AG"],
        ),
        ("Wie viel kostet ein Bauantrag in München?", ["Search cost information", "Calculate total cost"]),
        ("Was ist ein Bauvorbescheid?", ["Search definition of Bauvorbescheid", "Compose definition"]),
        ("Wo finde ich das Bürgerbüro?", ["Search location of Bürgerbüro", "Compile location details"]),
        ("Kontakt Bauamt München", ["Search contact information for Bauamt", "Compile contact details"]),
        ("Wie lange dauert die Einbürgerung?", ["Search deadlines for Einbürgerung", "Compile timeline"]),
        ("Was ist der Hauptsitz von BMW?", ["Search facts about BMW", "Compose answer"]),
    ],
)
def test_steps_of_each_intent(query: str, names: list[str], understand: Understand) -> None:
    """Each intent has its steps, by these names."""
    assert [step.name for step in build_plan(understand(query)).steps] == names


def test_comparison_waits(understand: Understand) -> None:
    """Each analysis waits for its search alone, and the comparison for all analyses."""
    plan = build_plan(understand("Unterschied zwischen GmbH, AG und KG"))
    waits = {step.id: list(step.depends_on) for step in plan.steps}
    assert waits["analyze_2"] == ["search_2"]
    assert waits["compare"] == ["analyze_1", "analyze_2", "analyze_3"]


def test_plan_carries_what_was_understood(understand: Understand) -> None:
    """The plan's analysis has intent, question type, language, entities and parameters, numbers as numbers."""
    analysis = MessageToDict(build_plan(understand("Gebühr für Baugenehmigung bei 250.000 Euro in Ulm")).analysis)
    assert (analysis["intent"], analysis["language"], analysis["question_type"]) == ("calculation", "de", "statement")
    assert {"type": "location", "text": "Ulm"} in analysis["entities"]
    assert analysis["parameters"]["amount"] == 250_000
    assert analysis["parameters"]["state"] == "Baden-Württemberg"


def test_what_is_not_understood_says_what_can_be_asked(understand: Understand) -> None:
    """A query of intent unknown raises, with examples of what can be asked."""
    with pytest.raises(QueryNotUnderstood, match="What can be asked"):
        build_plan(understand("moin"))


def test_long_subjects_are_cut_in_names(understand: Understand) -> None:
    """A step's name has 200 characters at most, whatever the query."""
    plan = build_plan(understand("Bau" * 150 + "antrag"))
    assert all(len(step.name) <= 200 for step in plan.steps)
