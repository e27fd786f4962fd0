"""Sends every bad input to a server and prints, as Markdown, how each was refused.

python -m tests.server.api.bad_input_report
"""

from __future__ import annotations

import asyncio

from stepwire_server.api.server import Server
from stepwire_server.journal import MemoryJournal

from .bad_inputs import BAD_INPUTS, known_things
from .shop import Caller, Gate, create_app

_MOST = 160
"""Characters of a message that are shown."""


async def report() -> None:
    """Prints the table."""
    async with Server(create_app(Gate()).catalog(), MemoryJournal()) as server:
        caller = Caller(server.address)
        known = await known_things(caller)
        print("| input | status | reason | message |")
        print("|---|---|---|---|")
        for bad in BAD_INPUTS:
            refused = await caller.refused(
                bad.method, bad.request(known), metadata=bad.metadata, compression=bad.compression
            )
            cells = (
                bad.name,
                refused.code.name,
                refused.error.reason or "(the transport's)",
                _cell(refused.error.message),
            )
            print(f"| {' | '.join(cells)} |")
        await caller.close()


def _cell(text: str) -> str:
    shown = text if len(text) <= _MOST else text[:_MOST] + "..."
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in shown).replace("|", "\\|")


if __name__ == "__main__":
    asyncio.run(report())
