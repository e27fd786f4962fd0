"""Words by what they mean: tokens and their stems, concepts in German and English, the heads of compound nouns.

Nothing here is a question: a word list says what a word means, wherever it stands.
"""

from __future__ import annotations

__all__ = [
    "CONCEPTS",
    "FUNCTION_WORDS",
    "Language",
    "Token",
    "concept_of",
    "fold",
    "is_function_word",
    "stem",
    "tokenize",
    "word_list",
    "word_set",
]

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import snowballstemmer

Language = Literal["de", "en"]

_TOKEN = re.compile(r"§+|\d+(?:[.,]\d+)*|[^\W\d_]+(?:[-/&][^\W\d_]+)*|\?", re.UNICODE)
_UMLAUT = re.compile(r"(?<![aeiouqy])([aou])e")


@dataclass(frozen=True, slots=True)
class Token:
    """One word, number or sign of a text."""

    text: str
    """As it stands."""
    start: int
    """Where it begins, in characters."""
    end: int
    """Where it ends, exclusive."""
    folded: str
    """In lower case, without umlauts."""
    stem: str
    """Its German stem."""

    @property
    def capital(self) -> bool:
        """Whether it begins with a capital letter."""
        return self.text[:1].isupper()

    @property
    def word(self) -> bool:
        """Whether it is a word, not a number or a sign."""
        return self.text[:1].isalpha()


def fold(text: str) -> str:
    """Returns the text in lower case with ä, ae, ö, oe, ü, ue as a, o, u and ß as ss."""
    lower = text.lower().replace("ß", "ss").translate(str.maketrans("äöüéè", "aouee"))
    return _UMLAUT.sub(r"\1", lower)


def word_list(text: str) -> tuple[str, ...]:
    """Returns the words between spaces."""
    return tuple(text.split())


def word_set(text: str) -> frozenset[str]:
    """Returns the words between spaces, folded."""
    return frozenset(map(fold, text.split()))


# A stemmer keeps its word while it works, so each call in each thread has the lock.
_LOCK = threading.Lock()
_STEMMER = snowballstemmer.stemmer("german")


@lru_cache(maxsize=100_000)
def stem(text: str) -> str:
    """Returns a word's German stem, which serves for English words too. A noun on -ung has the stem of its verb:
    Ummeldung and ummelden are one."""
    with _LOCK:
        result = str(_STEMMER.stemWord(fold(text)))
    return result[:-3] if len(result) > 6 and result.endswith("ung") else result


def tokenize(text: str) -> tuple[Token, ...]:
    """Returns the words, numbers and signs of a text, in order."""
    return tuple(
        Token(found[0], found.start(), found.end(), fold(found[0]), stem(found[0])) for found in _TOKEN.finditer(text)
    )


def _words(text: str) -> frozenset[str]:
    return frozenset(map(stem, text.split()))


CONCEPTS: Mapping[str, frozenset[str]] = {
    "compare": _words(
        "Unterschied unterscheiden unterscheidet Vergleich vergleichen vergleiche versus vs vs. gegenüberstellen"
        " Gegenüberstellung difference different differ compare compared comparison comparing"
    ),
    "prefer": _words(
        "besser bessere günstiger billiger schneller einfacher lieber sinnvoller vorteilhafter leichter teurer"
        " eher better cheaper faster easier best"
    ),
    "cost": _words(
        "kosten kostet koste Gebühr Gebühren Preis Preise Entgelt teuer bezahlen zahlen zahle zahlt Honorar"
        " Notarkosten Gesamtkosten Verwaltungsgebühr Baugebühren Gründungskosten gebührenfrei kostenlos"
        " kostenpflichtig Geld Euro berechnen berechne ausrechnen cost costs fee fees price prices charge charges"
        " pay paying expensive calculate"
    ),
    "time": _words(
        "Frist Fristen dauern dauert Dauer Bearbeitungszeit Bearbeitungsdauer Wartezeit Zeitraum Zeitplan"
        " Stichtag fristgerecht spätestens rechtzeitig gültig Gültigkeit Gültigkeitsdauer ablaufen Verfallsdatum"
        " Laufzeit deadline deadlines duration timeline period valid expire expires validity waiting"
    ),
    "contact": _words(
        "Kontakt Kontaktdaten kontaktieren Telefon Telefonnummer Rufnummer Durchwahl Mail E-Mail Mailadresse"
        " E-Mail-Adresse Ansprechpartner Ansprechpartnerin Ansprechperson anrufen erreichen erreiche erreichbar"
        " Sprechzeiten Sprechstunde Öffnungszeiten Öffnungszeit geöffnet Hotline Fax contact contacts phone"
        " telephone email e-mail call reach"
    ),
    "responsible": _words("zuständig Zuständigkeit zuständige verantwortlich responsible"),
    "place": _words(
        "Adresse Anschrift Standort Wegbeschreibung Straße Stockwerk Etage Zimmer befinden"
        " befindet address located location nearest directions building street floor room situated"
    ),
    "define": _words(
        "Definition definieren definiere bedeuten bedeutet Bedeutung Begriff erklären erkläre Erklärung"
        " Fachbegriff Fachwort define meaning mean means explain stand stands"
        " abbreviation acronym"
    ),
    "need": _words(
        "brauchen brauche braucht benötigen benötige benötigt erforderlich notwendig nötig mitbringen vorlegen"
        " einreichen Unterlage Unterlagen Dokument Dokumente Nachweise Voraussetzung Voraussetzungen Anforderung"
        " Anforderungen Formular Formulare Vordruck Checkliste Schritt Schritte Vorgehen Vorgehensweise Anleitung"
        " Ablauf beachten vorgehen need needed required require requirement requirements document documents form"
        " forms step steps procedure process paperwork checklist bring"
    ),
    "act": _words(
        "beantragen beantrage beantragt anmelden anmelde ummelden abmelden gründen gründe eröffnen eröffne"
        " verlängern verlängere ausstellen eintragen heiraten heirate bauen baue errichten umziehen kündigen"
        " kündige ändern ändere zulassen umschreiben registrieren einbürgern abreißen umbauen ausbauen erneuern"
        " anzeigen umtauschen umnutzen löschen übertragen adoptieren wechseln wechsle melden melde anbauen"
        " apply applying register registering unregister founding renew renewing"
        " marry build demolish file submit incorporate naturalise naturalize"
    ),
    "do": _words(
        "machen mache tun bekommen bekomme erhalten erhalte stellen stelle kommen komme gehen vorgehen"
        " anfangen lassen lasse do get obtain start starting set open make go change"
    ),
    "duty": _words(
        "erlaubt verboten zulässig genehmigungsfrei genehmigungspflichtig verfahrensfrei meldepflichtig Pflicht"
        " Meldepflicht allowed forbidden mandatory permitted"
    ),
    "consequence": _words("passieren passiert geschehen geschieht drohen droht folgt happen happens"),
    "company": _words(
        "Hauptsitz Firmensitz Sitz Firma Unternehmen Konzern Vorstand Geschäftsführer Chef Gründungsjahr Filiale"
        " Niederlassung headquarters headquarter company founder ceo branch subsidiary"
    ),
    "greet": _words("hallo hi hey guten danke servus moin tschüss hello thanks thank bye"),
}
"""Stems by what their words mean."""


@lru_cache(maxsize=100_000)
def concept_of(word_stem: str) -> frozenset[str]:
    """Returns the names of the concepts that a stem belongs to."""
    return frozenset(name for name, stems in CONCEPTS.items() if word_stem in stems)


FUNCTION_WORDS: Mapping[Language, frozenset[str]] = {
    "de": word_set(
        "der die das den dem des ein eine einen einem einer eines kein keine keinen und oder aber sowie bzw als"
        " wie was wer wo wann warum wieso weshalb womit wofür wohin woher wen wem wessen welche welcher welches"
        " welchen welchem wieviel wieviele viel viele in im an am auf aus bei beim mit nach von vom zu zum zur für"
        " über unter um vor zwischen durch gegen ohne bis seit ab per pro ich du er sie es wir ihr man mich mir"
        " sich uns dich dir ihm ihn ihnen mein meine meinen meinem meiner meines dein deine sein seine unser"
        " unsere ihre ihren ist sind war waren bin hat haben habe hatte wird werden wurde kann können könnte muss"
        " müssen müsste darf dürfen soll sollen sollte will möchte möchten würde mag nicht noch nur auch schon"
        " sehr so dann denn da hier dort wenn ob dass weil damit etwas alle alles bitte gibt gilt gelten gehört"
        " gehören denn eigentlich genau neu neue neuen neuer neues dieser diese dieses jetzt mal verpflichtet"
        " erlaubt wofür selbst gerne gern worin woran darüber dazu dafür etwa zwei drei vier jemand zuerst mehr"
    ),
    "en": word_set(
        "the a an and or but of in on at to for from by with about between into through i you he she it we they"
        " me my your his her our their is are was were be been am has have had do does did can could must may"
        " might shall should will would not no what which who whom whose when where why how much many long there"
        " this that these those if than s re ll please allowed permitted any some as also new one two"
        " three need want"
    ),
}
"""Words that carry grammar, not content, folded."""


def is_function_word(token: Token) -> bool:
    """Whether the token carries grammar only, in either language."""
    return token.folded in FUNCTION_WORDS["de"] or token.folded in FUNCTION_WORDS["en"]
