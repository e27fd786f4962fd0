"""What operations refuse, and what the server's log has of it."""

from __future__ import annotations

import pytest

from stepwire_server import App, Refused

from .rig import Rig, failure_of, request, step


class NoSuchOrder(Refused):
    """An author's own."""


@pytest.mark.parametrize(("error", "is_traced"), [(NoSuchOrder, False), (ValueError, True)])
async def test_a_refusal_is_one_line_of_the_log(
    error: type[Exception], is_traced: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """A step that is refused fails as any other, and the log says so in one line; a bug is told with its traceback."""
    app = App("shop")

    @app.operation()
    async def find(number: int) -> None:
        raise error(f"there is no order {number}")

    async with Rig(app) as rig:
        events = await rig.run(request(step("a", "find", input={"number": 7})))
    assert failure_of(events, "a") == ("OPERATION_FAILED", f"{error.__name__}: there is no order 7")
    (record,) = [record for record in caplog.records if "step a failed" in record.getMessage()]
    assert record.levelname == "WARNING"
    assert ("there is no order 7" in record.getMessage()) is not is_traced
    assert bool(record.exc_info) is is_traced
