"""Secrets of commands and MCP servers: where they come from, and how they are kept out of what is shown."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

if TYPE_CHECKING:
    from stepwire_server.tools.mcp_servers import ServerSettings

__all__ = ["HIDDEN", "Secrecy", "Secrets"]

HIDDEN = "[hidden]"
"""What stands in place of a secret."""

_SHORTEST = 6
"""Characters of a secret. What is shorter would be found where it is not meant."""


class Secrets:
    """Values that are not to be shown. Those that are shorter than six characters are no secrets."""

    def __init__(self, values: Iterable[str]) -> None:
        secrets = sorted({value for value in values if len(value) >= _SHORTEST}, key=len, reverse=True)
        self._secrets = re.compile("|".join(map(re.escape, secrets))) if secrets else None

    def hide(self, text: str) -> str:
        """Returns a text without the secrets."""
        return text if self._secrets is None else self._secrets.sub(HIDDEN, text)

    def hide_all(self, value: Any) -> Any:
        """Returns a JSON-like value without the secrets, in its keys too."""
        match value:
            case str():
                return self.hide(value)
            case Mapping():
                return {self.hide(str(key)): self.hide_all(item) for key, item in value.items()}
            case list() | tuple():
                return [self.hide_all(item) for item in value]
            case _:
                return value


class Secrecy(Secrets):
    """The secrets of one server: the values of its environment and its headers, and what its address has of them.

    Raises ValueError for a variable that is not set.
    """

    def __init__(self, settings: ServerSettings) -> None:
        self.environment = {name: _variable(name) for name in settings.env_from} | settings.env
        """What its process has in its environment beside the ordinary."""
        self.headers = {name: _variable(source) for name, source in settings.headers_from.items()}
        """What each request to it has."""
        super().__init__([*self.environment.values(), *_words(self.headers.values()), *_of_address(settings.url)])


def _variable(name: str) -> str:
    if name not in os.environ:
        raise ValueError(f"{name} is not set in the server's environment")
    return os.environ[name]


def _words(values: Iterable[str]) -> list[str]:
    """Returns headers' values, and the credentials in them without their scheme."""
    return [part for value in values for part in (value, value.partition(" ")[2])]


def _of_address(url: str) -> list[str]:
    parts = urlsplit(url)
    userinfo = parts.netloc.rpartition("@")[0]
    return [userinfo, *([parts.password] if parts.password else []), *_of_query(parts.query)]


def _of_query(query: str) -> list[str]:
    """Returns the values of a query, as they are and as they are written."""
    written = [part.partition("=")[2] for part in query.split("&")]
    return [value for value in (*(value for _, value in parse_qsl(query)), *written) if value]
