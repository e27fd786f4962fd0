"""The command line that all yardsticks have, and the numbers of the events that they send."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable, Coroutine, Iterable
from itertools import chain
from typing import Any

__all__ = ["Options", "numbers", "run"]

Options = argparse.Namespace


def run(
    about: str | None,
    *,
    serve: Callable[[Options], Coroutine[Any, Any, None]],
    drive: Callable[[str], Coroutine[Any, Any, None]],
    flags: Iterable[str] = (),
) -> None:
    """Runs the one or the other, as the command line says. A flag is an option of the server's."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    server = commands.add_parser("serve", help="serves on a free port and says which, until SIGTERM")
    for flag in flags:
        server.add_argument(f"--{flag}", action="store_true")
    server.add_argument("--skip", type=int, default=0, metavar="N", help="leaves out event N, which a check must find")
    client = commands.add_parser("drive", help="does the work that its standard input asks for")
    client.add_argument("--target", required=True, metavar="HOST:PORT")
    options = parser.parse_args()
    asyncio.run(serve(options) if options.command == "serve" else drive(options.target))


def numbers(events: int, *, skip: int = 0) -> Iterable[int]:
    """Returns 1 to `events`, without `skip`."""
    if 1 <= skip <= events:
        return chain(range(1, skip), range(skip + 1, events + 1))
    return range(1, events + 1)
