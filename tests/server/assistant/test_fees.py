from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwire_server.assistant.fees import FeeNotUnderstood, money_text, parse_base, parse_fee, parse_number

sums = st.decimals(min_value=0, max_value=10_000_000, places=2)
rates = st.decimals(min_value="0.01", max_value=99, places=2)


@given(sums)
def test_money_round_trip(value: Decimal) -> None:
    """A sum that is printed in German format is read back as the same number."""
    assert parse_number(money_text(value).removesuffix(" Euro")) == value


@given(sums, sums)
def test_range_round_trip(one: Decimal, other: Decimal) -> None:
    """A range that is printed as a rule is read back as the same fee."""
    low, high = sorted((one, other))
    fee = parse_fee("Zulassung (Neuwagen)", f"{money_text(low).removesuffix(' Euro')} bis {money_text(high)} je Person")
    assert parse_fee("Zulassung (Neuwagen)", fee.rule) == fee
    assert (fee.low, fee.high, fee.case, fee.note) == (low, high, "Neuwagen", "je Person")


@given(rates, st.sampled_from("%‰"), sums, sums, sums)
def test_rate_keeps_its_bounds(rate: Decimal, unit: str, one: Decimal, other: Decimal, base: Decimal) -> None:
    """A rate's amount is never below its minimum nor above its maximum, and its rule is read back as the same fee."""
    low, high = sorted((one, other))
    number = f"{rate:f}".replace(".", ",")
    fee = parse_fee(
        "Genehmigung", f"{number} {unit} der Baukosten, mindestens {money_text(low)}, höchstens {money_text(high)}"
    )
    assert parse_fee("Genehmigung", fee.rule) == fee
    due = fee.amount(base)
    assert due is not None
    assert low <= due.low <= high
    free = parse_fee("Genehmigung", f"{number} {unit} der Baukosten").amount(base)
    assert free is not None
    assert abs(free.low - base * rate / (100 if unit == "%" else 1000)) <= Decimal("0.005")


@pytest.mark.parametrize(
    ("cell", "low", "high"),
    [
        ("46,00 Euro", "46.00", "46.00"),
        ("1.250 Euro", "1250", "1250"),
        ("15 bis 65 Euro", "15", "65"),
        ("ab 60 Euro", "60", None),
        ("bis zu 500 Euro", "0", "500"),
        ("kostenfrei", "0", "0"),
        ("12,50 € je Ausfertigung", "12.50", "12.50"),
    ],
)
def test_cells(cell: str, low: str, high: str | None) -> None:
    """Fixed sums, ranges, open ranges and what is free are understood."""
    due = parse_fee("Leistung", cell).amount()
    assert due is not None
    assert (due.low, due.high) == (Decimal(low), None if high is None else Decimal(high))


@pytest.mark.parametrize(
    "cell", ["", "nach Aufwand", "viel", "65 bis 15 Euro", "2 ‰ der Kosten, mindestens 9 Euro, höchstens 1 Euro"]
)
def test_what_is_no_fee_is_refused(cell: str) -> None:
    """A cell that is no fee, or contradicts itself, is refused."""
    with pytest.raises(FeeNotUnderstood):
        parse_fee("Leistung", cell)


def test_rate_without_a_base_has_no_amount() -> None:
    """A rate gives no sum without a value that it is a share of."""
    assert parse_fee("Genehmigung", "2 ‰ der Baukosten").amount() is None


def test_base_of_the_example() -> None:
    """The example's line gives the base's name and its value."""
    assert parse_base("Rechenbeispiel: Baukosten 300.000 Euro.") == ("Baukosten", Decimal(300_000))
    assert parse_base("Stand 2025.") is None
