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
from typing import Any, Literal

from .entities import COMPANY_FORM, Entity, find_entities
from .lexicon import BUILDING, FUNCTION_WORDS, Language, Token, concept_of, fold, is_function_word, kind_of_noun, tokenize
from .places import Gazetteer

Intent = Literal["fact", "procedure", "comparison", "timeline", "calculation", "definition", "location", "contact", "unknown"]
QuestionType = Literal["what", "how", "how_much", "how_long", "where", "when", "who", "which", "yes_no", "statement"]

_SUBJECTS = ("document", "procedure", "organisation")
_AUXILIARY = frozenset(
    fold(word)
    for word in (
        "ist sind war kann können könnte muss müssen darf dürfen soll sollte will möchte hat habe haben wird werden gibt gilt"
        " bin brauche brauchen braucht benötige benötigt gehört lohnt reicht is are was were can could must may should will do"
        " does did has have would am"
    ).split()
)
_PEOPLE = frozenset("ich man wir i we one you jemand".split())
_QUESTION_WORDS: Mapping[str, QuestionType] = {
    **dict.fromkeys("was womit worin woran wofur what".split(), "what"),
    **dict.fromkeys("wie how".split(), "how"),
    **dict.fromkeys("wieviel wieviele".split(), "how_much"),
    **dict.fromkeys("wo wohin woher where".split(), "where"),
    **dict.fromkeys("wann when".split(), "when"),
    **dict.fromkeys("wer wen wem wessen who whom whose".split(), "who"),
    **dict.fromkeys("welche welcher welches welchen welchem which".split(), "which"),
}
_SECOND_WORDS: Mapping[str, QuestionType] = {
    **dict.fromkeys("viel viele much many teuer expensive".split(), "how_much"),
    **dict.fromkeys("lange lang long".split(), "how_long"),
}
_DEFINE_VERBS = frozenset("ist sind bedeutet heisst is are".split())
_SPLIT_PREFIXES = frozenset("um an ab ein aus zu vor auf nach mit".split())


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
    """Its words with content, in its order."""
    parameters: Mapping[str, Any]
    """`location`, `state`, `building`, `amount` (euros, a Decimal) and `date`, as far as it names them."""

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


def analyze(query: str, *, gazetteer: Gazetteer, vocabulary: frozenset[str] = frozenset()) -> Analysis:
    """Returns what the query asks. `vocabulary`: stems of the words that documents are about. Never raises."""
    query = " ".join(query.split())
    tokens = tokenize(query)
    words = tuple(token for token in tokens if token.word)
    language = _language(words)
    entities = find_entities(query, tokens=tokens, language=language, gazetteer=gazetteer, vocabulary=vocabulary)
    kind, asked = _question(words, query=query)
    concepts = _Concepts(words, entities)
    items = _items(query, words=words, entities=entities, concepts=concepts, question=kind)
    intent = _intent(
        kind, words=words, asked=asked, entities=entities, concepts=concepts, items=items, vocabulary=vocabulary, query=query
    )
    return Analysis(
        query=query,
        language=language,
        intent=intent,
        question_type=kind,
        entities=entities,
        subject=_subject(words, entities=entities, asked=asked, language=language),
        items=items if intent == "comparison" else (),
        terms=tuple(token.text for token in words if _is_content(token)),
        parameters=_parameters(words, entities=entities, gazetteer=gazetteer),
    )


class _Concepts:
    """Which concepts the words have that stand outside of entities."""

    def __init__(self, words: Sequence[Token], entities: Sequence[Entity]) -> None:
        outside = [token for token in words if not any(e.start <= token.start < e.end for e in entities)]
        self.names = frozenset(name for token in outside for name in concept_of(token.stem))

    def any(self, *names: str) -> bool:
        return not self.names.isdisjoint(names)


def _is_content(token: Token) -> bool:
    return not is_function_word(token)


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


_ENGLISH_CUES = frozenset(
    "difference compare versus cost costs fee fees price deadline deadlines contact phone address office building house apply"
    " register requirements documents form forms house opening hours definition meaning".split()
)


def _question(words: Sequence[Token], *, query: str) -> tuple[QuestionType, int]:
    """Returns the question's type and the index of its question word, or -1."""
    for index, token in enumerate(words):
        kind = _QUESTION_WORDS.get(token.folded)
        # A question word asks at the beginning, after a preposition, or after a comma or a frame such as "tell me".
        if kind is None or not _may_ask(words, index, query=query):
            continue
        following = words[index + 1].folded if index + 1 < len(words) else ""
        if kind == "how" and following in _SECOND_WORDS:
            return _SECOND_WORDS[following], index
        if kind in ("what", "how") and any("cost" in concept_of(other.stem) for other in words[index + 1 : index + 3]):
            return "how_much", index
        return kind, index
    if words and (words[0].folded in _AUXILIARY or (query.endswith("?") and len(words) > 1 and _is_verb_first(words))):
        return "yes_no", -1
    return "statement", -1


def _may_ask(words: Sequence[Token], index: int, *, query: str) -> bool:
    if index == 0 or query[: words[index].start].rstrip().endswith((",", ":", "?", "!", ".")):
        return True
    if words[index].folded in ("when", "was", "who", "which", "where"):
        # English relative clauses and the German pronoun: they ask only near the beginning.
        return index <= 1 or words[0].folded in ("can", "could", "do", "tell")
    return index <= 2 or is_function_word(words[index - 1])


def _is_verb_first(words: Sequence[Token]) -> bool:
    return words[1].folded in (*_PEOPLE, "es", "der", "die", "das", "ein", "eine", "sich", "they", "it")


def _items(
    query: str, *, words: Sequence[Token], entities: Sequence[Entity], concepts: _Concepts, question: QuestionType
) -> tuple[str, ...]:
    """Returns what is compared, two at least, or nothing."""
    wanted = concepts.any("compare") or (_has_or(words) and concepts.any("prefer") and question != "statement")
    if not wanted:
        return ()
    for types in (("organisation",), ("document",), ("procedure",), _SUBJECTS, (*_SUBJECTS, "law"), ("location",)):
        named = [entity.text for entity in entities if entity.type in types]
        if len(set(named)) > 1:
            return tuple(dict.fromkeys(named))
    nouns = [token for token in words if _is_content(token) and not concept_of(token.stem)]
    places = [e for e in entities if e.type in ("location", "date", "amount")]
    texts = [token.text for token in nouns if not any(e.start <= token.start < e.end for e in places)]
    return tuple(dict.fromkeys(texts)) if len(set(texts)) == 2 else ()


def _has_or(words: Sequence[Token]) -> bool:
    return any(token.folded in ("oder", "or", "als", "than") for token in words)


def _intent(
    kind: QuestionType,
    *,
    words: Sequence[Token],
    asked: int,
    entities: Sequence[Entity],
    concepts: _Concepts,
    items: Sequence[str],
    vocabulary: frozenset[str],
    query: str,
) -> Intent:
    content = [token for token in words if _is_content(token) and "greet" not in concept_of(token.stem)]
    if not content and not entities:
        return "unknown"
    if items:
        return "comparison"
    named = any(entity.type in _SUBJECTS for entity in entities)
    known = any(token.stem in vocabulary for token in content)
    if kind == "statement" and not (named or known or concepts.names - {"greet", "prefer", "company"} or _is_law_only(entities)):
        return "unknown"
    following = [token.folded for token in words[asked + 1 : asked + 3]] if asked >= 0 else []
    match kind:
        case "how_long" | "when":
            return "contact" if concepts.any("contact") else "timeline"
        case "how_much":
            return "calculation" if concepts.any("cost") or _names_tax(words) else "fact"
        case "yes_no" if not concepts.any("cost", "time", "contact"):
            return "fact"
        case "who":
            return "contact" if concepts.any("contact", "responsible") else "fact"
        case _:
            pass
    if concepts.any("contact"):
        return "contact"
    if concepts.any("cost"):
        return "calculation"
    if concepts.any("time"):
        return "timeline"
    if kind == "where":
        return "location"
    if concepts.any("responsible"):
        return "contact"
    if concepts.any("place"):
        return "location"
    if concepts.any("define"):
        return "definition"
    if kind == "what" and following and following[0] in _DEFINE_VERBS and not concepts.any("need"):
        return _definition_or_fact(words[asked + 2 :], entities=entities)
    if kind == "how":
        return "procedure" if _asks_for_a_way(words, asked=asked, concepts=concepts) else "fact"
    if concepts.any("need"):
        return "procedure"
    if kind == "statement":
        return _intent_of_statement(entities, concepts=concepts, known=known)
    if kind == "what" and concepts.any("act") and any(token.folded in _PEOPLE for token in words):
        return "procedure"
    return "fact"


def _is_law_only(entities: Sequence[Entity]) -> bool:
    return any(entity.type == "law" for entity in entities)


def _names_tax(words: Sequence[Token]) -> bool:
    return any(re.search(r"(?:steuer|zuschlag|beitrag|bussgeld|tax)$", token.folded) for token in words)


def _definition_or_fact(rest: Sequence[Token], *, entities: Sequence[Entity]) -> Intent:
    """A thing alone is to be defined; a thing of something ("the seat of X") is a fact to be found."""
    definite = bool(rest) and rest[0].folded in ("der", "die", "das", "the")
    if not definite:
        return "definition"
    links = ("von", "vom", "des", "der", "einer", "eines", "of", "bei", "beim", "fur", "for")
    return "fact" if any(token.folded in links for token in rest[2:]) else "definition"


def _asks_for_a_way(words: Sequence[Token], *, asked: int, concepts: _Concepts) -> bool:
    following = words[asked + 1 : asked + 2]
    if any(token.folded in ("hoch", "gross", "alt", "weit", "oft", "high", "large", "old", "far", "often") for token in following):
        return False
    return concepts.any("act", "need") or any(token.folded in (*_PEOPLE, "to") for token in words[asked + 1 :]) or not following


def _intent_of_statement(entities: Sequence[Entity], *, concepts: _Concepts, known: bool) -> Intent:
    if concepts.any("act"):
        return "procedure"
    kinds = {entity.type for entity in entities}
    if kinds & {"document", "procedure"}:
        return "procedure"
    if any(entity.type == "organisation" and not COMPANY_FORM.search(entity.text) for entity in entities):
        return "contact"
    if "organisation" in kinds or known:
        return "procedure"
    return "fact" if "law" in kinds else "unknown"


def _subject(words: Sequence[Token], *, entities: Sequence[Entity], asked: int, language: Language) -> str:
    for entity in entities:
        if entity.type in _SUBJECTS:
            return entity.text
    others = [token for token in words if not any(e.start <= token.start < e.end for e in entities)]
    cased = any(token.capital for token in words[1:])
    content = [token for token in others if _is_content(token) and "greet" not in concept_of(token.stem)]
    is_first = words[0] if words else None
    plain = [token for token in content if not concept_of(token.stem) and not BUILDING.fullmatch(token.folded)]
    nouns = [token for token in plain if (token.capital and token is not is_first) or (not cased) or language == "en"]
    if nouns:
        return nouns[0].text
    for entity in entities:
        if entity.type == "law":
            return entity.text
    acts = [token for token in content if "act" in concept_of(token.stem)]
    if acts:
        return _infinitive(acts, words)
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
    for entity in entities:
        match entity.type:
            case "location":
                parameters.setdefault("location", entity.value or entity.text)
                place = gazetteer.find(entity.value or entity.text)
                if place is not None and place.state:
                    parameters.setdefault("state", place.state)
            case "amount":
                parameters.setdefault("amount", Decimal(entity.value))
            case "date" | "law":
                parameters.setdefault(entity.type, entity.text)
            case _:
                pass
    for token in words:
        if BUILDING.fullmatch(token.folded) and not any(e.start <= token.start < e.end for e in entities):
            parameters.setdefault("building", token.text)
    return parameters
