"""Terms that go over the items of a list or the characters of a text: what is made of an item, and which are taken."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from stepwire_server.supervisor.synthesis.bank import FAILED, Bank, Loop, Term
from stepwire_server.supervisor.synthesis.language import Operation
from stepwire_server.supervisor.synthesis.values import ELEMENTS, element_of

__all__ = ["Looping"]

_MAX_ROWS = 400
_INNER_ROOM = 2_500
_INNER_SIZE = 5
_BODY_BESIDE_CONDITION = 3


class Looping:
    """All that goes over one source, or over two in step."""

    def __init__(
        self,
        sources: tuple[Term, ...],
        names: tuple[str, ...],
        *,
        operations: Sequence[Operation],
        outer: Sequence[Term],
        expired: Callable[[], bool],
    ) -> None:
        """`outer`: terms that the body may use as well. Raises ValueError for sources with too many items or none."""
        self._sources = sources
        self._names = names
        self._lengths = [min(map(len, row)) for row in zip(*(source.vector for source in sources), strict=True)]
        total = sum(self._lengths)
        if not 2 <= total <= _MAX_ROWS:
            raise ValueError("too many items, or too few")
        self.size = sum(source.size for source in sources) - 1
        """What the sources take of a term's size: little, since a loop is the likely answer where lists are given."""
        leaves = [self._item(source, name) for source, name in zip(sources, names, strict=True)]
        leaves += [self._repeated(term) for term in outer]
        of_items = [operation for operation in operations if operation.gives in ELEMENTS]
        self._bank = Bank(of_items, leaves, room=_INNER_ROOM, expired=expired)
        self._bodies: list[list[Term]] = [[]]
        self._conditions: list[list[Term]] = [[]]

    def terms(self, size: int) -> Iterator[Term]:
        """Gives the terms of a size."""
        left = size - self.size
        if not left >= 1:
            return
        self._grow(min(left, _INNER_SIZE))
        for body in self._at(self._bodies, left):
            yield self._term(size, body, None)
        if len(self._sources) > 1:
            return
        for condition in self._at(self._conditions, left):
            yield self._term(size, None, condition)
        for of_body in range(1, min(left - 1, _BODY_BESIDE_CONDITION + 1)):
            for body in self._at(self._bodies, of_body):
                for condition in self._at(self._conditions, left - 1 - of_body):
                    yield self._term(size, body, condition)

    @staticmethod
    def _at(terms: list[list[Term]], size: int) -> list[Term]:
        return terms[size] if size < len(terms) else []

    def _grow(self, size: int) -> None:
        while self._bank.size < size and not self._bank.is_full:
            new = [term for term in self._bank.grow() if term.uses & 2 and not term.partial]
            own = {*self._names}
            self._bodies.append([t for t in new if t.kind in ELEMENTS and t.made not in own])
            self._conditions.append([t for t in new if t.kind == "bool" and True in t.vector and False in t.vector])

    def _item(self, source: Term, name: str) -> Term:
        rows = [item for row, n in zip(source.vector, self._lengths, strict=True) for item in row[:n]]
        return Term(element_of(source.kind), 1, rows, name, uses=2)

    def _repeated(self, term: Term) -> Term:
        rows = [value for value, n in zip(term.vector, self._lengths, strict=True) for _ in range(n)]
        # It is written as it stands outside.
        return Term(term.kind, term.size, rows, term.made, term.operands, uses=term.uses)

    def _term(self, size: int, body: Term | None, condition: Term | None) -> Term:
        items = body.vector if body is not None else self._rows_of_source()
        taken = condition.vector if condition is not None else None
        vector: list[Any] = []
        start = 0
        for n in self._lengths:
            rows = items[start : start + n]
            if taken is not None:
                rows = [row for row, take in zip(rows, taken[start : start + n], strict=True) if take]
            vector.append(rows)
            start += n
        kind = body.kind if body is not None else element_of(self._sources[0].kind)
        made = Loop(self._names, self._sources, body, condition)
        return Term(f"list[{kind}]", size, vector, made, uses=1)

    def _rows_of_source(self) -> list[Any]:
        source = self._sources[0]
        return [item for row in source.vector if row is not FAILED for item in row]
