"""What the conventions' tests look at: the repository's files."""

from __future__ import annotations

import ast
import functools
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]

PACKAGES = {"stepwire": ROOT / "client/stepwire", "stepwire_server": ROOT / "server/stepwire_server"}

MODULES = sorted(path for folder in PACKAGES.values() for path in folder.rglob("*.py"))
"""Every module that is installed."""

TESTS = sorted((ROOT / "tests").rglob("*.py"))
"""Every module of the tests."""


@functools.cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def module_name(path: Path) -> str:
    """Returns the name that a module is imported by."""
    parts = path.relative_to(ROOT).with_suffix("").parts[1:]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def tracked() -> list[Path]:
    """Returns the files that are in the repository and in the work tree; all text files of an unpacked archive."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, timeout=30
        ).stdout.decode()
    except (OSError, subprocess.CalledProcessError):
        return [path for path in ROOT.rglob("*") if path.is_file() and ".venv" not in path.parts]
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]
