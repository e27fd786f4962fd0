"""Python's clients in every case. The others, and the wrong ones, are tried by `make conformance`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.conformance.case import Case
from tests.conformance.cases import CASES
from tests.conformance.clients import find_clients
from tests.conformance.trial import try_case
from tests.conformance.wrong import FAULTS

PYTHON = find_clients(["python", "python-aio"])


def _name(case: Case) -> str:
    return case.name


@pytest.mark.parametrize("case", CASES, ids=_name)
async def test_python(case: Case, tmp_path: Path) -> None:
    """Both clients for Python keep the rule of every case."""
    # At once, since the longest cases are those in which they wait.
    results = await asyncio.gather(*(try_case(case, client, tmp_path / client.name) for client in PYTHON))
    wrong = [f"{result.client}: {what}" for result in results for what in (*result.wrong, result.errors)]
    assert all(result.passed for result in results), "\n".join(wrong)


def test_every_case_has_a_wrong_client() -> None:
    """There is a wrong client for each case, and none without a case."""
    assert set(FAULTS) == {case.name for case in CASES}


def test_names_and_rules() -> None:
    """No two cases have one name, and each has a rule of one sentence."""
    assert len({case.name for case in CASES}) == len(CASES)
    assert [case.name for case in CASES if not case.rule.endswith(".") or ". " in case.rule] == []
