"""What something costs: the rows of fee tables, the base value, and the total."""

from __future__ import annotations

__all__ = ["calculate"]

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from stepwire_server.assistant.answers import Wording
from stepwire_server.assistant.fees import (
    Fee,
    FeeNotUnderstood,
    Money,
    money_text,
    parse_base,
    parse_fee,
    parse_sentence,
)
from stepwire_server.assistant.glossary import german_for
from stepwire_server.assistant.lexicon import Language, is_function_word, stem, tokenize
from stepwire_server.assistant.search import stems_of
from stepwire_server.assistant.told import mentions_money, sentences

# A row that comes on top of another one.
_EXTRA = re.compile(r"zuschlag|zusätzlich|weitere|surcharge", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Base:
    value: Decimal
    name: str
    assumed: bool


def calculate(
    subject: str,
    *,
    passages: Sequence[Mapping[str, Any]],
    terms: Sequence[str],
    amount: Decimal | None,
    language: Language,
    words: Wording,
) -> dict[str, Any]:
    """Returns positions, base and total: of each thing that is asked for together, the first passage that has fees.

    Rows without a case in brackets make the total. A row with a case counts where the query names the case; it then
    takes the place of the row of its label, or comes on top of it where it is a surcharge. Where every row has a case
    and the query names none, the total is the span from the cheapest to the dearest.

    `amount`: the base value, in euros.
    """
    names = list(dict.fromkeys(passage.get("about", subject) for passage in passages)) or [subject]
    results = [
        _of_one(
            name,
            passages=[passage for passage in passages if passage.get("about", subject) == name],
            terms=terms,
            amount=amount,
            language=language,
            words=words,
        )
        for name in names
    ]
    return results[0] if len(results) == 1 else _together(results, language=language, words=words)


def _together(results: Sequence[Mapping[str, Any]], *, language: Language, words: Wording) -> dict[str, Any]:
    """Returns several results as one. The total is the sum of theirs, where each has one."""
    totals = [result["total"] for result in results if result["total"] is not None]
    total = None
    if len(totals) == len(results):
        due = [
            Money(low=Decimal(one["amount"]), high=None if one["amount_high"] is None else Decimal(one["amount_high"]))
            for one in totals
        ]
        total = _money(sum(due[1:], due[0]), language=language, words=words)
    return {
        "positions": [position for result in results for position in result["positions"]],
        "base": next((result["base"] for result in results if result["base"] is not None), None),
        "base_notes": list(dict.fromkeys(note for result in results for note in result["base_notes"])),
        "total": total,
        "alternatives": any(result["alternatives"] for result in results),
        "remarks": list(dict.fromkeys(remark for result in results for remark in result["remarks"])),
        "items": [item for result in results for item in result["items"]],
    }


def _of_one(
    subject: str,
    *,
    passages: Sequence[Mapping[str, Any]],
    terms: Sequence[str],
    amount: Decimal | None,
    language: Language,
    words: Wording,
) -> dict[str, Any]:
    for passage in passages:
        fees, unread = _fees(passage)
        texts = [*passage["paragraphs"], *passage["items"]]
        remarks = [
            text
            for text in texts
            if parse_base(text) is None and (fees or mentions_money(text) or passage["part"] == "fees")
        ]
        if not (fees or remarks or unread):
            continue
        if not fees and not unread:
            return _of_text(subject, passages=passages, terms=terms, language=language, words=words)
        fees = _about(fees, subject=subject, title=passage["title"])
        cells = {
            fee: row[1] for table in passage["tables"] for row in table["rows"] for fee in fees if _is_row(fee, row)
        }
        asked = stems_of(" ".join(terms)) - stems_of(subject)
        bases = _bases(fees, texts=texts, amount=amount, asked=asked)
        return _result(
            fees,
            cells=cells,
            bases=bases,
            given=amount is not None,
            asked=asked,
            remarks=[*unread, *remarks],
            language=language,
            words=words,
        )
    return _result([], cells={}, bases=(), given=False, asked=frozenset(), remarks=[], language=language, words=words)


def _of_text(
    subject: str,
    *,
    passages: Sequence[Mapping[str, Any]],
    terms: Sequence[str],
    language: Language,
    words: Wording,
) -> dict[str, Any]:
    """Returns what free text says of costs, quoted, and the sums of those sentences whose form is certain.

    Sentences that give different prices of the same are not certain.
    """
    items: list[dict[str, Any]] = []
    rules: dict[Fee, str] = {}
    others = False
    for passage in passages:
        for text in (*passage["paragraphs"], *passage["items"]):
            if passage["tables"] or not (mentions_money(text) or passage["part"] == "fees"):
                continue
            items.append({"text": text, "file": passage["file"], "section": passage["section"]})
            for sentence in filter(mentions_money, sentences(text)):
                fee = _spoken(sentence, subject=subject, passage=passage)
                if fee is None:
                    others = True
                else:
                    rules.setdefault(fee, sentence)
    if len({fee.case for fee in rules}) < len(rules):
        rules = {}
    asked = stems_of(" ".join(terms)) - stems_of(subject)
    result = _result(
        list(rules), cells=rules, bases=(), given=False, asked=asked, remarks=[], language=language, words=words
    )
    notes = [words["not_counted"]] if rules and others else []
    # Prices of cases alone are no price of the subject.
    total = {"total": None, "alternatives": False} if result["alternatives"] else {}
    return {**result, **total, "items": items, "base_notes": notes}


def _spoken(sentence: str, *, subject: str, passage: Mapping[str, Any]) -> Fee | None:
    """Returns the fee that a sentence gives for the subject; what it names besides the subject is its case."""
    found = parse_sentence(sentence)
    if found is None:
        return None
    label, fee = found
    about = f"{passage['title']} {passage['section']} {re.sub(r'[-_./]', ' ', passage['file'])}"
    for wanted in map(stems_of, (subject, *german_for(subject))):
        if wanted and wanted <= stems_of(label):
            tokens = [token for token in tokenize(label) if stem(token.text) not in wanted]
            while tokens and is_function_word(tokens[-1]):
                tokens.pop()
            if tokens and tokens[0].folded in ("der", "die", "das", "the"):
                del tokens[0]
            case = " ".join(token.text for token in tokens)
            return replace(fee, label=subject, case=case)
        if not label and wanted and wanted <= stems_of(about):
            # Under a heading of its own it is the price of what that names.
            general = passage["part"] == "fees" or wanted <= stems_of(passage["section"])
            return replace(fee, label=subject, case="" if general else passage["section"])
    return None


def _fees(passage: Mapping[str, Any]) -> tuple[list[Fee], list[str]]:
    fees: list[Fee] = []
    unread: list[str] = []
    for table in passage["tables"]:
        for row in table["rows"]:
            if len(row) < 2:
                continue
            try:
                fees.append(parse_fee(row[0], row[1]))
            except FeeNotUnderstood:
                unread.append(": ".join(row))
    return fees, unread


def _is_row(fee: Fee, row: Sequence[str]) -> bool:
    try:
        return len(row) > 1 and parse_fee(row[0], row[1]) == fee
    except FeeNotUnderstood:
        return False


def _about(fees: list[Fee], *, subject: str, title: str) -> list[Fee]:
    """Returns the rows on the subject where a document lists the fees of many things, else all."""
    wanted = stems_of(subject)
    if wanted <= stems_of(title):
        return fees
    return [fee for fee in fees if wanted <= stems_of(fee.label)] or fees


def _bases(
    fees: Sequence[Fee], *, texts: Iterable[str], amount: Decimal | None, asked: frozenset[str]
) -> tuple[_Base, ...]:
    """Returns the value of each base of a rate: the amount where it is one of this base, else the document's example.

    A value of one base is none of another: costs of building are no value of the shell.
    """
    pieces = (piece for text in texts for piece in _EXAMPLE.split(text))
    examples = {stems_of(name): value for name, value in filter(None, map(parse_base, pieces))}
    said = frozenset(word for word in asked if word.endswith(_VALUES) and word not in _VALUES and word != "kostet")
    found: dict[frozenset[str], _Base] = {}
    for fee in fees:
        key = stems_of(fee.base)
        if fee.kind != "rate" or key in found:
            continue
        # A sum without a name is one of the first base.
        if amount is not None and (key & said if said else not found):
            found[key] = _Base(value=amount, name=fee.base, assumed=False)
        elif key in examples:
            found[key] = _Base(value=examples[key], name=fee.base, assumed=True)
    return tuple(found.values())


_EXAMPLE = re.compile(r"(?=Rechenbeispiel:)")
_VALUES = ("kost", "summ", "wert", "preis", "kapital")
"""How the stem of a word for a value ends, which is a compound."""


def _value(fee: Fee, bases: Iterable[_Base]) -> Decimal | None:
    return next((base.value for base in bases if stems_of(base.name) == stems_of(fee.base)), None)


def _result(
    fees: Sequence[Fee],
    *,
    cells: Mapping[Fee, str],
    bases: tuple[_Base, ...],
    given: bool,
    asked: frozenset[str],
    remarks: list[str],
    language: Language,
    words: Wording,
) -> dict[str, Any]:
    counted, alternatives = _counted(fees, asked=asked)
    sums = {index: fee.amount(_value(fee, bases)) for index, fee in enumerate(fees)}
    positions = [
        {
            "label": fee.label,
            "case": fee.case,
            "rule": cells.get(fee, fee.rule),
            "base": fee.base,
            **_money(sums[index], language=language, words=words),
            "counted": index in counted,
        }
        for index, fee in enumerate(fees)
    ]
    due = [money for index in sorted(counted) if (money := sums[index]) is not None]
    total = None
    if due and len(due) == len(counted):
        total = _span(due) if alternatives else sum(due[1:], due[0])
    return {
        "positions": positions,
        "base": _base_fields(bases[0]) if bases else None,
        "base_notes": _base_notes(fees, bases=bases, given=given, language=language, words=words),
        "total": None if total is None else _money(total, language=language, words=words),
        "alternatives": alternatives,
        "remarks": remarks,
        "items": [],
    }


def _counted(fees: Sequence[Fee], *, asked: frozenset[str]) -> tuple[set[int], bool]:
    """Returns the rows that make the total, and whether they are alternatives of each other."""
    named = {index for index, fee in enumerate(fees) if fee.case and _is_named(fee.case, asked)}
    regular = {index for index, fee in enumerate(fees) if not fee.case}
    for index in named:
        if not _is_extra(fees[index]):
            regular = {other for other in regular if fees[other].label != fees[index].label}
    if regular or any(not _is_extra(fees[index]) for index in named):
        return regular | named, False
    return {index for index, fee in enumerate(fees) if not _is_extra(fee)}, True


def _is_named(case: str, asked: frozenset[str]) -> bool:
    """Whether the query's words name a case: a word or the beginning of one, and its number where both have one.

    An age below its limit names a case too, and so does a child.
    """
    if limit := _UNDER_AGE.search(case):
        ages = [int(word) for word in asked if word.isdigit() and len(word) <= 2]
        told = asked & _YEARS
        return bool(asked & _CHILDREN) or (bool(told) and any(age < int(limit[1]) for age in ages))
    said = stems_of(case)
    numbers, wanted = ({word for word in words if word.isdigit()} for words in (said, asked))
    if numbers and wanted and not numbers & wanted:
        return False
    words = [word for word in said if not word.isdigit()]
    return any(word == other or (len(other) >= 5 and word.startswith(other)) for word in words for other in asked)


_UNDER_AGE = re.compile(r"\bunter (\d+) Jahren\b")
_YEARS = stems_of("Jahr Jahre jährig jährige jähriger jährigen years old")
_CHILDREN = stems_of("Kind Kinder Kindes Kindern Baby Säugling minderjährig minderjährige child children kids")


def _is_extra(fee: Fee) -> bool:
    return _EXTRA.search(f"{fee.label} {fee.case}") is not None


def _span(due: Sequence[Money]) -> Money:
    highs = [money.high for money in due]
    high = None if None in highs else max(value for value in highs if value is not None)
    return Money(low=min(money.low for money in due), high=high)


def _money(money: Money | None, *, language: Language, words: Wording) -> dict[str, Any]:
    if money is None:
        return {"amount": None, "amount_high": None, "text": words["no_value"]}
    low = money_text(money.low, language=language)
    if money.high is None:
        return {"amount": f"{money.low:.2f}", "amount_high": None, "text": words["from"].format(low=low)}
    high = money_text(money.high, language=language)
    number = low.rsplit(" ", 1)[0]
    text = low if money.exact else words["to"].format(low=number, high=high)
    return {"amount": f"{money.low:.2f}", "amount_high": f"{money.high:.2f}", "text": text}


def _base_fields(base: _Base) -> dict[str, Any]:
    return {"name": base.name, "amount": f"{base.value:.2f}", "assumed": base.assumed}


def _base_notes(
    fees: Sequence[Fee], *, bases: Sequence[_Base], given: bool, language: Language, words: Wording
) -> list[str]:
    known = [
        words["base_assumed" if base.assumed else "base_given"].format(
            base=base.name, value=money_text(base.value, language=language)
        )
        for base in bases
    ]
    names = dict.fromkeys(fee.base for fee in fees if fee.kind == "rate" and _value(fee, bases) is None)
    unused = [words["base_other"].format(base=base.name) for base in bases if base.assumed and given]
    return [*known, *unused, *(words["base_missing"].format(base=name) for name in names)]
