"""Tries clients of any language against a server that does to them whatever servers and networks do.

Every case has one rule, plays it with a scripted server, and compares what the client's user saw, and which calls the
server saw, with what had to be. The clients are built first. A client whose tools are missing is reported as NOT RUN,
and the command fails then: a check that did not run is no pass. Where no clients are named, every case also has to
catch a client that is wrong on purpose: a case that catches nobody proves nothing.

  python -m tests.conformance                                  every client and the wrong ones, every case
  python -m tests.conformance --clients go java --no-build     two of them, as they were built before
  python -m tests.conformance --clients go --cases hole --keep one case; its files stay in build/conformance/kept
  python -m tests.conformance --clients wrong                  the wrong clients alone
  python -m tests.conformance --list                           the cases and their rules, the clients and what they need

tests/conformance/README.md says what an adapter is, and how a language is added.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import shutil
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from .case import Case
from .cases import CASES, find_cases
from .catching import Catch, try_wrong
from .clients import CLIENTS, ROOT, Client, find_clients
from .report import Report
from .suite import FOLDER, all_of, build_all
from .trial import Result, try_case
from .wrong import FAULTS

__all__ = ["main"]

_WRONG = "wrong"


def main() -> int:
    arguments = _arguments()
    if arguments.list:
        _list()
        return 0
    cases = find_cases(arguments.cases)
    catching = not arguments.clients or _WRONG in arguments.clients
    names = [name for name in arguments.clients if name != _WRONG]
    clients = find_clients(names) if names or not arguments.clients else []

    not_run = build_all(clients, only_look=arguments.no_build)
    if arguments.build_only:
        return 1 if not_run else 0
    report = Report(cases, [client.name for client in clients], not_run=not_run, catching=catching)
    there = [client for client in clients if client.name not in not_run]
    folder = FOLDER / "kept" if arguments.keep else Path(tempfile.mkdtemp(prefix="conformance-"))
    began = time.monotonic()
    try:
        asyncio.run(_try(cases, there, folder, catching=catching, report=report))
    finally:
        if not arguments.keep:
            shutil.rmtree(folder, ignore_errors=True)
    report.write(FOLDER)
    print("", report.text(), *(f"\n{failure}" for failure in report.failures()), sep="\n")
    print(
        f"\nIn {time.monotonic() - began:.0f} s. The table is in {FOLDER.relative_to(ROOT)}: conformance.md and .json"
    )
    return 0 if report.passed else 1


async def _try(
    cases: Sequence[Case], clients: Sequence[Client], folder: Path, *, catching: bool, report: Report
) -> None:
    trials: list[Callable[[], Awaitable[Result | Catch]]] = [
        functools.partial(try_case, case, client, folder / client.name / case.name)
        for client in clients
        for case in cases
    ]
    if catching:
        trials += [functools.partial(try_wrong, case, folder / _WRONG) for case in cases]
    done = 0

    def tell(result: Result | Catch) -> None:
        nonlocal done
        done += 1
        report.add(result)
        if isinstance(result, Catch):
            client, seconds, said = _WRONG, result.result.seconds, "caught" if result.caught else "MISSED"
        else:
            client, seconds, said = result.client, result.seconds, "ok" if result.passed else "WRONG"
        print(f"[{done:3}/{len(trials)}] {client:12} {result.case:34} {said:6} {seconds:5.1f} s", flush=True)

    await all_of(trials, tell)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.conformance", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", nargs="*", default=[], metavar="NAME", help="some clients; default: all")
    parser.add_argument("--cases", nargs="*", default=[], metavar="NAME", help="some cases; default: all")
    parser.add_argument("--list", action="store_true", help="say what there is, and run nothing")
    parser.add_argument("--keep", action="store_true", help="keep every adapter's folder, with its standard error")
    parser.add_argument("--no-build", action="store_true", help="take the adapters as they were built before")
    parser.add_argument("--build-only", action="store_true", help="build the clients, and try nothing")
    arguments = parser.parse_args()
    try:
        find_cases(arguments.cases)
        find_clients([name for name in arguments.clients if name != _WRONG])
    except ValueError as error:
        parser.error(str(error))
    return arguments


def _list() -> None:
    for case in CASES:
        print(f"{case.name}\n    {case.rule}\n    catches: {FAULTS[case.name].__doc__}")
    print()
    for client in CLIENTS:
        missing = client.missing()
        print(f"{client.name}: {'missing: ' + ', '.join(missing) if missing else 'all that it needs is there'}")


if __name__ == "__main__":
    sys.exit(main())
