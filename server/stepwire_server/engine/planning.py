"""Gets an execution its plan: the caller's own, one that the app keeps, or one that the planner makes."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from google.rpc import status_pb2

from stepwire.errors import PlanInvalid, QueryNotUnderstood, failure
from stepwire.v1 import Event, ExecuteRequest, Plan
from stepwire.values import to_python
from stepwire_server.engine.acceptance import aside, plan_problem
from stepwire_server.engine.calling import describe
from stepwire_server.engine.operation import Catalog, Planner, Style, for_thread
from stepwire_server.engine.recorder import Recorder
from stepwire_server.engine.rerun import keeps, rerun_of, work_of
from stepwire_server.engine.threads import Threads

__all__ = ["PlanningFailed", "ask_planner", "await_plan", "make_plan", "record_plan", "served"]

_log = logging.getLogger(__name__)


class PlanningFailed(Exception):
    """There is no plan. `status` is for plan_failed."""

    def __init__(self, status: status_pb2.Status) -> None:
        super().__init__(status.message)
        self.status = status


def served(catalog: Catalog, threads: Threads) -> Catalog:
    """Returns the catalog with its planner and plans all async: plain ones are called in the threads, which are theirs
    alone, so that no operation keeps them waiting.

    Whoever leaves, or is cancelled, does not wait for a plain planner. One that runs on then is let go of: another
    thread takes its place, and it counts as abandoned until it ends. One that hangs while its caller stays keeps its
    thread; the log says when all are taken, and when planners are refused because too many that were left hang.
    """
    planner = catalog.planner
    if planner is not None and not inspect.iscoroutinefunction(planner):
        planner = _in_thread(planner, threads)
    plans = {
        name: named
        if Style.of(named.function) == Style.COROUTINE
        else replace(named, function=_in_thread(named.function, threads))
        for name, named in catalog.plans.items()
    }
    return replace(catalog, planner=planner, plans=plans)


async def make_plan(request: ExecuteRequest, catalog: Catalog) -> Plan:
    """Returns a plan that can run. Raises PlanningFailed. The catalog is a `served` one."""
    try:
        plan = await _ask(work_of(request), catalog)
    except QueryNotUnderstood as error:
        raise PlanningFailed(failure("QUERY_NOT_UNDERSTOOD", error.message)) from None
    except PlanInvalid as error:
        raise PlanningFailed(failure("PLAN_INVALID", error.message)) from None
    except PlanningFailed:
        raise
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise PlanningFailed(failure("PLANNER_FAILED", "the planner raised CancelledError")) from None
    except GeneratorExit:
        raise
    except BaseException as error:
        # sys.exit() in a planner is the planner's failure, not the server's end.
        _log.warning("the planner failed", exc_info=error)
        raise PlanningFailed(failure("PLANNER_FAILED", describe(error))) from error
    if not isinstance(plan, Plan):
        raise PlanningFailed(failure("PLAN_INVALID", f"the plan's function returned {type(plan).__name__}, not Plan"))
    problem = await aside(plan, lambda: plan_problem(plan, catalog))
    if problem is not None:
        raise PlanningFailed(failure("PLAN_INVALID", str(problem)))
    return plan


async def await_plan(
    request: ExecuteRequest,
    catalog: Catalog,
    *,
    name: str,
    wake: asyncio.Event,
    stops: Callable[[], bool],
    gives_up: Callable[[], bool],
    keep: Callable[[asyncio.Task[Any]], None],
) -> Plan | None:
    """Returns the plan, as `make_plan` does; None where `stops` said first that none is wanted. A planner that does not
    end is abandoned once that `gives_up`: its task is given to `keep`. `wake` is set whenever one of the two may have
    changed.
    """
    task = asyncio.create_task(make_plan(request, catalog), name=name)
    task.add_done_callback(lambda _: wake.set())
    while not task.done():
        if stops():
            task.cancel()
        if gives_up():
            _log.warning("%s: the planner does not end; its task is abandoned", name)
            keep(task)
            return None
        wake.clear()
        await wake.wait()
    if stops():
        if not task.cancelled():
            task.exception()
        return None
    if task.cancelled():
        raise PlanningFailed(failure("PLANNER_FAILED", "the planner cancelled its own task"))
    return task.result()


def record_plan(recorder: Recorder, request: ExecuteRequest, plan: Plan, *, query: str) -> None:
    """Records that the plan is known, and of a retry what it goes back to and who asked for it."""
    event = Event(message=f"Execution started: {len(plan.steps)} step{'s' if len(plan.steps) > 1 else ''}")
    event.plan_started.plan.CopyFrom(plan)
    event.plan_started.query = query
    rerun = rerun_of(request)
    if rerun is not None:
        event.metadata.update(retry_of=rerun.execution_id, actor=rerun.actor, reason=rerun.reason)
        event.message += f", {keeps(request) or 'none'} kept of {rerun.execution_id}"
    recorder.record(event)


async def ask_planner(planner: Planner, query: str) -> Plan:
    """Returns the planner's plan. Raises what it raises, but nothing that would end the server; PlanInvalid where it
    returns anything else.
    """
    try:
        plan = await planner(query)
    except (SystemExit, KeyboardInterrupt) as error:
        raise RuntimeError(f"the planner raised {type(error).__name__}") from error
    if not isinstance(plan, Plan):
        raise PlanInvalid(f"the planner returned {type(plan).__name__}, not Plan")
    return plan


async def _ask(request: ExecuteRequest, catalog: Catalog) -> Plan:
    if request.HasField("plan"):
        return request.plan
    if request.HasField("call"):
        named = catalog.plans.get(request.call.plan)
        if named is None:
            raise PlanningFailed(failure("PLAN_NOT_FOUND", f"there is no plan {request.call.plan!r} any more"))
        arguments = named.signature.bind(to_python(request.call.input))
        plan: Plan = await named.function(**arguments)
        return plan
    if catalog.planner is None:
        raise PlanningFailed(failure("NO_PLANNER", "this server has no planner any more"))
    return await ask_planner(catalog.planner, request.query)


def _in_thread(function: Callable[..., Any], threads: Threads) -> Callable[..., Awaitable[Any]]:
    async def call(*positional: Any, **named: Any) -> Any:
        bound = functools.partial(for_thread(function), *positional, **named)
        job = threads.submit(contextvars.copy_context().run, bound)
        try:
            return await asyncio.wrap_future(job)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            assert task is not None
            threads.let_go(task)
            raise

    return call
