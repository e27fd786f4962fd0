"""A step that nobody listens to, where only what goes to the endpoint counts."""

from __future__ import annotations

from typing import Any

__all__ = ["Silent"]


class Silent:
    """Takes what a model says, and does nothing with it."""

    async def content(self, *_: Any, **__: Any) -> None:
        """Takes a piece."""

    async def progress(self, *_: Any, **__: Any) -> None:
        """Takes a report."""

    async def error(self, *_: Any, **__: Any) -> None:
        """Takes what went wrong."""
