"""README.md's examples run as they stand there."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

from stepwire import Client

from .readme import commands, json_blocks, python_block
from .serving import PATIENCE, ServerProcess, command, find_grpcurl

EXAMPLES = ("charge", "mail", "deliver", "refund", "pieces")
"""An operation of each block that makes README.md's app."""


def run(arguments: list[str], folder: Path, **environment: str) -> str:
    """Runs a command in a folder, and returns what it printed."""
    done = subprocess.run(
        arguments,
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_operations_of_your_own(tmp_path: Path) -> None:
    """The app of README.md, in an empty folder, is served and called with the commands that README.md has for it."""
    served = [arguments for arguments in commands("stepwire-server") if arguments[0] == "serve" and arguments[1:]]
    assert len(served) == 1, f"README.md serves an app {len(served)} times"
    app = served[0][1]
    folder = tmp_path / "mine"
    folder.mkdir()
    program = "".join(python_block(f'@app.operation("{name}"') for name in EXAMPLES)
    (folder / f"{app.partition(':')[0]}.py").write_text(program, "utf-8")
    called = [arguments for arguments in commands("stepwire") if "--call" in arguments]
    by_grpcurl = [arguments for arguments in commands("grpcurl") if any('"call"' in word for word in arguments)]
    assert called, "README.md does not call its own operations with `stepwire run --call`"
    assert by_grpcurl, "README.md does not call its own operations with grpcurl"
    with ServerProcess(tmp_path, app=app, cwd=folder) as server:
        for arguments in called:
            printed = run([command("stepwire"), *arguments], folder, STEPWIRE_SERVER=server.address)
            assert "2/2 steps succeeded" in printed
            assert "The bank has answered" in printed
        for arguments in by_grpcurl:
            given = [server.address if word == "localhost:50051" else word for word in arguments]
            printed = run([find_grpcurl(), *given], folder)
            assert "2/2 steps succeeded" in printed
        mailing = folder / "mailing.json"
        mailing.write_text('{"steps": [{"id": "a", "operation": "mail", "input": {"pages": 3}}]}', "utf-8")
        printed = run(
            [command("stepwire"), "run", "--plan", str(mailing), "--json"], folder, STEPWIRE_SERVER=server.address
        )
        told = [json.loads(line) for line in printed.splitlines()]
        kept = [event["data"]["state"] for event in told if event["type"] == "step_saved"]
        assert kept == [1, 2, 3]
        with Client(server.address) as client:
            work = {"parcels": ["a", "b", "c", "d"]}
            delivering = client.execute(plan={"steps": [{"id": "a", "operation": "deliver", "input": work}]})
            reports = [event.step_progress for event in delivering if event.HasField("step_progress")]
            (counted,) = [report for report in reports if report.current == 2]
            assert (counted.substep.path, counted.percentage) == ("Pack", 12.5)
            assert [report.substep.path for report in reports][-2:] == ["Drive/Ferry", "Drive"]
            assert [report.percentage for report in reports][-4:] == [40, 40, 100, 100]
            assert delivering.result() == 4
            for amount, answer, output in ((12, "", "refunded"), (120, "yes", "refunded"), (120, "no", "refused")):
                work = {"order_id": "o-1", "amount": amount}
                asking = client.execute(plan={"steps": [{"id": "a", "operation": "refund", "input": work}]})
                for event in asking:
                    if event.HasField("input_requested"):
                        assert event.input_requested.prompt == "Refund 120.00 for o-1?"
                        asking.answer(event.input_requested.input_id, answer)
                assert asking.result() == output
            plans = [json.loads(text) for text in json_blocks()]
            assert len(plans) == 2
            outputs = [client.execute(plan=plan).result() for plan in plans]
            assert outputs == ["o-2 is on its way (receipt-o-2)", None]  # no table is that heavy
            packed = client.execute(call="parcels", input={"order_id": "o-1"})
            assert packed.result() == {"carrier": "truck reserved"}
            assert packed.tracker.total_steps == 8
            assert client.get(packed.execution_id).progress.skipped_steps == 1
        listed = run([command("stepwire"), "operations"], folder, STEPWIRE_SERVER=server.address)
        assert "charge(order_id: string, amount: number)" in listed


def test_the_client(assistant: ServerProcess, tmp_path: Path) -> None:
    """The client's example of README.md, in a program of its own, prints progress to 100 % and then the answer."""
    block = python_block("from stepwire import Client")
    assert "localhost:50051" in block
    program = tmp_path / "example.py"
    program.write_text(block.replace("localhost:50051", assistant.address), "utf-8")
    printed = run([sys.executable, "-W", "error", str(program)], tmp_path)
    assert "100.0 %" in printed
    assert "# Checkliste: Bauantrag in Stuttgart" in printed


def test_every_python_block_parses() -> None:
    """Each example that README.md marks as Python is Python."""
    operations = [f'@app.operation("{name}"' for name in EXAMPLES]
    for containing in ("from stepwire import Client", *operations):
        ast.parse(python_block(containing))
