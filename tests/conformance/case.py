"""A case: what a client is asked for, what the server does to it, and what must come of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .script import EXECUTION, Call

__all__ = ["Case", "cancel", "execute", "get", "watch"]

_PATIENCE = {
    "initial_delay": 0.01,
    "max_delay": 0.05,
    "start_failures": 8,
    "resume_failures": 8,
    "start_seconds": 10,
    "resume_seconds": 10,
}
"""Short, so that cases are quick."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One rule that a client keeps, and how it is tried."""

    name: str
    rule: str
    """The rule, in one sentence."""
    command: Mapping[str, Any]
    """What the adapter reads, but for the target."""
    calls: Sequence[Call] = ()
    """The calls that must come, with what the server says in each."""

    sees: Sequence[int] = ()
    """The sequences of the events that the user must get. What they are is in the script."""
    outcome: str = ""
    """How it must end, unless with an error."""
    error: Mapping[str, Any] = field(default_factory=dict)
    """The error that it must end with. Fields that are not here may be anything."""
    cursor: int | None = None
    """Where the cursor must stand at the end. Default: at the last event."""
    execution: Mapping[str, Any] | None = None
    """The snapshot that a unary call must bring."""
    decoded: Mapping[str, Any] | None = None
    """What a `decode` must bring."""
    seconds: float = 20.0
    """After so long it has failed."""


def execute(*, patience: Mapping[str, float] | None = None, **fields: Any) -> dict[str, Any]:
    """The command to start an execution and follow it: of a query, unless a plan is given."""
    work = {} if "plan" in fields else {"query": "Build a house"}
    return {"do": "execute", "patience": {**_PATIENCE, **(patience or {})}, **work, **fields}


def watch(after: int = 0, *, patience: Mapping[str, float] | None = None, **fields: Any) -> dict[str, Any]:
    """The command to follow an execution from a cursor."""
    return {
        "do": "watch",
        "execution_id": EXECUTION,
        "after_sequence": after,
        "patience": {**_PATIENCE, **(patience or {})},
        **fields,
    }


def get(**fields: Any) -> dict[str, Any]:
    """The command to get a snapshot."""
    return {"do": "get", "execution_id": EXECUTION, **fields}


def cancel(reason: str = "", **fields: Any) -> dict[str, Any]:
    """The command to cancel an execution."""
    return {"do": "cancel", "execution_id": EXECUTION, "reason": reason, **fields}
