"""The fenced blocks of README.md, so that what it says is what is tested."""

from __future__ import annotations

import re
import shlex

from .serving import REPOSITORY

__all__ = ["commands", "json_blocks", "python_block", "readme"]

_BLOCK = re.compile(r"^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


def readme() -> str:
    """Returns README.md."""
    return (REPOSITORY / "README.md").read_text("utf-8")


def python_block(containing: str) -> str:
    """Returns the Python block that has this text in it. There must be exactly one."""
    found = [text for text in _blocks("python") if containing in text]
    assert len(found) == 1, f"README.md has {len(found)} Python blocks with {containing!r} in them, not one"
    return found[0]


def json_blocks() -> list[str]:
    """Returns all blocks of JSON."""
    return _blocks("json")


def commands(program: str) -> list[list[str]]:
    """Returns the arguments of every command line that begins with this program, in the order of README.md."""
    lines = [
        line.removeprefix("$ ")
        for text in _blocks("sh", "console", "bash")
        for line in text.replace("\\\n", " ").splitlines()
    ]
    return [shlex.split(line)[1:] for line in lines if line.split(" ", 1)[0] == program]


def _blocks(*languages: str) -> list[str]:
    return [match["text"] for match in _BLOCK.finditer(readme()) if match["language"] in languages]
