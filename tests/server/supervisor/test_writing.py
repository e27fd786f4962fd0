"""The search's process ends with whoever waits for it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from stepwire_server.supervisor.agents import codesmith


class _Step:
    """A step whose execution ends once the search has begun."""

    def __init__(self) -> None:
        self.said = 0

    async def agent(self, *_: Any, **__: Any) -> None:
        self.said += 1
        if self.said == 2:
            raise RuntimeError("the execution has ended")


async def test_a_step_that_ends_takes_its_search_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The search has ended when the step that wanted it has, whatever ended that."""
    started: list[asyncio.subprocess.Process] = []
    start = asyncio.create_subprocess_exec

    async def noted(*command: Any, **options: Any) -> asyncio.subprocess.Process:
        started.append(await start(*command, **options))
        return started[-1]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", noted)
    state = {"task": "", "code": "", "tests": "assert f(1) == 31\nassert f(2) == 907\nassert f(3) == 3"}
    with pytest.raises(RuntimeError):
        await codesmith._search(_Step(), state, 20.0)  # type: ignore[arg-type]
    assert [process.returncode for process in started] == [-9]
