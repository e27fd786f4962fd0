"""What a run that broke a promise leaves behind: the server's files and all that its callers saw, to be judged again.

python -m tests.faults.evidence build/faults/kill-loop-4242
"""

from __future__ import annotations

import argparse
import pickle
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from .checkers import check
from .history import History

__all__ = ["judge", "keep"]

_HISTORY = "history.pickle"
_VIOLATIONS = "violations.txt"


def keep(history: History, violations: Mapping[str, Sequence[str]], *, of: Path, to: Path) -> None:
    """Copies a run's folder, its history and what was wrong to a folder, which is replaced."""
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(of, to)
    (to / _HISTORY).write_bytes(pickle.dumps(history))
    (to / _VIOLATIONS).write_text(_lines(violations), "utf-8")


def judge(folder: Path) -> dict[str, list[str]]:
    """Returns what today's checkers find in the history that was kept in a folder."""
    history = pickle.loads((folder / _HISTORY).read_bytes())
    assert isinstance(history, History)
    return check(history)


def _lines(violations: Mapping[str, Sequence[str]]) -> str:
    return "".join(f"{promise}: {violation}\n" for promise, found in violations.items() for violation in found)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Judges a run again that broke a promise.")
    parser.add_argument("folder", type=Path, help="what the run kept")
    violations = judge(parser.parse_args().folder)
    print(_lines(violations) or "no violation", end="" if violations else "\n")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
