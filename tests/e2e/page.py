"""A page of shell commands with what they print: reads it, runs it whole in one shell, and compares.

A block of `sh` is run; the block of `json` or `text` after it is what it prints. JSON is compared with what came on standard
output, value by value; a text with all that came, or with standard error where JSON stands before it. What the page leaves
out it shows as `...`: fields of an object, items of a list, messages, lines, or the rest of a text. Ids, times, durations and
what was measured are others each time; the same id of the page must be the same one in what is printed.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Block", "Printed", "blocks", "differences", "parse", "run", "values"]

_FENCE = re.compile(r"^```(?P<language>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|\.\.\.|[\[\]{}:,]|[^\s\[\]{}:,"]+')
_REST = object()
"""Stands for whatever the page leaves out."""

_ID = re.compile(r"\b(?:(?=\w*[a-z])(?=\w*[A-Z])[0-9A-Za-z]{22}|[0-9a-f]{16})\b")
_VARYING = (
    (re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z"), "TIME"),
    (re.compile(r"\b\d+(\.\d+)?(e-\d+)? ?(ns|µs|ms|s)\b"), "DURATION"),
    (re.compile(r"\b\d+\.\d+\b"), "MEASURED"),
)


@dataclass(frozen=True)
class Block:
    """Commands of the page, and what it shows that they print."""

    number: int
    """Its place among the page's commands, from 1."""
    commands: str
    json: str = ""
    text: str = ""

    def __str__(self) -> str:
        words = [word for word in shlex.split(self.commands) if "/" in word or word in ("list", "describe")]
        return "-".join([f"{self.number:02}", self.tool, *(word.rpartition("/")[2] for word in words[-1:])])

    @property
    def tool(self) -> str:
        """The program that it needs: the first one that it names."""
        found = re.search(r"\b(grpcurl|buf|ghz)\b", self.commands)
        return found[0] if found else ""


@dataclass(frozen=True)
class Printed:
    """What a block's commands printed."""

    out: str
    error: str
    code: int


def blocks(page: str) -> list[Block]:
    """Returns the commands of a page, in order."""
    found: list[dict[str, str]] = []
    for fence in _FENCE.finditer(page):
        language, text = fence["language"], fence["text"]
        if language == "sh":
            found.append({"commands": text})
        elif language in ("json", "text"):
            assert found, "a page begins with a command"
            assert language not in found[-1], f"two blocks of {language} after {found[-1]['commands']}"
            found[-1][language] = text
    return [Block(number, **block) for number, block in enumerate(found, 1)]


def run(
    chosen: Sequence[Block], folder: Path, *, path: Sequence[str], addresses: Mapping[str, str], seconds: float
) -> dict[int, Printed]:
    """Runs blocks in one shell in this folder, and returns what each printed. Fails where they take longer than that.

    `path`: folders of programs, before those of this process. `addresses`: what stands on the page, and what it is here.
    """
    lines = []
    for block in chosen:
        commands = block.commands
        for shown, real in addresses.items():
            commands = commands.replace(shown, real)
        file = folder / f"{block.number}"
        lines.append(f"{{\n{commands}}} >{file}.out 2>{file}.error </dev/null; echo $? >{file}.code\n")
    environment = {**os.environ, "PATH": os.pathsep.join([*path, os.environ["PATH"]]), "NO_COLOR": "1"}
    subprocess.run(["bash", "-c", "".join(lines)], cwd=folder, env=environment, timeout=seconds, check=True)
    return {
        block.number: Printed(
            out=(folder / f"{block.number}.out").read_text("utf-8"),
            error=(folder / f"{block.number}.error").read_text("utf-8"),
            code=int((folder / f"{block.number}.code").read_text()),
        )
        for block in chosen
    }


def differences(block: Block, printed: Printed, ids: dict[str, str]) -> Iterator[str]:
    """Gives where what was printed is not what the page shows. `ids`: those of the page so far, and which they are here."""
    if block.json:
        yield from _compare_all(parse(block.json), values(printed.out), ids)
    shown = block.text.splitlines()
    came = (printed.error if block.json else printed.out + printed.error).splitlines()
    if shown or came:
        yield from _compare_lines(shown, came, ids)
    failed = re.search(r'^(ERROR:|Error |Failure: |\{$|   "code":)', block.text, re.MULTILINE) is not None
    if failed != (printed.code != 0):
        yield f"the exit code is {printed.code}, which the page does not tell of"


def values(printed: str) -> list[Any]:
    """Returns the JSON values that a program printed one after another, with names as the contract has them.

    Releases of grpcurl differ in whether they print `execution_id` or `executionId`.
    """
    decoder = json.JSONDecoder(object_pairs_hook=_named)
    found = []
    while printed := printed.lstrip():
        value, end = decoder.raw_decode(printed)
        found.append(value)
        printed = printed[end:]
    return found


def parse(shown: str) -> list[Any]:
    """Returns the values of a block of JSON, with what it leaves out. Commas beside `...` may be there or not."""
    tokens = [token for token in _TOKEN.findall(shown) if token != ","]
    found = []
    while tokens:
        found.append(_value(tokens))
    return found


def _value(tokens: list[str]) -> Any:
    token = tokens.pop(0)
    if token == "...":
        return _REST
    if token == "{":
        pairs = []
        while tokens[0] != "}":
            name = tokens.pop(0)
            if name == "...":
                pairs.append(("...", _REST))
            else:
                assert tokens.pop(0) == ":", name
                pairs.append((json.loads(name), _value(tokens)))
        tokens.pop(0)
        return _named(pairs)
    if token == "[":
        items = []
        while tokens[0] != "]":
            items.append(_value(tokens))
        tokens.pop(0)
        return items
    return json.loads(token)


def _named(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    return {re.sub("[A-Z]", lambda letter: f"_{letter[0].lower()}", name): value for name, value in pairs}


def _compare(shown: Any, came: Any, ids: dict[str, str], path: str) -> Iterator[str]:
    if shown is _REST:
        return
    if isinstance(shown, dict) and isinstance(came, dict):
        yield from _compare_fields(shown, came, ids, path)
    elif isinstance(shown, list) and isinstance(came, list):
        yield from _compare_all(shown, came, ids, path)
    elif isinstance(shown, str) and isinstance(came, str):
        if not _is_same(shown, came, ids):
            yield f"{path}: the page has {shown!r}, printed was {came!r}"
    elif type(shown) is not type(came) or shown != came:
        yield f"{path}: the page has {shown!r}, printed was {came!r}"


def _compare_fields(shown: dict[str, Any], came: dict[str, Any], ids: dict[str, str], path: str) -> Iterator[str]:
    named = [name for name in shown if name != "..."]
    if lacking := [name for name in named if name not in came]:
        yield f"{path}: not printed: {', '.join(lacking)}"
    elif "..." not in shown and (more := [name for name in came if name not in shown]):
        yield f"{path}: not on the page: {', '.join(more)}"
    elif named != [name for name in came if name in shown]:
        yield f"{path}: printed in another order: {', '.join(came)}"
    else:
        for name in named:
            yield from _compare(shown[name], came[name], ids, f"{path}.{name}")


def _compare_all(shown: list[Any], came: list[Any], ids: dict[str, str], path: str = "") -> Iterator[str]:
    """Compares lists. Each run of items up to `...` is looked for from where the one before it ended; the last at the end."""
    runs: list[list[Any]] = [[]]
    for item in shown:
        if item is _REST:
            runs.append([])
        else:
            runs[-1].append(item)
    first, *others = runs
    if len(came) < len(shown) - len(others) or (not others and len(came) > len(first)):
        yield f"{path}: the page has {len(shown) - len(others)} values, printed were {len(came)}"
        return
    for number, item in enumerate(first):
        yield from _compare(item, came[number], ids, f"{path}[{number}]")
    start = len(first)
    for run in others[:-1]:
        start = next(
            (
                place + len(run)
                for place in range(start, len(came) - len(run) + 1)
                if not any(_tried(item, came[place + i], ids) for i, item in enumerate(run))
            ),
            -1,
        )
        if start < 0:
            yield f"{path}: the page shows between two `...` what was not printed: {run}"
            return
    for back, item in enumerate(reversed(others[-1] if others else []), 1):
        yield from _compare(item, came[-back], ids, f"{path}[-{back}]")


def _tried(shown: Any, came: Any, ids: dict[str, str]) -> list[str]:
    """Returns the differences, and learns ids only where there are none."""
    learnt = dict(ids)
    found = list(_compare(shown, came, learnt, ""))
    if not found:
        ids.update(learnt)
    return found


def _compare_lines(shown: list[str], came: list[str], ids: dict[str, str]) -> Iterator[str]:
    pattern = [_REST if line.strip() == "..." else line.rstrip() for line in shown]
    yield from _compare_all(pattern, [line.rstrip() for line in came], ids, "line ")


def _is_same(shown: str, came: str, ids: dict[str, str]) -> bool:
    """Returns whether two texts are the same but for what is another each time."""
    if shown.endswith("..."):
        shown = shown.removesuffix("...")
        came = came[: len(_ID.sub(lambda found: ids.get(found[0], found[0]), shown))]
    old, new = _ID.findall(shown), _ID.findall(came)
    if len(old) != len(new) or any(ids.setdefault(one, other) != other for one, other in zip(old, new, strict=True)):
        return False
    return _without(_ID.sub("ID", shown)) == _without(_ID.sub("ID", came))


def _without(text: str) -> str:
    for pattern, name in _VARYING:
        text = pattern.sub(name, text)
    return text
