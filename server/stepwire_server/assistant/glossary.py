"""German words for what English queries name, so that German documents are found."""

from __future__ import annotations

__all__ = ["german_for"]

from collections.abc import Mapping

_GERMAN: Mapping[str, tuple[str, ...]] = {
    "building permit": ("Baugenehmigung", "Bauantrag"),
    "building application": ("Bauantrag",),
    "planning permission": ("Baugenehmigung",),
    "construction permit": ("Baugenehmigung",),
    "demolition": ("Abbruch",),
    "change of use": ("Nutzungsänderung",),
    "identity card": ("Personalausweis",),
    "id card": ("Personalausweis",),
    "national id card": ("Personalausweis",),
    "passport": ("Reisepass",),
    "driving licence": ("Führerschein",),
    "driving license": ("Führerschein",),
    "driver's license": ("Führerschein",),
    "driver's licence": ("Führerschein",),
    "residence permit": ("Aufenthaltstitel",),
    "visa": ("Visum",),
    "birth certificate": ("Geburtsurkunde",),
    "criminal record certificate": ("Führungszeugnis",),
    "certificate of conduct": ("Führungszeugnis",),
    "police certificate": ("Führungszeugnis",),
    "registration certificate": ("Meldebescheinigung",),
    "trade licence": ("Gewerbeanmeldung",),
    "trade license": ("Gewerbeanmeldung",),
    "business license": ("Gewerbeanmeldung",),
    "business licence": ("Gewerbeanmeldung",),
    "trade registration": ("Gewerbeanmeldung",),
    "business registration": ("Gewerbeanmeldung",),
    "car registration": ("Kfz-Zulassung",),
    "vehicle registration": ("Kfz-Zulassung",),
    "address registration": ("Anmeldung",),
    "residence registration": ("Anmeldung",),
    "change of address": ("Ummeldung",),
    "registration": ("Anmeldung",),
    "deregistration": ("Abmeldung",),
    "naturalisation": ("Einbürgerung",),
    "naturalization": ("Einbürgerung",),
    "citizenship": ("Einbürgerung",),
    "marriage": ("Eheschließung",),
    "marry": ("Eheschließung",),
    "building authority": ("Bauamt",),
    "building office": ("Bauamt",),
    "tax office": ("Finanzamt",),
    "trade office": ("Gewerbeamt",),
    "registry office": ("Standesamt",),
    "citizens' office": ("Bürgeramt",),
    "citizens office": ("Bürgeramt",),
    "citizen office": ("Bürgeramt",),
    "registration office": ("Bürgeramt",),
    "immigration office": ("Ausländerbehörde",),
    "foreigners office": ("Ausländerbehörde",),
    "limited liability company": ("GmbH",),
    "sole proprietorship": ("Einzelunternehmen",),
    "limited partnership": ("KG",),
    "general partnership": ("OHG",),
    "joint stock company": ("AG",),
    "cooperative": ("Genossenschaft",),
    "commercial register": ("Handelsregister",),
}


def german_for(text: str) -> tuple[str, ...]:
    """Returns the German words for an English name, or nothing. A plural counts as its singular."""
    name = " ".join(text.lower().replace("’", "'").split())
    return _GERMAN.get(name) or _GERMAN.get(name.removesuffix("s")) or ()
