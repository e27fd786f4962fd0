"""What every execution of a server shares."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Settings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The bounds of executions."""

    max_parallel_steps: int = 32
    """Steps of one execution that run at once, where its options do not say less."""
    max_pending_bytes: int = 4 << 20
    """Bytes of one execution's events that wait for the journal. Beyond, operations wait."""
    cancel_grace: float = 10.0
    """Seconds that an operation has to end after it was cancelled or ran out of time. Then its task is abandoned."""
