"""The adapter of `stepwire.aio.Client`."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

from stepwire import StepwireError
from stepwire.aio import Client, Run

from .lines import Writer, decoded, refused, snapshot, write
from .python_client import choices, settings, work

__all__ = ["main"]


async def main() -> None:
    for line in sys.stdin:
        await _obey(json.loads(line))


async def _obey(command: dict[str, Any]) -> None:
    if command["do"] == "decode":
        write({"decoded": decoded(command)})
        write({"end": {"outcome": "answered"}})
        return
    async with Client(command["target"], **settings(command)) as client:
        if command["do"] in ("execute", "watch"):
            await _follow(client, command)
        else:
            await _ask(client, command)


async def _follow(client: Client, command: dict[str, Any]) -> None:
    writer = Writer(command)
    run: Run | None = None
    failure: StepwireError | None = None
    began = time.perf_counter()
    try:
        if command["do"] == "execute":
            run = await client.execute(**work(command), **choices(command))
        else:
            after = command.get("after_sequence", 0)
            run = await client.watch(command["execution_id"], after_sequence=after, **choices(command))
        async for event in run:
            if writer.event(event):
                break
    except StepwireError as error:
        failure = error
    writer.end(run, failure, seconds=time.perf_counter() - began)


async def _ask(client: Client, command: dict[str, Any]) -> None:
    try:
        if command["do"] == "get":
            execution = await client.get(command["execution_id"])
        else:
            execution = await client.cancel(command["execution_id"], command.get("reason", ""))
    except StepwireError as error:
        write({"end": {"error": refused(error)}})
        return
    write({"execution": snapshot(execution)})
    write({"end": {"outcome": "answered"}})


if __name__ == "__main__":
    asyncio.run(main())
