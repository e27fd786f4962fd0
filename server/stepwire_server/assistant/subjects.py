"""What a query is about, and of a comparison what is compared."""

from __future__ import annotations

__all__ = ["SUBJECTS", "items_of", "subject_of", "together_with"]

from collections.abc import Sequence
from itertools import pairwise

from stepwire_server.assistant.claims import Entity
from stepwire_server.assistant.concepts import concept_of
from stepwire_server.assistant.lexicon import BEING, DETERMINERS, Language, Token, is_function_word, word_set
from stepwire_server.assistant.nouns import is_building
from stepwire_server.assistant.questions import Sentence

SUBJECTS = ("document", "procedure", "organisation")
"""Types of entities that a query can be about."""
_SPLIT_PREFIXES = word_set("um an ab ein aus zu vor auf nach mit")


def items_of(*, words: Sequence[Token], entities: Sequence[Entity], sentence: Sentence) -> tuple[str, ...]:
    """Returns what is compared, two at least, or nothing."""
    choice = any(token.folded in ("oder", "or", "als", "than") for token in sentence.words)
    asks = sentence.kind != "statement"
    wanted = sentence.means("compare") or (asks and choice and sentence.means("prefer"))
    if not wanted and not (sentence.kind in ("statement", "what", "which") and _stand_side_by_side(words, entities)):
        return ()
    for types in (("organisation",), ("document",), ("procedure",), SUBJECTS, (*SUBJECTS, "law"), ("location",)):
        named = tuple(dict.fromkeys(entity.text for entity in entities if entity.type in types))
        if len(named) > 1:
            return named
    if pair := _around_or(words):
        return pair
    taken = [entity for entity in entities if entity.type in ("location", "date", "amount")]
    nouns = [token for token in words if not is_function_word(token) and not concept_of(token.stem)]
    texts = tuple(
        dict.fromkeys(token.text for token in nouns if not any(e.start <= token.start < e.end for e in taken))
    )
    return texts if len(texts) == 2 else ()


def _stand_side_by_side(words: Sequence[Token], entities: Sequence[Entity]) -> bool:
    """Whether two of a kind stand with nothing but "or" and an article between them."""
    for one, other in pairwise(entity for entity in entities if entity.type in SUBJECTS):
        between = [token.folded for token in words if one.end <= token.start < other.start]
        if one.type == other.type and between and between[0] in ("oder", "or") and DETERMINERS.issuperset(between[1:]):
            return True
    return False


def _around_or(words: Sequence[Token]) -> tuple[str, ...]:
    """Returns the two words with content on the sides of "or", with articles between at most; otherwise nothing."""
    for index, token in enumerate(words):
        following = [other for other in words[index + 1 :] if other.folded not in DETERMINERS]
        if index and following and token.folded in ("oder", "or"):
            pair = words[index - 1], following[0]
            if not any(is_function_word(word) or concept_of(word.stem) for word in pair):
                return pair[0].text, pair[1].text
    return ()


def subject_of(words: Sequence[Token], *, entities: Sequence[Entity], language: Language, sentence: Sentence) -> str:
    """Returns what the query is about: the first document, procedure or organisation, else the noun asked about, in the
    sentence that asks before the others, else the verb that tells it. Empty where nothing has content."""
    for entity in entities:
        if entity.type in SUBJECTS:
            return entity.text
    cased = any(token.capital for token in words[1:])
    statement = sentence.kind == "statement"
    others = [token for token in words if not any(e.start <= token.start < e.end for e in entities)]
    content = [token for token in others if not is_function_word(token) and "greet" not in concept_of(token.stem)]
    plain = [
        token
        for token in content
        if not concept_of(token.stem) - {"place"} and not is_building(token.folded) and token.folded not in BEING
    ]
    firsts = {words[0], *sentence.words[:1]} if words else set()
    if language == "en":
        # Nothing marks a noun in English but the word before it; a name has a capital.
        named = [token for token in plain if token.capital and token not in firsts and token is not words[1]]
        nouns = [
            token
            for index, token in enumerate(words)
            if token in named or (token in plain and _is_determined(words, index))
        ]
    else:
        # A capital tells no noun at the beginning of a sentence; keywords begin with one.
        nouns = [token for token in plain if (token.capital and (statement or token not in firsts)) or not cased]
    if nouns:
        return next((noun for noun in nouns if noun in sentence.words), nouns[0]).text
    acts = [token for token in content if "act" in concept_of(token.stem)]
    if language == "en" and not acts:
        # An infinitive: the word behind "to".
        acts = [
            token for index, token in enumerate(words) if token in content and index and words[index - 1].folded == "to"
        ]
    if acts:
        return _infinitive(acts, words)
    for entity in entities:
        if entity.type == "law":
            return entity.text
    rest = plain or content
    return rest[-1].text if rest else (entities[0].text if entities else "")


def together_with(subject: str, *, words: Sequence[Token], entities: Sequence[Entity]) -> tuple[str, ...]:
    """Returns the papers that are asked for together with the subject: joined to it by "and", a comma, articles."""
    papers = [entity for entity in entities if entity.type == "document"]
    found: list[str] = []
    for one, other in pairwise(papers):
        between = [token.folded for token in words if one.end <= token.start < other.start]
        joined = DETERMINERS.union(_AND).issuperset(between) and (found or one.text == subject)
        if not joined:
            break
        found.append(other.text)
    return tuple(name for name in dict.fromkeys(found) if name != subject)


_AND = word_set("und and sowie plus")


def _infinitive(acts: Sequence[Token], words: Sequence[Token]) -> str:
    """Returns the last verb; of one that is split ("melde ... um") the whole."""
    verb = acts[-1]
    last = words[-1]
    if last is not verb and last.folded in _SPLIT_PREFIXES and verb.folded.endswith("e"):
        return last.text.lower() + verb.text.lower() + "n"
    return verb.text


def _is_determined(words: Sequence[Token], index: int) -> bool:
    """Whether an article or possessive stands before the word, with an adjective between them at most."""
    before = [token.folded for token in words[max(0, index - 2) : index]]
    return bool(before) and (
        before[-1] in DETERMINERS or (before[0] in DETERMINERS and is_function_word(words[index - 1]))
    )
