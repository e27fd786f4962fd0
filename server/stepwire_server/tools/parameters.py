"""Parameters of commands: what a caller may say, and what arguments that makes. None becomes an option unless that is
declared, and none becomes two.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Configured", "Parameter"]

_ARGUMENT_BYTES = 100_000
"""Of one argument: somewhat less than Linux lets a program be given."""

_KINDS = {"text": "string", "integer": "integer", "number": "number", "flag": "boolean", "texts": "array"}

_HALF = "has half a character, which no program can be given"


class Configured(BaseModel):
    """What a configuration says, with nothing else beside it."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Parameter(Configured):
    """One parameter of a command."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")]
    """What a caller calls it."""
    description: str = ""
    """What it means, for people and models."""
    type: Literal["text", "integer", "number", "flag", "texts"] = "text"
    """`flag`: its option is given or not. `texts`: a list, each given in its turn."""
    option: Annotated[str, Field(pattern=r"^-[^\s=]+$")] | None = None
    """Given as `--option=VALUE`, or `-o VALUE` for a short one. Without it, the value stands by itself."""
    required: bool = True
    """Whether it must be given. A flag never must."""
    choices: list[str] = Field(default_factory=list)
    """All that it can be; empty: anything."""
    pattern: str | None = None
    """A regular expression that a text must match, as JSON schema has it."""
    max_length: Annotated[int, Field(ge=1, le=_ARGUMENT_BYTES)] = 10_000
    """Characters of a text at most."""
    dash: bool = False
    """Whether a value that stands by itself may begin with "-", and so be an option of the program."""
    stdin: bool = False
    """Given on standard input, and not as an argument: then it may have 1,000,000 characters."""

    def value_schema(self) -> dict[str, Any]:
        """Returns the JSON schema of its value."""
        kind = _KINDS[self.type]
        text: dict[str, Any] = {"type": "string", "maxLength": 1_000_000 if self.stdin else self.max_length}
        if self.choices:
            text["enum"] = list(self.choices)
        if self.pattern is not None:
            text["pattern"] = self.pattern
        made: dict[str, Any] = text if kind == "string" else {"type": kind}
        if kind == "array":
            made |= {"items": text, "maxItems": 100}
        if kind in ("integer", "number") and not self._may_have_dash:
            made["minimum"] = 0
        return made | ({"description": self.description} if self.description else {})

    def arguments(self, value: Any) -> list[str]:
        """Returns a value as arguments. Raises ValueError for one that would be something else to the program."""
        if self.type == "flag":
            return [self.option or ""] if value else []
        texts = [str(item) for item in (value if isinstance(value, list) else [value])]
        for text in texts:
            if text.startswith("-") and not self._may_have_dash:
                raise ValueError('begins with "-": it would be an option of the program')
        if self.option is None:
            return texts
        if self._is_long:
            return [f"{self.option}={text}" for text in texts]
        return [part for text in texts for part in (self.option, text)]

    @property
    def _is_long(self) -> bool:
        return self.option is not None and self.option.startswith("--")

    @property
    def _may_have_dash(self) -> bool:
        return self.dash or self._is_long or self.stdin

    def measure(self, value: Any) -> tuple[str, int]:
        """Returns why a value of the right type can't be given to a program, or nothing; and the bytes that it takes of
        the arguments.
        """
        if self.stdin:
            return ("", 0) if _is_text(value) else (_HALF, 0)
        try:
            texts = self.arguments(value)
        except ValueError as error:
            return str(error), 0
        if not all(map(_is_text, texts)):
            return _HALF, 0
        if any("\0" in text for text in texts):
            return "has a NUL character, which no argument can have", 0
        sizes = [len(text.encode()) for text in texts]
        if max(sizes, default=0) > _ARGUMENT_BYTES:
            return f"has {max(sizes):,} bytes; an argument can have {_ARGUMENT_BYTES:,}", 0
        return "", sum(sizes)


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
