"""Where a reader is in its question: which words stand there, and which table and columns these name."""

from __future__ import annotations

__all__ = ["NAME", "Cursor", "Purpose", "is_named"]

from collections.abc import Mapping, Sequence
from typing import Literal

from stepwire_server.charts.failures import Ambiguous, NotUnderstood
from stepwire_server.charts.lexicon import COUNT
from stepwire_server.charts.names import Match, fold, match, near
from stepwire_server.charts.schema import Column, Table
from stepwire_server.charts.small_words import FILLERS
from stepwire_server.charts.tokens import Phrases, Token
from stepwire_server.charts.wording import Wording

NAME = 6
"""Words that a name or a value may have in a question that does not quote it."""

Purpose = Literal["number", "names", "group", "any"]


def is_named(name: str, tokens: Sequence[Token]) -> bool:
    """Returns whether a name stands anywhere in a question."""
    written = (
        " ".join(token.text for token in tokens[place : place + length])
        for place in range(len(tokens))
        for length in range(1, NAME + 1)
    )
    return any(match(phrase, name) >= Match.STEMS for phrase in written)


class Cursor:
    """A reader's place in a question about one table."""

    def __init__(self, tokens: Sequence[Token], table: Table, answers: Mapping[str, str], words: Wording) -> None:
        self.tokens = tokens
        self.table = table
        self.words = words
        self.place = 0
        self.furthest = 0
        self._answers = answers
        self._named = 0
        self._met: list[Match] = []

    @property
    def token(self) -> Token | None:
        """The token at its place; None at the end."""
        return self.tokens[self.place] if self.place < len(self.tokens) else None

    @property
    def ended(self) -> bool:
        """Whether all is read; what only fills the end is passed over."""
        self.fill()
        self.furthest = max(self.furthest, self.place)
        return self.place >= len(self.tokens)

    @property
    def quality(self) -> tuple[float, float]:
        """How well the question fits the table: how often it names it, and how exactly its columns."""
        return self._named, (sum(self._met) / len(self._met) if self._met else 0.0)

    def met(self, how: Match) -> None:
        """Notes how well a name was met."""
        self._met.append(how)
        self.furthest = max(self.furthest, self.place)

    # -- words

    def peek(self, phrases: Phrases) -> bool:
        """Returns whether one of the phrases begins here."""
        return phrases.at(self.tokens, self.place) is not None

    def take(self, phrases: Phrases) -> str:
        """Goes past the phrase that begins here, and returns what it means; empty where none does."""
        found = phrases.at(self.tokens, self.place)
        if found is None:
            return ""
        self.place += found[1]
        self.furthest = max(self.furthest, self.place)
        return found[0]

    def fill(self) -> bool:
        """Goes past words that say nothing, and returns whether there were some."""
        start = self.place
        while (token := self.token) is not None and token.kind in ("word", "sign"):
            if token.text not in (",", "(", ")") and token.folded not in FILLERS:
                break
            if token.kind == "word" and (self._columns_here(1, Match.WORDS) or self.peek(COUNT)):
                break
            self.place += 1
        return self.place > start

    def number(self) -> int | None:
        """Goes past a whole number, and returns it; None where there is none."""
        token = self.token
        if token is None or token.kind != "number" or not token.text.isdigit() or len(token.text) > 9:
            return None
        self.place += 1
        return int(token.text)

    def unknown(self) -> NotUnderstood:
        """Returns what says that the question is not understood from here on, and what there is."""
        token = self.tokens[self.furthest] if self.furthest < len(self.tokens) else None
        token = self.token or token
        if token is None:
            return NotUnderstood(self.words.incomplete, there_is=[self.table.listed()])
        meant = near(token.text, [column.name for column in self.table.columns])
        near_it = bool(meant) and match(token.text, meant) < Match.STEMS
        hint = self.words.did_you_mean.format(name=meant) if near_it else ""
        text = self.words.not_understood.format(word=token.text, hint=hint)
        return NotUnderstood(text, there_is=[self.table.listed()], near=near_it)

    # -- names

    def table_length(self) -> int:
        """Returns of how many tokens the table's name is that stands here; 0 where none does."""
        for length in range(min(NAME, len(self.tokens) - self.place), 0, -1):
            if match(self.phrase(length), self.table.name) >= (Match.STEMS if length == 1 else Match.PARTLY):
                return length
        token = self.token
        # Of a file such as orders_2024.csv the words suffice, where no column has them.
        if (
            token is not None
            and token.kind == "word"
            and match(token.text, self.table.name) == Match.PARTLY
            and not self._columns_here(1, Match.WORDS)
        ):
            return 1
        return 0

    def take_table(self) -> bool:
        """Goes past the table's name, and returns whether it stood here."""
        length = self.table_length()
        self.place += length
        self._named += bool(length)
        return length > 0

    def is_column(self, *, exactly: bool = False) -> bool:
        """Returns whether a column's name stands here. `exactly`: in the same words, not only in part of them."""
        least = Match.WORDS if exactly else Match.PARTLY
        longest = min(NAME, len(self.tokens) - self.place)
        return any(self._columns_here(length, least) for length in range(longest, 0, -1))

    def column(self, purpose: Purpose) -> Column:
        """Goes past a column's name, and returns the column; where it fits several, asks which.

        `purpose`: of several that a part of their names fits, those that it suits are meant.
        """
        longest = min(NAME, len(self.tokens) - self.place)
        for least in (Match.STEMS, Match.PARTLY):
            for length in range(longest, 0, -1):
                found = self._columns_here(length, least)
                if found:
                    written = self.phrase(length)
                    self.place += length
                    chosen = self._choose_column(written, found, purpose)
                    self.met(match(written, chosen.name))
                    return chosen
        raise self.unknown()

    def choose(self, key: str, prompt: str, choices: Sequence[str]) -> str:
        """Returns what a person chose. Raises Ambiguous where nobody was asked yet."""
        answer = self._answers.get(key)
        if answer is None or answer not in choices:
            raise Ambiguous(key, prompt, choices)
        return answer

    def date_column(self) -> Column:
        """Returns the column of dates; where there are several, asks which."""
        dates = self.table.of_kind("date")
        if not dates:
            raise NotUnderstood(self.words.no_dates, there_is=[self.table.listed()])
        if len(dates) == 1:
            return dates[0]
        name = self.choose("date", self.words.which_date, [column.name for column in dates])
        return self.table.column(name)

    def _choose_column(self, written: str, found: Sequence[Column], purpose: Purpose) -> Column:
        suits = {"number": ("number",), "names": ("text", "number", "date"), "group": ("text", "date", "boolean")}
        fitting = [column for column in found if column.kind in suits.get(purpose, (column.kind,))] or list(found)
        if len(fitting) == 1:
            return fitting[0]
        prompt = self.words.which_column.format(name=written)
        name = self.choose(f"column:{fold(written)}", prompt, [column.name for column in fitting])
        return self.table.column(name)

    def phrase(self, length: int) -> str:
        """Returns so many tokens as they are written."""
        here = self.tokens[self.place : self.place + length]
        return " ".join(token.text for token in here)

    def _columns_here(self, length: int, least: Match) -> list[Column]:
        """Returns the columns that so many tokens name best, if at least so well."""
        here = self.tokens[self.place : self.place + length]
        if not here or len(here) < length:
            return []
        if any(token.kind == "quoted" for token in here):
            # What is quoted is meant as it stands, or at least in its words.
            if length > 1:
                return []
            least = max(least, Match.WORDS)
        elif here[-1].kind == "sign" or here[0].kind == "sign":
            return []
        written = self.phrase(length)
        if least < Match.STEMS and (len(written) < 3 or fold(written) in FILLERS):
            return []
        how = {column.name: match(written, column.name) for column in self.table.columns}
        best = max(how.values(), default=Match.NOT)
        return [column for column in self.table.columns if how[column.name] == best] if best >= least else []
