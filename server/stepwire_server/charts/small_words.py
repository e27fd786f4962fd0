"""Single words that mean something, in English and German, folded."""

from __future__ import annotations

__all__ = ["FALSE", "FILLERS", "GERMAN", "MONTHS", "TRUE"]

from collections.abc import Mapping


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


TRUE = frozenset({"true", "yes", "wahr", "ja", "1"})
FALSE = frozenset({"false", "no", "falsch", "nein", "0"})
MONTHS: Mapping[str, int] = {
    name: number
    for number, names in enumerate(
        [
            "january jan januar jaenner",
            "february feb februar",
            "march mar maerz",
            "april apr",
            "may mai",
            "june jun juni",
            "july jul juli",
            "august aug",
            "september sep sept",
            "october oct oktober okt",
            "november nov",
            "december dec dezember dez",
        ],
        1,
    )
    for name in names.split()
}
FILLERS = _words(
    """
    a all an are as can chart could der das dem den des die draw du display ein eine einem einen einer eines gib
    give graph how i is it its me mir much of please plot show tell the there us van vom von want was were what
    which would you zeig zeige zeichne bitte sind ist war waren welche welcher welches wie hoch alle aller allen es
    gibt gab stelle dar darstellen list compare vergleiche value values wert werte
    """
)
"""Words that say nothing."""
GERMAN = _words(
    """
    der die das dem den des ein eine einer und oder nach pro je mit wo wie viele anzahl summe durchschnitt zeige
    zeig mir im fuer als ist jahr monat tag woche seit vor zwischen bis gegen ueber unter von vom zeit monatlich
    jaehrlich taeglich diagramm balkendiagramm liniendiagramm kreisdiagramm tortendiagramm streudiagramm
    """
)
"""Words that tell a German question."""
