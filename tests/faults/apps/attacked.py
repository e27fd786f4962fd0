"""The app that hostile callers are let loose on: the one that the bad inputs were written for."""

from __future__ import annotations

from tests.server.api.shop import Gate, create_app

app = create_app(Gate())
