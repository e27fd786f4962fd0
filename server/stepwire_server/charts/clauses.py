"""What the grammar's parts share: where a reader is in its question, which column a name means, and conditions."""

from __future__ import annotations

__all__ = ["Ambiguous", "Clauses"]

from collections.abc import Mapping, Sequence
from typing import Literal

from stepwire_server.charts.failures import NotUnderstood
from stepwire_server.charts.lexicon import (
    AND,
    AS_CHART,
    BY,
    COMPARISONS,
    COUNT,
    FALSE,
    FILLERS,
    IN,
    OR,
    OVER_TIME,
    PERIODS,
    SORTED,
    TRUE,
    WHERE,
    Phrases,
    Token,
)
from stepwire_server.charts.names import Match, fold, match, near
from stepwire_server.charts.periods import read_period
from stepwire_server.charts.schema import Column, Table
from stepwire_server.charts.specification import Condition, Operator
from stepwire_server.charts.wording import Wording

_NAME = 6
"""Words that a name or a value may have in a question that does not quote it."""

Purpose = Literal["number", "names", "group", "any"]


class Ambiguous(Exception):
    """A question that may mean several things. A person's answer, one of `choices`, is to be given under `key`."""

    def __init__(self, key: str, prompt: str, choices: Sequence[str]) -> None:
        super().__init__(prompt)
        self.key = key
        self.prompt = prompt
        self.choices = list(choices)


class Clauses:
    """A reader's place in a question about one table."""

    def __init__(self, tokens: Sequence[Token], table: Table, answers: Mapping[str, str], words: Wording) -> None:
        self.tokens = tokens
        self.table = table
        self.words = words
        self.place = 0
        self.furthest = 0
        self.found_conditions: list[Condition] = []
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
            return NotUnderstood(self.words.incomplete.format(columns=self.table.listed()))
        meant = near(token.text, [column.name for column in self.table.columns])
        hint = self.words.did_you_mean.format(name=meant) if meant and match(token.text, meant) < Match.STEMS else ""
        return NotUnderstood(self.words.not_understood.format(word=token.text, hint=hint, columns=self.table.listed()))

    # -- names

    def take_table(self) -> bool:
        """Goes past the table's name, and returns whether it stood here."""
        for length in range(min(_NAME, len(self.tokens) - self.place), 0, -1):
            if match(self._phrase(length), self.table.name) >= (Match.STEMS if length == 1 else Match.PARTLY):
                self.place += length
                self._named += 1
                return True
        token = self.token
        # Of a file such as orders_2024.csv the words suffice, where no column has them.
        if (
            token is not None
            and token.kind == "word"
            and match(token.text, self.table.name) == Match.PARTLY
            and not self._columns_here(1, Match.WORDS)
        ):
            self.place += 1
            self._named += 1
            return True
        return False

    def is_column(self, *, exactly: bool = False) -> bool:
        """Returns whether a column's name stands here. `exactly`: in the same words, not only in part of them."""
        least = Match.WORDS if exactly else Match.PARTLY
        longest = min(_NAME, len(self.tokens) - self.place)
        return any(self._columns_here(length, least) for length in range(longest, 0, -1))

    def column(self, purpose: Purpose) -> Column:
        """Goes past a column's name, and returns the column; where it fits several, asks which.

        `purpose`: of several that a part of their names fits, those that it suits are meant.
        """
        longest = min(_NAME, len(self.tokens) - self.place)
        for least in (Match.STEMS, Match.PARTLY):
            for length in range(longest, 0, -1):
                found = self._columns_here(length, least)
                if found:
                    written = self._phrase(length)
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
            raise NotUnderstood(self.words.no_dates.format(columns=self.table.listed()))
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

    def _phrase(self, length: int) -> str:
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
        written = self._phrase(length)
        if least < Match.STEMS and (len(written) < 3 or fold(written) in FILLERS):
            return []
        how = {column.name: match(written, column.name) for column in self.table.columns}
        best = max(how.values(), default=Match.NOT)
        return [column for column in self.table.columns if how[column.name] == best] if best >= least else []

    # -- conditions

    def conditions(self) -> bool:
        """Goes past conditions, and notes them. Returns whether there were some."""
        start = self.place
        if self.take(WHERE):
            self._condition()
            while True:
                before = self.place
                if not self.take(AND):
                    return True
                self.take(WHERE)
                self.fill()
                if not self.is_column():
                    self.place = before
                    return True
                self._condition()
        if self._period() or self._of_a_value():
            return True
        self.place = start
        return False

    def _period(self) -> bool:
        """ "in 2024", "since March 2023", "between 2022 and 2023", "from 2022 to 2023": of the table's date."""
        start = self.place
        kind = self.take(PERIODS) or ("in" if self.take(IN) else "")
        while (token := self.token) is not None and token.folded in ("the", "dem", "den", "der"):
            self.place += 1
        period = read_period(self.tokens[self.place :]) if kind else None
        if period is None:
            self.place = start
            return False
        self.place += period[1]
        first = last = period[0]
        if kind in ("between", "in") and (token := self.token) is not None:
            joint = token.folded in ("and", "und", "to", "bis", "until", "till")
            later = read_period(self.tokens[self.place + 1 :]) if joint else None
            if later is not None:
                self.place += 1 + later[1]
                last, kind = later[0], "in"
        column = self._dated()
        if column is not None:
            self._note_period(column, kind, first.start, first.end, last.end)
        else:
            self._note_year(kind, first.start, last.start)
        return True

    def _dated(self) -> Column | None:
        """Returns the column of dates; None where there is none, but one of years."""
        if not self.table.of_kind("date") and self._years():
            return None
        return self.date_column()

    def _years(self) -> Column | None:
        numbers = self.table.of_kind("number")
        return next(
            (one for one in numbers if max(match(word, one.name) for word in ("year", "jahr")) >= Match.STEMS), None
        )

    def _note_year(self, kind: str, first: str, last: str) -> None:
        column = self._years()
        if column is None or not (first.endswith("-01-01") and last.endswith("-01-01")):
            raise NotUnderstood(self.words.no_dates.format(columns=self.table.listed()))
        low, high = int(first[:4]), int(last[:4])
        bounds: list[tuple[Operator, int]] = []
        if kind in ("in", "between", "since"):
            bounds.append(("at_least", low))
        if kind in ("in", "between", "until"):
            bounds.append(("at_most", high))
        if kind == "before":
            bounds.append(("below", low))
        if kind == "after":
            bounds.append(("above", high))
        self.found_conditions += [Condition(column=column.name, operator=name, values=(year,)) for name, year in bounds]

    def _note_period(self, column: Column, kind: str, start: str, end: str, last_end: str) -> None:
        bounds: list[tuple[Operator, str]] = []
        if kind in ("in", "between", "equals", "since"):
            bounds.append(("from", start))
        if kind == "after":
            bounds.append(("from", end))
        if kind in ("in", "between", "equals", "until"):
            bounds.append(("before", last_end))
        if kind == "before":
            bounds.append(("before", start))
        self.found_conditions += [Condition(column=column.name, operator=name, values=(day,)) for name, day in bounds]

    def _of_a_value(self) -> bool:
        """ "in Berlin", "for north": a value that a column is known to have."""
        start = self.place
        if not self.take(IN):
            return False
        while (token := self.token) is not None and token.folded in ("the", "dem", "den", "der", "die", "das"):
            self.place += 1
        for length in range(min(_NAME, len(self.tokens) - self.place), 0, -1):
            written = fold(self._phrase(length))
            found = {
                column.name: value
                for column in self.table.of_kind("text")
                for value in column.values
                if fold(value) == written
            }
            if found:
                self.place += length
                self.furthest = max(self.furthest, self.place)
                name = next(iter(found))
                if len(found) > 1:
                    prompt = self.words.which_value.format(value=found[name])
                    name = self.choose(f"value:{written}", prompt, list(found))
                self.found_conditions.append(Condition(column=name, operator="equals", values=(found[name],)))
                return True
        self.place = start
        return False

    def _condition(self) -> None:
        self.fill()
        column = self.column("any")
        start = self.place
        while (token := self.token) is not None and token.folded in ("is", "are", "was", "ist", "sind", "war", "liegt"):
            self.place += 1
        said = self.place > start
        if said:
            # "is not" is a phrase of its own.
            here, self.place = self.place, start
            operator = self.take(COMPARISONS)
            if operator not in ("differs", "present", "empty"):
                self.place = here
                operator = self.take(COMPARISONS)
        else:
            operator = self.take(COMPARISONS)
        if operator in ("empty", "present"):
            self.found_conditions.append(Condition(column=column.name, operator=operator))  # type: ignore[arg-type]
        elif column.kind == "date":
            self._compare_date(column, operator or "in")
        elif column.kind == "number":
            self._compare_number(column, operator or "equals")
        else:
            self._compare_values(column, operator or "equals")

    def _compare_date(self, column: Column, operator: str) -> None:
        kinds = {"equals": "in", "above": "after", "below": "before", "at_least": "since", "at_most": "until"}
        kind = kinds.get(operator, operator)
        period = read_period(self.tokens[self.place :])
        if period is None or kind in ("contains", "differs"):
            raise NotUnderstood(self.words.no_day.format(column=column.name))
        self.place += period[1]
        first = last = period[0]
        if kind == "between":
            later = read_period(self.tokens[self.place + 1 :]) if self.take_joint() else None
            if later is None:
                raise NotUnderstood(self.words.no_day.format(column=column.name))
            self.place += 1 + later[1]
            last = later[0]
        self._note_period(column, kind, first.start, first.end, last.end)

    def take_joint(self) -> bool:
        """Returns whether "and" or "to" stands here; does not go past it."""
        token = self.token
        return token is not None and token.folded in ("and", "und", "to", "bis")

    def _compare_number(self, column: Column, operator: str) -> None:
        if operator == "between":
            low = self._value_number(column)
            if not self.take_joint():
                raise NotUnderstood(self.words.no_number.format(column=column.name))
            self.place += 1
            self._note(column, "at_least", low)
            self._note(column, "at_most", self._value_number(column))
            return
        names: dict[str, Operator] = {"since": "at_least", "after": "above", "before": "below", "until": "at_most"}
        names |= {
            "above": "above",
            "at_least": "at_least",
            "below": "below",
            "at_most": "at_most",
            "differs": "differs",
        }
        first = self._value_number(column)
        values = [first]
        while operator in ("equals", "in", "differs") and (step := OR.at(self.tokens, self.place)) is not None:
            following = self.tokens[self.place + step[1] : self.place + step[1] + 1]
            if not (following and following[0].kind == "number"):
                break
            self.place += step[1]
            values.append(self._value_number(column))
        condition = Condition(column=column.name, operator=names.get(operator, "equals"), values=tuple(values))
        self.found_conditions.append(condition)

    def _note(self, column: Column, operator: Operator, value: float) -> None:
        self.found_conditions.append(Condition(column=column.name, operator=operator, values=(value,)))

    def _value_number(self, column: Column) -> float:
        token = self.token
        if token is None or token.kind not in ("number", "quoted"):
            raise NotUnderstood(self.words.no_number.format(column=column.name))
        text = token.text.strip()
        whole, mark, part = text.replace(",", ".").partition(".")
        # 1.000 is a thousand in German, and one in English.
        if "." in part or (mark and len(part) == 3 and "," in text) or (mark and len(part) == 3 and len(whole) <= 3):
            raise NotUnderstood(self.words.grouped_number.format(text=text))
        try:
            number = float(f"{whole}.{part}") if mark else int(whole)
        except ValueError:
            raise NotUnderstood(self.words.no_number.format(column=column.name)) from None
        self.place += 1
        return number

    def _compare_values(self, column: Column, operator: str) -> None:
        values = [self._value(column)]
        while operator in ("equals", "in", "differs"):
            start = self.place
            if not self.take(OR) or (self.tokens[start].folded in ("and", "und", ",") and not self._is_value(column)):
                self.place = start
                break
            values.append(self._value(column))
        if column.kind == "boolean":
            found = [fold(value) for value in values]
            if not all(value in TRUE | FALSE for value in found):
                raise NotUnderstood(self.words.no_boolean.format(column=column.name))
            meant: tuple[str | float | bool, ...] = tuple(value in TRUE for value in found)
        else:
            meant = tuple(values)
        names: dict[str, Operator] = {"in": "equals", "equals": "equals", "differs": "differs", "contains": "contains"}
        if operator not in names:
            raise NotUnderstood(self.words.not_comparable.format(column=column.name))
        self.found_conditions.append(Condition(column=column.name, operator=names[operator], values=meant))

    def _is_value(self, column: Column) -> bool:
        """Returns whether a value that the column is known to have stands here, or a quoted one."""
        token = self.token
        return token is not None and (token.kind == "quoted" or self._known(column) > 0)

    def _known(self, column: Column) -> int:
        """Returns of how many tokens the longest of the column's known values is that stands here; 0 without one."""
        known = {fold(value) for value in column.values}
        longest = min(_NAME, len(self.tokens) - self.place)
        return next((length for length in range(longest, 0, -1) if fold(self._phrase(length)) in known), 0)

    def _value(self, column: Column) -> str:
        """Goes past a value: a quoted one, one that the column has, or all words up to the next clause."""
        token = self.token
        if token is None:
            raise NotUnderstood(self.words.no_value.format(column=column.name))
        if token.kind == "quoted":
            self.place += 1
            return token.text
        length = self._known(column)
        if length == 0:
            length = 1
            while self.place + length < len(self.tokens) and not self._ends_value(self.place + length, column):
                length += 1
        value = self._phrase(length)
        self.place += length
        self.furthest = max(self.furthest, self.place)
        return value

    def _ends_value(self, place: int, column: Column) -> bool:
        if any(phrases.at(self.tokens, place) for phrases in (BY, WHERE, AS_CHART, SORTED, OVER_TIME)):
            return True
        if AND.at(self.tokens, place):
            # "Trinidad and Tobago" goes on; "Trinidad and price above 5" and "North, South" do not.
            here, self.place = self.place, place + 1
            follows = self.is_column() or self._is_value(column)
            self.place = here
            return follows
        if OR.at(self.tokens, place):
            return True
        marks = (IN, PERIODS)
        return any(
            (found := phrases.at(self.tokens, place)) is not None
            and read_period(self.tokens[place + found[1] :]) is not None
            for phrases in marks
        )
