"""The app of the long runs: the faulty one's operations, some that hang, a paced one, and a census of the server.

SOAK_UPKEEP  seconds between two passes over the journal, so that purging happens all the time
SIGUSR1      writes what each thread does into the log
"""

from __future__ import annotations

import asyncio
import faulthandler
import functools
import gc
import os
import signal
import sys
import time
import tracemalloc
from typing import Any

from allocated import in_use
from faulty import app

import stepwire_server.api.server as serving
from stepwire.v1 import ExecutionFilter
from stepwire_server import BlockingStepContext, StepContext
from stepwire_server.journal import Follower

__all__ = ["app"]

_servers: list[serving.Server] = []
_begin = serving.Server.__init__


@functools.wraps(_begin)
def _known(server: serving.Server, *positional: Any, **named: Any) -> None:
    _begin(server, *positional, **named)
    _servers.append(server)


serving.Server.__init__ = _known  # type: ignore[method-assign]
if "SOAK_UPKEEP" in os.environ:
    serving.keep_up = functools.partial(serving.keep_up, every=float(os.environ["SOAK_UPKEEP"]))


# Whoever finds the server silent can ask what each thread does: it stands in the log then.
faulthandler.register(signal.SIGUSR1, all_threads=True)


@app.operation()
async def census(collect: bool = False, trace: int = 0) -> dict[str, Any]:
    """Count what there is in this process, this operation's own execution included."""
    [server] = _servers
    journal = server.engine.journal
    newest = await journal.list(ExecutionFilter(), tenant="", limit=1)
    if collect:
        gc.collect()
    found = {
        "tasks": len(asyncio.all_tasks()),
        "streams": server.streams.open,
        "running": server.engine.running,
        "abandoned": server.engine.abandoned,
        "followers": sum(map(len, journal._followers.values())),
        "tails": len(journal._tails.held),
        "tails_bytes": journal._tails.size,
        "objects": len(gc.get_objects()),
        "blocks": sys.getallocatedblocks(),
        "in_use": in_use(),
        "kept": newest.total,
        "accepted": newest.records[0].ordinal,
        "lags": sorted([await _lag(server, follower) for follower in list(server.streams.followers)[:100]]),
    }
    if trace and tracemalloc.is_tracing():
        found["largest"] = [str(line) for line in tracemalloc.take_snapshot().statistics("lineno")[:trace]]
    return found


async def _lag(server: serving.Server, follower: Follower) -> int:
    record = await server.engine.journal.get(follower.execution_id)
    return record.last_sequence - follower.sequence if record else 0


@app.operation()
async def emit(step: StepContext, events: int, rate: float, text: str, gate: int = 0) -> int:
    """Report so many times, so many a second, as far as the machine can; after a gate has opened, if there is one."""
    if gate:
        reader, writer = await asyncio.open_connection("127.0.0.1", gate)
        writer.write(f"{step.id} {step.attempt}\n".encode())
        await reader.read(1)
        writer.close()
    began = time.monotonic()
    done = 0
    while done < events:
        due = min(events, int((time.monotonic() - began) * rate) + 1)
        while done < due:
            done += 1
            await step.progress(100 * done / events, text, current=done, total=events, unit="rows")
        await asyncio.sleep(min(0.001, 1 / rate))
    return done


@app.operation()
async def hang() -> None:
    """Never end."""
    await asyncio.Event().wait()


@app.operation()
async def stubborn(seconds: float) -> None:
    """Go on for so long after being told to end."""
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        await asyncio.sleep(seconds)


@app.operation()
def stuck(step: BlockingStepContext, seconds: float) -> str:
    """Hold a thread for so long, whatever is asked."""
    time.sleep(seconds)
    return step.id
