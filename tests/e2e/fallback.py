"""One execution through gateways that let no stream through: is every event there once, in order, and how late?

    python -m tests.e2e.fallback --reports 60 --seconds 30

A step reports evenly and writes the time of day into each report. The first row is what streams cost without a gateway
that harms them. `late` is counted from the moment at which the client began to poll: before, it waits for a stream.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import stepwire
import stepwire.aio
from stepwire.v1 import Event

from .gateway import Gateway, Manner
from .serving import PATIENCE, Gate, ServerProcess

__all__ = ["Outcome", "run", "table"]

Which = Literal["sync", "aio"]


@dataclass(kw_only=True)
class Outcome:
    """What one client saw."""

    manner: Manner
    client: Which
    events: list[Event] = field(default_factory=list)
    arrived: list[float] = field(default_factory=list)
    """The time of day at which each event was given."""
    polling_from: float = math.inf
    """The time of day at which the client was first seen to poll."""
    calls: Counter[str] = field(default_factory=Counter)
    bytes: int = 0
    """Bytes of all messages, both ways."""
    seconds: float = 0.0

    @property
    def event_bytes(self) -> int:
        """The bytes of the events themselves."""
        return sum(event.ByteSize() for event in self.events)

    def lateness(self, *, after: float = 0.0) -> list[float]:
        """Returns the milliseconds from each report to its arrival, of those that were made after a time."""
        reports = [
            (event.step_progress.data["emitted"], arrived)
            for event, arrived in zip(self.events, self.arrived, strict=True)
            if event.HasField("step_progress")
        ]
        return [1000 * (arrived - emitted) for emitted, arrived in reports if emitted > after]

    def violations(self) -> list[str]:
        """Returns what is wrong, in words; empty where all is right."""
        sequences = [event.sequence for event in self.events]
        wrong = []
        if sequences != list(range(1, len(sequences) + 1)):
            wrong.append(f"{self.manner}, {self.client}: the sequences are {sequences}")
        if [stepwire.is_terminal(event) for event in self.events] != [False] * (len(sequences) - 1) + [True]:
            wrong.append(f"{self.manner}, {self.client}: the terminal event is not the last, or not the only one")
        return wrong


def plan(gate: Gate, *, reports: int, seconds: float) -> dict[str, Any]:
    """Returns a plan of one step that reports evenly."""
    return {
        "steps": [
            {"id": "a", "operation": "reporting", "input": {"gate": gate.port, "reports": reports, "seconds": seconds}}
        ]
    }


async def run(
    server: ServerProcess,
    *,
    manner: Manner,
    client: Which,
    reports: int,
    seconds: float,
    life: float = 1.0,
    **settings: Any,
) -> Outcome:
    """Runs one execution through a gateway of this manner. `life` is the gateway's, `settings` are the client's."""
    outcome = Outcome(manner=manner, client=client)
    read = _read_sync if client == "sync" else _read_aio
    with Gate() as gate:
        gate.open()
        async with Gateway(server.address, manner=manner, life=life) as gateway, asyncio.timeout(seconds + PATIENCE):
            began = time.monotonic()

            def tell(event: Event, followed: Any) -> None:
                outcome.events.append(event)
                outcome.arrived.append(time.time())
                outage = followed.outage
                if outage is not None and outage.polling:
                    outcome.polling_from = min(outcome.polling_from, time.time() - time.monotonic() + outage.since)

            await read(gateway.address, plan(gate, reports=reports, seconds=seconds), tell, settings)
            outcome.seconds = time.monotonic() - began
            outcome.calls, outcome.bytes = gateway.calls, gateway.bytes
    return outcome


async def _read_sync(
    address: str, work: dict[str, Any], tell: Callable[[Event, Any], None], settings: dict[str, Any]
) -> None:
    def read() -> None:
        with stepwire.Client(address, **settings) as client:
            followed = client.execute(plan=work)
            for event in followed:
                tell(event, followed)

    await asyncio.to_thread(read)


async def _read_aio(
    address: str, work: dict[str, Any], tell: Callable[[Event, Any], None], settings: dict[str, Any]
) -> None:
    async with stepwire.aio.Client(address, **settings) as client:
        followed = await client.execute(plan=work)
        async for event in followed:
            tell(event, followed)


def table(outcomes: list[Outcome]) -> str:
    """Returns what happened as a Markdown table."""
    head = [
        *["gateway", "client", "events", "once, in order", "stream calls", "ListEvents", "WaitExecution"],
        *["event bytes", "all bytes", "polling after s", "late ms, median", "late ms, worst", "s"],
    ]
    rows = []
    for outcome in outcomes:
        polls = math.isfinite(outcome.polling_from)
        late = outcome.lateness(after=outcome.polling_from if polls else 0.0) or [math.nan]
        began = outcome.events[0].event_time.ToNanoseconds() / 1e9
        rows.append(
            [
                outcome.manner,
                outcome.client,
                str(len(outcome.events)),
                "no" if outcome.violations() else "yes",
                str(outcome.calls["Execute"] + outcome.calls["WatchExecution"]),
                str(outcome.calls["ListEvents"]),
                str(outcome.calls["WaitExecution"]),
                f"{outcome.event_bytes:,}",
                f"{outcome.bytes:,}",
                f"{outcome.polling_from - began:.1f}" if polls else "never",
                f"{statistics.median(late):.0f}",
                f"{max(late):.0f}",
                f"{outcome.seconds:.1f}",
            ]
        )
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows])


async def _all(server: ServerProcess, *, reports: int, seconds: float) -> list[Outcome]:
    manners: list[Manner] = ["passes", "cuts", "buffers", "refuses", "unavailable"]
    clients: list[Which] = ["sync", "aio"]
    runs = [
        run(server, manner=manner, client=client, reports=reports, seconds=seconds)
        for manner in manners
        for client in clients
    ]
    return await asyncio.gather(*runs)


def main() -> None:
    """Runs both clients through each gateway and prints the table. Exits 1 where a rule is broken."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--reports", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=30.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, ServerProcess(Path(folder), app="sample:app") as server:
        outcomes = asyncio.run(_all(server, reports=options.reports, seconds=options.seconds))
    print(table(outcomes))
    wrong = [text for outcome in outcomes for text in outcome.violations()]
    print("\n".join(wrong), file=sys.stderr)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
