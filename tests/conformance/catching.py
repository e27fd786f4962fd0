"""Whether a case catches its wrong client: a case that catches nobody proves nothing."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from pathlib import Path

from .case import Case
from .cases import find_cases
from .clients import python
from .trial import Result, try_case
from .wrong import FAULTS

__all__ = ["Catch", "try_wrong"]

_SOUND = "plain"
"""The case that every wrong client passes, but for its own: it has a fault, and is not a ruin."""


@dataclass(frozen=True, kw_only=True)
class Catch:
    """What came of a case with its wrong client."""

    case: str
    fault: str
    """What the client does wrong."""
    result: Result
    sound: Result | None
    """What came of the plain case. None: it is this one."""

    @property
    def caught(self) -> bool:
        """Whether the case found a client wrong that runs, and is right where nothing is special."""
        return bool(self.result.wrong) and self.result.exit_code == 0 and (self.sound is None or self.sound.passed)


async def try_wrong(case: Case, folder: Path) -> Catch:
    """Tries a case with its wrong client."""
    client = python("wrong", "tests.conformance.wrong", case.name)
    result = await try_case(case, client, folder / case.name)
    sound = None
    if case.name != _SOUND:
        [plain] = find_cases([_SOUND])
        sound = await try_case(plain, client, folder / case.name / _SOUND)
    return Catch(case=case.name, fault=inspect.getdoc(FAULTS[case.name]) or "", result=result, sound=sound)
