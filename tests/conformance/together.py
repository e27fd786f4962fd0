"""Has all clients watch one execution, while its server is killed and restarted twice, and compares what they saw.

The server is a real one, with its journal on disk: `stepwire-server` runs a step that says a few hundred things, is
ended with SIGKILL in the midst of it, and goes on on the same port. Every client has to see exactly what the journal
has: sequence, kind, step, and the bytes of all content.

  python -m tests.conformance.together
  python -m tests.conformance.together --clients python go --kills 5
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.e2e.serving import ServerProcess

import stepwire

from .adapters.lines import describe
from .clients import ROOT, Client, find_clients
from .suite import build_all
from .trial import Adapter

__all__ = ["main"]

_EVENTS = 500
_RATE = 50  # events a second: slow enough for everybody to be back before the end
_SHARE = 40  # events that everybody must see before the next kill
_SECONDS = 120


class _Follower:
    """One client, and what it has seen."""

    def __init__(self, client: Client, changed: asyncio.Condition) -> None:
        self.client = client
        self.events: list[dict[str, Any]] = []
        self.times: list[float] = []
        self.end: dict[str, Any] | None = None
        self._changed = changed

    async def follow(self, target: str, execution_id: str, folder: Path) -> None:
        """Follows the execution from its beginning to its end."""
        client = self.client
        async with Adapter(client.run, folder / client.name, environment=client.environment) as adapter:
            await adapter.send({"do": "watch", "target": target, "execution_id": execution_id, "after_sequence": 0})
            async for name, value in adapter.lines():
                async with self._changed:
                    if name == "event":
                        self.events.append({"step_id": "", **value})
                        self.times.append(time.monotonic())
                    elif name == "end":
                        self.end = value
                    self._changed.notify_all()
            code = await adapter.wait()
        async with self._changed:
            self.end = self.end or {"outcome": f"no end, exit code {code}: {adapter.errors.read_text()[-500:]}"}
            self._changed.notify_all()


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.conformance.together",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--clients", nargs="*", default=[], metavar="NAME", help="some clients; default: all")
    parser.add_argument("--kills", type=int, default=2, help="how often the server is killed; default: 2")
    parser.add_argument("--no-build", action="store_true", help="take the adapters as they were built before")
    arguments = parser.parse_args()
    try:
        clients = find_clients(arguments.clients)
    except ValueError as error:
        parser.error(str(error))
    not_run = build_all(clients, only_look=arguments.no_build)
    there = [client for client in clients if client.name not in not_run]
    with tempfile.TemporaryDirectory(prefix="together-") as folder:
        same = asyncio.run(_watch_together(there, Path(folder), kills=arguments.kills))
    return 0 if same and not not_run else 1


async def _watch_together(clients: Sequence[Client], folder: Path, *, kills: int) -> bool:
    changed = asyncio.Condition()
    followers = [_Follower(client, changed) for client in clients]
    starts: list[float] = []

    async def until(what: str, condition: Callable[[_Follower], bool]) -> None:
        async with asyncio.timeout(_SECONDS), changed:
            print(f"Waiting until {what} ...", flush=True)
            await changed.wait_for(lambda: all(follower.end or condition(follower) for follower in followers))

    with ServerProcess(folder, app="tests.bench.app:app", cwd=ROOT) as server:
        with stepwire.Client(server.address) as client:
            step = {"id": "talk", "operation": "emit", "input": {"events": _EVENTS, "rate": _RATE}}
            execution_id = client.start(plan={"steps": [step]}).execution_id
        async with asyncio.TaskGroup() as group:
            for follower in followers:
                group.create_task(follower.follow(server.address, execution_id, folder))
            for number in range(1, kills + 1):
                goals = {follower: len(follower.events) + _SHARE for follower in followers}
                await until(f"everybody has seen {_SHARE} more", lambda f, goals=goals: len(f.events) >= goals[f])
                print(
                    f"Killing the server ({number} of {kills}), and starting it again on {server.address}", flush=True
                )
                server.kill()
                await asyncio.to_thread(server.start)
                starts.append(time.monotonic())
            await until("everybody is at the end", lambda follower: False)
        with stepwire.Client(server.address) as client:
            journal = [describe(event) for event in client.events(execution_id)]
    return _compare(followers, journal, starts)


def _compare(followers: Sequence[_Follower], journal: Sequence[dict[str, Any]], starts: Sequence[float]) -> bool:
    """Says of each client whether it saw what the journal has. Returns whether all did."""
    print(f"\n{'who':12} {'events':>6}  {'sha256 of all':16}  {'end':10} first event after each start")
    print(f"{'the journal':12} {len(journal):6}  {_digest(journal)}")
    good = True
    for follower in followers:
        end = follower.end or {}
        said = end.get("outcome") or end.get("error")
        after = [next((time - start for time in follower.times if time > start), None) for start in starts]
        waits = ", ".join("none" if wait is None else f"{wait:.2f} s" for wait in after)
        print(f"{follower.client.name:12} {len(follower.events):6}  {_digest(follower.events)}  {said!s:10} {waits}")
        # A kill after which nothing was left to see proves nothing.
        good = good and follower.events == journal and said == "completed" and None not in after
    print("\nAll saw the same, and what the journal has." if good else "\nNOT ALL, or not the same.", flush=True)
    return good


def _digest(events: Sequence[dict[str, Any]]) -> str:
    return hashlib.sha256(json.dumps(events, sort_keys=True).encode()).hexdigest()[:16]


if __name__ == "__main__":
    sys.exit(main())
