"""The command `stepwire` against a server that plays scripts."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from google.rpc import code_pb2

from stepwire import errors
from stepwire.terminal import outages
from stepwire.terminal.commands import stepwire
from stepwire.terminal.live import LiveView
from stepwire.terminal.output import error_text
from stepwire.terminal.views import JsonView, PlainView
from stepwire.v1 import (
    BuildPlanResponse,
    CancelExecutionResponse,
    Event,
    EventBatch,
    Execution,
    ExecutionState,
    GetExecutionResponse,
    ListExecutionsResponse,
    ListOperationsResponse,
    NamedPlan,
    Operation,
    PauseExecutionResponse,
    Plan,
    Progress,
    ResumeExecutionResponse,
    StartExecutionResponse,
    Step,
)
from stepwire.values import to_struct, to_value

from .scripted import EXECUTION, HANG, ScriptedServer, Status, batch, completed, event, numbers, page, welcome

Command = Any


@pytest.fixture
def command(server: ScriptedServer) -> Command:
    """Runs a command against the server; on a terminal where `terminal` is true."""

    def run(*words: str, terminal: bool = False, **keywords: Any) -> Result:
        env = {"TTY_COMPATIBLE": "1", "COLUMNS": "120", "NO_COLOR": "1"} if terminal else {"TTY_COMPATIBLE": "0"}
        return CliRunner().invoke(stepwire, ["--server", server.target, *words], env=env, **keywords)

    return run


def story(output: object = None) -> EventBatch:
    """An execution of two steps, from beginning to end."""

    def at(made: Event, percentage: float, step: int, name: str = "", message: str = "") -> Event:
        made.progress.CopyFrom(Progress(percentage=percentage, current_step=step, total_steps=2))
        made.step_id, made.step_name, made.message = f"s{step}" if name else "", name, message
        return made

    events = [
        at(event(1, "plan_started"), 0, 0),
        at(event(2, "step_started"), 0, 1, "Search"),
        at(event(3), 12.4, 1, "Search", "Using agents"),
        at(event(4, "step_completed"), 50, 1, "Search"),
        at(event(5, "step_started"), 50, 2, "Compile"),
        at(event(6, "content"), 50, 2, "Compile"),
        at(event(7, "content"), 50, 2, "Compile"),
        at(event(8, ""), 50, 2, "Compile", "of a newer server"),
        at(event(9, "step_completed"), 99, 2, "Compile"),
        at(completed(10, output), 100, 2, message="2/2 steps succeeded"),
    ]
    events[5].content.text = "some "
    events[6].content.text = "text"
    events[3].step_completed.execution_time.FromMilliseconds(1)
    events[9].plan_completed.execution_time.FromMilliseconds(2)
    return batch(*events)


def ending(kind: str) -> EventBatch:
    made = event(1, kind)
    if kind == "plan_failed":
        made.plan_failed.error.message = "1 of 2 steps failed"
    elif kind == "plan_cancelled":
        made.plan_cancelled.reason = "wrong city"
    made.step_id = ""
    return batch(made)


class TestRun:
    def test_plain(self, server: ScriptedServer, command: Command) -> None:
        """Away from a terminal a run is shown line by line, and then its output."""
        server.plays([welcome(), story({"pages": 3})])
        result = command("run", "a question")
        assert result.exit_code == 0
        assert result.stderr == "stepwire: execution e-1\n"
        assert result.stdout == (
            "Starting: 2 steps\n"
            "  Step 1/2: Search\n"
            "     12%: Using agents\n"
            "  Step 1/2: Search (done in 0.001s)\n"
            "  Step 2/2: Compile\n"
            "some text\n"
            "      of a newer server\n"
            "  Step 2/2: Compile (done in 0.000s)\n"
            "Completed: 2/2 steps succeeded (0.002s)\n"
            '{\n  "pages": 3\n}\n'
        )

    def test_json(self, server: ScriptedServer, command: Command) -> None:
        """With --json each event is one line of JSON, and nothing else is printed."""
        server.plays([welcome(), story("x")])
        result = command("run", "a question", "--json")
        lines = [json.loads(line) for line in result.output.splitlines()]
        assert [line["sequence"] for line in lines] == list(range(1, 11))
        assert lines[-1]["data"]["output"] == "x"

    def test_live(self, server: ScriptedServer, command: Command) -> None:
        """On a terminal there are bars; what is done stays, and the output is shown as Markdown."""
        server.plays([welcome(), story({"markdown": "# Title\n\n- item"})])
        result = command("run", "a question", terminal=True)
        assert result.exit_code == 0, result.output
        for text in ("done      1/2 Search", "done      2/2 Compile", "Completed", "100%", "some text", "item"):
            assert text in result.output
        assert "# Title" not in result.output

    def test_plain_on_a_terminal(self, server: ScriptedServer, command: Command) -> None:
        """--plain gives lines on a terminal too."""
        server.plays([welcome(), story()])
        assert "     12%: Using agents" in command("run", "q", "--plain", terminal=True).output

    def test_markdown_elsewhere(self, server: ScriptedServer, command: Command) -> None:
        """Away from a terminal Markdown is printed as it is."""
        server.plays([welcome(), story({"markdown": "# Title"})])
        assert command("run", "q").output.endswith("\n# Title\n")

    def test_no_output(self, server: ScriptedServer, command: Command) -> None:
        """Nothing is printed for no output."""
        server.plays([welcome(), story(None)])
        assert command("run", "q").output.splitlines()[-1].startswith("Completed")

    @pytest.mark.parametrize(
        ("kind", "code", "text"),
        [("plan_failed", 1, "Failed: 1 of 2 steps failed"), ("plan_cancelled", 3, "Cancelled: wrong city")],
    )
    @pytest.mark.parametrize("mode", [[], ["--json"], ["live"]])
    def test_exit_codes(
        self, server: ScriptedServer, command: Command, kind: str, code: int, text: str, mode: list[str]
    ) -> None:
        """A run that failed exits 1, one that was cancelled 3, in each way of showing it."""
        server.plays([welcome(), ending(kind)])
        result = command("run", "q", *[word for word in mode if word != "live"], terminal=mode == ["live"])
        assert result.exit_code == code
        if not mode:
            assert text in result.output

    def test_options(self, server: ScriptedServer, command: Command) -> None:
        """Each option reaches the request."""
        server.plays([welcome(), story()])
        command(
            *("run", "--call", "refund", "--input", '{"order": "A-17"}', "--session", "web", "--label", "a=b=c"),
            *("--request-id", "r-1", "--parallel", "3", "--simulate", "--time-limit", "1.5", "--fail-fast"),
        )
        sent = server.calls[0].request
        assert (sent.call.plan, sent.call.input.fields["order"].string_value) == ("refund", "A-17")
        assert (sent.session_id, dict(sent.labels), sent.request_id) == ("web", {"a": "b=c"}, "r-1")
        options = sent.options
        assert (options.max_parallel_steps, options.simulate, options.failure_policy) == (3, True, 2)
        assert options.time_limit.ToTimedelta() == timedelta(seconds=1.5)

    def test_plan(self, server: ScriptedServer, command: Command, tmp_path: Path) -> None:
        """A plan comes from a file, or from standard input."""
        text = '{"steps": [{"id": "a", "operation": "o"}]}'
        (tmp_path / "plan.json").write_text(text)
        server.plays([welcome(), story()], [welcome(), story()])
        command("run", "--plan", str(tmp_path / "plan.json"))
        command("run", "--plan", "-", input=text)
        assert [call.request.plan.steps[0].id for call in server.calls] == ["a", "a"]

    def test_step(self, server: ScriptedServer, command: Command) -> None:
        """--step runs one operation, whatever its name, as a plan of one step."""
        server.plays([welcome(), story()], [welcome(), story()])
        command("run", "--step", "charge", "--input", '{"order": "A-17"}')
        command("run", "--step", "shop.charge")
        first, second = (call.request.plan.steps for call in server.calls)
        assert list(first) == [Step(id="charge", name="charge", operation="charge", input=to_struct({"order": "A-17"}))]
        assert list(second) == [Step(id="shop-charge", name="shop.charge", operation="shop.charge")]

    def test_no_such_plan(self, server: ScriptedServer, command: Command) -> None:
        """Where there is no plan of a name, it says how an operation is run."""
        server.plays([errors.PlanNotFound("there is no plan 'charge'; this server has none")])
        result = command("run", "--call", "charge")
        assert result.exit_code == 4
        assert "stepwire run --step OPERATION --input JSON" in result.stderr

    @pytest.mark.parametrize("mode", ["plain", "--json", "live"])
    def test_outage(self, server: ScriptedServer, command: Command, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
        """A lost connection is told after a while, and that it is back before what comes then."""
        back = threading.Event()
        view = {"plain": PlainView, "--json": JsonView, "live": LiveView}[mode]
        shown = view.notice

        def notice(self: Any, text: str) -> None:
            shown(self, text)
            if text == outages.LOST:
                back.set()

        monkeypatch.setattr(view, "notice", notice)
        monkeypatch.setattr(outages, "_BEFORE_TELLING", 0.05)
        rest = story().events[3:]
        server.plays(
            [welcome(), batch(*story().events[:3]), Status(code_pb2.UNAVAILABLE)], [back, welcome(3), batch(*rest)]
        )
        result = command("run", "q", *[word for word in [mode] if word == "--json"], terminal=mode == "live")
        assert result.exit_code == 0, result.output
        places = [result.output.index(text) for text in (outages.LOST, outages.BACK, "Compile")]
        assert places == sorted(places)
        if mode == "--json":
            assert len(result.stdout.splitlines()) == 10

    def test_detach(self, server: ScriptedServer, command: Command) -> None:
        """--detach prints the id and leaves."""
        server.replies("StartExecution", StartExecutionResponse(execution=Execution(execution_id=EXECUTION)))
        assert command("run", "q", "--detach").output == "e-1\n"

    @pytest.mark.parametrize(
        "words",
        [
            ["run"],
            ["run", "q", "--call", "c"],
            ["run", "--step", "o", "--call", "c"],
            ["run", "q", "--input", "{}"],
            ["run", "--call", "c", "--input", "[]"],
            ["run", "--call", "c", "--input", "{"],
            ["run", "--plan", "no-such-file.json"],
            ["run", "q", "--label", "a"],
            ["run", "q", "--parallel", "0"],
            ["watch", "e", "--after", "-1"],
            ["ls", "--state", "sleeping"],
            ["dance"],
        ],
    )
    def test_usage(self, server: ScriptedServer, command: Command, words: list[str]) -> None:
        """Wrong usage exits 2, and nothing is sent."""
        result = command(*words)
        assert result.exit_code == 2
        assert "Error" in result.output
        assert server.calls == []

    def test_refused(self, server: ScriptedServer, command: Command) -> None:
        """What the server refuses exits 4, with each violation by its field."""
        violations = [errors.Violation("plan.steps[0].depends_on[0]", "no step has the id 'b'")]
        server.plays([errors.PlanInvalid("the plan is invalid", violations=violations)])
        result = command("run", "q")
        assert result.exit_code == 4
        assert result.stderr == (
            "stepwire: the plan is invalid\n  plan.steps[0].depends_on[0]: no step has the id 'b'\n"
        )

    def test_refused_once(self, server: ScriptedServer, command: Command) -> None:
        """What the message says is not said again below it."""
        violations = [errors.Violation("labels", "has too many")]
        server.plays([errors.RequestMalformed("the request is malformed: labels has too many", violations=violations)])
        assert command("run", "q").stderr == "stepwire: the request is malformed: labels has too many\n"

    def test_plan_with_an_unknown_field(self, server: ScriptedServer, command: Command) -> None:
        """A plan's field that does not exist is named in one line, and nothing is sent."""
        result = command("run", "--plan", "-", input='{"steps": [{"id": "a", "operatoin": "o"}]}')
        assert result.exit_code == 4
        assert result.stderr.startswith("stepwire: The plan can't be read: plan.steps[0] has no field 'operatoin'; ")
        assert "depends_on" in result.stderr
        assert result.stderr.count("\n") == 1
        assert server.calls == []

    def test_limit(self, server: ScriptedServer, command: Command) -> None:
        """A limit says when to try again."""
        server.replies("StartExecution", errors.LimitExecutions("full", retry_after=timedelta(seconds=7)))
        result = command("run", "q", "--detach")
        assert (result.exit_code, result.stderr) == (4, "stepwire: full\n  Try again in 7 s.\n")

    @pytest.mark.parametrize("words", [["run", "q"], ["run", "q", "--detach"]])
    def test_a_start_without_an_answer(self, server: ScriptedServer, command: Command, words: list[str]) -> None:
        """Where nobody knows whether the work was accepted, the request id that finds it is said."""
        server.plays(*[[Status(code_pb2.UNAVAILABLE, "Socket closed")]] * 10)
        server.replies("StartExecution", *[Status(code_pb2.UNAVAILABLE, "Socket closed")] * 10)
        result = command(*words)
        [request_id] = {call.request.request_id for call in server.calls}
        assert result.exit_code == 4
        assert f"accepted all the same: the same command with --request-id {request_id} finds it" in result.stderr

    def test_an_empty_request_id(self, server: ScriptedServer, command: Command) -> None:
        """An empty --request-id is none: the command gives one, by which a second try is the same execution."""
        server.replies(
            "StartExecution", Status(14), StartExecutionResponse(execution=Execution(execution_id=EXECUTION))
        )
        assert command("run", "q", "--detach", "--request-id", "").exit_code == 0
        [request_id] = {call.request.request_id for call in server.calls}
        assert len(request_id) > 10

    @pytest.mark.parametrize("words", [["show", "e-1"], ["ls"], ["watch", "e-1", "--plain"]])
    def test_control_characters(self, server: ScriptedServer, command: Command, words: list[str]) -> None:
        """What came over the wire moves no cursor and sets no title."""
        odd = "harm\x1b]0;owned\x07\x1b[2J\x9b31mless"
        execution = Execution(execution_id=EXECUTION, query=odd, state=4)
        server.replies("GetExecution", GetExecutionResponse(execution=execution))
        server.replies("ListEvents", EventBatch())
        server.replies("ListExecutions", ListExecutionsResponse(executions=[execution]))
        told = event(1, "content")
        told.content.text = odd + "\n"
        server.plays([welcome(), batch(told, event(2, message=odd), completed(3))])
        result = command(*words)
        assert result.exit_code == 0
        assert "harm" in result.stdout
        assert "less" in result.stdout
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", result.output)

    @pytest.mark.parametrize(
        ("state", "code", "text"), [("FAILED", 1, "the bank said no"), ("CANCELLED", 3, "was cancelled")]
    )
    def test_watch_after_the_end(
        self, server: ScriptedServer, command: Command, state: str, code: int, text: str
    ) -> None:
        """Watching from after the end says how it ended."""
        welcomed = welcome(5, state=ExecutionState.Value(f"EXECUTION_STATE_{state}"), last=5)
        welcomed.execution.error.message = text
        server.plays([welcomed])
        result = command("watch", EXECUTION, "--after", "5")
        assert result.exit_code == code
        assert "It had ended before: " in result.stderr
        assert text in result.stderr

    def test_ls_asks_no_page_too_many(self, server: ScriptedServer, command: Command) -> None:
        """A list of two is one page of two."""
        found = [Execution(execution_id=f"e-{number}", state=4) for number in range(2)]
        server.replies("ListExecutions", ListExecutionsResponse(executions=found, next_page_token="t"))
        assert command("ls", "--limit", "2").exit_code == 0
        assert server.names() == ["ListExecutions"]

    def test_what_cannot_be_sent(self, server: ScriptedServer, command: Command) -> None:
        """An input that can't be sent is refused before anything is, with its field."""
        result = command("run", "--call", "c", "--input", '{"n": 9007199254740993}')
        assert result.exit_code == 4
        assert "input.n" in result.stderr
        assert server.calls == []

    def test_interrupted(self, server: ScriptedServer) -> None:
        """Ctrl-C leaves with 130, says that the execution goes on, and how to watch and cancel it."""
        server.plays([welcome(), numbers(1), HANG])
        with subprocess.Popen(
            [sys.executable, "-m", "stepwire", "--server", server.target, "run", "q", "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={"PYTHONUNBUFFERED": "1"},
            text=True,
        ) as process:
            assert process.stdout is not None
            assert '"sequence":1' in process.stdout.readline()
            process.send_signal(signal.SIGINT)
            _, told = process.communicate(timeout=20)
        assert process.returncode == 130, told
        assert f"stepwire --server {server.target} watch e-1 --after" in told
        assert f"stepwire --server {server.target} cancel e-1" in told
        assert "Traceback" not in told
        assert server.calls[0].left.wait(10)
        assert server.names() == ["Execute"]


class TestOthers:
    def test_nobody_there(self) -> None:
        """A server that can't be reached exits 4 in a few words."""
        gone = ScriptedServer()
        gone.stop()
        result = CliRunner().invoke(stepwire, ["ls"], env={"STEPWIRE_SERVER": gone.target})
        assert result.exit_code == 4
        assert result.stderr.startswith(f"stepwire: {gone.target} can't be reached: ")
        assert "Is a server running there?" in result.stderr

    @pytest.mark.parametrize(
        ("address", "text"),
        [
            ("localhost", "'localhost' has no port; write HOST:PORT, such as localhost:50051"),
            ("[::1]", "has no port; write HOST:PORT, such as [::1]:50051"),
            ("::1", "an IPv6 address stands in brackets"),
            ("http://localhost:50051", "leave out http://"),
            ("localhost:grpc", "is not of the form HOST:PORT"),
            (":50051", "is not of the form HOST:PORT"),
        ],
    )
    @pytest.mark.parametrize("place", ["before", "after", "environment"])
    def test_address(self, address: str, text: str, place: str) -> None:
        """An address that can't be one says what is missing, wherever it stands."""
        words = {"before": ["--server", address, "ls"], "after": ["ls", "--server", address], "environment": ["ls"]}
        env = {"STEPWIRE_SERVER": address, "COLUMNS": "200"} if place == "environment" else {"COLUMNS": "200"}
        result = CliRunner().invoke(stepwire, words[place], env=env)
        assert (result.exit_code, text in result.stderr) == (2, True), result.stderr

    @pytest.mark.parametrize("address", ["unix:/run/stepwire.sock", "dns:///server:50051", "[::1]:50051", "a.b:1"])
    def test_other_addresses(self, address: str) -> None:
        """The other forms of gRPC's addresses are taken as they are."""
        result = CliRunner().invoke(stepwire, ["run", "--server", address])
        assert "Give one of these" in result.stderr

    def test_address_after_the_command(self, server: ScriptedServer) -> None:
        """--server stands after a command as well as before it, and there it wins."""
        server.replies("ListExecutions", ListExecutionsResponse())
        server.plays([welcome(), batch(completed(1)), numbers(2)])
        words = ["--server", "localhost:1"]
        assert CliRunner().invoke(stepwire, [*words, "ls", "--server", server.target]).exit_code == 0
        result = CliRunner().invoke(stepwire, ["watch", EXECUTION, "--server", server.target])
        assert f"Watch it again: stepwire --server {server.target} watch" in result.stderr

    @pytest.mark.parametrize(
        ("told", "cause"),
        [
            ("errors resolving x: [A: status: B: Domain name not found]", "Domain name not found"),
            ("failed to connect: ipv4:127.0.0.1:9: Connection refused", "Connection refused"),
            ("failed: no route [eth0]", "no route [eth0]"),
        ],
    )
    def test_cause(self, told: str, cause: str) -> None:
        """Of gRPC's long way to the cause the cause is told, without a bracket that is left over."""
        error = errors.CallFailed(told, status_code=code_pb2.UNAVAILABLE)
        assert error_text(error, server="x:1").splitlines()[0] == f"x:1 can't be reached: {cause}"

    def test_other_status(self, server: ScriptedServer, command: Command) -> None:
        """A status that is not Stepwire's is told with its code."""
        server.replies("GetExecution", Status(code_pb2.UNIMPLEMENTED, "no such method"))
        result = command("show", "x")
        assert (result.exit_code, "no such method (UNIMPLEMENTED)" in result.stderr) == (4, True)

    def test_watch(self, server: ScriptedServer, command: Command) -> None:
        """watch goes on after an event."""
        server.plays([welcome(3), batch(completed(4, "x"))])
        result = command("watch", EXECUTION, "--after", "3")
        assert result.exit_code == 0
        assert result.output.endswith('"x"\n')
        assert server.calls[0].request.after_sequence == 3

    def test_watch_the_end(self, server: ScriptedServer, command: Command) -> None:
        """watch after the last event says that the execution has ended, and gives its output."""
        first = welcome(4, state=6)
        first.execution.output.string_value = "x"
        server.plays([first])
        result = command("watch", EXECUTION, "--after", "4")
        assert (result.exit_code, result.output) == (0, 'It had ended before.\n"x"\n')

    def test_broken(self, server: ScriptedServer, command: Command) -> None:
        """A stream that breaks its contract exits 4 and says how to go on."""
        server.plays([welcome(), batch(completed(1)), numbers(2)])
        result = command("watch", EXECUTION)
        assert result.exit_code == 4
        assert "Watch it again: stepwire --server" in result.stderr

    def test_ls(self, server: ScriptedServer, command: Command) -> None:
        """ls prints a table, or JSON, of what matches."""
        found = Execution(execution_id=EXECUTION, state=3, query="what  is\nit", progress=Progress(percentage=42))
        found.create_time.FromSeconds(1_700_000_000)
        page = ListExecutionsResponse(executions=[found] * 3, next_page_token="more")
        server.replies("ListExecutions", page, page)
        lines = command("ls", "--state", "running", "--label", "a=b", "--limit", "2").output.splitlines()
        assert lines[0].split() == ["EXECUTION", "STATE", "DONE", "CREATED", "QUERY", "OR", "PLAN"]
        assert lines[1:] == ["e-1        RUNNING  42%   2023-11-14 22:13:20  what is it"] * 2
        assert dict(server.calls[0].request.filter.labels) == {"a": "b"}
        told = command("ls", "--json", "--limit", "1").output
        assert json.loads(told)["state"] == "RUNNING"

    def test_ls_of_plans(self, server: ScriptedServer, command: Command) -> None:
        """An execution without a query shows its plan's name where it is known, and no row is more than a line."""
        found = [
            Execution(execution_id="1", query="a long question " * 20),
            Execution(execution_id="2", plan_name="order"),
            Execution(execution_id="3"),
        ]
        server.replies("ListExecutions", *[ListExecutionsResponse(executions=found)] * 2)
        rows = command("ls", terminal=True).output.splitlines()
        assert [len(row) for row in rows[1:2]] == [120]
        assert rows[1].endswith("…")
        assert [row.split("  ")[-1] for row in rows[2:]] == ["plan: order", "-"]
        elsewhere = command("ls").output.splitlines()[1]
        assert elsewhere.endswith("…")
        assert len(elsewhere) < 120

    def test_show(self, server: ScriptedServer, command: Command) -> None:
        """show prints the facts and the output."""
        found = Execution(execution_id=EXECUTION, state=6, output=to_value({"a": 1}), query="q", as_of_sequence=9)
        server.replies("GetExecution", *[GetExecutionResponse(execution=found)] * 2)
        server.replies("ListEvents", EventBatch())
        told = command("show", EXECUTION).output
        assert "state       COMPLETED\n" in told
        assert told.endswith('{\n  "a": 1\n}\n')
        assert json.loads(command("show", EXECUTION, "--json").output)["output"] == {"a": 1}

    def test_cancel(self, server: ScriptedServer, command: Command) -> None:
        """cancel sends the reason and says what happens."""
        server.replies("CancelExecution", CancelExecutionResponse(execution=Execution(execution_id="e-1", state=5)))
        assert command("cancel", EXECUTION, "--reason", "wrong city").output == "e-1 is being cancelled.\n"
        assert server.calls[0].request.reason == "wrong city"

    def test_pause_and_resume(self, server: ScriptedServer, command: Command) -> None:
        """pause sends the reason and says how to go on; resume says that it does; each as JSON, too."""
        paused = PauseExecutionResponse(execution=Execution(execution_id="e-1", state=4))
        resumed = ResumeExecutionResponse(execution=Execution(execution_id="e-1", state=3))
        server.replies("PauseExecution", *[paused] * 2)
        server.replies("ResumeExecution", *[resumed] * 2)
        said = command("pause", EXECUTION, "--reason", "lunch").output
        assert said == f"e-1 is paused. Go on: stepwire --server {server.target} resume e-1\n"
        assert command("resume", EXECUTION, "--reason", "back").output == "e-1 goes on.\n"
        assert [call.request.reason for call in server.calls] == ["lunch", "back"]
        assert json.loads(command("pause", EXECUTION, "--json").output)["state"] == "PAUSED"
        assert json.loads(command("resume", EXECUTION, "--json").output)["state"] == "RUNNING"

    def test_plan(self, server: ScriptedServer, command: Command) -> None:
        """plan prints the steps with what they wait for; as JSON it is what `run --plan` takes."""
        built = Plan(
            name="fact",
            steps=[Step(id="a", name="Search", operation="search"), Step(id="b", operation="x", depends_on=["a"])],
            analysis=to_struct({"intent": "fact"}),
        )
        server.replies("BuildPlan", *[BuildPlanResponse(plan=built)] * 2)
        told = command("plan", "q").output
        assert told.startswith("fact: 2 steps\n  1. Search [search]\n  2. b [x] after 1\n")
        assert '"intent": "fact"' in told
        text = command("plan", "q", "--json").output
        server.plays([welcome(), story()])
        assert command("run", "--plan", "-", input=text).exit_code == 0
        assert server.calls[-1].request.plan == built

    def test_operations(self, server: ScriptedServer, command: Command) -> None:
        """operations lists what can be run, with parameters."""
        schema = to_struct({"properties": {"n": {"type": "integer"}, "m": {}}, "required": ["n"]})
        response = ListOperationsResponse(
            operations=[Operation(name="nap", description="Sleeps.\nLong.", input_schema=schema)],
            plans=[NamedPlan(name="refund")],
            has_planner=True,
        )
        server.replies("ListOperations", response, response)
        told = command("operations").output
        assert "  nap(n: integer, m: any?)\n      Sleeps.\n" in told
        assert "Plans:\n  refund()\n" in told
        assert json.loads(command("operations", "--json").output)["has_planner"] is True

    @pytest.mark.parametrize("name", sorted(stepwire.commands))
    def test_help(self, name: str) -> None:
        """Each command's help has an example."""
        result = CliRunner().invoke(stepwire, [name, "--help"])
        assert result.exit_code == 0
        assert f"  stepwire {name}" in result.output
        assert "--server HOST:PORT" in result.output
        for example in re.findall(r"\b(?:watch|show|cancel) (\w+)$", result.output, re.MULTILINE):
            assert re.fullmatch("[A-Za-z0-9]{22}", example)


@pytest.mark.parametrize("words", [["run", "q"], ["watch", EXECUTION]])
def test_poll(server: ScriptedServer, command: Command, words: list[str]) -> None:
    """--poll shows the same without a stream."""
    server.replies("StartExecution", StartExecutionResponse(execution=Execution(execution_id=EXECUTION)))
    server.replies("ListEvents", page(event(1), completed(2)))
    result = command(*words, "--poll", "--json")
    assert result.exit_code == 0, result.output
    assert [json.loads(line)["sequence"] for line in result.stdout.splitlines()] == [1, 2]
    assert server.names()[-1] == "ListEvents"
    assert not {"Execute", "WatchExecution"} & set(server.names())
