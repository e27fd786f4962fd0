"""The app as it is served: over gRPC, with grpcurl, and with a key that nobody ever sees."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.e2e.serving import PATIENCE, REPOSITORY, ServerProcess, command, find_grpcurl

from stepwire import Client, output_of, to_json
from stepwire.errors import ExecutionFailed, InputInvalid

from .endpoint import Drop, Endpoint, Hold, Request, Scripted, data, delta, refuses, says, streams

KEY = "sk-canary-4f9b1c7e2d8a6035"
APP = "stepwire_server.models:app"
SERVICE = "stepwire.v1.ExecutionService"


def serving(folder: Path, endpoint: Endpoint, *flags: str, key: str = "") -> ServerProcess:
    """Returns a server of the app, whose model is at the endpoint."""
    named = ["--set", "model=tiny", "--set", f"model-url={endpoint.url}", *flags]
    return ServerProcess(folder, app=APP, flags=named, environment={"OPENAI_API_KEY": key})


class Served(NamedTuple):
    """A server, and the endpoint of its model."""

    server: ServerProcess
    endpoint: Endpoint
    answers: dict[str, Scripted]
    """What each prompt is answered."""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One for all tests here that need no key."""
    answers: dict[str, Scripted] = {}
    with (
        Endpoint(lambda request: answers[request.prompt]) as endpoint,
        serving(tmp_path_factory.mktemp("models"), endpoint) as server,
    ):
        yield Served(server, endpoint, answers)


def serve(folder: Path, *flags: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a server that does not start, in a folder."""
    return subprocess.run(
        [command("stepwire-server"), "serve", APP, "--listen", "127.0.0.1:0", "--journal", "memory", *flags],
        cwd=folder,
        env={**{key: value for key, value in os.environ.items() if not key.startswith("OPENAI_")}, **environment},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def grpcurl(server: ServerProcess, method: str, request: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """Calls a method with grpcurl."""
    arguments = ["-plaintext", "-d", json.dumps(request), server.address, f"{SERVICE}/{method}"]
    return subprocess.run([find_grpcurl(), *arguments], capture_output=True, text=True, timeout=PATIENCE, check=False)


def told(printed: str) -> Iterator[dict[str, Any]]:
    """Gives the events of the messages that grpcurl printed, with names as the contract has them."""
    decoder = json.JSONDecoder(object_pairs_hook=lambda pairs: {_snake(name): value for name, value in pairs})
    while printed := printed.lstrip():
        message, end = decoder.raw_decode(printed)
        yield from message.get("events", [])
        printed = printed[end:]


def _snake(name: str) -> str:
    return re.sub("[A-Z]", lambda letter: f"_{letter[0].lower()}", name)


def kinds(events: Sequence[Any]) -> list[str]:
    return [event.WhichOneof("kind") for event in events]


def test_pieces_reach_the_caller_while_the_model_writes(served: Served) -> None:
    """A caller sees a piece before the model has written the next one, and at the end the whole and its counts."""
    hold = Hold()
    served.answers["Write"] = says(*["ab "] * 12, hold, "end", usage=(9, 13))
    with Client(served.server.address) as client:
        run = client.execute(call="generate", input={"prompt": "Write", "expected_length": 60})
        seen = []
        for event in run:
            seen.append(event)
            if kinds(seen).count("content") == 12:
                hold.release()  # The thirteenth piece is not written before twelve have been seen.
    assert kinds(seen) == [
        "plan_started",
        "step_started",
        *["content"] * 10,
        "step_progress",
        *["content"] * 3,
        "step_completed",
        "plan_completed",
    ]
    report = next(event for event in seen if event.HasField("step_progress"))
    assert (report.step_progress.percentage, report.message) == (50, "10 pieces, 30 of about 60 characters")
    assert run.result() == {
        "text": "ab " * 12 + "end",
        "length": 39,
        "pieces": 13,
        "finish_reason": "stop",
        "usage": {"prompt_tokens": 9, "completion_tokens": 13},
        "model": "tiny",
    }


def test_grpcurl_streams_it_too(served: Served) -> None:
    """grpcurl prints the pieces of a prompt that is a query, and of a call with a schema the value."""
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    served.answers.update({"Greet me": says("Hello", ", you"), "Count": says('{"n":', " 7}")})
    asked = grpcurl(served.server, "Execute", {"query": "Greet me"})
    called = {"plan": "generate", "input": {"prompt": "Count", "schema": schema, "max_tokens": 9}}
    counted = grpcurl(served.server, "Execute", {"call": called})
    assert [request.schema for request in served.endpoint.requests if request.prompt == "Count"] == [schema]
    assert (asked.returncode, counted.returncode) == (0, 0), asked.stderr + counted.stderr
    pieces = [event["content"]["text"] for event in told(asked.stdout) if "content" in event]
    assert pieces == ["Hello", ", you"]
    (completed,) = [event for event in told(counted.stdout) if "step_completed" in event]
    assert completed["step_completed"]["output"]["value"] == {"n": 7}
    assert {event["content"]["channel"] for event in told(counted.stdout) if "content" in event} == {"json"}


def test_an_answer_to_a_schema(served: Served) -> None:
    """Of an answer to a schema the output has the value alone, for which there is room, and a schema by which a check
    can take without end is refused with the place.
    """
    text = "x" * 600 * 1024
    served.answers["Long"] = says(json.dumps(text))
    with Client(served.server.address) as client:
        output = client.execute(call="generate", input={"prompt": "Long", "schema": {"type": "string"}}).result()
        slow = {"items": {"pattern": "(a+)+$"}}
        with pytest.raises(ExecutionFailed, match=r"Refused: schema\.items\.pattern is not taken"):
            client.execute(call="generate", input={"prompt": "Long", "schema": slow}).result()
    assert output.pop("value") == text
    assert sorted(output) == ["finish_reason", "length", "model", "pieces", "usage"]


def test_without_a_stream(served: Served) -> None:
    """A caller that takes no stream gets the whole text from start and wait, and a local model needs no key."""
    served.answers["Greet"] = says("Hello", ", you")
    with Client(served.server.address) as client:
        execution = client.start(call="generate", input={"prompt": "Greet"})
        assert output_of(client.wait(execution.execution_id))["text"] == "Hello, you"
    (request,) = [request for request in served.endpoint.requests if request.prompt == "Greet"]
    assert "authorization" not in request.headers


def test_bad_input_is_refused(served: Served) -> None:
    """Input that can't be asked is refused before anything runs, by the field's name."""
    with Client(served.server.address) as client:
        for name, value in (("prompt", ""), ("max_tokens", 0), ("temperature", 3), ("expected_length", 0)):
            with pytest.raises(InputInvalid) as raised:
                client.start(call="generate", input={"prompt": "Hi", name: value})
            assert name in str(raised.value)
    assert "Hi" not in {request.prompt for request in served.endpoint.requests}


def echoing(request: Request) -> Scripted:
    """Answers each request with another error that echoes the key."""
    echo = request.headers["authorization"]
    headers = {"X-Echo": echo, "Content-Type": "text/plain"}
    answers = [
        refuses(401, f"Incorrect API key provided: {KEY}", headers={"X-Echo": echo}, code=KEY, param=KEY),
        Scripted(status=403, headers=headers, parts=(f"{{'Authorization': '{echo}', 'cut': '{KEY[:15]}".encode(),)),
        streams(data({"error": {"message": f"you sent {request.headers}", "code": KEY}})),
        refuses(500, KEY, headers={"Retry-After": "0", "X-Echo": echo}),
        Scripted(headers={"Content-Type": "application/json", "X-Echo": echo}, parts=(json.dumps(echo).encode(),)),
        streams(delta(content="ab"), data({"choices": [{"index": 0, "delta": {}, "finish_reason": KEY}]})),
        streams(f"data: {{{echo}\n\n".encode()),
        Scripted(status=200, headers={"Content-Type": "text/event-stream", "X-Echo": echo}, parts=(b"a", Drop)),
    ]
    return answers[int(request.prompt.rsplit(" ", 1)[1])]


ENDS = (
    "ModelRefused: the endpoint answers 401 (the key is missing, wrong, or not allowed to do this): ",
    "ModelRefused: the endpoint answers 403 (the key is missing, wrong, or not allowed to do this): {'Auth",
    "ModelUnavailable: the endpoint reports an error in its answer: you sent {",
    "ModelUnavailable: the endpoint answers 500: [redacted]; it was tried 2 times",
    'ModelRefused: the endpoint answers with something that is no answer: "Bearer [redacted]',
    "[redacted]",
    "ModelUnavailable: the endpoint sent something that is no JSON",
    "ModelUnavailable: the endpoint's answer broke off: ",
)
"""What each of the answers comes to."""


def test_the_key_is_nowhere(tmp_path: Path) -> None:
    """No event, status, snapshot, log or journal has the key or a longer part of it, whatever the endpoint echoes."""
    prompt = "A marked prompt of the canary, number"
    seen: list[str] = []
    with Endpoint(echoing) as endpoint:
        flags = ["--log-level", "DEBUG", "--set", "model-tries=2"]
        with serving(tmp_path, endpoint, *flags, key=KEY) as server, Client(server.address) as client:
            for number, end in enumerate(ENDS):
                run = client.execute(call="generate", input={"prompt": f"{prompt} {number}"})
                seen += [to_json(event) for event in run]
                try:
                    ended = run.result()["finish_reason"]
                except ExecutionFailed as error:
                    ended = f"{error}{error!r}"
                assert end in ended
                seen += [ended, str(client.get(run.execution_id))]
            with pytest.raises(InputInvalid) as raised:
                client.start(call="generate", input={"prompt": ""})
            snapshots = (list(client.list()), client.statistics(), client.server_info(), client.operations())
            seen += [str(raised.value), repr(raised.value), *map(str, snapshots)]
            assert server.terminate() == 0
        assert len(endpoint.requests) > 8
        seen.append(server.log.read_text("utf-8"))
    kept = b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.name.startswith("journal"))
    if os.environ.get("TEST_JOURNAL") != "memory":
        assert prompt.encode() in kept, "the journal can be searched"
    assert prompt in "".join(seen)
    assert "[redacted]" in "".join(seen)
    for length in (len(KEY), 8):
        for start in range(len(KEY) - length + 1):
            part = KEY[start : start + length]
            assert part.encode() not in kept
            assert not [text for text in seen if part in text]


def test_the_start_says_what_is_missing(tmp_path: Path) -> None:
    """Without a model, or without the library, `serve` ends in one line that says what to do."""
    without = tmp_path / "without"
    without.mkdir()
    (without / "openai.py").write_text("raise ModuleNotFoundError(name='openai')\n", "utf-8")
    local = ["--set", "model=tiny", "--set", "model-url=http://localhost:9/v1"]
    for folder, flags, text in (
        (tmp_path, [], "no model is named: --set model=NAME, and --set model-url=URL where it is not OpenAI's"),
        (without, local, "models need the openai library: pip install 'stepwire[server,agents]'"),
    ):
        done = serve(folder, *flags)
        assert done.returncode != 0
        assert text in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_what_an_import_loads() -> None:
    """Importing the app loads neither the openai library nor what that needs: the start does."""
    code = "import json, sys, stepwire_server.models; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr
    loaded = {name.partition(".")[0] for name in json.loads(done.stdout)}
    assert not loaded & {"openai", "httpx", "httpx2", "anyio", "grpc", "click"}
