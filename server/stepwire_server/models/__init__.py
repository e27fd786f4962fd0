"""Text from any model behind an OpenAI-compatible endpoint, as an app, and for the operations of other apps.

`stepwire_server.models:app` serves it. An operation of your own asks a model like this:

    app = App("greeter", settings=MODEL_SETTINGS)

    @app.startup
    def start(settings: Mapping[str, str]) -> None:
        desk.model = model_from(settings)

    @app.operation("greet", retry=MODEL_RETRY)
    async def greet(step: StepContext, name: str) -> str:
        return (await desk.model.text(step, f"Greet {name}.")).text
"""

from __future__ import annotations

__all__ = [
    "MODEL_RETRY",
    "MODEL_SETTINGS",
    "Answer",
    "AnswerInvalid",
    "Limits",
    "Model",
    "ModelDeclined",
    "ModelError",
    "ModelInterrupted",
    "ModelRefused",
    "ModelTimeout",
    "ModelUnavailable",
    "app",
    "create_app",
    "model_from",
]

from typing import Any

from stepwire_server import App, Plan, plan_step
from stepwire_server.models.errors import (
    AnswerInvalid,
    ModelDeclined,
    ModelError,
    ModelInterrupted,
    ModelRefused,
    ModelTimeout,
    ModelUnavailable,
)
from stepwire_server.models.model import MODEL_RETRY, Answer, Model, model_from
from stepwire_server.models.operations import Characters, Desk, Prompt, Schema, Temperature, Tokens, register
from stepwire_server.models.settings import MODEL_SETTINGS, Limits


def create_app(name: str = "models") -> App:
    """Returns an app that writes text. Its model is named by settings, when it is started."""
    desk = Desk()
    made = App(
        name, description="Text from a model behind an OpenAI-compatible endpoint.", settings=dict(MODEL_SETTINGS)
    )
    made.startup(desk.open)
    register(made, desk)

    @made.plan("generate")
    def generate(
        prompt: Prompt,
        system: str = "",
        schema: Schema | None = None,
        max_tokens: Tokens | None = None,
        temperature: Temperature | None = None,
        expected_length: Characters | None = None,
    ) -> Plan:
        """Write text for a prompt: one step of the operation `generate`, with the same input."""
        details = {"schema": schema, "max_tokens": max_tokens, "temperature": temperature}
        given: dict[str, Any] = {"prompt": prompt, "system": system, **details, "expected_length": expected_length}
        given = {key: value for key, value in given.items() if value is not None}
        return Plan(steps=[plan_step("generate", "generate", name="Generate text", input=given)])

    @made.planner
    async def plan(query: str) -> Plan:
        """Takes the query as a prompt: whatever can be asked of a model."""
        return generate(query)

    return made


app = create_app()
