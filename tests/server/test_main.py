"""The command itself, in a process of its own: what it prints, how it is configured, how it ends."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol, TypeVar

import grpc
import pytest
from google.protobuf.message import Message

from stepwire.v1 import (
    EventBatch,
    Execution,
    ExecutionState,
    GetExecutionRequest,
    GetExecutionResponse,
    GetServerInfoRequest,
    GetServerInfoResponse,
    Plan,
    StartExecutionRequest,
    StartExecutionResponse,
    WaitExecutionRequest,
    WaitExecutionResponse,
    WatchExecutionRequest,
)
from stepwire_server import plan_step
from stepwire_server.limits import CallLimits

Response = TypeVar("Response", bound=Message)

APP = """
import asyncio
import threading
from pathlib import Path

from stepwire_server import App

app = App("sample", settings={"greeting": "What to say"})
number = 7
said = []


@app.startup
def start(settings):
    said.append(settings.get("greeting", "hello"))


@app.shutdown
async def stop():
    Path("stopped").write_text(" ".join(said))


@app.operation("greet")
async def greet() -> str:
    return said[0]


@app.operation("where")
async def where() -> str:
    return str(app.folder)


@app.operation("in_a_thread")
async def in_a_thread(path: str) -> str:
    def work():
        Path(path + ".begun").touch()
        if path.endswith("hangs"):
            threading.Event().wait()
        return path

    return await asyncio.to_thread(work)


@app.operation("block")
async def block(path: str) -> None:
    while not Path(path).exists():
        await asyncio.sleep(0.01)
    Path(path + ".begun").touch()
    while True:  # In pieces: of two signals at once one may reach another thread, and does not end a wait in this one.
        threading.Event().wait(0.01)


@app.operation("wait_for")
async def wait_for(path: str) -> str:
    Path(path + ".begun").touch()
    while not Path(path).exists():
        await asyncio.sleep(0.01)
    return "found"
"""

GREET = Plan(steps=[plan_step("a", "greet")])


class Process:
    """A server in a process of its own."""

    def __init__(self, process: subprocess.Popen[str], channel: grpc.Channel, address: str) -> None:
        self.process = process
        self.channel = channel
        self.address = address

    def call(self, method: str, request: Message, kind: type[Response]) -> Response:
        rpc = self.channel.unary_unary(
            f"/stepwire.v1.ExecutionService/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=kind.FromString,
        )
        return rpc(request, timeout=30)

    def run(self, plan: Plan) -> Execution:
        started = self.start(plan)
        request = WaitExecutionRequest(execution_id=started.execution_id)
        return self.call("WaitExecution", request, WaitExecutionResponse).execution

    def start(self, plan: Plan) -> Execution:
        return self.call("StartExecution", StartExecutionRequest(plan=plan), StartExecutionResponse).execution

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def ended(self) -> tuple[int, str]:
        """Waits for the end; returns the exit code and what was written to standard error."""
        _, errors = self.process.communicate(timeout=30)
        return self.process.returncode, errors


class Serve(Protocol):
    """Starts `stepwire-server serve` with these arguments, and waits until it listens."""

    def __call__(self, *arguments: str, app: str = ..., **environment: str) -> Process: ...


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with an app in it, in which the command is run."""
    (tmp_path / "sample.py").write_text(APP)
    (tmp_path / "broken.py").write_text("import no_such_module_at_all\n")
    (tmp_path / "graphs.py").write_text("import sys\nsys.modules['langgraph'] = None\nimport langgraph.graph\n")
    return tmp_path


def environment(place: Path, more: dict[str, str]) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("STEPWIRE_")}
    return clean | {"HOME": str(place), "XDG_STATE_HOME": str(place / "state")} | more


def command(place: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Runs the command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "stepwire_server", *arguments],
        cwd=place,
        env=environment(place, more),
        capture_output=True,
        text=True,
        timeout=30,
    )


@pytest.fixture
def serve(place: Path) -> Iterator[Serve]:
    with contextlib.ExitStack() as stack:

        def start(*arguments: str, app: str = "sample:app", **more: str) -> Process:
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-m", "stepwire_server", "serve", *([app] if app else []), *arguments],
                    cwd=place,
                    env=environment(place, more),
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
            stack.callback(process.kill)
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise AssertionError(process.communicate(timeout=10)[1])
            found = re.fullmatch(r"listening on (\S+:\d+)\n", line)
            assert found, line
            channel = stack.enter_context(grpc.insecure_channel(found[1]))
            return Process(process, channel, found[1])

        yield start


FREE = ("--listen", "127.0.0.1:0")
MEMORY = (*FREE, "--journal", "memory")


def info(server: Process) -> GetServerInfoResponse:
    return server.call("GetServerInfo", GetServerInfoRequest(), GetServerInfoResponse)


# -- what it is told


def test_the_first_line(serve: Serve) -> None:
    """The first line on standard output says where the server listens, and it does."""
    server = serve(*MEMORY)
    found = info(server)
    assert (found.app, found.journal, found.version) == ("sample", "memory", version("stepwire"))
    assert server.run(GREET).output.string_value == "hello"


def test_the_assistant_is_the_default(serve: Serve, place: Path) -> None:
    """Without an app the assistant is served; without a journal it is in the user's state folder, for nobody else."""
    server = serve(*FREE, app="")
    assert info(server).app == "assistant"
    [journal] = (place / "state").rglob("assistant.db")
    assert journal.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(("journal", "folder"), [("here.db", "here.db-app"), ("memory", None)])
def test_an_app_keeps_things_beside_its_journal(serve: Serve, place: Path, journal: str, folder: str | None) -> None:
    """An app knows a folder beside its journal, and knows of none where the journal is in memory."""
    server = serve("--listen", "127.0.0.1:0", "--journal", journal)
    found = server.run(Plan(steps=[plan_step("a", "where")])).output.string_value
    assert found == str(folder and place / folder)


def test_environment(serve: Serve, place: Path) -> None:
    """Every flag is an environment variable too."""
    server = serve(
        STEPWIRE_LISTEN="127.0.0.1:0",
        STEPWIRE_JOURNAL=str(place / "here.db"),
        STEPWIRE_MAX_WATCHERS="11",
        STEPWIRE_MAX_EXECUTIONS="12",
        STEPWIRE_MAX_PARALLEL_STEPS="13",
        STEPWIRE_MAX_HALF_OPEN_CALLS_PER_CALLER="14",
        STEPWIRE_BODY_TIMEOUT="2.5",
        STEPWIRE_CANCEL_GRACE="1.5",
        STEPWIRE_SET="greeting=moin",
    )
    found = info(server)
    limits = found.limits
    assert (limits.max_watchers, limits.max_executions, limits.max_parallel_steps) == (11, 12, 13)
    assert limits.max_half_open_calls_per_caller == 14
    assert limits.cancel_grace.ToMilliseconds() == 1_500
    assert limits.body_timeout.ToMilliseconds() == 2_500
    assert found.journal == "sqlite"
    assert (place / "here.db").exists()
    assert server.run(GREET).output.string_value == "moin"


def test_every_flag_has_a_variable(place: Path) -> None:
    """The help names an environment variable for every flag of serve."""
    text = command(place, "serve", "--help").stdout
    flags = set(re.findall(r"^  (?:-\w, )?(--[a-z-]+)", text, re.MULTILINE)) - {"--help"}
    assert len(flags) > 8
    for flag in flags:
        assert "STEPWIRE_" + flag[2:].replace("-", "_").upper() in text.replace("\n", " "), flag


FILE = """
listen = "127.0.0.1:0"
journal = "memory"
max-watchers = 5
max_executions = 6
set = ["greeting=servus"]
log-level = "ERROR"
max-calls-per-caller = 21
"""


def test_a_file(serve: Serve, place: Path) -> None:
    """A TOML file has the flags' names; a flag beats its variable, which beats the file."""
    (place / "server.toml").write_text(FILE)
    server = serve(
        "--config", "server.toml", "--max-watchers", "7", STEPWIRE_MAX_WATCHERS="8", STEPWIRE_MAX_EXECUTIONS="9"
    )
    limits = info(server).limits
    assert (limits.max_watchers, limits.max_executions, limits.max_calls_per_caller) == (7, 9, 21)
    assert server.run(GREET).output.string_value == "servus"


def test_check_config_takes_the_same(place: Path) -> None:
    """check-config takes what serve takes, says what would be, and does nothing."""
    (place / "server.toml").write_text(FILE + 'app = "sample:app"\n')
    done = command(place, "check-config", "--config", "server.toml", "--max-watchers", "7")

    assert done.returncode == 0, done.stderr
    for line in (
        "listen = 127.0.0.1:0",
        "max-watchers = 7",
        "max-executions = 6",
        "operations: block, greet, in_a_thread, wait_for, where",
    ):
        assert line in done.stdout.splitlines()
    assert not (place / "state").exists()


def test_check_config_shows_every_limit(place: Path) -> None:
    """check-config shows each limit with its default, and serve's help explains each of them."""
    shown = command(place, "check-config", "sample:app").stdout.splitlines()
    text = command(place, "serve", "--help").stdout
    for limit in fields(CallLimits):
        assert f"{limit.name.replace('_', '-')} = {limit.default}" in shown
        assert f"--{limit.name.replace('_', '-')}" in text
        assert limit.metadata["help"].split()[0] in text


@pytest.mark.parametrize("more", [["check-config", "sample:app"], ["serve", "sample:app", "--listen", "nowhere"]])
def test_a_misspelt_variable_is_told(place: Path, more: list[str]) -> None:
    """A variable that nearly is a setting is named, with the one that is meant; one of somebody else is not."""
    done = command(
        place, *more, STEPWIRE_MAX_EXECUTION="3", STEPWIRE_PORT="tcp://10.0.0.1:50051", STEPWIRE_SERVER="a:1"
    )
    told = [line for line in done.stderr.splitlines() if "is no setting" in line]
    [line] = told
    assert "STEPWIRE_MAX_EXECUTION is no setting and was ignored; did you mean STEPWIRE_MAX_EXECUTIONS?" in line


def test_a_home_in_a_setting_is_the_user_s(place: Path) -> None:
    """A journal's path may begin with ~ wherever it is given, and is shown whole."""
    done = command(place, "check-config", "sample:app", STEPWIRE_JOURNAL="~/x.db", HOME=str(place / "me"))
    assert f"journal = {place / 'me' / 'x.db'}" in done.stdout.splitlines()
    done = command(place, "check-config", "sample:app", "--journal", "x.db")
    assert f"journal = {place / 'x.db'}" in done.stdout.splitlines()


@pytest.mark.parametrize("name", ["serve", "check-config"])
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["sample:app", "--listen", "50051"], "it is not HOST:PORT"),
        (["sample:app", "--listen", "127.0.0.1:99999"], "it is not HOST:PORT"),
        (["sample:app", "--journal", "."], "is a folder"),
        (["nowhere:app"], "there is no module 'nowhere'"),
        (["sample:missing"], "module sample has no 'missing'"),
        (["sample:number"], "is a int, not a stepwire_server.App"),
        (["broken:app"], "it needs no_such_module_at_all\n"),
        (["graphs:app"], 'it needs langgraph.graph: pip install "stepwire[server,langgraph]"\n'),
        (["sample"], "is not MODULE:APP"),
        ([".sample:app"], "is not MODULE:APP"),
        (["sample:app", "--set", "colour=red"], "has no setting 'colour'; it has: greeting"),
        (["sample:app", "--documents", "x"], "has no setting 'documents'"),
        (["--config", "unknown.toml"], "no setting 'colour'; there are: app, blocked_loop_after, body_timeout,"),
        (["--config", "bad.toml"], "bad.toml"),
        (["--config", "wrong.toml"], "wrong.toml: max_watchers: 'many' is not a valid"),
    ],
)
def test_mistakes(name: str, arguments: list[str], says: str, place: Path) -> None:
    """A mistake in the configuration is one clear line, and the exit code 1."""
    (place / "unknown.toml").write_text("colour = 'red'\n")
    (place / "bad.toml").write_text("colour = \n")
    (place / "wrong.toml").write_text("max-watchers = 'many'\n")
    done = command(place, name, *(MEMORY if name == "serve" else ()), *arguments)

    assert done.returncode == 1, done.stderr
    assert says in done.stderr
    assert done.stderr.startswith("Error: ")
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stdout == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ["--max-watchers", "0"],
        ["--max-watchers", "many"],
        ["--max-calls-per-caller", "0"],
        ["--body-timeout", "0"],
        ["--durability", "sometimes"],
        ["--drain-grace", "-1"],
        ["--set", "x"],
        ["--config", "not-there.toml"],
        ["--no-such-flag"],
    ],
    ids=" ".join,
)
def test_misuse(arguments: list[str], place: Path) -> None:
    """A flag that does not exist or has no such value is refused with what would be right, and the exit code 2."""
    done = command(place, "serve", "sample:app", *MEMORY, *arguments)

    assert done.returncode == 2
    assert arguments[0] in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("journal", ["sample.py/journal.db", "sample.py", "."])
def test_a_journal_that_cannot_be(journal: str, place: Path) -> None:
    """A journal at a place where none can be is one clear line, and touches nothing."""
    done = command(place, "serve", "sample:app", *FREE, "--journal", journal)

    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert (place / "sample.py").read_text() == APP


@pytest.mark.parametrize("listen", ["50051", "127.0.0.1:99999", "192.0.2.1:0"])
def test_an_address_that_cannot_be(listen: str, place: Path) -> None:
    """An address that can't be listened on is named, with the exit code 1."""
    done = command(place, "serve", "sample:app", "--journal", "memory", "--listen", listen)

    assert done.returncode == 1
    assert f"can't listen on {listen!r}" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_teaches(place: Path) -> None:
    """The help shows what to type, and says where everything is."""
    top = command(place, "--help").stdout
    for words in ("stepwire-server serve", "orders:app", "check-config", "version"):
        assert words in top
    below = command(place, "serve", "--help").stdout
    for words in ("--journal", "memory", "SIGTERM", "listening on HOST:PORT", "127.0.0.1:50051", "journal.db"):
        assert words in below


def test_version(place: Path) -> None:
    """The version is printed alone."""
    assert command(place, "version").stdout == version("stepwire") + "\n"


# -- two of them


def test_two_servers_on_one_journal(serve: Serve, place: Path) -> None:
    """A second server on the same journal is refused with the first one's process id."""
    first = serve(*FREE, "--journal", "one.db")
    done = command(place, "serve", "sample:app", *FREE, "--journal", "one.db")

    assert done.returncode == 1
    assert f"is open in another server, process {first.process.pid}" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert first.run(GREET).state == ExecutionState.EXECUTION_STATE_COMPLETED


def test_two_servers_on_one_port(serve: Serve, place: Path) -> None:
    """A second server on the same port is refused."""
    first = serve(*MEMORY)
    done = command(place, "serve", "sample:app", "--journal", "memory", "--listen", first.address)

    assert done.returncode == 1
    assert f"can't listen on {first.address!r}" in done.stderr


# -- the end


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains(number: signal.Signals, serve: Serve, place: Path) -> None:
    """SIGTERM and Ctrl-C tell watchers DRAINING, let a running step end, and exit with 0."""
    server = serve(*FREE, "--journal", "one.db")
    execution = server.start(Plan(steps=[plan_step("a", "wait_for", input={"path": str(place / "go")})]))
    stream = watch(server, execution)
    assert next(stream).execution.execution_id == execution.execution_id
    wait_for(place / "go.begun")
    server.signal(number)

    assert [batch.notice for batch in stream][-1] == EventBatch.NOTICE_DRAINING
    (place / "go").touch()
    code, errors = server.ended()
    assert code == 0, errors
    assert "ERROR" not in errors
    assert "Traceback" not in errors
    assert serve(*FREE, "--journal", "one.db").call(
        "GetExecution", GetExecutionRequest(execution_id=execution.execution_id), GetExecutionResponse
    )


def watch(server: Process, execution: Execution) -> Iterator[EventBatch]:
    rpc = server.channel.unary_stream(
        "/stepwire.v1.ExecutionService/WatchExecution",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=EventBatch.FromString,
    )
    stream: Any = rpc(WatchExecutionRequest(execution_id=execution.execution_id), timeout=30)
    return iter(stream)


def wait_for(path: Path) -> None:
    while not path.exists():
        pass


def test_a_second_signal_ends_at_once(serve: Serve, place: Path) -> None:
    """A second SIGTERM ends a server that waits for a step, with an exit code that says so."""
    server = serve(*MEMORY, "--drain-grace", "3600")
    execution = server.start(Plan(steps=[plan_step("a", "wait_for", input={"path": str(place / "never")})]))
    stream = watch(server, execution)
    next(stream)
    wait_for(place / "never.begun")
    server.signal(signal.SIGTERM)
    for _ in stream:
        pass
    assert server.process.poll() is None
    server.signal(signal.SIGTERM)

    assert server.ended()[0] == 1


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_second_signal_ends_a_blocked_server(loop: str, serve: Serve, place: Path) -> None:
    """A second signal ends a server also while an operation blocks the event loop, which then hears of none."""
    server = serve(*MEMORY, "--loop", loop)
    server.start(Plan(steps=[plan_step("a", "block", input={"path": str(place / "go")})]))
    (place / "go").touch()
    wait_for(place / "go.begun")
    # Two of one kind could be taken for one.
    server.signal(signal.SIGTERM)
    server.signal(signal.SIGINT)

    assert server.ended()[0] == 1


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_what_hangs_in_a_thread_holds_no_server(loop: str, serve: Serve, place: Path) -> None:
    """A server ends although an operation hangs in asyncio.to_thread, and its log says so."""
    server = serve(*MEMORY, "--drain-grace", "0", "--cancel-grace", "0", "--loop", loop)
    server.start(Plan(steps=[plan_step("a", "in_a_thread", input={"path": str(place / "hangs")})]))
    wait_for(place / "hangs.begun")
    server.signal(signal.SIGTERM)
    code, errors = server.ended()
    assert code == 0
    assert "an operation still runs in a thread; the process ends without it" in errors
    assert "Traceback" not in errors


def test_what_ended_in_a_thread_is_not_waited_for(serve: Serve, place: Path) -> None:
    """A thread in which operations have ended is not taken for one that hangs."""
    server = serve(*MEMORY)
    server.run(Plan(steps=[plan_step("a", "in_a_thread", input={"path": str(place / "ends")})]))
    server.signal(signal.SIGTERM)
    code, errors = server.ended()
    assert code == 0
    assert "still runs" not in errors


def test_a_signal_with_nothing_to_do(serve: Serve) -> None:
    """An idle server ends at once and with 0; its standard error says what it served and where from, and no error."""
    server = serve(*FREE, "--journal", "one.db")
    server.signal(signal.SIGTERM)
    code, errors = server.ended()
    assert code == 0
    assert re.search(r"serving sample: operations \d+, plans 0, queries no; journal .*/one\.db\n", errors), errors
    assert "ERROR" not in errors


@pytest.mark.parametrize("port", ["0", "taken"])
def test_an_app_lets_go_of_what_it_opened(port: str, serve: Serve, place: Path) -> None:
    """An app's shutdown functions are called when the server has stopped, and when it could not start."""
    server = serve(*MEMORY)
    if port == "taken":
        done = command(place, "serve", "sample:app", "--listen", server.address, "--journal", "memory")
        assert done.returncode == 1
    else:
        assert not (place / "stopped").exists()
        server.signal(signal.SIGTERM)
        assert server.process.wait(20) == 0
    assert (place / "stopped").read_text() == "hello"


def test_a_killed_server_goes_on(serve: Serve, place: Path) -> None:
    """After kill -9 a server on the same journal takes the execution up and ends it."""
    first = serve(*FREE, "--journal", "one.db")
    steps = [
        plan_step("a", "greet"),
        plan_step("b", "wait_for", input={"path": str(place / "go")}, depends_on=["a"]),
    ]
    execution = first.start(Plan(steps=steps))
    seen = []
    for batch in watch(first, execution):
        seen += batch.events
        if any(event.step_id == "b" and event.HasField("step_started") for event in batch.events):
            break
    first.signal(signal.SIGKILL)
    assert first.ended()[0] == -signal.SIGKILL

    (place / "go").touch()
    second = serve(*FREE, "--journal", "one.db")
    request = WaitExecutionRequest(execution_id=execution.execution_id)
    ended = second.call("WaitExecution", request, WaitExecutionResponse).execution
    assert ended.state == ExecutionState.EXECUTION_STATE_COMPLETED
    assert ended.attempt_count == 2
    events = [event for batch in watch(second, execution) for event in batch.events]
    assert events[: len(seen)] == seen
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert [event.step_id for event in events if event.HasField("step_started")] == ["a", "b", "b"]
