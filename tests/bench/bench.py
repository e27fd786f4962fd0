"""What a row is given to run: how much work, how often, and the programs that it starts."""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from .process import Subject
from .rounds import Samples, alternate
from .subject import Figures

__all__ = ["STEPWIRE", "YARDSTICKS", "Bench"]

STEPWIRE = "tests.bench.stepwire_subject"
"""The module of Stepwire's server and client."""

YARDSTICKS = "tests.bench.yardsticks"
"""The package of what it is measured beside."""

T = TypeVar("T")


class Bench:
    """What a row runs with: how long, how often, and the programs that it starts. They end with the row."""

    def __init__(self, *, quick: bool, rounds: int, row: str = "") -> None:
        self.quick = quick
        self.rounds = rounds
        self.taken: list[Mapping[str, Sequence[Figures]]] = []
        """What `alternate` has measured, every round of it."""
        self._row = row
        self._stack = contextlib.ExitStack()
        self._begun = time.monotonic()

    @contextlib.contextmanager
    def for_row(self, row: str) -> Iterator[Bench]:
        """Gives the bench of one row."""
        bench = Bench(quick=self.quick, rounds=self.rounds, row=row)
        with bench._stack:
            yield bench

    def size(self, full: T, quick: T) -> T:
        """Returns how much work: for the whole benchmark, or for the quick one."""
        return quick if self.quick else full

    def stepwire(self, *serve: str, reader: str = "aio") -> Subject:
        """Starts Stepwire with these flags of `serve`, and a client."""
        return self.start(Subject(STEPWIRE, serve=serve, drive=["--reader", reader]))

    def another_client(self, of: Subject, *, reader: str) -> Subject:
        """Starts one more client of a Stepwire that runs."""
        return self.start(Subject(STEPWIRE, drive=["--reader", reader], of=of))

    def yardstick(self, name: str, *serve: str, alone: bool = False) -> Subject:
        """Starts a yardstick with these flags."""
        return self.start(Subject(f"{YARDSTICKS}.{name}", serve=serve, alone=alone))

    def start(self, subject: Subject) -> Subject:
        """Starts a subject, which ends with the row."""
        return self._stack.enter_context(subject)

    def folder(self) -> Path:
        """Returns a folder on a real disk, which goes with the row."""
        return Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))

    def alternate(
        self, variants: Mapping[str, Callable[[], Figures]], *, rounds: int | None = None, warm_up: bool = True
    ) -> Samples:
        """Runs the variants in turns, a warm-up and then the rounds."""
        samples = alternate(variants, rounds=rounds or self.rounds, warm_up=warm_up, progress=self.say)
        self.taken.append(samples.figures)
        return samples

    def say(self, line: str) -> None:
        """Shows that something goes on."""
        print(f"{self._row} {time.monotonic() - self._begun:5.0f} s  {line}", file=sys.stderr, flush=True)
