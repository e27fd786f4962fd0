"""The stages that a request goes through, each a step of its own, and those that an author adds between them."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from stepwire.v1 import Step
from stepwire_server import App, Retry, StepContext, StepEnded, plan_step
from stepwire_server.planning.calls import outcomes_of

__all__ = ["BUILT_IN", "Request", "Stage", "Turn", "order", "register_stage", "stage_steps"]

BUILT_IN = ("start", "context", "analyzing", "planning", "validation", "execution", "memory", "completion")
"""The stages of System P, in order."""

Request = Annotated[str, Field(min_length=1, max_length=10_000)]

_ERROR = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One request on its way, as a stage finds it."""

    request: str
    """What is asked."""
    session_id: str
    """Whose it is; empty where it is nobody's."""
    execution_id: str
    """The execution that serves it."""
    given: Mapping[str, Any]
    """What the stages before gave, by their names."""
    began: Mapping[str, float]
    """When they began, in seconds since 1970."""
    seconds: Mapping[str, float]
    """How long each worked."""
    outcomes: Mapping[str, Mapping[str, Any]]
    """What the calls came to, by their ids; nothing before `execution` is done."""

    @property
    def plan(self) -> Mapping[str, Any]:
        """The plan: as validated, or as it was made where that was not looked at yet. `plans.py` has its form."""
        found: Mapping[str, Any] = self.given.get("validation") or self.given["planning"]
        return found["plan"]  # type: ignore[no-any-return]


Work = Callable[[StepContext, Turn], Awaitable[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A stage, and what it does."""

    name: str
    says: str
    """Its line for people."""
    work: Work
    after: str = ""
    """Of an author's own: the built-in stage, or the author's, that it comes after."""
    retry: Retry | None = None


def order(added: Sequence[Stage]) -> list[str]:
    """Returns the names of all stages, in the order in which they run: what was added after a stage, in the order in
    which it was added.
    """
    names = list(BUILT_IN)
    for stage in added:
        place = names.index(stage.after) + 1
        own = {other.name for other in added if other.after == stage.after}
        while place < len(names) and names[place] in own:
            place += 1
        names.insert(place, stage.name)
    return names


def stage_steps(
    names: Sequence[str], request: str, *, before: Sequence[str] = (), calls: Sequence[str] = ()
) -> list[Step]:
    """Returns the steps of consecutive stages. Each has what all before it gave: the stages `before`, and the steps
    `calls`.
    """
    return [
        plan_step(name, name, name=name, input={"request": request}, depends_on=[*before, *calls, *names[:place]])
        for place, name in enumerate(names)
    ]


def register_stage(app: App, stage: Stage, *, now: Callable[[], float] = time.time) -> None:
    """Gives an app the operation of a stage: it says that the stage has begun, does the work, and notes the time. What
    fails is told as the stage `error`.
    """

    async def run(step: StepContext, request: Request) -> Any:
        began, clock = now(), asyncio.get_running_loop().time
        start = clock()
        turn = _turn(step, request)
        data = {"session_id": turn.session_id, "after": list(turn.given)}
        await step.stage(stage.name, stage.says, details=request[:200], data=data)
        try:
            given = await stage.work(step, turn)
        except StepEnded:
            raise
        except Exception as error:
            text = (str(error) or type(error).__name__)[:_ERROR]
            await step.stage("error", f"{stage.name}: {text}", details=text, data={"stage": stage.name})
            raise
        if stage.name == BUILT_IN[-1]:
            return given  # What the execution ends with.
        return {"stage": stage.name, "began": began, "seconds": round(clock() - start, 6), "given": given}

    run.__doc__ = inspect.getdoc(stage.work) or stage.says
    app.operation(stage.name, retry=stage.retry)(run)


def _turn(step: StepContext, request: str) -> Turn:
    stages = {name: output for name, output in step.results.items() if isinstance(output, dict) and "stage" in output}
    return Turn(
        request=request,
        session_id=step.session_id,
        execution_id=step.execution_id,
        given={name: output["given"] for name, output in stages.items()},
        began={name: output["began"] for name, output in stages.items()},
        seconds={name: output["seconds"] for name, output in stages.items()},
        outcomes=outcomes_of(step.results),
    )
