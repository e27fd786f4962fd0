"""What keeps a question from becoming a chart. The texts are for whoever asked."""

from __future__ import annotations

from collections.abc import Sequence

from stepwire_server import Refused

__all__ = ["Ambiguous", "ChartError", "DataError", "NotUnderstood", "QueryStopped"]


class ChartError(Refused):
    """A question that becomes no chart; the text says why, and what to do."""


class NotUnderstood(ChartError):
    """The question is not one of the grammar's, or names what is not there. `there_is`: the tables that end the text.

    `near`: whether the text says what may be meant.
    """

    def __init__(self, text: str, *, there_is: Sequence[str] = (), near: bool = False) -> None:
        super().__init__(text + ", ".join(there_is))
        self.text = text
        self.there_is = there_is
        self.near = near


class QueryStopped(ChartError):
    """The query took more time, memory or rows than it may."""


class DataError(ValueError):
    """The data can't be read: no such file, of a form that is not known, or damaged."""


class Ambiguous(Exception):
    """A question that may mean several things. A person's answer, one of `choices`, is to be given under `key`."""

    def __init__(self, key: str, prompt: str, choices: Sequence[str]) -> None:
        super().__init__(prompt)
        self.key = key
        self.prompt = prompt
        self.choices = list(choices)
