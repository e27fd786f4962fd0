"""Clients that are wrong on purpose, one for each case: a case that catches nobody proves nothing."""

from __future__ import annotations

from . import answers, ends, giving_up, messages, resuming  # noqa: F401 - they fill FAULTS
from .fault import FAULTS, Fault

__all__ = ["FAULTS", "Fault"]
