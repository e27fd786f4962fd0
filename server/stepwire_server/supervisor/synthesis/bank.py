"""The terms that there are, by size. Of those that give the same for every example, only the first is kept."""

from __future__ import annotations

import itertools
import marshal
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from stepwire_server.supervisor.synthesis.language import Operation

__all__ = ["FAILED", "Bank", "Loop", "Term"]

FAILED = ...
"""Stands where a term raises. Such a term may be right on the other examples."""

_MAX_BYTES = 400
"""Of one row's value, on the average."""


class Loop:
    """What a term is made of that goes over items: `[body for names in source if condition]`."""

    __slots__ = ("body", "condition", "names", "sources")

    def __init__(
        self, names: tuple[str, ...], sources: tuple[Term, ...], body: Term | None, condition: Term | None
    ) -> None:
        self.names = names
        self.sources = sources
        """One, or two that are gone over in step."""
        self.body = body
        """None where it is the item itself."""
        self.condition = condition


class Term:
    """A piece of a program, with what it gives for each example."""

    __slots__ = ("kind", "made", "operands", "partial", "size", "uses", "vector")

    def __init__(
        self,
        kind: str,
        size: int,
        vector: list[Any],
        made: Operation | Loop | str,
        operands: tuple[Term, ...] = (),
        *,
        partial: bool = False,
        uses: int = 0,
    ) -> None:
        self.kind = kind
        self.size = size
        self.vector = vector
        self.made = made
        """The operation or loop that makes it; what is written for a name or a constant."""
        self.operands = operands
        self.partial = partial
        """Whether it fails on some examples."""
        self.uses = uses
        """Bits: 1 that it looks at an argument, 2 that it looks at the item of a loop."""


class Bank:
    """All terms over some rows, from some leaves. `grow` makes those of the next size."""

    def __init__(
        self,
        operations: Sequence[Operation],
        leaves: Iterable[Term],
        *,
        room: int,
        expired: Callable[[], bool] = lambda: False,
    ) -> None:
        self._operations = [(operation, operation.vectored()) for operation in operations]
        self._by_kind: dict[str, list[list[Term]]] = {}
        self._seen: dict[str, dict[bytes, Term]] = {}
        self._leaves: dict[int, list[Term]] = {}
        self._expired = expired
        self._room = room
        self.size = 0
        """The size up to which it is complete."""
        self.count = 0
        """Terms that are kept."""
        self.tried = 0
        """Terms that were made."""
        for leaf in leaves:
            self._leaves.setdefault(leaf.size, []).append(leaf)

    @property
    def is_full(self) -> bool:
        """Whether no more terms are kept, or there is no more time."""
        return self.count >= self._room or self._expired()

    def of(self, kind: str, size: int) -> list[Term]:
        """Returns the terms of a type and a size."""
        sizes = self._by_kind.get(kind)
        return sizes[size] if sizes is not None and 0 < size < len(sizes) else []

    def up_to(self, kind: str, size: int) -> Iterator[Term]:
        """Gives the terms of a type up to a size, the small ones first."""
        for number in range(1, size + 1):
            yield from self.of(kind, number)

    def kinds(self) -> list[str]:
        """Returns the types that there are terms of."""
        return list(self._by_kind)

    def find(self, kind: str, vector: list[Any]) -> Term | None:
        """Returns the term that gives just this."""
        try:
            return self._seen.get(kind, {}).get(marshal.dumps(vector, 2))
        except ValueError:
            return None

    def grow(self) -> Iterator[Term]:
        """Makes the terms of the next size, and gives each that is new."""
        self.size += 1
        for leaf in self._leaves.get(self.size, ()):
            if self.keep(leaf):
                yield leaf
        for operation, function in self._operations:
            for operands in self._operands(operation, self.size - operation.cost):
                self.tried += 1
                if not self.tried & 1023 and self.is_full:
                    return
                term = self._made(operation, function, operands)
                if term is not None and self.keep(term):
                    yield term

    def glance(self, kind: str, target: list[Any]) -> Term | None:
        """Returns a term of the next size that gives the target: most are seen to be wrong by their first row alone,
        and none is kept. So one size more is looked at than there is room for.
        """
        first = target[:1]
        size = self.size + 1
        looked = 0
        for operation, function in self._operations:
            if operation.gives != kind:
                continue
            for operands in self._operands(operation, size - operation.cost):
                looked += 1
                if not looked & 1023 and self._expired():
                    return None
                try:
                    if function(*[operand.vector[:1] for operand in operands]) != first:
                        continue
                    vector = function(*[operand.vector for operand in operands])
                except Exception:
                    continue
                uses = any(operand.uses for operand in operands)
                if vector == target and uses and not any(operand.partial for operand in operands):
                    return Term(kind, size, vector, operation, operands, uses=1)
        return None

    def keep(self, term: Term) -> bool:
        """Keeps a term that gives what none of its type does yet. Returns whether it is kept."""
        try:
            key = marshal.dumps(term.vector, 2)
        except ValueError:
            return False
        seen = self._seen.setdefault(term.kind, {})
        if key in seen or len(key) > _MAX_BYTES * (len(term.vector) + 1):
            return False
        seen[key] = term
        sizes = self._by_kind.setdefault(term.kind, [[]])
        while len(sizes) <= term.size:
            sizes.append([])
        sizes[term.size].append(term)
        self.count += 1
        return True

    def _operands(self, operation: Operation, size: int) -> Iterator[tuple[Term, ...]]:
        """Gives all operands whose sizes come to this one together."""
        takes = operation.takes
        if len(takes) == 1:
            for term in self.of(takes[0], size):
                yield (term,)
        elif len(takes) == 2:
            for first in range(1, size):
                if operation.commutes and first > size - first:
                    return
                yield from itertools.product(self.of(takes[0], first), self.of(takes[1], size - first))
        else:
            for first in range(1, size - 1):
                for second in range(1, size - first):
                    three = (
                        self.of(takes[0], first),
                        self.of(takes[1], second),
                        self.of(takes[2], size - first - second),
                    )
                    yield from itertools.product(*three)

    def _made(
        self, operation: Operation, function: Callable[..., list[Any]], operands: tuple[Term, ...]
    ) -> Term | None:
        uses = partial = 0
        for operand in operands:
            uses |= operand.uses
            partial |= operand.partial
        if not uses:
            return None  # Of constants alone: a constant, and no better one.
        vectors = [operand.vector for operand in operands]
        if not partial:
            try:
                vector = function(*vectors)
                size = self.size
                return Term(operation.gives, size, vector, operation, operands, uses=uses)
            except Exception:  # Some row raises; which one is found below.
                pass
        vector = []
        failures = 0
        for row in zip(*vectors, strict=True):
            value: Any = FAILED
            if FAILED not in row:
                try:
                    (value,) = function(*([item] for item in row))
                except Exception:
                    value = FAILED
            failures += value is FAILED
            vector.append(value)
        # One that fails on most examples can hardly be told from one that fails on all.
        if 2 * failures > len(vector) or any(isinstance(value, complex) for value in vector):
            return None
        return Term(operation.gives, self.size, vector, operation, operands, partial=failures > 0, uses=uses)
