"""Has the clients of all languages decode the golden encodings, and compares what they make of them.

Every adapter gets all of them as `decode` commands, and answers with proto3 JSON, which must be what the golden says.
The table of messages by languages is printed, and written into build/conformance/golden.md. A client whose tools are
missing is NOT RUN, and the command fails then.

  python -m tests.conformance.golden                             every client
  python -m tests.conformance.golden --clients go --no-build     as it was built before
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from tests.contract.golden.files import Golden, read

from .clients import Client, find_clients
from .suite import FOLDER, build_all

_SECONDS = 120.0
"""For one process of an adapter, whatever it decodes."""

_TIME = re.compile(r"(?P<whole>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d|-?\d+)(?:\.(?P<fraction>\d{1,9}))?(?P<end>Z|s)")


def main() -> int:
    arguments = _arguments()
    goldens = read()
    clients = find_clients(arguments.clients)
    wrong: dict[str, dict[str, str]] = {}
    not_run = build_all(clients, only_look=arguments.no_build)
    for client in clients:
        if client.name in not_run:
            continue
        wrong[client.name], processes = try_client(client, goldens)
        right = len(goldens) - len(wrong[client.name])
        print(f"{client.name}: {right} of {len(goldens)} as they must be; processes: {processes}", flush=True)

    rows = [_row(["message", *(client.name for client in clients)]), _row(["---"] * (1 + len(clients)))]
    rows += [_row([str(golden), *(_cell(str(golden), client.name, wrong) for client in clients)]) for golden in goldens]
    table = "\n".join(rows)
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "golden.md").write_text(f"# Golden encodings\n\n{table}\n", "utf-8")
    print("", table, "", sep="\n")
    for name, found in wrong.items():
        for golden, why in found.items():
            print(f"{name}, {golden}: {why}")
    return 1 if not_run or any(wrong.values()) else 0


def try_client(client: Client, goldens: Sequence[Golden]) -> tuple[dict[str, str], int]:
    """Has a client decode all of them. Returns what is wrong, and how many processes it took.

    One process gets them all. Where one message ends it, another one gets those that follow.
    """
    wrong: dict[str, str] = {}
    processes = 0
    rest = list(goldens)
    while rest:
        answers, died = _ask(client, rest)
        processes += 1
        for golden, answer in zip(rest, answers, strict=False):
            if found := list(differences(golden.content, answer)):
                wrong[str(golden)] = "; ".join(found[:3])
        rest = rest[len(answers) :]
        if rest and (died or not answers):
            wrong[str(rest[0])] = died or "no answer"
            rest = rest[1:]
    return wrong, processes


def differences(expected: Any, seen: Any, path: str = "") -> Iterator[str]:
    """Gives where two JSON values differ. What printers of JSON may do as they like is no difference: see `_plain`."""
    expected, seen = _plain(expected), _plain(seen)
    if isinstance(expected, dict) and isinstance(seen, dict):
        for name in sorted(expected.keys() | seen.keys()):
            inner = f"{path}.{name}" if path else name
            if name not in seen:
                yield f"{inner} is missing"
            elif name not in expected:
                yield f"{inner} must not be there: {seen[name]!r}"
            else:
                yield from differences(expected[name], seen[name], inner)
    elif isinstance(expected, list) and isinstance(seen, list) and len(expected) == len(seen):
        for number, (one, other) in enumerate(zip(expected, seen, strict=True)):
            yield from differences(one, other, f"{path}[{number}]")
    elif type(expected) is not type(seen) or expected != seen:
        yield f"{path or 'all'} is {seen!r}, not {expected!r}"


def _plain(value: Any) -> Any:
    """Returns a value in the one form that printers of proto3 JSON leave open.

    A number may be written as 3, 3.0 or 0.3e1: JSON knows one kind. The fraction of a Timestamp or a Duration
    may have 0, 3, 6 or 9 digits: trailing zeros say nothing. An int64 is a text, an enum value without a name a number
    in every language, so that these are compared as they are.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        return Decimal(repr(value)).normalize()
    if isinstance(value, str) and (time := _TIME.fullmatch(value)):
        return f"{time['whole']}.{(time['fraction'] or '').ljust(9, '0')}{time['end']}"
    return value


def _ask(client: Client, goldens: Sequence[Golden]) -> tuple[list[Any], str]:
    """Runs an adapter with these to decode. Returns its answers, and why it failed; nothing where it ended well."""
    commands = "".join(f"{json.dumps(_command(golden))}\n" for golden in goldens)
    with tempfile.TemporaryDirectory(prefix="golden-") as folder:
        try:
            done = subprocess.run(
                client.run,
                input=commands.encode(),
                capture_output=True,
                cwd=folder,
                env={**os.environ, **client.environment},
                timeout=_SECONDS,
            )
        except subprocess.TimeoutExpired as late:
            return _answers(late.stdout or b""), f"it did not end within {_SECONDS:g} s"
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        return _answers(done.stdout), " ".join([f"exit code {done.returncode}", *last])
    return _answers(done.stdout), ""


def _command(golden: Golden) -> Mapping[str, str]:
    return {
        "do": "decode",
        "type": golden.kind.DESCRIPTOR.full_name,
        "base64": base64.b64encode(golden.data).decode(),
    }


def _answers(written: bytes) -> list[Any]:
    """Returns what was decoded: the values of `decoded` that an `end` follows."""
    answers: list[Any] = []
    decoded: list[Any] = []
    for line in written.splitlines():
        try:
            [(name, value)] = json.loads(line).items()
        except (ValueError, AttributeError):
            break  # The rest of a line that the process could not write to its end.
        if name == "decoded":
            decoded.append(value)
        elif name == "end":
            answers.append(decoded.pop() if decoded else value)
    return answers


def _cell(golden: str, client: str, wrong: Mapping[str, Mapping[str, str]]) -> str:
    if client not in wrong:
        return "NOT RUN"
    return "WRONG" if golden in wrong[client] else "ok"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.conformance.golden",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--clients", nargs="*", default=[], metavar="NAME", help="some clients; default: all")
    parser.add_argument("--no-build", action="store_true", help="take the adapters as they were built before")
    arguments = parser.parse_args()
    try:
        find_clients(arguments.clients)
    except ValueError as error:
        parser.error(str(error))
    return arguments


if __name__ == "__main__":
    sys.exit(main())
