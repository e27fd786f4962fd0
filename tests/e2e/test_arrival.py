"""Events reach the caller as they happen."""

from __future__ import annotations

from . import arrival
from .serving import ServerProcess


def test_no_event_waits_for_the_end(sample: ServerProcess) -> None:
    """Each of ten reports in two seconds reaches grpcurl and the Python client before the next is emitted."""
    outcome = arrival.run(sample)
    print(arrival.table(outcome))
    assert len(outcome.emitted) == len(outcome.at_grpcurl) == len(outcome.at_client) == 10
    assert not outcome.waited(outcome.at_grpcurl)
    assert not outcome.waited(outcome.at_client)
    assert outcome.median < 100
