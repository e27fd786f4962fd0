"""The search: level by level, from the smallest programs to larger ones, until one is right on all examples."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from stepwire_server.supervisor.synthesis.bank import Bank, Term
from stepwire_server.supervisor.synthesis.branching import Branch, Branches
from stepwire_server.supervisor.synthesis.language import Operation, operations
from stepwire_server.supervisor.synthesis.looping import Looping
from stepwire_server.supervisor.synthesis.program import function
from stepwire_server.supervisor.synthesis.values import element_of, type_of_all

__all__ = ["WIDE", "Found", "Search", "Task"]

_SOURCE_SIZE = 4
_SOURCES = 8
_OUTER = 16
"""What loops go over, and what their bodies may use of what stands outside."""

_MADE_SOURCES = frozenset(
    {"_0.split()", "_0.split(_1)", "list(range(_0))", "list(range(1, _0 + 1))", "str(_0)", "_0.lower()"}
)
"""What is gone over beside arguments themselves."""

_MAX_SIZE = 12

WIDE = frozenset({"str", "list[int]"})
"""Types that a wide search has operations of, whatever the examples have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What is searched for."""

    name: str
    parameters: tuple[str, ...]
    examples: tuple[tuple[tuple[Any, ...], Any], ...]
    """Arguments, and what is wanted for them."""
    words: str = ""
    """What people say of it: numbers and quoted texts in it may be needed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A program that is right on all examples."""

    source: str
    size: int
    leaves: int
    """How many ways it may go; 1 where it decides nothing."""


class Search:
    """Searches for one task. `expired` says whether the time is over; `room`: so many terms are kept at most."""

    def __init__(
        self,
        task: Task,
        *,
        widely: bool = False,
        room: int = 400_000,
        expired: Callable[[], bool] = lambda: False,
    ) -> None:
        """`widely`: with texts and lists also where there are numbers alone, as for the digits of one.

        Raises Unsupported for values of types that are not searched for, ValueError for examples that say nothing.
        """
        if not task.examples:
            raise ValueError("there are no examples")
        if len(task.examples) > 1 and all(wanted == task.examples[0][1] for _, wanted in task.examples):
            raise ValueError("all examples give the same; add some that give something else")
        self._task = task
        self._expired = expired
        self._target = [wanted for _, wanted in task.examples]
        self._kind = type_of_all(self._target)
        columns = [[arguments[i] for arguments, _ in task.examples] for i in range(len(task.parameters))]
        kinds = [type_of_all(column) for column in columns]
        # An empty list is a list of whatever the others are; where all are empty, of ints.
        kinds = [kind.replace("list[]", "list[int]") for kind in kinds]
        if self._kind == "list[]":
            self._kind = next((kind for kind in kinds if kind.startswith("list")), "list[int]")
        columns = [_floats(column) if kind == "float" else column for column, kind in zip(columns, kinds, strict=True)]
        leaves = [
            Term(kind, 1, column, name, uses=1)
            for kind, column, name in zip(kinds, columns, task.parameters, strict=True)
        ]
        self._kinds = frozenset({*kinds, self._kind})
        leaves += [
            Term(kind, size, [value] * len(task.examples), repr(value))
            for value, kind, size in _constants(task, self._kinds, self._target, self._kind)
        ]
        self._operations: list[Operation] = operations(self._kinds | WIDE if widely else self._kinds)
        self._bank = Bank(self._operations, leaves, room=room, expired=expired)
        self._branches = Branches(self._target, expired)
        self._loops: list[Looping] = []

    @property
    def is_wide(self) -> bool:
        """Whether the examples themselves have all types that a wide search has."""
        return self._kinds >= WIDE

    @property
    def size(self) -> int:
        """The size of program up to which all were looked at."""
        return self._bank.size

    @property
    def tried(self) -> int:
        """How many terms were made."""
        return self._bank.tried

    def levels(self) -> Iterator[Found | None]:
        """Gives after each level None, and at last the program, where one is found."""
        waiting: list[Branch | Term] = []
        while self._bank.size < _MAX_SIZE and not self._bank.is_full:
            right = self._level()
            if right is not None:
                yield self._found(right)
                return
            waiting += [found for found in (self._completed(), self._branches.best()) if found is not None]
            waiting = sorted(waiting, key=lambda found: found.size)[:1]
            # What is put together of two halves is longer than what was looked at so far: first, a little more is.
            if waiting and waiting[0].size <= _patience(waiting[0]) * (self._bank.size - 1):
                break
            yield None
        if waiting:
            yield self._found(waiting[0])

    def _level(self) -> Term | None:
        """Looks at all programs of the next size, and returns one that is right."""
        # Loops first: they are the likelier answer, and not as many.
        for loop in self._loops:
            for term in loop.terms(self._bank.size + 1):
                self._bank.tried += 1
                if not self._bank.tried & 63 and self._bank.is_full:
                    return None
                if self._bank.keep(term) and self._consider(term):
                    return term
        for term in self._bank.grow():
            if self._consider(term):
                return term
        if self._bank.size <= _SOURCE_SIZE:
            self._add_loops()
        return self._bank.glance(self._kind, self._target)

    def _consider(self, term: Term) -> bool:
        if term.kind == "bool":
            self._branches.add_test(term)
        if term.kind != self._kind and not (self._kind == "float" and term.kind == "int"):
            return False
        # Whoever looks at no argument gives an answer, but is no function.
        if term.uses and term.vector == self._target:
            return True
        self._branches.add(term)
        return False

    def _completed(self) -> Term | None:
        """Returns a term of two that are known, where the target and one of them say what the other must be."""
        target, bank = self._target, self._bank
        if self._kind not in {"int", "float", "str"} or any(value is None for value in target):
            return None
        plus, minus, times = (
            next((o for o in self._operations if o.template == text and o.gives == self._kind), None)
            for text in ("_0 + _1", "_0 - _1", "_0 * _1")
        )
        for one in bank.up_to(self._kind, bank.size):
            if one.partial or not one.uses:
                continue
            for operation, other, is_second in self._missing(one.vector, plus, minus, times):
                two = bank.find(self._kind, other)
                if two is None or operation is None:
                    continue
                operands = (one, two) if is_second else (two, one)
                # A difference from a large float may be no more than what rounding leaves of it.
                if operation.vectored()(*(each.vector for each in operands)) == target:
                    return Term(self._kind, one.size + two.size + 1, target, operation, operands, uses=1)
        return None

    def _missing(
        self, vector: list[Any], plus: Operation | None, minus: Operation | None, times: Operation | None
    ) -> Iterator[tuple[Operation | None, list[Any], bool]]:
        target = self._target
        if self._kind == "str":
            if all(wanted.startswith(got) for got, wanted in zip(vector, target, strict=True)):
                yield plus, [wanted[len(got) :] for got, wanted in zip(vector, target, strict=True)], True
            return
        yield plus, [wanted - got for got, wanted in zip(vector, target, strict=True)], True
        yield minus, [wanted + got for got, wanted in zip(vector, target, strict=True)], False
        if self._kind == "int" and all(got and wanted % got == 0 for got, wanted in zip(vector, target, strict=True)):
            yield times, [wanted // got for got, wanted in zip(vector, target, strict=True)], True

    def _add_loops(self) -> None:
        size = self._bank.size
        outer = [
            term
            for kind in self._bank.kinds()
            for term in self._bank.up_to(kind, 2)
            if not term.partial and (term.size == 1 or (term.uses and not term.kind.startswith("list")))
        ][:_OUTER]
        lists = [
            term
            for kind in self._bank.kinds()
            if element_of(kind)
            for term in self._bank.of(kind, size)
            if term.uses and not term.partial
        ]
        for source in lists:
            made = source.made
            if size == 1 or (isinstance(made, Operation) and made.template in _MADE_SOURCES):
                self._add_loop((source,), outer)
        if size == 1:
            for i, one in enumerate(lists):
                for two in lists[i + 1 :]:
                    self._add_loop((one, two), outer)
        if size == 3:
            for rest in lists:
                # Each item with the one after it.
                made = rest.made
                if isinstance(made, Operation) and made.template == "_0[_1:]" and rest.operands[1].made == "1":
                    self._add_loop((rest.operands[0], rest), outer)

    def _add_loop(self, sources: tuple[Term, ...], outer: Sequence[Term]) -> None:
        if len(self._loops) >= _SOURCES:
            return
        names = _names(sources, {*self._task.parameters, self._task.name})
        try:
            loop = Looping(sources, names, operations=self._operations, outer=outer, expired=self._expired)
        except ValueError:
            return
        self._loops.append(loop)

    def _found(self, body: Branch | Term) -> Found:
        source = function(self._task.name, self._task.parameters, body, summary=self._task.words)
        return Found(source=source, size=body.size, leaves=body.leaves if isinstance(body, Branch) else 1)


def _patience(found: Branch | Term) -> int:
    """Returns how many times as long as what was looked at a find may be: of many ways each is short."""
    return 3 if isinstance(found, Branch) and found.leaves > 2 else 2


def _constants(
    task: Task, kinds: frozenset[str], target: list[Any], wanted_kind: str
) -> Iterator[tuple[Any, str, int]]:
    """Gives constants with their types and sizes: small numbers, what the task's words name, and answers that several
    examples share. Answers of single examples are no constants: a program of them would be a list of answers.
    """
    given: dict[tuple[str, Any], int] = {}

    def add(value: Any, kind: str, size: int = 1) -> None:
        given.setdefault((kind, value), size)

    for number in (0, 1, 2):
        add(number, "int")
    for text in re.findall(r"(?<![\w.])\d{1,6}(?![\w.])", task.words):
        add(int(text), "int")
    add(3, "int", 2)
    add(10, "int", 3)
    if any("float" in kind for kind in kinds):
        for text in re.findall(r"(?<![\w.])\d{1,6}\.\d{1,6}(?![\w.])", task.words):
            add(float(text), "float")
        add(0.5, "float", 2)
    if any("str" in kind for kind in kinds):
        add("", "str")
        add(" ", "str")
        for groups in re.findall(r"'([^']{1,40})'|\"([^\"]{1,40})\"|`([^`]{1,40})`", task.words):
            add("".join(groups), "str")
        for mark in [*_marks(task), *_new_signs(task)]:
            add(mark, "str")
        wanted = [value for value in target if isinstance(value, str)]
        for text in (_start(wanted), _start([value[::-1] for value in wanted])[::-1]):
            if len(wanted) == len(target) and len(set(wanted)) > 1 and text:
                add(text, "str")
        if "vowel" in task.words.lower():
            add("aeiou", "str")
        add("aeiou", "str", 2)
    if "bool" in kinds:
        add(True, "bool")
        add(False, "bool")
    for value in target:
        if value is None:
            add(None, "none")
        elif isinstance(value, (int, str)) and not isinstance(value, bool) and target.count(value) > 1:
            add(value, "str" if isinstance(value, str) else "int", 1 if isinstance(value, str) else 2)
    for (kind, value), size in given.items():
        yield value, wanted_kind if kind == "none" else kind, size


def _marks(task: Task) -> list[str]:
    """Returns signs that stand in each text of what is wanted, or in each that is given: they may separate."""
    wanted = [value for _, value in task.examples if isinstance(value, str) and len(value) > 1]
    given = [a for arguments, _ in task.examples for a in arguments if isinstance(a, str) and len(a) > 1]
    found: list[str] = []
    for texts in (wanted, given):
        if len(texts) > 1:
            common = set.intersection(*(set(re.findall(r"[^\w\s]\s?|\s", text)) for text in texts))
            found += sorted(common - {" "}, key=lambda mark: (len(mark), mark))
    return found[:4]


def _new_signs(task: Task) -> list[str]:
    """Returns characters that several results have, whose arguments do not."""
    new = [
        set(wanted) - {sign for argument in arguments for sign in str(argument)}
        for arguments, wanted in task.examples
        if isinstance(wanted, str)
    ]
    counted = Counter(sign for signs in new for sign in sorted(signs) if not sign.isalnum())
    return [sign for sign, count in counted.most_common(3) if count > 1]


def _start(texts: list[str]) -> str:
    """Returns what all texts begin with."""
    shortest, longest = min(texts, default=""), max(texts, default="")
    length = next((i for i, (a, b) in enumerate(zip(shortest, longest, strict=False)) if a != b), len(shortest))
    return shortest[:length]


def _floats(column: list[Any]) -> list[Any]:
    return [float(value) if isinstance(value, int) and not isinstance(value, bool) else value for value in column]


def _names(sources: tuple[Term, ...], taken: set[str]) -> tuple[str, ...]:
    """Returns names for items: characters, words and all others have their own."""
    if len(sources) == 2:
        wishes = ["a", "b", "p", "q", "u", "v"]
    elif sources[0].kind == "str":
        wishes = ["c", "char", "c_"]
    elif sources[0].kind == "list[str]":
        wishes = ["word", "w", "text"]
    else:
        wishes = ["x", "n", "item", "each"]
    free = [wish for wish in wishes if wish not in taken]
    free += [f"item_{number}" for number in range(9) if f"item_{number}" not in taken]
    return tuple(free[: len(sources)])
