"""What keeps a question from becoming a chart. The texts are for whoever asked."""

from __future__ import annotations

from stepwire_server import Refused

__all__ = ["ChartError", "DataError", "NotUnderstood", "QueryStopped"]


class ChartError(Refused):
    """A question that becomes no chart; the text says why, and what to do."""


class NotUnderstood(ChartError):
    """The question is not one of the grammar's, or names what is not there."""


class QueryStopped(ChartError):
    """The query took more time, memory or rows than it may."""


class DataError(ValueError):
    """The data can't be read: no such file, of a form that is not known, or damaged."""
