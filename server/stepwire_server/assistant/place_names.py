"""Entities that are places: known ones, and unknown ones by the words around them."""

from __future__ import annotations

__all__ = ["claim_known_places", "claim_unknown_places"]

import re

from stepwire_server.assistant.claims import Claims
from stepwire_server.assistant.concepts import concept_of
from stepwire_server.assistant.lexicon import Language, Token, is_function_word, word_set
from stepwire_server.assistant.nouns import is_building
from stepwire_server.assistant.patterns import COMPANY_FORM
from stepwire_server.assistant.places import Gazetteer

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


def claim_known_places(claims: Claims, tokens: tuple[Token, ...], *, gazetteer: Gazetteer, cased: bool) -> None:
    """Adds the places of the gazetteer; a common word that is one too only where the grammar says so."""
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
            text_end = end + 1 if place.name.endswith(")") and claims.query[end : end + 1] == ")" else end
            claims.add("location", token.start, text_end, value=place.name)
        index += count


def claim_unknown_places(
    claims: Claims, tokens: tuple[Token, ...], *, language: Language, cased: bool, vocabulary: frozenset[str]
) -> None:
    """Adds names behind "in" or an office, or with the ending of a town's name; no word of the vocabulary."""
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
