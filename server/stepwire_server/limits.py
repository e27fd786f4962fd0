"""How much one caller, and all callers together, may have of a server at once.

A caller is the host that a connection comes from: without authentication there is nothing better to know callers by.
So all who come through one proxy, or over a Unix socket, are one caller. The defaults leave one machine room for 10,000
idle watchers (on three connections) and 1,000 concurrent starts, and leave a part of every limit to others, whatever
one caller does. Where everybody comes through one proxy, that part is nobody's: set a caller's limits to those of all.

A connection has a limit of its own, which HTTP/2 tells the client: what is beyond it waits in the client, without a
word, until a call ends; and a client that is always at it may be refused with UNAVAILABLE, since a call counts until
the server has let go of it. The default is above what one client needs: with 100, three of four of a thousand Executes
begun at once were refused. It is also what a flood of calls that are reset at once can put before the next honest call,
at some 3,000 a second: measured on two cores that the flood shared, its 99th percentile was 1 s with the default and
30 ms with 16. Nothing in grpc.aio tells connections apart before a call has come to its turn.
"""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["CallLimits"]


def _limit(default: int, says: str) -> int:
    return field(default=default, metadata={"help": says})


@dataclass(frozen=True, slots=True, kw_only=True)
class CallLimits:
    """The limits. Each field is a flag of `serve`, with the help that stands in its metadata."""

    max_executions: int = _limit(10_000, "Executions that run at once.")
    max_starts_per_caller: int = _limit(5_000, "Executions of one caller (a host) that are being accepted at once.")
    max_watchers: int = _limit(20_000, "Streams and waits that are open at once.")
    max_watchers_per_caller: int = _limit(
        16_000, "Those of one caller. Where all come through one proxy, set each ...-per-caller to the limit of all."
    )
    max_calls: int = _limit(10_000, "Other calls that run at once.")
    max_calls_per_caller: int = _limit(8_000, "Those of one caller.")
    max_half_open_calls: int = _limit(20_000, "Calls whose request has not come yet.")
    max_half_open_calls_per_caller: int = _limit(16_000, "Those of one caller.")
    max_streams_per_connection: int = _limit(
        4_000, "Calls of any kind on one connection; more wait in the client. Against floods of strangers: 16."
    )
    body_timeout: float = field(default=30.0, metadata={"help": "Seconds that a call's request may take to come."})
