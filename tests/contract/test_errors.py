"""The table of errors: what a status carries, and that the contract's comments name all of it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from google.rpc import code_pb2, status_pb2
from hypothesis import given
from hypothesis import strategies as st

from stepwire import errors
from stepwire.errors import (
    FAILURES,
    REASONS,
    CallFailed,
    PlanInvalid,
    StepwireError,
    Violation,
    error_from_status,
    failure,
    reason_of,
    status_from_error,
)

from .test_contract import comments

_texts = st.text(st.characters(codec="utf-8"), max_size=40)


def test_every_reason_of_the_comments_is_in_the_table() -> None:
    """What a comment of the contract calls a reason is one, with the code that the comment says."""
    for code, reason in comments():
        number = code_pb2.Code.Value(code)
        assert (reason in REASONS and REASONS[reason].code == number) or FAILURES.get(reason) == number, (code, reason)


def test_every_reason_of_the_table_is_in_the_comments() -> None:
    """Every reason that a call or an event may carry is explained in the contract, with its code."""
    named = set(comments())
    calls = {(code_pb2.Code.Name(kind.code), reason) for reason, kind in REASONS.items()}
    events = {(code_pb2.Code.Name(code), reason) for reason, code in FAILURES.items()}
    assert calls - named == set()
    assert events - named == set()


def test_reasons_are_unique() -> None:
    """Two classes never share a reason."""
    leaves = [kind for kind in _all(StepwireError) if kind.reason]
    assert len({kind.reason for kind in leaves}) == len(leaves) == len(REASONS)


def _all(root: type[StepwireError]) -> list[type[StepwireError]]:
    """Returns all errors that callers may see: the server's own kinds of one of them are that one to callers."""
    return [
        kind
        for child in root.__subclasses__()
        if child.__module__ == "stepwire.errors"
        for kind in (child, *_all(child))
    ]


@pytest.mark.parametrize("reason", sorted(REASONS))
@given(
    message=_texts,
    violations=st.lists(st.builds(Violation, _texts, _texts), max_size=5),
    seconds=st.none() | st.integers(0, 10**6),
    metadata=st.dictionaries(_texts, _texts, max_size=3),
)
def test_errors_survive_the_wire(
    reason: str, message: str, violations: list[Violation], seconds: int | None, metadata: dict[str, str]
) -> None:
    """Every error comes back from its status as the same class with all that it had."""
    sent = REASONS[reason](
        message,
        violations=violations,
        retry_after=None if seconds is None else timedelta(seconds=seconds),
        metadata=metadata,
    )
    status = status_pb2.Status.FromString(status_from_error(sent).SerializeToString())
    found = error_from_status(status)

    assert type(found) is type(sent)
    assert status.code == sent.code
    assert (found.message, found.violations, found.retry_after, found.metadata) == (
        sent.message,
        sent.violations,
        sent.retry_after,
        sent.metadata,
    )
    assert reason_of(status) == reason


@pytest.mark.parametrize("text", ["x" * 80, "ü" * 80, "漢" * 80, "𝔘" * 80], ids=["ASCII", "two", "three", "four"])
def test_details_stay_small(text: str) -> None:
    """With a thousand violations of any script a status stays below 4 KiB, and says how many it left out."""
    status = status_from_error(PlanInvalid("no", violations=[Violation(f"f{i}", text) for i in range(1_000)]))

    assert status.ByteSize() < 4096
    found = error_from_status(status).violations
    assert 1 < len(found) < 1_000
    assert found[-1].description == f"and {1_000 - len(found) + 1} more"


def test_a_status_of_somebody_else() -> None:
    """A status without our ErrorInfo, or with a reason that is not known, is CallFailed with its code."""
    foreign = status_pb2.Status(code=code_pb2.UNAVAILABLE, message="no route")
    found = error_from_status(foreign)
    assert isinstance(found, CallFailed)
    assert found.status_code == code_pb2.UNAVAILABLE

    newer = status_from_error(PlanInvalid("x"))
    info = newer.details[0]
    info.value = info.value.replace(b"PLAN_INVALID", b"PLAN_UNLIKED")
    assert isinstance(error_from_status(newer), CallFailed)


@pytest.mark.parametrize("reason", sorted(FAILURES))
def test_failures(reason: str) -> None:
    """Every reason of an event makes a status with its code, its reason and its whole text."""
    status = failure(reason, "x" * 5_000)
    assert (status.code, reason_of(status), len(status.message)) == (FAILURES[reason], reason, 5_000)


def test_the_tree_is_exported() -> None:
    """Every class of the tree is in __all__."""
    for kind in _all(StepwireError):
        assert kind.__name__ in errors.__all__
