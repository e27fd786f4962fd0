"""The adapter of `stepwire.Client`: reads commands, does them, writes what it saw."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from google.protobuf import json_format

from stepwire import Client, Patience, StepwireError
from stepwire.client import Run
from stepwire.v1 import EventFilter, Plan

from .lines import Writer, decoded, refused, snapshot, write

__all__ = ["choices", "main", "settings", "work"]


def main() -> None:
    for line in sys.stdin:
        _obey(json.loads(line))


def _obey(command: dict[str, Any]) -> None:
    if command["do"] == "decode":
        write({"decoded": decoded(command)})
        write({"end": {"outcome": "answered"}})
        return
    with Client(command["target"], **settings(command)) as client:
        if command["do"] in ("execute", "watch"):
            _follow(client, command)
        else:
            _ask(client, command)


def settings(command: dict[str, Any]) -> dict[str, Any]:
    """Returns the client's keywords. Its `timeout` is both the deadline of a unary call and the time for a stream to
    begin. It reads streams only: a client that polls where they do not come through does more than the kit asks for.
    """
    chosen: dict[str, Any] = {"delivery": "stream"}
    if (timeout := command.get("timeout_seconds", command.get("opening_seconds"))) is not None:
        chosen["timeout"] = timeout
    if "patience" in command:
        chosen["patience"] = Patience(**command["patience"])
    return chosen


def choices(command: dict[str, Any]) -> dict[str, Any]:
    """Returns the keywords that `execute` and `watch` share."""
    selected = json_format.ParseDict(command.get("filter", {}), EventFilter())
    return {
        "kinds": list(selected.kinds),
        "step_ids": list(selected.step_ids),
        "heartbeat_interval": command.get("heartbeat_seconds"),
    }


def work(command: dict[str, Any]) -> dict[str, Any]:
    """Returns the keywords of `execute` alone."""
    plan = json_format.ParseDict(command["plan"], Plan()) if "plan" in command else None
    return {"query": command.get("query"), "plan": plan, "request_id": command.get("request_id")}


def _follow(client: Client, command: dict[str, Any]) -> None:
    writer = Writer(command)
    run: Run | None = None
    failure: StepwireError | None = None
    began = time.perf_counter()
    try:
        if command["do"] == "execute":
            run = client.execute(**work(command), **choices(command))
        else:
            after = command.get("after_sequence", 0)
            run = client.watch(command["execution_id"], after_sequence=after, **choices(command))
        for event in run:
            if writer.event(event):
                break
    except StepwireError as error:
        failure = error
    writer.end(run, failure, seconds=time.perf_counter() - began)


def _ask(client: Client, command: dict[str, Any]) -> None:
    try:
        if command["do"] == "get":
            execution = client.get(command["execution_id"])
        else:
            execution = client.cancel(command["execution_id"], command.get("reason", ""))
    except StepwireError as error:
        write({"end": {"error": refused(error)}})
        return
    write({"execution": snapshot(execution)})
    write({"end": {"outcome": "answered"}})


if __name__ == "__main__":
    main()
