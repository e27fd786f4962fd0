"""What the machine over the engine plays with: operations that do what they are told, and plans of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from stepwire.v1 import Condition, ExecutionOptions, Plan, Retry, Step
from stepwire_server import InputExpired, StepContext, SubstepContext, output_of, plan_step, when

__all__ = ["LAST_WORDS", "NOBODY", "WORDS", "Puppet", "options_", "plans"]

WORDS = [
    "progress",
    "begin a part",
    "end a part",
    "content",
    "save",
    "pausepoint",
    "ask",
    "ask",
    "ask briefly",
    "ask in vain",
    "ask beside",
    "finish",
    "raise",
    "swallow",
    "cancelled",
    "exit",
    "unfit",
    "much",
    "grow",
    "grow wide",
]
NOBODY = -1
"""The answer where nobody gave one."""

LAST_WORDS = {"finish", "raise", "cancelled", "exit", "unfit"}


@dataclass(kw_only=True)
class Puppet:
    """One attempt of a step, which does what it is told."""

    step: StepContext
    began: float
    now: Callable[[], float]
    passed: Callable[[StepContext], None]
    """Told each time that it has gone past a place to stop."""
    broken_off: Callable[[StepContext], None]
    """Told each time that it was interrupted where it was held."""
    answered: Callable[[StepContext, int | None], None]
    """Told each answer that it was given; None where it was given none, and might have waited on."""
    inbox: asyncio.Queue[str] = field(default_factory=asyncio.Queue)
    parts: list[SubstepContext] = field(default_factory=list)
    """Its parts that run, the outermost first."""
    over: bool = False
    swallows: bool = False
    """Whether it was told to go on where it is cancelled."""
    said: int = 0
    waited: float = 0.0
    """Seconds that it was at places to stop, before the one where it is now."""
    came: float | None = None
    """When it came to the place to stop where it is."""

    @property
    def held(self) -> float:
        """Seconds that it was held, at most."""
        return self.waited + (0.0 if self.came is None else self.now() - self.came)

    async def act(self) -> Any:
        try:
            while True:
                try:
                    word = await self.inbox.get()
                    if word in LAST_WORDS:
                        break
                    self.swallows = self.swallows or word == "swallow"
                    await self._say(word)
                except asyncio.CancelledError:
                    if not self.swallows:
                        raise
            while self.parts and word == "finish":
                await self._end_part()
            return _last(word, self.step.id)
        except BaseException as error:
            while self.parts:
                await self._end_part(error)
            raise
        finally:
            self.over = True

    async def _say(self, word: str) -> None:
        self.said += 1
        match word:
            case "progress":
                await (self.parts[-1] if self.parts else self.step).progress(min(100, 10 * self.said), "on")
            case "begin a part" if len(self.parts) < 4:
                work = self.parts[-1] if self.parts else self.step
                await work.substeps({"0": 1, "1": 2})
                self.parts.append(await work.substep(str(self.said % 3)).__aenter__())
            case "end a part" if self.parts:
                await self._end_part()
            case "much":
                for _ in range(30):
                    await self.step.content("piece " * 20)
            case "content":
                await self.step.content("piece")
            case "save" | "pausepoint":
                self.came = self.now()
                try:
                    await (self.step.pausepoint() if word == "pausepoint" else self._save())
                    self.passed(self.step)
                except asyncio.CancelledError:
                    if word == "pausepoint":  # A save also waits for the journal.
                        self.broken_off(self.step)
                    raise
                finally:
                    self.waited, self.came = self.held, None

            case "grow" | "grow wide":
                await self.step.add_steps(_grown(self.step.id, wide=word == "grow wide"))
            case "ask" | "ask briefly" | "ask in vain":
                await self._ask(word)
            case "ask beside":
                task = asyncio.create_task(self._ask(word))
                task.add_done_callback(lambda task: task.cancelled() or task.exception())

    async def _end_part(self, error: BaseException | None = None) -> None:
        part = self.parts.pop()
        await part.__aexit__(None if error is None else type(error), error, None)

    async def _ask(self, word: str) -> None:
        """Asks one of three questions for a number. Those of which nobody hears are over after three seconds."""
        hurried: dict[str, Any] = {} if word in ("ask", "ask beside") else {"expires_in": 3.0}
        if word == "ask briefly":
            hurried["default"] = NOBODY
        began = self.now()
        try:
            answer = await self.step.ask(f"{word} {self.said % 3}", schema={"type": "integer"}, **hurried)
            self.answered(self.step, answer)
        except InputExpired:
            if not hurried:
                self.answered(self.step, None)
            raise
        finally:
            self.waited += self.now() - began

    async def _save(self) -> None:
        await self.step.save((self.step.saved or 0) + 1)


def _last(word: str, step_id: str) -> Any:
    match word:
        case "finish":
            return {"done": True, "list": [1, 2], "of": step_id}
        case "raise":
            raise RuntimeError("the operation fails")
        case "cancelled":
            raise asyncio.CancelledError
        case "exit":
            raise SystemExit(3)
        case _:
            return object()


def _grown(step_id: str, *, wide: bool) -> list[Step]:
    """Returns what a step adds, in each of its attempts the same; nothing where others added it and so on."""
    if len(step_id) > 12:
        return []
    if wide:
        return [plan_step(f"{step_id}-w", "act", depends_on=[step_id], for_each={"item": [1, 2]}, max_parallel=1)]
    beside = plan_step(f"{step_id}-g", "act", weight=2)
    return [plan_step(f"{step_id}-h", "act", depends_on=[step_id, beside.id]), beside]


@st.composite
def _conditions(draw: st.DrawFn, earlier: list[str]) -> list[Condition]:
    if not earlier or draw(st.integers(0, 3)):
        return []
    tested = draw(st.sampled_from(earlier))
    return [
        draw(
            st.sampled_from(
                [
                    when(tested, "/done").equals(True),
                    when(tested, "/done").not_equals(True),
                    when(tested).absent(),
                    when(tested, "/list/0").above(0.5),
                    when(tested, "/list/0").one_of("1", 2),
                ]
            )
        )
    ]


@st.composite
def _mapped(draw: st.DrawFn, earlier: list[str]) -> dict[str, Any]:
    items: list[Any] = [[1, 2], [1, 2, 3], []]
    items += [output_of(name, pointer) for name in earlier for pointer in ("/list", "/done")]
    if draw(st.integers(0, 3)):
        return {}
    return {"for_each": {"item": draw(st.sampled_from(items))}, "max_parallel": draw(st.sampled_from([0, 1, 2]))}


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """A graph of one to four steps."""
    steps = []
    for number in range(draw(st.integers(1, 4))):
        earlier = [step.id for step in steps]
        retry = None
        if draw(st.booleans()):
            retry = Retry(attempts=3, jitter=0.5)
            retry.initial_delay.FromSeconds(2)
        operation = draw(st.sampled_from(["act", "act", "once"]))
        needs = draw(st.lists(st.sampled_from(earlier), unique=True, max_size=2)) if earlier else []
        timeout = draw(st.sampled_from([None, None, 4.0]))
        steps.append(
            plan_step(
                f"s{number}",
                operation,
                depends_on=needs,
                retry=retry if operation == "act" else None,
                timeout=timeout,
                weight=draw(st.sampled_from([None, 0.5, 3.0])),
                conditions=draw(_conditions(earlier)),
                **draw(_mapped(earlier)),
            )
        )
    return Plan(steps=steps)


@st.composite
def options_(draw: st.DrawFn) -> ExecutionOptions:
    made = ExecutionOptions(max_parallel_steps=draw(st.sampled_from([0, 1, 2])))
    if draw(st.booleans()):
        made.failure_policy = ExecutionOptions.FAILURE_POLICY_FAIL_FAST
    limit = draw(st.sampled_from([0, 0, 30]))
    if limit:
        made.time_limit.FromSeconds(limit)
    unwatched = draw(st.sampled_from([0, 0, 3]))
    if unwatched:
        made.cancel_if_unwatched_for.FromSeconds(unwatched)
    return made
