"""What an endpoint does not take, and how it is asked instead: they all speak the same protocol, and not all of it."""

from __future__ import annotations

from typing import Any

from stepwire_server.models.errors import Trouble

__all__ = ["Dialect"]

_REFUSALS = frozenset({400, 404, 415, 422, 501})


class Dialect:
    """How one endpoint is asked. It learns from what is refused, as long as the endpoint names it."""

    __slots__ = ("_left_out", "_limit")

    def __init__(self) -> None:
        self._limit = "max_tokens"
        self._left_out: set[str] = set()

    def spoken(self, request: dict[str, Any]) -> dict[str, Any]:
        """Returns a request in this dialect. `max_tokens` stands for the limit, whatever its name is."""
        said = {name: value for name, value in request.items() if name not in self._left_out}
        if "max_tokens" in said:
            said[self._limit] = said.pop("max_tokens")
        return said

    def learn(self, trouble: Trouble, request: dict[str, Any]) -> str:
        """Returns what will be different about this request the next time; empty where nothing can be."""
        if trouble.status not in _REFUSALS:
            return ""
        named = f"{trouble.parameter} {trouble.text}"
        if "max_tokens" in request and self._limit == "max_tokens" and "max_completion_tokens" in named:
            self._limit = "max_completion_tokens"
            return "the endpoint calls the limit max_completion_tokens"
        # The schema stands in words, too; usage is told where it can be had.
        for name, words in (("response_format", "json_schema"), ("stream_options", "include_usage")):
            if name in request and name not in self._left_out and (name in named or words in named):
                self._left_out.add(name)
                return f"the endpoint takes no {name}"
        return ""
