"""All cases, in the order in which they are shown."""

from __future__ import annotations

from collections.abc import Sequence

from tests.conformance.case import Case

from .ends import ENDS
from .gaps import GAPS
from .giving_up import GIVING_UP
from .messages import MESSAGES
from .resuming import RESUMING
from .unary import UNARY

__all__ = ["CASES", "find_cases"]

CASES: Sequence[Case] = (*MESSAGES, *GAPS, *RESUMING, *GIVING_UP, *ENDS, *UNARY)


def find_cases(names: Sequence[str]) -> list[Case]:
    """Returns the cases of these names, or all. Raises ValueError for one that is not there."""
    known = {case.name: case for case in CASES}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"No such case: {', '.join(unknown)}. There are: {', '.join(known)}")
    return [known[name] for name in names] if names else list(CASES)
