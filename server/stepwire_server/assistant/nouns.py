"""What a noun names, by the head of the compound: in German the last part of a word, in English the last word."""

from __future__ import annotations

__all__ = ["NounKind", "is_building", "kind_of_noun"]

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Literal

from stepwire_server.assistant.lexicon import FUNCTION_WORDS, Language, word_set

NounKind = Literal["document", "procedure", "organisation", "law"]

# Endings of German nouns, folded.
_STRONG = "(?:e|es|s|en|er|ern)?"
_WEAK = "(?:en|n)?"


def _heads(strong: str = "", *, weak: str = "", forms: str = "") -> str:
    """Returns a pattern for words that end in one of the heads. `forms` are written with their endings."""
    parts = [f"(?:{'|'.join(strong.split())}){_STRONG}"] if strong else []
    parts += [f"(?:{'|'.join(weak.split())}){_WEAK}"] if weak else []
    parts += forms.split()
    return "(?:" + "|".join(parts) + ")"


_DOCUMENT = re.compile(
    "(?P<front>.*)"
    + _heads(
        "antrag ausweis schein brief bescheid vertrag nachweis auszug gutachten attest protokoll bogen patent"
        " testament zertifikat diplom dokument beleg fuhrerschein",
        weak="urkunde bescheinigung vollmacht genehmigung lizenz konzession plakette bestatigung rechnung abschrift"
        " apostille bewilligung voranfrage erklarung gestattung berechtigung duldung zweitschrift niederschrift"
        " ausfertigung verfugung quittung zusicherung",
        forms="zeugnis(?:se|ses|sen)? erlaubnis(?:se|sen)? titel[sn]? pass(?:e|es)? visum visa visums",
    )
)
# These are documents as the head of a compound only: a plan or a list may be anything.
_DOCUMENT_COMPOUND = re.compile("(?P<front>.+)" + _heads("formular plan", weak="karte liste police"))
_VERB_FRONTS = word_set("be er ver ent zer ge an auf um ab aus ein zu uber unter nach augen wahr")
"""What makes a verb or another word of what looks like a head: beantrag(en), erschein(en), anpass(en)."""

_ACT = re.compile(
    ".*"
    + _heads(
        "umzug zuzug wegzug abbruch abriss wechsel umtausch einspruch widerspruch austritt beitritt hauskauf verkauf"
        " ankauf erwerb eintrag widerruf verzicht import export",
        weak="heirat anzeige adoption registration immatrikulation exmatrikulation legalisation insolvenz liquidation"
        " fusion ubernahme aufnahme akteneinsicht ruckgabe einreise ausreise",
        forms="(?:um|aus|ruck|haus)bau(?:s|es|ten)? (?<=.)verfahrens? aufgabe",
    )
)
_UNG = re.compile(r".{3,}ung(?:en|s)?")
# Nouns on -ung that are a thing, a state or a part of an answer, by their stems.
_NO_ACT = re.compile(
    ".*"
    + _heads(
        forms="wohnung zeitung kleidung heizung sicherung ordnung satzung bedeutung voraussetzung bedingung"
        " (?<!er)offnung verwaltung abteilung leistung umgebung erfahrung meinung regelung haftung regierung"
        " siedlung unterstutzung ausstattung einrichtung (?<!auf)losung stiftung forderung zeichnung"
        " beschreibung berechnung begrundung erschliessung bevolkerung entfernung (?<!er)richtung"
        " (?<!be)werbung entscheidung hoffnung sitzung verfassung massigung verpflichtung wahrung spannung"
        " sprechung anleitung haltung (?<!um)nutzung zahlung rechnung bearbeitung vorbereitung"
        " (?<!aus)(?<!frei)stellung",
    )
    + "(?:en|s)?"
)
_ORGANISATION = re.compile(
    ".*"
    + _heads(
        # Authorities, registers, and bodies.
        "notariat konsulat register verein konzern prasidium dezernat magistrat kataster grundbuch",
        weak="gesellschaft genossenschaft stiftung unternehmen kommission handwerksrolle rentenversicherung aufsicht",
        forms="polizei jobcenters? tuv botschaft(?:en)? gemeinderats? stadtrats? ausschuss(?:es)? feuerwehr"
        " rathaus(?:es)?"
        " (?:bezirks|landes|kreis)regierung (?:burger|kunden)(?:service|zentrum|center|dienst)s?",
    )
)
_ORGANISATION_COMPOUND = re.compile(
    ".+"
    + _heads(
        "gericht",
        weak="behorde kasse kammer agentur stelle verwaltung zentrale anstalt",
        forms="amt amtes amts amter amtern buro buros ministerium ministeriums verzeichnis(?:ses)?",
    )
)
_NO_ORGANISATION = re.compile(
    "gesamt|insgesamt|ehrenamt|register|unternehmen|hausverwaltung|(?:inhalts|stich).*verzeichnis(?:ses)?"
    "|.*dienstaufsicht"
    "|(?:bau|halte|unfall|arbeits|lehr|tank|fest|her|ab|um|ein|zu|vor|dar|bereit|an|aus)stellen?"
)
_LAW = re.compile(
    "grundgesetz(?:es)?|.+"
    + _heads("gesetz", weak="verordnung satzung", forms="gesetzbuch(?:s|es)? (?<!an)(?<!un)(?<!tages)ordnung(?:en)?")
)
_BUILDING = re.compile(
    ".*"
    + _heads(
        "haus gebaude wintergarten balkon schuppen zaun stall pool anbau neubau turm keller pavillon unterstand"
        " stellplatz carport",
        weak="garage halle terrasse laube gaube mauer",
    )
)

_ENGLISH: Mapping[NounKind, frozenset[str]] = {
    "document": word_set(
        "permit permits licence licences license licenses passport passports certificate certificates visa visas"
        " card cards application applications deed deeds contract contracts statement id extract permission approval"
        " confirmation proof authorisation authorization consent return returns plate plates record records bill slip"
        " agreement diploma"
    ),
    "procedure": word_set(
        "registration registrations deregistration reregistration re-registration renewal formation incorporation"
        " naturalisation naturalization demolition notification adoption liquidation relocation conversion"
        " marriage divorce termination amendment replacement change extension conversion transfer dissolution"
        " establishment relocation cancellation"
    ),
    "organisation": word_set(
        "office offices authority authorities chamber court ministry agency department association partnership"
        " corporation proprietorship foundation cooperative consulate embassy police registry bureau council register"
        " municipality tribunal administration"
    ),
}


@lru_cache(maxsize=100_000)
def is_building(folded: str) -> bool:
    """Whether a word names a building or a part of one. The word is folded."""
    return _BUILDING.fullmatch(folded) is not None and not _ORGANISATION.fullmatch(folded)


@lru_cache(maxsize=100_000)
def kind_of_noun(folded: str, *, language: Language) -> NounKind | None:
    """Returns what a noun names, by its head, or None where it is none of these. The word is folded."""
    if language == "en":
        return next((kind for kind, heads in _ENGLISH.items() if folded in heads), None)
    if len(folded) < 4 or folded in FUNCTION_WORDS["de"]:
        return None
    if _LAW.fullmatch(folded):
        return "law"
    document = _DOCUMENT.fullmatch(folded) or _DOCUMENT_COMPOUND.fullmatch(folded)
    if document is not None and document["front"].rstrip("-") not in _VERB_FRONTS:
        return "document"
    if _ACT.fullmatch(folded) or (_UNG.fullmatch(folded) and not _NO_ACT.fullmatch(folded)):
        return "procedure"
    if (_ORGANISATION.fullmatch(folded) or _ORGANISATION_COMPOUND.fullmatch(folded)) and not _NO_ORGANISATION.fullmatch(
        folded
    ):
        return "organisation"
    return None
