"""Words: tokens, their stems, and the words that carry grammar only, in German and English."""

from __future__ import annotations

__all__ = [
    "BEING",
    "DETERMINERS",
    "FUNCTION_WORDS",
    "Language",
    "Token",
    "fold",
    "is_function_word",
    "stem",
    "tokenize",
    "word_list",
    "word_set",
]

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import snowballstemmer

Language = Literal["de", "en"]

_TOKEN = re.compile(r"§+|\d+(?:[.,]\d+)*|[^\W\d_]+(?:[-/&][^\W\d_]+)*|\?", re.UNICODE)
_UMLAUT = re.compile(r"(?<![aeiouqy])([aou])e")


@dataclass(frozen=True, slots=True)
class Token:
    """One word, number or sign of a text."""

    text: str
    """As it stands."""
    start: int
    """Where it begins, in characters."""
    end: int
    """Where it ends, exclusive."""
    folded: str
    """In lower case, without umlauts."""
    stem: str
    """Its German stem."""

    @property
    def capital(self) -> bool:
        """Whether it begins with a capital letter."""
        return self.text[:1].isupper()

    @property
    def word(self) -> bool:
        """Whether it is a word, not a number or a sign."""
        return self.text[:1].isalpha()


def fold(text: str) -> str:
    """Returns the text in lower case with ä, ae, ö, oe, ü, ue as a, o, u and ß as ss."""
    lower = text.lower().replace("ß", "ss").translate(str.maketrans("äöüéè", "aouee"))
    return _UMLAUT.sub(r"\1", lower)


def word_list(text: str) -> tuple[str, ...]:
    """Returns the words between spaces."""
    return tuple(text.split())


def word_set(text: str) -> frozenset[str]:
    """Returns the words between spaces, folded."""
    return frozenset(map(fold, text.split()))


# A stemmer keeps its word while it works, so each call in each thread has the lock.
_LOCK = threading.Lock()
_STEMMER = snowballstemmer.stemmer("german")


@lru_cache(maxsize=100_000)
def stem(text: str) -> str:
    """Returns a word's German stem, which serves for English words too. A noun on -ung has the stem of its verb:
    Ummeldung and ummelden are one."""
    with _LOCK:
        result = str(_STEMMER.stemWord(fold(text)))
    return result[:-3] if len(result) > 6 and result.endswith("ung") else result


def tokenize(text: str) -> tuple[Token, ...]:
    """Returns the words, numbers and signs of a text, in order."""
    return tuple(
        Token(found[0], found.start(), found.end(), fold(found[0]), stem(found[0])) for found in _TOKEN.finditer(text)
    )


FUNCTION_WORDS: Mapping[Language, frozenset[str]] = {
    "de": word_set(
        "der die das den dem des ein eine einen einem einer eines kein keine keinen und oder aber sowie bzw als"
        " wie was wer wo wann warum wieso weshalb womit wofür wohin woher wen wem wessen welche welcher welches"
        " welchen welchem wieviel wieviele viel viele in im an am auf aus bei beim mit nach von vom zu zum zur für"
        " über unter um vor zwischen durch gegen ohne bis seit ab per pro ich du er sie es wir ihr man mich mir"
        " sich uns dich dir ihm ihn ihnen mein meine meinen meinem meiner meines dein deine sein seine unser"
        " unsere ihre ihren ist sind war waren bin hat haben habe hatte wird werden wurde kann können könnte muss"
        " müssen müsste darf dürfen soll sollen sollte will möchte möchten würde mag nicht noch nur auch schon"
        " sehr so dann denn da hier dort wenn ob dass weil damit etwas alle alles bitte gibt gilt gelten gehört"
        " gehören denn eigentlich genau neu neue neuen neuer neues dieser diese dieses jetzt mal verpflichtet"
        " erlaubt wofür selbst gerne gern worin woran darüber dazu dafür etwa zwei drei vier jemand zuerst mehr"
        " jedoch doch eben immer wieder während wegen trotz innerhalb außerhalb neben hinter statt anstatt sondern"
        " sonst also etc außerdem vielleicht ungefähr circa ca überhaupt wirklich normalerweise momentan aktuell"
        " derzeit heute morgen gestern bald zurzeit deren dessen dieses diesen diesem jener jede jeder jedes jeden"
        " jedem manche einige mehrere unseren unserem unserer eure euer eurem ihrem ihrer ihres seinen seinem seiner"
        " deinen deinem deiner könnte könnten könntest würden würdest hätte hätten hatten wäre wären wurden worden"
        " geworden gewesen seid hattest kannst musst willst sollst darfst müsst könnt wollen wollte weswegen inwiefern"
        " inwieweit wozu worum wovon wodurch wohl zusammen insgesamt eins"
    ),
    "en": word_set(
        "the a an and or but of in on at to for from by with about between into through i you he she it we they"
        " me my your his her our their is are was were be been am has have had do does did can could must may"
        " might shall should will would not no what which who whom whose when where why how much many long there"
        " this that these those if than s re ll please allowed permitted any some as also new one two"
        " three need want"
        " because since after before under over without during within until till while still already just only also"
        " too very than then so such each every both either or other another our yours ours himself herself itself"
        " themselves myself yourself something anything nothing someone anyone somebody anybody ve let lets"
        " us him them here now today tomorrow yesterday soon currently exactly actually really maybe perhaps usually"
        " normally about around approximately per via out up off again"
    ),
}
"""Words that carry grammar, not content, folded."""


def is_function_word(token: Token) -> bool:
    """Whether the token carries grammar only, in either language."""
    return token.folded in FUNCTION_WORDS["de"] or token.folded in FUNCTION_WORDS["en"]


DETERMINERS = word_set(
    "a an the my your our his her their mein meine meinen meinem meiner ein eine einen einem einer die der das den dem"
    " unser unsere unseren unserem ihr ihre ihren ihrem"
)
"""Articles and possessives, folded."""
BEING = word_set("ist sind is are s heisst heissen bedeutet bedeuten")
"""Forms of to be and to be called, folded."""
