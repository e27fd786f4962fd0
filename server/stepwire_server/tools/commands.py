"""Commands as tools: programs that a configuration allows, with arguments that stand where it says, and no shell.

[commands.search]
description = "Finds lines in the handbook"
argv = ["grep", "-n"]                       the program, found at the start, and what always comes first
directory = "/srv/handbook"                 where it runs; without it, in an empty folder of its own
success = [0, 1]                            exit codes that are no failure

[[commands.search.parameters]]
name = "words"
option = "--regexp"                         given as --regexp=VALUE

[[commands.search.parameters]]
name = "file"                               given as it is; it can't begin with "-"
pattern = "^[a-z0-9-]+[.]md$"               without it, any file that the server may read: /etc/passwd, ../keys.txt
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Annotated, Any

from pydantic import Field

from stepwire.errors import Violation
from stepwire_server import SchemaSignature
from stepwire_server.tools.parameters import Configured, Parameter
from stepwire_server.tools.processes import run_program
from stepwire_server.tools.secrecy import Secrets
from stepwire_server.tools.tool import Tool, ToolContext, ToolFailed

__all__ = ["Command", "CommandTool"]

_ARGUMENTS_BYTES = 1_000_000
"""Of all arguments of a call: somewhat less than Linux lets a program be given."""

_ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}
"""All that a program has of an environment, besides what its configuration gives it."""


class Command(Configured):
    """A command as its configuration says it."""

    description: str = ""
    """What it does, for people and models."""
    argv: Annotated[list[str], Field(min_length=1)]
    """The program, by name or from the root of the file system, and the arguments that always come first."""
    parameters: list[Parameter] = Field(default_factory=list)
    """What a caller may say, in the order of the arguments."""
    directory: str | None = None
    """Where it runs, from the root of the file system. Without it, each call has an empty folder of its own."""
    env: dict[str, str] = Field(default_factory=dict)
    """Its environment, besides a PATH and LANG. What it writes to standard error, and so its failure, is shown without
    these values and the next ones; its standard output is its result, and shown as it is.
    """
    env_from: list[str] = Field(default_factory=list)
    """Variables of the server's environment that it has, too."""
    timeout: Annotated[float, Field(gt=0, le=86_400, strict=False)] = 30.0
    """Seconds after which it is ended."""
    max_output: Annotated[int, Field(ge=1, le=256 * 1024)] = 64 * 1024
    """Bytes of its output that are kept."""
    success: list[int] = Field(default_factory=lambda: [0])
    """The exit codes that are no failure."""


class CommandTool(Tool):
    """A command as a tool. Its output: `exit_code`, `stdout`, `stderr` and `truncated`.

    Raises ValueError for a configuration that can't work: no such program, no such folder, a variable that is not set.
    """

    starts_programs = True

    def __init__(self, name: str, command: Command, *, path: str | None = None) -> None:
        """`path`: where a program is looked for that is given by name; the server's PATH by default."""
        self._command = command
        self.program = _resolved(command.argv[0], path)
        """Where the program is, from the root of the file system."""
        _check(command)
        given = {key: _variable(key) for key in command.env_from} | command.env
        self._environment = _ENVIRONMENT | given
        self._secrets = Secrets(given.values())
        schema = {
            "type": "object",
            "properties": {each.name: each.value_schema() for each in command.parameters},
            "required": [each.name for each in command.parameters if each.required and each.type != "flag"],
            "additionalProperties": False,
        }
        signature = _CommandSignature(command, name=f"command {name!r}", schema=schema)
        super().__init__(name, description=command.description, signature=signature, timeout=command.timeout)

    async def _work(self, arguments: Mapping[str, Any], context: ToolContext) -> Any:
        command = self._command
        stdin = "".join(str(arguments.get(each.name, "")) for each in command.parameters if each.stdin)
        folder = (
            nullcontext(command.directory)
            if command.directory
            else tempfile.TemporaryDirectory(prefix="stepwire-", ignore_cleanup_errors=True)
        )
        with folder as directory:
            assert directory is not None
            try:
                ended = await run_program(
                    [self.program, *command.argv[1:], *_given(command, arguments)],
                    directory=directory,
                    environment=self._environment,
                    stdin=stdin.encode(),
                    max_output=command.max_output,
                    hear=context.content,
                )
            except OSError as error:
                raise ToolFailed(f"{self.program} can't be run: {error.strerror or error}") from None
        if ended.runaway:
            raise ToolFailed(f"it was ended, because it went on writing far beyond {command.max_output:,} bytes")
        if ended.exit_code not in command.success:
            raise ToolFailed(_why(ended.exit_code, self._secrets.hide(ended.stderr)))
        return {
            "exit_code": ended.exit_code,
            "stdout": ended.stdout,
            "stderr": self._secrets.hide(ended.stderr),
            "truncated": ended.truncated,
        }


class _CommandSignature(SchemaSignature):
    """Checks what no schema can say, too: that a value is one argument, and no other one than it is meant to be."""

    def __init__(self, command: Command, *, name: str, schema: Mapping[str, Any]) -> None:
        super().__init__(schema, name=name)
        self._command = command

    def check(
        self, values: Mapping[str, Any], *, path: str, given_later: Mapping[str, Any] | None = None
    ) -> list[Violation]:
        found = super().check(values, path=path, given_later=given_later)
        if found:
            return found
        total = 0
        for each in self._command.parameters:
            if each.name in values:
                problem, size = each.measure(values[each.name])
                total += size
                found += [Violation(f"{path}.{each.name}", problem)] if problem else []
        if total > _ARGUMENTS_BYTES:
            found.append(Violation(path, f"has {total:,} bytes; at most {_ARGUMENTS_BYTES:,} can be arguments"))
        return found


def _check(command: Command) -> None:
    if command.directory is not None and not os.path.isabs(command.directory):
        raise ValueError(f"directory {command.directory!r} is not named from the root")
    if command.directory is not None and not os.path.isdir(command.directory):
        raise ValueError(f"directory {command.directory!r} is no folder, or is not there")
    names = [each.name for each in command.parameters]
    for each in command.parameters:
        if names.count(each.name) > 1:
            raise ValueError(f"there are two parameters {each.name!r}")
        if each.type == "flag" and each.option is None:
            raise ValueError(f"parameter {each.name!r} is a flag, and has no option to give")
        if each.stdin and (each.type != "text" or each.option is not None):
            raise ValueError(f"parameter {each.name!r} is given on standard input: it is a text, and has no option")
    for text in (*command.argv, *command.env, *command.env.values()):
        if "\0" in text:
            raise ValueError("a NUL character stands in argv or env")


def _resolved(program: str, path: str | None) -> str:
    """Returns where a program is, so that no later change of PATH or folder makes it another one."""
    if os.path.dirname(program) and not os.path.isabs(program):
        raise ValueError(f"argv[0] is {program!r}: give a name, or a path from the root")
    found = shutil.which(program, path=path)
    if found is None:
        raise ValueError(f"there is no program {program!r} that can be run")
    return os.path.abspath(found)


def _variable(name: str) -> str:
    if name not in os.environ:
        raise ValueError(f"env_from: {name} is not set in the server's environment")
    return os.environ[name]


def _given(command: Command, arguments: Mapping[str, Any]) -> list[str]:
    return [
        text
        for each in command.parameters
        if each.name in arguments and not each.stdin
        for text in each.arguments(arguments[each.name])
    ]


def _why(code: int, stderr: str) -> str:
    told = stderr.strip()
    ended = f"exit code {code}" if code >= 0 else f"ended by signal {-code}"
    return f"{ended}: {told[-2_000:]}" if told else ended
