"""What the agents work with: the model, a folder of documents, and limits."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping
from pathlib import Path

from stepwire_server.models import MODEL_SETTINGS, Model, model_from

__all__ = ["SETTINGS", "Desk"]

_TURNS = 12
_SEARCH = 20.0

SETTINGS: Mapping[str, str] = {
    **MODEL_SETTINGS,
    "documents": "A folder of Markdown, text or Python files that the research agent reads; else it reads none.",
    "max-turns": f"How many agents have a turn, at most ({_TURNS}).",
    "search-seconds": f"How long a program, or an edit, is searched for where no model writes it ({_SEARCH:g}).",
}
"""The app's settings."""


class Desk:
    """Set once, when the app starts."""

    def __init__(self) -> None:
        self.model: Model | None = None
        """The model; None where none is configured."""
        self.documents: Path | None = None
        """Where research reads."""
        self.max_turns = _TURNS
        """Turns of agents."""
        self.search_seconds = _SEARCH
        """For one search."""

    def open(self, settings: Mapping[str, str]) -> None:
        """Takes the settings. Raises ValueError for what can't be used."""
        if importlib.util.find_spec("resource") is None:
            raise ValueError("the supervisor runs tests under limits that only Linux, macOS and their like have")
        self.model = model_from(settings)
        folder = settings.get("documents", "")
        self.documents = Path(folder).expanduser() if folder else None
        if self.documents is not None and not self.documents.is_dir():
            raise ValueError(f"documents: {folder} is no folder")
        self.max_turns = int(_number(settings, "max-turns", _TURNS, 100, whole=True))
        self.search_seconds = _number(settings, "search-seconds", _SEARCH, 600)


def _number(settings: Mapping[str, str], name: str, default: float, most: float, *, whole: bool = False) -> float:
    text = settings.get(name, "")
    try:
        value = (int(text) if whole else float(text)) if text else default
    except ValueError:
        value = math.nan
    if not 0 < value <= most:
        raise ValueError(f"{name} is {text!r}; it must be a number above 0 and at most {most:g}")
    return value
