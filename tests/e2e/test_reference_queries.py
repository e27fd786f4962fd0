"""The three reference queries of the assistant, and others of their kind, give exactly the events that they should."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from stepwire import Client, event_type
from stepwire.v1 import Event

from .serving import REPOSITORY, ServerProcess

DOCUMENTS = REPOSITORY / "server" / "stepwire_server" / "assistant" / "documents"

# fmt: off
TOWNS = [
    "Augsburg", "Berlin", "Bremen", "Dresden", "Erfurt", "Freiburg", "Göttingen", "Hamburg", "Kassel", "Kiel",
    "Köln", "Leipzig", "Mainz", "München", "Münster", "Nürnberg", "Potsdam", "Rostock", "Stuttgart", "Tübingen",
    "Frankfurt am Main", "Rothenburg ob der Tauber", "Castrop-Rauxel",
]
# fmt: on
FORMS = ["GmbH", "AG", "UG", "OHG", "KG", "GbR", "GmbH & Co. KG", "PartG", "e.K.", "Einzelunternehmen"]
PAPERS = ["Bauantrag", "Bauvoranfrage", "Reisepass", "Personalausweis", "Führungszeugnis", "Gewerbeanmeldung"]
COSTLY = ["Bauantrag", "Reisepass", "Personalausweis", "Führungszeugnis", "Gewerbeanmeldung"]


class Asked(NamedTuple):
    """A query, and what must come of it."""

    query: str
    kind: str
    steps: list[str]

    @property
    def counts(self) -> dict[str, int]:
        """Events by type: 2 + 4n in all."""
        n = len(self.steps)
        return {"plan_started": 1, "step_started": n, "step_progress": 2 * n, "step_completed": n, "plan_completed": 1}


def procedure(query: str, subject: str) -> Asked:
    """A query that becomes three steps."""
    names = [f"Search requirements for {subject}", "Search required forms", "Compile procedure checklist"]
    return Asked(query, "checklist", names)


def comparison(one: str, other: str) -> Asked:
    """A query that becomes five steps."""
    names = [f"Search {one} information", f"Search {other} information", f"Analyze {one}", f"Analyze {other}"]
    return Asked(f"Unterschied zwischen {one} und {other} gründen", "comparison", [*names, f"Compare {one} vs {other}"])


def cost(query: str) -> Asked:
    """A query that becomes two steps."""
    return Asked(query, "cost", ["Search cost information", "Calculate total cost"])


REFERENCE = [
    procedure("Bauantrag für Einfamilienhaus in Stuttgart", "Bauantrag"),
    comparison("GmbH", "AG"),
    cost("Wie viel kostet ein Bauantrag in München?"),
]


@pytest.fixture
def client(assistant: ServerProcess) -> Iterator[Client]:
    """The Python client of the assistant's server."""
    with Client(assistant.address) as made:
        yield made


def ask(client: Client, asked: Asked, **options: Any) -> tuple[list[Event], dict[str, Any]]:
    """Returns the events and the output, which were checked for what every query must give."""
    run = client.execute(asked.query, **options)
    events = list(run)
    assert Counter(map(event_type, events)) == asked.counts, asked.query
    assert len(events) == 2 + 4 * len(asked.steps)
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert event_type(events[0]) == "plan_started"
    assert event_type(events[-1]) == "plan_completed"
    assert [step.name for step in events[0].plan_started.plan.steps] == asked.steps
    assert {event.step_name for event in events if event.step_id} == set(asked.steps)
    output = run.result()
    assert output["kind"] == asked.kind, asked.query
    named = [document["file"] for document in output["documents"]]
    assert named, f"{asked.query}: the output names no document"
    assert all((DOCUMENTS / file).is_file() for file in named), named
    assert all(document["title"] in output["markdown"] for document in output["documents"])
    return events, output


@pytest.mark.parametrize(("number", "total"), [(0, 14), (1, 22), (2, 10)])
def test_reference_query(client: Client, number: int, total: int) -> None:
    """Each reference query gives its 14, 22 or 10 events, its steps' names, and an answer that names its documents."""
    events, _ = ask(client, REFERENCE[number])
    assert len(events) == total


def test_steps_side_by_side(client: Client) -> None:
    """The two searches of a checklist run side by side, and the checklist is compiled after both."""
    events, _ = ask(client, REFERENCE[0])
    order = [(event_type(event), event.step_id) for event in events]
    first_end = min(order.index(("step_completed", step)) for step in ("requirements", "forms"))
    last_end = max(order.index(("step_completed", step)) for step in ("requirements", "forms"))
    assert order.index(("step_started", "requirements")) < first_end
    assert order.index(("step_started", "forms")) < first_end
    assert order.index(("step_started", "checklist")) > last_end


def test_percentages_one_step_at_a_time(client: Client) -> None:
    """One step at a time, the first reference query passes the percentages of steps of equal weight in a row."""
    events, _ = ask(client, REFERENCE[0], max_parallel_steps=1)
    seen = dict.fromkeys(round(event.progress.percentage, 2) for event in events)
    assert [value for value in seen if value] == [8.33, 30, 33.33, 41.67, 63.33, 66.67, 75, 96.67, 100]


def test_same_counts_with_other_words(client: Client) -> None:
    """Queries of the same kinds with other towns, company forms and documents give the same events by type."""
    seed = random.SystemRandom().randrange(1 << 31)
    print(f"seed {seed}")
    chance = random.Random(seed)
    for _ in range(12):
        town, paper = chance.choice(TOWNS), chance.choice(PAPERS)
        form = chance.choice(["{paper} in {town} beantragen", "Wie beantrage ich {paper} in {town}?"])
        ask(client, procedure(form.format(paper=paper, town=town), paper))
        ask(client, comparison(*chance.sample(FORMS, 2)))
        form = chance.choice(["Wie viel kostet ein {paper} in {town}?", "Was kostet {paper} in {town}?"])
        ask(client, cost(form.format(paper=chance.choice(COSTLY), town=town)))
