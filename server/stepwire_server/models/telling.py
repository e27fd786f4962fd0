"""What the caller of a step sees of an answer while it is written."""

from __future__ import annotations

from stepwire_server import StepContext, SubstepContext

__all__ = ["MAX_BYTES", "Telling"]

MAX_BYTES = 768 * 1024
"""An answer is cut there: it must fit into the event that its step ends with."""

_EVERY = 10
"""So many pieces make a report of progress."""


class Telling:
    """Streams one answer's pieces, and says how far it is."""

    __slots__ = ("_bytes", "_channel", "_expected", "_half", "_part", "_texts", "characters", "pieces", "step")

    def __init__(
        self, step: StepContext, *, channel: str, expected_length: int | None, part: SubstepContext | None
    ) -> None:
        if expected_length is not None and expected_length < 1:
            raise ValueError(f"expected_length is {expected_length}; it must be 1 or more characters")
        self.step = step
        self._channel = channel
        self._expected = expected_length
        self._part = part
        self._texts: list[str] = []
        self._bytes = 0
        self._half = ""
        self.pieces = 0
        """Pieces so far."""
        self.characters = 0
        """Characters so far."""

    @property
    def text(self) -> str:
        """All pieces, one after the other."""
        return "".join(self._texts)

    async def piece(self, text: str) -> bool:
        """Streams a piece. Returns whether there may be more."""
        text = self._whole_characters(text)
        if not text:
            return True
        room = MAX_BYTES - self._bytes
        encoded = text.encode()
        is_full = len(encoded) >= room
        if is_full:
            text = encoded[:room].decode("utf-8", "ignore")
        self._texts.append(text)
        self._bytes += len(encoded)
        self.pieces += 1
        self.characters += len(text)
        await self.step.content(text, channel=self._channel)
        if self.pieces % _EVERY == 0:
            await self._report()
        return not is_full

    async def _report(self) -> None:
        # Without an expectation nobody knows how far it is: most answers end long before their token limit.
        percentage = None if self._expected is None else min(99.0, 100 * self.characters / self._expected)
        of = "" if self._expected is None else f" of about {self._expected:,}"
        await (self._part or self.step).progress(
            percentage,
            f"{self.pieces:,} pieces, {self.characters:,}{of} characters",
            stage="generating",
            current=self.pieces,
            unit="pieces",
        )

    def _whole_characters(self, text: str) -> str:
        """Returns a piece without halves of characters: JSON can cut one in two, whose other half comes next."""
        if text.isascii() and not self._half:
            return text
        text, self._half = self._half + text, ""
        if "\ud800" <= text[-1:] <= "\udbff":
            text, self._half = text[:-1], text[-1]
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
