"""The events of what people ask of an execution: its end, a pause, the end of a pause."""

from __future__ import annotations

from stepwire.v1 import Event

__all__ = ["cancelling", "paused", "resumed"]


def cancelling(*, actor: str, reason: str) -> Event:
    """Returns the event that says that the end was asked for."""
    event = Event(message=_with("Cancelling", reason))
    event.plan_cancelling.actor = actor
    event.plan_cancelling.reason = reason
    return event


def paused(*, actor: str, reason: str) -> Event:
    """Returns the event that says that no other step is to start."""
    event = Event(message=_with("Paused", reason))
    event.plan_paused.actor = actor
    event.plan_paused.reason = reason
    return event


def resumed(*, actor: str, reason: str) -> Event:
    """Returns the event that says that steps may start again."""
    event = Event(message=_with("Resumed", reason))
    event.plan_resumed.actor = actor
    event.plan_resumed.reason = reason
    return event


def _with(word: str, reason: str) -> str:
    return f"{word}: {reason}" if reason else word
