"""Requests in English and German that are understood without a model.

12 * 7 and then the days from 2026-01-01 to 2026-03-01     two parts, side by side
add 5 to it, then call it total                            it: the newest result, of this request or an earlier one
was war total?                                             answered from memory, nothing runs

A request has parts; each calls a tool, gives a result a name, or asks for one. What is not understood is refused.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from functools import cache
from typing import Any, Literal

from stepwire.errors import QueryNotUnderstood
from stepwire_server.planning.expressions import NAME, Unclear, expression, reference
from stepwire_server.planning.references import escaped

__all__ = ["CAN_DO", "Part", "parse"]

CAN_DO = (
    "arithmetic (12 * 7; 20 % of 80; multipliziere es mit 3), dates (days from 2026-01-01 to 2026-03-01; 30 days after "
    '2026-01-01; welcher Wochentag ist 1.3.2026), figures of a text (count the words of "..."), names for results '
    "(call it total; nenne es Summe), results of before (what was total?; add 5 to it), and tools by name (run NAME "
    "parameter=value); several parts are joined with 'and then' or 'und dann'"
)
"""What can be asked, for people."""

_MOST_PARTS = 30
_MOST_JOINTS = 20
_LONGEST = 10_000
_LONGEST_PART = 500
"""Parts of a request; words such as "and" between two that surely part; characters of all, and between two such words,
without what stands in quotation marks: more would take long.
"""

_UNITS = {
    "days": r"days?|tage?n?",
    "weeks": r"weeks?|wochen?",
    "months": r"months?|monate?n?",
    "years": r"years?|jahre?n?",
}
_UNIT = rf"(?P<unit>{'|'.join(_UNITS.values())})"
_COUNT = r"(?P<count>\d{1,7}|an?|one|eine?n?|einem)"

_FIGURES = {
    "words": r"words|wörter|worte",
    "characters": r"characters|zeichen",
    "lines": r"lines|zeilen",
    "sentences": r"sentences|sätze",
    "bytes": r"bytes",
}
_QUOTES = re.compile(r"\"([^\"]*)\"|„([^„“”\"]*)[“”\"]|“([^“”]*)”|(?<!\w)'([^']*)'(?!\w)")
_QUOTED = r"\"(?P<quoted>\d+)\""
"""Quoted texts, and what stands in place of each while the others are read: its number."""

_ASKS = r"(?:what is|what's|what was|what are|how much is|how much was|calculate|compute|work out|show(?: me)?|"
_ASKS += r"was ist|was sind|was war|was ergibt|wie viel ist|wieviel ist|wie viel war|berechne|rechne|zeige?(?: mir)?)"

_STRONG = re.compile(
    r"\s*(?:;|[.?!](?=\s+\S)|"
    r",?\s+(?:and then|and after that|then|und dann|und danach|dann|danach|anschließend)(?=\s))\s*",
    re.IGNORECASE,
)
_WEAK = re.compile(r"\s*,\s+(?:(?:and|und)\s+)?|\s+(?:and|und)\s+", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One thing that a request asks for. References are `${it}`, `${before}`, `${name:total}`, `${today}`."""

    text: str
    """Its words."""
    act: Literal["call", "name", "recall"]
    tool: str = ""
    """Of a call: the tool."""
    input: Mapping[str, Any] = field(default_factory=dict)
    """Of a call: what the tool is given."""
    field: str = ""
    """Of a call: which part of the tool's output is the answer; empty for the usual one."""
    of: str = ""
    """Of the others: the result that they are about."""
    name: str = ""
    """What a result is called from now on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """What a request's words may name."""

    tools: Collection[str]
    quotes: list[str]

    def quoted(self, number: str) -> str:
        return self.quotes[int(number)]

    def restored(self, text: str) -> str:
        return re.sub(_QUOTED, lambda match: f'"{self.quoted(match["quoted"])}"', text)


def parse(request: str, tools: Collection[str]) -> list[Part]:
    """Returns the parts of a request, in order. `tools` are the names of those that there are.

    Raises QueryNotUnderstood, which names the words that are not understood, and what would be.
    """
    if len(request) > _LONGEST:
        raise QueryNotUnderstood(f"the request has {len(request):,} characters; at most {_LONGEST:,} are taken")
    quotes = [next(text for text in match.groups() if text is not None) for match in _QUOTES.finditer(request)]
    numbers = iter(range(len(quotes)))
    known = _Known(tools=tools, quotes=quotes)
    parts: list[Part] = []
    for words in _cut(" ".join(_QUOTES.sub(lambda _: f'"{next(numbers)}"', request).split())):
        cleaned = re.sub(r"^(?:please|bitte|and|und|then|dann)\s+", "", words.strip(" \t\n.?!,;"), flags=re.IGNORECASE)
        if cleaned:
            try:
                found = _parts(cleaned, known, words.rstrip().endswith("?"))
            except Unclear as error:
                raise QueryNotUnderstood(str(error)) from None
            if found is None:
                raise QueryNotUnderstood(f"{known.restored(cleaned)[:200]!r} is not understood. What is: {CAN_DO}")
            parts += found
            if len(parts) > _MOST_PARTS:
                raise QueryNotUnderstood(f"the request has too many parts; at most {_MOST_PARTS} are taken at once")
    if not parts:
        raise QueryNotUnderstood(f"nothing is asked. What can be: {CAN_DO}")
    return parts


def _cut(request: str) -> list[str]:
    """Returns what stands between the words that can only join two parts, each with its question mark."""
    pieces: list[str] = []
    begin = 0
    for joint in _joints(_STRONG, request):
        # A German date ends with no sentence: "am 1. März" is not understood anyway.
        end = joint.end() if joint.group().strip() in {"?", "!"} else joint.start()
        pieces.append(request[begin:end])
        begin = joint.end()
    return [*pieces, request[begin:]]


def _joints(pattern: re.Pattern[str], text: str) -> list[re.Match[str]]:
    """Returns where a pattern is found outside of parentheses."""
    inside = re.finditer(r"\([^()]*(?:\([^()]*\)[^()]*)*\)", text)
    begin, end = 0, 0
    found = []
    for match in pattern.finditer(text):
        # Both come in their order in the text.
        while end <= match.start():
            begin, end = next((parentheses.span() for parentheses in inside), (len(text), len(text) + 1))
        if match.end() <= begin:
            found.append(match)
    return found


def _parts(text: str, known: _Known, asked: bool) -> list[Part] | None:
    """Returns the parts of a text that may be joined by words which stand within parts, too: days between A and B."""
    joints = _joints(_WEAK, text)
    if len(joints) > _MOST_JOINTS or len(text) > _LONGEST_PART:
        raise Unclear(f"too long to be read at once: {text[:50]!r}...; join shorter parts with 'and then'")
    begins = [0, *(joint.end() for joint in joints)]
    ends = [*(joint.start() for joint in joints), len(text)]

    @cache
    def rest(first: int) -> list[Part] | None:
        if first == len(begins):
            return []
        # The longest first: what can be one part is one.
        for last in reversed(range(first, len(ends))):
            part = _part(text[begins[first] : ends[last]], known, asked)
            following = None if part is None else rest(last + 1)
            if part is not None and following is not None:
                return [part, *following]
        return None

    return rest(0)


def _part(text: str, known: _Known, asked: bool) -> Part | None:
    text = " ".join(text.split())
    for read in (_naming, _figures, _days, _shift, _weekday, _change, _by_name):
        found = read(text, known)
        if found is not None:
            break
    else:
        found = _value(text, asked)
    return found and replace(found, text=known.restored(text))


def _naming(text: str, known: _Known) -> Part | None:
    found = _match(
        rf"(?:(?:call|name|remember|save|store|keep)\s+(?P<of>.+?)(?:\s+as)?|"
        rf"(?:nenne?|merke?|speicher[e]?)(?:\s+dir)?\s+(?P<von>.+?)(?:\s+als)?)\s+(?P<name>{NAME})",
        text,
    )
    of = found and reference(found["of"] or found["von"])
    if not found or not of:
        return None
    if not reference(found["name"]).startswith("${name:"):
        raise Unclear(f"a result can't be called {found['name']!r}, which means something else; take another name")
    return Part(text=text, act="name", of=of, name=found["name"].casefold())


def _figures(text: str, known: _Known) -> Part | None:
    of = rf"(?:(?:are |sind )?(?:of|in|for|von|im|aus|über)\s+)?(?:(?:the|dem) text\s+)?(?:{_QUOTED}|(?P<of>.+))"
    found = _match(
        rf"(?:count|how many|number of|zähle?|wie viele|anzahl)\s+(?:(?:of|the|all|die|der|alle)\s+)*"
        rf"(?P<what>{'|'.join(_FIGURES.values())})\s+{of}",
        text,
    ) or _match(rf"(?:the |die )?(?:text )?(?P<what>statisti(?:cs|ken|k))\s+{of}", text)
    if not found:
        return None
    given = escaped(known.quoted(found["quoted"])) if found["quoted"] is not None else reference(found["of"])
    which = next((name for name, words in _FIGURES.items() if re.fullmatch(words, found["what"], re.IGNORECASE)), "*")
    return (given and Part(text=text, act="call", tool="text_statistics", input={"text": given}, field=which)) or None


def _days(text: str, known: _Known) -> Part | None:
    found = _match(
        r"(?:(?:how many|what are|what is|count|calculate|wie viele|zähle?|berechne)\s+)?(?:(?:the|die)\s+)?"
        r"(?:(?:number of|anzahl der)\s+)?(?P<what>days|weekdays|working days|workdays|tage|werktage|arbeitstage)"
        r"(?:\s+(?:are there|are|is it|sind es|liegen|gibt es|es sind))?\s+(?:from|between|von|vom|zwischen)\s+"
        r"(?P<start>.+?)\s+(?:to|until|till|and|bis zum|bis|und|dem)\s+(?:dem )?(?P<end>\S+|[^\d]+)",
        text,
    )
    if not found:
        return None
    start, end = _date(found["start"]), _date(found["end"])
    if not start or not end:
        return None
    which = "days" if found["what"].casefold() in {"days", "tage"} else "weekdays"
    return Part(text=text, act="call", tool="days_between", input={"start": start, "end": end}, field=which)


def _shift(text: str, known: _Known) -> Part | None:
    asks = rf"(?:(?:{_ASKS}|what date is|which date is|welches datum ist)\s+)?"
    found = (
        _match(rf"{asks}{_COUNT}\s+{_UNIT}\s+(?P<way>after|from|before|nach|vor)\s+(?:dem )?(?P<day>.+)", text)
        or _match(rf"{asks}(?P<day>.+?)\s*(?P<way>[-+]|plus|minus)\s*{_COUNT}\s+{_UNIT}", text)
        or _match(rf"(?P<way>add|addiere?|zähle?)\s+{_COUNT}\s+{_UNIT}\s+(?:to|zu|zum)\s+(?P<day>.+)", text)
        or _match(
            rf"(?P<way>subtract|take|subtrahiere?|ziehe?)\s+{_COUNT}\s+{_UNIT}\s+"
            r"(?:from|von|vom)\s+(?P<day>.+?)(?: ab)?",
            text,
        )
    )
    day = found and _date(found["day"])
    if not found or not day:
        return None
    back = found["way"].casefold() in {"before", "vor", "-", "minus", "subtract", "take"} or _match(
        r"subtrahiere?|ziehe?", found["way"]
    )
    count = int(found["count"]) if found["count"].isdecimal() else 1
    unit = next(name for name, words in _UNITS.items() if re.fullmatch(words, found["unit"], re.IGNORECASE))
    given = {"day": day, unit: -count if back else count}
    return Part(text=text, act="call", tool="add_to_date", input=given, field="date")


def _weekday(text: str, known: _Known) -> Part | None:
    found = _match(
        r"(?:(?:what|which) (?:weekday|day of the week) (?:is|was)|(?:what is )?the weekday of|"
        r"(?:was für ein|welcher) wochentag (?:ist|war)(?: der| am)?)\s+(?P<day>.+)",
        text,
    )
    day = found and _date(found["day"])
    return Part(text=text, act="call", tool="add_to_date", input={"day": day}, field="weekday") if day else None


_CHANGES: tuple[tuple[str, str], ...] = (
    (r"(?:add|addiere?)\s+(?P<a>.+?)\s+(?:to|zu|zum|and|und)\s+(?P<b>.+)", "({b}) + ({a})"),
    (r"(?:addiere?|zähle?)\s+(?P<a>.+?)\s+(?:dazu|hinzu)(?P<b>)", "({b}) + ({a})"),
    (r"(?:subtract|take|subtrahiere?)\s+(?P<a>.+?)\s+(?:from|von|vom)\s+(?P<b>.+)", "({b}) - ({a})"),
    (r"ziehe?\s+(?P<a>.+?)\s+(?:von|vom)\s+(?P<b>.+)\s+ab", "({b}) - ({a})"),
    (r"(?:multiply|multipliziere?)\s+(?P<b>.+?)\s+(?:by|with|mit)\s+(?P<a>.+)", "({b}) * ({a})"),
    (r"(?:divide|dividiere?|teile?)\s+(?P<b>.+?)\s+(?:by|durch)\s+(?P<a>.+)", "({b}) / ({a})"),
    (r"(?:double|verdopp(?:le|el))\s+(?P<b>.+)(?P<a>)", "({b}) * 2"),
    (r"(?:halve|halbiere?)\s+(?P<b>.+)(?P<a>)", "({b}) / 2"),
    (r"(?:square|quadriere?)\s+(?P<b>.+)(?P<a>)", "({b}) ** 2"),
)


def _change(text: str, known: _Known) -> Part | None:
    for pattern, form in _CHANGES:
        found = _match(pattern, text)
        if found:
            a, b = expression(found["a"] or "it"), expression(found["b"] or "it")
            if a and b:
                return Part(text=text, act="call", tool="calculate", input={"expression": form.format(a=a, b=b)})
    return None


def _by_name(text: str, known: _Known) -> Part | None:
    found = _match(
        r"(?:run|use|nutze?|führe?)\s+(?P<tool>[A-Za-z0-9_-]+)(?:\s+(?:with|mit|aus mit|aus))?(?P<rest>(?:\s.*)?)", text
    )
    if not found:
        return None
    if found["tool"] not in known.tools:
        raise Unclear(f"there is no tool {found['tool']!r}; there are: {', '.join(sorted(known.tools))[:1_000]}")
    rest = found["rest"]
    pairs = list(re.finditer(rf"\s+(?P<key>[\w.-]+)=(?:{_QUOTED}|(?P<value>\S+))", rest))
    if "".join(pair.group() for pair in pairs) != rest.rstrip():
        raise Unclear(f"{rest.strip()[:100]!r} is no input: write parameter=value, and a text in quotation marks")
    given = {
        pair["key"]: escaped(known.quoted(pair["quoted"])) if pair["quoted"] else _plain(pair["value"])
        for pair in pairs
    }
    return Part(text=text, act="call", tool=found["tool"], input=given)


def _value(text: str, asked: bool) -> Part | None:
    found = _match(rf"{_ASKS}\s+(?P<rest>.+)", text)
    rest = found["rest"] if found else text
    of = reference(rest)
    if of:
        # A lone word may be anything.
        return Part(text=text, act="recall", of=of) if found or asked or not of.startswith("${name:") else None
    written = expression(rest)
    return Part(text=text, act="call", tool="calculate", input={"expression": written}) if written else None


def _date(text: str) -> str:
    """Returns a date as ISO has it, or what stands for one; nothing where it is none. Raises Unclear."""
    text = re.sub(r"^(?:the|der|den|dem|am|vom|zum)\s+(?=\d)", "", text.strip(), flags=re.IGNORECASE)
    if re.fullmatch(r"today|heute", text, re.IGNORECASE):
        return "${today}"
    found = re.fullmatch(r"(\d{4})-(\d{1,2})-(\d{1,2})", text)
    turned = re.fullmatch(r"(\d{1,2})\.\s?(\d{1,2})\.\s?(\d{4})", text)
    if not found and not turned:
        return reference(text)
    year, month, day = map(int, found.groups() if found else reversed(turned.groups()) if turned else ())
    try:
        return date(year, month, day).isoformat()
    except ValueError:
        raise Unclear(f"{text!r} is no date of the calendar") from None


def _plain(word: str) -> Any:
    """Returns what an unquoted value means: a reference, a number, true, false, or the word."""
    if word.casefold() in {"true", "false"}:
        return word.casefold() == "true"
    if re.fullmatch(r"-?\d{1,15}", word):
        return int(word)
    if re.fullmatch(r"-?\d{1,15}\.\d{1,15}", word):
        return float(word)
    if word.casefold() in {"it", "es"}:
        return "${it}"
    return (word.startswith("$") and reference(word[1:])) or escaped(word)


def _match(pattern: str, text: str) -> re.Match[str] | None:
    return re.fullmatch(pattern, text, re.IGNORECASE | re.DOTALL)
