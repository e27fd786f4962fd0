"""What a query names: places, organisations, documents, procedures, laws, amounts and dates.

Patterns come first (laws, dates, sums, company forms), then known places, then nouns by the heads of their compounds,
then names by their place in the sentence. A stretch of the query belongs to one entity at most.
"""

from __future__ import annotations

__all__ = ["COMPANY_FORM", "Entity", "EntityType", "Vocabulary", "find_entities", "is_company_form"]

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from .concepts import concept_of
from .fees import parse_number
from .lexicon import Language, Token, fold, is_function_word, word_set
from .nouns import NounKind, is_building, kind_of_noun
from .places import Gazetteer

EntityType = Literal["location", "organisation", "document", "procedure", "law", "amount", "date"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entity:
    """One thing that a query names."""

    type: EntityType
    """What it is."""
    text: str
    """As it stands in the query, without its article."""
    start: int
    """Where it begins in the query, in characters."""
    value: str = ""
    """Of an amount of money: its sum in euros. Of a location: the name under which it is known."""

    @property
    def end(self) -> int:
        """Where it ends, exclusive."""
        return self.start + len(self.text)


_LAW_NAME = (
    r"(?:[A-ZÄÖÜ][\wäöüß]*(?:G|GB|O|V|VO|VwV)\b(?:\s(?:NRW|Bln|LSA|M-V))?|SGB\s+[IVX]+"
    r"|[A-ZÄÖÜ][a-zäöüß]+(?:gesetz|gesetzbuch|ordnung)\w*)"
)
_PARAGRAPH = (
    r"(?:\s*(?:Abs(?:\.|atz)|Satz|S\.|Nr\.|Nummer|Buchst(?:\.|abe))\s*\d*[a-z]?"
    r"|\s*(?:bis|und|,|-|–)\s*\d+[a-z]?(?=\s+[A-Z]|\s*$|\s+bis))*"
)
_LAW = re.compile(
    r"(?:§§?\s*\d+[a-z]?|(?i:\b(?:Art(?:\.|ikel|icle)|Paragraf|Paragraph|section))\s*\d+[a-z]?)\b"
    rf"{_PARAGRAPH}(?:\s+(?:of\s+the\s+|des\s+|der\s+|im\s+)?{_LAW_NAME})?"
)
# An English name of a law: "Building Code", "Trade Regulation Act".
_LAW_ENGLISH = re.compile(r"\b(?:[A-Z][a-z]+\s+(?:of\s+)?){1,4}(?:Act|Code|Law|Regulation|Ordinance)\b")
# An abbreviation of a law: capitals within the word and the ending of Gesetz, Gesetzbuch, Ordnung or Verordnung.
_LAW_SHORT = re.compile(r"\b(?:[A-ZÄÖÜ][a-zäöüß]*){1,5}[a-zäöüß]*(?:G|GB|GO|O|VO|V)\b")
_LAW_CAPITALS = re.compile(
    r"\b(?:BGB|HGB|GG|StGB|ZPO|StPO|AO|BMG|LBO|HBO|MBO|AGG|DSGVO|GDPR|BDSG|EStG|UStG|InsO|BauO|FZV|BVFG|IFG|WEG|FGO|SGG"
    r"|SGB(?:\s[IVX]+)?|VOB|HOAI)\b(?:\s(?:NRW|Bln|LSA))?"
)
_FORM = (
    r"(?:GmbH\s*&\s*Co\.?\s*KG(?:aA)?|gGmbH|GmbH|KGaA|UG(?:\s*\(haftungsbeschränkt\))?|PartG\s?mbB|PartG|GbR|eGbR|OHG|EWIV|VVaG"
    r"|e\.\s?V\.|e\.\s?K\.|e\.\s?G\.|eG|eK|SE|AG|KG|Ltd\.?|Inc\.?|LLC|SARL|S\.A\.|B\.V\.)"
)
COMPANY_FORM = re.compile(rf"(?<![\w.-]){_FORM}(?![\w-])")
"""A company form by its abbreviation, written as it is."""
_FORM_LOWER = re.compile(
    r"(?<![\w.-])(?:gmbh\s*&\s*co\.?\s*kg|ggmbh|gmbh|kgaa|ug|ag|kg|ohg|gbr|egbr|partg|e\.v\.|e\.k\.)(?![\w-])"
)
_FORM_LONG = re.compile(
    r"\b(?:gesellschaft mit beschränkter haftung|gesellschaft bürgerlichen rechts|offene handelsgesellschaft"
    r"|eingetragener verein|eingetragene genossenschaft|eingetragener kaufmann|eingetragene kauffrau"
    r"|limited liability company|sole proprietorship|joint stock company|limited partnership|general partnership)\b",
    re.IGNORECASE,
)
_NAME = r"(?:[A-ZÄÖÜ][\wäöüß&.-]*\s+)"

_NUMBER = r"\d{1,3}(?:[.,\u00a0 ]\d{3})+(?:[.,]\d{1,2})?|\d+(?:[.,]\d+)?"
_AMOUNT = re.compile(
    rf"(?:(?P<sign>€|EUR)\s?)?(?<![\w.,])(?P<sum>{_NUMBER})\s?(?P<scale>(?:Mio\.?|Mrd\.?|Millionen|Million|million|Tsd\.?|Tausend|tausend|k)(?=[\s€]))?\s?"
    r"(?P<unit>Euro(?:s)?\b|EUR\b|€)?",
    re.IGNORECASE,
)

_NUMBER_WORD = (
    r"(?:zwei|drei|vier|fünf|sechs|sieben|acht|neun|zehn|elf|zwölf|dreizehn|vierzehn|fünfzehn|sechzehn|siebzehn|achtzehn"
    r"|neunzehn|zwanzig|dreißig|vierzig|fünfzig|sechzig|siebzig|achtzig|neunzig|hundert|tausend|anderthalb|eineinhalb"
    r"|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen|seventeen|eighteen"
    r"|nineteen|twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety|hundred|thousand)"
)
_UNIT = (
    r"(?:m²|m³|m2|m3|km²|cm²|qm|qkm|cbm|ccm|km|cm|mm|kg|kw|kwh|kwp|ha|ar|ps|hp|db|ml|g|m|t|l|°C|%|‰|Prozent|Promille|percent"
    r"|per cent"
    r"|(?:Quadrat|Kubik|Kilo|Zenti)?[Mm]eter[ns]?|(?:square|cubic)\s+(?:metres?|meters?|feet)|metres?|meters?|feet|kilomet(?:re|er)s?|hectares?|acres?"
    r"|Liter|Gramm|Kilogramm|Tonnen|Hektar"
    r"|Minuten?|Stunden?|Tag(?:e|en)?|Wochen?|Monat(?:e|en)?|Jahr(?:e|en)?|(?:Arbeits|Werk|Kalender)tag(?:e|en)?"
    r"|minutes?|hours?|days?|weeks?|months?|years?|litres?|kilos?|grams?|tons?)"
)
# A number with its unit, or with the noun that it counts.
_COUNT = re.compile(
    rf"(?<![\w.,-])(?:{_NUMBER}|(?i:{_NUMBER_WORD}))\s?(?:(?i:{_UNIT})(?![\w²³])|(?<=\s)[A-ZÄÖÜ][a-zäöüß]{{2,}}(?:e|en|er|ern|n|s)\b)"
)

_MONTH = (
    r"(?:Januar|Jänner|Februar|März|Maerz|April|Mai|Juni|Juli|August|September|Oktober|November|Dezember"
    r"|January|February|March|May|June|July|October|December)"
)
_DATE = re.compile(
    r"\b\d{4}-\d{2}-\d{2}\b|(?<![\d.])\d{1,2}\.\s?\d{1,2}\.(?:\s?\d{4}|\d{2})?(?!\d)"
    rf"|(?<!\w)\d{{1,2}}(?:\.|st|nd|rd|th)?\s+(?:of\s+)?{_MONTH}(?:,?\s+\d{{4}})?\b"
    rf"|\b{_MONTH}\s+\d{{1,2}}(?:st|nd|rd|th)?,?\s+\d{{4}}\b"
    rf"|\b(?:(?:Anfang|Mitte|Ende)\s+)?{_MONTH}(?:\s+\d{{4}})?\b"
    r"|(?<![\w.,-])(?:19|20)\d{2}(?![\w-]|[.,]\d|\s?(?:Euro|EUR|€))",
    re.IGNORECASE,
)

_BEFORE_PLACE = word_set("in nach aus bei near")
_PLACE_LINK = word_set("am im an ob bei vor")
_PLACE_FRONT = word_set("bad sankt st gross klein landkreis kreis")
_PLACE_NAME = re.compile(
    r".{2,}(?:dorf|hausen|burg|kirchen|hofen|stetten|weiler|ingen|buttel|hagen|rode|stedt|stadt|bach|furt|leben|munde|brucken|heim)"
)
_NO_PLACE = word_set(
    "person advance cash writing general english german deutsch englisch bar raten rente teilzeit vollzeit"
    " zukunft papierform praxis ordnung kraft bezug hinsicht anspruch auftrag verbindung verzug hause kurze folge"
    " form summe kopie euro total fact detail order case time partnerschaft elternzeit ausbildung online papier"
    " ruhe europa eu ausland inland bearbeitung order"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """What documents are about."""

    words: frozenset[str] = frozenset()
    """Stems of the words of their topics."""
    phrases: frozenset[tuple[str, ...]] = frozenset()
    """Topics of several words, as stems."""


class _Claims:
    """Entities found so far; none overlaps another."""

    def __init__(self, query: str) -> None:
        self._query = query
        self.found: list[Entity] = []

    def free(self, start: int, end: int) -> bool:
        return all(end <= entity.start or start >= entity.end for entity in self.found)

    def add(self, kind: EntityType, start: int, end: int, *, value: str = "") -> None:
        text = self._query[start:end]
        start += len(text) - len(text.lstrip())
        text = text.strip()
        if text and self.free(start, start + len(text)):
            self.found.append(Entity(type=kind, text=text, start=start, value=value))


def is_company_form(text: str) -> bool:
    """Whether the text ends in a company form, in either case, or is one in words."""
    last = re.search(rf"{_FORM}$", text) or _FORM_LOWER.search(text) or _FORM_LONG.search(text)
    return last is not None or re.search(r"(?:gesellschaft|genossenschaft|unternehmen|verein)$", fold(text)) is not None


def find_entities(
    query: str, *, tokens: tuple[Token, ...], language: Language, gazetteer: Gazetteer, vocabulary: Vocabulary
) -> tuple[Entity, ...]:
    """Returns what the query names, in its order."""
    claims = _Claims(query)
    cased = any(token.capital for token in tokens[1:])
    _patterns(claims, query)
    _forms(claims, query, tokens=tokens, cased=cased)
    _known_places(claims, tokens, gazetteer=gazetteer, cased=cased)
    _nouns(claims, tokens, language=language, cased=cased, phrases=vocabulary.phrases)
    _unknown_places(claims, tokens, language=language, cased=cased, vocabulary=vocabulary.words)
    _names(claims, tokens)
    return tuple(sorted(claims.found, key=lambda entity: entity.start))


def _patterns(claims: _Claims, query: str) -> None:
    for found in _LAW.finditer(query):
        claims.add("law", *found.span())
    for found in _LAW_ENGLISH.finditer(query):
        claims.add("law", *found.span())
    for pattern in (_LAW_CAPITALS, _LAW_SHORT):
        for found in pattern.finditer(query):
            # Two capitals at least, and none of the company forms, which end alike.
            if (
                sum(letter.isupper() for letter in found[0]) >= 2
                and not COMPANY_FORM.fullmatch(found[0])
                and _is_law(found[0])
            ):
                claims.add("law", *found.span())
    for found in _AMOUNT.finditer(query):
        if found["sign"] or found["unit"]:
            claims.add("amount", *found.span(), value=str(_sum(found["sum"], scale=found["scale"] or "")))
    for found in _DATE.finditer(query):
        if found[0].lower() not in ("may", "march") and not (found[0].lower() == "mai" and found[0].islower()):
            claims.add("date", *found.span())
    for found in _COUNT.finditer(query):
        claims.add("amount", *found.span())


def _is_law(text: str) -> bool:
    return text in _CAPITALS or any(letter.islower() for letter in text) or bool(_LAW_CAPITALS.fullmatch(text))


_CAPITALS = frozenset({"BGB", "HGB", "GG", "AO", "ZPO", "StPO"})


def _sum(text: str, *, scale: str) -> Decimal:
    german = text
    if re.fullmatch(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?", text):
        german = text.replace(",", "").replace(".", ",")
    elif re.fullmatch(r"\d+\.\d{1,2}", text):
        german = text.replace(".", ",")
    return parse_number(german, scale="tausend" if scale == "k" else scale)


def _forms(claims: _Claims, query: str, *, tokens: tuple[Token, ...], cased: bool) -> None:
    for found in _FORM_LONG.finditer(query):
        claims.add("organisation", *found.span())
    for found in COMPANY_FORM.finditer(query):
        start = found.start()
        before = [token for token in tokens if token.end <= start]
        # A name before the form belongs to it: "Muster AG". Nouns that mean something of their own do not.
        while before and before[-1].end == start - 1 and _is_name(before[-1], first=len(before) == 1):
            start = before.pop().start
        claims.add("organisation", start, found.end())
    for found in _FORM_LOWER.finditer(query):
        if not re.search(r"\d\s*$", query[: found.start()]):
            claims.add("organisation", *found.span())


def _is_name(token: Token, *, first: bool) -> bool:
    if first or not token.capital or is_function_word(token) or COMPANY_FORM.fullmatch(token.text):
        return False
    return not concept_of(token.stem) and kind_of_noun(token.folded, language="de") is None


def _known_places(claims: _Claims, tokens: tuple[Token, ...], *, gazetteer: Gazetteer, cased: bool) -> None:
    index = 0
    while index < len(tokens):
        found = gazetteer.match(tokens, index)
        if found is None:
            index += 1
            continue
        place, count = found
        token, last = tokens[index], tokens[index + count - 1]
        after_preposition = index > 0 and tokens[index - 1].folded in (*_BEFORE_PLACE, "fur", "von", "for", "zu")
        certain = after_preposition or (not gazetteer.is_homonym(place.name) and (token.capital or not cased))
        at_end = token.capital and index > 0 and index + count == len(tokens)
        end = last.end
        if certain or at_end:
            text_end = end + 1 if place.name.endswith(")") and claims._query[end : end + 1] == ")" else end
            claims.add("location", token.start, text_end, value=place.name)
        index += count


def _nouns(
    claims: _Claims, tokens: tuple[Token, ...], *, language: Language, cased: bool, phrases: frozenset[tuple[str, ...]]
) -> None:
    for index, token in enumerate(tokens):
        if not token.word or not claims.free(token.start, token.end):
            continue
        german = (token.capital or not cased) and _german_kind(token)
        english: NounKind | None = kind_of_noun(token.folded, language="en") if language == "en" else None
        if english:
            start, end = _english_chain(claims, tokens, index)
            english = kind_of_noun(tokens[end].folded, language="en") or english
            if english == "organisation" and start == index and not token.capital:
                # "the office" names no office.
                continue
            claims.add(english, tokens[start].start, tokens[end].end)
        elif german and (token.capital or language == "de"):
            first = _with_adjectives(claims, tokens, index, law=german == "law", phrases=phrases)
            claims.add(german, first.start, _with_object(tokens, index).end)


def _with_adjectives(
    claims: _Claims, tokens: tuple[Token, ...], index: int, *, law: bool, phrases: frozenset[tuple[str, ...]]
) -> Token:
    """Returns the first token of a noun's name: the noun itself, or the adjective before it that belongs to the name.

    An adjective belongs to a law's name ("Hessische Bauordnung"), and wherever documents have the whole as a topic.
    """
    if index == 0:
        return tokens[index]
    before, token = tokens[index - 1], tokens[index]
    of_state = law and before.capital and re.search(r"(?:isch|deutsch)e[nrsm]?$", before.folded) is not None
    if claims.free(before.start, before.end) and (of_state or (before.stem, token.stem) in phrases):
        return before
    return token


def _with_object(tokens: tuple[Token, ...], index: int) -> Token:
    """Returns the last token of a noun's name: an application alone says nothing, "Antrag auf X" is its name."""
    following = tokens[index + 1 : index + 3]
    if tokens[index].folded != "antrag" or len(following) < 2 or following[0].folded != "auf":
        return tokens[index]
    named = following[1].word and not is_function_word(following[1]) and _german_kind(following[1]) is None
    return following[1] if named else tokens[index]


def _german_kind(token: Token) -> EntityType | None:
    kind = kind_of_noun(token.folded, language="de")
    if (
        kind
        and not token.capital
        and concept_of(token.stem)
        and not re.search(r"(?:ung|antrag|anzeige)(?:en|s)?$", token.folded)
    ):
        return None
    if kind and concept_of(token.stem) & {"need", "cost", "time", "contact", "place", "define", "compare", "company"}:
        return None
    return kind


def _english_chain(claims: _Claims, tokens: tuple[Token, ...], index: int) -> tuple[int, int]:
    """Returns the span of the head at the index and what belongs to its name: "building permit", "change of use"."""
    start = index
    while start > 0:
        before = tokens[start - 1]
        if (
            not before.word
            or is_function_word(before)
            or concept_of(before.stem) - {"act", "company", "place"}
            or (concept_of(before.stem) & {"act"} and not before.folded.endswith("ing"))
            or not claims.free(before.start, before.end)
            or before.folded in _ENGLISH_ADJECTIVES
            or is_building(before.folded)
        ):
            break
        start -= 1
    end = index
    while end + 1 < len(tokens) and kind_of_noun(tokens[end + 1].folded, language="en"):
        end += 1
    if kind_of_noun(tokens[end].folded, language="en") != "organisation" and _is_named_by(tokens[end + 1 : end + 3]):
        end += 2
    return start, end


def _is_named_by(following: Sequence[Token]) -> bool:
    """Whether "of" and a bare noun follow, which belong to the name."""
    if len(following) < 2 or following[0].folded != "of":
        return False
    noun = following[1]
    return noun.word and not noun.capital and not is_function_word(noun)


_ENGLISH_ADJECTIVES = word_set("valid local nearest responsible german new old cheap next first second")


def _unknown_places(
    claims: _Claims, tokens: tuple[Token, ...], *, language: Language, cased: bool, vocabulary: frozenset[str]
) -> None:
    for index, token in enumerate(tokens):
        if not token.word or not claims.free(token.start, token.end) or is_function_word(token):
            continue
        before = tokens[index - 1] if index else None
        if token.stem in vocabulary or token.folded in _NO_PLACE or concept_of(token.stem) or is_building(token.folded):
            continue
        after_preposition = before is not None and (
            (before.folded in _BEFORE_PLACE and (token.capital or not cased))
            or (language == "en" and token.capital and before.folded in ("from", "to"))
        )
        after_office = (
            before is not None
            and token.capital
            and any(entity.type == "organisation" and entity.end == before.end for entity in claims.found)
            and not COMPANY_FORM.fullmatch(before.text)
        )
        by_name = token.capital and cased and index > 0 and _PLACE_NAME.fullmatch(token.folded) is not None
        if after_preposition or after_office or by_name:
            end = _place_end(tokens, index)
            claims.add("location", token.start, end.end)


def _place_end(tokens: tuple[Token, ...], index: int) -> Token:
    """Returns the last token of a place's name: "Bad Muster", "Muster am Fluss", "Neustadt an der Muster"."""
    end = index
    if tokens[end].folded in _PLACE_FRONT and end + 1 < len(tokens) and tokens[end + 1].word:
        end += 1
    following = tokens[end + 1 : end + 4]
    if following and following[0].folded in _PLACE_LINK:
        step = 2 if len(following) > 2 and following[1].folded in ("der", "den") else 1
        if len(following) > step and following[step].capital:
            end += step + 1
    return tokens[end]


def _names(claims: _Claims, tokens: tuple[Token, ...]) -> None:
    """Adds organisations that only their spelling or their place in the sentence tells: capitals, the seat of X."""
    shouted = all(token.text.isupper() for token in tokens if token.word)
    for index, token in enumerate(tokens):
        if not token.word or not claims.free(token.start, token.end):
            continue
        if re.fullmatch(r"[A-ZÄÖÜ]{2,6}|[A-ZÄÖÜ]+&[A-ZÄÖÜ]+", token.text) and not shouted:
            claims.add("organisation", token.start, token.end)
        elif index > 1 and token.capital and _is_owner(tokens, index):
            end = index
            while end + 1 < len(tokens) and tokens[end + 1].capital and tokens[end + 1].word:
                end += 1
            claims.add("organisation", token.start, tokens[end].end)


def _is_owner(tokens: tuple[Token, ...], index: int) -> bool:
    """Whether the word before says that a company's seat, board or the like is this one's."""
    return tokens[index - 1].folded in _OF and "company" in concept_of(tokens[index - 2].stem)


_OF = word_set("von vom der des of bei")
