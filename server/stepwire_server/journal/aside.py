"""What a pass of purging or compacting leaves as it is, since a page of the file is damaged that it would need.

A bite that meets such a page is rolled back, all of it. So the pass remembers what it was at, lays that aside, and the
next bite goes on with the others. The next pass tries again: the file may have been mended.
"""

from __future__ import annotations

__all__ = ["Aside"]

_MOST = 1_000
"""What one pass lays aside. Where more is damaged, it is the file that is, and each one costs a bite."""

_MOST_SAID = 20
"""Numbers that a message has."""


class Aside:
    """The numbers that one pass does not touch any more. Used by a bite, and by whoever has bites done, in turn."""

    def __init__(self) -> None:
        self.numbers: set[int] = set()
        """Ordinals of executions, and 0 for what belongs to none."""
        self._at: int | None = None

    def __str__(self) -> str:
        """Says what is laid aside, for people."""
        executions = sorted(self.numbers - {0})
        numbers = ", ".join(map(str, executions[:_MOST_SAID])) + (", ..." if len(executions) > _MOST_SAID else "")
        words = [f"{len(executions):,} executions (numbers {numbers})"] if executions else []
        return " and ".join(words + ["old tombstones"] * (0 in self.numbers))

    def at(self, number: int | None) -> None:
        """Says what is worked on from now on; None: what can't be done without."""
        self._at = number

    def lay(self) -> bool:
        """Lays aside what was worked on. Returns whether there is any sense in going on."""
        if self._at is None or self._at in self.numbers or len(self.numbers) >= _MOST:
            return False
        self.numbers.add(self._at)
        return True

    def first(self, found: list[tuple[int]]) -> int | None:
        """Returns the first ordinal that is not laid aside. To be asked for: one more than `numbers` has."""
        return next((ordinal for (ordinal,) in found if ordinal not in self.numbers), None)
