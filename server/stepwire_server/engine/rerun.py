"""What a retry asks for, as the record of the new execution keeps it.

A record keeps an ExecuteRequest. That of a retry calls a plan by a name that no app can give: nobody can send it, and a
server that knows of no retries runs nothing of it. Session, labels and options are those of the earlier execution.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from dataclasses import dataclass

from stepwire.v1 import ExecuteRequest
from stepwire.values import to_python, to_struct

__all__ = ["Rerun", "is_planned", "keeps", "plan_name_of", "query_of", "rerun_of", "rerun_request", "work_of"]

_PLAN = ":retry"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rerun:
    """What the caller of a retry said. Two retries are the same where this is."""

    execution_id: str
    """The earlier execution."""
    step_ids: frozenset[str]
    """The steps that were named."""
    actor: str
    reason: str


def rerun_request(rerun: Rerun, earlier: ExecuteRequest, *, kept: int | None) -> ExecuteRequest:
    """Returns the request of a retry of what an earlier request began. `kept`: how many steps are kept; None where the
    earlier execution had no plan, so that this one begins with the same work.
    """
    request = ExecuteRequest(session_id=earlier.session_id, labels=earlier.labels)
    if earlier.HasField("options"):
        request.options.CopyFrom(earlier.options)
    said = {
        "execution_id": rerun.execution_id,
        "step_ids": sorted(rerun.step_ids),
        "actor": rerun.actor,
        "reason": rerun.reason,
        "query": query_of(earlier),
        "plan": plan_name_of(earlier) or None,
        "kept": kept,
        "work": b64encode(_only_work(work_of(earlier))).decode() if kept is None else None,
    }
    request.call.plan = _PLAN
    request.call.input.CopyFrom(to_struct({key: value for key, value in said.items() if value is not None}))
    return request


def rerun_of(request: ExecuteRequest) -> Rerun | None:
    """Returns what a retry asked for; None for any other request."""
    if request.call.plan != _PLAN:
        return None
    said = to_python(request.call.input)
    return Rerun(
        execution_id=said["execution_id"],
        step_ids=frozenset(said["step_ids"]),
        actor=said["actor"],
        reason=said["reason"],
    )


def keeps(request: ExecuteRequest) -> int | None:
    """Returns how many steps a retry keeps; None for one that makes its plan itself, and for any other request."""
    if request.call.plan != _PLAN or "kept" not in request.call.input:
        return None
    return int(request.call.input.fields["kept"].number_value)


def query_of(request: ExecuteRequest) -> str:
    """Returns the query that an execution goes back to; empty where there is none."""
    return request.call.input.fields["query"].string_value if request.call.plan == _PLAN else request.query


def plan_name_of(request: ExecuteRequest) -> str:
    """Returns the name of the plan that an execution goes back to: the one under which the app keeps it, else that of
    the plan itself; empty where there is none, and for a query.
    """
    if request.call.plan != _PLAN:
        return request.call.plan or request.plan.name
    return request.call.input.fields["plan"].string_value if "plan" in request.call.input else ""


def work_of(request: ExecuteRequest) -> ExecuteRequest:
    """Returns the request that says what is to be planned: of a retry that makes its plan itself, the first one."""
    if request.call.plan == _PLAN and "work" in request.call.input:
        return ExecuteRequest.FromString(b64decode(request.call.input.fields["work"].string_value))
    return request


def is_planned(request: ExecuteRequest) -> bool:
    """Returns whether a planner makes the plan."""
    return work_of(request).HasField("query")


def _only_work(request: ExecuteRequest) -> bytes:
    only = ExecuteRequest()
    only.CopyFrom(request)
    for name in ("session_id", "labels", "options"):
        only.ClearField(name)
    return only.SerializeToString(deterministic=True)
