"""What a query asks: its language, question type, intent, entities, subject and parameters.

Rules over concepts (lexicon.py) and entities (entities.py). A rule looks at what words mean and where they stand;
no rule knows a whole question.
"""

from __future__ import annotations

__all__ = ["Analysis", "Intent", "QuestionType", "analyze"]

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from typing import Any, Literal

from .concepts import concept_of, phrases_in
from .entities import Entity, Vocabulary, find_entities, is_company_form
from .lexicon import FUNCTION_WORDS, Language, Token, is_function_word, tokenize, word_set
from .nouns import is_building, kind_of_noun
from .places import Gazetteer

Intent = Literal[
    "fact", "procedure", "comparison", "timeline", "calculation", "definition", "location", "contact", "unknown"
]
QuestionType = Literal[
    "what", "how", "how_much", "how_long", "where", "when", "who", "which", "why", "yes_no", "statement"
]

_LONGEST = 2000
_LARGEST = 10**12
"""Euros; a sum above is not reckoned with."""
_SUBJECTS = ("document", "procedure", "organisation")
_AUXILIARY = word_set(
    "ist sind war kann können könnte muss müssen darf dürfen soll sollte will möchte hat habe haben wird werden"
    " gibt gilt bin brauche brauchen braucht benötige benötigt gehört lohnt reicht is are was were can could must"
    " may should will do does did has have would am"
)
_PEOPLE = word_set("ich man wir i we one you jemand")
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
_SPLIT_PREFIXES = word_set("um an ab ein aus zu vor auf nach mit")


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
    items: tuple[str, ...]
    """Of a comparison: what is compared. Otherwise empty."""
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
    sentence = _asking_sentence(query, words, entities=entities)
    concepts = sentence.concepts
    items = _items(words=words, entities=entities, sentence=sentence)
    subject = _subject(words, entities=entities, language=language, statement=sentence.kind == "statement")
    if items:
        intent: Intent = "comparison"
    else:
        known = any(token.stem in vocabulary.words and not is_function_word(token) for token in words)
        intent = _intent(sentence, words=words, entities=entities, concepts=concepts, known=known)
    return Analysis(
        query=query,
        language=language,
        intent=intent,
        question_type=sentence.kind,
        entities=entities,
        subject=subject,
        items=items,
        terms=tuple(token.text for token in tokens if token.text[0].isalnum() and not is_function_word(token)),
        parameters=_parameters(words, entities=entities, gazetteer=gazetteer),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sentence:
    """The sentence of a query that asks, or the whole where none does."""

    kind: QuestionType
    words: tuple[Token, ...]
    asked: int
    """The index in `words` of the question word, or -1."""
    concepts: frozenset[str]
    """What its words mean, outside of entities; of the whole query, where these mean nothing."""

    numbers: bool = False
    """Whether it has numbers."""

    def means(self, *names: str) -> bool:
        return not self.concepts.isdisjoint(names)

    @property
    def after(self) -> tuple[Token, ...]:
        """What follows the question word."""
        return self.words[self.asked + 1 :]


def _asking_sentence(query: str, words: tuple[Token, ...], *, entities: Sequence[Entity]) -> _Sentence:
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
        return _Sentence(kind="statement", words=words, asked=-1, concepts=_concepts(words, entities))
    kind, part, asked, numbers = best
    concepts = _concepts(part, entities)
    # "How long does that take?" says it all; "what is that?" says what is meant in another sentence.
    return _Sentence(
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


def _language(words: Sequence[Token]) -> Language:
    german = sum(token.folded in FUNCTION_WORDS["de"] for token in words)
    english = sum(token.folded in FUNCTION_WORDS["en"] for token in words)
    if german != english:
        return "de" if german > english else "en"
    german += sum(any(letter in "äöüßÄÖÜ" for letter in token.text) for token in words)
    nouns = sum(kind_of_noun(token.folded, language="en") is not None for token in words)
    english += nouns + sum(token.folded in _ENGLISH_CUES for token in words)
    german += sum(kind_of_noun(token.folded, language="de") is not None for token in words)
    return "en" if english > german else "de"


_ENGLISH_CUES = word_set(
    "difference compare versus cost costs fee fees price deadline deadlines contact phone address office building"
    " house apply register requirements documents form forms house opening hours definition meaning"
)


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
    return index <= 2 or index >= len(words) - 3 or is_function_word(words[index - 1])


_RELATIVE = word_set("when who which where welche welcher welches")
_SENTENCE_END = re.compile(r"(?<=[a-zäöüß)]{3})\.\s+(?=[A-ZÄÖÜ])|(?<=[a-zäöüß)]{3})[!?]\s+")


def _is_verb_first(words: Sequence[Token]) -> bool:
    return words[1].folded in _PEOPLE | _DETERMINERS | {"es", "sich", "they", "it"}


def _items(*, words: Sequence[Token], entities: Sequence[Entity], sentence: _Sentence) -> tuple[str, ...]:
    """Returns what is compared, two at least, or nothing."""
    choice = any(token.folded in ("oder", "or", "als", "than") for token in sentence.words)
    asks = sentence.kind != "statement"
    wanted = sentence.means("compare") or (asks and choice and sentence.means("prefer"))
    if not wanted and not (sentence.kind in ("statement", "what", "which") and _stand_side_by_side(words, entities)):
        return ()
    for types in (("organisation",), ("document",), ("procedure",), _SUBJECTS, (*_SUBJECTS, "law"), ("location",)):
        named = tuple(dict.fromkeys(entity.text for entity in entities if entity.type in types))
        if len(named) > 1:
            return named
    taken = [entity for entity in entities if entity.type in ("location", "date", "amount")]
    nouns = [token for token in words if not is_function_word(token) and not concept_of(token.stem)]
    texts = tuple(
        dict.fromkeys(token.text for token in nouns if not any(e.start <= token.start < e.end for e in taken))
    )
    return texts if len(texts) == 2 else ()


def _stand_side_by_side(words: Sequence[Token], entities: Sequence[Entity]) -> bool:
    """Whether two of a kind stand with nothing but "or" and an article between them."""
    for one, other in pairwise(entity for entity in entities if entity.type in _SUBJECTS):
        between = [token.folded for token in words if one.end <= token.start < other.start]
        if one.type == other.type and between and between[0] in ("oder", "or") and _DETERMINERS.issuperset(between[1:]):
            return True
    return False


def _intent(
    sentence: _Sentence, *, words: Sequence[Token], entities: Sequence[Entity], concepts: frozenset[str], known: bool
) -> Intent:
    kind, means = sentence.kind, sentence.means
    kinds = {entity.type for entity in entities}
    named = bool(kinds & {*_SUBJECTS, "law"}) or known
    if (
        not named
        and not concepts - {"do", "company", "prefer"}
        and not _asks_of_the_world(sentence, words=words, entities=entities)
    ):
        return "unknown"
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
    if means("way") and "organisation" in kinds:
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
        and any(token.folded in _PEOPLE for token in sentence.words)
    ):
        return "procedure"
    return "fact"


def _asks_of_the_world(sentence: _Sentence, *, words: Sequence[Token], entities: Sequence[Entity]) -> bool:
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


def _measures(sentence: _Sentence) -> bool:
    return bool(sentence.after) and sentence.after[0].folded in _MEASURES


_MEASURES = word_set("hoch gross alt weit oft breit lang high large big old far often wide")


def _has_no_noun(sentence: _Sentence) -> bool:
    """Whether "how much" counts nothing that is named, as in "how much is that": then money is meant."""
    counted = sentence.after[1:2] if sentence.words[sentence.asked].folded in ("wie", "how") else sentence.after[:1]
    cased = any(token.capital for token in sentence.words[1:])
    return all(is_function_word(token) or (cased and not token.capital) for token in counted)


def _names_tax(words: Sequence[Token]) -> bool:
    return any(re.search(r"(?:steuer|zuschlag|beitrag|bussgeld|tax)$", token.folded) for token in words)


def _asks_for_a_building(sentence: _Sentence) -> bool:
    """Whether a building is what is asked for, as in "in which building"."""
    return sentence.kind == "which" and any(is_building(token.folded) for token in sentence.after[:1])


def _asks_for_a_law(sentence: _Sentence) -> bool:
    return sentence.kind == "which" and any(token.folded in _LAWS for token in sentence.after[:1])


_LAWS = word_set(
    "Gesetz Gesetze Paragraf Paragraph Paragrafen Vorschrift Vorschriften Rechtsgrundlage Regelung Norm Verordnung"
    " law laws act statute regulation provision rule"
)


def _asks_what_it_is(sentence: _Sentence) -> bool:
    """Whether "what is" asks after a thing alone; after a thing of something ("the seat of X") it asks for a fact."""
    rest = sentence.after
    if not rest or rest[0].folded not in (*_BEING, "soll", "sollen"):
        return False
    rest = rest[1:]
    if all(is_function_word(token) or token.folded == "sein" for token in rest):
        return True
    if rest[0].folded not in ("der", "die", "das", "the"):
        return sentence.words[sentence.asked + 1].folded in _BEING and not sentence.means("prefer")
    links = ("von", "vom", "des", "der", "einer", "eines", "of", "bei", "beim", "fur", "for")
    return not any(token.folded in links for token in rest[2:])


_BEING = word_set("ist sind is are s heisst bedeutet")


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


def _is_determined(words: Sequence[Token], index: int) -> bool:
    """Whether an article or possessive stands before the word, with an adjective between them at most."""
    before = [token.folded for token in words[max(0, index - 2) : index]]
    return bool(before) and (
        before[-1] in _DETERMINERS or (before[0] in _DETERMINERS and is_function_word(words[index - 1]))
    )


_DETERMINERS = word_set(
    "a an the my your our his her their mein meine meinen meinem meiner ein eine einen einem einer der die das den dem"
)


def _subject(words: Sequence[Token], *, entities: Sequence[Entity], language: Language, statement: bool) -> str:
    for entity in entities:
        if entity.type in _SUBJECTS:
            return entity.text
    cased = any(token.capital for token in words[1:])
    others = [token for token in words if not any(e.start <= token.start < e.end for e in entities)]
    content = [token for token in others if not is_function_word(token) and "greet" not in concept_of(token.stem)]
    plain = [token for token in content if not concept_of(token.stem) - {"place"} and not is_building(token.folded)]
    first = words[0] if words else None
    if language == "en":
        # Nothing marks a noun in English but the word before it.
        nouns = [token for index, token in enumerate(words) if token in plain and _is_determined(words, index)]
    else:
        # A capital tells no noun at the beginning of a sentence; keywords begin with one.
        nouns = [token for token in plain if (token.capital and (statement or token is not first)) or not cased]
    if nouns:
        return nouns[0].text
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


def _infinitive(acts: Sequence[Token], words: Sequence[Token]) -> str:
    """Returns the last verb; of one that is split ("melde ... um") the whole."""
    verb = acts[-1]
    last = words[-1]
    if last is not verb and last.folded in _SPLIT_PREFIXES and verb.folded.endswith("e"):
        return last.text.lower() + verb.text.lower() + "n"
    return verb.text


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
