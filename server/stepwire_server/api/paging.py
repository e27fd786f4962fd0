"""Page tokens: where a listing goes on, bound to the filter that it began with."""

from __future__ import annotations

import base64
import binascii
import struct
import zlib

from stepwire.errors import PageTokenInvalid
from stepwire.v1 import ExecutionFilter

__all__ = ["decode", "encode"]

_FORM = struct.Struct(">QI")


def encode(ordinal: int, chosen: ExecutionFilter) -> str:
    """Returns the token for the page after the execution with this ordinal."""
    return base64.urlsafe_b64encode(_FORM.pack(ordinal, _check(ordinal, chosen))).decode().rstrip("=")


def decode(token: str, chosen: ExecutionFilter) -> int:
    """Returns the ordinal to go on below; 0 for the empty token. Raises PageTokenInvalid."""
    if not token:
        return 0
    try:
        ordinal, check = _FORM.unpack(base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True))
    except (binascii.Error, struct.error, ValueError):
        raise PageTokenInvalid("page_token is not one of this server's; begin again without it") from None
    if not 0 < ordinal < 1 << 63 or check != _check(ordinal, chosen):
        raise PageTokenInvalid("page_token belongs to another filter; begin again without it")
    return int(ordinal)


def _check(ordinal: int, chosen: ExecutionFilter) -> int:
    return zlib.crc32(chosen.SerializeToString(deterministic=True), ordinal & 0xFFFFFFFF)
