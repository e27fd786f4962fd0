"""The command `stepwire`: what it needs beyond the base install is checked first."""

from __future__ import annotations

import importlib.util
import os
import sys

__all__ = ["main"]


def main() -> None:
    """Runs the terminal client. Says what to install where click or rich are missing."""
    missing = [name for name in ("click", "rich") if importlib.util.find_spec(name) is None]
    if missing:
        sys.exit(f'stepwire: {" and ".join(missing)} not installed. Run: pip install "stepwire[cli]"')
    # gRPC writes of connections that come and go to standard error, in the middle of what is shown.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    from stepwire.terminal.commands import stepwire

    stepwire(prog_name="stepwire")
