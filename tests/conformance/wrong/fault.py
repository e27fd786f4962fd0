"""How a fault is written: as a small change of Python's client, which is right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["FAULTS", "Fault", "caught_by", "instead_of"]

Fault = Callable[[], None]
"""Makes the client in this process wrong. Its docstring says what it does then."""

FAULTS: dict[str, Fault] = {}
"""The fault that each case must catch, by the case's name."""


def caught_by(case: str) -> Callable[[Fault], Fault]:
    """Says of a fault which case catches it."""

    def note(fault: Fault) -> Fault:
        assert case not in FAULTS, f"{case} has a fault already"
        FAULTS[case] = fault
        return fault

    return note


def instead_of(owner: Any, name: str) -> Callable[[Callable[..., Any]], None]:
    """Puts a function in the place of another one, which it gets as its first argument."""
    right = getattr(owner, name)

    def put(wrong: Callable[..., Any]) -> None:
        setattr(owner, name, lambda *arguments, **keywords: wrong(right, *arguments, **keywords))

    return put
