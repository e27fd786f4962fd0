"""Rounds in which variants alternate, and what can be said of them: medians, and ratios within each round.

Two figures of one round were taken within seconds of each other, on a machine in one state; the ratio of two medians
would compare a quiet minute with a busy one. So a ratio is formed in each round, and its median and spread are told.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from .subject import Figures

__all__ = ["Measure", "Samples", "Spread", "alternate", "cpu_an_event", "figure", "order_of", "per_second", "together"]

Measure = Callable[[Figures], float]
"""Takes one figure from those of a round."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """What the rounds gave for one figure."""

    median: float
    least: float
    most: float
    rounds: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(median=statistics.median(values), least=min(values), most=max(values), rounds=len(values))


def per_second(figures: Figures) -> float:
    """Returns the events a second."""
    return float(figures["events"] / figures["seconds"])


def together(found: Sequence[Figures], *keys: str) -> Figures:
    """Returns the sums of these figures of several pieces of work, which count as one."""
    return {key: sum(figures[key] for figures in found) for key in keys}


def figure(key: str) -> Measure:
    """Returns what gives one of the figures as it is."""
    return lambda figures: float(figures[key])


def cpu_an_event(side: str) -> Measure:
    """Returns what gives the processor time of the "server" or the "client" an event, in microseconds."""
    return lambda figures: float(figures[f"{side}_cpu"] / figures["events"] * 1e6)


@dataclass(frozen=True, slots=True)
class Samples:
    """The figures of each variant, one a round; round 0 of one belongs to round 0 of another."""

    figures: Mapping[str, Sequence[Figures]]

    def values(self, name: str, measure: Measure) -> list[float]:
        """Returns a variant's figure of each round."""
        return [measure(figures) for figures in self.figures[name]]

    def spread(self, name: str, measure: Measure) -> Spread:
        """Returns a variant's figure over all rounds."""
        return Spread.of(self.values(name, measure))

    def ratio(self, over: str, under: str, measure: Measure, *, under_measure: Measure | None = None) -> Spread:
        """Returns how many times one variant's figure is another's, round by round."""
        pairs = zip(self.values(over, measure), self.values(under, under_measure or measure), strict=True)
        return Spread.of([above / below for above, below in pairs])


def order_of(names: Sequence[str], round_number: int) -> list[str]:
    """Returns the order of a round: each begins with another variant, and every second turn goes backwards."""
    shift = round_number % len(names)
    turned = [*names[shift:], *names[:shift]]
    return turned[::-1] if round_number // len(names) % 2 else turned


def alternate(
    variants: Mapping[str, Callable[[], Figures]],
    *,
    rounds: int,
    warm_up: bool = True,
    progress: Callable[[str], None] = lambda _: None,
) -> Samples:
    """Runs every variant once for warmth, then once in each round."""
    found: dict[str, list[Figures]] = {name: [] for name in variants}
    if warm_up:
        progress("warm-up")
        for measure in variants.values():
            measure()
    for number, names in _orders(list(variants), rounds):
        progress(f"round {number + 1} of {rounds}")
        for name in names:
            found[name].append(variants[name]())
    return Samples(found)


def _orders(names: list[str], rounds: int) -> Iterator[tuple[int, list[str]]]:
    for number in range(rounds):
        yield number, order_of(names, number)
