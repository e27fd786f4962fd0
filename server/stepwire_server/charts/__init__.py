"""Questions about tables become charts, without a model or with one.

    stepwire-server serve stepwire_server.charts:app --set data=sales.db

`create_app` makes another app of it.
"""

from __future__ import annotations

__all__ = ["app", "create_app"]

from stepwire.errors import QueryNotUnderstood
from stepwire_server import App, Plan, plan_step
from stepwire_server.charts.charting import Desk, Question, register
from stepwire_server.models import MODEL_SETTINGS


def create_app(name: str = "charts", *, desk: Desk | None = None) -> App:
    """Returns the charts as an app. It opens its data when it is started, and keeps it and its model on the desk."""
    desk = desk or Desk()
    made = App(
        name,
        description="Makes charts of questions about tables.",
        settings={
            "data": "A SQLite or DuckDB database, a .csv, .tsv or .parquet file, or a folder of these.",
            "query-seconds": "Seconds that a query may take (30).",
            "query-memory": "What DuckDB may take for a query, such as 500MB (1GB).",
            **MODEL_SETTINGS,
        },
    )
    made.startup(desk.open)
    made.shutdown(desk.close)
    register(made, desk)

    @made.plan("chart")
    def chart(question: Question) -> Plan:
        """Make a chart of a question: one step of the operation `chart`."""
        return Plan(steps=[plan_step("chart", "chart", name="Make a chart", input={"question": question})])

    @made.planner
    async def plan(query: str) -> Plan:
        """Takes the query as a question about the tables: "average price by region", "Summe umsatz pro Monat", "top 5
        customers by revenue", "price against weight".
        """
        if len(query) > 2000:
            raise QueryNotUnderstood("A question about the tables has at most 2,000 characters.")
        return chart(query)

    return made


app = create_app()
