"""What kind of answer a query wants, from the sentence that asks and from what the query names."""

from __future__ import annotations

__all__ = ["Intent", "intent_of"]

import re
from collections.abc import Sequence
from typing import Literal

from stepwire_server.assistant.claims import Entity
from stepwire_server.assistant.concepts import concept_of
from stepwire_server.assistant.lexicon import BEING, Token, is_function_word, word_set
from stepwire_server.assistant.nouns import is_building
from stepwire_server.assistant.patterns import is_company_form
from stepwire_server.assistant.questions import PEOPLE, Sentence
from stepwire_server.assistant.subjects import SUBJECTS

Intent = Literal[
    "fact", "procedure", "comparison", "timeline", "calculation", "definition", "location", "contact", "unknown"
]


def intent_of(
    sentence: Sentence, *, words: Sequence[Token], entities: Sequence[Entity], concepts: frozenset[str], known: bool
) -> Intent:
    """Returns the intent of a query that compares nothing.

    `concepts`: what its words mean. `known`: whether a word is a topic of the documents.
    """
    kind, means = sentence.kind, sentence.means
    kinds = {entity.type for entity in entities}
    named = bool(kinds & {*SUBJECTS, "law"}) or known
    if (
        not named
        and not concepts - {"do", "company", "prefer"}
        and not _asks_of_the_world(sentence, words=words, entities=entities)
    ):
        return "unknown"
    if kind == "what" and _asks_what_it_is(sentence) and all(map(is_function_word, sentence.after[1:])):
        # "What is that?": the rest of the sentence only tells where the word was met.
        return "definition"
    match kind:
        case "how_long" | "when":
            return "contact" if means("contact") else "timeline"
        case "how_much":
            return "calculation" if means("cost") or _names_tax(sentence.words) or _has_no_noun(sentence) else "fact"
        case "yes_no" if not means("cost", "time", "contact"):
            return "fact"
        case "who" | "why":
            return "contact" if kind == "who" and means("contact") else "fact"
        case _:
            pass
    if means("contact"):
        return "contact"
    if means("cost"):
        return "calculation"
    if means("time"):
        return "timeline"
    if kind == "where" or (means("place") and not means("act")) or _asks_for_a_building(sentence):
        return "location"
    if "organisation" in kinds and (means("way") or _asks_whither(sentence)):
        return "location"
    if means("responsible") or _asks_for_a_law(sentence):
        return "fact"
    if (means("define") and kind != "how") or (kind == "what" and _asks_what_it_is(sentence)):
        return "definition"
    if kind == "how" and _measures(sentence):
        return "fact"
    if kind == "how":
        return "procedure" if named or means("act", "need") else "fact"
    if means("need"):
        return "procedure"
    if kind == "statement" and means("duty"):
        return "fact"
    if kind == "statement":
        return _intent_of_statement(words, entities=entities, concepts=concepts, known=known)
    if (
        kind == "what"
        and means("act", "do")
        and not means("consequence")
        and any(token.folded in PEOPLE for token in sentence.words)
    ):
        return "procedure"
    return "fact"


def _asks_of_the_world(sentence: Sentence, *, words: Sequence[Token], entities: Sequence[Entity]) -> bool:
    """Whether a question that names nothing of administration still asks after a fact, a place or a time."""
    if sentence.kind in ("statement", "yes_no") or (sentence.kind == "how" and not _measures(sentence)):
        return False
    content = [
        token for token in sentence.after if not is_function_word(token) and "greet" not in concept_of(token.stem)
    ]
    if sentence.kind == "what" and not sentence.numbers and _asks_what_it_is(sentence):
        # A term, or a pronoun for a term that stands elsewhere.
        before = [token for token in words if not is_function_word(token) and "greet" not in concept_of(token.stem)]
        return 0 < len(content) <= 2 or (not content and bool(before))
    return any(token.capital for token in content) or any(entity.type == "location" for entity in entities)


def _measures(sentence: Sentence) -> bool:
    return bool(sentence.after) and sentence.after[0].folded in _MEASURES


_MEASURES = word_set("hoch gross alt weit oft breit lang high large big old far often wide")


def _has_no_noun(sentence: Sentence) -> bool:
    """Whether "how much" counts nothing that is named, as in "how much is that": then money is meant."""
    counted = sentence.after[1:2] if sentence.words[sentence.asked].folded in ("wie", "how") else sentence.after[:1]
    cased = any(token.capital for token in sentence.words[1:])
    return all(is_function_word(token) or (cased and not token.capital) for token in counted)


def _names_tax(words: Sequence[Token]) -> bool:
    return any(re.search(r"(?:steuer|zuschlag|beitrag|bussgeld|tax)$", token.folded) for token in words)


def _asks_for_a_building(sentence: Sentence) -> bool:
    """Whether a building is what is asked for, as in "in which building"."""
    return sentence.kind == "which" and any(is_building(token.folded) for token in sentence.after[:1])


def _asks_whither(sentence: Sentence) -> bool:
    """Whether one of several places is asked for to go there: "to which office"."""
    before = sentence.words[max(0, sentence.asked - 1) : max(0, sentence.asked)]
    return sentence.kind == "which" and any(token.folded in ("zu", "to") for token in before)


def _asks_for_a_law(sentence: Sentence) -> bool:
    return sentence.kind == "which" and any(token.folded in _LAWS for token in sentence.after[:1])


_LAWS = word_set(
    "Gesetz Gesetze Paragraf Paragraph Paragrafen Vorschrift Vorschriften Rechtsgrundlage Regelung Norm Verordnung"
    " law laws act statute regulation provision rule"
)


def _asks_what_it_is(sentence: Sentence) -> bool:
    """Whether "what is" asks after a thing alone; after a thing of something ("the seat of X") it asks for a fact."""
    rest = sentence.after
    if not rest or rest[0].folded not in (*BEING, "soll", "sollen"):
        return False
    rest = rest[1:]
    if all(is_function_word(token) or token.folded == "sein" for token in rest):
        return True
    if rest[0].folded not in ("der", "die", "das", "the"):
        return sentence.words[sentence.asked + 1].folded in BEING and not sentence.means("prefer")
    links = ("von", "vom", "des", "der", "einer", "eines", "of", "bei", "beim", "fur", "for")
    return not any(token.folded in links for token in rest[2:])


def _intent_of_statement(
    words: Sequence[Token], *, entities: Sequence[Entity], concepts: frozenset[str], known: bool
) -> Intent:
    kinds = {entity.type for entity in entities}
    if "act" in concepts or kinds & {"document", "procedure"}:
        return "procedure"
    offices = [entity for entity in entities if entity.type == "organisation" and not is_company_form(entity.text)]
    if offices:
        return "contact"
    rest = [
        token
        for token in words
        if not any(e.start <= token.start < e.end for e in entities) and not is_function_word(token)
    ]
    if "organisation" in kinds:
        return "fact" if rest else "definition"
    if known:
        return "procedure"
    return "fact" if "law" in kinds else "unknown"
