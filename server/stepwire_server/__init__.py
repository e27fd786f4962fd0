"""The server of Stepwire, and what an app's author needs.

from stepwire_server import App, Plan, Retry, StepContext
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stepwire.v1 import Plan, Retry
    from stepwire_server.app import App
    from stepwire_server.engine.asking import InputExpired
    from stepwire_server.engine.blocking import BlockingStepContext
    from stepwire_server.engine.context import Result, StepContext, StepEnded, current_step
    from stepwire_server.engine.operation import SchemaSignature, Signature
    from stepwire_server.engine.reckoning import Report
    from stepwire_server.engine.refusal import Refused
    from stepwire_server.engine.schemas import check_schema, mismatches
    from stepwire_server.engine.substeps import BlockingSubstepContext, SubstepContext
    from stepwire_server.programs import check_programs
    from stepwire_server.steps import Tested, output_of, plan_step, when

__all__ = [
    "App",
    "BlockingStepContext",
    "BlockingSubstepContext",
    "InputExpired",
    "Plan",
    "Refused",
    "Report",
    "Result",
    "Retry",
    "SchemaSignature",
    "Signature",
    "StepContext",
    "StepEnded",
    "SubstepContext",
    "Tested",
    "check_programs",
    "check_schema",
    "current_step",
    "mismatches",
    "output_of",
    "plan_step",
    "when",
]

_HOMES = {
    "App": "stepwire_server.app",
    "BlockingStepContext": "stepwire_server.engine.blocking",
    "BlockingSubstepContext": "stepwire_server.engine.substeps",
    "InputExpired": "stepwire_server.engine.asking",
    "Plan": "stepwire.v1",
    "Refused": "stepwire_server.engine.refusal",
    "Report": "stepwire_server.engine.reckoning",
    "Result": "stepwire_server.engine.context",
    "Retry": "stepwire.v1",
    "SchemaSignature": "stepwire_server.engine.operation",
    "Signature": "stepwire_server.engine.operation",
    "StepContext": "stepwire_server.engine.context",
    "StepEnded": "stepwire_server.engine.asking",
    "SubstepContext": "stepwire_server.engine.substeps",
    "Tested": "stepwire_server.steps",
    "check_programs": "stepwire_server.programs",
    "check_schema": "stepwire_server.engine.schemas",
    "current_step": "stepwire_server.engine.context",
    "mismatches": "stepwire_server.engine.schemas",
    "output_of": "stepwire_server.steps",
    "plan_step": "stepwire_server.steps",
    "when": "stepwire_server.steps",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
