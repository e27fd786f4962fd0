"""Data and files that want to be more than data, values that are no numbers, and queries that never end."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from stepwire_server.charts import create_app
from stepwire_server.charts.charting import Desk
from stepwire_server.charts.failures import ChartError, DataError, NotUnderstood, QueryStopped
from stepwire_server.charts.sources import Session, open_source

from .tables import ask, schema_of, write

_ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT COUNT(*) FROM n"
_CROSSED = "SELECT COUNT(*) FROM range(100000000) a, range(100000000) b, range(100000000) c"


def _session(folder: Path, form: str) -> Session:
    return open_source(write(folder, form, {"a": "whole"}, [(1,)]), memory="100MB").open()


@pytest.mark.parametrize("form", ["sqlite", "duckdb", "csv"])
@pytest.mark.parametrize(
    "sql",
    [
        "DROP TABLE things",
        "DELETE FROM things",
        "INSERT INTO things VALUES (2)",
        "UPDATE things SET a = 2",
        "CREATE TABLE more (a INTEGER)",
        "ATTACH '{folder}/other.db' AS other",
        "SELECT 1; DROP TABLE things",
        "PRAGMA query_only = 0",
        "PRAGMA trusted_schema = 1",
        "SELECT load_extension('{folder}/x.so')",
        "SELECT * FROM read_csv('{folder}/secret.csv')",
        "SELECT * FROM read_text('{folder}/secret.csv')",
        "SELECT * FROM '{folder}/secret.csv'",
        "SET enable_external_access = true",
        "SET memory_limit = '100GB'",
        "COPY things TO '{folder}/copy.csv'",
        "INSTALL httpfs",
        "VACUUM INTO '{folder}/copy.db'",
    ],
)
def test_a_session_can_only_read_its_tables(form: str, sql: str, tmp_path: Path) -> None:
    """Whatever is run, nothing is changed, written, loaded, or read from beside the tables."""
    (tmp_path / "secret.csv").write_text("a\n42\n", "utf-8")
    with _session(tmp_path, form) as session:
        with pytest.raises(ChartError):
            session.run(sql.format(folder=tmp_path))
        assert session.run("SELECT a FROM things") == [(1,)]
    assert {path.name for path in tmp_path.iterdir()} == {"secret.csv", f"things.{form}"}


@pytest.mark.parametrize("form", ["sqlite", "duckdb"])
def test_an_endless_query_is_stopped(form: str, tmp_path: Path) -> None:
    """A query that would run for ever ends once its session is told to stop, and none begins after that."""
    with _session(tmp_path, form) as session:
        ended = threading.Event()
        found: list[BaseException] = []

        def run() -> None:
            try:
                session.run(_ENDLESS if form == "sqlite" else _CROSSED)
            except QueryStopped as error:
                found.append(error)
            ended.set()

        thread = threading.Thread(target=run)
        thread.start()
        while not ended.wait(0.01):
            session.stop()
        thread.join(20)
        assert [type(error) for error in found] == [QueryStopped]
        with pytest.raises(QueryStopped):
            session.run(_ENDLESS if form == "sqlite" else _CROSSED)


def test_a_query_above_its_memory_is_stopped(tmp_path: Path) -> None:
    """A query that needs more memory than it may take fails, and puts nothing on the disk."""
    with _session(tmp_path, "duckdb") as session, pytest.raises(QueryStopped, match="memory"):
        session.run("SELECT LIST(i) FROM range(100000000) AS t(i)")
    assert [path.name for path in tmp_path.iterdir()] == ["things.duckdb"]


@pytest.mark.parametrize("form", ["sqlite", "duckdb"])
def test_too_many_groups_are_refused(form: str, tmp_path: Path) -> None:
    """A query that gives more groups than a chart can have is refused, with what to do."""
    path = write(tmp_path, "csv", {"a": "whole", "b": "whole"}, [(n, n) for n in range(5001)])
    if form == "sqlite":
        path = write(tmp_path, "sqlite", {"a": "whole", "b": "whole"}, [(n, n) for n in range(5001)])
    with pytest.raises(QueryStopped, match="more than 5,000 groups; ask for fewer"):
        ask(path, "sum a by b")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("data.db", b"this is no database, whatever it is called", "is no SQLite or DuckDB database"),
        ("cut.db", b"SQLite format 3\0" + b"\xff" * 300, "can't be read"),
        ("cut.duckdb", b"12345678DUCK" + b"\xff" * 9000, "can't be read"),
        ("cut.parquet", b"PAR1 and nothing", "can't be read"),
        ("data.xlsx", b"PK", "is no SQLite or DuckDB database"),
    ],
)
def test_a_file_that_is_no_database(name: str, content: bytes, said: str, tmp_path: Path) -> None:
    """A file that is no database, or a damaged one, is refused with its name."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises((DataError, ChartError), match=said):
        schema_of(tmp_path / name)


def test_a_folder_without_tables(tmp_path: Path) -> None:
    """A folder without a file that could be a table is refused, and so is a file that is not there."""
    with pytest.raises(DataError, match=r"no \.csv, \.tsv or \.parquet"):
        open_source(tmp_path, memory="1GB")
    with pytest.raises(DataError, match="can't be read: No such file"):
        open_source(tmp_path / "gone.db", memory="1GB")


_UNREADABLE = {
    # What the view is of is gone; what it calls is not there.
    "sqlite": [
        'CREATE VIEW gone AS SELECT * FROM "not there"',
        "CREATE VIEW odd AS SELECT nothing_like_it(a) b FROM things",
    ],
    # What it is of is gone; it reads what lies beside the database.
    "duckdb": [
        "CREATE VIEW gone AS SELECT * FROM passing",
        "CREATE VIEW odd AS SELECT * FROM read_csv('{folder}/b.csv')",
    ],
}


def _with_views(folder: Path, form: str) -> Path:
    import duckdb

    path = write(folder, form, {"a": "whole"}, [(1,)])
    (folder / "b.csv").write_text("b\n1\n", "utf-8")
    with closing(sqlite3.connect(path) if form == "sqlite" else duckdb.connect(str(path))) as connection:
        connection.execute("CREATE TABLE passing (b INTEGER)")
        for sql in _UNREADABLE[form]:
            connection.execute(sql.format(folder=folder))
        connection.execute("DROP TABLE passing")
        connection.commit()
    return path


@pytest.mark.parametrize("form", ["sqlite", "duckdb"])
async def test_a_view_that_cannot_be_read(form: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A view that can't be read is left out with a line in the log, and keeps neither the start nor other questions."""
    path = _with_views(tmp_path, form)
    desk = Desk()
    app = create_app(desk=desk)
    await app.start({"data": str(path)})
    await app.stop()
    assert [table.name for table in schema_of(path)] == ["things"]
    warned = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert [line.split(", which can't be read: ")[0] for line in warned] == [
        f"{path.name}: left out is table {name}" for name in ("gone", "odd")
    ]


@pytest.mark.parametrize("form", ["sqlite", "duckdb"])
def test_a_question_about_a_view_that_cannot_be_read(form: str, tmp_path: Path) -> None:
    """A question that names a table which was left out says so, and why; one that is understood without it does not."""
    path = _with_views(tmp_path, form)
    with pytest.raises(ChartError, match="table 'odd' can't be read: ") as refused:
        ask(path, "average b in odd")
    assert not isinstance(refused.value, NotUnderstood)
    with pytest.raises(ChartError, match="Tabelle 'gone' kann nicht gelesen werden: "):
        ask(path, "Anzahl gone pro Monat")
    with pytest.raises(NotUnderstood, match="'nonsense' is not understood"):
        ask(path, "average nonsense")
    assert ask(path, "count of things").inquiry.rows[0].values == (1,)


@pytest.mark.parametrize("form", ["sqlite", "duckdb"])
def test_what_is_no_number_is_left_out(form: str, tmp_path: Path) -> None:
    """NaN and infinity are missing values: no sum is spoilt by them, and the result says how many there are."""
    rows = [("a", 1.5), ("a", float("inf")), ("a", float("nan")), ("b", None), ("b", -2.0), ("c", float("-inf"))]
    path = write(tmp_path, form, {"k": "text", "v": "number"}, rows)
    found = ask(path, "sum v by k")
    assert found.numbers == {"a": 1.5, "b": -2.0, "c": None}
    assert "4 of 6 rows have no value in 'v'" in found.drawing.notes


@pytest.mark.parametrize("form", ["sqlite", "duckdb"])
def test_whole_numbers_do_not_overflow(form: str, tmp_path: Path) -> None:
    """Sums beyond 64 bits are there, and a number that JSON can't hold is text in the data."""
    big = 2**62
    path = write(tmp_path, form, {"k": "text", "v": "whole"}, [("a", big), ("a", big), ("a", big), ("b", big + 1)])
    found = ask(path, "sum v by k")
    assert float(found.numbers["a"] or 0) == float(3 * big)
    assert {row["k"]: row["Sum of v"] for row in found.drawing.data}["b"] == str(big + 1)


def test_text_among_numbers_is_no_number(tmp_path: Path) -> None:
    """A SQLite column may have text among its numbers: it is neither added up nor taken for the largest."""
    path = tmp_path / "mixed.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE t (k, v)")
    connection.executemany("INSERT INTO t VALUES ('a', ?)", [(value,) for value in (1, "n/a", 2.5, b"\xff", 4)])
    connection.commit()
    connection.close()
    found = ask(path, "maximum and sum of v by k")
    assert found.inquiry.rows[0].values == (4, 7.5)
    assert ask(path, "count by v").numbers["n/a"] == 1


@pytest.mark.parametrize("form", ["sqlite", "duckdb"])
def test_dates_as_text(form: str, tmp_path: Path) -> None:
    """Dates that are written as text, as ISO has them or with dots, can be grouped by and compared."""
    rows = [("2024-01-31", "05.02.2024", 1), ("2024-02-01T10:00:00", "29.02.2024", 2), (None, "01.03.2024", 4)]
    path = write(tmp_path, form, {"iso": "text", "dotted": "text", "v": "whole"}, rows)
    assert ask(path, "sum v by iso per month").numbers == {"2024-01-01": 1, "2024-02-01": 2, None: 4}
    assert ask(path, "sum v by dotted per month").numbers == {"2024-02-01": 3, "2024-03-01": 4}
    assert ask(path, "sum v where iso is 2024-02").inquiry.rows[0].values == (2,)
    assert ask(path, "sum v where dotted is after 28.02.2024").inquiry.rows[0].values == (6,)


@pytest.mark.parametrize("form", ["sqlite", "duckdb", "csv", "parquet"])
def test_names_from_hell(form: str, tmp_path: Path) -> None:
    """Tables and columns that are called as SQL is written are asked as any other."""
    columns = {'a"; DROP TABLE x; --': "whole", "select": "text", "Straße 'x'": "whole"}
    path = write(tmp_path, form, columns, [(1, "x", 2), (3, "y", 4)], table='or"der; --' if form == "csv" else "order")
    assert ask(path, 'sum "a""; DROP TABLE x; --" by select').numbers == {"x": 1, "y": 3}
    assert ask(path, "average strasse x by select").numbers == {"x": 2, "y": 4}


def test_labels_are_data_in_pictures(tmp_path: Path) -> None:
    """What stands in a label is text in the picture, and never a part of it."""
    from stepwire_server.charts.pictures import pictures

    label = '<script>alert(1)</script> & "x" {datum.y}'
    path = write(tmp_path, "sqlite", {"k": "text", "v": "whole"}, [(label, 1), ("b", 2)])
    (svg,) = pictures(ask(path, "sum v by k").drawing.specification, ["svg"])
    text = svg.data.decode()
    assert "<script" not in text
    assert "&lt;script&gt;" in text


def test_numbers_in_pictures_are_in_the_language_of_the_question(tmp_path: Path) -> None:
    """A picture for a German question writes a thousand as 1.000, for an English one as 1,000."""
    from stepwire_server.charts.pictures import pictures

    path = write(tmp_path, "sqlite", {"kind": "text", "size": "whole"}, [("a", 4000), ("b", 2000)])
    for question, shown in {"Summe size nach kind": ">4.000<", "sum of size by kind": ">4,000<"}.items():
        (svg,) = pictures(ask(path, question).drawing.specification, ["svg"])
        assert shown in svg.data.decode()


def test_nothing_to_show_is_said(tmp_path: Path) -> None:
    """Where no row matches, or no row has a number, the text says what the data has instead."""
    path = write(
        tmp_path, "sqlite", {"k": "text", "v": "whole", "d": "date"}, [(k, None, None) for k in ("north", "south")]
    )
    with pytest.raises(ChartError, match="it has north, south"):
        ask(path, "count where k is atlantis by k")
    with pytest.raises(ChartError, match="'v' is empty in all 2 rows"):
        ask(path, "sum v by k")
    empty = write(tmp_path, "sqlite", {"k": "text", "v": "whole"}, [], table="empty")
    with pytest.raises(ChartError, match="has no rows"):
        ask(empty, "sum v by k")
