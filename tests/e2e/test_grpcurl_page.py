"""protos/grpcurl.md: every command works as it stands, and prints what the page shows."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from stepwire.v1 import execution_service_pb2

from .page import Block, Printed, blocks, differences, run
from .serving import PATIENCE, REPOSITORY, ServerProcess, command, find_grpcurl, not_run

PAGE = (REPOSITORY / "protos/grpcurl.md").read_text("utf-8")
BLOCKS = blocks(PAGE)

CALLS = [block for block in BLOCKS if re.search(r"^(\w+=\$\()?grpcurl -plaintext .*/\w+", block.commands, re.M | re.S)]
"""What calls an rpc with grpcurl and reflection."""

OF_THE_SERVICE = [block for block in CALLS if "stepwire.v1.ExecutionService/" in block.commands]
"""Those of them that call one of ours."""

TOOLS = REPOSITORY / "build/tools/bin"

Wrong = Mapping[int, list[str]]
"""What is wrong with each block that was run, by its number."""


@pytest.fixture(scope="module")
def as_it_stands(tmp_path_factory: pytest.TempPathFactory) -> Wrong:
    """The page, but for what needs a program that is not there."""
    return try_page(tmp_path_factory.mktemp("page"), [block for block in BLOCKS if is_there(block.tool)])


@pytest.fixture(scope="module")
def with_buf(tmp_path_factory: pytest.TempPathFactory) -> Wrong:
    """Every call of the page, as `buf curl` makes it."""
    return try_page(
        tmp_path_factory.mktemp("buf"), [replace(block, commands=for_buf(block.commands)) for block in CALLS]
    )


@pytest.fixture(scope="module")
def with_a_file(tmp_path_factory: pytest.TempPathFactory) -> Wrong:
    """Every call of the page, with the contract from a file."""
    [made] = [block for block in BLOCKS if "-protoset-out" in block.commands]
    read = "grpcurl -protoset stepwire.binpb -plaintext"
    calls = [replace(block, commands=block.commands.replace("grpcurl -plaintext", read)) for block in OF_THE_SERVICE]
    return try_page(tmp_path_factory.mktemp("file"), [made, *calls])


def try_page(folder: Path, chosen: list[Block]) -> Wrong:
    """Runs blocks of the page against both of its servers, in a folder that has what they need of the repository."""
    grpcurl = Path(find_grpcurl())
    (folder / "protos").symlink_to(REPOSITORY / "protos")
    [(name, text)] = re.findall(r"`(\w+\.py)`:\n\n```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    (folder / name).write_text(text, "utf-8")
    [app] = re.findall(r"`stepwire-server serve (\w+:\w+) --listen localhost:50052`", PAGE)
    places = [folder / "assistant", folder / "beside"]
    for place in places:
        place.mkdir()
    path = [str(Path(sys.executable).parent), str(grpcurl.parent), str(TOOLS)]
    with ServerProcess(places[0]) as assistant, ServerProcess(places[1], app=app, cwd=folder) as beside:
        addresses = {"localhost:50051": assistant.address, "localhost:50052": beside.address}
        printed = run(chosen, folder, path=path, addresses=addresses, seconds=2 * PATIENCE)
    ids: dict[str, str] = {}
    return {block.number: list(differences(block, printed[block.number], ids)) for block in chosen}


def is_there(tool: str) -> bool:
    """Returns whether a program of the page is installed. buf comes with what the tests need."""
    if tool == "buf":
        return bool(command("buf"))
    return bool(shutil.which(tool) or shutil.which(tool, path=str(TOOLS)))


def for_buf(commands: str) -> str:
    """Returns commands as the page says that they are written for buf."""
    commands = commands.replace("grpcurl -plaintext", "buf curl --protocol grpc").replace("-max-time 2", "--timeout 2s")
    return re.sub(r"(localhost:\d+) ([\w.]+/\w+)", r"http://\1/\2", commands)


# -- what it prints


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_it_prints_what_the_page_shows(block: Block, as_it_stands: Wrong) -> None:
    """A command of the page works as it stands, and prints what the page shows, but for ids, times and durations."""
    if not is_there(block.tool):
        not_run(f"{block.tool} is missing: run `make tools`, which needs Go and puts it into build/tools/bin")
    assert as_it_stands[block.number] == []


@pytest.mark.parametrize("block", [block for block in CALLS if block.json], ids=str)
def test_the_same_with_buf(block: Block, with_buf: Wrong) -> None:
    """`buf curl` prints the same messages, with what the page says to replace."""
    assert [wrong for wrong in with_buf[block.number] if wrong.startswith("message ")] == []


@pytest.mark.parametrize("block", [block for block in OF_THE_SERVICE if block.json], ids=str)
def test_the_same_without_reflection(block: Block, with_a_file: Wrong) -> None:
    """With the contract from a file, grpcurl prints the same."""
    assert with_a_file[block.number] == []


# -- what is on it


def test_every_rpc_is_on_the_page() -> None:
    """The page calls every rpc of the service, health and reflection, and shows what each prints."""
    shown = {name for block in CALLS if block.json for name in re.findall(r"\w+/(\w+)", block.commands)}
    service = execution_service_pb2.DESCRIPTOR.services_by_name["ExecutionService"]
    assert {method.name for method in service.methods} | {"Check", "Watch", "ServerReflectionInfo"} <= shown


def test_every_tool_is_on_the_page() -> None:
    """The page has commands of grpcurl, buf and ghz, and of grpcurl and buf also without reflection."""
    assert {block.tool for block in BLOCKS} == {"grpcurl", "buf", "ghz"}
    for option in ("-proto ", "-protoset ", "-import-path ", "--schema "):
        assert any(option in block.commands for block in BLOCKS), option


# -- how it is compared


def test_a_command_that_hangs(tmp_path: Path) -> None:
    """A command that does not end is named, and ended with all that it started."""
    quick, hangs = Block(1, "grpcurl -version || true\n"), Block(2, "mkfifo never; cat never; grpcurl list\n")
    with pytest.raises(AssertionError, match="still at 02-grpcurl-list"):
        run([quick, hangs], tmp_path, path=[], addresses={}, seconds=1)


SHOWN = Block(
    1,
    "grpcurl list\n",
    json="""\
{
  "id": "XuZLHFv7rPXgeGRkoAgdJU",
  "took": "0.5s",
  ...
  "text": "This is long ...",
  "events": [1, ..., 3, ..., {"of": "XuZLHFv7rPXgeGRkoAgdJU", ...}]
}
""",
)
OUT = """\
{"id": "%s", "took": "12.25s", "more": 1, "text": "This is long indeed", "events": [1, 2, 3, 4, {"of": "%s", "x": 0}]}
"""
ONE, OTHER = "mO5UZfFZUN71elPYqzh9VJ", "8utbfQAz1zmMP8b0zbDEyO"


def told(out: str, *, block: Block = SHOWN, error: str = "", code: int = 0) -> list[str]:
    return list(differences(block, Printed(out, error, code), {}))


def test_what_may_differ() -> None:
    """Another id, another duration and what the page leaves out are no difference."""
    assert told(OUT % (ONE, ONE)) == []


@pytest.mark.parametrize(
    ("out", "said"),
    [
        (OUT % (ONE, OTHER), "[0].events[4].of: the page has"),
        (OUT.replace('"took": "12.25s", ', "") % (ONE, ONE), "not printed: took"),
        (OUT.replace('"12.25s"', "12.25") % (ONE, ONE), "[0].took: the page has"),
        (OUT.replace("long", "short") % (ONE, ONE), "[0].text: the page has"),
        (OUT.replace("2, 3, 4", "2, 4") % (ONE, ONE), "not printed between two `...`: [3]"),
        (OUT.replace("[1, 2", "[2, 2") % (ONE, ONE), "[0].events[0]: the page has 1"),
        (OUT % (ONE, ONE) + "{}", "the page has 1, printed were 2"),
        ('{"took": "1s", "id": "%s", "text": "This is long", "events": [1, 3, {"of": "%s"}]}', "in another order"),
    ],
)
def test_what_may_not(out: str, said: str) -> None:
    """Every other difference is told, with its place."""
    out = out % (ONE, ONE) if "%s" in out else out
    assert [wrong for wrong in told(out) if said in wrong]


def test_fields_that_the_page_does_not_have() -> None:
    """A field that is printed and not shown is a difference, unless the page leaves something out there."""
    assert told('{"a": 1, "b": 2}', block=replace(SHOWN, json='{"a": 1}')) == ["message [0]: not on the page: b"]
    assert told('{"a": 1, "b": 2}', block=replace(SHOWN, json='{"a": 1, ...}')) == []


def test_messages_with_events_are_one() -> None:
    """How events are spread over messages does not count; what they are, and the place after them, does."""
    shown = replace(
        SHOWN, json='{"execution": {}}\n{"events": [{"sequence": "1"}, {"sequence": "2"}], "sequence": "2"}'
    )
    apart = '{"execution": {}} {"events": [{"sequence": "1"}], "sequence": "1"}'
    assert told(apart + '{"events": [{"sequence": "2"}], "afterSequence": "1", "sequence": "2"}', block=shown) == []
    assert told(apart, block=shown) != []
    assert told(apart + '{"events": [{"sequence": "2"}], "afterSequence": "1", "sequence": "3"}', block=shown) != []


@pytest.mark.parametrize(
    ("error", "code", "right"),
    [
        ("ERROR:\n  Code: NotFound\n  Message: 0.5 ms\n", 69, True),
        ("ERROR:\n  Code: NotFound\n  Message: 0.5 ms\n", 0, False),
        ("ERROR:\n  Code: Aborted\n  Message: 0.5 ms\n", 69, False),
        ("ERROR:\n  Code: NotFound\n", 69, False),
        ("", 0, False),
    ],
)
def test_errors(error: str, code: int, right: bool) -> None:
    """Lines are compared with standard error, and an exit code that is not 0 needs an error on the page."""
    block = Block(1, "grpcurl list\n", json="{}", text="ERROR:\n  Code: NotFound\n  Message: 120 ms\n")
    assert (told("{}", block=block, error=error, code=code) == []) is right
