"""What is said of an execution that has not ended and that nobody goes on with before a later start."""

from __future__ import annotations

from stepwire.errors import InternalError, JournalDamaged, StepwireError

__all__ = ["broken_off", "left_out"]


def left_out(execution_id: str) -> StepwireError:
    """Returns the error for an execution that a start could not take over."""
    return JournalDamaged(
        f"execution {execution_id} could not be taken over when this server started, and does not go on; the server's "
        "log says why. Only a later start can take it over"
    )


def broken_off(execution_id: str, lost: BaseException | None) -> StepwireError:
    """Returns the error for an execution whose events could not be stored any more, with what the journal raised; None
    where the engine itself failed.
    """
    if isinstance(lost, StepwireError):
        # The same class, so that it has the same code and reason.
        return type(lost)(f"execution {execution_id} does not go on, its events can't be stored: {lost.message}")
    return InternalError(f"execution {execution_id} does not go on: the engine failed; the server's log says where")
