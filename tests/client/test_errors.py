"""Errors on their way into a status and back."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from google.rpc import code_pb2, error_details_pb2, status_pb2

from stepwire import errors


def all_errors(root: type[errors.StepwireError] = errors.StepwireError) -> list[type[errors.StepwireError]]:
    """Returns an error and those below it that callers may see: the server has kinds of its own."""
    children = [child for child in root.__subclasses__() if child.__module__ == errors.__name__]
    return [root, *(found for child in children for found in all_errors(child))]


def test_tree() -> None:
    """The tree in the docstring has every class, under its parent and with its reason; and each is exported."""
    drawn: dict[str, str] = {}
    line_of: dict[str, str] = {}
    above: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"    ((?:[|`] *)*(?:-- )?)([A-Z]\w+)", line)
        if found:
            depth = len(found[1]) // 4
            above[depth:] = [found[2]]
            drawn[found[2]] = above[depth - 1] if depth else ""
            line_of[found[2]] = line
    for kind in all_errors():
        assert drawn[kind.__name__] == ("" if kind is errors.StepwireError else kind.__base__.__name__)
        assert kind.reason in line_of[kind.__name__]
        assert kind.__name__ in errors.__all__
    assert len(drawn) == len(all_errors())


@pytest.mark.parametrize("reason", sorted(errors.REASONS))
def test_there_and_back(reason: str) -> None:
    """Each error comes back as its class, with all that it carries."""
    kind = errors.REASONS[reason]
    sent = kind(
        "what happened",
        violations=[errors.Violation("plan.steps[0]", "is wrong")],
        retry_after=timedelta(seconds=1.5),
        metadata={"first_sequence": "7"},
    )
    status = errors.status_from_error(sent)
    back = errors.error_from_status(status)
    assert type(back) is kind
    assert (back.message, back.violations, back.retry_after) == (sent.message, sent.violations, sent.retry_after)
    assert back.metadata == sent.metadata
    assert errors.reason_of(status) == reason
    assert status.code == kind.code


def test_many_violations() -> None:
    """Violations beyond what metadata can carry are counted."""
    sent = errors.PlanInvalid("no", violations=[errors.Violation(f"plan.steps[{n}]", "x" * 50) for n in range(500)])
    status = errors.status_from_error(sent)
    assert status.ByteSize() < 4096
    back = errors.error_from_status(status)
    assert re.fullmatch(r"and \d+ more", back.violations[-1].description)
    assert len(back.violations) - 1 + int(back.violations[-1].description.split()[1]) == 500


def test_text() -> None:
    """An error's text has each violation on a line of its own."""
    error = errors.InputInvalid("no", violations=[errors.Violation("input.n", "is too large")])
    assert str(error) == "no\n  input.n: is too large"


def test_text_once() -> None:
    """A single violation that the message says already is not said again; several are listed."""
    one, two = errors.Violation("input.n", "is too large"), errors.Violation("input.m", "is missing")
    assert str(errors.InputInvalid("no: input.n is too large", violations=[one])) == "no: input.n is too large"
    listed = str(errors.InputInvalid("no: input.n is too large (and 1 more)", violations=[one, two]))
    assert listed.splitlines()[1:] == ["  input.n: is too large", "  input.m: is missing"]


def test_foreign() -> None:
    """A status of another domain, or without a reason, is CallFailed with its code, and keeps when to try again."""
    status = status_pb2.Status(code=code_pb2.RESOURCE_EXHAUSTED)
    for detail in (
        error_details_pb2.ErrorInfo(domain="proxy", reason="LIMIT_SIZE"),
        error_details_pb2.RetryInfo(retry_delay={"seconds": 3}),
    ):
        status.details.add().Pack(detail)
    error = errors.error_from_status(status)
    assert isinstance(error, errors.CallFailed)
    assert (error.status_code, error.message) == (code_pb2.RESOURCE_EXHAUSTED, "RESOURCE_EXHAUSTED")
    assert error.retry_after == timedelta(seconds=3)
    assert errors.reason_of(status) == ""


def test_unknown_reason() -> None:
    """A reason of a newer server is CallFailed, with the code."""
    status = status_pb2.Status(code=code_pb2.ABORTED, message="new")
    status.details.add().Pack(error_details_pb2.ErrorInfo(domain=errors.DOMAIN, reason="BRAND_NEW"))
    error = errors.error_from_status(status)
    assert isinstance(error, errors.CallFailed)
    assert error.status_code == code_pb2.ABORTED
