"""Stepwire as a subject: the server as its users start it, and clients as they write them.

    python -m tests.bench.stepwire_subject serve [--journal memory] [--loop uvloop]
    python -m tests.bench.stepwire_subject drive --target HOST:PORT [--reader aio|sync|bare]

`aio` and `sync` are Stepwire's own clients, which resume, and keep a tracker. `bare` is grpc.aio with the contract's
messages and nothing else, as the yardsticks' clients are: what a client in any language can do.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import sys
import tempfile
from pathlib import Path

from tests.bench.subject import announce, drive_async, until_told

__all__ = ["main"]

REPOSITORY = Path(__file__).resolve().parents[2]
_PATIENCE = 60.0
"""Seconds that the server may take to end."""


async def serve(journal: str, flags: list[str]) -> None:
    """Runs `stepwire-server serve` on a free port, with a journal on disk that goes with it."""
    with contextlib.ExitStack() as stack:
        if not journal:
            journal = str(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-"))) / "journal.db")
        server = await asyncio.create_subprocess_exec(
            *[sys.executable, "-m", "stepwire_server", "serve", "tests.bench.app:app", "--listen", "127.0.0.1:0"],
            *["--journal", journal, "--log-level", "WARNING", *flags],
            cwd=REPOSITORY,
            env={key: value for key, value in os.environ.items() if not key.startswith("STEPWIRE_")},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            assert server.stdout is not None
            line = (await server.stdout.readline()).decode().strip()
            if not line.startswith("listening on "):
                raise SystemExit(f"the server did not start: {line or 'its log says why'}")
            announce(line.removeprefix("listening on "), pid=server.pid)
            await until_told()
        finally:
            with contextlib.suppress(ProcessLookupError):
                server.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(server.wait(), _PATIENCE)
            except TimeoutError:
                server.kill()


async def drive(target: str, reader: str) -> None:
    """Does what the harness asks for."""
    # Only now: the process of the server needs none of this.
    from tests.bench.stepwire_work import Worker

    async with Worker(target, reader=reader) as worker:
        await drive_async(worker.work)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    roles = parser.add_subparsers(dest="role", required=True)
    serving = roles.add_parser("serve", help="serve until told to end; other flags go to stepwire-server serve")
    serving.add_argument("--journal", default="", help="a file, or 'memory'. Without it: a file that is removed again")
    driving = roles.add_parser("drive", help="read commands from standard input")
    driving.add_argument("--target", required=True)
    driving.add_argument("--reader", default="aio", choices=["aio", "sync", "bare"])
    given, flags = parser.parse_known_args()
    if given.role == "serve":
        asyncio.run(serve(given.journal, flags))
    else:
        asyncio.run(drive(given.target, given.reader))


if __name__ == "__main__":
    main()
