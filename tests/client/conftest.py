"""A scripted server for each test, and a check that no test leaves a thread behind."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from stepwire.patience import Patience

from .scripted import ScriptedServer


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    scripted = ScriptedServer()
    yield scripted
    scripted.stop()


@pytest.fixture
def hasty() -> Patience:
    """The rules of the default patience, in less time."""
    return Patience(start_failures=4, resume_failures=4, initial_delay=0.001, max_delay=0.01)


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    left = [thread for thread in threading.enumerate() if thread.name.startswith("stepwire") and thread not in before]
    assert not left, left
