"""What every journal promises of records that are created together."""

from __future__ import annotations

import asyncio

import pytest

from stepwire.errors import CursorExpired
from stepwire.v1 import ExecutionFilter, ExecutionState
from stepwire_server.journal import Retention

COMPLETED = ExecutionState.EXECUTION_STATE_COMPLETED


async def total(journal) -> int:
    return (await journal.list(ExecutionFilter(), tenant="", limit=1)).total


async def test_all_are_created(journal, new_record, new_chunk, append):
    """All records are stored in their order, whole, and can be appended to."""
    asked = [new_record(f"e{n}", request_id=f"r{n}", session_id="s", labels={"n": str(n)}) for n in range(20)]
    made = await journal.create_all(asked)
    assert [(record.execution_id, record.ordinal) for record in made] == [(f"e{n}", n + 1) for n in range(20)]
    assert [await journal.get(record.execution_id) for record in made] == list(made)
    await append(journal, "e7", new_chunk(1, 3))
    assert (await journal.get("e7")).last_sequence == 3


async def test_a_known_request_id_keeps_all_out(journal, new_record):
    """Where one of the request ids is known nothing is stored, and who asks is told so."""
    await journal.create(new_record("e0", request_id="known"))
    asked = [new_record("e1", request_id="r1"), new_record("e2", request_id="known"), new_record("e3")]
    assert await journal.create_all(asked) is None
    assert await total(journal) == 1
    assert await journal.find(tenant="", request_id="r1") is None


async def test_a_taken_id_keeps_all_out(journal, new_record):
    """Where one of the execution ids is taken nothing is stored."""
    await journal.create(new_record("e2"))
    with pytest.raises(ValueError, match="e2 exists"):
        await journal.create_all([new_record("e1"), new_record("e2"), new_record("e3")])
    assert await total(journal) == 1


async def test_a_purged_one_keeps_all_out(journal, new_record, new_chunk):
    """Where one of the request ids is that of a purged execution nothing is stored, and the error names it."""
    for name in ("old", "kept"):
        await journal.create(new_record(name, request_id=name))
        await journal.append(name, epoch=1, chunk=new_chunk(1, kind=26), state=COMPLETED, snapshot=b"")
    await journal.purge(Retention(keep_days=0, keep_executions=1))
    with pytest.raises(CursorExpired) as caught:
        await journal.create_all([new_record("e1", request_id="r1"), new_record("e2", request_id="old")])
    assert caught.value.metadata["request_id"] == "old"
    assert await total(journal) == 1


async def test_one_of_many_at_once(journal, new_record):
    """Of many that come at once with request ids in common one is stored, whole."""
    asked = [
        [new_record(f"e{turn}-{n}", request_id=f"r{n if n != 2 else turn + 10}") for n in range(5)]
        for turn in range(10)
    ]
    made = [records for records in await asyncio.gather(*map(journal.create_all, asked)) if records is not None]
    assert len(made) == 1
    assert await total(journal) == 5
