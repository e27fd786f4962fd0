"""The client of Stepwire, which runs plans of many steps and streams every step's progress.

    from stepwire import Client

    with Client("localhost:50051") as client:
        run = client.execute("Bauantrag für Einfamilienhaus in Stuttgart")
        for event in run:
            print(f"{event.progress.percentage:5.1f} %  {event.message}")
        print(run.result())

`stepwire.aio.Client` is the same in async, `stepwire.errors` has all that can be raised, `stepwire.v1` has the
contract's messages. Names are loaded when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stepwire.artifacts import Artifacts, Made
    from stepwire.client import Client, Run, Watch
    from stepwire.errors import ExecutionCancelled, ExecutionFailed, StepwireError, StreamBroken
    from stepwire.events import event_type, is_completed, is_error, is_terminal, output_of, to_dict, to_json
    from stepwire.patience import Patience
    from stepwire.progress import ProgressCallback, ProgressTracker
    from stepwire.totals import Totals

    __version__: str

__all__ = [
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

_MODULES = {
    "Artifacts": "artifacts",
    "Client": "client",
    "ExecutionCancelled": "errors",
    "ExecutionFailed": "errors",
    "Made": "artifacts",
    "Patience": "patience",
    "ProgressCallback": "progress",
    "ProgressTracker": "progress",
    "Run": "client",
    "StepwireError": "errors",
    "StreamBroken": "errors",
    "Totals": "totals",
    "Watch": "client",
    "event_type": "events",
    "is_completed": "events",
    "is_error": "events",
    "is_terminal": "events",
    "output_of": "events",
    "to_dict": "events",
    "to_json": "events",
}


def __getattr__(name: str) -> Any:
    import importlib

    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("stepwire")
    elif name in _MODULES:
        value = getattr(importlib.import_module(f"stepwire.{_MODULES[name]}"), name)
    elif name in ("aio", "errors"):
        return importlib.import_module(f"stepwire.{name}")
    else:
        raise AttributeError(f"module 'stepwire' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
