"""One request to an OpenAI-compatible endpoint, by way of the openai library, and what becomes of it.

The library tries nothing again (`max_retries=0`) and limits no time but the connecting: both are `model.py`'s, which
can tell of it. Nothing that it raises goes further: its exceptions carry requests, answers and what an endpoint echoes.
"""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from email.utils import mktime_tz, parsedate_tz
from typing import Any, NamedTuple

from stepwire_server.models.errors import Trouble
from stepwire_server.models.secrets import Secret

__all__ = ["Said", "Wire", "retry_after"]

_CONNECT = 10.0
"""Seconds for a connection to be made."""

_READ = 10_000
_TEXT = 500
"""Characters of an endpoint's own words that are looked at, and that are passed on."""

_REASON = 80
"""Characters of a finish reason."""

_PASSING = frozenset({408, 409, 425, 429})
"""Status codes below 500 after which the same request may do better."""

_SPENT = frozenset({"insufficient_quota", "billing_hard_limit_reached"})
"""What some call too many requests, and no waiting mends."""


_DONE = re.compile(rb"[\r\n]data: ?\[DONE\]")


class Said(NamedTuple):
    """What one chunk of an answer says."""

    text: str = ""
    refusal: str = ""
    finish: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    is_all: bool = False
    """Whether the endpoint says that nothing follows."""


class Wire:
    """An endpoint's address and key."""

    __slots__ = ("_client", "_create", "_headers", "_now", "_secret", "url")

    def __init__(self, *, url: str, secret: Secret, now: Callable[[], float]) -> None:
        """Raises ValueError where the library is missing. `now`: the wall clock's seconds."""
        try:
            from openai import AsyncOpenAI, Omit, Timeout
        except ModuleNotFoundError:
            raise ValueError("models need the openai library: pip install 'stepwire[server,agents]'") from None
        self.url = url
        self._secret = secret
        self._now = now
        # It will have a key; where there is none, the header is left out.
        self._client = AsyncOpenAI(
            base_url=url,
            api_key=secret.in_clear() or "none",
            max_retries=0,
            timeout=Timeout(None, connect=_CONNECT),
        )
        # Asked for the first time here, where a thread may wait for it: much is imported by that.
        self._create: Any = self._client.chat.completions.create
        self._headers: dict[str, Any] = {} if secret else {"Authorization": Omit()}
        for name in ("openai", "httpx", "httpx2", "httpcore", "httpcore2"):
            # Below that they write prompts and headers, and a line for each request.
            log = logging.getLogger(name)
            if log.level < logging.WARNING:
                log.setLevel(logging.WARNING)

    async def said(self, request: Mapping[str, Any]) -> AsyncGenerator[Said, None]:
        """Gives what the endpoint says, as it says it. Whoever leaves before the end closes the connection. Raises
        Trouble.
        """
        import openai

        trouble: Trouble | None = None
        try:
            stream = await self._create(**request, stream=True, extra_headers=self._headers)
        except openai.APIError as error:
            trouble = self._trouble(error, f"no connection to {self.url}")
        except Exception as error:
            trouble = Trouble(
                self._told("the request can't be sent", f"{type(error).__name__}: {error}"), passing=False
            )
        # Raised here, it has no context: that would have the request, and with it the key.
        if trouble is not None:
            raise trouble
        body, came = _Body(stream.response), False
        try:
            chunks = self._whole(stream) if _is_whole(stream) else aiter(stream)
            while True:
                try:
                    chunk = await anext(chunks)
                except StopAsyncIteration:
                    break
                except Exception as error:
                    # Which classes these are differs between the library's releases: its own, its transport's, json's.
                    trouble = self._trouble(error, "the endpoint's answer broke off")
                if trouble is not None:
                    raise trouble
                said, came = _read(chunk), True
                # It stands in the step's output, and may be anything.
                yield said._replace(finish=self._secret.redacted(said.finish[:_REASON]))
            if body.head and not came:
                raise self._no_protocol(stream, body.head)
            if body.is_done:
                yield Said(is_all=True)
        finally:
            body.leave()
            await stream.close()

    async def close(self) -> None:
        """Closes the connections that are kept."""
        await self._client.close()

    async def _whole(self, stream: Any) -> AsyncIterator[Any]:
        """Gives the answer of an endpoint that does not stream as one chunk."""
        from openai.types.chat import ChatCompletion

        body = (await stream.response.aread()).decode("utf-8", "replace")
        answer = json.loads(body)
        if not isinstance(answer, dict) or not answer.get("choices"):
            raise Trouble(self._told("the endpoint answers with something that is no answer", body), passing=False)
        yield ChatCompletion.construct(**answer)

    def _no_protocol(self, stream: Any, head: bytes) -> Trouble:
        # What streams events may do better the next time; a page is there tomorrow, too.
        passing = str(stream.response.headers.get("content-type", "")).startswith("text/event-stream")
        text = f"what answers at {self.url} does not speak the protocol (is model-url the API's base URL?); it said"
        return Trouble(self._told(text, head.decode("utf-8", "replace")), passing=passing)

    def _trouble(self, error: Exception, what: str) -> Trouble:
        """`what`: what it means where the error is the connection's."""
        import openai

        if isinstance(error, Trouble):
            return error.with_traceback(None)
        if isinstance(error, openai.APIStatusError):
            return self._status(error)
        if isinstance(error, ValueError):
            return Trouble("the endpoint sent something that is no JSON", passing=True)
        if isinstance(error, openai.APIError) and not isinstance(error, openai.APIConnectionError):
            return Trouble(self._told("the endpoint reports an error in its answer", error.message), passing=True)
        cause = error.__cause__ or error
        return Trouble(self._told(what, str(cause) or type(cause).__name__), passing=True)

    def _status(self, error: Any) -> Trouble:
        status, headers = int(error.status_code), error.response.headers
        passing = (status in _PASSING or status >= 500) and error.code not in _SPENT
        if headers.get("x-should-retry") in {"true", "false"}:
            passing = headers["x-should-retry"] == "true"
        # Most say what is wrong in a `message`; some in the body itself, or under another name.
        words = error.body.get("message", error.body) if isinstance(error.body, Mapping) else error.body
        return Trouble(
            self._told(f"the endpoint answers {status}{_advice(status)}", words),
            passing=passing,
            status=status,
            parameter=str(error.param or ""),
            retry_after=retry_after(headers, self._now()),
        )

    def _told(self, text: str, words: object) -> str:
        told = " ".join(self._secret.redacted(str(words or "")[:_READ]).split())
        return f"{text}: {told[:_TEXT]}" if told else text


class _Body:
    """The bytes of an answer, as they go to the library: of what is no event it tells nothing, nor of the last one."""

    def __init__(self, response: Any) -> None:
        self.head = b""
        """How the answer begins."""
        self.is_done = False
        """Whether its last event has come."""
        self._response = response
        self._read = response.aiter_bytes
        response.aiter_bytes = self._noted

    def leave(self) -> None:
        """Notes nothing more."""
        del self._response.aiter_bytes

    async def _noted(self, *given: Any) -> AsyncIterator[bytes]:
        end = b"\n"
        async for part in self._read(*given):
            self.head += part[: _READ - len(self.head)]
            end += part
            self.is_done = self.is_done or _DONE.search(end) is not None
            end = end[-16:]
            yield part


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Returns the seconds after which a server wants to be asked again: of `retry-after-ms`, or of `retry-after` in
    seconds or as a date. None where it does not say, or says what is none.
    """
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) / unit
        except ValueError:
            continue
        if seconds >= 0 and not math.isnan(seconds):
            return seconds
    try:
        date = parsedate_tz(headers.get("retry-after", ""))
        return None if date is None else max(0.0, mktime_tz(date) - now)
    except (ValueError, OverflowError):
        return None


def _advice(status: int) -> str:
    match status:
        case 401 | 403:
            return " (the key is missing, wrong, or not allowed to do this)"
        case 404:
            return " (no such model, or model-url is not the API's base URL)"
        case 413:
            return " (the request is too large)"
        case 429:
            return " (too many requests)"
        case _:
            return ""


def _read(chunk: Any) -> Said:
    """Returns what a chunk says. The library checks nothing of what it makes objects of."""
    usage = getattr(chunk, "usage", None)
    tokens = (_tokens(usage, "prompt_tokens"), _tokens(usage, "completion_tokens"))
    choices = getattr(chunk, "choices", None)
    if not isinstance(choices, list) or not choices:
        return Said("", "", "", *tokens)
    delta = getattr(choices[0], "delta", None) or getattr(choices[0], "message", None)
    words = (_text(delta, "content"), _text(delta, "refusal"), _text(choices[0], "finish_reason"))
    return Said(*words, *tokens)


def _text(source: object, name: str) -> str:
    value = getattr(source, name, None)
    return value if isinstance(value, str) else ""


def _tokens(usage: object, name: str) -> int | None:
    value = getattr(usage, name, None)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _is_whole(stream: Any) -> bool:
    return str(stream.response.headers.get("content-type", "")).startswith("application/json")
