"""Runs every attack and prints the table.

python -m tests.faults.hostile --executes 1000 --only flood
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.server.api.bad_inputs import BAD_INPUTS

from .attacks import Arena, Result
from .floods import FLOODS
from .raw_inputs import RAW_INPUTS


async def nothing() -> str:
    """Attacks nobody."""
    return "-"


async def show(folder: Path, *, executes: int, each: int, only: str, flags: Sequence[str]) -> None:
    """Prints the table, row by row."""
    print(Result.head(), flush=True)
    async with Arena(folder, flags=flags) as arena:
        for _ in range(2):
            calm = await arena.attack("(nothing)", nothing, executes=executes, seconds=1.0, sent=0)
            print(calm.row(), flush=True)
        for name, raw in RAW_INPUTS.items():
            if only in name:
                result = await arena.attack(name, functools.partial(raw.send, arena.server.address), executes=each)
                print(result.row(), flush=True)
        for bad in BAD_INPUTS:
            if only in bad.name:
                result = await arena.attack(bad.name, functools.partial(arena.bad_input, bad), executes=each)
                print(result.row(), flush=True)
        for name in FLOODS:
            if only in name or only == "flood":
                print((await arena.flood(name, executes=executes, seconds=5.0, at_once=20)).row(), flush=True)
        calm = await arena.attack("(nothing)", nothing, executes=executes, seconds=1.0, sent=0)
        print(calm.row(), flush=True)
        print(f"\nload at the end: {await arena.load()}".replace("\n", " "))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--executes", type=int, default=1_000, help="honest Executes beside each flood")
    parser.add_argument("--each", type=int, default=20, help="honest Executes beside each single input")
    parser.add_argument("--only", default="", help="those whose name contains this; 'flood' for all floods")
    parser.add_argument("--streams", type=int, default=0, help="the server's --max-streams-per-connection")
    given = parser.parse_args()
    flags = ["--max-streams-per-connection", str(given.streams)] if given.streams else []
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(show(Path(folder), executes=given.executes, each=given.each, only=given.only, flags=flags))


if __name__ == "__main__":
    main()
