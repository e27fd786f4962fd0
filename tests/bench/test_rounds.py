"""The benchmark's arithmetic: turns, medians, and ratios within a round."""

from __future__ import annotations

import pytest

from .rounds import Samples, Spread, alternate, cpu_an_event, figure, order_of, per_second
from .subject import Disorder, Latencies, Order


def test_a_spread_is_the_median_between_its_ends() -> None:
    """A spread has the median, the least and the most of the rounds, in whatever order they came."""
    assert Spread.of([3.0, 1.0, 10.0]) == Spread(median=3.0, least=1.0, most=10.0, rounds=3)


def test_a_ratio_is_formed_within_each_round() -> None:
    """A machine that slows down to a half from one round to the next leaves the ratio as it is."""
    slowing = [8.0, 4.0, 2.0]
    samples = Samples(
        {
            "fast": [{"events": 100, "seconds": 1 / speed} for speed in slowing],
            "slow": [{"events": 100, "seconds": 2 / speed} for speed in slowing],
        }
    )
    assert samples.ratio("fast", "slow", per_second) == Spread(median=2.0, least=2.0, most=2.0, rounds=3)


def test_a_ratio_may_compare_two_measures() -> None:
    """The figure below the line may be another one than that above it."""
    samples = Samples({"a": [{"x": 6.0}], "b": [{"y": 2.0}]})
    assert samples.ratio("a", "b", figure("x"), under_measure=figure("y")).median == 3.0


def test_processor_time_is_told_for_one_event_in_microseconds() -> None:
    """Processor time is divided by the events that it was spent on."""
    assert cpu_an_event("server")({"server_cpu": 0.5, "events": 10_000}) == pytest.approx(50.0)


def test_every_variant_begins_a_round() -> None:
    """In as many rounds as there are variants each is once the first, and each round has all of them."""
    names = ["a", "b", "c"]
    orders = [order_of(names, number) for number in range(3)]
    assert [order[0] for order in orders] == names
    assert all(sorted(order) == names for order in orders)


def test_no_variant_always_follows_the_same_one() -> None:
    """Every second turn goes backwards, so that a variant does not always have the same one before it."""
    names = ["a", "b", "c"]
    before_b = {order_of(names, number)[order_of(names, number).index("b") - 1] for number in range(6)}
    assert before_b == {"a", "c"}


def test_variants_alternate_after_a_warm_up_that_does_not_count() -> None:
    """Each variant runs once more than there are rounds, and the figures are those of the rounds."""
    calls: list[str] = []

    def variant(name: str) -> dict[str, float]:
        calls.append(name)
        return {"seconds": float(len(calls))}

    samples = alternate({"a": lambda: variant("a"), "b": lambda: variant("b")}, rounds=2)
    assert calls == ["a", "b", "a", "b", "b", "a"]
    assert samples.values("a", figure("seconds")) == [3.0, 6.0]


def read(numbers: list[int], *, count: int) -> None:
    order = Order(count)
    for number in numbers:
        order.see(number)
    order.finish()


@pytest.mark.parametrize(
    ("numbers", "says"),
    [
        ([1, 3], "event 3 came where 2 should"),
        ([1, 1], "event 1 came where 2 should"),
        ([1, 2], "ended with event 2 of 3"),
    ],
    ids=["lost", "doubled", "cut off"],
)
def test_what_is_lost_or_doubled_is_found(numbers: list[int], says: str) -> None:
    """A stream that lost, doubled or ended before an event is refused, with words for it."""
    with pytest.raises(Disorder, match=says):
        read(numbers, count=3)


@pytest.mark.parametrize(
    ("number", "terminal", "says"),
    [(1, True, "event 1 of 2 is the end"), (2, False, "event 2 of 2 is not the end")],
    ids=["too soon", "never"],
)
def test_the_end_is_the_last_event(number: int, terminal: bool, says: str) -> None:
    """An end that comes before the last event, and a last event that is no end, are refused."""
    order = Order(2, after=number - 1)
    with pytest.raises(Disorder, match=says):
        order.see(number, terminal)


def test_an_order_may_begin_after_a_cursor() -> None:
    """What is read from a cursor is dense from there."""
    order = Order(12, after=10)
    order.see(11)
    order.see(12)
    order.finish()


def test_a_queue_that_grows_shows_in_the_last_tenth() -> None:
    """Latencies have their quantiles in milliseconds, and those of their first and last tenth."""
    latencies = Latencies()
    for number in range(1, 101):
        latencies.add(number * 1_000_000)
    figures = latencies.figures()
    assert (figures["p50_ms"], figures["p99_ms"], figures["max_ms"]) == (51.0, 100.0, 100.0)
    assert (figures["first_tenth_ms"], figures["last_tenth_ms"]) == (6.0, 96.0)
