"""The sentence of a query that asks, and the form in which it asks."""

from __future__ import annotations

__all__ = ["PEOPLE", "QuestionType", "Sentence", "asking_sentence"]

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from stepwire_server.assistant.claims import Entity
from stepwire_server.assistant.concepts import concept_of, phrases_in
from stepwire_server.assistant.lexicon import DETERMINERS, Token, is_function_word, word_set

QuestionType = Literal[
    "what", "how", "how_much", "how_long", "where", "when", "who", "which", "why", "yes_no", "statement"
]

_AUXILIARY = word_set(
    "ist sind war kann können könnte muss müssen darf dürfen soll sollte will möchte hat habe haben wird werden"
    " gibt gilt bin brauche brauchen braucht benötige benötigt gehört lohnt reicht is are was were can could must"
    " may should will do does did has have would am"
)
PEOPLE = word_set("ich man wir i we one you jemand")
"""Words for whoever asks, folded."""
_QUESTION_WORDS: Mapping[str, QuestionType] = {
    **dict.fromkeys(word_set("was womit worin woran wofur wovon worum worauf what"), "what"),
    **dict.fromkeys(word_set("wie inwiefern inwieweit wodurch how"), "how"),
    **dict.fromkeys(word_set("warum wieso weshalb weswegen wozu why"), "why"),
    **dict.fromkeys(word_set("wieviel wieviele"), "how_much"),
    **dict.fromkeys(word_set("wo wohin woher where"), "where"),
    **dict.fromkeys(word_set("wann when"), "when"),
    **dict.fromkeys(word_set("wer wen wem wessen who whom whose"), "who"),
    **dict.fromkeys(word_set("welche welcher welches welchen welchem which"), "which"),
}
_SECOND_WORDS: Mapping[str, QuestionType] = {
    **dict.fromkeys(word_set("viel viele much many teuer expensive"), "how_much"),
    **dict.fromkeys(
        word_set("lange lang long schnell bald zeitnah fruh spat quickly fast soon early late"), "how_long"
    ),
}
_SPANS = word_set("zeit tage wochen monate jahre arbeitstage werktage time days weeks months years")
"""What is counted where "how many" asks for a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentence:
    """The sentence of a query that asks, or the whole where none does."""

    kind: QuestionType
    """How it asks."""
    words: tuple[Token, ...]
    """Its words."""
    asked: int
    """The index in `words` of the question word, or -1."""
    concepts: frozenset[str]
    """What its words mean, outside of entities; of the whole query, where these mean nothing."""

    numbers: bool = False
    """Whether it has numbers."""

    def means(self, *names: str) -> bool:
        """Whether its words have one of these meanings."""
        return not self.concepts.isdisjoint(names)

    @property
    def after(self) -> tuple[Token, ...]:
        """What follows the question word."""
        return self.words[self.asked + 1 :]


def asking_sentence(query: str, words: tuple[Token, ...], *, entities: Sequence[Entity]) -> Sentence:
    """Returns the last sentence that asks; one with a question word before one without."""
    best: tuple[QuestionType, tuple[Token, ...], int, bool] | None = None
    start = 0
    for end in [*(found.end() for found in _SENTENCE_END.finditer(query)), len(query)]:
        part = tuple(token for token in words if start <= token.start < end)
        text = query[start:end].strip()
        start = end
        kind, asked = _question(part, text=text, offset=part[0].start if part else 0)
        if kind != "statement" and (best is None or kind != "yes_no" or best[0] == "yes_no"):
            best = kind, part, asked, any(letter.isdigit() for letter in text)
    if best is None:
        return Sentence(kind="statement", words=words, asked=-1, concepts=_concepts(words, entities))
    kind, part, asked, numbers = best
    concepts = _concepts(part, entities)
    # "How long does that take?" says it all; "what is that?" says what is meant in another sentence.
    return Sentence(
        kind=kind, words=part, asked=asked, concepts=concepts or _concepts(words, entities), numbers=numbers
    )


def _concepts(words: Sequence[Token], entities: Sequence[Entity]) -> frozenset[str]:
    """Returns what the words mean outside of entities. A phrase has its meaning in place of its words' own."""
    names, used = phrases_in(words)
    outside = [
        token
        for index, token in enumerate(words)
        if index not in used and not any(e.start <= token.start < e.end for e in entities)
    ]
    return (names | {name for token in outside for name in concept_of(token.stem)}) - {"greet"}


def _question(words: Sequence[Token], *, text: str, offset: int) -> tuple[QuestionType, int]:
    """Returns a sentence's question type and the index of its question word, or -1."""
    for index, token in enumerate(words):
        kind = _QUESTION_WORDS.get(token.folded)
        # A question word asks at the beginning, after a preposition, or after a comma or a frame such as "tell me".
        if kind is None or not _may_ask(words, index, before=text[: token.start - offset]):
            continue
        following = words[index + 1].folded if index + 1 < len(words) else ""
        if kind == "how" and following in _SECOND_WORDS:
            kind, following = _SECOND_WORDS[following], words[index + 2].folded if index + 2 < len(words) else ""
            if following == "uhr":
                return "when", index
            return ("how_long" if kind == "how_much" and following in _SPANS else kind), index
        if kind == "how_much":
            return ("how_long" if following in _SPANS else kind), index
        if kind == "what" and following == "time":
            return "when", index
        if kind in ("what", "how") and any("cost" in concept_of(other.stem) for other in words[index + 1 : index + 3]):
            return "how_much", index
        return kind, index
    if words and (words[0].folded in _AUXILIARY or (text.endswith("?") and len(words) > 1 and _is_verb_first(words))):
        return "yes_no", -1
    return "statement", -1


def _may_ask(words: Sequence[Token], index: int, *, before: str) -> bool:
    token = words[index]
    if index == 0:
        return True
    if token.folded in _RELATIVE:
        # They also join clauses: after a comma they ask only where a verb of telling comes before.
        return index <= 1 or words[0].folded in ("can", "could", "do", "konnen", "konnten") or index == len(words) - 1
    if before.rstrip().endswith((",", ":")):
        return True
    if token.folded == "was" and 2 < index < len(words) - 3:
        # Within a clause it is short for "etwas".
        return False
    return index <= 2 or index >= len(words) - 3 or is_function_word(words[index - 1])


_RELATIVE = word_set("when who which where welche welcher welches")
_SENTENCE_END = re.compile(r"(?<=[a-zäöüß)]{3})\.\s+(?=[A-ZÄÖÜ])|(?<=[a-zäöüß)]{3})[!?]\s+")


def _is_verb_first(words: Sequence[Token]) -> bool:
    return words[1].folded in PEOPLE | DETERMINERS | {"es", "sich", "they", "it"}
