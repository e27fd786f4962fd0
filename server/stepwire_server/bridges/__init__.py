"""Brings what people have already: LangGraph's graphs, and code that reports to callbacks, become operations.

from stepwire_server.bridges import langgraph_operation, planning_operation, reporting_operation, streaming_operation
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stepwire_server.bridges.callbacks import planning_operation, reporting_operation, streaming_operation
    from stepwire_server.bridges.langgraph import langgraph_operation

__all__ = ["langgraph_operation", "planning_operation", "reporting_operation", "streaming_operation"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    home = "langgraph" if name == "langgraph_operation" else "callbacks"
    return getattr(import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
