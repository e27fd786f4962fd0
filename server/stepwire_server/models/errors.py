"""What can go wrong with a model. None of these texts has the key in it.

ModelError
|-- ModelRefused         the endpoint takes no such request: mend key, name, address or input
|-- ModelUnavailable     too busy, broken or out of reach, each time it was tried; nothing was streamed
|-- ModelInterrupted     it broke off in mid-text: another attempt of the step voids what was streamed
|-- ModelTimeout         the whole took too long
|-- ModelDeclined        the model refuses to answer, or its endpoint's filter does
`-- AnswerInvalid        the answer does not have the form that was asked for
"""

from __future__ import annotations

from stepwire_server import Refused

__all__ = [
    "AnswerInvalid",
    "ModelDeclined",
    "ModelError",
    "ModelInterrupted",
    "ModelRefused",
    "ModelTimeout",
    "ModelUnavailable",
    "Trouble",
]


class ModelError(Refused):
    """The root of all."""


class ModelRefused(ModelError):
    """The same request will be refused again."""


class ModelUnavailable(ModelError):
    """It was tried as often as is allowed, or the endpoint wants more time than there is."""


class ModelInterrupted(ModelError):
    """A part of the answer was streamed, and the rest will not come. `MODEL_RETRY` makes another attempt of this."""


class ModelTimeout(ModelError):
    """The time limit of the whole answer is over."""


class ModelDeclined(ModelError):
    """There is no answer of the form that was asked for, since none is given at all."""


class AnswerInvalid(ModelError):
    """It was asked again with what was wrong, and is wrong still."""


class Trouble(Exception):
    """What one request came to, for who decides what follows from it."""

    def __init__(
        self, text: str, *, passing: bool, status: int = 0, parameter: str = "", retry_after: float | None = None
    ) -> None:
        super().__init__(text)
        self.text = text
        """For people, in one line."""
        self.passing = passing
        """Whether the same request may do better later."""
        self.status = status
        """The HTTP status; 0 where there was none."""
        self.parameter = parameter
        """The parameter that the endpoint complains of, where it names one."""
        self.retry_after = retry_after
        """Seconds after which the endpoint wants to be asked again, where it says so."""
