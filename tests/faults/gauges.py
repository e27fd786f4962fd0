"""What a process holds, seen from outside: memory, descriptors, threads; and how a figure grows with another.

gauge = Gauge(server.process.pid)
before = gauge.sample()
with gauge.peak(every=0.1) as peak:
    ...
print(mebibytes(peak.resident - before.resident))
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Gauge", "Held", "file_size", "markdown", "mebibytes", "percentile", "slope"]

_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(kw_only=True)
class Held:
    """What a process holds."""

    resident: int = 0
    """Bytes of memory, RSS."""
    descriptors: int = 0
    threads: int = 0


class Gauge:
    """Looks at one process."""

    def __init__(self, pid: int) -> None:
        self._place = Path("/proc") / str(pid)

    def sample(self) -> Held:
        """Returns what it holds now."""
        return Held(
            resident=int((self._place / "statm").read_text("ascii").split()[1]) * _PAGE,
            descriptors=len(os.listdir(self._place / "fd")),
            threads=len(os.listdir(self._place / "task")),
        )

    @contextmanager
    def peak(self, *, every: float) -> Iterator[Held]:
        """Gives the most that it holds, of each, while this lasts."""
        most = self.sample()
        over = threading.Event()

        def look() -> None:
            while not over.wait(every):
                now = self.sample()
                most.resident = max(most.resident, now.resident)
                most.descriptors = max(most.descriptors, now.descriptors)
                most.threads = max(most.threads, now.threads)

        thread = threading.Thread(target=look, name="gauge", daemon=True)
        thread.start()
        try:
            yield most
        finally:
            over.set()
            thread.join()


def file_size(journal: Path) -> int:
    """Returns the bytes of a journal's file with all that lies beside it."""
    return sum(path.stat().st_size for path in journal.parent.glob(f"{journal.name}*"))


def mebibytes(count: float) -> str:
    """Returns a number of bytes in MiB."""
    return f"{count / (1 << 20):.1f}"


def percentile(values: Sequence[float], share: float) -> float:
    """Returns the value below which this share of them lies; 0 where there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


def slope(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Returns by how much y grows with x, on the line that fits best, and the standard error of that: how far chance
    alone moves it. Both are 0 where x has fewer than two places, and the error is infinite for two points.
    """
    count = len(points)
    mean_x = sum(x for x, _ in points) / max(1, count)
    mean_y = sum(y for _, y in points) / max(1, count)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    if not spread:
        return 0.0, 0.0
    found = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread
    if count == 2:
        return found, math.inf
    rest = sum((y - mean_y - found * (x - mean_x)) ** 2 for x, y in points)
    return found, math.sqrt(rest / (count - 2) / spread)


def markdown(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Returns a table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
