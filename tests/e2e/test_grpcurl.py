"""grpcurl works as README.md says, without a .proto file."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from stepwire import Client
from stepwire.errors import ExecutionEnded

from .readme import commands, readme
from .serving import PATIENCE, Gate, ServerProcess, find_grpcurl, paced

SERVICE = "stepwire.v1.ExecutionService"
METHODS = ("Execute", "WatchExecution", "CancelExecution")


def grpcurl(server: ServerProcess, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs grpcurl; localhost:50051 becomes the server's address."""
    given = [server.address if argument == "localhost:50051" else argument for argument in arguments]
    return subprocess.run([find_grpcurl(), *given], capture_output=True, text=True, timeout=PATIENCE, check=False)


def of_readme(server: ServerProcess, last: str, *, execution_id: str = "") -> str:
    """Runs the first command of README.md that ends so, with this id, and returns what it printed."""
    found = [arguments for arguments in commands("grpcurl") if arguments[-1] == last]
    assert found, f"README.md has no grpcurl command that ends with {last}"
    done = grpcurl(server, *(argument.replace("EXECUTION_ID", execution_id) for argument in found[0]))
    assert done.returncode == 0, done.stderr
    return done.stdout


def messages(printed: str) -> Iterator[dict[str, Any]]:
    """Gives the JSON objects that grpcurl printed one after another."""
    decoder = json.JSONDecoder()
    while printed := printed.lstrip():
        message, end = decoder.raw_decode(printed)
        yield message
        printed = printed[end:]


def events(printed: str) -> list[dict[str, Any]]:
    """Returns the events of the messages that grpcurl printed."""
    return [event for message in messages(printed) for event in message.get("events", [])]


def test_list(assistant: ServerProcess) -> None:
    """`list` names the service, by reflection."""
    assert SERVICE in of_readme(assistant, "list").split()


def test_describe(assistant: ServerProcess) -> None:
    """`describe` shows the service with its methods and what they stream."""
    described = of_readme(assistant, SERVICE)
    assert "rpc Execute ( .stepwire.v1.ExecuteRequest ) returns ( stream .stepwire.v1.EventBatch );" in described
    assert all(f"rpc {method} (" in described for method in METHODS)


def test_describe_what_is_described(assistant: ServerProcess) -> None:
    """Every method's request and response can be described too: reflection knows all files."""
    for name in ("ExecuteRequest", "EventBatch", "Event", "Plan", "GetStatisticsResponse"):
        done = grpcurl(assistant, "-plaintext", "localhost:50051", "describe", f"stepwire.v1.{name}")
        assert done.returncode == 0, done.stderr
        assert f"message {name} {{" in done.stdout


def test_execute_then_watch_from_the_middle(assistant: ServerProcess) -> None:
    """Execute prints the events from the first to the terminal one; WatchExecution prints those after its cursor."""
    printed = of_readme(assistant, f"{SERVICE}/Execute")
    assert "`executionId`" in readme(), "README.md must name the field as grpcurl prints it"
    execution_id = next(messages(printed))["execution"]["executionId"]
    executed = events(printed)
    assert [int(event["sequence"]) for event in executed] == list(range(1, 15))
    assert "planCompleted" in executed[-1]
    watched = events(of_readme(assistant, f"{SERVICE}/WatchExecution", execution_id=execution_id))
    assert 1 < int(watched[0]["sequence"]) <= 14
    assert watched == executed[int(watched[0]["sequence"]) - 1 :]


def test_cancel(sample: ServerProcess, gate: Gate) -> None:
    """CancelExecution answers with the execution that is being cancelled, and the reason reaches its watchers."""
    with Client(sample.address) as client:
        run = client.execute(plan=paced(gate, [1]))
        gate.arrived("a")
        (answer,) = messages(of_readme(sample, f"{SERVICE}/CancelExecution", execution_id=run.execution_id))
        assert answer["execution"]["state"] in ("EXECUTION_STATE_CANCELLING", "EXECUTION_STATE_CANCELLED")
        last = list(run)[-1]
        assert last.WhichOneof("kind") == "plan_cancelled"
        assert last.plan_cancelled.reason == "no longer needed"


def test_an_error_is_readable(assistant: ServerProcess) -> None:
    """What is refused is printed with its code, its reason and a text."""
    request = json.dumps({"execution_id": "no-such-execution"})
    done = grpcurl(assistant, "-plaintext", "-d", request, "localhost:50051", f"{SERVICE}/WatchExecution")
    assert done.returncode != 0
    assert "NotFound" in done.stderr
    assert "EXECUTION_NOT_FOUND" in done.stderr


def test_cancel_after_the_end_is_refused(assistant: ServerProcess) -> None:
    """A cancel that comes after the end is answered with EXECUTION_ENDED, in grpcurl and in Python."""
    with Client(assistant.address) as client:
        run = client.execute("Wie viel kostet ein Bauantrag in München?")
        run.result()
        with pytest.raises(ExecutionEnded):
            client.cancel(run.execution_id)
    request = json.dumps({"execution_id": run.execution_id})
    done = grpcurl(assistant, "-plaintext", "-d", request, "localhost:50051", f"{SERVICE}/CancelExecution")
    assert done.returncode != 0
    assert "FailedPrecondition" in done.stderr
    assert "EXECUTION_ENDED" in done.stderr


@pytest.mark.parametrize("spelled", [{}, {"options": {}}, {"options": {"failure_policy": "FAILURE_POLICY_CONTINUE"}}])
def test_the_same_request_from_two_languages(assistant: ServerProcess, spelled: dict[str, Any]) -> None:
    """A request that grpcurl repeats attaches to the execution that Python started, whether it spells defaults out."""
    query = "Wie viel kostet ein Reisepass in Kiel?"
    with Client(assistant.address) as client:
        run = client.execute(query)
        run.result()
    request = json.dumps({"query": query, "request_id": run.request_id, **spelled})
    done = grpcurl(assistant, "-plaintext", "-d", request, "localhost:50051", f"{SERVICE}/Execute")
    assert done.returncode == 0, done.stderr
    assert next(messages(done.stdout))["execution"]["executionId"] == run.execution_id
