"""A server that is told to end while streams are read."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path

import pytest
from tests.e2e.serving import PATIENCE

from stepwire.v1 import EventBatch

from .history import History, dump
from .kill_loop import Gauged
from .noted import Noted
from .readers import Readers, being_read, pace, ticking, told


@pytest.mark.fault("SIGTERM during streams, then a start", how="SIGTERM")
@pytest.mark.timeout(120)
async def test_readers_outlive_a_drain(tmp_path: Path, long: bool, noted: Noted) -> None:
    """Every reader of a server that ends by SIGTERM is told DRAINING, its stream ends OK, and it goes on without a hole
    at the next server.
    """
    # A step is taken up by so many servers, and by no more.
    noted.times = 3 if long else 1
    history = History()
    worst = dict.fromkeys(("aio", "sync", "raw"), 0.0)
    with Gauged(tmp_path) as server:
        execution_id = await ticking(server.address)
        readers = Readers(server.address, history, **pace(long))
        async with being_read(readers, server, tmp_path, execution_id):
            for _ in range(noted.times):
                struck = time.monotonic()
                assert await asyncio.to_thread(server.terminate) == 0
                await asyncio.to_thread(server.start)
                started = time.monotonic()
                await readers.have_events(since=started)
                for kind, seconds in readers.next_event(started).items():
                    worst[kind] = max(worst[kind], seconds + started - struck)
    noted.figures["from SIGTERM to the next event, worst"] = told(worst)
    assert min(readers.drained.values()) >= noted.times, readers.drained
    ended = [stream for stream in history.streams if stream.messages]
    assert {stream.status for stream in ended} == {"OK"}
    notices = [stream.messages[-1].notice for stream in ended[:-1]]
    assert notices == [EventBatch.NOTICE_DRAINING] * noted.times
    log = server.log.read_text("utf-8")
    assert "ERROR" not in log
    assert "Traceback" not in log


@pytest.mark.fault("a second SIGTERM", how="SIGTERM twice, with a step that takes an hour")
async def test_a_second_signal(tmp_path: Path, noted: Noted) -> None:
    """A second SIGTERM ends a server that waits for its steps at once, and what had been shown is in the journal."""
    history = History(complete=False)
    with Gauged(tmp_path, flags=["--drain-grace", "3600"]) as server:
        execution_id = await ticking(server.address)
        readers = Readers(server.address, history, kinds=["raw"])
        reading = asyncio.create_task(readers.read(execution_id))
        await readers.have_events(count=5)
        server.process.send_signal(signal.SIGTERM)
        await readers.have_noticed(since=0)
        assert server.process.poll() is None
        struck = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(server.process.wait, PATIENCE) == 1
        noted.figures["to its end"] = f"{time.monotonic() - struck:.2f} s"
        assert time.monotonic() - struck < 2
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        assert history.streams[0].messages[-1].notice == EventBatch.NOTICE_DRAINING
        server.kill()
    history.journal = await dump(server.journal)
    held = len(history.journal[execution_id].frames)
    assert history.streams[0].messages[-1].sequence <= held
