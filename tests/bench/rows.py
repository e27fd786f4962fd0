"""All rows, in order."""

from __future__ import annotations

from . import (
    b01_flat_out,
    b02_paced,
    b03_watchers,
    b04_many_at_once,
    b05_steps,
    b06_replay,
    b07_idle,
    b08_slow_reader,
    b09_growth,
    b10_start,
)
from .row import Row

__all__ = ["ROWS"]

ROWS: list[Row] = [
    b01_flat_out.ROW,
    b02_paced.ROW,
    b03_watchers.ROW,
    b04_many_at_once.ROW,
    b05_steps.ROW,
    b06_replay.ROW,
    b07_idle.ROW,
    b08_slow_reader.ROW,
    b09_growth.ROW,
    b10_start.ROW,
]
