"""Clients that get one answer wrong."""

from __future__ import annotations

import json
from typing import Any

from google.rpc import status_pb2
from tests.conformance.adapters import python_client

from stepwire import transport
from stepwire.client import Client
from stepwire.errors import CallFailed, ExecutionEnded, StepwireError
from stepwire.v1 import Execution

from .fault import caught_by, instead_of


@caught_by("get")
def gives_no_state() -> None:
    """It gives a snapshot that has nothing but the id."""
    instead_of(Client, "get")(lambda right, client, asked: Execution(execution_id=right(client, asked).execution_id))


@caught_by("get-refused")
def gives_no_reason() -> None:
    """It gives the code of what is refused, and not the reason."""

    @instead_of(transport, "error_from_status")
    def error_from_status(right: Any, status: status_pb2.Status) -> StepwireError:
        return CallFailed(status.message, status_code=status.code)


@caught_by("unanswered")
def asks_again_after_its_deadline() -> None:
    """It takes its own deadline for a fault of the line, and waits anew."""

    @instead_of(Client, "get")
    def get(right: Any, client: Client, execution_id: str) -> Execution:
        try:
            return right(client, execution_id)
        except CallFailed:
            return right(client, execution_id)


@caught_by("cancel")
def keeps_the_reason() -> None:
    """It does not say why it cancels."""
    instead_of(Client, "cancel")(lambda right, client, asked, reason: right(client, asked))


@caught_by("cancel-refused")
def is_content_with_any_end() -> None:
    """It takes a refusal for success, because the execution has ended."""

    @instead_of(Client, "cancel")
    def cancel(right: Any, client: Client, execution_id: str, reason: str) -> Execution:
        try:
            return right(client, execution_id, reason)
        except ExecutionEnded as ended:
            return Execution(execution_id=execution_id, state=ended.metadata["state"])


@caught_by("decode")
def counts_in_doubles() -> None:
    """It has doubles for 64 bits."""

    @instead_of(python_client, "decoded")
    def decoded(right: Any, command: Any) -> Any:
        return json.loads(json.dumps(right(command)).replace(str(2**53 + 1), str(2**53)))


@caught_by("decode-status")
def has_no_details() -> None:
    """It keeps the code and the message of a status, and drops its details."""

    @instead_of(python_client, "decoded")
    def decoded(right: Any, command: Any) -> Any:
        message = right(command)
        del message["planFailed"]["error"]["details"]
        return message
