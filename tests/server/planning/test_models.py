"""Plans that a model makes, at an endpoint that is scripted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.serving import ServerProcess
from tests.server.models.endpoint import Endpoint, Request, Scripted, says

from stepwire import Client, ExecutionFailed, event_type

from .test_stages import served, stages

GOOD: dict[str, Any] = {
    "calls": [
        {"id": "days", "tool": "days_between", "input": {"start": "2026-01-01", "end": "2026-03-01"}, "text": "days"},
        {"id": "pay", "tool": "calculate", "input": {"expression": "${days/weekdays} * 80"}, "text": "pay"},
        {"id": "other", "tool": "calculate", "input": {"expression": "1 + 1"}},
    ],
    "names": {"Pay": "pay"},
    "answer": "Over ${days} days that is ${pay}.",
}
BROKEN: dict[str, Any] = {
    "calls": [
        {"id": "a", "tool": "tea", "input": {}},
        {"id": "b", "tool": "days_between", "input": {"start": "2026-01-01", "end": "${c}"}},
    ]
}


def script(request: Request) -> Scripted:
    """Answers by what is asked: a good plan, one that is good the second time, one that never is, or none at all."""
    first = next(message["content"] for message in request.messages if message["role"] == "user")
    again = "That plan can't run" in request.prompt
    if "salary" in first:
        plan = GOOD
    elif "mend" in first:
        plan = GOOD if again else BROKEN
    elif "hello" in first:
        plan = {"calls": [], "answer": "Hello."}
    else:
        plan = BROKEN
    text = json.dumps(plan)
    return says(text[:20], text[20:])


@pytest.fixture(scope="module")
def endpoint() -> Iterator[Endpoint]:
    """The endpoint."""
    with Endpoint(script) as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, endpoint: Endpoint) -> Iterator[Client]:
    """A client of a server whose plans the endpoint's model makes."""
    folder = tmp_path_factory.mktemp("planning")
    settings = {"model": "tiny", "model-url": endpoint.url, "memory": str(folder / "memory")}
    flags = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    environment = {"OPENAI_API_KEY": "sk-canary"}
    app = "stepwire_server.planning:app"
    with (
        ServerProcess(folder, app=app, flags=flags, environment=environment) as server,
        Client(server.address) as client,
    ):
        yield client
        assert "sk-canary" not in server.log.read_text("utf-8")


def test_a_good_plan(client: Client, endpoint: Endpoint) -> None:
    """A model's plan runs: references are followed, names kept, its answer filled in; its words stream."""
    events, response = served(client, "what salary is due for January and February at 80 a day?", "model")
    assert response["text"] == "Over 59 days that is 3280."
    assert response["names"] == {"pay": {"text": "pay", "value": 3280}}
    assert "".join(event.content.text for event in events if event_type(event) == "content") == json.dumps(GOOD)
    assert "error" not in stages(events)
    served(client, "hello", "model")
    told = endpoint.requests[-1].prompt
    assert '"named results": {"pay": 3280}' in told
    assert '"text_statistics"' in told
    assert endpoint.requests[-1].schema is not None


def test_an_answer_without_calls(client: Client) -> None:
    """Where no tool is needed, a model's plan may be its answer."""
    assert served(client, "hello")[1]["text"] == "Hello."


def test_a_plan_is_repaired_once(client: Client, endpoint: Endpoint) -> None:
    """A plan that can't run is shown to the model with every problem by its field, and the repaired one runs."""
    before = len(endpoint.requests)
    events, response = served(client, "mend this")
    assert response["answers"][1]["value"] == 3280
    assert len(endpoint.requests) - before == 2
    assert "calls[0].tool: there is no tool 'tea'" in endpoint.requests[-1].prompt
    assert "calls[1].input: refers to ${c}, and there is no such call" in endpoint.requests[-1].prompt
    [error] = [event.message for event in events if event_type(event) == "error"]
    assert "calls[0].tool there is no tool 'tea'" in error


def test_a_plan_that_stays_broken(client: Client, endpoint: Endpoint) -> None:
    """A plan that is broken twice runs nothing: the execution fails with the problems by field."""
    before = len(endpoint.requests)
    run = client.execute(query="anything else")
    events = list(run)
    with pytest.raises(ExecutionFailed, match=r"after it was repaired once: calls\[0\].tool there is no tool 'tea'"):
        run.result()
    assert len(endpoint.requests) - before == 2
    assert stages(events) == ["start", "context", "analyzing", "planning", "validation", "error"]


def test_a_model_needs_its_library(tmp_path: Path) -> None:
    """Where the openai library is missing, `serve` says in one line what to install."""
    (tmp_path / "openai.py").write_text("raise ModuleNotFoundError('no openai', name='openai')\n", "utf-8")
    flags = ["--set", "model=tiny", "--set", "model-url=http://127.0.0.1:9/v1"]
    server = ServerProcess(tmp_path, app="stepwire_server.planning:app", cwd=tmp_path, flags=flags)
    with pytest.raises(AssertionError, match=r"stepwire\[server,agents\]"):
        server.start()
