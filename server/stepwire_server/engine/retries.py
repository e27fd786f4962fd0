"""Whether a failed attempt is followed by another one, and after how long."""

from __future__ import annotations

from stepwire.v1 import Retry

__all__ = ["delay_before", "is_worth_another"]


def is_worth_another(retry: Retry, kind: type[BaseException] | None) -> bool:
    """Returns whether an exception of this class is one to try again after. None: it was none of the operation's."""
    if kind is None:
        return False
    return not retry.errors or any(base.__name__ in retry.errors for base in kind.__mro__)


def delay_before(retry: Retry, tried: int, chance: float) -> float:
    """Returns the seconds to wait after so many attempts, from 1. `chance`: 0 to 1, how much of the jitter counts."""
    first = retry.initial_delay.ToNanoseconds() / 1e9 if retry.HasField("initial_delay") else 1.0
    longest = retry.max_delay.ToNanoseconds() / 1e9 if retry.HasField("max_delay") else 60.0
    try:
        grown = min(first * (retry.multiplier or 2.0) ** (tried - 1), longest)
    except OverflowError:
        grown = longest if first else 0.0
    return float(grown * (1 - retry.jitter * chance))
