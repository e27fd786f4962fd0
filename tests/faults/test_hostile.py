"""Hostile callers: each gets its answer, none of them takes anything from an honest one, and nothing of them stays."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.server.api.bad_inputs import BAD_INPUTS, TRANSPORT, VALUES

from stepwire_server.limits import CallLimits

from .hostile.attacks import Arena, Result
from .hostile.floods import FLOODS
from .hostile.honest import Timings
from .hostile.raw_inputs import RAW_INPUTS
from .noted import Noted

SLICE = ("rapid reset", "CONTINUATION")
"""The floods that `make test` lets loose."""

_FOR_STRANGERS = ("--max-streams-per-connection", "16")

ALONE = {
    "rapid reset": _FOR_STRANGERS,
    "rapid reset, with requests": _FOR_STRANGERS,
    "pings": (),
    "CONTINUATION": (),
    "1,000 silent connections": (),
}
"""Beside which floods an honest caller is served soon, and with which flags."""

GROWTH = 150.0
"""MiB that an attack may make the server grow by. One gzip of 1 MiB alone would be a thousand."""


def log_of(arena: Arena) -> str:
    return arena.server.log.read_text("utf-8")


@pytest.mark.slow
@pytest.mark.fault("bytes and requests that nobody should send", how="h2 and sockets by hand, all at once")
async def test_bad_inputs(tmp_path: Path, noted: Noted, long: bool) -> None:
    """What is no request is refused as its table says, all of it at once, while an honest caller is served."""
    # The whole table is also gone through within a process, in tests/server/api.
    bad_inputs = BAD_INPUTS if long else [*VALUES, *TRANSPORT]
    async with asyncio.timeout(50), Arena(tmp_path) as arena:
        address = arena.server.address

        async def all_of_them() -> str:
            answers = await asyncio.gather(*(raw.send(address) for raw in RAW_INPUTS.values()))
            for (name, raw), answer in zip(RAW_INPUTS.items(), answers, strict=True):
                assert answer.startswith(raw.answer), (name, answer)
            await asyncio.gather(*(arena.bad_input(bad) for bad in bad_inputs))
            return "refused"

        result = await arena.attack("all", all_of_them, executes=20)
        assert result.honest.failed == []
        assert result.peak < result.before + GROWTH
        assert "Traceback" not in log_of(arena)
    noted.times = len(RAW_INPUTS) + len(bad_inputs)
    noted.figures["server's memory before, most"] = f"{result.before:.0f}, {result.peak:.0f} MiB"


@pytest.mark.slow
@pytest.mark.timeout(1_800)
@pytest.mark.fault("floods of frames, connections and calls", how="sockets by hand, in a process of their own")
async def test_floods(tmp_path: Path, noted: Noted, long: bool) -> None:
    """While a flood runs all Executes of an honest caller succeed, dense and to their end; the server's memory is
    bounded, and nothing of the flood stays.
    """
    names = tuple(FLOODS) if long else SLICE
    results: list[Result] = []
    # By default a flood of resets can stand for seconds before each honest call: too long for a slice.
    flags = [] if long else ["--max-streams-per-connection", "1000"]
    async with asyncio.timeout(1_700 if long else 55), Arena(tmp_path, flags=flags) as arena:
        for name in names:
            result = await arena.flood(
                name, executes=1_000 if long else 10, seconds=5.0 if long else 0.7, at_once=20 if long else 2
            )
            print(result.row())
            results.append(result)
            assert result.honest.failed == [], name
            assert result.sent > 0, name
            assert result.peak < result.before + GROWTH, name
        assert arena.memory() < results[0].before + 2 * GROWTH
        # Tasks are counted once a second; those that a flood leaves behind would stay, and the time limit end this.
        while (load := await arena.load()).tasks > 50:  # noqa: ASYNC110 - another process is waited for
            await asyncio.sleep(load.tasks / 10_000)
        assert (load.running_executions, load.open_streams, load.half_open_calls) == (0, 0, 0)
        assert "Traceback" not in log_of(arena)
    noted.times = len(results)
    noted.figures["honest Executes"] = f"{sum(len(result.honest.executed) for result in results):,}, none failed"
    for result in results:
        noted.figures[result.name] = f"GetServerInfo p50 / p99 {result.honest.shown(result.honest.asked)} ms"


@pytest.mark.slow
@pytest.mark.timeout(200)
@pytest.mark.parametrize(("flood", "flags"), ALONE.items())
@pytest.mark.fault("a flood beside one honest caller", how="sockets by hand, in a process of their own")
async def test_an_honest_caller_beside_a_flood(
    tmp_path: Path, noted: Noted, long: bool, flood: str, flags: Sequence[str]
) -> None:
    """Of the calls that one honest caller makes one after the other beside a flood, 99 of 100 take less than 50 ms."""
    if not long:
        pytest.skip("only in the long run: make faults")
    async with asyncio.timeout(100), Arena(tmp_path, flags=flags) as arena:
        calm = await arena.honest.work(executes=1, seconds=5.0, at_once=1)
        result = await arena.flood(flood, executes=1, seconds=10.0, at_once=1)
    assert result.honest.failed == []
    noted.times = len(result.honest.asked)
    noted.figures["flood"] = " ".join([flood, *flags])
    noted.figures["p50 / p99 without it"] = f"{calm.shown(calm.asked)} ms"
    noted.figures["beside it"] = f"{result.honest.shown(result.honest.asked)} ms"
    assert Timings.percentile(result.honest.asked, 99) < 50.0


@pytest.mark.fault("pings without end", how="sockets by hand")
async def test_a_ping_flood_is_hung_up_on(tmp_path: Path) -> None:
    """Who pings without end is told ENHANCE_YOUR_CALM and hung up on."""
    async with asyncio.timeout(40), Arena(tmp_path) as arena:
        result = await arena.flood("pings", executes=1, seconds=0.5)
    assert "ENHANCE_YOUR_CALM too_many_pings" in result.got


@pytest.mark.fault("1,000 half-open calls of one caller, beyond its limit", how="sockets by hand")
async def test_half_open_calls_beyond_the_limit(tmp_path: Path) -> None:
    """Calls beyond a caller's limit are refused at once, their places come back when the caller goes, and then it is
    served again.
    """
    flags = ["--max-half-open-calls-per-caller", "100", "--body-timeout", "30"]
    async with asyncio.timeout(40), Arena(tmp_path, flags=flags) as arena:
        async with arena.flooded("1,000 half-open calls"):
            while "--max-half-open-calls-per-caller" not in str(await arena.try_to_ask()):  # noqa: ASYNC110 - another process is waited for
                await asyncio.sleep(0)
        load = await arena.quiet()
        assert load.refused["LIMIT_CALLS"] > 0
        assert (await arena.honest.work(executes=5, seconds=0)).failed == []


def test_a_flood_of_resets_is_bounded() -> None:
    """By default one connection has room for 3,000 calls at once, and can't queue many more than that before those of
    others.
    """
    assert 3_000 < CallLimits().max_streams_per_connection <= 5_000
