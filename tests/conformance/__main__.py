"""Tries clients of any language against a server that does to them whatever servers and networks do.

Every case has one rule, plays it with a scripted server, and compares what the client's user saw, and which calls the
server saw, with what had to be. The clients are built first. A client whose tools are missing is reported as NOT RUN,
and the command fails then: a check that did not run is no pass.

  python -m tests.conformance                                  every client, every case
  python -m tests.conformance --clients go java --no-build     as they were built before
  python -m tests.conformance --clients go --cases hole --keep one case; its files stay in build/conformance
  python -m tests.conformance --list                           the cases and their rules, the clients and what they need

tests/conformance/README.md says what an adapter is, and how a language is added.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
import time
from pathlib import Path

from .cases import CASES, find_cases
from .clients import CLIENTS, ROOT, find_clients
from .report import Report
from .suite import build, try_all
from .trial import Result

FOLDER = ROOT / "build/conformance"


def main() -> int:
    arguments = _arguments()
    if arguments.list:
        return _list()
    cases, clients = find_cases(arguments.cases), find_clients(arguments.clients)
    not_run: dict[str, str] = {}
    for client in clients:
        if client.build and not arguments.no_build:
            print(f"Building {client.name} ...", flush=True)
        why = build(client, FOLDER, only_look=arguments.no_build)
        if why:
            not_run[client.name] = why
            print(f"{client.name}: NOT RUN: {why}", flush=True)
    if arguments.build_only:
        return 1 if not_run else 0

    report = Report(cases, [client.name for client in clients], not_run)
    trials = [(case, client) for client in clients if client.name not in not_run for case in cases]
    began, done = time.monotonic(), 0

    def tell(result: Result) -> None:
        nonlocal done
        done += 1
        report.add(result)
        said = "ok" if result.passed else "WRONG"
        print(
            f"[{done:3}/{len(trials)}] {result.client:12} {result.case:34} {said:5} {result.seconds:5.1f} s", flush=True
        )

    folder = FOLDER / "kept" if arguments.keep else Path(tempfile.mkdtemp(prefix="conformance-"))
    try:
        asyncio.run(try_all(trials, folder, tell=tell))
    finally:
        if not arguments.keep:
            shutil.rmtree(folder, ignore_errors=True)
    report.write(FOLDER)
    print("", report.text(), "", *report.failures(), sep="\n")
    print(
        f"\n{len(trials)} trials in {time.monotonic() - began:.0f} s. In {FOLDER.relative_to(ROOT)}: conformance.md, .json"
    )
    return 0 if report.passed else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.conformance", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", nargs="*", default=[], metavar="NAME", help="some clients; default: all")
    parser.add_argument("--cases", nargs="*", default=[], metavar="NAME", help="some cases; default: all")
    parser.add_argument("--list", action="store_true", help="say what there is, and run nothing")
    parser.add_argument("--keep", action="store_true", help="keep every adapter's folder with its standard error")
    parser.add_argument("--no-build", action="store_true", help="take the adapters as they were built before")
    parser.add_argument("--build-only", action="store_true", help="build the clients, and try nothing")
    arguments = parser.parse_args()
    try:
        find_cases(arguments.cases)
        find_clients(arguments.clients)
    except ValueError as error:
        parser.error(str(error))
    return arguments


def _list() -> int:
    for case in CASES:
        print(f"{case.name}\n    {case.rule}")
    print()
    for client in CLIENTS:
        missing = client.missing()
        print(f"{client.name}: {'missing: ' + ', '.join(missing) if missing else 'can be built'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
