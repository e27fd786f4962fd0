"""Retries of what failed: over a kill and a purge, with both clients, on the terminal and with grpcurl."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import stepwire.aio
from stepwire import Client, event_type
from stepwire.errors import CursorExpired, ExecutionFailed, ExecutionRunning, RequestIdReused

from .serving import PATIENCE, Gate, ServerProcess, command
from .test_grpcurl import grpcurl, messages
from .test_terminal import stepwire as said


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """The sample app. One for the tests of this module that only add executions to it."""
    with ServerProcess(tmp_path_factory.mktemp("retrying"), app="sample:app") as started:
        yield started


class Broken:
    """A plan whose second step fails as long as a file is there. Each step that is called leaves a line."""

    def __init__(self, folder: Path, gate: Gate | None = None) -> None:
        self.file = folder / "broken"
        self.file.touch()
        self._trace = folder / "trace"
        self._trace.touch()
        work = {"broken": str(folder / "never"), "trace": str(self._trace)}
        steps: list[dict[str, Any]] = [
            {"id": "one", "operation": "moody", "input": work},
            {"id": "two", "operation": "moody", "input": {**work, "broken": str(self.file)}, "depends_on": ["one"]},
            {"id": "three", "operation": "moody", "input": work, "depends_on": ["two"]},
        ]
        if gate is not None:
            waits = {"gate": gate.port, "bursts": [2, 2], "trace": str(self._trace)}
            steps[2] = {"id": "three", "operation": "paced", "input": waits, "depends_on": ["two"]}
        self.plan = {"steps": steps}

    def called(self) -> list[str]:
        """Returns step and attempt of every call."""
        return self._trace.read_text("utf-8").splitlines()

    def mend(self) -> None:
        self.file.unlink()


def failed(client: Client, broken: Broken) -> str:
    """Returns an execution of the plan that has failed; from then on its steps work."""
    run = client.execute(plan=broken.plan)
    with pytest.raises(ExecutionFailed):
        run.result()
    assert broken.called() == ["one 1", "two 1"]
    broken.mend()
    return run.execution_id


def test_a_retry_outlives_kill_9_and_its_source(tmp_path: Path, gate: Gate) -> None:
    """A retry whose server is killed in its middle, and whose source is purged then, goes on after the restart: who
    watches misses nothing, the kept step is not called, and a reader of the new execution alone finds its output.
    """
    broken = Broken(tmp_path, gate)
    with ServerProcess(tmp_path, app="sample:app") as server, Client(server.address) as client:
        first = failed(client, broken)
        retried = client.retry_execution(first, reason="mended", actor="ada", request_id="again")
        assert (retried.progress.completed_steps >= 1, retried.progress.total_steps) == (True, 3)
        run = client.watch(retried.execution_id)
        with pytest.raises(ExecutionRunning):
            client.retry_execution(retried.execution_id)
        gate.release("three")
        seen = []
        for event in run:
            seen.append(event)
            if event_type(event) == "step_progress":
                break
        server.kill()
        purge = ["journal", "purge", str(server.journal), "--older-than", "0.000000001"]
        purged = subprocess.run(
            [command("stepwire-server"), *purge], capture_output=True, text=True, timeout=PATIENCE, check=True
        )
        assert "1 execution" in purged.stdout
        server.start()
        gate.arrived("three", attempt=2)
        gate.open()
        seen += list(run)
        assert run.result()["attempt"] == 2
        assert broken.called() == ["one 1", "two 1", "two 1", "three 1", "three 2"]
        events = list(client.events(retried.execution_id))
        assert seen == events
        assert [event.sequence for event in events] == list(range(1, len(events) + 1))
        assert events[0].metadata == {"retry_of": first, "actor": "ada", "reason": "mended"}
        kept = next(event for event in events if event_type(event) == "step_completed")
        assert (kept.sequence, kept.step_id, kept.metadata["kept_from"]) == (2, "one", first)
        assert kept.step_completed.output.string_value == "one works"
        for again in (lambda: client.retry_execution(first), lambda: next(client.watch(first))):
            with pytest.raises(CursorExpired):
                again()
        same = client.retry_execution(first, reason="mended", actor="ada", request_id="again")
        assert (same.execution_id, same.attempt_count) == (retried.execution_id, 2)


def test_both_clients_retry(server: ServerProcess, tmp_path: Path) -> None:
    """`stepwire.aio` retries as `stepwire` does; the same request id is the same execution for both."""
    broken = Broken(tmp_path)

    async def retry(execution_id: str) -> tuple[str, Any]:
        async with stepwire.aio.Client(server.address) as client, asyncio.timeout(PATIENCE):
            retried = await client.retry_execution(execution_id, step_ids=["three"], request_id="r")
            return retried.execution_id, await (await client.watch(retried.execution_id)).result()

    with Client(server.address) as client:
        first = failed(client, broken)
        new, output = asyncio.run(retry(first))
        assert output == "three works"
        assert client.retry_execution(first, step_ids=["three"], request_id="r").execution_id == new
        with pytest.raises(RequestIdReused):
            client.retry_execution(first, step_ids=["two"], request_id="r")
        assert broken.called() == ["one 1", "two 1", "two 1", "three 1"]
        run = client.watch(client.retry_execution(new, step_ids=["two"]).execution_id)
        assert run.result() == "three works"
        assert broken.called()[4:] == ["two 1", "three 1"]


def test_on_the_terminal(server: ServerProcess, tmp_path: Path) -> None:
    """`stepwire retry` shows the new execution to its end, what is kept as done; `show` says what it goes back to."""
    broken = Broken(tmp_path)
    with Client(server.address) as client:
        first = failed(client, broken)
    printed = said(server, "retry", first, "--reason", "mended", "--request-id", "again")
    assert printed.startswith(f"Starting: 3 steps, a retry of {first}\n  Step 1/3: one (kept from {first})\n")
    assert printed.endswith('\n"three works"\n')
    new = said(server, "retry", first, "--reason", "mended", "--request-id", "again", "--detach").strip()
    assert f"retry of    {first}" in said(server, "show", new)
    refused = said(server, "retry", first, "--step", "four", code=4)
    assert "has no such step; it has one, two, three" in refused
    assert broken.called() == ["one 1", "two 1", "two 1", "three 1"]


def test_with_grpcurl(server: ServerProcess, tmp_path: Path) -> None:
    """RetryExecution works from grpcurl, and what it refuses is readable."""
    broken = Broken(tmp_path)
    with Client(server.address) as client:
        first = failed(client, broken)
        call = ["localhost:50051", "stepwire.v1.ExecutionService/RetryExecution"]
        request = json.dumps({"execution_id": first, "step_ids": ["three"], "actor": "ada"})
        (answer,) = messages(grpcurl(server, "-plaintext", "-d", request, *call).stdout)
        assert client.watch(answer["execution"]["executionId"]).result() == "three works"
        refused = grpcurl(server, "-plaintext", "-d", json.dumps({"execution_id": first, "step_ids": ["x"]}), *call)
        assert "InvalidArgument" in refused.stderr
        assert "step_ids[0]" in refused.stderr
