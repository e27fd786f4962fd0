"""Which query a question comes to, in both languages; what is asked, and what is refused."""

from __future__ import annotations

import pytest

from stepwire_server.charts.failures import Ambiguous, NotUnderstood
from stepwire_server.charts.grammar import read_question
from stepwire_server.charts.schema import Column, Kind, Table
from stepwire_server.charts.specification import Query


def _table(name: str, rows: int = 9, **columns: Kind) -> Table:
    values = {"region": ("North", "South", "New York", "Rock and Roll"), "status": ("open", "paid")}
    made = tuple(
        Column(name=column, type="", kind=kind, values=values.get(column.casefold(), ()) if kind == "text" else ())
        for column, kind in columns.items()
    )
    return Table(name=name, relation=f'"{name}"', rows=rows, columns=made)


ORDERS = _table(
    "orders",
    order_date="date",
    Region="text",
    status="text",
    customerName="text",
    price="number",
    unit_price="number",
    weight="number",
    umsatz="number",
    Größe="number",
    Preis="number",
    paid="boolean",
)
SHIPMENTS = _table(
    "shipments_2024", ship_date="date", due_date="date", status="text", carrier="text", cost="number", order="number"
)


def told(query: Query) -> str:
    """Returns a query in one short line."""
    parts = [", ".join(f"{measure.aggregate}({measure.column})" for measure in query.measures)]
    parts += [f"by {group.column}{':' + group.bucket if group.bucket else ''}" for group in query.groups]
    parts += [
        f"if {condition.column} {condition.operator} {'|'.join(map(str, condition.values))}".rstrip()
        for condition in query.conditions
    ]
    parts += [query.order] if query.order else []
    parts += [str(query.limit)] if query.limit else []
    parts += [query.chart] if query.chart else []
    return " ".join(parts)


YEAR = "if order_date from 2024-01-01 if order_date before 2025-01-01"

QUESTIONS = {
    "average price by region": "average(price) by Region",
    "What is the average unit price per region?": "average(unit_price) by Region",
    "Summe Umsatz pro Monat": "sum(umsatz) by order_date:month",
    "Durchschnittspreis nach Region": "average(Preis) by Region",
    "Was ist der durchschnittliche Preis je Region im Jahr 2024?": f"average(Preis) by Region {YEAR}",
    "Durchschnitt Groesse pro Status": "average(Größe) by status",
    "Gesamtumsatz pro Quartal als Balkendiagramm": "sum(umsatz) by order_date:quarter bar",
    "count of orders per status": "count() by status",
    "how many orders per year since 2023": "count() by order_date:year if order_date from 2023-01-01",
    "number of orders before March 2022 by day": "count() by order_date:day if order_date before 2022-03-01",
    "Anzahl orders pro Woche bis 2022": "count() by order_date:week if order_date before 2023-01-01",
    "orders per month": "count() by order_date:month",
    "number of different customer names by month": "distinct(customerName) by order_date:month",
    "wie viele verschiedene status pro Region": "distinct(status) by Region",
    "top 5 customer names by umsatz": "sum(umsatz) by customerName largest 5",
    "bottom 3 regions by average price": "average(price) by Region smallest 3",
    "Top 5 customerName nach Umsatz": "sum(umsatz) by customerName largest 5",
    "top 3 regions by number of orders": "count() by Region largest 3",
    "average price by region where region is north": "average(price) by Region if Region equals north",
    "sum of umsatz in 2024 by region": f"sum(umsatz) by Region {YEAR}",
    "sum of umsatz in New York by status": "sum(umsatz) by status if Region equals New York",
    "sum of umsatz where region is Rock and Roll by status": "sum(umsatz) by status if Region equals Rock and Roll",
    "sum of umsatz where region is new york or south": "sum(umsatz) if Region equals new york|south",
    "average price where customer name is O'Neil & Sons": "average(price) if customerName equals O'Neil & Sons",
    'average price where customer name is "x; DROP TABLE orders" by status': (
        "average(price) by status if customerName equals x; DROP TABLE orders"
    ),
    "average price where customer name contains Meier": "average(price) if customerName contains Meier",
    "sum of umsatz where price is above 10 and weight <= 3.5": "sum(umsatz) if price above 10 if weight at_most 3.5",
    "sum of umsatz where price is not 10": "sum(umsatz) if price differs 10",
    "sum of umsatz where price between 10 and 20 by status": (
        "sum(umsatz) by status if price at_least 10 if price at_most 20"
    ),
    "Summe Umsatz wo Preis größer als 12,5 und Status nicht open": (
        "sum(umsatz) if Preis above 12.5 if status differs open"
    ),
    "average price where status is empty": "average(price) if status empty",
    "average price where status is not empty": "average(price) if status present",
    "count of orders where paid is true by month": "count() by order_date:month if paid equals True",
    "count of orders where order date is after 2024-03-15": "count() if order_date from 2024-03-16",
    "count of orders where order date is 15.03.2024": (
        "count() if order_date from 2024-03-15 if order_date before 2024-03-16"
    ),
    "sum of umsatz between 2022 and 2023 by quarter": (
        "sum(umsatz) by order_date:quarter if order_date from 2022-01-01 if order_date before 2024-01-01"
    ),
    "sum of umsatz from March 2022 to May 2022 per week": (
        "sum(umsatz) by order_date:week if order_date from 2022-03-01 if order_date before 2022-06-01"
    ),
    "price against weight": "value(weight), value(price) scatter",
    "price vs weight by region": "value(weight), value(price) by Region scatter",
    "Preis gegen Größe": "value(Größe), value(Preis) scatter",
    "price and weight as a scatter": "value(price), value(weight) scatter",
    "average price and weight by region": "average(price), average(weight) by Region",
    "minimum and maximum price by region": "minimum(price), maximum(price) by Region",
    "pie chart of the sum of umsatz by status": "sum(umsatz) by status pie",
    "share of umsatz by region": "sum(umsatz) by Region pie",
    "Show me the total umsatz per month as a line chart": "sum(umsatz) by order_date:month line",
    "average price by order date (year)": "average(price) by order_date:year",
    "sum of umsatz over time": "sum(umsatz) by order_date:auto",
    "monthly median of price in New York": "median(price) by order_date:month if Region equals New York",
    "average price by region and status": "average(price) by Region by status",
    "average price by region sorted by region": "average(price) by Region group",
    "average price by region sorted ascending": "average(price) by Region smallest",
    "highest price per status": "maximum(price) by status",
    "average cost by carrier": "average(cost) by carrier",
    "average order by carrier": "average(order) by carrier",
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_what_a_question_comes_to(question: str) -> None:
    """A question that names columns and aggregates comes to the query that it says."""
    query, _ = read_question(question, [ORDERS, SHIPMENTS], {})
    assert told(query) == QUESTIONS[question]


AMBIGUOUS = {
    "umsatz by region": ("aggregate:umsatz", ["sum", "average", "minimum", "maximum", "median"]),
    "Umsatz pro Region": ("aggregate:umsatz", ["Summe", "Durchschnitt", "Minimum", "Maximum", "Median"]),
    "average cost per month": ("date", ["ship_date", "due_date"]),
    "average cost by date": ("column:date", ["ship_date", "due_date"]),
    "count by status": ("table", ["orders", "shipments_2024"]),
    "number of customer names per region": ("count:customerName", ["rows", "different values of customerName"]),
}


@pytest.mark.parametrize("question", AMBIGUOUS)
def test_what_may_mean_several_things_is_asked(question: str) -> None:
    """A question that may mean several things says what to choose from, and each choice makes a query of it."""
    key, choices = AMBIGUOUS[question]
    with pytest.raises(Ambiguous) as asked:
        read_question(question, [ORDERS, SHIPMENTS], {})
    assert (asked.value.key, asked.value.choices) == (key, choices)
    made = {
        (told(query), table.name)
        for query, table in (read_question(question, [ORDERS, SHIPMENTS], {key: choice}) for choice in choices)
    }
    assert len(made) == len(choices)


REVENUE = _table("revenue", revenue="number", cost="number", region="text", sold="date")
SALES = _table("sales", revenue="number", region="text")
NAMESAKES: dict[str, tuple[list[Table], list[str]]] = {
    "revenue by region": (
        [REVENUE],
        ["the rows of table revenue", "the column revenue of table revenue"],
    ),
    "Revenues pro Region": (
        [_table("Revenue", region="text"), SALES],
        ["die Zeilen der Tabelle Revenue", "die Spalte revenue der Tabelle sales"],
    ),
    "top 3 regions by revenue": (
        [SALES, REVENUE],
        [
            "the rows of table revenue",
            "the column revenue of table sales",
            "the column revenue of table revenue",
        ],
    ),
}


@pytest.mark.parametrize("question", NAMESAKES)
def test_a_name_that_a_table_and_a_column_share_is_asked(question: str) -> None:
    """Where a name alone may be a table's or a column's, a person says which, and each answer is taken."""
    tables, choices = NAMESAKES[question]
    with pytest.raises(Ambiguous) as asked:
        read_question(question, tables, {})
    assert asked.value.choices == choices
    made = set()
    for choice in choices:
        answers = {asked.value.key: choice, "aggregate:revenue": "Summe" if "Tabelle" in choice else "sum"}
        query, table = read_question(question, tables, answers)
        assert choice.endswith(table.name)
        made.add((told(query).split()[0], table.name))
    assert len(made) == len(choices)
    assert {aggregate for aggregate, _ in made} == {"count()", "sum(revenue)"}


def test_a_name_that_only_a_column_makes_sense_of_is_the_columns() -> None:
    """Where a table and a column share a name, and only the column's numbers make sense there, nothing is asked."""
    for question, said in {
        "average revenue by region": "average(revenue) by region",
        "average cost and revenue by region": "average(cost), average(revenue) by region",
        "share of revenue by region": "sum(revenue) by region pie",
        "revenue against cost": "value(cost), value(revenue) scatter",
        "revenue and cost as a scatter": "value(revenue), value(cost) scatter",
        "number of revenue by region": "count() by region",
    }.items():
        assert told(read_question(question, [REVENUE], {})[0]) == said


REFUSED = {
    "average prize by region": "did you mean 'price'",
    "average price by planet": "'planet' is not understood",
    "frobnicate everything": "'frobnicate'",
    "average status by region": "'status' is no number",
    "average price by region; DROP TABLE orders": "'DROP'",
    "average price where price > 1.000": "may mean two numbers",
    "average price where price is cheap": "'price' is a number",
    "average price where order date is yesterday": "'order_date' is a date",
    "average price where paid is maybe": "'paid' is true or false",
    "average price where": "ends too soon",
    "top 5 regions": "by what",
    "top 500 regions by price": "ask for 1 to 100",
    "average price as a pie": "a pie shows one number by one group",
    "average price by region and status and paid": "has room for",
    "price against region": "'Region' is no number",
}


@pytest.mark.parametrize("question", REFUSED)
def test_what_is_not_understood_is_said(question: str) -> None:
    """A question of which a word is not understood, or that no chart fits, is refused with what there is instead."""
    with pytest.raises(NotUnderstood) as refused:
        read_question(question, [ORDERS], {})
    assert REFUSED[question] in str(refused.value)
    if "not understood" in str(refused.value):
        assert "Region: text" in str(refused.value)


@pytest.mark.parametrize(
    ("question", "named", "not_named"),
    [
        ("average colour by region", ["orders (", "shipments_2024 ("], []),
        ("average price by planet", ["orders ("], ["shipments_2024"]),
        ("orders by planet", ["orders ("], ["shipments_2024"]),
        ("average prize by region", ["(did you mean 'price'?); there is orders ("], ["shipments_2024"]),
    ],
)
def test_a_refusal_names_the_tables_that_matter(question: str, named: list[str], not_named: list[str]) -> None:
    """A refusal names each table of which the question was understood furthest, and no other."""
    tables = [SHIPMENTS, ORDERS]
    with pytest.raises(NotUnderstood) as refused:
        read_question(question, tables, {})
    assert all(text in str(refused.value) for text in named), refused.value
    assert not any(text in str(refused.value) for text in not_named), refused.value


def test_a_refusal_names_five_tables() -> None:
    """Of many tables a refusal names five, and says how many more there are."""
    tables = [_table(f"part_{number}", price="number") for number in range(12)]
    with pytest.raises(NotUnderstood, match=r"there is part_0 \(price: number\), .*, and 7 more tables$") as refused:
        read_question("average colour", tables, {})
    assert str(refused.value).count("price") == 5


def test_a_column_goes_before_a_word_of_the_grammar() -> None:
    """A column that is called as a word of the grammar is meant where it stands, and in quotes everywhere."""
    table = _table("log", count="number", month="text", by="text", order="number", average="number")
    for question, said in {
        "average count by month": "average(count) by month",
        "sum of order by month": "sum(order) by month",
        'average of "average" by "by"': "average(average) by by",
        "sum of [count] by `month`": "sum(count) by month",
    }.items():
        assert told(read_question(question, [table], {})[0]) == said
