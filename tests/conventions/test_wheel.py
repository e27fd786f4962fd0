"""The wheel as a stranger gets it: built from the work tree, installed alone, used."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from .tree import MODULES, ROOT


def _clean() -> dict[str, str]:
    """Returns an environment in which nothing but what is installed can be imported."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def _run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=_clean(), capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Builds the wheel: with the hatchling that is installed, or with one that pip fetches."""
    folder = tmp_path_factory.mktemp("wheel")
    here = ["--no-build-isolation"] if importlib.util.find_spec("hatchling") else []
    _run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", *here, "--wheel-dir", folder, ROOT, cwd=folder)
    [built] = folder.glob("*.whl")
    return built


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_wheel_has_both_packages(wheel: Path) -> None:
    """The wheel has every module, the types' markers and the documents, and nothing of the tests."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    for path in MODULES:
        assert str(path.relative_to(ROOT)).partition("/")[2] in names
    assert {"stepwire/py.typed", "stepwire_server/py.typed"} <= set(names)
    assert any(name.startswith("stepwire_server/assistant/documents/") for name in names)
    roots = {name.partition("/")[0] for name in names}
    assert {root for root in roots if not root.endswith(".dist-info")} == {"stepwire", "stepwire_server"}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_wheel_installs_alone(wheel: Path, tmp_path: Path) -> None:
    """Installed without extras into a fresh environment, the client imports and the commands say what is missing."""
    _run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv", cwd=tmp_path)
    python = tmp_path / "venv/bin/python"
    pip = [sys.executable, "-m", "pip", "--python", python]
    _run(*pip, "install", "--quiet", "--disable-pip-version-check", wheel, cwd=tmp_path)
    for module in ("stepwire", "stepwire.v1", "stepwire.errors", "stepwire.client", "stepwire.aio"):
        _run(python, "-W", "error", "-c", f"import {module}", cwd=tmp_path)
    where = _run(python, "-c", "import stepwire; print(stepwire.__file__)", cwd=tmp_path)
    assert str(tmp_path) in where
    for command in ("stepwire", "stepwire-server"):
        done = subprocess.run(
            [tmp_path / "venv/bin" / command, "--help"],
            cwd=tmp_path,
            env=_clean(),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 1, command
        assert "pip install" in done.stderr, command
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
