"""What a query asks: its language, question type, intent, entities, subject and parameters.

First its entities (entities.py), then the sentence that asks (questions.py), what it is about (subjects.py), and what
kind of answer it wants (intents.py). A rule looks at what words mean (concepts.py) and where they stand; no rule knows
a whole question.
"""

from __future__ import annotations

__all__ = ["Analysis", "Intent", "QuestionType", "analyze", "language_told"]

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from stepwire_server.assistant.acts import Act, act_in
from stepwire_server.assistant.claims import Entity
from stepwire_server.assistant.concepts import TIME_WORDS, concept_of
from stepwire_server.assistant.entities import Vocabulary, find_entities
from stepwire_server.assistant.intents import Intent, intent_of
from stepwire_server.assistant.lexicon import FUNCTION_WORDS, Language, Token, is_function_word, tokenize, word_set
from stepwire_server.assistant.nouns import is_building, kind_of_noun
from stepwire_server.assistant.places import Gazetteer
from stepwire_server.assistant.questions import QuestionType, asking_sentence
from stepwire_server.assistant.subjects import SUBJECTS, items_of, subject_of, together_with

_LONGEST = 2000
_LARGEST = 10**12
"""Euros; a sum above is not reckoned with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysis:
    """What a query was understood to ask."""

    query: str
    """The query, trimmed."""
    language: Language
    """Its language; German where nothing tells."""
    intent: Intent
    """What kind of answer it wants."""
    question_type: QuestionType
    """The form in which it asks."""
    entities: tuple[Entity, ...]
    """What it names, in its order."""
    subject: str
    """What it is about: the first document, procedure or organisation, else the noun asked about, else the verb."""
    also: tuple[str, ...]
    """The papers that it asks for together with its subject."""
    items: tuple[str, ...]
    """Of a comparison: what is compared. Otherwise empty."""
    act: Act | None = None
    """The procedure that its verbs tell, where its subject is no name of something else."""
    terms: tuple[str, ...]
    """Its words with content and its numbers, in its order."""
    parameters: Mapping[str, Any]
    """`location`, `town`, `state`, `country`, `building`, `amount` (euros, a Decimal), `law` and `date`,
    as far as it names them."""

    def to_dict(self) -> dict[str, Any]:
        """Returns it as JSON-like values; an amount becomes a number."""
        amount = self.parameters.get("amount")
        number = {} if amount is None else {"amount": int(amount) if amount == int(amount) else float(amount)}
        return {
            "intent": self.intent,
            "question_type": self.question_type,
            "language": self.language,
            "subject": self.subject,
            "also": list(self.also),
            "items": list(self.items),
            "terms": list(self.terms),
            "entities": [{"type": entity.type, "text": entity.text} for entity in self.entities],
            "parameters": {**self.parameters, **number},
        }


def analyze(query: str, *, gazetteer: Gazetteer, vocabulary: Vocabulary | None = None) -> Analysis:
    """Returns what the query asks. `vocabulary`: what the documents are about. Looks at the first 2,000
    characters. Never raises."""
    query = " ".join(query[:_LONGEST].split())
    vocabulary = vocabulary or Vocabulary()
    tokens = tokenize(query)
    words = tuple(token for token in tokens if token.word)
    language = _language(words)
    entities = find_entities(query, tokens=tokens, language=language, gazetteer=gazetteer, vocabulary=vocabulary)
    sentence = asking_sentence(query, words, entities=entities)
    concepts = sentence.concepts
    items = items_of(words=words, entities=entities, sentence=sentence)
    subject = subject_of(words, entities=entities, language=language, sentence=sentence)
    act = None if items else _act_of(subject, words=words, entities=entities)
    if items:
        intent: Intent = "comparison"
    else:
        known = act is not None or any(_is_known(token, vocabulary, entities=entities) for token in words)
        intent = intent_of(sentence, words=words, entities=entities, concepts=concepts, known=known)
    return Analysis(
        query=query,
        language=language,
        intent=intent,
        question_type=sentence.kind,
        entities=entities,
        subject=subject,
        also=together_with(subject, words=words, entities=entities),
        items=items,
        act=act,
        terms=tuple(token.text for token in tokens if token.text[0].isalnum() and not is_function_word(token)),
        parameters=_parameters(words, entities=entities, gazetteer=gazetteer),
    )


def _is_known(token: Token, vocabulary: Vocabulary, *, entities: Sequence[Entity]) -> bool:
    """Whether a word is a topic of the documents, or a name of one that has no topics."""
    if is_function_word(token):
        return False
    if token.stem in vocabulary.words:
        return True
    place = any(e.type == "location" and e.start <= token.start < e.end for e in entities)
    return not place and token.stem in vocabulary.names


def _act_of(subject: str, *, words: Sequence[Token], entities: Sequence[Entity]) -> Act | None:
    """Returns the procedure that the words tell, unless the subject names something else than they do."""
    found = act_in(words)
    if found is None or any(entity.type in SUBJECTS and entity.text == subject for entity in entities):
        return None
    act, said = found
    for token in tokenize(subject):
        general = is_function_word(token) or concept_of(token.stem) or token.stem in TIME_WORDS
        if token.stem not in said and not general:
            return None
    return act


def language_told(query: str) -> Language | None:
    """Returns the language that the query's words tell, or None where they leave it open. An umlaut is German."""
    words = tuple(token for token in tokenize(query[:_LONGEST]) if token.word)
    if any(letter in "äöüßÄÖÜ" for letter in query):
        return "de"
    german, english = _told(words)
    return None if german == english else "de" if german > english else "en"


def _language(words: Sequence[Token]) -> Language:
    german, english = _told(words)
    return "en" if english > german else "de"


def _told(words: Sequence[Token]) -> tuple[int, int]:
    """Returns how much tells German and how much English. Words of grammar tell more than nouns."""
    german = sum(token.folded in FUNCTION_WORDS["de"] for token in words)
    english = sum(token.folded in FUNCTION_WORDS["en"] for token in words)
    if german != english:
        return german, english
    german += sum(any(letter in "äöüßÄÖÜ" for letter in token.text) for token in words)
    nouns = sum(kind_of_noun(token.folded, language="en") is not None for token in words)
    english += nouns + sum(token.folded in _ENGLISH_CUES for token in words)
    german += sum(kind_of_noun(token.folded, language="de") is not None for token in words)
    return german, english


_ENGLISH_CUES = word_set(
    "difference compare versus cost costs fee fees price deadline deadlines contact phone address office building"
    " house apply register requirements documents form forms house opening hours definition meaning"
)


def _parameters(words: Sequence[Token], *, entities: Sequence[Entity], gazetteer: Gazetteer) -> dict[str, Any]:
    parameters: dict[str, Any] = {}
    origin: dict[str, Any] = {}
    for entity in entities:
        match entity.type:
            case "location":
                place = gazetteer.find(entity.value or entity.text)
                before = [token for token in words if token.end <= entity.start]
                if place is not None and place.abroad:
                    parameters.setdefault("country", place.name)
                    continue
                # Where someone comes from matters only where nothing else is named.
                target = origin if before and before[-1].folded in ("von", "aus", "from") else parameters
                if "location" not in target:
                    target["location"] = entity.value or entity.text
                    # "Town-Part" is in the state of the town.
                    place = place or gazetteer.find(entity.text.partition("-")[0])
                    if place is not None and place.state:
                        target |= {"state": place.state, "town": place.name}
            case "amount" if entity.value and Decimal(entity.value) < _LARGEST:
                parameters.setdefault("amount", Decimal(entity.value))
            case "date" | "law":
                parameters.setdefault(entity.type, entity.text)
            case _:
                pass
    if "location" not in parameters:
        parameters |= origin
    for token in words:
        if is_building(token.folded) and not any(e.start <= token.start < e.end for e in entities):
            parameters.setdefault("building", token.text)
    return parameters
