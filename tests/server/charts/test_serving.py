"""The app served by the command, and called over gRPC: by the client, and by grpcurl."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest
from tests.e2e.serving import PATIENCE, ServerProcess, find_grpcurl
from tests.e2e.test_grpcurl import events as events_of

from stepwire import Client
from stepwire.errors import ExecutionFailed

from .tables import write

APP = "stepwire_server.charts:app"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("data")
    (made / "stock.csv").write_text("shelf,weight\nleft,7\n", "utf-8")
    rows = [(date(2024, 1 + n % 3, 5), "north" if n % 2 else "south", n) for n in range(12)]
    write(made, "csv", {"sold": "date", "region": "text", "price": "whole"}, rows, table="orders")
    write(made, "parquet", {"carrier": "text", "cost": "whole"}, [("ship", 4), ("rail", 9)], table="shipments")
    return made


@pytest.fixture(scope="module")
def server(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One server for all tests here. It ends as it is told to."""
    with ServerProcess(tmp_path_factory.mktemp("server"), app=APP, flags=["--set", f"data={folder}"]) as server:
        yield server
        assert server.terminate() == 0


def test_a_folder_is_served(folder: Path, server: ServerProcess) -> None:
    """A folder of CSV and Parquet is served by one command, and a file that changes is read again; what is not
    understood is one line of the log.
    """
    with Client(server.address) as client:
        run = client.execute(query="sum of price by region")
        stages = [event.step_progress.stage for event in run if event.HasField("step_progress")]
        assert stages[0] == "routing"
        assert stages[-1] == "completed"
        assert {row["region"]: row["Sum of price"] for row in run.result()["data"]} == {"north": 36, "south": 30}
        assert (
            client.execute(call="chart", input={"question": "maximum cost"}).result()["data"][0]["Maximum of cost"] == 9
        )
        stocked = client.execute(query="sum of weight by shelf").result()["data"]
        assert stocked == [{"shelf": "left", "Sum of weight": 7}]
        (folder / "stock.csv").write_text("shelf,weight\nright,70\n", "utf-8")
        changed = client.execute(query="sum of weight by shelf").result()["data"]
        assert changed == [{"shelf": "right", "Sum of weight": 70}]
        with pytest.raises(ExecutionFailed, match="'colour' is not understood"):
            client.execute(query="sum of colour by shelf").result()
        assert "'colour' is not understood" in server.log.read_text("utf-8")
        assert "Traceback" not in server.log.read_text("utf-8")


def test_a_server_stops_without_a_word_of_leaks(folder: Path, tmp_path: Path) -> None:
    """The last line of a server's log is Stepwire's: DuckDB lists nothing that it takes for leaked."""
    with (
        ServerProcess(tmp_path, app=APP, flags=["--set", f"data={folder}"]) as server,
        Client(server.address) as client,
    ):
        client.execute(query="sum of price by region").result()
        assert server.terminate() == 0
        assert server.log.read_text("utf-8").endswith("stopped; what has not ended goes on at the next start\n")


def test_grpcurl(server: ServerProcess) -> None:
    """grpcurl streams a question's states and its chart, without a .proto file."""
    request = json.dumps({"call": {"plan": "chart", "input": {"question": "Summe price pro Monat"}}})
    done = subprocess.run(
        [find_grpcurl(), "-plaintext", "-d", request, server.address, "stepwire.v1.ExecutionService/Execute"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    events = events_of(done.stdout)
    told = [event["stepProgress"] for event in events if "stepProgress" in event]
    assert [(report["stage"], report["percentage"]) for report in told][-2:] == [
        ("transforming_data", 90),
        ("completed", 100),
    ]
    artifacts = {event["artifact"]["name"]: event["artifact"] for event in events if "artifact" in event}
    assert base64.b64decode(artifacts["chart.svg"]["data"]).startswith(b"<svg")
    assert artifacts["chart.vl.json"]["value"]["mark"]["type"] == "line"


WITHOUT = """
import sys
sys.modules["duckdb"] = sys.modules["vl_convert"] = None
from importlib import util
found = util.find_spec
util.find_spec = lambda name, *more: None if name in ("duckdb", "vl_convert") else found(name, *more)
from stepwire_server.__main__ import main
main()
"""


def test_what_is_missing_is_said_at_the_start(tmp_path: Path) -> None:
    """Without its libraries the app can be imported, and its start says in one line what to install."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            WITHOUT,
            "serve",
            APP,
            "--journal",
            "memory",
            "--listen",
            "127.0.0.1:0",
            "--set",
            "data=x",
        ],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "charts need duckdb and vl-convert-python: pip install 'stepwire[server,charts]'" in line


def test_importing_the_app_loads_no_library() -> None:
    """The app is imported without its libraries, so that the command starts as before."""
    heavy = ["duckdb", "vl_convert", "openai", "sqlite3"]
    code = f"import sys, stepwire_server.charts; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert done.stdout.strip() == "[]"
