"""Questions cut into words, and the phrases that are found among these."""

from __future__ import annotations

__all__ = ["Phrases", "Token", "tokenize"]

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stepwire_server.charts.names import fold

_TOKEN = re.compile(
    r"""(?P<quoted>"(?:[^"]|"")*"|„[^“”"]*[“”"]|“[^”]*”|‘[^’]*’|`[^`]*`|\[[^\]]*\]|(?<![^\W_])'[^']*'(?![^\W_]))
    |(?P<date>\d{4}-\d{2}(?:-\d{2})?(?!\d)|\d{1,2}\.\d{1,2}\.\d{4})
    |(?P<number>[-+]?\d+(?:[.,]\d+)*(?![^\W\d_]))
    |(?P<word>[^\W](?:\w|['’](?=\w))*)
    |(?P<sign>>=|<=|!=|<>|==|[^\s\w])""",
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Token:
    """One word, number, date, sign or quoted text of a question."""

    kind: str
    text: str
    """As it stands; of a quoted text, what stands in the quotes."""
    folded: str
    start: int
    end: int


class Phrases:
    """Phrases that mean something, each a row of regular expressions for folded words."""

    def __init__(self, table: Mapping[str, Sequence[str]]) -> None:
        rows = [(meaning, phrase.split(" ")) for meaning, phrases in table.items() for phrase in phrases]
        rows.sort(key=lambda row: -len(row[1]))
        self._rows = [(meaning, [re.compile(word) for word in words]) for meaning, words in rows]

    def at(self, tokens: Sequence[Token], place: int) -> tuple[str, int] | None:
        """Returns what the longest phrase that begins at a token means, and how many tokens it has; None without."""
        for meaning, words in self._rows:
            here = tokens[place : place + len(words)]
            if len(here) == len(words) and all(
                token.kind in ("word", "sign") and word.fullmatch(token.folded)
                for word, token in zip(words, here, strict=True)
            ):
                return meaning, len(words)
        return None


def tokenize(question: str) -> list[Token]:
    """Cuts a question into tokens; what only ends a sentence is left out."""
    found = []
    for hit in _TOKEN.finditer(question):
        kind, text = str(hit.lastgroup), hit.group()
        if kind == "quoted":
            text = text[1:-1].replace('""', '"') if text[0] == '"' else text[1:-1]
        elif kind == "sign" and (text in "?!;:" or (text == "." and not question[hit.end() :].strip())):
            continue
        found.append(Token(kind, text, fold(text), hit.start(), hit.end()))
    return found
