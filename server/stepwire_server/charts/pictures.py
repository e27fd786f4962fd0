"""Pictures of charts, drawn here: without a browser, and without asking anybody."""

from __future__ import annotations

__all__ = ["Picture", "pictures"]

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_LIMIT = 512 * 1024
"""Bytes that an artifact may have."""
_SCALES = (2.0, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One picture; without data where it would be too large for an artifact."""

    name: str
    media_type: str
    data: bytes
    size: int


def pictures(specification: Mapping[str, Any], forms: Sequence[str]) -> Iterator[Picture]:
    """Draws a specification as "svg" and as "png". Blocks for some tenths of a second, and longer the first time."""
    import vl_convert

    # The newest that vl-convert has of the version which the specification is written in.
    version = [name for name in vl_convert.get_vegalite_versions() if name.startswith("5.")][-1]
    nothing: dict[str, Any] = {"vl_version": version, "allowed_base_urls": []}
    if "svg" in forms:
        text = vl_convert.vegalite_to_svg(dict(specification), **nothing).encode()
        yield Picture(name="chart.svg", media_type="image/svg+xml", data=_small(text), size=len(text))
    if "png" in forms:
        for scale in _SCALES:
            data = vl_convert.vegalite_to_png(dict(specification), scale=scale, **nothing)
            if len(data) <= _LIMIT:
                break
        yield Picture(name="chart.png", media_type="image/png", data=_small(data), size=len(data))


def _small(data: bytes) -> bytes:
    return data if len(data) <= _LIMIT else b""
