"""Which events pass, and which executions."""

from __future__ import annotations

from stepwire.errors import FilterInvalid, Violation
from stepwire.v1 import EventBatch, EventFilter, ExecutionFilter, ExecutionState
from stepwire_server.engine.acceptance import MAX_LABELS
from stepwire_server.engine.graph import ID
from stepwire_server.engine.states import KINDS
from stepwire_server.journal import TERMINAL_KINDS, Chunk

__all__ = ["TIMES", "EventSieve", "check_execution_filter"]

_MAX_ITEMS = 1_000

TIMES = (-62_135_596_800, 253_402_300_799)
"""First and last second of a Timestamp, as its specification bounds it."""


class EventSieve:
    """An EventFilter, made ready. Terminal events always pass."""

    __slots__ = ("_kinds", "_step_ids", "passes_all")

    def __init__(self, chosen: EventFilter) -> None:
        found = _too_many("kinds", len(chosen.kinds)) + _too_many("step_ids", len(chosen.step_ids))
        if found:
            raise _invalid(found)
        found = [
            Violation(f"filter.kinds[{i}]", f"there is no event type {kind[:80]!r}; there are: {', '.join(KINDS)}")
            for i, kind in enumerate(chosen.kinds)
            if kind not in KINDS
        ]
        found += [
            Violation(f"filter.step_ids[{i}]", f"{name[:80]!r} does not match [A-Za-z0-9_-]{{1,64}}")
            for i, name in enumerate(chosen.step_ids)
            if not ID.fullmatch(name)
        ]
        if found:
            raise _invalid(found)
        # Most filters are empty, and an empty set is as large as a small one.
        self._kinds = frozenset(KINDS[kind] for kind in chosen.kinds) or None
        self._step_ids = frozenset(chosen.step_ids) or None
        self.passes_all = not self._kinds and not self._step_ids

    def sift(self, chunk: Chunk) -> bytes:
        """Returns the frames that pass, joined. Only a filter by steps looks into them."""
        if self.passes_all:
            return chunk.data
        return b"".join(chunk.frame(i) for i, kind in enumerate(chunk.kinds) if self._passes(chunk, i, kind))

    def _passes(self, chunk: Chunk, index: int, kind: int) -> bool:
        if kind in TERMINAL_KINDS:
            return True
        if self._kinds and kind not in self._kinds:
            return False
        if not self._step_ids:
            return True
        return EventBatch.FromString(chunk.frame(index)).events[0].step_id in self._step_ids


def check_execution_filter(chosen: ExecutionFilter, *, field: str = "filter", followed: bool = False) -> None:
    """Raises FilterInvalid with everything that is wrong with a filter of executions. `followed`: of such as are to be
    followed, so not by what changes meanwhile.
    """
    found: list[Violation] = []
    for name, most in (("execution_ids", _MAX_ITEMS), ("labels", MAX_LABELS), ("states", _MAX_ITEMS)):
        found += _too_many(name, len(getattr(chosen, name)), most, field=field)
    if followed and chosen.states:
        text = "an execution's state changes while it is followed; select events by their kinds"
        found.append(Violation(f"{field}.states", text))
    if found:
        raise _invalid(found)
    found += [
        Violation(f"{field}.execution_ids[{i}]", f"{name[:80]!r} does not match [A-Za-z0-9_-]{{1,64}}")
        for i, name in enumerate(chosen.execution_ids)
        if not ID.fullmatch(name)
    ]
    if chosen.session_id and not ID.fullmatch(chosen.session_id):
        found.append(
            Violation(f"{field}.session_id", f"{chosen.session_id[:80]!r} does not match [A-Za-z0-9_-]{{1,64}}")
        )
    found += [
        Violation(f"{field}.labels", f"the key {key[:80]!r} does not match [A-Za-z0-9_-]{{1,64}}")
        for key in chosen.labels
        if not ID.fullmatch(key)
    ]
    found += [
        Violation(f"{field}.states[{i}]", f"{state} is not a state of an execution")
        for i, state in enumerate(chosen.states)
        if state not in ExecutionState.values() or state == ExecutionState.EXECUTION_STATE_UNSPECIFIED
    ]
    found += [
        Violation(f"{field}.{name}", "is not a time of the years 1 to 9999")
        for name in ("created_from", "created_before")
        if not TIMES[0] <= getattr(chosen, name).seconds <= TIMES[1]
    ]
    if found:
        raise _invalid(found)


def _too_many(name: str, count: int, most: int = _MAX_ITEMS, *, field: str = "filter") -> list[Violation]:
    """Stands before all other checks: a request of 4 MiB has room for millions of entries that are each wrong."""
    if count <= most:
        return []
    return [Violation(f"{field}.{name}", f"has {count:,} entries; at most {most:,} are allowed")]


def _invalid(found: list[Violation]) -> FilterInvalid:
    return FilterInvalid(f"the filter is invalid: {found[0].field}: {found[0].description}", violations=found)
