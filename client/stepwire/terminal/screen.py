"""Text on the terminal. What came over the wire can't move the cursor, clear the screen, set the title, or turn round
what is read there.
"""

from __future__ import annotations

import json
from typing import Any

import click

__all__ = ["harmless", "json_text", "say", "shortened"]

_CONTROL = [code for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"]
_ORDER = [0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
"""Marks of writing direction. They can't be seen, and may show "from 5 to 100" as "from 100 to 5"."""

_REPLACED = dict.fromkeys((*_CONTROL, *_ORDER), "\N{REPLACEMENT CHARACTER}")
_ESCAPED = {code: f"\\u{code:04x}" for code in (*_CONTROL, *_ORDER)}


def harmless(text: str) -> str:
    """Returns a text with its control characters replaced, but for line feeds and tabs, and its marks of direction."""
    return text.replace("\r\n", "\n").translate(_REPLACED)


def json_text(value: Any) -> str:
    """Returns a value as one line of JSON, in which those characters are escapes: it means the same."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).translate(_ESCAPED)


def shortened(text: str, characters: int) -> str:
    """Returns the beginning of a text, at most so many characters, with an ellipsis where it was longer."""
    return text if len(text) <= characters else text[: characters - 1] + "\N{HORIZONTAL ELLIPSIS}"


def say(text: str = "", *, nl: bool = True, err: bool = False) -> None:
    """Prints a text, and a line feed; to standard error where asked."""
    click.echo(harmless(text), nl=nl, err=err)
