"""What `import stepwire` gives, and what it costs."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

import stepwire
import stepwire.aio


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30).stdout


def test_names() -> None:
    """The public names are exactly these, and each of them is there."""
    assert stepwire.__all__ == [
        "Artifacts",
        "Client",
        "ExecutionCancelled",
        "ExecutionFailed",
        "Made",
        "Patience",
        "ProgressCallback",
        "ProgressTracker",
        "Run",
        "StepwireError",
        "StreamBroken",
        "Totals",
        "Watch",
        "__version__",
        "event_type",
        "is_completed",
        "is_error",
        "is_terminal",
        "output_of",
        "to_dict",
        "to_json",
    ]
    assert all(getattr(stepwire, name) for name in stepwire.__all__)
    assert dir(stepwire) == sorted(stepwire.__all__)


def test_unknown_name() -> None:
    """A name that does not exist is an AttributeError."""
    with pytest.raises(AttributeError, match="Clint"):
        _ = stepwire.Clint  # type: ignore[attr-defined]


def test_import_is_light() -> None:
    """`import stepwire` loads neither grpc nor protobuf."""
    loaded = run("import sys, stepwire; print([m for m in ('grpc', 'google.protobuf', 'asyncio') if m in sys.modules])")
    assert loaded.strip() == "[]"


def test_aio_is_reachable() -> None:
    """`stepwire.aio` and `stepwire.errors` need no import of their own."""
    assert run("import stepwire; print(stepwire.aio.Client.__name__, stepwire.errors.NotFound.__name__)").split() == [
        "Client",
        "NotFound",
    ]


@pytest.mark.parametrize(
    "module", ["resume", "events", "values", "progress", "requests", "run", "errors", "terminal.views"]
)
def test_grpc_only_in_the_transports(module: str) -> None:
    """Only the transports import grpc."""
    assert run(f"import sys, stepwire.{module}; print('grpc' in sys.modules)").strip() == "False"


def test_command_needs_its_extra() -> None:
    """Without click or rich the command says what to install."""
    code = (
        "import sys, importlib.util as u; find = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name in ('click', 'rich') else find(name, *a)\n"
        "from stepwire.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: print(end)"
    )
    assert 'pip install "stepwire[cli]"' in run(code)


@pytest.mark.parametrize("client", [stepwire.Client, stepwire.aio.Client])
@pytest.mark.parametrize("target", ["http://localhost:50051", "HTTPS://stepwire.example:443"])
def test_a_url_is_no_target(client: Any, target: str) -> None:
    """A client of a URL is refused at once, with what to say in its place."""
    with pytest.raises(ValueError, match=f"'{target}' is a URL; say HOST:PORT, and give credentials for TLS"):
        client(target)
