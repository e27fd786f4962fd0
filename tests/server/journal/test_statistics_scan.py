"""A journal's statistics equal a full scan: a slice of `statistics_million`."""

from __future__ import annotations

from random import Random

from stepwire_server.journal.statistics import DAY

from .scan import scan
from .statistics_million import BEGIN, DAYS, SECOND, farthest, fill, inside, same


async def test_statistics_equal_a_full_scan(journal):
    """Of executions with failures, retries, questions and pauses, statistics of any span are what a scan of
    all their events gives, and percentiles are within 1 % of the exact ones.
    """
    executions, _ = await fill(journal, 4_000)
    assert executions > 40
    chance = Random(1)
    everything = await scan(journal)
    found = await journal.statistics(tenant="")
    assert same(found, everything)
    assert farthest(found, everything) <= 0.01
    for name in ("completed", "failed", "cancelled", "retries", "waited"):
        assert any(getattr(tally, name) for tally in found.operations.values()), name
    for days in (1, 7, 30):
        begin = BEGIN + chance.randrange((DAYS - days) * DAY)
        span = (begin, begin + days * DAY + chance.randrange(DAY))
        found = await journal.statistics(tenant="", from_ns=span[0] * SECOND, before_ns=span[1] * SECOND)
        assert same(found, await scan(journal, chosen=inside(span)))
