"""Shares the service's servers and callers, and says how long a run may take."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

_ROOT = str(Path(__file__).resolve().parents[2])
if _ROOT not in sys.path:
    sys.path.append(_ROOT)

from tests.server.api.conftest import call_with, caller, gate, serve, server  # noqa: E402

__all__ = ["call_with", "caller", "gate", "serve", "server"]


@pytest.fixture(scope="session")
def long() -> bool:
    """Whether to go on for as long as `make faults` does, and not only for as long as `make test` may."""
    return bool(os.environ.get("FAULTS_LONG"))
