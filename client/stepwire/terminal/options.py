"""What commands of `stepwire` take: options that several have, and checks of what was given."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import click

from stepwire.requests import BATCH_KEYS, BatchWork, batch
from stepwire.terminal.server import Server

__all__ = [
    "address_checked",
    "artifacts_option",
    "as_json_option",
    "as_plain_option",
    "json_object",
    "pairs",
    "plan_file",
    "poll_option",
    "server_option",
    "works_file",
]


_NUMBER = (int, float)
_KINDS: Mapping[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("query", "call", "request_id", "session_id"), str),
    **dict.fromkeys(("plan", "input", "labels"), dict),
    **dict.fromkeys(("time_limit", "cancel_if_unwatched_for"), _NUMBER),
}
_WORDS: Mapping[type | tuple[type, ...], str] = {str: "text", dict: "object", _NUMBER: "number of seconds"}
"""What entries of a batch have, where it is not what the client says anyway."""


def pairs(_context: click.Context, _parameter: click.Parameter, texts: tuple[str, ...]) -> dict[str, str]:
    pairs = {}
    for text in texts:
        key, separator, value = text.partition("=")
        if not separator or not key:
            raise click.BadParameter(f"{text!r} is not of the form KEY=VALUE")
        pairs[key] = value
    return pairs


def json_object(_context: click.Context, _parameter: click.Parameter, text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise click.BadParameter(f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise click.BadParameter("must be a JSON object")
    return value


def plan_file(context: click.Context, parameter: click.Parameter, path: Path | None) -> dict[str, Any] | None:
    if path is None:
        return None
    try:
        return json_object(context, parameter, sys.stdin.read() if str(path) == "-" else path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise click.BadParameter(str(error)) from None


def works_file(_context: click.Context, _parameter: click.Parameter, path: Path) -> list[BatchWork]:
    """Returns what a file of a batch has: a list of queries and objects."""
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text("utf-8")
        found = json.loads(text)
    except OSError as error:
        raise click.BadParameter(f"{path}: {error}") from None
    except ValueError as error:
        raise click.BadParameter(f"{path} is not JSON, of which it must be one list: {error}") from None
    if not isinstance(found, list):
        raise click.BadParameter(f'{path} has no JSON list; write one entry for each execution, such as ["a query"]')
    for index, work in enumerate(found):
        problem = _problem(work)
        if problem:
            raise click.BadParameter(f"{path}: entry {index} {problem}")
    return [{"query": work} if isinstance(work, str) else work for work in found]


def _problem(work: Any) -> str:
    """Returns what is wrong with an entry of a batch, whatever a server would say of it; empty where nothing is."""
    if isinstance(work, str):
        return ""
    if not isinstance(work, dict):
        return "is neither a query nor an object"
    unknown = sorted(work.keys() - BATCH_KEYS)
    if unknown:
        return f"has {unknown[0]!r}, which is not known; known are {', '.join(sorted(BATCH_KEYS))}"
    for name, kinds in _KINDS.items():
        if work.get(name) is not None and not isinstance(work[name], kinds):
            return f"has {name!r} that is no {_WORDS[kinds]}"
    try:
        batch([cast(BatchWork, work)])
    except (TypeError, ValueError, AttributeError) as error:
        return f"can't be sent: {error}"
    return ""


def address_checked(_context: click.Context, _parameter: click.Parameter, text: str | None) -> str | None:
    """Checks that an address has a host and a port, unless it is of another of gRPC's forms."""
    if text is None or re.match(r"(unix|unix-abstract|vsock|dns|ipv4|ipv6|xds):", text):
        return text
    host, separator, port = text.rpartition(":")
    if "//" in text:
        raise click.BadParameter(f"{text!r} is not of the form HOST:PORT; leave out {text.split('//')[0]}//")
    if not separator or text.endswith("]"):
        raise click.BadParameter(f"{text!r} has no port; write HOST:PORT, such as {text or 'localhost'}:50051")
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        raise click.BadParameter(f"{text!r}: an IPv6 address stands in brackets, such as [::1]:50051")
    if not host or not port.isdecimal():
        raise click.BadParameter(f"{text!r} is not of the form HOST:PORT, such as localhost:50051")
    return text


def _other_server(context: click.Context, parameter: click.Parameter, text: str | None) -> None:
    target = address_checked(context, parameter, text)
    if target is not None:
        context.obj = Server(target, given=True)


server_option = click.option(
    "--server",
    metavar="HOST:PORT",
    expose_value=False,
    callback=_other_server,
    help="Where the server is, here or before the command.",
)
poll_option = click.option(
    "--poll",
    is_flag=True,
    help="Ask for news again and again instead of opening a stream. For proxies that let no stream through; without it "
    "that is found out in some seconds.",
)
artifacts_option = click.option(
    "--artifacts",
    metavar="FOLDER",
    type=click.Path(file_okay=False, path_type=Path),
    help="Save each artifact as a file in this folder. No file is overwritten that was there before.",
)
as_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, one object a line.")
as_plain_option = click.option("--plain", is_flag=True, help="Print plain lines, also on a terminal.")
