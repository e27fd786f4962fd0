"""Times that a caller gives are what Python takes them for."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from stepwire.requests import chosen, statistics


@pytest.fixture(autouse=True)
def tokyo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This machine is nine hours ahead of UTC."""
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


NOON = datetime(2026, 3, 1, 12)


@pytest.mark.parametrize(("given", "hour"), [(NOON, 3), (NOON.replace(tzinfo=UTC), 12)], ids=["local", "utc"])
def test_a_time_without_a_zone_is_a_local_one(given: datetime, hour: int) -> None:
    """A datetime without a time zone is of this machine's, and one with a time zone is of that."""
    spans = [
        (request.from_time, request.before_time)
        for request in (statistics((), (), from_time=given, before_time=given),)
    ]
    found = chosen(execution_ids=(), session_id="", labels=None, states=(), created_from=given, created_before=given)
    spans.append((found.created_from, found.created_before))
    assert {field.ToDatetime() for span in spans for field in span} == {datetime(2026, 3, 1, hour)}


def test_what_is_no_time() -> None:
    """A text is refused by what it is."""
    with pytest.raises(TypeError, match="'2026-03-01' is no datetime"):
        statistics((), (), from_time="2026-03-01", before_time=None)  # type: ignore[arg-type]
