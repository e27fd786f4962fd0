"""Programs that decide: terms that are right on some examples each, and tests of the arguments that tell which."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from stepwire_server.supervisor.synthesis.bank import FAILED, Term

__all__ = ["Branch", "Branches"]

_TERMS = 200
_TESTS = 400
_TEST_SIZE = 7
_MAX_LEAVES = 4
_LOOKS = 150_000
"""So many splits of the examples are looked at after a level."""


@dataclass(frozen=True, slots=True)
class Branch:
    """`then if test else otherwise`."""

    test: Term
    then: Branch | Term
    otherwise: Branch | Term

    @property
    def size(self) -> int:
        """The sizes of all that is in it, and one for each decision."""
        return 1 + self.test.size + self.then.size + self.otherwise.size

    @property
    def leaves(self) -> int:
        """How many ways there are."""
        return sum(part.leaves if isinstance(part, Branch) else 1 for part in (self.then, self.otherwise))


class Branches:
    """Collects terms and tests, and puts decisions together.

    A program with many ways to go is no function but a list of answers: one with n ways needs at least 2n examples.
    """

    def __init__(self, target: list[Any], expired: Callable[[], bool]) -> None:
        self._target = target
        self._all = (1 << len(target)) - 1
        self._terms: dict[int, Term] = {}
        self._tests: dict[int, Term] = {}
        self._max_leaves = min(_MAX_LEAVES, len(target) // 2)
        self._expired = expired
        self._changed = True
        self._known: dict[int, Term | None] = {}
        self._looks = 0

    def add(self, term: Term) -> None:
        """Takes a term of the target's type, where it is right on an example on which no smaller one is alone."""
        covered = 0
        for place, (got, wanted) in enumerate(zip(term.vector, self._target, strict=True)):
            if got is not FAILED and got == wanted:
                covered |= 1 << place
        if covered and covered not in self._terms and len(self._terms) < _TERMS:
            if any(covered & ~other == 0 and smaller.size <= term.size for other, smaller in self._terms.items()):
                return
            self._terms[covered] = term
            self._changed = True

    def add_test(self, term: Term) -> None:
        """Takes a term that is true for some examples, and not for all."""
        if term.partial or not term.uses or term.size > _TEST_SIZE or len(self._tests) >= _TESTS:
            return
        holds = sum(1 << place for place, value in enumerate(term.vector) if value)
        if 0 < holds < self._all and holds not in self._tests and self._all & ~holds not in self._tests:
            self._tests[holds] = term
            self._changed = True

    def best(self) -> Branch | None:
        """Returns the smallest decision that is right on all examples, of those with the fewest ways."""
        if not self._changed:
            return None
        self._changed = False
        self._known.clear()
        self._looks = 0
        for leaves in range(2, self._max_leaves + 1):
            found = [tree for tree in self._trees(self._all, leaves) if isinstance(tree, Branch)]
            if found:
                return min(found, key=lambda tree: tree.size)
        return None

    def _trees(self, wanted: int, leaves: int) -> Iterator[Branch | Term]:
        """Gives what is right on these examples, with so many ways at most; for two ways and more the first found for
        each test.
        """
        leaf = self._leaf(wanted)
        if leaf is not None:
            yield leaf
            return
        if leaves < 2 or self._expired():
            return
        for holds, test in self._tests.items():
            self._looks += 1
            if self._looks > _LOOKS:
                return
            yes, no = wanted & holds, wanted & ~holds
            if not yes or not no:
                continue
            # Mostly one of both sides is a term: a chain of `elif`s.
            then: Branch | Term | None = self._leaf(yes)
            otherwise: Branch | Term | None = self._leaf(no)
            if then is not None and otherwise is None and leaves > 2:
                otherwise = self._smallest(no, leaves - 1)
            elif otherwise is not None and then is None and leaves > 2:
                then = self._smallest(yes, leaves - 1)
            elif then is None and otherwise is None and leaves > 3:
                then = self._smallest(yes, 2)
                otherwise = None if then is None else self._smallest(no, 2)
            if then is not None and otherwise is not None:
                yield Branch(test, then, otherwise)

    def _smallest(self, wanted: int, leaves: int) -> Branch | Term | None:
        return min(self._trees(wanted, leaves), key=lambda tree: tree.size, default=None)

    def _leaf(self, wanted: int) -> Term | None:
        if wanted in self._known:
            return self._known[wanted]
        found: Term | None = None
        for covered, term in self._terms.items():
            if wanted & ~covered == 0 and (found is None or term.size < found.size):
                found = term
        self._known[wanted] = found
        return found
