"""What people do, and the procedure that it is: verbs and phrases of everyday German and English by their procedure.

Each entry has the words that speakers would use for one thing they do; none is made from a question. Where documents
have nothing on a query's own words, its procedure's documents are looked for.
"""

from __future__ import annotations

__all__ = ["Act", "act_in"]

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from stepwire_server.assistant.lexicon import Token, stem


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """A procedure that everyday words name."""

    title: str
    """What it is called in German."""
    names: tuple[str, ...]
    """The topics of documents on it, the nearest first; none that other procedures have too."""
    said: tuple[tuple[frozenset[str], ...], ...]
    """The ways to say it, as stems: each has groups of words, of every group one is said, in whatever order."""


def _act(title: str, names: str, *said: str) -> Act:
    """Makes an act. A way to say it has its groups between semicolons."""
    ways = tuple(tuple(frozenset(map(stem, group.split())) for group in way.split(";")) for way in said)
    return Act(title=title, names=tuple(name.strip() for name in names.split(",")), said=ways)


_FIRM = (
    "Firma Unternehmen Betrieb Geschäft Startup Laden Selbständigkeit Selbstständigkeit company firm business startup"
    " start-up enterprise shop store"
)
_FOUND = (
    "gründen gründe gründet gegründet gründung aufmachen eröffnen eröffne eröffnet starten starte aufbauen found"
    " founding start starting establish establishing open opening create creating launch launching set"
)
_SIGN_ON = "anmelden anmelde anmeldet angemeldet melden melde register registering registered registration sign"
_CAR = "Auto Wagen Pkw Fahrzeug Motorrad Kfz Moped Anhänger car vehicle motorcycle motorbike trailer van"
_HOME = (
    "Wohnung Wohnsitz Wohnort Adresse Anschrift Haus Zimmer WG address residence apartment flat home house place room"
)
_DWELLING = "Haus Einfamilienhaus Garage Carport Anbau Gebäude Wintergarten house home garage building extension"
_BUILD = "bauen baue baut gebaut errichten errichte build building built construct constructing erect"
_LOSE = "verlieren verlor verloren verloren geklaut gestohlen weg lost lose stolen"

_ACTS: tuple[Act, ...] = (
    _act(
        "Gewerbeanmeldung",
        "Gewerbeanmeldung, Gewerbe, Unternehmensgründung",
        f"{_FIRM} Gewerbe trade; {_SIGN_ON}",
        f"{_FIRM} Gewerbe trade; {_FOUND}",
        "selbständig selbstständig freiberuflich self-employed freelance freelancer; machen mache werden werde start"
        " become becoming be work go",
        "selbständigmachen existenzgründung",
    ),
    _act(
        "Gewerbeabmeldung",
        "Gewerbeabmeldung",
        f"{_FIRM} Gewerbe trade; schließen schließe aufgeben gebe abmelden abmelde auflösen close closing deregister",
    ),
    _act(
        "Gewerbeummeldung",
        "Gewerbeummeldung",
        f"{_FIRM} Gewerbe; umziehen umzug verlegen verlege ummelden relocate move",
    ),
    _act(
        "Kfz-Zulassung",
        "Kfz-Zulassung",
        f"{_CAR}; {_SIGN_ON} zulassen zugelassen ummelden ummelde umgemeldet abmelden abmelde umschreiben gekauft"
        " kaufen bought buy deregister",
    ),
    _act(
        "Bauantrag",
        "Bauantrag, Baugenehmigung",
        f"{_DWELLING}; {_BUILD}",
        "anbauen aufstocken hausbau",
    ),
    _act("Abbruch", "Abbruch", f"{_DWELLING} Schuppen shed; abreißen abbrechen reiße demolish demolishing tear"),
    _act(
        "Nutzungsänderung",
        "Nutzungsänderung",
        "umnutzen umnutzung",
        "Wohnung Büro Laden Scheune Lager flat office shop barn; umwandeln umwandle umgewandelt convert converting",
    ),
    _act(
        "Eheschließung",
        "Eheschließung, Heirat, Hochzeit, heiraten",
        "heiraten heirate heiratet geheiratet vermählen marry marrying married marriage wedding wed",
        "trauen getraut; lassen standesamtlich",
        "tie; knot",
    ),
    _act(
        "Geburtsurkunde",
        "Geburtsurkunde, Geburt",
        "Kind Baby Sohn Tochter child baby son daughter newborn; geboren born birth bekommen",
    ),
    _act(
        "Einbürgerung",
        "Einbürgerung",
        "einbürgern eingebürgert naturalise naturalize naturalised naturalized",
        "Deutscher Deutsche German citizen; werden werde become becoming",
    ),
    _act(
        "Führerschein",
        "Führerschein",
        f"{_CAR} driving; fahren fahre drive driving; dürfen darf allowed lernen learn licence license",
    ),
    _act(
        "Führerschein", "Führerschein", f"Führerschein licence license; {_LOSE} umtauschen umschreiben exchange convert"
    ),
    _act(
        "Aufenthaltstitel",
        "Aufenthaltstitel",
        "bleiben bleibe stay staying; Deutschland Germany",
        "arbeiten arbeite leben lebe einreisen einwandern work live immigrate; Deutschland Germany; Ausland EU visa"
        " Visum foreigner Ausländer non-EU abroad",
        "einwandern immigrate immigrating",
    ),
    _act("Personalausweis", "Personalausweis", f"Portemonnaie Geldbörse wallet purse Perso; {_LOSE}"),
    _act(
        "Reisepass", "Reisepass", "verreisen reisen reise travel travelling traveling; Ausland Übersee abroad overseas"
    ),
    _act(
        "Wohnsitz abmelden",
        "Wohnsitz, Wegzug",
        "auswandern auswandere emigrate emigrating",
        "wandere wandern wandert; aus",
        "ziehe ziehen zieht wegziehen move moving; Ausland abroad",
    ),
    _act(
        "Wohnsitz anmelden",
        "Wohnsitz, Umzug, Einwohnermeldeamt",
        "umziehen umziehe umgezogen umzieht zuziehen zugezogen hinziehen einziehen eingezogen umzug zuzug"
        " wohnungswechsel wohnortwechsel move moving moved relocate relocating relocated relocation",
        "ziehe ziehen zieht gezogen zog; nach in um ein",
        f"{_HOME}; {_SIGN_ON} ummelden ummelde gewechselt wechseln bezogen beziehen change changed",
    ),
)


def act_in(words: Sequence[Token]) -> tuple[Act, frozenset[str]] | None:
    """Returns the procedure that the words say most about, and which stems say so; None where they name none."""
    stems = frozenset(token.stem for token in words)
    found = [(len(way), act, said) for act in _ACTS for way in act.said if (said := _said(way, stems)) is not None]
    if not found:
        return None
    _, act, said = max(found, key=lambda entry: entry[0])
    return act, said


def _said(way: Iterable[frozenset[str]], stems: frozenset[str]) -> frozenset[str] | None:
    said: set[str] = set()
    for group in way:
        # One word cannot say two things.
        if not (here := group & stems - said):
            return None
        said |= here
    return frozenset(said)
