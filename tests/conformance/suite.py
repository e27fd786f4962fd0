"""Builds clients and tries cases with them, two at a time."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from .case import Case
from .clients import ROOT, Client
from .trial import Result, try_case

__all__ = ["AT_ONCE", "build", "try_all"]

AT_ONCE = 2
"""Trials at a time. Some cases measure silence: a machine that is too busy is silent, too."""

_BUILD_SECONDS = 900


def build(client: Client, folder: Path, *, only_look: bool = False) -> str:
    """Builds a client's adapter, or only looks whether that can be. Returns why not, or nothing. What the build says is
    kept in the folder.
    """
    missing = client.missing()
    if missing:
        return f"missing: {', '.join(missing)}"
    if only_look:
        return ""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / f"build-{client.name}.log"
    with log.open("wb") as said:
        for command in client.build:
            try:
                done = subprocess.run(
                    command, cwd=client.folder, stdout=said, stderr=subprocess.STDOUT, timeout=_BUILD_SECONDS
                )
            except subprocess.TimeoutExpired:
                return f"`{' '.join(command)}` took more than {_BUILD_SECONDS} s"
            if done.returncode:
                tail = log.read_text(errors="replace").strip().splitlines()[-15:]
                return "\n".join([f"`{' '.join(command)}` failed in {client.folder.relative_to(ROOT)}:", *tail])
    return ""


async def try_all(trials: Sequence[tuple[Case, Client]], folder: Path, *, tell: Callable[[Result], None]) -> None:
    """Tries every case with its client, and tells of each when it is over."""
    free = asyncio.Semaphore(AT_ONCE)

    async def one(case: Case, client: Client) -> None:
        async with free:
            tell(await try_case(case, client, folder / client.name / case.name))

    async with asyncio.TaskGroup() as group:
        for case, client in trials:
            group.create_task(one(case, client))
