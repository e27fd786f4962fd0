"""Lets the fault suite use the servers and proxies of the end-to-end suite, however pytest is called."""

from __future__ import annotations

import sys
from pathlib import Path

_ROOT = str(Path(__file__).resolve().parents[2])
if _ROOT not in sys.path:
    sys.path.append(_ROOT)
