"""Gets an execution its plan: the caller's own, one that the app keeps, or one that the planner makes."""

from __future__ import annotations

import asyncio
import logging

from google.rpc import status_pb2

from stepwire.errors import QueryNotUnderstood, failure
from stepwire.v1 import ExecuteRequest, Plan
from stepwire.values import to_python
from stepwire_server.engine.acceptance import plan_problem
from stepwire_server.engine.operation import Catalog

__all__ = ["PlanningFailed", "make_plan"]

_log = logging.getLogger(__name__)


class PlanningFailed(Exception):
    """There is no plan. `status` is for plan_failed."""

    def __init__(self, status: status_pb2.Status) -> None:
        super().__init__(status.message)
        self.status = status


async def make_plan(request: ExecuteRequest, catalog: Catalog) -> Plan:
    """Returns a plan that can run. Raises PlanningFailed."""
    try:
        plan = await _ask(request, catalog)
    except QueryNotUnderstood as error:
        raise PlanningFailed(failure("QUERY_NOT_UNDERSTOOD", error.message)) from None
    except PlanningFailed:
        raise
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise PlanningFailed(failure("PLANNER_FAILED", "the planner raised CancelledError")) from None
    except Exception as error:
        _log.exception("the planner failed")
        raise PlanningFailed(failure("PLANNER_FAILED", f"{type(error).__name__}: {error}")) from error
    if not isinstance(plan, Plan):
        raise PlanningFailed(failure("PLAN_INVALID", f"the planner returned {type(plan).__name__}, not Plan"))
    problem = plan_problem(plan, catalog)
    if problem is not None:
        raise PlanningFailed(failure("PLAN_INVALID", str(problem)))
    return plan


async def _ask(request: ExecuteRequest, catalog: Catalog) -> Plan:
    if request.HasField("plan"):
        return request.plan
    if request.HasField("call"):
        named = catalog.plans.get(request.call.plan)
        if named is None:
            raise PlanningFailed(failure("PLAN_NOT_FOUND", f"there is no plan {request.call.plan!r} any more"))
        made = named.function(**named.signature.bind(to_python(request.call.input)))
        plan: Plan = await made if asyncio.iscoroutine(made) else made
        return plan
    if catalog.planner is None:
        raise PlanningFailed(failure("NO_PLANNER", "this server has no planner any more"))
    return await catalog.planner(request.query)
