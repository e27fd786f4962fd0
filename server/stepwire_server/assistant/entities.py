"""What a query names: places, organisations, documents, procedures, laws, amounts and dates.

Patterns come first (patterns.py), then known places, then nouns by the heads of their compounds, then names by their
place in the sentence. A stretch of the query belongs to one entity at most.
"""

from __future__ import annotations

__all__ = ["Vocabulary", "find_entities"]

import re
from collections.abc import Sequence
from dataclasses import dataclass

from stepwire_server.assistant.claims import Claims, Entity, EntityType
from stepwire_server.assistant.concepts import concept_of
from stepwire_server.assistant.lexicon import Language, Token, is_function_word, word_set
from stepwire_server.assistant.nouns import NounKind, is_building, kind_of_noun
from stepwire_server.assistant.patterns import claim_forms, claim_patterns
from stepwire_server.assistant.place_names import claim_known_places, claim_unknown_places
from stepwire_server.assistant.places import Gazetteer


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """What documents are about."""

    words: frozenset[str] = frozenset()
    """Stems of the words of their topics."""
    phrases: frozenset[tuple[str, ...]] = frozenset()
    """Topics of several words, as stems."""
    names: frozenset[str] = frozenset()
    """Stems of the nouns by which documents without topics are called: titles, names of files."""


def find_entities(
    query: str, *, tokens: tuple[Token, ...], language: Language, gazetteer: Gazetteer, vocabulary: Vocabulary
) -> tuple[Entity, ...]:
    """Returns what the query names, in its order."""
    claims = Claims(query)
    cased = any(token.capital for token in tokens[1:])
    claim_patterns(claims)
    claim_forms(claims, tokens)
    claim_known_places(claims, tokens, gazetteer=gazetteer, cased=cased)
    _nouns(claims, tokens, language=language, cased=cased, phrases=vocabulary.phrases)
    claim_unknown_places(claims, tokens, language=language, cased=cased, vocabulary=vocabulary.words)
    _names(claims, tokens)
    return tuple(sorted(claims.found, key=lambda entity: entity.start))


def _nouns(
    claims: Claims, tokens: tuple[Token, ...], *, language: Language, cased: bool, phrases: frozenset[tuple[str, ...]]
) -> None:
    for index, token in enumerate(tokens):
        if not token.word or not claims.free(token.start, token.end):
            continue
        german = (token.capital or not cased or _PLAIN_NOUN.search(token.folded)) and _german_kind(token)
        english: NounKind | None = kind_of_noun(token.folded, language="en") if language == "en" else None
        if english:
            start, end = _english_chain(claims, tokens, index)
            english = kind_of_noun(tokens[end].folded, language="en") or english
            if start == end and token.folded in _SECOND_PARTS:
                continue
            if english == "organisation" and start == index and not token.capital:
                # "the office" names no office.
                continue
            claims.add(english, tokens[start].start, tokens[end].end)
        elif german and (token.capital or language == "de"):
            first = _with_adjectives(claims, tokens, index, law=german == "law", phrases=phrases)
            claims.add(german, first.start, _with_object(tokens, index).end)


def _with_adjectives(
    claims: Claims, tokens: tuple[Token, ...], index: int, *, law: bool, phrases: frozenset[tuple[str, ...]]
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


def _english_chain(claims: Claims, tokens: tuple[Token, ...], index: int) -> tuple[int, int]:
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


# A paper only as the second part of a name ("tax return"); alone it may be a verb or anything.
_SECOND_PARTS = word_set("return returns plate plates record records bill slip statement register")
# No other word ends like these, so they are nouns in lower case too, wherever they stand.
_PLAIN_NOUN = re.compile(r"(?:.{4,}ung|.antrag|ausweis|bescheinigung|urkunde|behorde|erlaubnis)(?:en|s)?$")
_ENGLISH_ADJECTIVES = word_set("valid local nearest responsible german new old cheap next first second")


def _names(claims: Claims, tokens: tuple[Token, ...]) -> None:
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
