"""Python's clients in every case. The others, and the wrong ones, are tried by `make conformance`."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.conformance.case import Case
from tests.conformance.cases import CASES
from tests.conformance.clients import Client, find_clients
from tests.conformance.trial import try_case
from tests.conformance.wrong import FAULTS

PYTHON = find_clients(["python", "python-aio"])


def _name(thing: Case | Client) -> str:
    return thing.name


@pytest.mark.parametrize("client", PYTHON, ids=_name)
@pytest.mark.parametrize("case", CASES, ids=_name)
async def test_python(case: Case, client: Client, tmp_path: Path) -> None:
    """Both clients for Python keep the rule of every case."""
    result = await try_case(case, client, tmp_path)
    assert result.passed, "\n".join([*result.wrong, result.errors])


def test_every_case_has_a_wrong_client() -> None:
    """There is a wrong client for each case, and none without a case."""
    assert set(FAULTS) == {case.name for case in CASES}


def test_names_and_rules() -> None:
    """No two cases have one name, and each has a rule of one sentence."""
    assert len({case.name for case in CASES}) == len(CASES)
    assert [case.name for case in CASES if not case.rule.endswith(".") or ". " in case.rule] == []
