from __future__ import annotations

import asyncio

import pytest

from stepwire.v1 import (
    ExecutionFilter,
    ExecutionState,
    StartExecutionResponse,
)
from stepwire_server.api.server import Server
from stepwire_server.journal import Journal

from .bad_inputs import BAD_INPUTS, BadInput, known_things, nested
from .conftest import Call, Serve
from .shop import QUICK, Caller


async def count(server: Server) -> int:
    page = await server.engine.journal.list(ExecutionFilter(), tenant="", limit=1)
    return page.total


@pytest.mark.fault("bad input: ids, plans, cursors, filters, numbers, depth, sizes, bytes", how="hand-made messages")
@pytest.mark.parametrize("bad", BAD_INPUTS, ids=lambda bad: bad.name)
async def test_a_bad_input_is_refused(bad: BadInput, caller: Caller, server: Server) -> None:
    """Every bad input gets the status, the reason and the fields that the table says, and leaves no trace."""
    known = await known_things(caller)
    before = await count(server)

    refused = await caller.refused(bad.method, bad.request(known), metadata=bad.metadata, compression=bad.compression)

    assert await count(server) == before
    assert server.engine.running == 0
    assert server.streams.open == 0
    if bad.sometimes is not None and refused.code is bad.sometimes:
        return
    assert (refused.code, refused.error.reason) == (bad.code, bad.reason), refused
    if bad.fields:
        assert [field for field, _ in refused.error.violations] == list(bad.fields)
    assert bad.says in str(refused.error)
    assert refused.error.message
    assert refused.details_size < 4096


async def test_bad_inputs_all_at_once(serve: Serve, call_with: Call, journal: Journal) -> None:
    """All bad inputs together leave no trace either, and the next good call is served."""
    server = await serve(journal)
    caller = call_with(server)
    known = await known_things(caller)
    before = await count(server)

    refused = await asyncio.gather(
        *(
            caller.refused(bad.method, bad.request(known), metadata=bad.metadata, compression=bad.compression)
            for bad in BAD_INPUTS
        )
    )

    for bad, found in zip(BAD_INPUTS, refused, strict=True):
        assert found.code in (bad.code, bad.sometimes), (bad.name, found)
    assert await count(server) == before
    await caller.run(QUICK)


async def test_the_deepest_input(caller: Caller) -> None:
    """A Struct nested 16 deep is accepted: the bound is inclusive."""
    answer = await caller.call("StartExecution", nested(16), StartExecutionResponse)

    ended = await caller.ended(answer.execution.execution_id)
    assert ended.state == ExecutionState.EXECUTION_STATE_COMPLETED


def test_names_are_unique() -> None:
    """No two bad inputs have one name, so that the report and a failing test name one each."""
    names = [bad.name for bad in BAD_INPUTS]
    assert len(set(names)) == len(names)
