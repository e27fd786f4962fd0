"""The app: served, its events in order, over a restart, with a model and without, with an agent of one's own."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.serving import PATIENCE, ServerProcess, find_grpcurl
from tests.server.models.endpoint import Endpoint, Hold, Request, Scripted, says

from stepwire import Client
from stepwire.errors import InputInvalid, QueryNotUnderstood
from stepwire.v1 import AgentUpdate, Event, SupervisorUpdate
from stepwire_server.supervisor import Crew, create_app

APP = "stepwire_server.supervisor:app"
GAP = {
    "task": "how far apart two numbers are",
    "tests": "assert gap(3, 5) == 2\nassert gap(9, 4) == 5\nassert gap(0, -7) == 7",
}
COUNT = {
    "task": "count words",
    "tests": "assert words('a b') == 2\nassert words('') == 0\nassert words('x y z') == 3",
    "code": "def words(text):\n    n = 1\n    for word in text.split():\n        n += 1\n    return n\n",
}

OWN = '''
"""A crew with an agent of its own."""
from stepwire_server.supervisor import Crew, create_app

crew = Crew()


@crew.agent("licensor", "Puts a licence above the code.", when=lambda state: "licensor" not in state["turns"])
async def licensor(step, state):
    await step.agent("licensor", "think", "It has none yet")
    return {"code": "# MIT\\n" + state["code"]}


app = create_app("own", crew=crew)
'''


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """The app as it comes, for all tests that need no other."""
    with ServerProcess(tmp_path_factory.mktemp("served"), app=APP) as server:
        yield server


def _kinds(events: list[Event]) -> list[str]:
    return [str(event.WhichOneof("kind")) for event in events]


def _turns(events: list[Event]) -> list[str]:
    return [event.supervisor.next_agent for event in events if event.supervisor.kind == SupervisorUpdate.KIND_DECISION]


def test_a_function_is_written_and_tested(served: ServerProcess) -> None:
    """Without a model the plan grows turn by turn, each decision is explained, and the code that comes is right."""
    with Client(served.address) as client:
        run = client.execute(call="build", input=GAP)
        events = list(run)
        output = run.result()
    assert _turns(events) == ["research", "architect", "codesmith", "responder"]
    assert output["solved"], output
    assert output["turns"] == _turns(events)
    names: dict[str, Any] = {}
    exec(output["code"], names)
    assert [names["gap"](a, b) for a, b in ((1, 100), (100, 1), (-3, -3))] == [99, 99, 0]
    for turn in range(1, 5):
        mine = [event for event in events if event.step_id == f"supervise-{turn}"]
        kinds = [SupervisorUpdate.Kind.Name(e.supervisor.kind) for e in mine if e.HasField("supervisor")]
        assert kinds == ["KIND_ANALYSIS", "KIND_DECISION", "KIND_ROUTING"]
        assert _kinds(mine)[-1] == "step_completed"
        (decision,) = [e.supervisor for e in mine if e.supervisor.kind == SupervisorUpdate.KIND_DECISION]
        assert decision.reasoning
        assert decision.instructions
        assert 0 < decision.confidence <= 1
    assert _kinds(events).count("plan_revised") == 4
    said = {(e.agent.agent, AgentUpdate.Kind.Name(e.agent.kind)) for e in events if e.HasField("agent")}
    assert {("codesmith", f"KIND_{kind}") for kind in ("THINK", "PROGRESS", "RESULT")} <= said
    assert ("architect", "KIND_DECISION") in said
    artifacts = {event.artifact.name: event.artifact for event in events if event.HasField("artifact")}
    assert set(artifacts) == {"research", "design", "code", "tests", "answer"}
    assert artifacts["code"].value.string_value == output["code"]


def test_code_is_mended(served: ServerProcess) -> None:
    """Code that fails its tests is mended by the smallest edit that helps, which is named."""
    with Client(served.address) as client:
        run = client.execute(call="build", input=COUNT)
        events = list(run)
        output = run.result()
    assert _turns(events) == ["research", "architect", "reviewfix", "responder"]
    assert output["answer"] == "All 3 tests pass: line 2: 1 became 0."
    assert output["code"] == COUNT["code"].replace("n = 1", "n = 0")


def test_by_a_query(served: ServerProcess) -> None:
    """A query with lines of asserts is a task with tests; one without is refused with what is missing."""
    with Client(served.address) as client:
        assert client.execute(query="Double a number\nassert double(2) == 4\nassert double(5) == 10").result()["solved"]
        with pytest.raises(Exception, match="the query has no tests"):
            client.execute(query="Double a number").result()


@pytest.mark.parametrize(("field", "value"), [("tests", "assert ("), ("tests", ""), ("task", "x" * 20_001)])
def test_bad_input_is_refused(served: ServerProcess, field: str, value: str) -> None:
    """Nothing runs where the input can't be used, and the refusal names the field."""
    with Client(served.address) as client, pytest.raises(InputInvalid, match=field):
        client.execute(call="build", input={**GAP, field: value}).result()


@pytest.mark.parametrize("operation", ["supervise", "codesmith"])
def test_a_state_that_is_none(served: ServerProcess, operation: str) -> None:
    """A plan of one's own that gives an operation no state is refused, and told what a state has."""
    given = {"turn": 1} if operation == "supervise" else {"instructions": ""}
    plan = {"steps": [{"id": "a", "operation": operation, "input": {**given, "state": {"task": "x", "tests": 3}}}]}
    with Client(served.address) as client, pytest.raises(InputInvalid, match="'tests' must be a text"):
        client.execute(plan=plan).result()


async def test_a_query_of_blank_lines() -> None:
    """Blank lines without end are read at once."""
    planner = create_app().catalog().planner
    assert planner is not None
    began = time.process_time()
    with pytest.raises(QueryNotUnderstood):
        await planner("\n" * 9_999)
    assert time.process_time() - began < 0.5


def test_by_grpcurl(served: ServerProcess) -> None:
    """grpcurl streams the supervisor's decisions and the agents' words as JSON."""
    body = json.dumps({"call": {"plan": "build", "input": COUNT}})
    done = subprocess.run(
        [find_grpcurl(), "-plaintext", "-d", body, served.address, "stepwire.v1.ExecutionService/Execute"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    assert '"nextAgent": "reviewfix"' in done.stdout
    assert '"kind": "KIND_THINK"' in done.stdout
    assert '"planCompleted"' in done.stdout


def test_an_agent_of_ones_own(tmp_path: Path) -> None:
    """An author's agent has its turn where its rule says so, and what it returns is part of the answer."""
    (tmp_path / "own.py").write_text(OWN, "utf-8")
    with ServerProcess(tmp_path, app="own:app", cwd=tmp_path) as server, Client(server.address) as client:
        run = client.execute(call="build", input=COUNT)
        events = list(run)
        assert _turns(events) == ["research", "licensor", "architect", "reviewfix", "responder"]
        assert run.result()["solved"]
        assert "It has none yet" in [event.message for event in events]


def test_a_restart_in_the_middle(tmp_path: Path) -> None:
    """A server that is killed while an agent works goes on with that turn: earlier ones are kept, none comes twice."""
    given = {**COUNT, "tests": f"import time\ntime.sleep(0.2)\n{COUNT['tests']}"}
    with ServerProcess(tmp_path, app=APP) as server, Client(server.address) as client:
        run = client.execute(call="build", input=given)
        events: list[Event] = []
        killed = False
        for event in run:
            events.append(event)
            if event.step_id == "turn-3-reviewfix" and event.HasField("agent") and event.attempt == 1 and not killed:
                killed = True
                server.kill()
                server.start()
        assert [event.sequence for event in events] == list(range(1, len(events) + 1))
        assert "plan_recovered" in _kinds(events)
        completed = [event.step_id for event in events if event.HasField("step_completed")]
        assert len(completed) == len(set(completed)) == 8
        (again,) = [event for event in events if event.HasField("step_retrying")]
        assert again.step_id == "turn-3-reviewfix"
        assert run.result()["solved"]


DYING = """
import os
from pathlib import Path
from stepwire_server.supervisor import Crew, create_app

DIED = Path("died")


class Dying(Crew):
    def __getitem__(self, name):
        # What was decided is saved by now; what comes of it is not there yet.
        if name == "licensor" and not DIED.exists():
            DIED.touch()
            os.kill(os.getpid(), 9)
        return super().__getitem__(name)


crew = Dying()


@crew.agent("licensor", "Puts a licence above the code.", when=lambda state: not DIED.exists())
async def licensor(step, state):
    return {}


app = create_app("own", crew=crew)
"""


def test_a_restart_after_a_decision(tmp_path: Path) -> None:
    """A decision that was saved holds after a crash, though the rules would decide something else by now."""
    (tmp_path / "own.py").write_text(DYING, "utf-8")
    with ServerProcess(tmp_path, app="own:app", cwd=tmp_path) as server, Client(server.address) as client:
        run = client.execute(call="build", input=COUNT)
        server.process.wait(PATIENCE)
        server.kill()
        server.start()
        events = list(run)
        second = [event for event in events if event.step_id == "supervise-2" and event.HasField("supervisor")]
        said = {event.attempt: event.supervisor.next_agent for event in second}
        assert said[2] == "licensor"
        assert run.result()["turns"] == ["research", "licensor", "architect", "reviewfix", "responder"]


def test_a_crew_without_an_end() -> None:
    """A crew whose agents never end the work is refused at once: nobody could give the answer."""
    crew = Crew()
    crew.agent("responder", "Says something, and does not end the work.")(lambda step, state: None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="last=True"):
        create_app(crew=crew)


def _script(request: Request) -> Scripted:
    """Decides as the rules would, but for a first decision that is none; writes nonsense, and mends it when told."""
    if request.schema is not None:
        state = request.prompt
        if '"turns"' not in state:
            return says('{"next_agent": "nobody"}')
        turns = json.loads(state[state.index("{") : state.rindex("}") + 1])["turns"]
        agent = {"research": "codesmith", "codesmith": "reviewfix"}.get(turns[-1], "responder")
        decision = {"reasoning": f"after {turns[-1]}", "confidence": 0.5, "next_agent": agent, "instructions": "go"}
        return says(json.dumps(decision))
    if "These fail" in request.prompt:
        return says("```python\ndef gap(a, b):\n", "    return abs(a - b)\n```")
    return says("Here:\n```python\ndef gap(a, b):\n", "    return a + b\n```")


@pytest.fixture(scope="module")
def modelled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServerProcess, Endpoint, Hold]]:
    """The app with a model, which holds back the end of what it writes for a task that has the word "held"."""
    hold = Hold()

    def script(request: Request) -> Scripted:
        if "held" not in request.prompt:
            return _script(request)
        if request.schema is not None:
            return says("no decision")
        return says("```python\ndef gap(a, b):\n", hold, "    return abs(a - b)\n```")

    with (
        Endpoint(script) as endpoint,
        ServerProcess(
            tmp_path_factory.mktemp("modelled"),
            app=APP,
            flags=["--set", "model=tiny", "--set", f"model-url={endpoint.url}"],
            environment={"OPENAI_API_KEY": "canary-4711"},
        ) as server,
    ):
        yield server, endpoint, hold


def test_with_a_model(modelled: tuple[ServerProcess, Endpoint, Hold]) -> None:
    """A model decides and writes: a decision that can't be used falls back to the rules and says so, what it writes is
    tested, and it is told what failed.
    """
    server, endpoint, _ = modelled
    with Client(server.address) as client:
        run = client.execute(call="build", input=GAP)
        events = list(run)
        output = run.result()
        mending = [request for request in endpoint.requests if "These fail" in request.prompt]
    assert _turns(events) == ["research", "codesmith", "reviewfix", "responder"]
    decided = [e.supervisor.details["decided_by"] for e in events if e.supervisor.next_agent and e.supervisor.reasoning]
    assert decided == ["rules", "model tiny", "model tiny", "model tiny"]
    assert any("the rules decide" in event.message for event in events if event.HasField("error"))
    assert output["answer"] == "All 3 tests pass: mended by tiny."
    assert "gap(3, 5) gave 8, wanted 2" in mending[0].prompt
    code = "".join(e.content.text for e in events if e.content.channel == "code" and e.step_id == "turn-2-codesmith")
    assert "return a + b" in code
    everything = "".join(map(str, events)) + server.log.read_text("utf-8")
    assert "canary-4711" not in everything


def test_events_come_while_their_step_runs(modelled: tuple[ServerProcess, Endpoint, Hold]) -> None:
    """Each piece that a model writes reaches the caller while the model still holds the rest back."""
    server, _, hold = modelled
    with Client(server.address) as client:
        run = client.execute(call="build", input={**GAP, "task": "held"})
        held = False
        for event in run:
            if event.HasField("content") and event.content.channel == "code" and not held:
                assert hold.reached.wait(PATIENCE)
                held = True
                hold.release()
            assert held or event.step_id != "turn-3-codesmith" or not event.HasField("step_completed")
        assert held
        assert run.result()["solved"]


@pytest.mark.parametrize("setting", ["max-turns=0", "search-seconds=soon", "documents=nowhere"])
async def test_settings_that_cannot_be_used(setting: str) -> None:
    """The start ends with a line that names the setting."""
    name, _, value = setting.partition("=")
    with pytest.raises(ValueError, match=name):
        await create_app().start({name: value})
