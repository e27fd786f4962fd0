"""Programs are started where the event loop does it safely, and nowhere else."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import pytest
import uvloop
from tests.e2e.serving import PATIENCE, command

from stepwire_server import check_programs


async def check() -> None:
    check_programs("a spell checker")


def test_pythons_own_loop() -> None:
    """On Python's own loop, programs may be started."""
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        runner.run(check())


def test_uvloop() -> None:
    """On uvloop they may not, and the error says what can't be started, and what to do."""
    with (
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        pytest.raises(ValueError, match=r"^a spell checker can't be started safely on uvloop; .* --loop asyncio$"),
    ):
        runner.run(check())


@pytest.mark.parametrize(
    ("app", "setting"), [("supervisor", ""), ("tools", "commands=tools.toml"), ("tools", "mcp=python -V")]
)
def test_an_app_that_starts_programs_refuses_uvloop(tmp_path: Path, app: str, setting: str) -> None:
    """The start of an app that starts programs ends with one line where it is served on uvloop."""
    (tmp_path / "tools.toml").write_text('[commands.now]\ndescription = "Say the time"\nargv = ["date"]\n', "utf-8")
    flags = ["--loop", "uvloop", "--journal", "memory", *(["--set", setting] if setting else [])]
    done = subprocess.run(
        [command("stepwire-server"), "serve", f"stepwire_server.{app}:app", "--listen", "127.0.0.1:0", *flags],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 1
    assert "can't be started safely on uvloop" in done.stderr.splitlines()[-1]
    assert done.stdout == ""
