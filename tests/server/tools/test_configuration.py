"""What configuration files say of commands and MCP servers, and what is said of those that can't be used."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from stepwire_server import tools
from stepwire_server.tools import load_commands, load_servers

GOOD = f"""
[commands.show]
description = "Shows what it is given"
argv = ["{sys.executable}", "-c", "0"]
directory = "/"
timeout = 5
success = [0, 1]
env = {{ A = "b" }}

[[commands.show.parameters]]
name = "what"
description = "Anything"
type = "texts"
choices = ["a", "b"]
required = false

[commands.idle]
argv = ["true"]
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "tools.toml"
    path.write_text(text, "utf-8")
    return path


def test_commands_of_a_file(tmp_path):
    """Each table is a command, with its description, its time limit and the schema of its parameters."""
    show, idle = load_commands(written(tmp_path, GOOD))
    assert (show.name, show.description, show.timeout) == ("show", "Shows what it is given", 5)
    assert show.schema == {
        "type": "object",
        "properties": {
            "what": {
                "type": "array",
                "items": {"type": "string", "maxLength": 10_000, "enum": ["a", "b"]},
                "maxItems": 100,
                "description": "Anything",
            }
        },
        "required": [],
        "additionalProperties": False,
    }
    assert (idle.timeout, idle.schema["properties"]) == (30, {})
    assert Path(idle.program).is_absolute()


def parameter(text: str) -> str:
    return f'[commands.x]\nargv = ["true"]\n[[commands.x.parameters]]\n{text}'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x = ", "Invalid value"),
        ("[other]", "it has tables [commands.NAME], and nothing else"),
        ("commands = 3", "it has tables [commands.NAME], and nothing else"),
        ("[commands]\nx = 3", "it has tables [commands.NAME], and nothing else"),
        ("[commands.x]", "commands.x.argv: field required"),
        ('[commands.x]\nargv = "ls -l"', "commands.x.argv: input should be a valid list"),
        ('[commands.x]\nargv = ["true"]\nshell = true', "commands.x.shell: extra inputs are not permitted"),
        ('[commands.x]\nargv = ["true"]\ntimeout = 0', "commands.x.timeout: input should be greater than 0"),
        ('[commands.x]\nargv = ["no-such-program"]', "commands.x: there is no program 'no-such-program'"),
        ('[commands.x]\nargv = ["./run"]', "commands.x: argv[0] is './run': give a name, or a path from the root"),
        ('[commands.x]\nargv = ["true"]\ndirectory = "."', "commands.x: directory '.' is not named from the root"),
        ('[commands.x]\nargv = ["true"]\ndirectory = "/no-such"', "commands.x: directory '/no-such' is no folder"),
        ('[commands.x]\nargv = ["true", "a\\u0000b"]', "commands.x: a NUL character stands in argv or env"),
        ('[commands.x]\nargv = ["true"]\nenv_from = ["NO_SUCH_1"]', "commands.x: env_from: NO_SUCH_1 is not set"),
        (parameter('name = "a b"'), "commands.x.parameters[0].name: string should match pattern"),
        (parameter('name = "a"\noption = "file"'), "commands.x.parameters[0].option: string should match pattern"),
        (parameter('name = "a"\ntype = "flag"'), "commands.x: parameter 'a' is a flag, and has no option to give"),
        (parameter('name = "a"\nstdin = true\noption = "-a"'), "commands.x: parameter 'a' is given on standard input"),
        (parameter('name = "a"\npattern = "("'), "commands.x: command 'x': the schema is no JSON schema"),
        (parameter('name = "a"\n[[commands.x.parameters]]\nname = "a"'), "commands.x: there are two parameters 'a'"),
        ('[commands.x]\nargv = ["true"]\nenv = { KEY = 3, OTHER = "canary" }', "commands.x.env.KEY: input should be"),
    ],
)
def test_what_is_wrong_with_commands_is_told_with_its_place(text, says, tmp_path):
    """What is wrong with a file of commands is told in one line, with the file and the place, and without values."""
    path = written(tmp_path, text)
    with pytest.raises(ValueError, match=r"tools\.toml: ") as refused:
        load_commands(path)
    assert str(refused.value).startswith(f"{path}: ")
    assert says in str(refused.value)
    assert "canary" not in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


def test_servers_of_a_file(tmp_path, monkeypatch):
    """Each table is an MCP server; what is wrong is told with its place, and no value of an environment."""
    monkeypatch.setenv("TOKEN", "canary")
    text = '[mcp.a]\ncommand = ["run"]\nenv_from = ["TOKEN"]\n[mcp.b]\nurl = "http://127.0.0.1:1/mcp"\nprefix = "b-"'
    first, second = load_servers(written(tmp_path, text))
    assert (first.name, second.name, second.settings.prefix) == ("a", "b", "b-")
    for text, says in (
        ("[mcp.a]", "MCP server 'a' has a command or a url"),
        ('[mcp.a]\ncommand = ["x"]\nenv = { KEY = 1, B = "canary" }', "mcp.a.env.KEY: input should be a valid string"),
        ('[mcp.a]\ncommand = ["x"]\nenv_from = ["NO_SUCH_1"]', "mcp.a: NO_SUCH_1 is not set"),
        ('[servers.a]\ncommand = ["x"]', "it has tables [mcp.NAME], and nothing else"),
    ):
        with pytest.raises(ValueError, match=r"tools\.toml: ") as refused:
            load_servers(written(tmp_path, text))
        assert says in str(refused.value)
        assert "canary" not in str(refused.value)


def blocks() -> list[str]:
    """The files that the README shows."""
    text = (Path(tools.__file__).parent / "README.md").read_text("utf-8")
    return re.findall(r"```toml\n(.*?)```", text, re.DOTALL)


def test_the_commands_of_the_readme(tmp_path):
    """The command that the README shows searches one file of its folder, and no other."""
    (search,) = load_commands(written(tmp_path, blocks()[0].replace("/srv/handbook", str(tmp_path))))
    assert search.check({"words": "leap", "file": "days-of-the-year.md"}) == []
    for file in ("/etc/passwd", "../keys.md", "a/b.md", "-r", ".", "keys.txt"):
        assert [wrong.field for wrong in search.check({"words": "leap", "file": file})] == ["input.file"]


def test_the_servers_of_the_readme(tmp_path, monkeypatch):
    """The MCP servers that the README shows can be named so."""
    monkeypatch.setenv("WEATHER_KEY", "canary-1")
    monkeypatch.setenv("TICKETS_TOKEN", "Bearer canary-2")
    weather, tickets = load_servers(written(tmp_path, blocks()[1]))
    assert (weather.settings.command, tickets.settings.prefix) == (["python", "weather.py"], "tickets-")
    assert tickets.secrecy.headers == {"Authorization": "Bearer canary-2"}
