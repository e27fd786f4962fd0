"""Requests that are accepted together: what is wrong with one of them is said with its index."""

from __future__ import annotations

from collections.abc import Sequence

from stepwire.errors import RequestMalformed, StepwireError, Violation
from stepwire.v1 import ExecuteRequest
from stepwire_server.engine.acceptance import check_form

__all__ = ["at", "check_forms"]

_MOST = 100
"""Violations that are told of at once."""


def at(index: int, error: StepwireError) -> StepwireError:
    """Returns the error as that of one request of several."""
    place = f"requests[{index}]"
    found = [Violation(f"{place}.{field}", text) for field, text in error.violations]
    return type(error)(
        f"{place}: {error.message}",
        violations=found or [Violation(place, error.message)],
        retry_after=error.retry_after,
        metadata=error.metadata,
    )


def check_forms(requests: Sequence[ExecuteRequest]) -> None:
    """Raises RequestMalformed with what is wrong with the form of any of them; two with one request id are, too."""
    found: list[Violation] = []
    first: dict[str, int] = {}
    for index, request in enumerate(requests):
        try:
            check_form(request)
        except RequestMalformed as error:
            found += at(index, error).violations
        if request.request_id and first.setdefault(request.request_id, index) != index:
            text = f"is that of requests[{first[request.request_id]}] too"
            found.append(Violation(f"requests[{index}].request_id", text))
        if len(found) >= _MOST:
            break
    if found:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise RequestMalformed(
            f"the batch is malformed: {found[0].field} {found[0].description}{more}", violations=found[:_MOST]
        )
