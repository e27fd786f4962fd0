"""Seeds; and lets the fault suite use the servers and proxies of the end-to-end suite, however pytest is called."""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

import pytest

_ROOT = str(Path(__file__).resolve().parents[2])
if _ROOT not in sys.path:
    sys.path.append(_ROOT)


@pytest.fixture
def random_seed() -> int:
    """A new seed for each run, printed, or the one in FAULTS_SEED."""
    seed = int(os.environ.get("FAULTS_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"seed {seed}; again with FAULTS_SEED={seed}")
    return seed
