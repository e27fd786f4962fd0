"""How a server's operator names a model, and what it may take."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from stepwire_server.models.secrets import Secret

__all__ = ["MODEL_SETTINGS", "OPENAI", "Limits", "key_of", "limits_of", "url_of"]

_log = logging.getLogger(__name__)

OPENAI = "https://api.openai.com/v1"
"""The endpoint where no other is named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one answer may take."""

    first: float = 120.0
    """Seconds until the endpoint's first word; a local model may have to be loaded."""
    between: float = 60.0
    """Seconds between two words of it."""
    whole: float = 600.0
    """Seconds for the whole answer, with all that is tried again."""
    tries: int = 5
    """How often the endpoint is asked while it is busy, broken or out of reach."""


_DEFAULT = Limits()

MODEL_SETTINGS: Mapping[str, str] = {
    "model": "The model's name at its endpoint, such as gpt-4o-mini or llama3.2.",
    "model-url": (
        "The base URL of an OpenAI-compatible endpoint, such as http://localhost:11434/v1; "
        f"else $OPENAI_BASE_URL, else {OPENAI}."
    ),
    "model-key-file": "A file that has the endpoint's key, and nothing else; else $OPENAI_API_KEY; else none is sent.",
    "model-first-piece": f"Seconds until the endpoint's first word ({_DEFAULT.first:g}).",
    "model-next-piece": f"Seconds between two pieces of an answer ({_DEFAULT.between:g}).",
    "model-time-limit": f"Seconds for a whole answer, with what is tried again ({_DEFAULT.whole:g}).",
    "model-tries": f"How often a busy, broken or unreachable endpoint is asked ({_DEFAULT.tries}).",
}
"""Settings of an app that asks a model, each with its explanation: `App(..., settings={**MODEL_SETTINGS})`."""


def limits_of(settings: Mapping[str, str]) -> Limits:
    """Returns what was set, and the defaults. Raises ValueError for what is none."""
    return Limits(
        first=_seconds(settings, "model-first-piece", _DEFAULT.first),
        between=_seconds(settings, "model-next-piece", _DEFAULT.between),
        whole=_seconds(settings, "model-time-limit", _DEFAULT.whole),
        tries=_count(settings, "model-tries", _DEFAULT.tries),
    )


def url_of(settings: Mapping[str, str], environment: Mapping[str, str]) -> str:
    """Returns the endpoint's base URL. Raises ValueError for what is none."""
    url = settings.get("model-url") or environment.get("OPENAI_BASE_URL") or OPENAI
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ValueError("model-url is no URL of an endpoint; it looks like http://localhost:11434/v1")
    if parts.username or parts.password or parts.query or parts.fragment:
        # It stands in logs and messages.
        raise ValueError("model-url has a user, a password, a query or a fragment; a key goes into model-key-file")
    return url


def key_of(settings: Mapping[str, str], environment: Mapping[str, str], *, url: str) -> Secret:
    """Returns the endpoint's key, which may be empty. Raises ValueError where none can be had and one is needed."""
    name = settings.get("model-key-file")
    source = f"model-key-file {name}" if name else "OPENAI_API_KEY"
    try:
        key = (
            Path(name).expanduser().read_text("utf-8").strip()
            if name
            else environment.get("OPENAI_API_KEY", "").strip()
        )
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise ValueError(f"{source} can't be read: {why}") from None
    if name and not key:
        raise ValueError(f"{source} is empty")
    if not key and url == OPENAI:
        raise ValueError(
            "OpenAI's endpoint needs a key: set OPENAI_API_KEY or model-key-file; or name another endpoint: model-url"
        )
    try:
        secret = Secret(key)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None
    if secret and not _is_safe(url):
        _log.warning("the key goes to %s in clear text: its URL is not https", urlsplit(url).netloc)
    return secret


def _is_safe(url: str) -> bool:
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        return parts.scheme == "https" or ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _seconds(settings: Mapping[str, str], name: str, default: float) -> float:
    text = settings.get(name, "")
    try:
        value = float(text) if text else default
    except ValueError:
        value = math.nan
    if not 0 < value <= 86_400:
        raise ValueError(f"{name} is {text!r}; it must be seconds, above 0 and at most 86400")
    return value


def _count(settings: Mapping[str, str], name: str, default: int) -> int:
    text = settings.get(name, "")
    value = int(text) if text.isascii() and text.isdecimal() else 0 if text else default
    if not 1 <= value <= 100:
        raise ValueError(f"{name} is {text!r}; it must be 1 to 100")
    return value
