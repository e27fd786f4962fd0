"""Builds clients, and tries cases with them, two at a time."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from .clients import ROOT, Client

__all__ = ["AT_ONCE", "FOLDER", "all_of", "build_all"]

AT_ONCE = 2
"""Trials at a time. Some cases measure silence: a machine that is too busy is silent, too."""

FOLDER = ROOT / "build/conformance"
"""Where results are."""

_BUILD_SECONDS = 900

_Done = TypeVar("_Done")


def build_all(clients: Sequence[Client], *, only_look: bool) -> dict[str, str]:
    """Builds the clients' adapters, or only looks whether they are there, and says so. Returns those that can't be run,
    with the reason. What the builds say is kept in FOLDER.
    """
    not_run: dict[str, str] = {}
    for client in clients:
        if client.build and not only_look:
            print(f"Building {client.name} ...", flush=True)
        why = _why_not(client, only_look=only_look)
        if why:
            not_run[client.name] = why
            print(f"NOT RUN: {client.name}: {why}", flush=True)
    return not_run


def _why_not(client: Client, *, only_look: bool) -> str:
    missing = client.missing()
    if missing:
        return f"missing: {', '.join(missing)}"
    if only_look:
        return "" if client.is_built() else "it is not built: make clients"
    FOLDER.mkdir(parents=True, exist_ok=True)
    log = FOLDER / f"build-{client.name}.log"
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


async def all_of(trials: Sequence[Callable[[], Awaitable[_Done]]], tell: Callable[[_Done], None]) -> None:
    """Runs every trial, and tells of each when it is over."""
    free = asyncio.Semaphore(AT_ONCE)

    async def one(trial: Callable[[], Awaitable[_Done]]) -> None:
        async with free:
            tell(await trial())

    async with asyncio.TaskGroup() as group:
        for trial in trials:
            group.create_task(one(trial))
