"""Memory with holes: what a flood leaves, where some of what came with it stays in use."""

from __future__ import annotations

from pathlib import Path

__all__ = ["make", "resident"]

_MOST = 64 << 20
_BLOCK = 4000


def make() -> list[bytes]:
    """Fills 64 MiB with small blocks and returns every fiftieth of them; the others are free again."""
    blocks = [bytes([number % 256]) * _BLOCK for number in range(_MOST // _BLOCK)]
    return blocks[::50]


def resident() -> int:
    """Returns how many MiB of memory this process has. Raises OSError on other systems than Linux."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * 4096 >> 20
