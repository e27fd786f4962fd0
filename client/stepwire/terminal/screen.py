"""Text on the terminal. What came over the wire can't move the cursor, clear the screen or change the title there."""

from __future__ import annotations

import click

__all__ = ["harmless", "say"]

_CONTROL = {code: "\N{REPLACEMENT CHARACTER}" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"}


def harmless(text: str) -> str:
    """Returns a text with its control characters replaced, but for line feeds and tabs."""
    return text.replace("\r\n", "\n").translate(_CONTROL)


def say(text: str = "", *, nl: bool = True, err: bool = False) -> None:
    """Prints a text, and a line feed; to standard error where asked."""
    click.echo(harmless(text), nl=nl, err=err)
