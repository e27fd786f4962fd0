"""The server's configuration: where values come from, and what they mean.

A flag beats its environment variable, which beats the configuration file, which beats the default.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import re
import sys
import tomllib
import traceback
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

import platformdirs

from stepwire_server.app import App
from stepwire_server.journal.retention import KEEP_DAYS, KEEP_EXECUTIONS
from stepwire_server.limits import CallLimits
from stepwire_server.loop_watch import BLOCKED_AFTER

__all__ = [
    "DEFAULT_APP",
    "ConfigError",
    "ServeConfig",
    "check_settings",
    "default_journal",
    "journal_path",
    "load_app",
    "misspelt",
    "read_file",
]

DEFAULT_APP = "stepwire_server.assistant:app"
"""The app that is served when none is named."""


class ConfigError(Exception):
    """The configuration can't be used. The text says what to mend."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeConfig:
    """What `stepwire-server serve` was told."""

    app: str = DEFAULT_APP
    listen: str = "127.0.0.1:50051"
    journal: str = ""
    durability: Literal["machine", "process"] = "machine"
    loop: Literal["asyncio", "uvloop"] = "asyncio"
    settings: dict[str, str] = field(default_factory=dict)
    limits: CallLimits = field(default_factory=CallLimits)
    max_parallel_steps: int = 32
    cancel_grace: float = 10.0
    drain_grace: float = 10.0
    keep_days: int = KEEP_DAYS
    keep_executions: int = KEEP_EXECUTIONS
    blocked_loop_after: float = BLOCKED_AFTER
    log_level: str = "INFO"


def default_journal(app: str) -> Path:
    """Returns where an app's journal is when nobody says otherwise: in the user's state folder, one file for each app.

    Two apps must not share one: an app can't go on with executions whose operations it does not have.
    """
    return Path(platformdirs.user_state_dir("stepwire")) / f"{app}.db"


def journal_path(journal: str, app: str) -> Path | None:
    """Returns where the journal's file is, from the root of the file system; None for one in memory. Raises ConfigError
    for a folder.
    """
    if journal == "memory":
        return None
    # A shell expands ~ in flags only.
    path = Path(journal).expanduser().absolute() if journal else default_journal(app)
    if path.is_dir():
        raise ConfigError(f"journal {journal!r} is a folder; name a file in it")
    return path


def read_file(path: Path, known: frozenset[str]) -> dict[str, Any]:
    """Returns a configuration file's values by flag name. Raises ConfigError for a name that is no flag."""
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error
    values = {key.replace("-", "_"): value for key, value in found.items()}
    for key in values:
        if key not in known:
            raise ConfigError(f"{path}: there is no setting {key!r}; there are: {', '.join(sorted(known))}")
    return values


def misspelt(environment: Iterable[str], known: Collection[str]) -> list[str]:
    """Returns a sentence for each variable that is none of the known ones, and nearly is one."""
    found = []
    for name in sorted(environment):
        if name.startswith("STEPWIRE_") and name not in known:
            near = get_close_matches(name, known, n=1, cutoff=0.85)
            found += [f"{name} is no setting and was ignored; did you mean {other}?" for other in near]
    return found


def check_settings(app: App, settings: Mapping[str, str]) -> None:
    """Raises ConfigError for a setting that the app does not have."""
    for key in settings:
        if key not in app.settings:
            known = ", ".join(sorted(app.settings)) or "none"
            raise ConfigError(f"app {app.name!r} has no setting {key!r}; it has: {known}")


def load_app(name: str) -> App:
    """Imports MODULE:ATTRIBUTE, looking in the current folder first. Raises ConfigError."""
    module_name, _, attribute = name.partition(":")
    if not attribute or not all(part.isidentifier() for part in module_name.split(".")):
        raise ConfigError(f"{name!r} is not MODULE:APP, such as orders:app")
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not (module_name + ".").startswith(error.name + "."):
            raise ConfigError(f"{module_name} can't be imported: it needs {error.name}{_extra(error.name)}") from error
        raise ConfigError(f"there is no module {error.name!r} in {here} or among the installed packages") from error
    except Exception as error:
        raise ConfigError(f"{module_name} can't be imported: {_place(error)}{type(error).__name__}: {error}") from error
    app = getattr(module, attribute, None)
    if app is None:
        raise ConfigError(f"module {module_name} has no {attribute!r}")
    if not isinstance(app, App):
        raise ConfigError(f"{name} is a {type(app).__name__}, not a stepwire_server.App")
    return app


def _extra(missing: str | None) -> str:
    """Returns how to install a module that one of the extras has, as the end of a message."""
    if missing is None:
        return ""
    wanted = re.compile(re.escape(missing.partition(".")[0]) + r"[^\w-].*extra == '(\w+)'")
    found = [match[1] for line in importlib.metadata.requires("stepwire") or [] if (match := wanted.match(line))]
    extra = next((extra for extra in found if extra not in ("bench", "dev")), "")
    return f': pip install "stepwire[server,{extra}]"' if extra else ""


def _place(error: Exception) -> str:
    """Returns the file and line that an import failed in, as the beginning of a message."""
    if isinstance(error, SyntaxError):
        # Its own text says where.
        return ""
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if not frame.filename.startswith((str(Path(__file__).parent), "<frozen"))]
    return f"{theirs[-1].filename}, line {theirs[-1].lineno}: " if theirs else ""
