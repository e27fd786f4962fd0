"""What sessions remember, in real files."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from stepwire_server.planning import Memory, MemoryLimits


def turn(number: int | str, **more: Any) -> dict[str, Any]:
    """Returns a turn with one result."""
    results = [{"text": f"request {number}", "value": number}]
    return {"execution_id": f"e-{number}", "request": f"request {number}", "plan": [], "results": results, **more}


def named(**values: Any) -> dict[str, dict[str, Any]]:
    """Returns named results."""
    return {name: {"text": name, "value": value} for name, value in values.items()}


def file_of(folder: Path) -> Path:
    """Returns the only session's file."""
    [path] = folder.glob("*.jsonl")
    return path


def test_it_is_there_again(tmp_path: Path) -> None:
    """Another process finds turns and names in their order, and each session its own."""
    memory = Memory(tmp_path / "m")
    for number in range(3):
        memory.add("web", turn(number), named(total=number))
    memory.add("Web", turn("other"), {})
    found = Memory(tmp_path / "m").read("web")
    assert [result["value"] for result in found.results] == [0, 1, 2]
    assert found.names["total"]["value"] == 2
    assert Memory(tmp_path / "m").read("Web").names == {}
    assert memory.read("nobody").turns == ()


@pytest.mark.parametrize("text", ["a\u2028b", "a\u2029b", "a\x85b", "a\x0bb\x0cc\x1cd", "a\nb\rc"])
def test_any_text_is_kept(tmp_path: Path, text: str) -> None:
    """A text with what some take for the end of a line is kept as it is, and damages nothing."""
    memory = Memory(tmp_path / "m")
    memory.add("web", turn(1), named(said=text))
    memory.add("web", turn(2), {})
    found = Memory(tmp_path / "m").read("web")
    assert found.names["said"]["value"] == text
    assert len(found.turns) == 2


def test_nobody_else_reads_it(tmp_path: Path) -> None:
    """The folder is 0700 and every file in it 0600, whatever the umask."""
    before = os.umask(0)
    try:
        Memory(tmp_path / "a" / "m").add("web", turn(1), {})
    finally:
        os.umask(before)
    folder = tmp_path / "a" / "m"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


def test_an_execution_is_kept_once(tmp_path: Path) -> None:
    """The turn of an execution that is kept already changes nothing: another attempt may add it again."""
    memory = Memory(tmp_path)
    assert memory.add("web", turn(1), named(a=1)) == 1
    before = file_of(tmp_path).read_bytes()
    assert memory.add("web", turn(1), named(a=2)) == 1
    assert file_of(tmp_path).read_bytes() == before


def test_nothing_of_others_is_lost(tmp_path: Path) -> None:
    """Turns that threads and processes add to a session at once are all kept."""
    code = (
        "import sys; from pathlib import Path; from stepwire_server.planning import Memory\n"
        "for n in range(10):\n"
        "    Memory(Path(sys.argv[1])).add('web', {'execution_id': f'p{n}', 'results': []}, {})"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)]) as process, ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: Memory(tmp_path).add("web", turn(number), {}), range(20)))
        assert process.wait(60) == 0
    assert len({kept["execution_id"] for kept in Memory(tmp_path).read("web").turns}) == 30


def test_what_is_damaged_is_told_and_set_aside(tmp_path: Path) -> None:
    """A file that was cut or changed anywhere counts as empty and says so; the next turn sets it aside."""
    memory = Memory(tmp_path)
    memory.add("web", turn(1), named(a=1))
    path = file_of(tmp_path)
    whole = path.read_bytes()
    harmed = [whole[:end] for end in range(len(whole))]
    harmed += [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in range(0, len(whole), 7)]
    for content in [*harmed, b"[]\n", b"1\n", b"[" * 5_000, b"\xff" * 10]:
        path.write_bytes(content)
        found = memory.read("web")
        assert (found.turns, found.names) == ((), {})
        assert "is damaged, and counts as empty" in found.problem
    assert memory.add("web", turn(2), {}) == 1
    assert [kept["execution_id"] for kept in memory.read("web").turns] == ["e-2"]
    assert path.with_suffix(".damaged").read_bytes() == b"\xff" * 10


def test_what_a_crash_left_is_in_nobodys_way(tmp_path: Path) -> None:
    """A file that was being written when its process died is overwritten, and read by nobody."""
    (tmp_path / ".writing").write_bytes(b"half a f")
    memory = Memory(tmp_path)
    memory.add("web", turn(1), {})
    assert len(memory.read("web").turns) == 1
    assert not (tmp_path / ".writing").exists()


@pytest.mark.parametrize("where", ["write", "rename"])
def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """Where the disk refuses in the middle of a write, the session remembers what it did before."""
    memory = Memory(tmp_path)
    memory.add("web", turn(1), {})

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(*((os, "fsync", refuse) if where == "write" else (Path, "replace", refuse)))
    with pytest.raises(OSError, match="No space"):
        memory.add("web", turn(2), {})
    monkeypatch.undo()
    assert [kept["execution_id"] for kept in memory.read("web").turns] == ["e-1"]


def test_a_session_is_bounded(tmp_path: Path) -> None:
    """A session keeps its newest turns and names, so many and so many bytes; a huge turn, without results."""
    memory = Memory(tmp_path, MemoryLimits(turns=5, names=3, session_bytes=2_000))
    for number in range(12):
        memory.add("web", turn(number), named(**{f"n{number}": number}))
    found = memory.read("web")
    assert [kept["execution_id"] for kept in found.turns] == [f"e-{number}" for number in range(7, 12)]
    assert list(found.names) == ["n9", "n10", "n11"]
    memory.add("web", turn("long", note="x" * 1_500), {})
    assert [kept["execution_id"] for kept in memory.read("web").turns][-1] == "e-long"
    assert file_of(tmp_path).stat().st_size <= 2_000
    memory.add("web", {"execution_id": "huge", "request": "r", "plan": ["x" * 9_000], "results": []}, {})
    [kept] = memory.read("web").turns
    assert (kept["plan"], kept["shortened"]) == ([], True)


def test_all_sessions_are_bounded(tmp_path: Path) -> None:
    """Sessions that were quiet longest go first, by number and by bytes; the one that was written stays."""
    memory = Memory(tmp_path, MemoryLimits(sessions=3))
    for number in range(6):
        memory.add(f"s{number}", turn(number), {})
        for age, path in enumerate(sorted(tmp_path.glob("*.jsonl"), key=lambda path: path.stat().st_mtime_ns)):
            os.utime(path, ns=(age, age))
    assert [bool(memory.read(f"s{number}").turns) for number in range(6)] == [False] * 3 + [True] * 3
    small = Memory(tmp_path, MemoryLimits(all_bytes=1))
    small.add("s0", turn(0), {})
    assert [bool(memory.read(f"s{number}").turns) for number in range(6)] == [True] + [False] * 5
