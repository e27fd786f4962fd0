"""From an analysis to a plan: for each intent the steps, and what each of them waits for."""

from __future__ import annotations

__all__ = ["build_plan"]

from collections.abc import Mapping
from typing import Any

from stepwire.errors import QueryNotUnderstood
from stepwire_server import Plan, plan_step
from stepwire_server.assistant.language import Analysis, language_told
from stepwire_server.assistant.patterns import is_company_form

# What goes into a plan is bounded, whatever the query.
_NAME = 200
_SUBJECT = 500
_TERMS = 100
_OTHERS = 20
_ITEMS = 50

# What is searched for first, and how it is put together: aspect, search's name, operation, its name.
_PAIRS: Mapping[str, tuple[str, str, str, str]] = {
    "calculation": ("costs", "Search cost information", "calculation", "Calculate total cost"),
    "definition": ("definition", "Search definition of {subject}", "synthesis", "Compose definition"),
    "location": ("location", "Search location of {subject}", "aggregation", "Compile location details"),
    "contact": ("contact", "Search contact information for {subject}", "aggregation", "Compile contact details"),
    "timeline": ("deadlines", "Search deadlines for {subject}", "aggregation", "Compile timeline"),
    "fact": ("facts", "Search facts about {subject}", "synthesis", "Compose answer"),
}
_KINDS = {
    "definition": "definition",
    "location": "location",
    "contact": "contact",
    "timeline": "timeline",
    "fact": "answer",
}

_HELP_GERMAN = (
    "Die Anfrage wurde nicht verstanden. Was gefragt werden kann: wie etwas geht („Bauantrag in Stuttgart“), ein"
    " Vergleich („Unterschied zwischen GmbH und UG“), was etwas kostet („Was kostet ein Reisepass?“), was ein Wort"
    " bedeutet („Was ist ein Bauvorbescheid?“), wo ein Amt ist („Wo ist das Standesamt?“), wie man es erreicht"
    " („Kontakt Finanzamt Köln“), Fristen („Wie lange dauert die Einbürgerung?“) und einzelne Tatsachen; auf Deutsch"
    " oder Englisch."
)
_HELP_ENGLISH = (
    'The query was not understood. What can be asked: how something is done ("Bauantrag in Stuttgart"), a comparison'
    ' ("Unterschied zwischen GmbH und UG"), what something costs ("Was kostet ein Reisepass?"), what a word means'
    ' ("Was ist ein Bauvorbescheid?"), where an office is ("Wo ist das Standesamt?"), how to reach one ("Kontakt'
    ' Finanzamt Köln"), deadlines ("Wie lange dauert die Einbürgerung?"), and facts; in German or English.'
)


def build_plan(analysis: Analysis) -> Plan:
    """Returns the plan that answers a query of this analysis. Its `analysis` field carries what was understood.

    Raises QueryNotUnderstood, saying what can be asked, where the intent is `unknown`.
    """
    match analysis.intent:
        case "unknown":
            raise QueryNotUnderstood(_help(analysis.query))
        case "procedure":
            plan = _procedure(analysis)
        case "comparison":
            plan = _comparison(analysis)
        case "fact" | "calculation" | "definition" | "location" | "contact" | "timeline":
            plan = _pair(analysis)
    plan.name = analysis.intent
    plan.analysis.update(analysis.to_dict())
    return plan


def _help(query: str) -> str:
    """Returns what can be asked, in the query's language; in both where nothing tells it."""
    match language_told(query):
        case "de":
            return _HELP_GERMAN
        case "en":
            return _HELP_ENGLISH
        case None:
            return f"{_HELP_GERMAN}\n\n{_HELP_ENGLISH}"


def _procedure(analysis: Analysis) -> Plan:
    search = _search_input(analysis)
    compose = _compose_input(analysis)
    return Plan(
        steps=[
            plan_step(
                "requirements",
                "search",
                name=_name("Search requirements for {subject}", subject=analysis.subject),
                input={**search, "aspect": "requirements"},
            ),
            plan_step("forms", "search", name="Search required forms", input={**search, "aspect": "forms"}),
            plan_step(
                "checklist",
                "synthesis",
                name="Compile procedure checklist",
                input={**compose, "kind": "checklist"},
                depends_on=["requirements", "forms"],
            ),
        ]
    )


def _comparison(analysis: Analysis) -> Plan:
    search = _search_input(analysis)
    items = [item[:_SUBJECT] for item in analysis.items[:_ITEMS]]
    numbered = list(enumerate(items, 1))
    steps = [
        plan_step(
            f"search_{number}",
            "search",
            name=_name("Search {subject} information", subject=item),
            input={**search, "subject": item, "others": [], "also": [], "terms": [], "aspect": "information"},
        )
        for number, item in numbered
    ]
    steps += [
        plan_step(
            f"analyze_{number}",
            "analysis",
            name=_name("Analyze {subject}", subject=item),
            input={"subject": item, "language": analysis.language},
            depends_on=[f"search_{number}"],
        )
        for number, item in numbered
    ]
    steps.append(
        plan_step(
            "compare",
            "comparison",
            name=_name("Compare {subject}", subject=" vs ".join(items)),
            input={"items": items, "language": analysis.language},
            depends_on=[f"analyze_{number}" for number, _ in numbered],
        )
    )
    return Plan(steps=steps)


def _pair(analysis: Analysis) -> Plan:
    aspect, search_name, operation, name = _PAIRS[analysis.intent]
    compose = _compose_input(analysis)
    if analysis.intent == "calculation":
        amount = analysis.parameters.get("amount")
        compose |= {"terms": list(analysis.terms[:_TERMS]), **({} if amount is None else {"amount": f"{amount:.2f}"})}
    else:
        compose["kind"] = _KINDS[analysis.intent]
        if analysis.intent == "fact":
            compose["terms"] = list(analysis.terms[:_TERMS])
    return Plan(
        steps=[
            plan_step(
                "search",
                "search",
                name=_name(search_name, subject=analysis.subject),
                input={**_search_input(analysis), "aspect": aspect},
            ),
            plan_step("answer", operation, name=name, input=compose, depends_on=["search"]),
        ]
    )


def _search_input(analysis: Analysis) -> dict[str, Any]:
    parameters = analysis.parameters
    return {
        "subject": analysis.subject[:_SUBJECT],
        "others": _others(analysis),
        "also": [name[:_SUBJECT] for name in analysis.also[:_OTHERS]],
        "terms": list(analysis.terms[:_TERMS]),
        "place": parameters.get("town") or parameters.get("location", ""),
        "state": parameters.get("state", ""),
    }


def _others(analysis: Analysis) -> list[str]:
    """Returns what else the query names beside its subject, by name or by what its verbs tell."""
    named = [entity.text for entity in analysis.entities if entity.type in ("document", "procedure", "organisation")]
    named += analysis.act.names if analysis.act else ()
    return [name[:_SUBJECT] for name in dict.fromkeys(named) if name != analysis.subject][:_OTHERS]


def _compose_input(analysis: Analysis) -> dict[str, Any]:
    forms = [other for other in _others(analysis) if is_company_form(other)]
    subject = analysis.subject[:_SUBJECT]
    title = " ".join([subject, *([] if is_company_form(analysis.subject) else forms[:1])])
    if analysis.act and analysis.language == "de":
        # The verb alone says little: the procedure has a name.
        title = analysis.act.title
    if analysis.also and analysis.intent == "calculation":
        title = ", ".join([subject, *analysis.also[:_OTHERS]])[:_SUBJECT]
    return {
        "subject": subject,
        "title": title,
        "place": analysis.parameters.get("location", ""),
        "language": analysis.language,
    }


def _name(template: str, *, subject: str) -> str:
    """Returns the step's name; a subject that is too long for it is cut."""
    room = _NAME - len(template) + len("{subject}")
    return template.format(subject=subject if len(subject) <= room else subject[: room - 3] + "...")
