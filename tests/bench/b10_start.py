"""B10: how long a server takes until it serves, and an import of the client."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from . import journals
from .bench import YARDSTICKS, Bench
from .findings import Finding, Outcome, Told
from .process import REPOSITORY, Failed, Program
from .rounds import Samples, Spread, figure
from .row import Row
from .subject import Figures

__all__ = ["ROW"]

EMPTY, LARGE, BARE = "Stepwire, empty journal", "Stepwire, journal of 1 GB", "per message server"
NOTHING, CLIENT, AIO, GRPC = "nothing", "from stepwire import Client", "from stepwire.aio import Client", "import grpc"
_EVENTS = 5_000_000
"""Events of about 200 bytes that make a journal of 1 GB."""
_PATIENCE = 60.0

WHAT = """
A server is started as a process; the time ends when its health service answers SERVING: with a new journal, and with
one of 1 GB, which is in the page cache. An import is the time of an interpreter that does nothing else, less that of
one that does nothing at all.
"""


def run(bench: Bench) -> Outcome:
    rounds = max(5, bench.rounds)
    folder = bench.folder()
    variants: dict[str, Callable[[], Figures]] = {EMPTY: _empty(folder), BARE: _bare}
    if not bench.quick:
        large = folder / "large.db"
        bench.say("filling a journal with 1 GB")
        journals.fill(large, events=_EVENTS)
        variants[LARGE] = lambda: _start(large)
    starts = bench.alternate(variants, rounds=rounds)
    imports = bench.alternate(
        {NOTHING: _import("pass"), **{code: _import(code) for code in (CLIENT, AIO, GRPC)}}, rounds=rounds
    )
    seconds = figure("seconds")
    outcome = Outcome(
        findings=[
            Finding(what=f"start to SERVING: {EMPTY}", spread=starts.spread(EMPTY, seconds), unit="s", at_most=1),
            Finding(what=f"start: {BARE} / {EMPTY}", spread=starts.ratio(BARE, EMPTY, seconds), collapse=0.12),
        ]
    )
    if not bench.quick:
        spread = starts.spread(LARGE, seconds)
        outcome.findings.append(Finding(what=f"start to SERVING: {LARGE}", spread=spread, unit="s", at_most=2))
        size = Spread.of([(folder / "large.db").stat().st_size / 1e9])
        outcome.told.append(Told(name=f"{LARGE}: its file", spread=size, unit="GB"))
    for code in (CLIENT, AIO):
        spread = _less(imports, code, NOTHING)
        outcome.findings.append(Finding(what=code, spread=spread, unit="ms", at_most=150))
    # An import of ours can't be faster than that of gRPC, which it needs.
    outcome.findings.append(
        Finding(what=f"{GRPC} / {CLIENT}", spread=imports.ratio(GRPC, CLIENT, seconds), collapse=0.25)
    )
    outcome.told += [
        Told(name=GRPC, spread=_less(imports, GRPC, NOTHING), unit="ms"),
        Told(name=f"start: {BARE}", spread=starts.spread(BARE, seconds), unit="s"),
    ]
    return outcome


def _less(samples: Samples, over: str, under: str) -> Spread:
    pairs = zip(samples.values(over, figure("seconds")), samples.values(under, figure("seconds")), strict=True)
    return Spread.of([(above - below) * 1e3 for above, below in pairs])


def _empty(folder: Path) -> Callable[[], Figures]:
    numbers = iter(range(1_000))
    return lambda: _start(folder / f"empty-{next(numbers)}.db")


def _start(journal: Path) -> Figures:
    begun = time.perf_counter()
    with subprocess.Popen(
        [
            *[sys.executable, "-m", "stepwire_server", "serve", "tests.bench.app:app"],
            *["--listen", "127.0.0.1:0", "--journal", str(journal), "--log-level", "WARNING"],
        ],
        cwd=REPOSITORY,
        env={key: value for key, value in os.environ.items() if not key.startswith("STEPWIRE_")},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        try:
            assert server.stdout is not None
            line = server.stdout.readline().strip()
            if not line.startswith("listening on "):
                raise Failed(f"the server did not start: {line}")
            with grpc.insecure_channel(line.removeprefix("listening on ")) as channel:
                health = health_pb2_grpc.HealthStub(channel)
                request = health_pb2.HealthCheckRequest()
                answer = health.Check(request, timeout=_PATIENCE, wait_for_ready=True)
            if answer.status != health_pb2.HealthCheckResponse.SERVING:
                raise Failed(f"the server is not SERVING but {answer.status}")
            seconds = time.perf_counter() - begun
        finally:
            server.terminate()
            server.wait(_PATIENCE)
    return {"seconds": seconds}


def _bare() -> Figures:
    begun = time.perf_counter()
    server = Program(f"{YARDSTICKS}.per_message", "serve")
    try:
        server.hear(seconds=_PATIENCE)
        return {"seconds": time.perf_counter() - begun}
    finally:
        server.close()


def _import(code: str) -> Callable[[], Figures]:
    def run_it() -> Figures:
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, cwd=REPOSITORY, timeout=_PATIENCE)
        return {"seconds": time.perf_counter() - begun}

    return run_it


ROW = Row(number="B10", title="Start, and import", what=WHAT, run=run)
