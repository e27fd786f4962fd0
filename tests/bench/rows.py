"""All rows, in order."""

from __future__ import annotations

from . import b01_flat_out
from .row import Row

__all__ = ["ROWS"]

ROWS: list[Row] = [b01_flat_out.ROW]
