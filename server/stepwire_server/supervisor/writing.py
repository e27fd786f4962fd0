"""Starts the search for a program in a process of its own, and tells how far it is."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any

from stepwire_server.supervisor.examples import Examples

__all__ = ["searched"]

_ROOM = 300_000
_MEMORY = 2 << 30

_START = (
    "import sys; sys.path.insert(0, sys.argv[1]); from stepwire_server.supervisor.synthesis.process import main; main()"
)


async def searched(examples: Examples, *, words: str, seconds: float) -> AsyncGenerator[dict[str, Any], None]:
    """Gives what the search says: after each level `size` and `tried`, at last `source` or `problem`. Whoever leaves
    early ends the process.
    """
    job = {
        "name": examples.name,
        "parameters": examples.parameters,
        "examples": examples.known,
        "words": words,
        "seconds": seconds,
        "room": _ROOM,
        "memory": _MEMORY,
    }
    try:
        text = json.dumps(job, allow_nan=False)
    except (TypeError, ValueError):
        yield {
            "problem": "the examples have values that are not searched for: sets, bytes, complex numbers or the like"
        }
        return
    if json.loads(text)["examples"] != _as_lists(examples.known):
        yield {
            "problem": "the examples have values that are not searched for: tuples, or dicts with keys that are no text"
        }
        return
    folder = str(Path(__file__).parents[2])
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-I", "-c", _START, folder),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        limit=1 << 20,
        env={"PATH": os.defpath, "LANG": "C.UTF-8"},
        start_new_session=True,
    )
    try:
        assert process.stdin is not None
        process.stdin.write(text.encode())
        process.stdin.close()
        async with aclosing(_lines(process.stdout, seconds)) as lines:
            async for line in lines:
                yield line
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _lines(stream: Any, seconds: float) -> AsyncGenerator[dict[str, Any], None]:
    """Gives what is said until there is a result: it is one too that there is none."""
    said: dict[str, Any] = {}
    try:
        async with asyncio.timeout(seconds + 10):
            while "source" not in said and "problem" not in said:
                line = await stream.readline()
                if not line:
                    yield {"problem": "the search ended early: it had too little memory"}
                    return
                said = json.loads(line)
                yield said
    except TimeoutError:
        yield {"problem": f"the search was not done after {seconds:g} s"}


def _as_lists(examples: Any) -> Any:
    """Returns the examples as JSON has them, where no value among them is a tuple."""
    return [[list(arguments), wanted] for arguments, wanted in examples]
