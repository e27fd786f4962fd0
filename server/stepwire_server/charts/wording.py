"""What the charts say, in English and in German."""

from __future__ import annotations

__all__ = ["Wording", "wording"]

from collections.abc import Mapping
from dataclasses import dataclass

from stepwire_server.charts.specification import Aggregate


@dataclass(frozen=True, slots=True, kw_only=True)
class Wording:
    """The texts of one language; what stands in braces is filled in, and tables follow a text that ends in a space."""

    which_table: str
    left_out: str
    which_name: str
    rows_of: str
    column_of: str
    which_column: str
    which_date: str
    which_value: str
    which_aggregate: str
    how_to_count: str
    count_rows: str
    count_distinct: str
    aggregates: Mapping[str, Aggregate]
    """What a person can choose, with what it means."""
    top_by_what: str
    sorted_by_what: str
    incomplete: str
    not_understood: str
    did_you_mean: str
    no_dates: str
    more_tables: str
    no_day: str
    no_number: str
    grouped_number: str
    no_boolean: str
    no_value: str
    not_comparable: str
    titles: Mapping[Aggregate, str]
    buckets: Mapping[str, str]
    operators: Mapping[str, str]
    charts: Mapping[str, str]
    by: str
    joint: str
    alternative: str
    against: str
    where: str
    top: Mapping[str, str]
    other: str
    nothing: str
    yes: str
    no: str
    described: str
    one_number: str
    largest: str


_ENGLISH = Wording(
    which_table="Which table do you mean?",
    left_out="table {table!r} can't be read: {reason}",
    which_name="What do you mean by {name!r}?",
    rows_of="the rows of table {table}",
    column_of="the column {column} of table {table}",
    which_column="Which column do you mean by {name!r}?",
    which_date="Which date do you mean?",
    which_value="In which column do you mean {value!r}?",
    which_aggregate="How are the values of {column!r} put together?",
    how_to_count="What is counted of {column!r}?",
    count_rows="rows",
    count_distinct="different values of {column}",
    aggregates={
        "sum": "sum",
        "average": "average",
        "minimum": "minimum",
        "maximum": "maximum",
        "median": "median",
    },
    top_by_what="the top of {column!r} by what? Write 'top 5 {column} by' and a number; there is ",
    sorted_by_what="{column!r} is neither shown nor grouped by, and can't be sorted by",
    incomplete="the question ends too soon; there is ",
    not_understood="{word!r} is not understood{hint}; there is ",
    did_you_mean=" (did you mean {name!r}?)",
    no_dates="there is no date in ",
    more_tables="and {count} more tables",
    no_day="{column!r} is a date: compare it with a year, a month or a day, as 2024, 2024-03 or 2024-03-15",
    no_number="{column!r} is a number: compare it with one, as 12 or 12.5",
    grouped_number="{text!r} may mean two numbers: write it without a mark for thousands",
    no_boolean="{column!r} is true or false: compare it with one of these",
    no_value="{column!r} is compared with nothing: write a value after it, in quotes where it has several words",
    not_comparable="{column!r} is text: it is something, is not something, or contains something",
    titles={
        "count": "Number of {column}",
        "distinct": "Number of different {column}",
        "sum": "Sum of {column}",
        "average": "Average of {column}",
        "minimum": "Minimum of {column}",
        "maximum": "Maximum of {column}",
        "median": "Median of {column}",
        "value": "{column}",
    },
    buckets={"day": "day", "week": "week", "month": "month", "quarter": "quarter", "year": "year"},
    operators={
        "equals": "is",
        "differs": "is not",
        "above": "above",
        "at_least": "at least",
        "below": "below",
        "at_most": "at most",
        "contains": "contains",
        "empty": "is empty",
        "present": "is not empty",
        "from": "from",
        "before": "before",
    },
    charts={"bar": "Bars", "line": "Line", "pie": "Pie", "scatter": "Scatter", "number": "Number"},
    by="by",
    joint="and",
    alternative="or",
    against="against",
    where="where",
    top={"largest": "the {limit} largest", "smallest": "the {limit} smallest"},
    other="other",
    nothing="(none)",
    yes="true",
    no="false",
    described="{chart}: {title}, from table {table}; {shown} of {used} rows.",
    one_number="{title}, from table {table}: {value}, of {used} rows.",
    largest=" Largest: {label} ({value}); smallest: {last} ({least}).",
)

_GERMAN = Wording(
    which_table="Welche Tabelle ist gemeint?",
    left_out="Tabelle {table!r} kann nicht gelesen werden: {reason}",
    which_name="Was ist mit {name!r} gemeint?",
    rows_of="die Zeilen der Tabelle {table}",
    column_of="die Spalte {column} der Tabelle {table}",
    which_column="Welche Spalte ist mit {name!r} gemeint?",
    which_date="Welches Datum ist gemeint?",
    which_value="In welcher Spalte ist {value!r} gemeint?",
    which_aggregate="Wie werden die Werte von {column!r} zusammengefasst?",
    how_to_count="Was wird bei {column!r} gezählt?",
    count_rows="Zeilen",
    count_distinct="verschiedene Werte von {column}",
    aggregates={
        "Summe": "sum",
        "Durchschnitt": "average",
        "Minimum": "minimum",
        "Maximum": "maximum",
        "Median": "median",
    },
    top_by_what="die größten von {column!r} wonach? Etwa 'Top 5 {column} nach' und eine Zahl; es gibt ",
    sorted_by_what="{column!r} wird weder gezeigt noch gruppiert, danach kann nicht sortiert werden",
    incomplete="die Frage endet zu früh; es gibt ",
    not_understood="{word!r} wird nicht verstanden{hint}; es gibt ",
    did_you_mean=" (ist {name!r} gemeint?)",
    no_dates="es gibt kein Datum in ",
    more_tables="und {count} weitere Tabellen",
    no_day="{column!r} ist ein Datum: zu vergleichen mit Jahr, Monat oder Tag, wie 2024, 2024-03 oder 15.03.2024",
    no_number="{column!r} ist eine Zahl: zu vergleichen mit einer, wie 12 oder 12,5",
    grouped_number="{text!r} kann zwei Zahlen bedeuten: bitte ohne Tausenderzeichen schreiben",
    no_boolean="{column!r} ist wahr oder falsch: damit ist es zu vergleichen",
    no_value="{column!r} wird mit nichts verglichen: ein Wert fehlt, in Anführungszeichen bei mehreren Wörtern",
    not_comparable="{column!r} ist Text: er ist etwas, ist etwas nicht, oder enthält etwas",
    titles={
        "count": "Anzahl {column}",
        "distinct": "Anzahl verschiedener {column}",
        "sum": "Summe {column}",
        "average": "Durchschnitt {column}",
        "minimum": "Minimum {column}",
        "maximum": "Maximum {column}",
        "median": "Median {column}",
        "value": "{column}",
    },
    buckets={"day": "Tag", "week": "Woche", "month": "Monat", "quarter": "Quartal", "year": "Jahr"},
    operators={
        "equals": "ist",
        "differs": "ist nicht",
        "above": "über",
        "at_least": "mindestens",
        "below": "unter",
        "at_most": "höchstens",
        "contains": "enthält",
        "empty": "ist leer",
        "present": "ist nicht leer",
        "from": "ab",
        "before": "vor",
    },
    charts={"bar": "Balken", "line": "Linie", "pie": "Kreis", "scatter": "Punkte", "number": "Zahl"},
    by="nach",
    joint="und",
    alternative="oder",
    against="gegen",
    where="wobei",
    top={"largest": "die {limit} größten", "smallest": "die {limit} kleinsten"},
    other="andere",
    nothing="(ohne)",
    yes="wahr",
    no="falsch",
    described="{chart}: {title}, aus Tabelle {table}; {shown} aus {used} Zeilen.",
    one_number="{title}, aus Tabelle {table}: {value}, aus {used} Zeilen.",
    largest=" Größter Wert: {label} ({value}); kleinster: {last} ({least}).",
)


def wording(german: bool) -> Wording:
    """Returns the texts of German, or else of English."""
    return _GERMAN if german else _ENGLISH
