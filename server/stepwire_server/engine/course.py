"""How an execution goes on, as its task, its steps and its growth see it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import ParamSpec, TypeVar
from weakref import WeakMethod

__all__ = ["Course", "unless_gone"]

_P = ParamSpec("_P")
_R = TypeVar("_R")


@dataclass(slots=True)
class Course:
    """What the executor decides, and others look at."""

    stopping: bool = False
    """No other step starts, and those that run were told to end."""
    leaving: bool = False
    """This process lets go of the execution."""
    grace_over: bool = False
    """Nothing is waited for any longer."""
    overdue: bool = False
    """Its time limit is why it stops."""
    task: asyncio.Task[None] | None = None
    """The execution's own, once it has started."""

    @property
    def torn_down(self) -> bool:
        """Whether the event loop ends all tasks."""
        return self.task is not None and self.task.cancelling() > 0


def unless_gone(method: Callable[_P, _R], otherwise: _R) -> Callable[_P, _R]:
    """Returns a call of a bound method for what its object itself holds: it does not hold the object, and returns
    `otherwise` where that is gone. So an execution that has ended is freed at once; the garbage collector, which would
    find it later, holds everything up.
    """
    weak = WeakMethod(method)

    def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        found = weak()
        return otherwise if found is None else found(*args, **kwargs)

    return call
