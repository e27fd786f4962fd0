"""Fees: the cells of a table of fees as rules, and what a rule gives for a base value. Decimals only.

A cell is one of: `46,00 Euro`, `15 bis 65 Euro`, `ab 60 Euro`, `bis zu 500 Euro`, `kostenfrei`, or a rate such as
`0,5 % der Baukosten`, `2 ‰ der Baukosten, mindestens 75 Euro, höchstens 900 Euro`. Words after the sum ("je Person")
are kept as a note. A case in brackets in the label says when the row applies.
"""

from __future__ import annotations

__all__ = [
    "Fee",
    "FeeNotUnderstood",
    "Money",
    "money_text",
    "parse_base",
    "parse_fee",
    "parse_number",
    "parse_sentence",
]

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Literal

from stepwire_server.assistant.lexicon import Token, is_function_word, tokenize, word_set

_CENT = Decimal("0.01")
_NUMBER = r"\d{1,3}(?:[.\u202f\u00a0 ]\d{3})+(?:,\d+)?|\d+(?:,\d+)?"
_EURO = r"(?:Euro|EUR|€)"
_SCALES = {"tausend": Decimal(1000), "tsd": Decimal(1000), "million": Decimal(10**6), "mio": Decimal(10**6)}

_FREE = re.compile(r"(?:kostenfrei|kostenlos|gebührenfrei|keine(?: Gebühr)?)\b(?P<note>.*)", re.IGNORECASE)
_RATE = re.compile(
    rf"(?P<rate>{_NUMBER})\s*(?P<unit>%|‰|Prozent|Promille)\s*(?:der|des|vom|von der)\s+(?P<base>[^,;]+)(?P<rest>.*)",
    re.IGNORECASE,
)
_RANGE = re.compile(
    rf"(?P<low>{_NUMBER})\s*(?:{_EURO}\s*)?(?:bis|-|–)\s*(?P<high>{_NUMBER})\s*{_EURO}(?P<note>.*)", re.IGNORECASE
)
_FROM = re.compile(rf"(?:ab|mindestens)\s+(?P<low>{_NUMBER})\s*{_EURO}(?P<note>.*)", re.IGNORECASE)
_UP_TO = re.compile(rf"(?:bis zu|höchstens|maximal|bis)\s+(?P<high>{_NUMBER})\s*{_EURO}(?P<note>.*)", re.IGNORECASE)
_FIXED = re.compile(rf"(?P<sum>{_NUMBER})\s*{_EURO}(?P<note>.*)", re.IGNORECASE)
_LEAST = re.compile(rf"^\s*[,;]?\s*(?:und\s+)?mindestens\s+({_NUMBER})\s*{_EURO}", re.IGNORECASE)
_MOST = re.compile(rf"^\s*[,;]?\s*(?:und\s+)?(?:höchstens|maximal)\s+({_NUMBER})\s*{_EURO}", re.IGNORECASE)
_LABEL = re.compile(r"^(?P<label>.*?)\s*\((?P<case>[^()]*)\)(?P<rest>[^()]*)$")
_BASE = re.compile(rf"Rechenbeispiel:\s*(?P<base>[^\d]+?)\s+(?P<sum>{_NUMBER})\s*{_EURO}", re.IGNORECASE)

Kind = Literal["fixed", "range", "rate", "free"]


class FeeNotUnderstood(ValueError):
    """A cell is not a fee in any form that this module knows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Money:
    """A span of euros; both ends are equal where the sum is known exactly."""

    low: Decimal
    """The least, in euros and whole cents."""
    high: Decimal | None
    """The most; None where nothing bounds it."""

    def __add__(self, other: Money) -> Money:
        high = None if self.high is None or other.high is None else self.high + other.high
        return Money(low=self.low + other.low, high=high)

    @property
    def exact(self) -> bool:
        """Whether both ends are the same."""
        return self.low == self.high


@dataclass(frozen=True, slots=True, kw_only=True)
class Fee:
    """One row of a table of fees."""

    label: str
    """What it is charged for, without the case."""
    case: str = ""
    """When the row applies, from the brackets. Empty: always."""
    kind: Kind
    """How the sum is found."""
    low: Decimal = Decimal(0)
    """Of a fixed sum or a range: the least, in euros."""
    high: Decimal | None = None
    """Of a fixed sum or a range: the most. None: open."""
    rate: Decimal = Decimal(0)
    """Of a rate: the number before the sign."""
    unit: Literal["%", "‰", ""] = ""
    """Of a rate: its sign."""
    base: str = ""
    """Of a rate: what it is a share of."""
    minimum: Decimal | None = None
    """Of a rate: no less than this."""
    maximum: Decimal | None = None
    """Of a rate: no more than this."""
    note: str = ""
    """Words after the sum."""

    @property
    def rule(self) -> str:
        """The cell, in the form that parse_fee reads back to the same fee."""
        note = f" {self.note}" if self.note else ""
        match self.kind:
            case "free":
                return "kostenfrei" + note
            case "rate":
                least = f", mindestens {money_text(self.minimum)}" if self.minimum is not None else ""
                most = f", höchstens {money_text(self.maximum)}" if self.maximum is not None else ""
                return f"{_plain(self.rate)} {self.unit} der {self.base}{least}{most}{note}"
            case "fixed":
                return money_text(self.low) + note
            case "range" if self.high is None:
                return f"ab {money_text(self.low)}{note}"
            case _ if self.low == 0 and self.high is not None:
                return f"bis zu {money_text(self.high)}{note}"
            case _:
                return f"{money_text(self.low).removesuffix(' Euro')} bis {money_text(self.high or self.low)}{note}"

    def amount(self, base: Decimal | None = None) -> Money | None:
        """Returns what is due, rounded to cents, or None where this is a rate and no base value is given."""
        if self.kind != "rate":
            return Money(low=self.low, high=self.high)
        if base is None:
            return None
        due = base * self.rate / (100 if self.unit == "%" else 1000)
        if self.minimum is not None:
            due = max(due, self.minimum)
        if self.maximum is not None:
            due = min(due, self.maximum)
        due = due.quantize(_CENT, rounding=ROUND_HALF_UP)
        return Money(low=due, high=due)


def parse_fee(label: str, cell: str) -> Fee:
    """Returns the fee of one row. Raises FeeNotUnderstood, naming the cell, where the cell is none."""
    name, case = _split_label(label)
    text = " ".join(cell.split())
    if found := _FREE.fullmatch(text):
        return Fee(label=name, case=case, kind="free", high=Decimal(0), note=_note(found["note"]))
    if found := _RATE.fullmatch(text):
        return _rate(name, case, found, cell=cell)
    if found := _RANGE.fullmatch(text):
        low, high = parse_number(found["low"]), parse_number(found["high"])
        if low > high:
            raise FeeNotUnderstood(f"{cell!r}: the first sum is above the second")
        kind: Kind = "fixed" if low == high else "range"
        return Fee(label=name, case=case, kind=kind, low=low, high=high, note=_note(found["note"]))
    if found := _FROM.fullmatch(text):
        return Fee(label=name, case=case, kind="range", low=parse_number(found["low"]), note=_note(found["note"]))
    if found := _UP_TO.fullmatch(text):
        return Fee(label=name, case=case, kind="range", high=parse_number(found["high"]), note=_note(found["note"]))
    if found := _FIXED.fullmatch(text):
        due = parse_number(found["sum"])
        return Fee(label=name, case=case, kind="fixed", low=due, high=due, note=_note(found["note"]))
    raise FeeNotUnderstood(f"{cell!r} is not a fee; write it as `46,00 Euro`, `15 bis 65 Euro` or `2 ‰ der Baukosten`")


# A sentence that says what something costs, and nothing else. English sums have a point before the cents.
_COSTS = re.compile(
    rf"(?P<label>[^\d,;:()?!]+?)\s+(?P<verb>kostet|kosten|beträgt|betragen)\s+"
    rf"(?P<cell>(?:(?:ab\s+|bis zu\s+|höchstens\s+)?(?:{_NUMBER})|(?:{_NUMBER})\s*(?:{_EURO}\s*)?bis\s*(?:{_NUMBER}))"
    rf"\s*{_EURO})"
    r"(?P<note>(?:\s+(?:im|pro|je) [A-ZÄÖÜ]\w+|\s+jährlich|\s+monatlich|\s+einmalig)?)\.?"
)
_COSTS_ENGLISH = re.compile(
    r"(?P<label>[^\d,;:()?!]+?)\s+(?P<verb>costs?|is|amounts to)\s+"
    r"(?:(?P<sum>\d+(?:\.\d{2})?)\s*(?:[Ee]uros?|EUR|€)|€\s?(?P<sign>\d+(?:\.\d{2})?))"
    r"(?P<note>(?:\s+(?:per|a|each) [a-z]+)?)\.?"
)
_LABEL_WORDS = word_set(
    "der die das des dem den ein eine einen einem einer eines fur in im am an bei mit ohne von vom zum zur the a an for"
    " of with without"
)
_ARTICLES = word_set("der die das ein eine the a an")
_DOUBTS = word_set(
    "fruher bisher fast selten kunftig vermutlich ehemals damals oft meist manchmal sogar bereits allein almost even"
    " formerly previously sometimes"
)
_FEE_WORDS = word_set("Gebühr Gebühren Verwaltungsgebühr Kosten Preis Entgelt Steuer fee fees cost costs price charge")


def parse_sentence(text: str) -> tuple[str, Fee] | None:
    """Returns what a sentence names the price of and the fee, or None where its form is not certain.

    Understood are "X kostet 120 Euro" and "Die Gebühr (für X) beträgt 37,00 Euro" with a span of time or a unit behind
    the sum, and the same in English. What the price is of is empty in "Die Gebühr beträgt ...".
    """
    text = " ".join(text.split())
    if found := _COSTS.fullmatch(text):
        cell = found["cell"] + found["note"]
    elif found := _COSTS_ENGLISH.fullmatch(text):
        cell = f"{(found['sum'] or found['sign']).replace('.', ',')} Euro{found['note']}"
    else:
        return None
    words = tokenize(found["label"])
    if not words or any(token.folded in _DOUBTS for token in words):
        return None
    if any(is_function_word(token) and token.folded not in _LABEL_WORDS for token in words):
        return None
    begins = words[0].folded in _ARTICLES
    if not words[0].capital or (not begins and len(words) > 1 and words[1].folded in _ARTICLES):
        # "Fast der ganze Betrag": a particle comes first.
        return None
    named = words[begins:]
    if not named:
        return None
    head, rest = named[0], named[1:]
    if head.folded in _FEE_WORDS:
        named = tuple(rest)
    elif found["verb"] in ("beträgt", "betragen", "is", "amounts to") and not _is_price(named):
        # "Das Stammkapital beträgt ..." is no price.
        return None
    label = found["label"][named[0].start :] if named else ""
    try:
        return label, parse_fee(label, cell)
    except FeeNotUnderstood:
        return None


def _is_price(words: Sequence[Token]) -> bool:
    return (
        re.search(r"(?:steuer|gebuhr|gebuhren|entgelt|beitrag|tax|fee)$", words[0 if len(words) == 1 else -1].folded)
        is not None
    )


def parse_base(text: str) -> tuple[str, Decimal] | None:
    """Returns the base's name and value from a line `Rechenbeispiel: Baukosten 300.000 Euro.`, or None."""
    found = _BASE.search(text)
    return (found["base"].strip(), parse_number(found["sum"])) if found else None


def parse_number(text: str, *, scale: str = "") -> Decimal:
    """Returns a number in German format (`1.234,56`), times the scale (`Millionen`, `Mio`, `Tausend`)."""
    value = Decimal(re.sub(r"[.\s]", "", text).replace(",", "."))
    word = scale.lower().rstrip(".")
    factor = next((factor for name, factor in _SCALES.items() if word.startswith(name)), Decimal(1))
    return value * factor


def money_text(value: Decimal, *, language: str = "de") -> str:
    """Returns a sum as people write it: `1.234,50 Euro`, or `1,234.50 euros` in English."""
    text = f"{value.quantize(_CENT, rounding=ROUND_HALF_UP):,f}"
    if language == "en":
        return f"{text} euros"
    return text.translate(str.maketrans(",.", ".,")) + " Euro"


def _rate(label: str, case: str, found: re.Match[str], *, cell: str) -> Fee:
    minimum = maximum = None
    rest = found["rest"]
    while rest:
        if least := _LEAST.match(rest):
            minimum, rest = parse_number(least[1]), rest[least.end() :]
        elif most := _MOST.match(rest):
            maximum, rest = parse_number(most[1]), rest[most.end() :]
        else:
            break
    if minimum is not None and maximum is not None and minimum > maximum:
        raise FeeNotUnderstood(f"{cell!r}: the minimum is above the maximum")
    return Fee(
        label=label,
        case=case,
        kind="rate",
        rate=parse_number(found["rate"]),
        unit="%" if found["unit"].lower() in ("%", "prozent") else "‰",
        base=found["base"].strip(),
        minimum=minimum,
        maximum=maximum,
        note=_note(rest),
    )


def _split_label(label: str) -> tuple[str, str]:
    text = " ".join(label.split())
    found = _LABEL.match(text)
    if not found or not found["label"]:
        return text, ""
    return (found["label"] + found["rest"]).strip(), found["case"].strip()


def _note(text: str) -> str:
    return text.strip().lstrip(",;").strip()


def _plain(value: Decimal) -> str:
    text = f"{value:f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return text.replace(".", ",")
