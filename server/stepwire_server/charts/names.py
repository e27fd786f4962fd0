"""Names as people write them: "Order date" for order_date, "orders" for order, "groesse" for Größe."""

from __future__ import annotations

__all__ = ["Match", "fold", "match", "near", "words_of"]

import difflib
import functools
import re
import threading
import unicodedata
from collections.abc import Iterable
from enum import IntEnum

import snowballstemmer

_WORD = re.compile(r"[^\W\d_]+|\d+")
_CAMEL = re.compile(r"(?<=[a-zäöüß])(?=[A-ZÄÖÜ])")
_UMLAUTS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss"})


class Match(IntEnum):
    """How well a name is met, from badly to exactly."""

    NOT = 0
    PARTLY = 1
    """All that was written is part of the name: "date" of order_date."""
    STEMS = 2
    """The same words in another form: "orders" for order."""
    WORDS = 3
    """The same but for case, spaces, underscores and accents."""
    EXACTLY = 4


def fold(text: str) -> str:
    """Returns a text without case and accents; umlauts become two letters."""
    text = unicodedata.normalize("NFKC", text).casefold().translate(_UMLAUTS)
    return "".join(sign for sign in unicodedata.normalize("NFKD", text) if not unicodedata.combining(sign))


@functools.lru_cache(maxsize=4096)
def words_of(name: str) -> tuple[str, ...]:
    """Returns the words of a name, folded: of orderDate, order_date and "Order date" the same two."""
    return tuple(fold(word) for word in _WORD.findall(_CAMEL.sub(" ", name)))


def match(written: str, name: str) -> Match:
    """Returns how well a name is met by what was written."""
    if written == name:
        return Match.EXACTLY
    ours, theirs = words_of(written), words_of(name)
    if not ours or not theirs:
        return Match.WORDS if written.casefold() == name.casefold() else Match.NOT
    if "".join(ours) == "".join(theirs):
        return Match.WORDS
    if len(ours) == len(theirs) and all(map(_is_same, ours, theirs)):
        return Match.STEMS
    if all(any(_is_same(our, their) for their in theirs) for our in ours):
        return Match.PARTLY
    return Match.NOT


def near(written: str, names: Iterable[str]) -> str:
    """Returns the name that is nearly what was written; empty where none is."""
    known = {" ".join(words_of(name)): name for name in names}
    found = difflib.get_close_matches(" ".join(words_of(written)), known, n=1, cutoff=0.7)
    return known[found[0]] if found else ""


def _is_same(one: str, other: str) -> bool:
    return one == other or bool(_stems(one) & _stems(other))


@functools.lru_cache(maxsize=4096)
def _stems(word: str) -> frozenset[tuple[str, str]]:
    if len(word) < 3 or word.isdigit():
        return frozenset({("", word)})
    # A stemmer keeps the word that it works on, and questions are read in several threads.
    with _STEMMING:
        return frozenset((language, stemmer.stemWord(word)) for language, stemmer in _STEMMERS.items())


_STEMMERS = {language: snowballstemmer.stemmer(language) for language in ("english", "german")}
_STEMMING = threading.Lock()
