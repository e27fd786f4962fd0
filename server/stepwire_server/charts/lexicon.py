"""The phrases of the grammar, in English and German.

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
    "FROM",
    "IN",
    "OR",
    "OVER_TIME",
    "PERIODS",
    "PLOT",
    "ROWS",
    "SHARE",
    "SORTED",
    "TOP",
    "WHERE",
]

from collections.abc import Mapping, Sequence

from stepwire_server.charts.tokens import Phrases

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
