"""What words mean: concepts in German and English, by ordinary language.

Each list has the words that a speaker would name for one concept; none is made from a question. A word may belong to
several concepts. Compounds have the concept of their head, and some concepts are told by words that stand together.
"""

from __future__ import annotations

__all__ = ["CONCEPTS", "TIME_WORDS", "concept_of", "phrases_in"]

from collections.abc import Mapping, Sequence
from functools import lru_cache

from stepwire_server.assistant.lexicon import Token, fold, stem


def _words(text: str) -> frozenset[str]:
    return frozenset(map(stem, text.split()))


CONCEPTS: Mapping[str, frozenset[str]] = {
    # Two things side by side.
    "compare": _words(
        "Unterschied unterscheiden unterscheidet Unterscheidung Vergleich vergleichen vergleiche verglichen versus vs"
        " vs. gegenüberstellen Gegenüberstellung Gegensatz Abgrenzung abgrenzen Vorteile Nachteile Vor-/Nachteile"
        " difference differences different differ differs compare compared comparison comparing distinguish"
        " distinction advantages disadvantages pros cons"
    ),
    # One of two is chosen.
    "prefer": _words(
        "besser bessere günstiger billiger schneller einfacher lieber sinnvoller vorteilhafter leichter teurer"
        " eher geeigneter passender empfehlenswerter sicherer klüger ratsamer vernünftiger schlauer besten better"
        " smarter wiser cheaper faster easier best simpler quicker"
        " suitable preferable safer worse"
    ),
    # Money that is due, and its sum.
    "cost": _words(
        "kosten kostet koste gekostet Gebühr Gebühren Preis Preise Entgelt teuer bezahlen bezahle bezahlt zahlen zahle"
        " zahlt Honorar Notarkosten Gesamtkosten Verwaltungsgebühr Baugebühren Gründungskosten gebührenfrei kostenlos"
        " kostenfrei kostenpflichtig gebührenpflichtig gratis umsonst unentgeltlich Geld Euro berechnen berechne"
        " ausrechnen Berechnung Gebührenhöhe Gebührensatz Gebührenordnung Gebührentabelle Tarif Ausgaben Auslagen"
        " hinlegen blechen berappen ausgeben drauflegen Kostenpunkt Kostenaufwand Kostenvoranschlag Gesamtbetrag"
        " Gesamtpreis überweisen Rechnungsbetrag"
        " cost costs fee fees price prices pricing charge charges charged pay pays paying paid payable payment"
        " expensive calculate costly surcharge tariff expense expenses money gratis"
    ),
    # Deadlines, how long something takes, and until when it holds.
    "time": _words(
        "Frist Fristen dauern dauert gedauert Dauer Bearbeitungszeit Bearbeitungsdauer Wartezeit Wartezeiten Zeitraum"
        " Zeitrahmen Zeitplan Zeitspanne Stichtag fristgerecht spätestens frühestens rechtzeitig gültig Gültigkeit"
        " Gültigkeitsdauer ablaufen abgelaufen Ablaufdatum verfällt verfallen verjährt Verjährung Verfallsdatum"
        " Laufzeit Haltbarkeit befristet unbefristet verstreichen versäumt Verspätung warten"
        " deadline deadlines duration timeline timeframe period valid expire expires expired expiry expiration"
        " validity waiting wait late limit processing"
    ),
    # How somebody is reached: by telephone, in writing, or in person at certain hours.
    "contact": _words(
        "Kontakt Kontaktdaten kontaktieren kontaktiere Kontaktformular Kontaktadresse Telefon Telefonnummer"
        " Telefonnummern telefonisch telefonieren Rufnummer Handynummer Faxnummer Durchwahl Mail Mails E-Mail"
        " E-Mails Email Mailadresse E-Mail-Adresse Emailadresse Postanschrift Postadresse Postfach Webseite Website"
        " Homepage Internetseite Ansprechpartner Ansprechpartnerin Ansprechperson Sachbearbeiter Sachbearbeiterin"
        " anrufen anrufe angerufen Anruf erreichen erreiche erreicht erreichbar Erreichbarkeit Sprechzeit Sprechzeiten"
        " Sprechstunde Sprechstunden Sprechtag Öffnungszeiten Öffnungszeit Schalterzeiten Servicezeiten"
        " Geschäftszeiten Besuchszeiten Telefonzeiten Bürozeiten geöffnet öffnet schließt geschlossen Hotline"
        " Servicenummer Fax contact contacts phone telephone email e-mail mail call calling reach reached"
        " reachable hotline website closed closes"
    ),
    # Who does it.
    "responsible": _words(
        "zuständig Zuständigkeit zuständige zuständigen verantwortlich wenden wende bearbeitet entscheidet"
        " responsible competent handles decides"
    ),
    # Where something is.
    "place": _words(
        "Adresse Anschrift Standort Wegbeschreibung Anfahrt Lage Lageplan Straße Hausnummer Stockwerk Etage Zimmer"
        " befinden befindet liegt gelegen ansässig Haltestelle address located location nearest directions building"
        " street floor room situated whereabouts"
    ),
    # What a word means.
    "define": _words(
        "Definition definieren definiere definiert bedeuten bedeutet Bedeutung Begriff Begriffe erklären erkläre"
        " erklärt Erklärung erläutern erläutere Erläuterung Fachbegriff Fachwort Fachausdruck Abkürzung Kürzel"
        " abgekürzt Begriffserklärung Begriffsbestimmung gemeint define defines defined meaning mean means meant"
        " explain explanation stand stands abbreviation abbreviated acronym term"
    ),
    # What it takes: papers, conditions, steps.
    "need": _words(
        "brauchen brauche braucht benötigen benötige benötigt erforderlich notwendig nötig mitbringen mitnehmen"
        " mitzubringen vorlegen vorzulegen vorweisen beilegen beifügen einreichen eingereicht einzureichen"
        " abgeben ausfüllen Unterlage Unterlagen Antragsunterlagen Dokument Dokumente Nachweise Papiere Anlagen"
        " Voraussetzung Voraussetzungen Bedingung Bedingungen Kriterien Anforderung Anforderungen erfüllen Formular"
        " Formulare Vordruck Checkliste Schritt Schritte Vorgehen Vorgehensweise Anleitung Ablauf abläuft beachten"
        " vorgehen need needed needs required require requires requirement requirements prerequisite prerequisites"
        " condition conditions criteria eligible eligibility qualify necessary document documents papers form forms"
        " step steps procedure process paperwork checklist bring instructions guide fill"
    ),
    # What citizens and firms do with authorities.
    "act": _words(
        "beantragen beantrage beantragt anmelden anmelde angemeldet anzumelden ummelden ummelde umgemeldet abmelden"
        " abmelde abgemeldet gründen gründe gegründet eröffnen eröffne eröffnet verlängern verlängere verlängert"
        " ausstellen ausgestellt eintragen eingetragen austragen heiraten heirate geheiratet scheiden bauen baue"
        " gebaut errichten errichte umziehen umgezogen ausziehen einziehen kündigen kündige ändern ändere geändert"
        " zulassen zugelassen umschreiben registrieren registriere einbürgern abreißen abbrechen umbauen ausbauen"
        " erneuern erneuere anzeigen umtauschen umnutzen nutzen löschen gelöscht übertragen adoptieren wechseln wechsle"
        " melden melde gemeldet anbauen aufstocken sanieren abholen bestellen anfordern auflösen schließen aufgeben"
        " stilllegen umwandeln überschreiben vermieten beglaubigen verlieren verloren verlor gestohlen geklaut ersetzen"
        " auswandern einreisen"
        " apply applying applied register registering registered unregister deregister found founding founded establish"
        " renew renewing renewed extend extending marry marrying married divorce build demolish file filing submit"
        " incorporate naturalise naturalize request order replace cancel close dissolve convert transfer notify report"
        " move moving moved relocate lost stolen enrol enroll"
    ),
    # Verbs that say little by themselves.
    "do": _words(
        "machen mache tun bekommen bekomme bekommt kriegen kriege kriegt erhalten erhalte stellen stelle kommen komme"
        " gehen gehe vorgehen anfangen anfange beginnen lassen lasse besorgen holen hole unternehmen erledigen do get"
        " getting obtain receive start starting set open opening make go change begin"
    ),
    # What is allowed, forbidden or has to be.
    "duty": _words(
        "erlaubt verboten zulässig unzulässig genehmigungsfrei genehmigungspflichtig anzeigepflichtig verfahrensfrei"
        " meldepflichtig erlaubnispflichtig Pflicht Meldepflicht verpflichtet verpflichtend gestattet untersagt"
        " zwingend vorgeschrieben allowed forbidden mandatory permitted prohibited compulsory obligatory obliged"
        " legal illegal"
    ),
    # What follows.
    "consequence": _words(
        "passieren passiert geschehen geschieht drohen droht folgt Folge Folgen Konsequenzen Strafe Bußgeld"
        " happen happens consequence consequences penalty"
    ),
    # Firms, and what one asks of them.
    "company": _words(
        "Hauptsitz Firmensitz Sitz Firma Unternehmen Konzern Vorstand Geschäftsführer Geschäftsführerin Chef Inhaber"
        " Gründungsjahr Filiale Niederlassung Zweigstelle headquarters headquarter company founder owner ceo"
        " branch subsidiary"
    ),
    # Courtesy.
    "greet": _words(
        "hallo hi hey guten danke servus moin tschüss grüß grüezi liebe freundliche Grüße hello thanks thank bye dear"
        " greetings"
    ),
}
"""Stems by what their words mean."""

TIME_WORDS = _words(
    "Minute Minuten Stunde Stunden Tag Tage Tagen Woche Wochen Wochenende Monat Monate Monaten Jahr Jahre Jahren"
    " minute minutes hour hours day days week weeks weekend month months year years"
)
"""Stems of units of time, which no document is about."""

# Compounds have the concept of their head: Bearbeitungsgebühr, Antragsfrist, Bauunterlagen.
_HEADS: Mapping[str, tuple[str, ...]] = {
    "cost": tuple(_words("gebühr gebühren kosten preis entgelt")),
    "time": tuple(_words("frist fristen dauer")),
    "need": tuple(_words("unterlagen voraussetzungen")),
}


def _phrases(text: str) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(map(fold, phrase.split())) for phrase in text.split(","))


# Words that tell a concept only together, in this order, with up to four others between two of them.
_PHRASES: Mapping[str, tuple[tuple[str, ...], ...]] = {
    # What a word means.
    "define": _phrases(
        "steht für,stehen für,wofür steht,versteht unter,verstehen unter,versteht man,was heißt,meint man mit,"
        "verbirgt hinter,nennt man,hat es mit auf sich,stands for,stand for,short for,meant by,understood by"
    ),
    # Hours, and speaking with somebody.
    "contact": _phrases(
        "viel uhr,"
        "hat offen,haben offen,hat auf wann,wann hat auf,wann haben auf,wann macht auf,wann macht zu,wann hat zu,"
        "opening hours,opening times,office hours,business hours,when open,when opens,what time open,what time close,"
        "nummer vom,nummer von,nummer des,nummer der,number of the,number for the,"
        "get in touch,in touch with,speak to,speak with,"
        "talk to,write to,in verbindung setzen"
    ),
    # Who does it.
    "responsible": _phrases("in charge,deals with,takes care,turn to,kümmert um,stellt aus"),
    # The way to a place, which is told by an office in the sentence only.
    "way": _phrases(
        "komme zum,komme zur,kommt zum,kommt zur,kommen zum,kommen zur,komme hin,get to the,way to,weg zum"
    ),
    # Money.
    "cost": _phrases("for free,free of charge,wie tief in die tasche"),
    # Deadlines.
    "time": _phrases("läuft ab wann,wann läuft ab,by when,bis wann,runs out,run out,up to date"),
    # What it takes.
    "need": _phrases("fill in,fill out,set of papers,take with me,take along,worauf achten,was muss beachten"),
    # What citizens and firms do with authorities.
    "act": _phrases("sign up,set up,tear down,pull down,take over"),
}
_GAP = 5


@lru_cache(maxsize=100_000)
def concept_of(word_stem: str) -> frozenset[str]:
    """Returns the names of the concepts that a stem belongs to, by itself or by its head."""
    names = {name for name, stems in CONCEPTS.items() if word_stem in stems}
    return frozenset(names or {name for name, heads in _HEADS.items() if word_stem.endswith(heads)})


def phrases_in(words: Sequence[Token]) -> tuple[frozenset[str], frozenset[int]]:
    """Returns the names of the concepts that words tell which stand together, and the indices of these words."""
    folded = [token.folded for token in words]
    names: set[str] = set()
    used: set[int] = set()
    for name, phrases in _PHRASES.items():
        for phrase in phrases:
            if indices := _stands(phrase, folded):
                names.add(name)
                used.update(indices)
    return frozenset(names), frozenset(used)


def _stands(phrase: Sequence[str], folded: Sequence[str]) -> list[int]:
    """Returns where the words of the phrase stand, or nothing."""
    for start, word in enumerate(folded):
        if word == phrase[0] and (rest := _follow(phrase[1:], folded, after=start)) is not None:
            return [start, *rest]
    return []


def _follow(rest: Sequence[str], folded: Sequence[str], *, after: int) -> list[int] | None:
    indices = []
    for wanted in rest:
        near = range(after + 1, min(after + 1 + _GAP, len(folded)))
        found = next((index for index in near if folded[index] == wanted), None)
        if found is None:
            return None
        indices.append(found)
        after = found
    return indices
