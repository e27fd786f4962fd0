"""A page of shell commands with what they print: reads it, runs it whole in one shell, and compares.

A block of `sh` is run; the blocks of `json` and `text` after it are what it prints. JSON is compared with standard
output, value by value; a text with all output, or with standard error where JSON stands before it. What the page leaves
out it shows as `...`: fields of an object, items of a list, lines, the rest of a text. Ids, times, durations and what
was measured are others each time, but one id of the page is one id here. How events are spread over messages does not
count.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Block", "Printed", "blocks", "differences", "run"]

_FENCE = re.compile(r"^```(?P<language>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|\.\.\.|[\[\]{}:]|[^\s\[\]{}:,"]+')
_FAILED = re.compile(r'^(ERROR:|Error |Failure: |   "code": )', re.MULTILINE)

_REST = object()
"""Stands for what the page leaves out."""

# Of an execution, and of a question.
_ID = re.compile(r"\b(?:(?=\w*[a-z])(?=\w*[A-Z])[0-9A-Za-z]{22}|[0-9a-f]{16})\b")
_VARYING = (
    (re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z"), "TIME"),
    (re.compile(r"\b\d+(\.\d+)? ?(ns|µs|ms|s)\b"), "DURATION"),
    (re.compile(r"\b\d+\.\d{2}$"), "MEASURED"),
)


@dataclass(frozen=True)
class Block:
    """Commands of the page, and what it shows that they print."""

    number: int
    """Its place among the page's commands, from 1."""
    commands: str
    json: str = ""
    text: str = ""

    @property
    def tool(self) -> str:
        """The program that it calls."""
        return re.findall(r"\b(grpcurl|buf|ghz) -?", self.commands)[0]

    def __str__(self) -> str:
        called = re.findall(r"\w+/(\w+)|\b(describe|list\b|--list-\w+)", self.commands)
        return "-".join([f"{self.number:02}", self.tool, *filter(None, called[-1])])


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
            assert language not in found[-1], f"two blocks of {language} after {found[-1]['commands']}"
            found[-1][language] = text
    return [Block(number, **block) for number, block in enumerate(found, 1)]


def run(
    chosen: Sequence[Block], folder: Path, *, path: Sequence[str], addresses: Mapping[str, str], seconds: float
) -> dict[int, Printed]:
    """Runs blocks in one shell in this folder, and returns what each printed. Fails where that takes so long.

    `path`: folders of programs, before those of this process. `addresses`: those of the page, and what they are here.
    """
    lines = []
    for block in chosen:
        commands = block.commands
        for shown, here in addresses.items():
            commands = commands.replace(shown, here)
        file = folder / f"block-{block.number}"
        lines.append(f"{{\n{commands}}} >{file}.out 2>{file}.error </dev/null; echo $? >{file}.code\n")
    environment = {**os.environ, "PATH": os.pathsep.join([*path, os.environ["PATH"]])}
    # A session of its own, so that a command which hangs can be ended with its shell.
    with subprocess.Popen(["bash", "-c", "".join(lines)], cwd=folder, env=environment, start_new_session=True) as shell:
        try:
            shell.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(shell.pid, signal.SIGKILL)
            hangs = next(block for block in chosen if not (folder / f"block-{block.number}.code").exists())
            raise AssertionError(f"after {seconds:g} s it was still at {hangs}:\n{hangs.commands}") from None
    return {
        block.number: Printed(
            out=(folder / f"block-{block.number}.out").read_text("utf-8"),
            error=(folder / f"block-{block.number}.error").read_text("utf-8"),
            code=int((folder / f"block-{block.number}.code").read_text("utf-8")),
        )
        for block in chosen
    }


def differences(block: Block, printed: Printed, ids: dict[str, str]) -> Iterator[str]:
    """Gives where what was printed is not what the page shows. `ids`: the page's so far, and what they are here."""
    came = printed.out + printed.error
    if block.json:
        yield from _compare_lists(_joined(_parse(block.json)), _joined(_values(printed.out)), ids, "message ")
        came = printed.error
    shown = [_REST if line.strip() == "..." else line.rstrip() for line in block.text.splitlines()]
    # Go's JSON has a space of one kind or the other in its errors, so that nobody reads them by program.
    lines = came.replace("\xa0", " ").rstrip().splitlines()
    yield from _compare_lists(shown, [line.rstrip() for line in lines], ids, "line ")
    if bool(_FAILED.search(block.text)) != bool(printed.code):
        yield f"the exit code is {printed.code}, which the page does not tell of"


def _values(printed: str) -> list[Any]:
    """Returns the JSON values that a program printed one after another."""
    decoder = json.JSONDecoder()
    found = []
    while printed := printed.lstrip():
        value, end = decoder.raw_decode(printed)
        found.append(value)
        printed = printed[end:]
    return found


def _parse(shown: str) -> list[Any]:
    """Returns the values of a block of JSON with `...` in it, beside which commas may be missing."""
    tokens = _TOKEN.findall(shown)[::-1]
    found = []
    while tokens:
        found.append(_parse_value(tokens))
    return found


def _parse_value(tokens: list[str]) -> Any:
    match tokens.pop():
        case "...":
            return _REST
        case "{":
            pairs = []
            while (name := tokens.pop()) != "}":
                if name == "...":
                    pairs.append((name, _REST))
                else:
                    assert tokens.pop() == ":", name
                    pairs.append((json.loads(name), _parse_value(tokens)))
            return dict(pairs)
        case "[":
            items = []
            while tokens[-1] != "]":
                items.append(_parse_value(tokens))
            tokens.pop()
            return items
        case token:
            return json.loads(token)


def _joined(messages: list[Any]) -> list[Any]:
    """Makes one message of those with events that follow each other."""
    found: list[Any] = []
    for message in messages:
        before = found[-1] if found else None
        if isinstance(before, dict) and isinstance(message, dict) and "events" in before and "events" in message:
            last = {name: value for name, value in message.items() if name != "afterSequence"}
            found[-1] = {**before, **last, "events": [*before["events"], *message["events"]]}
        else:
            found.append(message)
    return found


def _compare(shown: Any, came: Any, ids: dict[str, str], path: str) -> Iterator[str]:
    if shown is _REST:
        return
    if isinstance(shown, dict) and isinstance(came, dict):
        yield from _compare_objects(shown, came, ids, path)
    elif isinstance(shown, list) and isinstance(came, list):
        yield from _compare_lists(shown, came, ids, path)
    elif isinstance(shown, str) and isinstance(came, str):
        if not _is_alike(shown, came, ids):
            yield f"{path}: the page has {shown!r}, printed was {came!r}"
    elif type(shown) is not type(came) or shown != came:
        yield f"{path}: the page has {shown!r}, printed was {came!r}"


def _compare_objects(shown: dict[str, Any], came: dict[str, Any], ids: dict[str, str], path: str) -> Iterator[str]:
    names = [name for name in shown if name != "..."]
    if lacking := [name for name in names if name not in came]:
        yield f"{path}: not printed: {', '.join(lacking)}"
    elif "..." not in shown and (more := [name for name in came if name not in shown]):
        yield f"{path}: not on the page: {', '.join(more)}"
    elif names != [name for name in came if name in shown]:
        yield f"{path}: printed in another order: {', '.join(came)}"
    else:
        for name in names:
            yield from _compare(shown[name], came[name], ids, f"{path}.{name}")


def _compare_lists(shown: list[Any], came: list[Any], ids: dict[str, str], path: str) -> Iterator[str]:
    """Compares item by item. What stands between two `...` is looked for, what stands after the last is the end."""
    pieces: list[list[Any]] = [[]]
    for item in shown:
        if item is _REST:
            pieces.append([])
        else:
            pieces[-1].append(item)
    known = sum(map(len, pieces))
    if len(came) < known or (len(pieces) == 1 and len(came) > known):
        yield f"{path}: the page has {known}, printed were {len(came)}: {came}"
        return
    first, *middle = pieces
    last = middle.pop() if middle else []
    start = len(first)
    for piece in middle:
        places = range(start, len(came) - len(last) - len(piece) + 1)
        found = next((place for place in places if _is_there(piece, came[place:], ids)), None)
        if found is None:
            yield f"{path}: not printed between two `...`: {piece}"
            return
        start = found + len(piece)
    for number, (item, other) in enumerate(zip(first, came, strict=False)):
        yield from _compare(item, other, ids, f"{path}[{number}]")
    for number, item in enumerate(last, len(came) - len(last)):
        yield from _compare(item, came[number], ids, f"{path}[{number}]")


def _is_there(piece: list[Any], came: list[Any], ids: dict[str, str]) -> bool:
    """Returns whether a list begins with these items. Where it does not, it learns no ids."""
    learnt = dict(ids)
    if any(list(_compare(item, other, learnt, "")) for item, other in zip(piece, came, strict=False)):
        return False
    ids.update(learnt)
    return True


def _is_alike(shown: str, came: str, ids: dict[str, str]) -> bool:
    """Returns whether two texts are the same but for what is another each time."""
    if shown.endswith("..."):
        shown = shown.removesuffix("...")
        came = came[: len(shown)]
    old, new = _ID.findall(shown), _ID.findall(came)
    if len(old) != len(new) or any(ids.setdefault(one, other) != other for one, other in zip(old, new, strict=True)):
        return False
    return _masked(shown) == _masked(came)


def _masked(text: str) -> str:
    text = _ID.sub("ID", text)
    for pattern, name in _VARYING:
        text = pattern.sub(name, text)
    return text
