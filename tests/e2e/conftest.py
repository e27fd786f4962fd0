"""Servers and gates for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .serving import Gate, ServerProcess


@pytest.fixture(scope="session")
def assistant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """The assistant, as it is served by default. One for all tests: they only add executions to it."""
    with ServerProcess(tmp_path_factory.mktemp("assistant")) as server:
        yield server


@pytest.fixture
def sample(tmp_path: Path) -> Iterator[ServerProcess]:
    """The sample app, for this test alone."""
    with ServerProcess(tmp_path, app="sample:app") as server:
        yield server


@pytest.fixture
def gate() -> Iterator[Gate]:
    """Holds the sample app's operations back until the test lets them go on."""
    with Gate() as made:
        yield made
