"""Entities that their spelling tells: laws, sums and counts, dates, company forms."""

from __future__ import annotations

__all__ = ["COMPANY_FORM", "claim_forms", "claim_patterns", "is_company_form"]

import re
from decimal import Decimal

from stepwire_server.assistant.claims import Claims
from stepwire_server.assistant.concepts import concept_of
from stepwire_server.assistant.fees import parse_number
from stepwire_server.assistant.lexicon import Token, fold, is_function_word
from stepwire_server.assistant.nouns import kind_of_noun

_LAW_NAME = (
    r"(?:SGB\s+[IVX]+|[A-ZÄÖÜ][\wäöüß]*(?:G|GB|O|V|VO|VwV)\b(?:\s(?:NRW|Bln|LSA|M-V))?"
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


def is_company_form(text: str) -> bool:
    """Whether the text ends in a company form, in either case, or is one in words."""
    last = re.search(rf"{_FORM}$", text) or _FORM_LOWER.search(text) or _FORM_LONG.search(text)
    return last is not None or re.search(r"(?:gesellschaft|genossenschaft|unternehmen|verein)$", fold(text)) is not None


def claim_patterns(claims: Claims) -> None:
    """Adds laws, sums, dates and counts, in this order."""
    query = claims.query
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


def claim_forms(claims: Claims, tokens: tuple[Token, ...]) -> None:
    """Adds company forms, with the name before them."""
    query = claims.query
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
