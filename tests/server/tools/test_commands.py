"""Commands as tools: real programs, what they are given, and how they are ended."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.e2e.serving import until

from stepwire.errors import InputInvalid
from stepwire_server.tools import Command, CommandTool, Parameter, Toolbox, processes
from stepwire_server.tools.processes import run_program

from .parts import HANGS, call, come, serving

SHOW = """
import json, os, sys
print(json.dumps([sys.argv[1:], dict(os.environ), os.getcwd(), os.listdir("."), sys.stdin.read()]))
"""
"""A program that says what it was given."""


def python(program: str, /, **more: Any) -> CommandTool:
    """A command that runs a Python program; its arguments follow."""
    name = more.pop("name", "run")
    return CommandTool(name, Command.model_validate({"argv": [sys.executable, "-c", program], **more}))


async def shown(tool: CommandTool, **inputs: Any) -> list[Any]:
    async with serving(Toolbox([tool])) as served:
        ran = await served.tools(call(tool.name, **inputs))
        (result,) = ran.output["results"]
        assert result["state"] == "completed", result
        return list(json.loads(result["output"]["stdout"]))


# -- what it is given


async def test_arguments_stand_where_the_configuration_says():
    """Parameters become arguments in their order: by themselves, after an option, with a long one, or as a flag."""
    parameters = [
        {"name": "lines", "type": "integer", "option": "-n"},
        {"name": "like", "option": "--like"},
        {"name": "loud", "type": "flag", "option": "-v"},
        {"name": "share", "type": "number", "required": False},
        {"name": "files", "type": "texts", "required": False},
    ]
    tool = python(SHOW, parameters=parameters)
    assert tool.schema["required"] == ["lines", "like"]
    arguments, *_ = await shown(tool, lines=3, like="-x y", loud=True, share=0.5, files=["a b", "c\nd"])
    assert arguments == ["-n", "3", "--like=-x y", "-v", "0.5", "a b", "c\nd"]
    arguments, *_ = await shown(tool, lines=3, like="", loud=False)
    assert arguments == ["-n", "3", "--like="]


async def test_no_shell_sees_an_argument(tmp_path):
    """What a shell would take for more than text reaches the program as it is, and nothing else happens."""
    target = tmp_path / "made"
    commands = [f"$(touch {target})", f"; touch {target}", f"`touch {target}`", f"| tee {target}"]
    hostile = [*commands, "*", "$HOME", "a\nb", "'\""]
    tool = python(SHOW, parameters=[{"name": "texts", "type": "texts"}])
    arguments, *_ = await shown(tool, texts=hostile)
    assert arguments == hostile
    assert not target.exists()


async def test_a_clean_place_of_its_own(monkeypatch):
    """A program has a PATH, a language and what its configuration gives it, and an empty folder that is gone later."""
    monkeypatch.setenv("OPENAI_API_KEY", "canary-1")
    monkeypatch.setenv("WANTED", "from the server")
    tool = python(SHOW, env={"GIVEN": "by the configuration"}, env_from=["WANTED"])
    arguments, environment, folder, files, stdin = await shown(tool)
    environment.pop("LC_CTYPE", None)  # Python's own doing.
    assert environment == {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "GIVEN": "by the configuration",
        "WANTED": "from the server",
    }
    assert (arguments, files, stdin) == ([], [], "")
    assert folder != os.getcwd()
    assert Path(folder).name not in os.listdir(Path(folder).parent)


async def test_a_folder_that_can_not_be_removed(tmp_path, monkeypatch):
    """A program that leaves its folder so that nobody can remove it has done its work all the same."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    tool = python("import os; here = os.getcwd(); os.rmdir(here); open(here, 'w').close(); print('[1]')")
    assert await shown(tool) == [1]


async def test_where_it_runs(tmp_path):
    """A program runs in the folder that its configuration names, and the folder stays."""
    (tmp_path / "here").touch()
    _, _, folder, files, _ = await shown(python(SHOW, directory=str(tmp_path)))
    assert (folder, files) == (str(tmp_path), ["here"])
    assert tmp_path.exists()


async def test_standard_input():
    """A parameter that is standard input may be large, and any text."""
    tool = python(SHOW, parameters=[{"name": "text", "stdin": True}])
    text = "-ä\0\n" * 100_000
    *_, stdin = await shown(tool, text="-ä\0\n")
    assert stdin == "-ä\0\n"
    counting = python("import sys; print([len(sys.stdin.buffer.read())])", parameters=[{"name": "text", "stdin": True}])
    assert await shown(counting, text=text) == [len(text.encode())]


REFUSED = [
    ({"file": "-rf"}, "input.file", 'begins with "-": it would be an option of the program'),
    ({"file": "--output=x"}, "input.file", 'begins with "-": it would be an option of the program'),
    ({"file": "a\0b"}, "input.file", "has a NUL character, which no argument can have"),
    ({"file": "x" * 1_000_000}, "input.file", "is too long"),
    ({"file": "€" * 40_000}, "input.file", "has 120,000 bytes; an argument can have 100,000"),
    ({"file": 3}, "input.file", "is not of type 'string'"),
    ({"file": "a", "others": ["b", "-c"]}, "input.others", 'begins with "-"'),
    ({"file": "a", "count": -1}, "input.count", "less than the minimum of 0"),
    ({"file": "a", "like": "a\0"}, "input.like", "NUL"),
    ({"file": "a", "kind": "c"}, "input.kind", "is not one of ['a', 'b']"),
    ({"file": "a", "code": "x"}, "input.code", "does not match"),
    ({"file": "a", "more": "x"}, "input", "'more' was unexpected"),
    ({"file": "a", "others": ["y" * 90_000] * 12}, "input", "has 1,080,001 bytes; at most 1,000,000 can be arguments"),
]


def picky() -> CommandTool:
    return python(
        SHOW,
        parameters=[
            {"name": "file", "max_length": 50_000},
            {"name": "others", "type": "texts", "required": False, "max_length": 100_000},
            {"name": "count", "type": "integer", "required": False},
            {"name": "like", "option": "--like", "required": False},
            {"name": "kind", "choices": ["a", "b"], "required": False},
            {"name": "code", "pattern": "^[0-9]+$", "required": False},
        ],
    )


@pytest.mark.parametrize(("inputs", "field", "says"), REFUSED, ids=lambda value: str(value)[:40])
async def test_what_would_be_something_else_is_refused(inputs, field, says):
    """A value that would be an option, two arguments or none is refused before the program runs, by its name."""
    (found, *_) = picky().check(inputs)
    assert found.field == field
    assert says in found.description
    async with serving(Toolbox([picky()])) as served:
        if len(str(inputs)) < 200_000:
            ran = await served.tools(call("run", **inputs))
            assert ran.stages == ["executing_run", "error_run"]
            assert says in ran.results["run"]["error"]
            with pytest.raises(InputInvalid):
                await served.client.execute(plan=served.plan("run", **inputs))


@settings(max_examples=25)
@given(
    st.text(st.characters(), max_size=8) | st.sampled_from(["-", "--", "-x", "--x=y", "", "\n-x", " -x", "\ud800"]),
    st.lists(st.text("-ab \n\0é", max_size=4), max_size=3),
)
async def test_a_value_is_one_argument_or_none(text, texts):
    """Any text reaches the program as one argument that is no option, or is refused."""
    parameters = [
        Parameter(name="text"),
        Parameter(name="texts", type="texts"),
        Parameter(name="long", option="--long"),
    ]
    tool = CommandTool("run", Command(argv=[sys.executable, "-c", "0"], parameters=parameters))
    inputs = {"text": text, "texts": texts, "long": text}
    if tool.check(inputs):
        assert any(
            each.startswith("-") or "\0" in each or any(0xD800 <= ord(one) < 0xE000 for one in each)
            for each in (text, *texts)
        )
        return
    heard: list[str] = []
    ended = await run_program(
        ["/usr/bin/printf", "%s\\0", *[part for each in parameters for part in each.arguments(inputs[each.name])]],
        directory="/",
        environment={"LANG": "C.UTF-8"},
        stdin=b"",
        max_output=10_000,
        hear=_into(heard),
    )
    assert ended.stdout == "".join(heard) == "\0".join([text, *texts, f"--long={text}", ""])


def _into(heard: list[str]) -> Any:
    async def hear(piece: str) -> None:
        heard.append(piece)

    return hear


# -- what it writes


async def test_output_comes_as_it_is_written(tmp_path):
    """What a program writes is streamed while it runs, on its call's channel; a character may come in two pieces."""
    program = (
        "import os, sys, pathlib, threading\n"
        "sys.stdout.buffer.write('first \\u00e4'.encode()[:-1]); sys.stdout.flush()\n"
        "while not pathlib.Path(sys.argv[1]).exists(): threading.Event().wait(0.01)\n"
        "sys.stdout.buffer.write('first \\u00e4'.encode()[-1:] + b' second \\xff')\n"
    )
    tool = python(program, parameters=[{"name": "path"}])
    async with serving(Toolbox([tool])) as served, asyncio.timeout(HANGS):
        run = await served.client.execute(plan=served.plan("run_tools", calls=[call("run", path=str(tmp_path / "go"))]))
        texts = []
        async for event in run:
            if event.HasField("content"):
                assert event.content.channel == "run"
                texts.append(event.content.text)
                (tmp_path / "go").touch()
    assert texts[0] == "first "
    assert "".join(texts) == "first ä second \ufffd"


async def test_an_output_above_its_limit():
    """Of an output above its limit the beginning is kept, with a mark, and the program runs to its end."""
    program = "import sys; sys.stdout.write('x' * 5000); sys.stdout.flush(); sys.stderr.write('y' * 20000); sys.exit(3)"
    tool = python(program, max_output=1000, success=[3])
    async with serving(Toolbox([tool])) as served:
        ran = await served.tools(call("run"))
    output = ran.results["run"]["output"]
    assert output["stdout"] == "x" * 1000 + "\n[truncated: more than 1,000 bytes]\n" == ran.text("run")
    assert output["truncated"] is True
    assert output["stderr"] == "y" * 8192
    exact = python("print('x' * 999)", max_output=1000)
    async with serving(Toolbox([exact])) as served:
        ran = await served.tools(call("run"))
    assert ran.results["run"]["output"] == {
        "exit_code": 0, "stdout": "x" * 999 + "\n", "stderr": "", "truncated": False,
    }  # fmt: skip


async def test_a_program_that_writes_for_ever():
    """A program that goes on writing far beyond its limit is ended, long before its time is over."""
    tool = python("while True: print('x' * 1000)", max_output=1000, timeout=HANGS)
    async with serving(Toolbox([tool])) as served:
        ran = await served.tools(call("run"))
    assert ran.results["run"]["error"] == "it was ended, because it went on writing far beyond 1,000 bytes"
    assert len(ran.text("run")) < 2000


@pytest.mark.parametrize(
    ("program", "says"),
    [
        ("import sys; print('it', file=sys.stderr); sys.exit(2)", "exit code 2: it"),
        ("import sys; sys.exit(1)", "exit code 1"),
        ("import os; os.kill(os.getpid(), 11)", "ended by signal 11"),
    ],
)
async def test_a_program_that_fails(program, says):
    """A program that ends with another exit code than those of success has failed, and its last words say why."""
    async with serving(Toolbox([python(program)])) as served:
        ran = await served.tools(call("run"))
        alone = await served.step("run")
    assert ran.results["run"]["error"] == says
    assert alone.failure == f"ToolFailed: {says}"


async def test_values_of_its_environment_are_hidden(monkeypatch, caplog):
    """What a program says of its environment on standard error stands in no failure, no output and no log."""
    monkeypatch.setenv("SERVERS_KEY", "canary-4711")
    program = "import os, sys; print(os.environ['SERVERS_KEY'] + os.environ['OWN'], file=sys.stderr); sys.exit(%d)"
    given = {"env_from": ["SERVERS_KEY"], "env": {"OWN": "canary-4712"}}
    tools = [python(program % code, name=f"run{code}", **given) for code in (0, 2)]
    async with serving(Toolbox(tools)) as served:
        ran = await served.tools(call("run0"), call("run2"))
        alone = await served.step("run2")
    assert ran.results["run0"]["output"]["stderr"] == "[hidden][hidden]\n"
    assert ran.results["run2"]["error"] == "exit code 2: [hidden][hidden]"
    assert "canary" not in f"{ran.events}{alone.events}{caplog.text}"


# -- how it is ended

FAMILY = """
import os, pathlib, signal, subprocess, sys, threading
folder = pathlib.Path(sys.argv[1])
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if len(sys.argv) == 2:
    program = (folder / "family.py").read_text()
    child = subprocess.Popen([sys.executable, "-c", program, str(folder), "child"])
    while not (folder / "child").exists():
        threading.Event().wait(0.01)
    (folder / "parent").write_text(str(os.getpid()))
else:
    (folder / "child.part").write_text(str(os.getpid()))
    (folder / "child.part").rename(folder / "child")
threading.Event().wait()
"""
"""A program with a child; neither ends when it is asked to."""


@pytest.fixture
def short_grace(monkeypatch):
    """Lets those who ignore SIGTERM, or hold an output, have a tenth of the time."""
    monkeypatch.setattr(processes, "_GRACE", 0.1)


def family(folder: Path, **more: Any) -> CommandTool:
    (folder / "family.py").write_text(FAMILY, "utf-8")
    return python(FAMILY, parameters=[{"name": "folder"}], **more)


async def ended(folder: Path) -> None:
    """Waits until a program and its child have ended. What was killed takes a moment to go."""
    await asyncio.to_thread(until, lambda: gone(folder), "the end of the program and its child")


def gone(folder: Path) -> bool:
    """Whether the program and its child have ended. One that nobody has waited for counts as ended."""
    for name in ("parent", "child"):
        try:
            status = Path(f"/proc/{(folder / name).read_text()}/stat").read_text()
        except FileNotFoundError:
            continue
        if status.rpartition(")")[2].split()[0] != "Z":
            return False
    return True


async def test_a_time_limit_ends_the_whole_group(tmp_path, short_grace):
    """A program that takes too long is ended with all that it started, also where they ignore SIGTERM."""
    async with serving(Toolbox([family(tmp_path, timeout=2)])) as served:
        ran = await served.tools(call("run", folder=str(tmp_path)))
    assert ran.results["run"]["error"] == "it took longer than 2 s"
    await ended(tmp_path)


async def test_a_cancel_ends_the_whole_group(tmp_path, short_grace):
    """A program whose execution is cancelled is ended with all that it started."""
    async with serving(Toolbox([family(tmp_path)])) as served, asyncio.timeout(HANGS):
        run = await served.client.execute(plan=served.plan("run", folder=str(tmp_path)))
        await come(tmp_path / "parent")
        await run.cancel("enough")
        events = [event async for event in run]
    assert [event.WhichOneof("kind") for event in events][-2:] == ["step_cancelled", "plan_cancelled"]
    assert not events[-2].step_cancelled.abandoned
    await ended(tmp_path)


OWNER = """
import asyncio, sys
from stepwire_server.tools.processes import run_program

async def hear(piece):
    pass

asyncio.run(
    run_program(sys.argv[1:], directory="/", environment={}, stdin=b"", max_output=1000, hear=hear)
)
"""
"""A process that runs a program, as a server does."""


def test_a_killed_server_takes_its_programs_with_it(tmp_path):
    """Where the server's process is killed, a program that it runs ends with all of its group."""
    (tmp_path / "family.py").write_text(FAMILY, "utf-8")
    arguments = [sys.executable, str(tmp_path / "family.py"), str(tmp_path)]
    with subprocess.Popen([sys.executable, "-c", OWNER, *arguments]) as owner:
        until((tmp_path / "parent").exists, "the start of the program and its child")
        owner.kill()
    until(lambda: gone(tmp_path), "the end of the program and its child")


async def test_what_a_program_leaves_behind(tmp_path):
    """A program that has ended is not waited for because of a child that holds its output; the child is ended."""
    program = (
        "import os, pathlib, subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import threading; threading.Event().wait()'])\n"
        "pathlib.Path(sys.argv[1]).joinpath('child').write_text(str(child.pid))\n"
        "pathlib.Path(sys.argv[1]).joinpath('parent').write_text(str(os.getpid()))\n"
        "print('done')\n"
    )
    tool = python(program, parameters=[{"name": "folder"}], timeout=HANGS)
    async with serving(Toolbox([tool])) as served:
        ran = await served.tools(call("run", folder=str(tmp_path)))
    assert ran.results["run"]["output"]["stdout"] == "done\n"
    await ended(tmp_path)


async def test_what_leaves_the_group(tmp_path, short_grace):
    """A child that has left the group and holds the output keeps nobody waiting."""
    program = (
        "import os, pathlib, subprocess, sys\n"
        "wait = 'import threading; threading.Event().wait()'\n"
        "child = subprocess.Popen([sys.executable, '-c', wait], start_new_session=True)\n"
        "pathlib.Path(sys.argv[1]).joinpath('child').write_text(str(child.pid))\n"
        "print('done')\n"
    )
    tool = python(program, parameters=[{"name": "folder"}], timeout=HANGS)
    async with serving(Toolbox([tool])) as served:
        ran = await served.tools(call("run", folder=str(tmp_path)))
    os.kill(int((tmp_path / "child").read_text()), signal.SIGKILL)
    assert ran.results["run"]["output"]["stdout"] == "done\n"


async def test_nothing_stays_open():
    """Calls leave no descriptor behind, however they end."""
    tools = [python("print(1)", name="fine"), python("while True: pass", name="long", timeout=0.1)]
    async with serving(Toolbox(tools)) as served:
        await served.tools(call("fine"), call("long"))
        before = len(os.listdir("/proc/self/fd"))
        await served.tools(*[call("fine")] * 5, *[call("long")] * 3)
        assert len(os.listdir("/proc/self/fd")) <= before


async def test_a_program_that_is_gone(tmp_path):
    """A program that has gone since the start fails its call, and says which."""
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\necho here\n")
    program.chmod(0o755)
    tool = CommandTool("run", Command(argv=[str(program)]))
    async with serving(Toolbox([tool])) as served:
        first = await served.tools(call("run"))
        program.unlink()
        second = await served.tools(call("run"))
    assert first.results["run"]["output"]["stdout"] == "here\n"
    assert second.results["run"]["error"] == f"{program} can't be run: No such file or directory"


def test_a_program_is_found_once(tmp_path, monkeypatch):
    """A program that is given by name is looked for at the start: what PATH becomes later changes nothing."""
    first, second = tmp_path / "a", tmp_path / "b"
    for folder in (first, second):
        folder.mkdir()
        (folder / "tool").write_text("#!/bin/sh\n")
        (folder / "tool").chmod(0o755)
    monkeypatch.setenv("PATH", str(first))
    tool = CommandTool("run", Command(argv=["tool"]))
    monkeypatch.setenv("PATH", str(second))
    assert tool.program == str(first / "tool")
