"""Measures the events a second of every client, in rounds that alternate, beside Python's in the same round.

One server, one step that says 200,000 things as fast as it can. `live`: the client starts it and follows it, so that
the server's speed bounds all. `replay`: the client reads what has ended, so that its own speed counts for more. A ratio
is formed within each round; its median, least and most over all rounds are told.

  python -m tests.conformance.throughput
  python -m tests.conformance.throughput --clients python go --rounds 3 --events 50000
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.bench.rounds import Samples, Spread, alternate, per_second
from tests.bench.subject import Figures
from tests.e2e.serving import ServerProcess

import stepwire

from .clients import ROOT, Client, find_clients
from .suite import FOLDER, build_all
from .trial import Adapter

__all__ = ["main"]

_BASE = "python"
_SECONDS = 300  # that one measurement may take


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.conformance.throughput",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--clients", nargs="*", default=[], metavar="NAME", help="some clients; default: all")
    parser.add_argument("--rounds", type=int, default=5, help="default: 5")
    parser.add_argument("--events", type=int, default=200_000, help="default: 200000")
    parser.add_argument("--no-build", action="store_true", help="take the adapters as they were built before")
    arguments = parser.parse_args()
    try:
        clients = find_clients(arguments.clients)
    except ValueError as error:
        parser.error(str(error))
    not_run = build_all(clients, only_look=arguments.no_build)
    there = [client for client in clients if client.name not in not_run]
    with tempfile.TemporaryDirectory(prefix="throughput-") as folder:
        text = _measure_all(there, Path(folder), rounds=arguments.rounds, events=arguments.events)
    text += "".join(f"\n{name}: NOT RUN: {why}\n" for name, why in not_run.items())
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "throughput.md").write_text(text, encoding="utf-8")
    print(f"\n{text}\nIn {FOLDER.relative_to(ROOT)}: throughput.md")
    return 1 if not_run else 0


def _measure_all(clients: Sequence[Client], folder: Path, *, rounds: int, events: int) -> str:
    """Returns the tables."""
    plan = {"steps": [{"id": "talk", "operation": "emit", "input": {"events": events}}]}
    with ServerProcess(folder, app="tests.bench.app:app", cwd=ROOT) as server:
        with stepwire.Client(server.address) as client:
            print("An execution to replay ...", flush=True)
            ended = client.start(plan=plan).execution_id
            client.wait(ended)
        works: Mapping[str, dict[str, Any]] = {
            "live": {"do": "execute", "plan": plan, "target": server.address, "silent": True},
            "replay": {"do": "watch", "execution_id": ended, "target": server.address, "silent": True},
        }
        parts = [f"# Events a second\n\n{rounds} rounds of {events:,} events; the clients take turns."]
        for name, work in works.items():
            variants = {
                client.name: functools.partial(_measure, client, work, folder, least=events) for client in clients
            }
            samples = alternate(
                variants, rounds=rounds, progress=lambda text, name=name: print(f"{name}: {text}", flush=True)
            )
            parts.append(f"## {name}\n\n{_table(samples, [client.name for client in clients])}")
    return "\n\n".join(parts) + "\n"


def _measure(client: Client, work: Mapping[str, Any], folder: Path, *, least: int) -> Figures:
    """Returns what the client's adapter says of one piece of work."""
    return asyncio.run(_ask(client, work, folder, least=least))


async def _ask(client: Client, work: Mapping[str, Any], folder: Path, *, least: int) -> Figures:
    end: dict[str, Any] = {}
    async with (
        asyncio.timeout(_SECONDS),
        Adapter(client.run, folder / client.name, environment=client.environment) as adapter,
    ):
        await adapter.send(work)
        async for name, value in adapter.lines():
            if name == "end":
                end = value
        await adapter.wait()
    if end.get("outcome") != "completed" or end.get("events", 0) < least:
        raise SystemExit(f"{client.name} did not see it all: {end} {adapter.errors.read_text()}")
    return {"events": end["events"], "seconds": end["seconds"]}


def _table(samples: Samples, names: Sequence[str]) -> str:
    lines = ["| client | events a second, median (least to most) | times Python's, median (least to most) |"]
    lines.append("|---|---|---|")
    for name in names:
        speed = samples.spread(name, per_second)
        ratio = samples.ratio(name, _BASE, per_second) if _BASE in names else None
        beside = _spread(ratio, "{:.2f}") if ratio is not None else "Python was not measured"
        lines.append(f"| {name} | {_spread(speed, '{:,.0f}')} | {beside} |")
    return "\n".join(lines)


def _spread(spread: Spread, form: str) -> str:
    return f"{form.format(spread.median)} ({form.format(spread.least)} to {form.format(spread.most)})"


if __name__ == "__main__":
    sys.exit(main())
