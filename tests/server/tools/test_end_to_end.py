"""The app as it is served: a real server process, with commands and an MCP server, called over gRPC."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from tests.e2e.serving import PATIENCE, ServerProcess, command, find_grpcurl

from stepwire import Client
from stepwire.errors import InputInvalid

from .parts import PROGRAM, call

COMMANDS = """
[commands.lines]
description = "Counts the lines of a text"
argv = ["wc", "-l"]

[[commands.lines.parameters]]
name = "text"
stdin = true
"""

APP = "stepwire_server.tools:app"
SERVER = shlex.join([sys.executable, str(PROGRAM)])


def flags(folder: Path) -> list[str]:
    (folder / "commands.toml").write_text(COMMANDS, "utf-8")
    return ["--set", f"commands={folder / 'commands.toml'}", "--set", f"mcp={SERVER}"]


def test_served_over_grpc(tmp_path: Path) -> None:
    """Served with commands and an MCP server, the app's tools stream over gRPC to a client and to grpcurl, and SIGTERM
    ends the server and the MCP server's process.
    """
    calls = [
        call("calculate", expression="(2 + 3) * 4.5"),
        call("lines", text="a\nb\n"),
        call("add", a=1, b=2),
        call("fail", why="no more paper"),
        call("nowhere"),
        call("process"),
    ]
    plan = {"steps": [{"id": "a", "operation": "run_tools", "input": {"calls": calls}}]}
    with ServerProcess(tmp_path, app=APP, cwd=tmp_path, flags=flags(tmp_path)) as server:
        with Client(server.address) as client:
            run = client.execute(plan=plan)
            stages = [event.stage.name for event in run if event.HasField("stage")]
            output = run.result()
            with pytest.raises(InputInvalid, match="is missing"):
                client.execute(plan={"steps": [{"id": "a", "operation": "calculate", "input": {}}]})
        sent = json.dumps({"plan": plan})
        done = subprocess.run(
            [find_grpcurl(), "-plaintext", "-d", sent, server.address, "stepwire.v1.ExecutionService/Execute"],
            capture_output=True, text=True, timeout=PATIENCE, check=True,
        )  # fmt: skip
        assert server.terminate() == 0
    assert sorted(stages) == sorted(
        [f"executing_{each['tool']}" for each in calls]
        + [f"completed_{name}" for name in ("calculate", "lines", "add", "process")]
        + ["failed_fail", "error_nowhere"]
    )
    assert output["totals"] | {"seconds": 0} == {"asked": 6, "completed": 4, "failed": 1, "errors": 1, "seconds": 0}
    by_id = {result["id"]: result for result in output["results"]}
    assert by_id["calculate"]["output"] == {"text": "22.5", "value": 22.5}
    assert by_id["lines"]["output"]["stdout"] == "2\n"
    for name in stages:
        assert f'"name": "{name}"' in done.stdout
    assert '"text": "2\\n"' in done.stdout
    with pytest.raises(ProcessLookupError):
        os.kill(by_id["process"]["output"]["result"], 0)


def refusal(folder: Path, *arguments: str) -> str:
    """Serves the app where that can't be, and returns what it says of it."""
    done = subprocess.run(
        [command("stepwire-server"), "serve", APP, "--listen", "127.0.0.1:0", "--journal", "memory", *arguments],
        cwd=folder, capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout
    assert "Traceback" not in done.stderr
    return done.stderr.strip().splitlines()[-1]


def test_what_is_missing_is_told_at_the_start(tmp_path: Path) -> None:
    """Without the mcp package, or with a file that is not there, `serve` ends with one line that says what to do."""
    (tmp_path / "mcp.py").write_text("raise ImportError('it is not installed')\n", "utf-8")
    told = refusal(tmp_path, "--set", f"mcp={SERVER}")
    assert told == (
        "Error: app 'tools' can't start: MCP servers need the mcp package: pip install 'stepwire[server,mcp]'"
    )
    assert refusal(tmp_path, "--set", "commands=none.toml").startswith("Error: app 'tools' can't start: none.toml: ")


def test_what_an_import_of_the_app_loads() -> None:
    """The app, without an MCP server, needs no mcp package: importing it loads none."""
    program = "import sys, stepwire_server.tools; print([m for m in ('mcp', 'httpx2', 'grpc') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert done.stdout.strip() == "[]"
