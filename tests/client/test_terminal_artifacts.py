"""Artifacts that the command saves: each in its folder, and nowhere else."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from stepwire.terminal.commands import stepwire
from stepwire.v1 import Event
from stepwire.values import to_value

from .scripted import EXECUTION, ScriptedServer, batch, completed, event, welcome


def made(number: int, name: str, value: Any, *, step: str = "a", attempt: int = 1) -> Event:
    """The event of an artifact."""
    told = event(number, "artifact")
    told.step_id, told.attempt, told.artifact.name = step, attempt, name
    if isinstance(value, bytes):
        told.artifact.data = value
    else:
        told.artifact.value.CopyFrom(to_value(value))
    return told


def saved(server: ScriptedServer, folder: Path, *artifacts: Event) -> Result:
    """What `stepwire watch` does with these artifacts."""
    server.plays([welcome(), batch(*artifacts, completed(len(artifacts) + 1))])
    command = ["--server", server.target, "watch", EXECUTION, "--artifacts", str(folder)]
    return CliRunner().invoke(stepwire, command, env={"TTY_COMPATIBLE": "0"})


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_each_artifact_is_a_file(server: ScriptedServer, tmp_path: Path) -> None:
    """Bytes and texts are saved as they are, all else as JSON; where they are is said on standard error."""
    rows = [{"a": 1, "ä": None}]
    artifacts = [made(1, "code", "x = 'ä'\n"), made(2, "chart.png", b"\x89PNG\0"), made(3, "rows", rows)]
    done = saved(server, tmp_path / "new" / "out", *artifacts)
    assert files(tmp_path / "new" / "out") == {
        "code": "x = 'ä'\n".encode(),
        "chart.png": b"\x89PNG\0",
        "rows": '[{"a":1,"ä":null}]'.encode(),
    }
    assert done.exit_code == 0
    for name in ("code", "chart.png", "rows"):
        assert f"stepwire: saved {tmp_path / 'new' / 'out' / name}\n" in done.stderr


HOSTILE = ["../above", "..", ".", "/etc/passwd", "a/../../b", "..\\up", "C:\\x", ".bashrc", "-rf", "a\0b", ""]
HOSTILE += ["x" * 5_000, "ü" * 300]


@pytest.mark.parametrize("name", HOSTILE, ids=lambda name: repr(name)[:12])
def test_no_name_leads_out_of_the_folder(server: ScriptedServer, tmp_path: Path, name: str) -> None:
    """Whatever an artifact is called, it becomes one file in the folder that is neither hidden nor an option."""
    done = saved(server, tmp_path / "deep" / "out", made(1, name, "mine"))
    assert done.exit_code == 0, done.stderr
    ((found, content),) = files(tmp_path).items()
    assert content == b"mine"
    parts = Path(found).parts
    assert parts[:2] == ("deep", "out")
    assert len(parts) == 3
    assert parts[2][0] not in ".-"


def test_nothing_is_overwritten(server: ScriptedServer, tmp_path: Path) -> None:
    """A name that two steps give gets a number, and so does one that a file or a link has which was there before."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "code.py").write_text("the user's", "utf-8")
    (tmp_path / "out" / "link").symlink_to(tmp_path / "target")
    artifacts = [made(1, "code.py", "1"), made(2, "code.py", "2", step="b"), made(3, "link", "3"), made(4, "b/c", "4")]
    saved(server, tmp_path / "out", *artifacts, made(5, "b_c", "5"))
    assert files(tmp_path) == {
        "out/code.py": b"the user's",
        "out/code-2.py": b"1",
        "out/code-3.py": b"2",
        "out/link-2": b"3",
        "out/b_c": b"4",
        "out/b_c-2": b"5",
    }


def test_a_later_attempt_replaces(server: ScriptedServer, tmp_path: Path) -> None:
    """Of what several attempts of a step give under one name, the last one's stays."""
    done = saved(server, tmp_path, made(1, "code", "long and wrong"), made(2, "code", "right", attempt=2))
    assert files(tmp_path) == {"code": b"right"}
    assert done.stderr.count("saved") == 1


def test_what_can_not_be_saved(server: ScriptedServer, tmp_path: Path) -> None:
    """An artifact that could not be saved is named, the others are saved, and the command ends with 1."""
    cut = event(1, "artifact")
    cut.artifact.name, cut.artifact.channel, cut.artifact.size = "film", "artifact:film", 5
    done = saved(server, tmp_path, cut, made(2, "code", "1"))
    assert done.exit_code == 1
    assert "stepwire: not saved: film: artifact 'film' of step '' is incomplete: 0 of 5 bytes came" in done.stderr
    assert files(tmp_path) == {"code": b"1"}


def test_a_folder_that_can_not_be(server: ScriptedServer, tmp_path: Path) -> None:
    """Where the folder can't be made, nothing is run, and the message names it."""
    (tmp_path / "file").touch()
    command = ["--server", server.target, "run", "q", "--artifacts", str(tmp_path / "file" / "out")]
    done = CliRunner().invoke(stepwire, command)
    assert done.exit_code == 2
    assert "--artifacts" in done.stderr
    assert server.calls == []


@pytest.mark.parametrize("words", [["run", "q", "--detach"], ["retry", "e-1", "--detach"], ["watch", "--all"]])
def test_where_there_are_none(tmp_path: Path, words: list[str]) -> None:
    """Who leaves at once, or watches all executions, is told that there would be no artifacts."""
    done = CliRunner().invoke(stepwire, [*words, "--artifacts", str(tmp_path / "out")])
    assert done.exit_code == 2
    assert "--artifacts" in done.stderr
    assert not (tmp_path / "out").exists()


def test_one_that_came_as_content(server: ScriptedServer, tmp_path: Path) -> None:
    """An artifact that is too large for an event is put together from its pieces."""
    pieces = [event(number, "content") for number in (1, 2)]
    for told, text in zip(pieces, ("ab", "cde"), strict=True):
        told.step_id, told.attempt, told.content.channel, told.content.text = "a", 1, "artifact:film", text
    whole = event(3, "artifact")
    whole.step_id, whole.attempt = "a", 1
    whole.artifact.name, whole.artifact.channel, whole.artifact.size = "film", "artifact:film", 5
    whole.artifact.sha256 = hashlib.sha256(b"abcde").digest()
    assert saved(server, tmp_path, *pieces, whole).exit_code == 0
    assert files(tmp_path) == {"film": b"abcde"}
