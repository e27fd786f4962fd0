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


def test_the_check_finds() -> None:
    """The check of the arrivals finds events that came together at the end, and one that came with the next."""
    outcome = arrival.Outcome(emitted=[1.0, 1.2, 1.4], ended=1.6)
    assert not outcome.waited([1.01, 1.21, 1.41])
    assert outcome.waited([1.6, 1.6, 1.6]) == [1, 2, 3]
    assert outcome.waited([1.01, 1.41, 1.41]) == [2]
