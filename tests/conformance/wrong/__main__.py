"""The adapter of a wrong client: `python -m tests.conformance.wrong CASE` has the fault that this case catches."""

from __future__ import annotations

import sys

from tests.conformance.adapters import python_client
from tests.conformance.wrong import FAULTS

if __name__ == "__main__":
    FAULTS[sys.argv[1]]()
    python_client.main()
