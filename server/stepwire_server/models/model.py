"""One model behind an OpenAI-compatible endpoint: a prompt becomes text, piece by piece.

What goes wrong before anything was streamed is tried again here, and each time is said as an `error` event. What breaks
off in mid-text is not: nobody can take back what was streamed within an attempt. It raises ModelInterrupted, and the
step's next attempt, which `MODEL_RETRY` asks for, voids it.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from google.protobuf import duration_pb2

from stepwire_server import Retry, StepContext, SubstepContext
from stepwire_server.models.dialect import Dialect
from stepwire_server.models.errors import (
    ModelInterrupted,
    ModelRefused,
    ModelTimeout,
    ModelUnavailable,
    Trouble,
)
from stepwire_server.models.secrets import Secret
from stepwire_server.models.settings import OPENAI, Limits, key_of, limits_of, url_of
from stepwire_server.models.structured import Form, structured
from stepwire_server.models.telling import Telling
from stepwire_server.models.wire import Said, Wire

__all__ = ["MODEL_RETRY", "Answer", "Model", "model_from"]

_log = logging.getLogger(__name__)

MODEL_RETRY = Retry(
    attempts=3, initial_delay=duration_pb2.Duration(seconds=1), jitter=0.5, errors=[ModelInterrupted.__name__]
)
"""The retry of an operation that asks a model: an answer that broke off in mid-text is worth another attempt. What is
worth trying before that, the model has tried.
"""

_LAST_WORDS = 5.0
"""Seconds for what comes after the finish reason: usage, where the endpoint tells it."""

_FIRST_WAIT = 0.5
_LONGEST_WAIT = 20.0
_LONGER = 0.1
"""Seconds before the second try; at most; and by how much of what the endpoint says a wait may be longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a model said."""

    text: str
    """All of it: the pieces that were streamed, one after the other."""
    pieces: int
    """In how many pieces it came."""
    finish_reason: str
    """`stop`; `length` where the token limit cut it, or 768 KiB did; `content_filter` where the endpoint's filter did;
    `refusal` where the model declined, and the text says why; what else the endpoint has; empty where it has none.
    """
    prompt_tokens: int | None = None
    """What the endpoint counted; None where it does not tell."""
    completion_tokens: int | None = None
    """Likewise."""


class Model:
    """One model behind an endpoint. It may be asked by many steps at once.

    @app.operation("greet", retry=MODEL_RETRY)
    async def greet(step: StepContext, name: str) -> str:
        answer = await model.text(step, f"Greet {name}.")
        return answer.text
    """

    def __init__(
        self,
        name: str,
        *,
        url: str = OPENAI,
        key: str = "",
        limits: Limits | None = None,
        chance: Callable[[], float] = random.random,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`chance` gives 0 to 1, for the jitter; `now` the wall clock's seconds, for an endpoint that names a date.

        Raises ValueError where the openai library is missing, and for a key that can't be one.
        """
        self.name = name
        """The model's name at its endpoint."""
        self.limits = limits or Limits()
        """What one answer may take."""
        self._wire = Wire(url=url, secret=Secret(key), now=now)
        self._dialect = Dialect()
        self._chance = chance
        self._sleep = sleep

    def __repr__(self) -> str:
        return f"Model({self.name!r}, url={self._wire.url!r})"

    async def text(
        self,
        step: StepContext,
        prompt: str | list[dict[str, Any]],
        *,
        system: str = "",
        channel: str = "",
        expected_length: int | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
        part: SubstepContext | None = None,
    ) -> Answer:
        """Asks the model, and streams each piece of its answer as `content` of the step.

        `prompt`: a text, or messages as the protocol has them. Every 10 pieces there is a report of progress: of the
        step, or of `part`; with a percentage, below 100, where `expected_length` says how many characters to expect.

        Raises ModelRefused, ModelUnavailable, ModelInterrupted and ModelTimeout: `errors.py` says what each means.
        """
        telling = Telling(step, channel=channel, expected_length=expected_length, part=part)
        return await self.answer(telling, self.request(prompt, system, max_tokens, temperature))

    async def structured(
        self,
        step: StepContext,
        prompt: str | list[dict[str, Any]],
        *,
        schema: Mapping[str, Any],
        system: str = "",
        channel: str = "json",
        expected_length: int | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
        part: SubstepContext | None = None,
        rounds: int = 3,
    ) -> Any:
        """Asks the model for JSON that matches a schema, and returns it.

        An answer that does not match is asked for again with what was wrong, in `rounds` altogether; the text of each
        is streamed in a channel of its own: `json`, `json-2`, ... Raises what `text` raises, ModelDeclined,
        AnswerInvalid, which names the place that is wrong, and ValueError for a schema that is none.
        """
        value, _ = await structured(
            self,
            step,
            self.request(prompt, system, max_tokens, temperature),
            form=Form(schema),
            channel=channel,
            expected_length=expected_length,
            part=part,
            rounds=rounds,
        )
        return value

    async def close(self) -> None:
        """Closes the connections that are kept for the next answer. Whoever makes models in passing needs it: tests."""
        await self._wire.close()

    def request(
        self, prompt: str | list[dict[str, Any]], system: str, max_tokens: int | None, temperature: float | None
    ) -> dict[str, Any]:
        """Returns what the endpoint is to be asked. For `structured.py`."""
        messages = [{"role": "system", "content": system}] if system else []
        request: dict[str, Any] = {"model": self.name, "messages": messages + _messages(prompt)}
        if max_tokens is not None:
            request["max_tokens"] = max_tokens
        if temperature is not None:
            request["temperature"] = temperature
        return {**request, "stream_options": {"include_usage": True}}

    async def answer(self, telling: Telling, request: dict[str, Any]) -> Answer:
        """Asks until there is an answer, within the time limit of the whole. For `structured.py`."""
        try:
            async with asyncio.timeout(self.limits.whole) as whole:
                return await self._persist(telling, request, whole)
        except TimeoutError:
            if not whole.expired():
                raise
        raise ModelTimeout(
            f"the answer took longer than {self.limits.whole:g} s (model-time-limit); {telling.pieces} pieces had come"
        )

    async def _persist(self, telling: Telling, request: dict[str, Any], whole: asyncio.Timeout) -> Answer:
        tried = 0
        while True:
            spoken = self._dialect.spoken(request)
            try:
                return await self._ask(telling, spoken)
            except Trouble as error:
                trouble = error.with_traceback(None)
            if telling.pieces:
                raise ModelInterrupted(f"{trouble.text}, after {telling.pieces} pieces")
            if learned := self._dialect.learn(trouble, spoken):
                _log.info("%s: %s", self._wire.url, learned)
            if spoken != self._dialect.spoken(request):
                continue  # It may be another step that learned it meanwhile.
            if not trouble.passing:
                raise ModelRefused(trouble.text)
            tried += 1
            await self._wait(telling, trouble, tried, whole)

    async def _wait(self, telling: Telling, trouble: Trouble, tried: int, whole: asyncio.Timeout) -> None:
        """Waits before the next try, and says so. Raises ModelUnavailable where there is none."""
        if tried >= self.limits.tries:
            raise ModelUnavailable(f"{trouble.text}; it was tried {tried} times (model-tries)")
        if trouble.retry_after is not None:
            delay = trouble.retry_after * (1 + _LONGER * self._chance())
        else:
            delay = min(_FIRST_WAIT * 2 ** (tried - 1), _LONGEST_WAIT) * (1 - 0.5 * self._chance())
        left = (whole.when() or 0.0) - asyncio.get_running_loop().time()
        if delay >= left:
            raise ModelUnavailable(
                f"{trouble.text}; the next try would be in {delay:,.0f} s, past the time limit of "
                f"{self.limits.whole:g} s (model-time-limit)"
            )
        await telling.step.error(f"{trouble.text}; try {tried + 1} of {self.limits.tries} in {delay:.1f} s")
        await self._sleep(delay)

    async def _ask(self, telling: Telling, request: dict[str, Any]) -> Answer:
        """Asks once. Raises Trouble, also where an answer ends with neither a finish reason nor a last word: it broke
        off.
        """
        heard = Said()
        async with aclosing(self._wire.said(request)) as chunks:
            for count in itertools.count():
                said = await self._next(chunks, first=not count, finished=bool(heard.finish))
                if said is None:
                    break
                heard = _joined(heard, said)
                words = said.text or said.refusal
                if words and not await telling.piece(words):
                    heard = heard._replace(finish="length")
                    break
        if not heard.finish and not (heard.is_all and telling.pieces):
            raise Trouble("the endpoint's answer ended without a finish reason", passing=True)
        return Answer(
            text=telling.text,
            pieces=telling.pieces,
            finish_reason="refusal" if heard.refusal and heard.finish == "stop" else heard.finish,
            prompt_tokens=heard.prompt_tokens,
            completion_tokens=heard.completion_tokens,
        )

    async def _next(self, chunks: Any, *, first: bool, finished: bool) -> Said | None:
        """Returns what comes next; None at the end. Once the answer is whole, nothing that happens takes it back."""
        limit = self.limits.first if first else self.limits.between
        try:
            async with asyncio.timeout(min(limit, _LAST_WORDS) if finished else limit):
                said: Said = await anext(chunks)
                return said
        except StopAsyncIteration:
            return None
        except TimeoutError:
            setting = "model-first-piece" if first else "model-next-piece"
            trouble = Trouble(f"the endpoint said nothing for {limit:g} s ({setting})", passing=True)
        except Trouble as error:
            trouble = error.with_traceback(None)
        if finished:
            return None
        raise trouble


def model_from(settings: Mapping[str, str], environment: Mapping[str, str] | None = None) -> Model | None:
    """Returns the model that an app's settings name (MODEL_SETTINGS); None where they name none.

    The key may stand in the environment: OPENAI_API_KEY. Raises ValueError for what can't be used, without the key in
    its text.

        @app.startup
        def start(settings: Mapping[str, str]) -> None:
            desk.model = model_from(settings)
    """
    environment = os.environ if environment is None else environment
    name = settings.get("model", "").strip()
    if not name:
        given = sorted(key for key in settings if key.startswith("model-"))
        if given:
            raise ValueError(f"{given[0]} is set, and no model is named: --set model=NAME")
        return None
    url = url_of(settings, environment)
    secret = key_of(settings, environment, url=url)
    return Model(name, url=url, key=secret.in_clear(), limits=limits_of(settings))


def _messages(prompt: str | list[dict[str, Any]]) -> list[dict[str, Any]]:
    if isinstance(prompt, str):
        return [{"role": "user", "content": prompt}]
    if not prompt:
        raise ValueError("prompt has no message")
    for place, message in enumerate(prompt):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise ValueError(f'prompt[{place}] is no message; it looks like {{"role": "user", "content": "..."}}')
    return list(prompt)


def _joined(heard: Said, said: Said) -> Said:
    """Returns what is known of an answer after one more chunk."""
    return Said(
        "",
        heard.refusal or said.refusal,
        said.finish or heard.finish,
        heard.prompt_tokens if said.prompt_tokens is None else said.prompt_tokens,
        heard.completion_tokens if said.completion_tokens is None else said.completion_tokens,
        heard.is_all or said.is_all,
    )
