"""Tools of MCP servers: real ones, made with the SDK, over their standard streams and over HTTP."""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import mcp
import pytest

from stepwire.values import to_python
from stepwire_server.tools import FunctionTool, McpServer, ServerSettings, Toolbox
from stepwire_server.tools.mcp_servers import McpTool
from stepwire_server.tools.secrecy import HIDDEN, Secrecy

from .parts import HANGS, PROGRAM, call, come, serving

CANARY = "canary-4711-key"


class OverHttp:
    """The program over HTTP, in a process of its own."""

    def __init__(self, port: int = 0) -> None:
        program = [sys.executable, str(PROGRAM), "http", str(port)]
        self.process = subprocess.Popen(program, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())
        self.url = f"http://127.0.0.1:{self.port}/mcp"

    def close(self) -> None:
        self.process.kill()
        self.process.wait(HANGS)
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    program = OverHttp()
    yield program.url
    program.close()


def on_streams(name: str = "tested", **more: Any) -> McpServer:
    return McpServer(name, ServerSettings(command=[sys.executable, str(PROGRAM)], **more))


@pytest.fixture
def server(url: str) -> McpServer:
    return McpServer.of(url)


def box(*servers: McpServer) -> Toolbox:
    toolbox = Toolbox([FunctionTool(here)])
    for each in servers:
        toolbox.connect(each)
    return toolbox


def here() -> str:
    return "here"


# -- what is listed, and what comes back


async def test_tools_are_listed_at_the_start(server):
    """A server's tools are there after the start, with descriptions and schemas, under names that can be names."""
    async with serving(box(server)) as served:
        listed = {each.name: each for each in (await served.client.operations()).operations}
        assert set(listed) == {
            "run_tools", "here", "add", "greet_in_words", "greet_in_words-2", "count", "fail", "wait", "leak",
            "picture", "process", "end",
        }  # fmt: skip
        assert listed["add"].description == "Add two numbers."
        assert set(to_python(listed["add"].input_schema)["properties"]) == {"a", "b"}
        ran = await served.tools(call("greet_in_words", name="A"), call("greet_in_words-2", name="B"))
        assert ran.results["greet_in_words"]["output"] == "Hello, A"
        assert ran.results["greet_in_words-2"]["output"] == "Hello again, B"


async def test_results_of_each_kind(server):
    """A structured result comes as it is, text as text, and a picture as an artifact beside its name."""
    async with serving(box(server)) as served:
        ran = await served.tools(call("add", a=1, b=2), call("greet_in_words", name="A"), call("picture"))
        alone = await served.step("add", a=3, b=4)
    assert ran.results["add"]["output"] == {"result": 3}
    assert ran.results["greet_in_words"]["output"] == "Hello, A"
    assert alone.output == {"result": 7}
    assert ran.results["picture"]["output"] == [{"type": "image", "artifact": "picture-1", "media_type": "image/png"}]
    (picture,) = [event.artifact for event in ran.events if event.HasField("artifact")]
    assert (picture.name, picture.media_type) == ("picture/picture-1", "image/png")
    assert picture.data.startswith(b"\x89PNG")


async def test_errors_of_each_kind(server):
    """A result that says isError is the tool's failure, in its words; an input that does not fit is never sent."""
    async with serving(box(server)) as served:
        ran = await served.tools(call("fail", why="no more paper"), call("add", a=1), call("add", a=1, b="x"))
    assert "no more paper" in ran.results["fail"]["error"]
    assert ran.results["fail"]["state"] == "failed"
    assert ran.results["add"]["error"] == "input: 'b' is a required property"
    assert ran.results["add-2"]["state"] == "error"


def test_a_pattern_is_checked_by_its_server():
    """A regular expression of a server's tool is shown to callers, checked by that server, and never run here."""
    schema = {"type": "object", "properties": {"day": {"type": "string", "pattern": "(a+)+$"}}, "required": ["day"]}
    tool = McpTool(on_streams(), mcp.types.Tool(name="far", input_schema=schema), name="far")
    assert tool.schema == schema
    assert tool.check({"day": "a" * 60 + "b"}) == []
    assert [problem.field for problem in tool.check({"day": 1})] == ["input.day"]


async def test_progress_notifications_are_progress(server):
    """What a server reports of a call is the call's progress, with its count and its words."""
    async with serving(box(server)) as served:
        ran = await served.tools(call("count", to=4))
    told = [event for event in ran.events if event.message.startswith("number ")]
    assert [event.message for event in told] == ["number 1", "number 2", "number 3", "number 4"]
    assert [event.step_progress.percentage for event in told] == [25, 50, 75, 100]
    assert {event.step_progress.substep.path for event in told} == {"count"}
    assert ran.results["count"]["output"] == {"result": "counted to 4"}


async def test_a_cancel_reaches_the_server(server, tmp_path):
    """A call that is cancelled, or takes too long, is cancelled in its server too, which goes on serving."""
    path = str(tmp_path / "x")
    async with serving(box(server)) as served, asyncio.timeout(HANGS):
        run = await served.client.execute(plan=served.plan("run_tools", calls=[call("wait", path=path)]))
        await come(tmp_path / "x.begun")
        await run.cancel("enough")
        events = [event async for event in run]
        assert events[-1].HasField("plan_cancelled")
        await come(tmp_path / "x.cancelled")
        ran = await served.tools(call("add", a=1, b=2))
    assert ran.results["add"]["output"] == {"result": 3}


async def test_calls_of_one_server_run_side_by_side(server, tmp_path):
    """Calls of one server run at once: one that waits for another one's end gets it."""
    first, second = str(tmp_path / "a"), str(tmp_path / "b")
    async with serving(box(server)) as served, asyncio.timeout(HANGS):
        calls = [call("wait", path=first), call("wait", path=second)]
        run = await served.client.execute(plan=served.plan("run_tools", calls=calls))
        await come(tmp_path / "a.begun")
        await come(tmp_path / "b.begun")
        (tmp_path / "a.go").touch()
        (tmp_path / "b.go").touch()
        output = await run.result()
    assert output["totals"]["completed"] == 2


# -- over standard streams


async def test_a_process_that_speaks_on_its_streams(monkeypatch, caplog):
    """A server that is a process is called as one at an address is, its secrets are in no event and no log even where
    it tells them, and closing it leaves no process and no task.
    """
    monkeypatch.setenv("FROM_HERE", CANARY + "-2")
    monkeypatch.setenv("NOT_THEIRS", "canary-of-the-server")
    caplog.set_level("DEBUG")
    before = asyncio.all_tasks()
    server = on_streams(env={"KEY": CANARY}, env_from=["FROM_HERE"])
    async with serving(box(server)) as served:
        ran = await served.tools(
            call("add", a=1, b=2),
            call("count", to=2),
            call("fail", why="no more paper"),
            call("leak"),
            call("leak", fails=True, id="failing"),
            call("process"),
        )
        alone = await served.step("leak", fails=True)
    assert ran.totals == {"asked": 6, "completed": 4, "failed": 2, "errors": 0}
    assert ran.results["add"]["output"] == {"result": 3}
    assert "no more paper" in ran.results["fail"]["error"]
    assert [event.message for event in ran.events if event.message.startswith("number")] == ["number 1", "number 2"]
    for shown in (str(ran.results["leak"]["output"]), ran.results["failing"]["error"], alone.failure):
        assert f"KEY={HIDDEN}" in shown or len(shown) >= 500
    assert "canary" not in "".join(str(event) for each in (ran, alone) for event in each.events)
    assert CANARY not in caplog.text
    with pytest.raises(ProcessLookupError):
        os.kill(ran.results["process"]["output"]["result"], 0)
    assert asyncio.all_tasks() - before == set()


async def test_a_server_that_dies():
    """A server that dies while a tool runs fails that call alone, and the next call starts it again; one that has died
    unseen costs no call.
    """
    async with serving(box(on_streams("lost"))) as served:
        ran = await served.tools(call("end", how="die"), call("here"))
        assert ran.results["end"]["state"] == "failed"
        assert ran.results["end"]["error"] == (
            "MCP server 'lost' was lost while the tool ran; the next call connects to it again"
        )
        assert ran.results["here"]["output"] == "here"
        again = await served.tools(call("process"), call("add", a=1, b=2))
        assert again.results["add"]["output"] == {"result": 3}
        server = served.toolbox["process"]._server
        connection = server._connection
        os.kill(again.results["process"]["output"]["result"], signal.SIGKILL)
        async with asyncio.timeout(HANGS):
            await connection.ended.wait()
        unseen = await served.tools(call("add", a=1, b=2))
        assert unseen.results["add"]["output"] == {"result": 3}


async def test_a_server_that_hangs(monkeypatch):
    """A server that hangs costs its call the time limit; other tools go on, and the next call starts it again."""
    monkeypatch.setattr("stepwire_server.tools.mcp_servers._PROBE", 0.2)
    async with serving(box(on_streams("hung", timeout=1.0))) as served:
        number = (await served.tools(call("process"))).results["process"]["output"]["result"]
        try:
            ran = await served.tools(call("end", how="stop"), call("here"))
            assert ran.results["end"]["error"] == "it took longer than 1 s"
            assert ran.results["here"]["output"] == "here"
            again = await served.tools(call("add", a=1, b=2))
            assert again.results["add"]["output"] == {"result": 3}
        finally:
            os.kill(number, signal.SIGKILL)


async def test_a_doubt_outlives_a_call_that_is_cancelled(server):
    """A call that is cancelled while it tries whether the server answers leaves that to the next one."""
    async with serving(box(server)):
        connection = server._connection
        connection.doubted = True
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await server.ready()
        assert connection.doubted
        await server.ready()
        assert (server._connection is connection, connection.doubted) == (True, False)


async def test_a_server_that_is_gone_from_its_address(monkeypatch):
    """A server that is gone from its address fails its calls, says so, and serves again once it is there again; one
    that was started again unseen, and does not know the session, costs one call.
    """
    monkeypatch.setattr("mcp.Client", functools.partial(mcp.Client, mode="legacy"))  # Newer servers have no sessions.
    program = OverHttp()
    try:
        async with serving(box(McpServer.of(program.url))) as served:
            assert (await served.tools(call("add", a=1, b=2))).totals["completed"] == 1
            program.close()
            for _ in range(2):
                ran = await served.tools(call("add", a=1, b=2), call("here"))
                assert ran.results["here"]["output"] == "here"
                assert ran.results["add"]["state"] == "failed"
                assert "MCP server '127.0.0.1' " in ran.results["add"]["error"]
            program = OverHttp(program.port)
            assert (await served.tools(call("add", a=1, b=2))).totals["completed"] == 1
            program.close()
            program = OverHttp(program.port)
            unseen = [(await served.tools(call("add", a=1, b=2))).results["add"]["state"] for _ in range(2)]
            assert unseen == ["failed", "completed"]
    finally:
        program.close()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"command": ["no-such-program-at-all"]}, "No such file or directory"),
        ({"command": [sys.executable, "-c", "0"]}, "can't be reached"),
        ({"url": "http://127.0.0.1:1/mcp"}, "can't be reached"),
    ],
)
async def test_a_server_that_does_not_start(settings, says):
    """A server that can't be reached at the start ends the start, with its name and the reason, and no secret."""
    toolbox = box(McpServer("first", ServerSettings(env={"KEY": CANARY}, **settings)))
    with pytest.raises(ConnectionError, match=says) as refused:
        await toolbox.open()
    assert "MCP server 'first'" in str(refused.value)
    assert CANARY not in str(refused.value)
    await toolbox.close()


async def test_its_last_words_are_shown():
    """A server that ends at its start is quoted with its last words, unless a secret stands in them, even in pieces."""
    words = ["there is no database", f"the key is {CANARY[:5]}\n  {CANARY[5:]}"]
    told = []
    for word in words:
        command = [sys.executable, "-c", f"import sys; sys.exit({word!r})"]
        server = McpServer("first", ServerSettings(command=command, env={"KEY": CANARY}))
        with pytest.raises(ConnectionError) as refused:
            await server.open()
        told.append(str(refused.value))
        await server.close()
    assert "it said: there is no database" in told[0]
    assert "it said" not in told[1]


# -- secrets


async def test_a_key_in_an_address_is_logged_nowhere(url, caplog):
    """The key that stands in a server's address is in no line of the log, also where everything is logged."""
    for name in ("httpx2", "httpcore2", "mcp"):
        caplog.set_level("NOTSET", logger=name)
    caplog.set_level("DEBUG")
    async with serving(box(McpServer.of(f"{url}?key=canary%2F4711%2Fkey"))) as served:
        assert (await served.tools(call("add", a=1, b=2))).results["add"]["output"] == {"result": 3}
    assert "canary" not in caplog.text


def test_a_key_in_an_address_is_hidden_as_it_is_written():
    """The key that stands in a server's address is hidden as it is, and as addresses have it."""
    secrecy = Secrecy(ServerSettings(url="https://example.org/mcp?key=a%2Fsecret%3D&on=1"))
    assert secrecy.hide("a%2Fsecret%3D or a/secret=, on=1") == f"{HIDDEN} or {HIDDEN}, on=1"


def test_where_secrets_come_from(monkeypatch):
    """Values of the environment, of headers and of addresses are hidden; short ones would be found anywhere."""
    monkeypatch.setenv("TOKEN", "Bearer token-123456")
    settings = ServerSettings(
        url="https://me:password@example.org/mcp?key=in-the-address",
        headers_from={"Authorization": "TOKEN"},
        env={"A": "value-of-a", "B": "on"},
    )
    hide = Secrecy(settings).hide_all
    text = "token-123456 password in-the-address value-of-a on"
    assert hide({text: [text, 1, None]}) == {
        f"{HIDDEN} {HIDDEN} {HIDDEN} {HIDDEN} on": [f"{HIDDEN} {HIDDEN} {HIDDEN} {HIDDEN} on", 1, None]
    }
    monkeypatch.delenv("TOKEN")
    with pytest.raises(ValueError, match="TOKEN is not set in the server's environment"):
        McpServer("x", settings)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({}, "has a command or a url, one of them"),
        ({"command": ["x"], "url": "http://x"}, "has a command or a url, one of them"),
        ({"command": ["x"], "timeout": 0.0}, "timeout is 0.0; it must be above 0"),
    ],
)
def test_settings_that_can_t_work(settings, says):
    """Settings that can't work are refused, with the server's name."""
    with pytest.raises(ValueError, match=f"MCP server 'x'.*{says}"):
        McpServer("x", ServerSettings(**settings))
    with pytest.raises(ValueError, match="command line of the MCP server can't be read"):
        McpServer.of("python 'x")


async def test_tools_of_two_servers(url):
    """Two servers may have tools of one name where one has a prefix; without it the start says what to do."""
    second = McpServer("second", ServerSettings(url=url, prefix="second-"))
    async with serving(box(McpServer.of(url), second)) as served:
        ran = await served.tools(call("add", a=1, b=2), call("second-add", a=3, b=4))
    assert [result["output"]["result"] for result in ran.output["results"]] == [3, 7]
    toolbox = box(McpServer.of(url), McpServer.of(url))
    try:
        with pytest.raises(ValueError, match="there is a tool 'add' already; an MCP server's tools can have a prefix"):
            await toolbox.open()
    finally:
        await toolbox.close()
