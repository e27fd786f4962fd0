"""The operation `generate`: a prompt becomes text, which streams as it is written, or JSON that matches a schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from stepwire_server import App, Refused, StepContext
from stepwire_server.models.model import MODEL_RETRY, Model, model_from
from stepwire_server.models.structured import Form, structured

__all__ = ["Desk", "register"]

Prompt = Annotated[str, Field(min_length=1)]
Schema = Annotated[dict[str, Any], Field(description="A JSON schema that the answer is to match.")]
Tokens = Annotated[int, Field(ge=1)]
Temperature = Annotated[float, Field(ge=0, le=2)]
Characters = Annotated[int, Field(ge=1)]


class Desk:
    """Where an app keeps its model, from its start on."""

    def __init__(self) -> None:
        self._model: Model | None = None

    def open(self, settings: Mapping[str, str]) -> None:
        """Takes the model that the settings name. Raises ValueError where they name none."""
        self._model = model_from(settings)
        if self._model is None:
            raise ValueError("no model is named: --set model=NAME, and --set model-url=URL where it is not OpenAI's")

    @property
    def model(self) -> Model:
        """The model. Raises RuntimeError before the start."""
        if self._model is None:
            raise RuntimeError("there is no model yet: the app was not started")
        return self._model


def register(app: App, desk: Desk) -> None:
    """Gives the app its operation."""

    @app.operation("generate", retry=MODEL_RETRY)
    async def generate(
        step: StepContext,
        prompt: Prompt,
        system: str = "",
        schema: Schema | None = None,
        max_tokens: Tokens | None = None,
        temperature: Temperature | None = None,
        expected_length: Characters | None = None,
    ) -> dict[str, Any]:
        """Writes text for a prompt, and streams it piece by piece.

        `system`: what the model is told beforehand. `schema`: a JSON schema that the answer is to match; it is then
        streamed in the channel `json`, and given as `value`. It has no regular expressions, which can take without end.
        `max_tokens`, `temperature`: as the endpoint has them. `expected_length`: about how many characters there will
        be, which gives a percentage.
        Gives `text` or `value`, and `length`, `pieces`, `finish_reason`, `usage` and `model`.
        """
        model = desk.model
        output: dict[str, Any] = {}
        if schema is None:
            answer = await model.text(
                step,
                prompt,
                system=system,
                expected_length=expected_length,
                max_tokens=max_tokens,
                temperature=temperature,
            )
            output["text"] = answer.text
        else:
            try:
                form = Form(schema, foreign=True)
            except ValueError as error:
                raise Refused(str(error)) from None
            request = model.request(prompt, system, max_tokens, temperature)
            output["value"], answer = await structured(model, step, request, form=form, expected_length=expected_length)
        # One of them: both would have no room in one event.
        return {
            **output,
            "length": len(answer.text),
            "pieces": answer.pieces,
            "finish_reason": answer.finish_reason,
            "usage": {"prompt_tokens": answer.prompt_tokens, "completion_tokens": answer.completion_tokens},
            "model": model.name,
        }
