"""Which day a time is on: the one in UTC, however it is written, and wherever the server stands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest

from .tables import ask, write

TIMES = [
    "2024-01-31T23:30:00-0200",
    "2024-01-31 23:30:00-02:00",
    "2024-02-01T00:30:00.25+0100",
    "2024-02-01T00:30+01:00",
    "2024-01-31T23:30:00Z",
    "2024-01-31T12:00:00",
    "2024-01-31",
    " 2024-01-31 ",
]


@pytest.mark.parametrize("form", ["sqlite", "duckdb", "csv"])
def test_an_offset_counts_however_it_is_written(form: str, tmp_path: Path) -> None:
    """A time with an offset, with a colon or without, is on its day in UTC, and no time is lost."""
    path = write(tmp_path, form, {"at": "text"}, [(time,) for time in TIMES])
    moments = [datetime.fromisoformat(time.strip()) for time in TIMES]
    days = [(moment.astimezone(UTC) if moment.tzinfo else moment).date() for moment in moments]
    assert ask(path, 'count by "at" per day').numbers == Counter(map(str, days))


def test_dates_with_dots_may_have_spaces_around_them(tmp_path: Path) -> None:
    """A date with dots is read without the spaces around it, as it was when it was taken for a date."""
    for form in ("sqlite", "duckdb"):
        path = write(tmp_path, form, {"at": "text"}, [(" 31.01.2024",), ("01.02.2024 ",)])
        assert ask(path, 'count by "at" per day').numbers == {"2024-01-31": 1, "2024-02-01": 1}


ASKED = """
import json, sys
from pathlib import Path
from tests.server.charts.tables import ask
print(json.dumps(ask(Path(sys.argv[1]), 'count by "at" per day').numbers))
"""


def test_a_day_is_one_in_utc_wherever_the_server_stands(tmp_path: Path) -> None:
    """DuckDB's times with a zone are on their days in UTC, whatever TZ the server is started with."""
    path = tmp_path / "times.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute('CREATE TABLE times ("at" TIMESTAMPTZ)')
        connection.execute("INSERT INTO times VALUES ('2024-01-31 01:00:00+00'), ('2024-01-31 23:00:00+00')")
    done = subprocess.run(
        [sys.executable, "-c", ASKED, str(path)],
        env={**os.environ, "TZ": "Pacific/Auckland", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert json.loads(done.stdout) == {"2024-01-31": 2}
