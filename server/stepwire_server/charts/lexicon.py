"""The words of the grammar, in English and German, and questions cut into words.

Each entry of a table is a phrase: its words are regular expressions that must fit folded words as a whole.
"""

from __future__ import annotations

__all__ = [
    "AGAINST",
    "AGGREGATES",
    "AND",
    "AS_CHART",
    "BUCKETS",
    "BY",
    "CHARTS",
    "COMPARISONS",
    "COMPOUNDS",
    "COUNT",
    "DIRECTIONS",
    "DISTINCT",
    "FALSE",
    "FILLERS",
    "FROM",
    "GERMAN",
    "IN",
    "MONTHS",
    "OR",
    "OVER_TIME",
    "PERIODS",
    "PLOT",
    "ROWS",
    "SHARE",
    "SORTED",
    "TOP",
    "TRUE",
    "WHERE",
    "Phrases",
    "Token",
    "tokenize",
]

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stepwire_server.charts.names import fold

_TOKEN = re.compile(
    r"""(?P<quoted>"(?:[^"]|"")*"|„[^“”"]*[“”"]|“[^”]*”|‘[^’]*’|`[^`]*`|\[[^\]]*\]|(?<![^\W_])'[^']*'(?![^\W_]))
    |(?P<date>\d{4}-\d{2}(?:-\d{2})?(?!\d)|\d{1,2}\.\d{1,2}\.\d{4})
    |(?P<number>[-+]?\d+(?:[.,]\d+)*(?![^\W\d_]))
    |(?P<word>[^\W](?:\w|['’](?=\w))*)
    |(?P<sign>>=|<=|!=|<>|==|[^\s\w])""",
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Token:
    """One word, number, date, sign or quoted text of a question."""

    kind: str
    text: str
    """As it stands; of a quoted text, what stands in the quotes."""
    folded: str
    start: int
    end: int


class Phrases:
    """Phrases that mean something, each a row of regular expressions for folded words."""

    def __init__(self, table: Mapping[str, Sequence[str]]) -> None:
        rows = [(meaning, phrase.split(" ")) for meaning, phrases in table.items() for phrase in phrases]
        rows.sort(key=lambda row: -len(row[1]))
        self._rows = [(meaning, [re.compile(word) for word in words]) for meaning, words in rows]

    def at(self, tokens: Sequence[Token], place: int) -> tuple[str, int] | None:
        """Returns what the longest phrase that begins at a token means, and how many tokens it has; None without."""
        for meaning, words in self._rows:
            here = tokens[place : place + len(words)]
            if len(here) == len(words) and all(
                token.kind in ("word", "sign") and word.fullmatch(token.folded)
                for word, token in zip(words, here, strict=True)
            ):
                return meaning, len(words)
        return None


def tokenize(question: str) -> list[Token]:
    """Cuts a question into tokens; what only ends a sentence is left out."""
    found = []
    for hit in _TOKEN.finditer(question):
        kind, text = str(hit.lastgroup), hit.group()
        if kind == "quoted":
            text = text[1:-1].replace('""', '"') if text[0] == '"' else text[1:-1]
        elif kind == "sign" and (text in "?!;:" or (text == "." and not question[hit.end() :].strip())):
            continue
        found.append(Token(kind, text, fold(text), hit.start(), hit.end()))
    return found


AGGREGATES = Phrases(
    {
        "average": ["average", "avg", "mean", r"durchschnitt(lich\w*)?", "mittelwerte?", r"mittler\w*", "schnitt"],
        "sum": ["sum", "sums", "total", "totals", "summen?", r"gesamt\w{0,2}", "insgesamt"],
        "minimum": ["minimum", "min", "lowest", "smallest", "cheapest", r"minimal\w*", r"niedrigst\w*", r"kleinst\w*"],
        "maximum": ["maximum", "max", "highest", "largest", "biggest", r"maximal\w*", r"hoechst\w*", r"groesst\w*"],
        "median": ["median"],
    }
)
COMPOUNDS: Mapping[str, Sequence[str]] = {
    "average": ["durchschnitts", "mittlerer"],
    "sum": ["gesamt"],
    "minimum": ["mindest", "minimal", "tiefst"],
    "maximum": ["hoechst", "maximal", "spitzen"],
    "median": ["median"],
}
"""What a German noun begins with: Durchschnittspreis is the average of Preis."""
COUNT = Phrases({"count": ["number of", "counts? of", "counts?", "how many", "anzahl", "wie viele?", "wieviele?"]})
DISTINCT = Phrases(
    {
        "distinct": [
            "(number|count) of (different|distinct|unique)",
            "how many (different|distinct|unique)",
            "distinct",
            "unique",
            "different",
            r"anzahl (verschieden|unterschiedlich)\w*",
            r"wie viele? (verschieden|unterschiedlich)\w*",
            r"(verschieden|unterschiedlich)\w*",
        ]
    }
)
SHARE = Phrases({"share": ["shares? of", "shares?", "proportions? of", "distribution of", "anteile?", "verteilung"]})
TOP = Phrases(
    {
        "largest": ["top", "largest", "biggest", "highest", "best", r"groesst\w*", r"hoechst\w*", r"best\w{1,2}"],
        "smallest": ["bottom", "smallest", "lowest", "worst", r"kleinst\w*", r"niedrigst\w*", r"schlechtest\w*"],
    }
)
ROWS = Phrases(
    {"rows": ["rows?", "records?", "entries", "entry", "zeilen?", r"eintraege\w?", "eintrag", "datensaetze?", "lines?"]}
)
BY = Phrases(
    {
        "by": [
            "grouped by",
            "by",
            "per",
            "for (each|every)",
            "in (each|every)",
            "each",
            "broken down by",
            "split by",
            "gruppiert nach",
            "aufgeteilt nach",
            "nach",
            "pro",
            "je",
            r"fuer jede\w?",
            r"in jede\w?",
            r"jede\w?",
        ]
    }
)
BUCKETS = Phrases(
    {
        "day": ["days?", "daily", "tage?s?", "taeglich", r"taegliche\w?"],
        "week": ["weeks?", "weekly", "wochen?", "woechentlich", r"woechentliche\w?", "kalenderwochen?"],
        "month": ["months?", "monthly", "monate?s?", "monatlich", r"monatliche\w?"],
        "quarter": ["quarters?", "quarterly", "quartale?s?", r"vierteljaehrlich\w*"],
        "year": ["years?", "yearly", "annual", "annually", "jahre?s?", "jaehrlich", r"jaehrliche\w?"],
        "auto": ["time", "zeit"],
    }
)
OVER_TIME = Phrases(
    {"auto": ["over time", "through time", "im zeitverlauf", "im (laufe|verlauf) der zeit", "ueber die zeit"]}
)
AGAINST = Phrases({"against": ["against", "vs", "versus", "gegen", "gegenueber"]})
PLOT = Phrases({"plot": ["charts?", "plots?", "graphs?", r"diagramm\w?", "grafik", "graph"]})
CHARTS = Phrases(
    {
        "bar": ["bars?", "columns?", "balken", "saeulen?", r"(balken|saeulen)(diagramm|grafik|chart)\w?"],
        "line": ["lines?", "linien?", r"(linien|kurven)(diagramm|grafik|chart)\w?"],
        "pie": ["pie", "donut", "torten?", "kreis", r"(torten|kreis|kuchen)(diagramm|grafik|chart)\w?"],
        "scatter": ["scatter", "punkte?", r"(streu|punkt|streupunkt)(diagramm|grafik|chart)\w?", "scatterplot"],
    }
)
AS_CHART = Phrases({"as": ["as", "als", "in form of", "in form"]})
WHERE = Phrases(
    {
        "where": [
            "where",
            "whose",
            "with",
            "when",
            "if",
            "wo",
            "wobei",
            "wenn",
            "mit",
            "bei denen",
            "deren",
            "fuer die gilt",
        ]
    }
)
IN = Phrases(
    {"in": ["in", "im", "for", "fuer", "from", "aus", "of", "von", "vom", "during", "waehrend", "on", "am", "at"]}
)
FROM = Phrases({"from": ["from", "aus", "in", "of", "von", "out of"]})
PERIODS = Phrases(
    {
        "between": ["between", "zwischen"],
        "since": ["since", "seit", "starting in", "ab"],
        "before": ["before", "vor"],
        "after": ["after", "nach"],
        "until": ["until", "till", "up to", "bis zum", "bis"],
    }
)
COMPARISONS = Phrases(
    {
        "differs": [
            "! =",
            "!=",
            "<>",
            "is not",
            "isn't",
            "are not",
            "not",
            r"ist nicht",
            r"ist kein\w*",
            "nicht",
            "ungleich",
            "other than",
        ],
        "at_least": [">=", "at least", "mindestens", "from", "ab"],
        "at_most": ["<=", "at most", "hoechstens", "maximal", "up to"],
        "above": [
            ">",
            "(greater|more|larger|higher|bigger) than",
            "above",
            "over",
            "exceeds",
            r"(groesser|mehr|hoeher|ueber) als",
            "ueber",
        ],
        "below": [
            "<",
            "(less|smaller|lower|fewer) than",
            "below",
            "under",
            r"(kleiner|weniger|niedriger) als",
            "unter",
        ],
        "contains": ["contains?", "containing", "includes?", "including", "enthaelt", "enthalten"],
        "equals": ["=", "==", "equals?", "gleich"],
        "present": ["is not (empty|null|missing)", "exists", r"ist nicht (leer|null)", "vorhanden"],
        "empty": ["is (empty|null|missing)", "missing", r"ist (leer|null)", "fehlt"],
        "between": ["between", "zwischen"],
        "since": ["since", "on or after", "seit"],
        "before": ["before", "vor"],
        "after": ["after", "nach"],
        "until": ["until", "till", "bis"],
        "in": ["in", "im", "on", "am"],
    }
)
AND = Phrases({"and": ["and", "und", "&", ","]})
OR = Phrases({"or": ["or", "oder", ",", "and", "und"]})
SORTED = Phrases(
    {"sorted": ["sorted by", "ordered by", "order by", "sortiert nach", "geordnet nach", "sorted", "sortiert"]}
)
DIRECTIONS = Phrases(
    {
        "largest": ["descending", "desc", "absteigend", "largest first", "groesste zuerst"],
        "smallest": ["ascending", "asc", "aufsteigend", "smallest first", "kleinste zuerst"],
    }
)
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
FILLERS = frozenset(
    [
        "a",
        "all",
        "an",
        "are",
        "as",
        "can",
        "chart",
        "could",
        "der",
        "das",
        "dem",
        "den",
        "des",
        "die",
        "draw",
        "du",
        "display",
        "ein",
        "eine",
        "einem",
        "einen",
        "einer",
        "eines",
        "gib",
        "give",
        "graph",
        "how",
        "i",
        "is",
        "it",
        "its",
        "me",
        "mir",
        "much",
        "of",
        "please",
        "plot",
        "show",
        "tell",
        "the",
        "there",
        "us",
        "van",
        "vom",
        "von",
        "want",
        "was",
        "were",
        "what",
        "which",
        "would",
        "you",
        "zeig",
        "zeige",
        "zeichne",
        "bitte",
        "sind",
        "ist",
        "war",
        "waren",
        "welche",
        "welcher",
        "welches",
        "wie",
        "hoch",
        "alle",
        "aller",
        "allen",
        "es",
        "gibt",
        "gab",
        "stelle",
        "dar",
        "darstellen",
        "list",
        "compare",
        "vergleiche",
        "value",
        "values",
        "wert",
        "werte",
    ]
)
GERMAN = frozenset(
    [
        "der",
        "die",
        "das",
        "dem",
        "den",
        "des",
        "ein",
        "eine",
        "einer",
        "und",
        "oder",
        "nach",
        "pro",
        "je",
        "mit",
        "wo",
        "wie",
        "viele",
        "anzahl",
        "summe",
        "durchschnitt",
        "zeige",
        "zeig",
        "mir",
        "im",
        "fuer",
        "als",
        "ist",
        "jahr",
        "monat",
        "tag",
        "woche",
        "seit",
        "vor",
        "zwischen",
        "bis",
        "gegen",
        "ueber",
        "unter",
        "von",
        "vom",
        "zeit",
        "monatlich",
        "jaehrlich",
        "taeglich",
        "diagramm",
        "balkendiagramm",
        "liniendiagramm",
        "kreisdiagramm",
        "tortendiagramm",
        "streudiagramm",
    ]
)
"""Words that tell a German question."""
