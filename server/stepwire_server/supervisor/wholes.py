"""Gives an agent's whole output, whatever its size."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from stepwire.errors import LimitSize
from stepwire_server import StepContext

__all__ = ["give"]


async def give(step: StepContext, name: str, value: Any, *, media_type: str = "application/json") -> None:
    """Gives an artifact. One above the 512 KiB that an artifact may have goes as content, in the channel `name`, and
    the artifact says so: `channel`, `size` in bytes and `sha256` of what the channel has.
    """
    try:
        await step.artifact(name, value, media_type=media_type)
    except LimitSize:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        data = text.encode()
        await step.content(text, channel=name, media_type=media_type)
        digest = hashlib.sha256(data).hexdigest()
        await step.artifact(name, {"channel": name, "size": len(data), "sha256": digest, "media_type": media_type})
